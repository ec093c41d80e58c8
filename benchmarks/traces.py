"""The recorded loads that policies are replayed on; what is not bundled is read where it lies, never copied."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sources import SOURCES, Source
from tables import Row, chosen, table

import eplb
from eplb import LoadTrace, TokenStream, Topology

FOLDER = Path(__file__).parents[2] / "shared" / "traces"
BUNDLED = Path(eplb.__file__).parent / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Loads with a machine, ready for `eplb.replay.replay`."""

    name: str
    file: str
    trace: LoadTrace
    topology: Topology
    first: int
    in_time: bool

    @property
    def num_scored(self) -> int:
        """Windows that are scored."""
        return self.trace.num_windows - self.first


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--traces` and `--only` to a command line."""
    parser.add_argument("--traces", type=Path, default=FOLDER, help=f"folder of recorded traces (default {FOLDER})")
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=tuple(SOURCES), help="traces (default all)")


def cases(folder: Path, names: list[str]) -> list[Case]:
    """Return the traces called `names`; one whose file is neither in `folder` nor bundled is skipped, saying so."""
    found = []
    for source in (SOURCES[name] for name in names):
        path = path_of(source.file, folder)
        if path is None:
            print(f"skipped {source.name}: no {source.file} in {folder}", file=sys.stderr, flush=True)
        else:
            found.append(_case(source, path))
    if not found:
        raise SystemExit(f"none of the traces {', '.join(names)} is in {folder}; name another folder by --traces")
    return found


def described(found: list[Case], machines: str = "") -> str:
    """Return a Markdown table of what the traces are; with `machines`, these are named instead of their own."""
    columns = ("trace", "file", "windows", "scored", "layers", "experts", "ranks x slots", "in the means")
    return table(columns, [_description(case, machines) for case in found], num_texts=2)


def in_means(rows: list[Row]) -> list[Row]:
    """Return the rows that count in a mean over traces: of windows in time, or all if there are none."""
    return chosen(rows, in_time=True) or rows


def _description(case: Case, machines: str) -> list[str]:
    trace, topology = case.trace, case.topology
    sizes = (trace.num_windows, case.num_scored, trace.num_layers, trace.num_experts)
    machine = machines or f"{topology.num_ranks} x {topology.slots_per_rank}"
    return [case.name, case.file, *map(str, sizes), machine, "yes" if case.in_time else "no: domains"]


def path_of(file: str, folder: Path) -> Path | None:
    """Return where `file` lies, in `folder` or among the bundled ones; None if nowhere."""
    return next((path for path in (folder / file, BUNDLED / file) if path.is_file()), None)


def _case(source: Source, path: Path) -> Case:
    if source.batch_size:
        trace = stream_at(path).decode_steps(source.batch_size, source.order).windows(source.num_steps)
    else:
        trace = LoadTrace.load(path)
    topology = Topology(num_ranks=source.num_ranks, slots_per_rank=source.slots_per_rank)
    return Case(
        name=source.name,
        file=source.file,
        trace=trace,
        topology=topology,
        first=source.first,
        in_time=source.in_time,
    )


@cache
def stream_at(path: Path) -> TokenStream:
    """Return the stream of tokens at `path`, which is read once."""
    return TokenStream.load(path)
