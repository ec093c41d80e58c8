"""What a format is: a name, how it is told, and how it is read and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eplb.engines.contents import Contents
from eplb.engines.hints import Hints
from eplb.engines.remarks import Remarks
from eplb.engines.rules import Rules
from eplb.placement import Placement
from eplb.topology import Topology
from eplb.trace import LoadTrace

LOADS, PLACEMENT = "loads", "placement"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """A placement as a file has it, nothing checked but its shape.

    Parameters
    ----------
    experts : array of int, [L, P]
        Expert of each slot.
    layer_ids : array of int, [L]
        The numbers of the layers in the file.
    counted : bool, default False
        Whether the file only counts its layers.
    topology : Topology, optional
        The ranks, where the file says all of them.
    num_ranks : int, optional
        The number of ranks, where the file says only that.
    num_experts : int, optional
        Logical experts, where the file says.
    plan_hash : str, optional
        What the file says its plan's hash is.
    shares_slots : bool, default False
        Whether slots may hold shared experts, whose ids come after those of the routed ones.
    """

    experts: NDArray[np.int64]
    layer_ids: NDArray[np.int64]
    counted: bool = False
    topology: Topology | None = None
    num_ranks: int | None = None
    num_experts: int | None = None
    plan_hash: str | None = None
    shares_slots: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """Loads as a file has them; `counted` if it only counts its layers."""

    trace: LoadTrace
    counted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of loads, of placements, or of both.

    Parameters
    ----------
    name : str
        How the command line calls it.
    title : str
        How its makers call the engine.
    kind_of : function
        Returns "loads" or "placement", or None if contents are not of this format.
    read_loads, read_slots, write_loads, write_placement : functions, optional
        None where the format has no such file.
    rules : Rules, optional
        What a placement must be to run in the engine.
    loads_endings, placement_endings : tuples of str, default ()
        Endings of file names that mean this format where no other is asked for.
    """

    name: str
    title: str
    kind_of: Callable[[Contents], str | None]
    read_loads: Callable[[Contents, Hints, Remarks], Recorded] | None = None
    read_slots: Callable[[Contents, Hints, Remarks], Slots] | None = None
    write_loads: Callable[[LoadTrace, Path, Hints, Remarks], None] | None = None
    write_placement: Callable[[Placement, Path, Hints, Remarks], None] | None = None
    rules: Rules | None = None
    loads_endings: tuple[str, ...] = ()
    placement_endings: tuple[str, ...] = ()

    def endings(self, kind: str) -> tuple[str, ...]:
        """Return the endings that mean this format for a kind of content."""
        return self.loads_endings if kind == LOADS else self.placement_endings
