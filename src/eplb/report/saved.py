"""What `eplb replay --json` printed, read back: results without the loads that they came from."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import frozen
from eplb.errors import FileFormatError
from eplb.files import read_json
from eplb.report.binning import bins_for
from eplb.report.facts import Facts
from eplb.report.findings import Findings, Point, PolicyFindings

HEAD_BYTES = 1 << 16
SEES_FUTURE = "oracle"
PLANNER = "eplb"
NOTE = (
    "This comes from saved results, which hold no loads: `eplb report` on the trace itself adds the bound, rank loads, "
    "replicas, moves by layer, and what the worst layers wait for."
)


def holds_replays(path: str | os.PathLike[str]) -> bool:
    """Return whether the file `path` begins as what `eplb replay --json` prints, rather than as loads."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            return file.suffix.lower() == ".json" and b'"policies"' in stream.read(HEAD_BYTES)
    except OSError:  # whoever reads it says what is wrong
        return False


def load_findings(path: str | os.PathLike[str], expert_bytes: int | None = None) -> Findings:
    """Return what the results that `eplb replay --json` printed to the file `path` hold.

    Raises
    ------
    FileFormatError
        If the file is no such object, or an entry is missing or out of its range.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "policies" not in content:
        raise FileFormatError(f"{path}: expected what `eplb replay --json` prints, an object with 'policies'")
    return _Saved(Path(path), content).findings(expert_bytes)


class _Saved:
    """The object, and the name of its file for messages."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self._path, self._content = path, content
        self._num_layers = self._integer(content, "num_layers", "the file")
        self._num_slots = self._integer(content, "num_slots", "the file")
        self._num_scored = self._integer(content, "windows_scored", "the file")
        options = content.get("options")
        self._options: dict[str, Any] = options if isinstance(options, dict) else {}
        first: Any = self._options.get("first")
        first = first if type(first) is int and 0 <= first < 2**40 else 0
        interval: Any = self._options.get("interval")
        self._interval: int = interval if type(interval) is int and 1 <= interval < 2**40 else 1
        self._bins = bins_for(first, self._num_scored, interval=self._interval)

    def findings(self, expert_bytes: int | None) -> Findings:
        content, policies = self._content, self._content["policies"]
        if not isinstance(policies, dict) or not policies:
            raise self._error("'policies': expected an object with at least one policy")
        found = tuple(self._policy(name, policy) for name, policy in policies.items())
        return Findings(
            source=str(content.get("file", self._path)),
            model=str(content.get("model", "")),
            facts=self._facts(),
            layer_ids=self._layer_ids(),
            num_experts=self._integer(content, "num_experts", "the file"),
            num_slots=self._num_slots,
            bins=self._bins,
            replayed=True,
            policies=found,
            trace=None,
            frontier=tuple(_point(policy, self._share()) for policy in found),
            expert_bytes=expert_bytes,
            notes=(*self._notes(), NOTE),
        )

    def _policy(self, name: str, policy: Any) -> PolicyFindings:
        where = f"policy {name!r}"
        if not isinstance(policy, dict):
            raise self._error(f"{where}: expected an object, got {type(policy).__name__}")
        moves = self._numbers(policy, "moves", where, None)
        steps = policy.get("steps")
        return PolicyFindings(
            name=name,
            sees_future=name.startswith(SEES_FUTURE),
            balancedness=self._shares(policy, "balancedness", where, self._num_scored),
            balancedness_per_layer=self._shares(policy, "balancedness_per_layer", where, self._num_layers),
            step_balancedness=self._number(steps, "mean_balancedness", where) if isinstance(steps, dict) else None,
            num_replans=moves.size,
            num_over_budget=0 if name.startswith(SEES_FUTURE) else int(self._number(policy, "num_over_budget", where)),
            moves_per_window=float(moves.sum()) / self._num_scored,
            largest_moves=int(moves.max(initial=0)),
            moves=self._moves_by_bin(moves, where),
            planning_seconds=self._number(policy, "median_planning_seconds", where),
            detail=None,
        )

    def _share(self) -> float | None:
        value: Any = self._options.get("max_moves_share")
        return float(value) if type(value) in (int, float) and 0 <= value <= 1 else None

    def _facts(self) -> Facts:
        content, options = self._content, self._options
        names = {"model": "model", "num_windows": "windows", "num_layers": "layers", "num_experts": "experts a layer"}
        more = {"num_ranks": "ranks", "slots_per_rank": "slots a rank", "interval": "windows between plans"}
        rows = [(text, content.get(name)) for name, text in names.items()]
        rows += [(text, options.get(name)) for name, text in (more | {"split": "replicas share tokens"}).items()]
        return tuple((name, str(value)) for name, value in rows if isinstance(value, (int, str)) and value != "")

    def _moves_by_bin(self, moves: NDArray[np.float64], where: str) -> NDArray[np.int64]:
        interval = self._interval
        if moves.size != (self._num_scored - 1) // interval:
            raise self._error(
                f"{where}: expected {(self._num_scored - 1) // interval} replans as 'moves', got {moves.size}"
            )
        bins = [self._bins.of(self._bins.first + interval * (i + 1)) for i in range(moves.size)]
        return frozen(np.bincount(bins, moves, minlength=len(self._bins)).astype(np.int64))

    def _notes(self) -> tuple[str, ...]:
        notes = self._content.get("notes")
        return tuple(str(note) for note in notes) if isinstance(notes, list) else ()

    def _layer_ids(self) -> NDArray[np.int64]:
        ids = self._content.get("layer_ids")
        if (
            not isinstance(ids, list)
            or len(ids) != self._num_layers
            or not all(type(i) is int and 0 <= i < 2**40 for i in ids)
        ):
            raise self._error(f"'layer_ids': expected {self._num_layers} integers, got {ids!r:.80}")
        return frozen(np.array(ids, dtype=np.int64))

    def _integer(self, content: Any, name: str, where: str) -> int:
        value = content.get(name)
        if type(value) is not int or not 1 <= value < 2**40:
            raise self._error(f"{where}: expected an integer >= 1 as {name!r}, got {value!r:.80}")
        return int(value)

    def _number(self, content: dict[str, Any], name: str, where: str) -> float:
        value: Any = content.get(name)
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise self._error(f"{where}: expected a number >= 0 as {name!r}, got {value!r:.80}")
        return float(value)

    def _numbers(self, content: dict[str, Any], name: str, where: str, count: int | None) -> NDArray[np.float64]:
        values = content.get(name)
        sound = isinstance(values, list) and all(type(v) in (int, float) and 0 <= v < 2**53 for v in values)
        if not isinstance(values, list) or not sound or count not in (None, len(values)):
            what = "numbers >= 0" if count is None else f"{count} numbers >= 0"
            raise self._error(f"{where}: expected {what} as {name!r}, got {values!r:.80}")
        return frozen(np.array(values, dtype=np.float64))

    def _shares(self, content: dict[str, Any], name: str, where: str, count: int) -> NDArray[np.float64]:
        values = self._numbers(content, name, where, count)
        if values.max() > 1 + 1e-9:
            raise self._error(f"{where}: expected shares of 0 to 1 as {name!r}, got {values.max()}")
        return values

    def _error(self, text: str) -> FileFormatError:
        return FileFormatError(f"{self._path}: {text}; save what `eplb replay --json` prints as it is")


def _point(policy: PolicyFindings, share: float | None) -> Point:
    return Point(
        policy=policy.name,
        moves_per_window=policy.moves_per_window,
        balancedness=policy.mean_balancedness,
        budget=share if policy.name.startswith(PLANNER) else None,
        sees_future=policy.sees_future,
    )
