"""What can go wrong, as a tree.

EplbError
├── InputError (ValueError)        what the caller passed cannot be used
│   ├── LoadsError                 loads: shape, dtype, NaN, infinity, negative, overflow
│   ├── TopologyError              ranks, nodes, slots, speeds
│   ├── PlacementError             a placement that misses an expert, has foreign ids, another shape
│   ├── InfeasibleError            no sound plan exists for this input
│   ├── OptionError                an option out of its range
│   ├── RecordingError             a model whose routers cannot be found, told apart or understood
│   ├── DispatchError              routed tokens: ids out of range or twice in a token, counts that are not theirs
│   └── FileFormatError            a file that is truncated, not ours, or too large
├── MigrationError (RuntimeError)  a migration that ended before its last commit: rank, layer and phase
│   └── MigrationInDoubt           a rank that cannot know whether a layer was committed, and must not serve
└── MissingDependencyError (ImportError)   an extra is not installed; the message holds the command
"""

from __future__ import annotations


class EplbError(Exception):
    """Base of every error that `eplb` raises on purpose."""


class InputError(EplbError, ValueError):
    """The input cannot be used; the message says what was expected, what came, and what to do."""


class LoadsError(InputError):
    """Loads of a wrong shape or dtype, or with NaN, infinite or negative entries."""


class TopologyError(InputError):
    """Ranks, nodes, slots or speeds that describe no machine."""


class PlacementError(InputError):
    """A placement that is not sound: an expert without replica, a foreign id, a wrong shape."""


class InfeasibleError(InputError):
    """No sound plan exists: too few slots, or groups that cannot be spread over the nodes."""


class OptionError(InputError):
    """An option outside its range."""


class DispatchError(InputError):
    """Routed tokens that cannot be dispatched: ids out of range, twice in a token, or counts that are not theirs."""


class RecordingError(InputError):
    """A model whose experts cannot be counted: no router, several stacks, or outputs that are not understood."""


class FileFormatError(InputError):
    """A file that cannot be read as what it should be: truncated, foreign or too large."""


class MigrationError(EplbError, RuntimeError):
    """A migration that ended early; layers that were not committed are as they were."""

    def __init__(
        self, message: str, *, ranks: tuple[int, ...] = (), layer: int | None = None, phase: str | None = None
    ) -> None:
        super().__init__(message)
        self.ranks = ranks
        """The ranks that are to blame, as far as known."""
        self.layer = layer
        """The layer, by its place in the placement; None before the first."""
        self.phase = phase
        """ "agree", "transfer", "check", "decide" or "commit"; only after "commit" the layer is the new one."""


class MigrationInDoubt(MigrationError):  # noqa: N818 - it names a state
    """A rank cannot learn whether a layer was committed, and must not serve."""


class MissingDependencyError(EplbError, ImportError):
    """An optional dependency is missing; the message holds the install command."""
