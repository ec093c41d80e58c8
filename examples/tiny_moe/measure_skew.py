"""How skewed the routing of a trace is, and how much it drifts: prints the table that README.md shows.

python examples/tiny_moe/measure_skew.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

_DATA = Path(__file__).resolve().parents[2] / "src" / "eplb" / "data"
_ENDS = 8  # windows at either end of the trace that are compared for drift
_NUM_RANKS = 8

Loads = npt.NDArray[np.int64]  # [T, L, E]


def report(folder: Path = _DATA) -> str:
    """Table of the two trace files in `folder`.

    Parameters
    ----------
    folder : Path
        Where tiny_moe.npz and tiny_moe_tokens.npz lie. Default: the package's data folder.
    """
    with np.load(folder / "tiny_moe.npz") as trace, np.load(folder / "tiny_moe_tokens.npz") as tokens:
        loads = trace["loads"].astype(np.int64)
        lines = [
            f"- {trace['model']}, {trace['phase']}, {len(loads)} windows of {trace['window']}",
            f"- {trace['tokens'].sum():,} tokens, {trace['tokens'].min():,} to {trace['tokens'].max():,} a window",
            f"- dominant topic: {', '.join(_runs(trace['labels'].tolist()))}",
            f"- expert ids kept: {len(tokens['ids']):,} tokens of {len(tokens['lens'])} requests",
        ]
    return "\n".join([*lines, "", *_skew_table(loads), "", *_balance_lines(loads)])


def _skew_table(loads: Loads) -> Iterator[str]:
    whole = loads.sum(0)
    first, last = loads[:_ENDS].sum(0), loads[-_ENDS:].sum(0)
    columns = {
        "largest / mean, trace": whole.max(1) / whole.mean(1),
        "largest / mean, window": (loads.max(2) / loads.mean(2)).mean(0),
        "experts under mean / 10": (whole < whole.mean(1, keepdims=True) / 10).sum(1),
        "balancedness, 8 ranks": _balancedness(loads, over_layers=False).mean(0),
        "moved, next window": _moved(loads[:-1], loads[1:]).mean(0),
        "moved, first to last": _moved(first, last),
        "correlation, first to last": np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(first, last, strict=True)]),
    }
    yield "| layer | " + " | ".join(columns) + " |"
    yield "|" + " --: |" * (1 + len(columns))
    for layer, row in enumerate(zip(*columns.values(), strict=True)):
        yield f"| {layer} | " + " | ".join(_number(value) for value in row) + " |"


def _balance_lines(loads: Loads) -> Iterator[str]:
    balancedness = _balancedness(loads, over_layers=True)
    yield (
        f"- balancedness of the contiguous placement on {_NUM_RANKS} ranks, over layers:"
        f" mean {balancedness.mean():.3f}, worst window {balancedness.min():.3f}, best window {balancedness.max():.3f}"
    )
    moved = _moved(loads[:_ENDS].sum(0), loads[-_ENDS:].sum(0)).mean()
    yield (
        f"- drift: {moved:.3f} of the last {_ENDS} windows' load lies on other experts than in the first {_ENDS},"
        f" mean over layers"
    )


def _balancedness(loads: Loads, *, over_layers: bool) -> npt.NDArray[np.float64]:
    ranks = loads.reshape(*loads.shape[:2], _NUM_RANKS, -1).sum(3)
    mean, largest = ranks.mean(2), ranks.max(2)
    return np.asarray(mean.sum(1) / largest.sum(1) if over_layers else mean / largest)


def _moved(before: Loads, after: Loads) -> npt.NDArray[np.float64]:
    # Half the L1 distance of the shares: the part of the load that lies on other experts than before.
    shares = [loads / loads.sum(-1, keepdims=True) for loads in (before, after)]
    return np.asarray(np.abs(shares[0] - shares[1]).sum(-1) / 2)


def _number(value: float) -> str:
    return str(value) if isinstance(value, np.integer) else f"{value:.2f}"


def _runs(labels: list[str]) -> Iterator[str]:
    return (f"{label} x {len(list(run))}" for label, run in groupby(labels))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print how skewed the routing of the bundled trace is.")
    parser.add_argument("--data", type=Path, default=_DATA, help="folder of the two .npz files")
    print(report(parser.parse_args().data))
