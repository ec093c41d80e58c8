"""The options that commands share, and those that describe a machine and a file to write, from text to values."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from eplb.errors import EplbError, FileFormatError, OptionError
from eplb.placement import Placement
from eplb.topology import Topology

MAX_PLANNED_SLOTS = 2**28


class EffortName(str, Enum):
    """Efforts of the planner."""

    fast = "fast"
    balanced = "balanced"
    thorough = "thorough"


Ranks = Annotated[int, typer.Option(help="Ranks (GPUs) of the expert-parallel group.", show_default=False)]
SlotsPerRank = Annotated[
    str,
    typer.Option(
        metavar="S", help="Experts a rank has memory for: one integer, or one a rank (9,9,8,8).", show_default=False
    ),
]
Nodes = Annotated[str, typer.Option(metavar="N", help="Nodes, or the node of each rank (0,0,1,1).")]
Groups = Annotated[int, typer.Option(help="Expert groups; each is kept on one node. 1: no groups.")]
RankSpeeds = Annotated[
    str | None, typer.Option(metavar="X,X,...", help="Relative speed of each rank.", show_default="all 1")
]
FailedRanks = Annotated[
    str | None, typer.Option(metavar="R,R,...", help="Ranks that hold nothing.", show_default="none")
]
EffortLevel = Annotated[
    EffortName, typer.Option(metavar="LEVEL", help="fast, balanced or thorough: bounds the work, never the time.")
]
JsonOutput = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs, nothing else.")]


def integers(text: str, option: str) -> int | tuple[int, ...]:
    """Return the integer in `text`, or the tuple of integers where commas separate several."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{option}: expected an integer, or one a rank with commas between, got {text!r}") from None
    return values[0] if len(values) == 1 else values


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Return the numbers in `text`, which commas separate."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{option}: expected one number a rank with commas between, got {text!r}") from None


def topology_from(
    ranks: int, slots_per_rank: str, nodes: str, rank_speeds: str | None, failed_ranks: str | None
) -> Topology:
    """Return the machine that the options describe."""
    failed = integers(failed_ranks, "--failed-ranks") if failed_ranks else ()
    return Topology(
        num_ranks=ranks,
        slots_per_rank=integers(slots_per_rank, "--slots-per-rank"),
        num_nodes=integers(nodes, "--nodes"),
        rank_speeds=numbers(rank_speeds, "--rank-speeds") if rank_speeds else None,
        failed_ranks=(failed,) if isinstance(failed, int) else failed,
    )


def _check_replaceable(out: Path) -> None:
    """Raise unless the file is a placement: anything else is somebody's work."""
    try:
        Placement.load(out)
    except EplbError:
        raise OptionError(f"{out}: exists and is no placement; remove it first, or write to another file") from None


def check_writable(out: Path | None, loads_file: Path | None = None) -> None:
    """Raise if no placement can be written to `out`, before the work of planning it is done."""
    if out is None:
        return
    if out.suffix.lower() not in (".json", ".npz"):
        raise FileFormatError(f"{out}: expected a name that ends in .json or .npz")
    try:
        if not out.parent.is_dir():
            raise FileFormatError(f"{out}: there is no folder {out.parent}; make it first")
        if out.is_dir():
            raise FileFormatError(f"{out}: is a folder; expected the name of a file")
        if loads_file is not None and out.exists() and loads_file.exists() and out.samefile(loads_file):
            raise OptionError(f"{out}: the loads are in this file; write the placement to another")
        if out.exists():
            _check_replaceable(out)
    except OSError as exc:
        raise FileFormatError(f"{out}: cannot write here: {exc.strerror}") from None
    if not os.access(out.parent, os.W_OK):
        raise FileFormatError(f"{out}: the folder {out.parent} cannot be written; choose another")


def check_plan_size(num_layers: int, topology: Topology) -> None:
    """Raise if the placement would be too large for memory."""
    slots = num_layers * topology.num_slots
    if slots > MAX_PLANNED_SLOTS:
        raise OptionError(
            f"--slots-per-rank: {slots:,} slots over all layers, more than {MAX_PLANNED_SLOTS:,}; "
            "plan fewer layers at a time, or fewer slots"
        )
