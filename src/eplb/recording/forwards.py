"""Watching a model's forwards through hooks: which experts each router chose, and what it was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eplb.errors import RecordingError
from eplb.recording.inputs import batch_shape, mask_of, named, parameter_names, phase_of, real_tokens
from eplb.recording.outputs import Reader, reader_of, reader_of_scores
from eplb.recording.routers import Router
from eplb.recording.stacks import Stack

Hook = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forward:
    """One forward of a stack.

    Parameters
    ----------
    taken : list of (layer, ids [..., k])
        What each router chose, as often as it ran; tensors, -1 or E and more for no expert.
    num_tokens : int
        Tokens N, padding included.
    real : tensor [N] of booleans or None
        Which tokens are no padding; None if all are.
    phase : {"prefill", "decode", "mixed"}
    """

    taken: list[tuple[int, Any]]
    num_tokens: int
    real: Any
    phase: str


class Watch:
    """Hooks on a model that report each forward of a stack.

    Parameters
    ----------
    model : torch.nn.Module
    stack : Stack
    report : callable
        Called with each `Forward` that came to its end.
    count_padding : bool
        Whether masks are not looked at.
    pad_token_id : int or None
        Tokens with this id are padding too.
    """

    def __init__(
        self, model: Any, stack: Stack, report: Callable[[Forward], None], count_padding: bool, pad_token_id: int | None
    ) -> None:
        self._stack, self._report = stack, report
        self._count_padding, self._pad_token_id = count_padding, pad_token_id
        self._frames: list[dict[str, Any]] = []  # what the modules around the layers were called with, outermost first
        self._taken: list[tuple[int, Any]] | None = None  # None outside of a forward
        self._hooks: list[Any] = []
        try:
            self._hook(model)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Take all hooks off."""
        while self._hooks:
            self._hooks.pop().remove()

    def _hook(self, model: Any) -> None:
        for path in _way_to(self._stack.path):
            module = model.get_submodule(path)
            enters = self._entering(parameter_names(module), runs_layers=path == self._stack.path)
            self._hooks.append(module.register_forward_pre_hook(enters, with_kwargs=True))
            leaves = self._leaving(runs_layers=path == self._stack.path)
            self._hooks.append(module.register_forward_hook(leaves, always_call=True))
        for layer, router in enumerate(self._stack.routers):
            # before other hooks: those of expert parallelism replace the ids by those of the own rank
            hook = self._choosing(layer, router, len(self._hooks))
            self._hooks.append(router.module.register_forward_hook(hook, prepend=True))

    def _entering(self, names: Sequence[str], runs_layers: bool) -> Hook:
        def enters(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._frames.append(named(names, args, kwargs))
            if runs_layers:
                self._taken = []

        return enters

    def _leaving(self, runs_layers: bool) -> Hook:
        def leaves(module: Any, args: tuple[Any, ...], output: Any) -> None:
            taken, frames = self._taken, list(self._frames)
            if self._frames:
                self._frames.pop()
            if runs_layers:
                self._taken = None
                if taken and output is not None:  # None: the forward raised
                    self._report(self._forward(taken, frames))

        return leaves

    def _choosing(self, layer: int, router: Router, place: int) -> Hook:
        """Return the hook of one router, which settles at its first output how that is read."""
        readers: list[Reader] = []

        def chooses(module: Any, args: tuple[Any, ...], output: Any) -> None:
            if self._taken is None:  # as when a backward pass runs a layer again
                return
            if not readers:
                reader = reader_of(router, output)
                if reader is None and router.ids_argument is not None:
                    self._move_to_experts(layer, router, place)
                    return
                readers.append(reader or reader_of_scores(router, output) or _refuse(router, output))
            self._taken.append((layer, readers[0](output)))

        return chooses

    def _move_to_experts(self, layer: int, router: Router, place: int) -> None:
        """Hook the experts in place of a router that returns scores: they are called next, with the ids."""
        names, argument = parameter_names(router.experts), str(router.ids_argument)

        def called(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._taken is not None:
                self._taken.append((layer, named(names, args, kwargs)[argument]))

        self._hooks[place].remove()
        self._hooks[place] = router.experts.register_forward_pre_hook(called, with_kwargs=True)

    def _forward(self, taken: list[tuple[int, Any]], frames: list[dict[str, Any]]) -> Forward:
        given, mask = frames[-1], mask_of(frames)
        shape = batch_shape(given)
        real = None if self._count_padding else self._real(given, mask, shape)
        if real is not None:
            self._check_rows(taken, len(real))
        return Forward(taken=taken, num_tokens=_num_rows(taken[0][1]), real=real, phase=phase_of(given, mask, shape))

    def _real(self, given: dict[str, Any], mask: Any, shape: tuple[int, int] | None) -> Any:
        real, ids = real_tokens(mask, shape), given.get("input_ids")
        if self._pad_token_id is None or ids is None:
            return real
        words = (ids != self._pad_token_id).reshape(-1)
        return words if real is None else words & real.to(words.device)

    def _check_rows(self, taken: list[tuple[int, Any]], num_tokens: int) -> None:
        for layer, ids in taken:
            if _num_rows(ids) != num_tokens:
                raise RecordingError(
                    f"{self._stack.routers[layer].path}: expected a row for each of {num_tokens} tokens, got "
                    f"{_num_rows(ids)}: which are padding is not known; pass count_padding=True to count them all"
                )


def _num_rows(ids: Any) -> int:
    return int(ids.numel() // ids.shape[-1])


def _way_to(path: str) -> list[str]:
    """Return the paths of the modules from the model to `path`, both included: "", "model", "model.decoder"."""
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) for count in range(len(parts) + 1)]


def _refuse(router: Router, output: Any) -> Reader:
    parts = output if isinstance(output, (tuple, list)) else [output]
    got = ", ".join(
        f"{str(part.dtype).removeprefix('torch.')} {list(part.shape)}"
        if hasattr(part, "dtype")
        else type(part).__name__
        for part in parts
    )
    raise RecordingError(
        f"{router.path} ({type(router.module).__name__}): expected ids of experts [tokens, k], a mask "
        f"[tokens, {router.num_experts}], or scores and a known k ({router.num_chosen}), got {got}"
    )


def _described(part: Any) -> str:
    if not hasattr(part, "dtype"):
        return type(part).__name__
    return f"{str(part.dtype).removeprefix('torch.')} {list(part.shape)}"
