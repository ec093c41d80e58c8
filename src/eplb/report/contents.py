"""Findings as the data of a page: plain JSON values, long arrays packed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.report.findings import BASELINE, Findings, PolicyFindings
from eplb.report.packing import LOADS_SCALE, MISSING, packed, packed_counts, packed_over_mean
from eplb.report.reasons import Reason, reasons_of

MAX_POINTS = 1000


def contents_of(findings: Findings) -> dict[str, Any]:
    """Return what the scripts of the page draw."""
    trace, size = findings.trace, points_size(findings)
    spans = findings.bins.spans()
    best = findings.best
    return {
        "replayed": findings.replayed,
        "watched": best.detail is not None,
        "layers": findings.layer_ids.tolist(),
        "numSlots": findings.num_slots,
        "expertBytes": findings.expert_bytes,
        "scale": LOADS_SCALE,
        "missing": MISSING,
        "bins": [list(span) for span in spans],
        "shown": list(findings.bins.shown()),
        "worstShown": _worst_shown(findings),
        "points": {"first": findings.bins.first, "size": size, "last": spans[-1][1]},
        "bound": None if trace is None else packed(binned(trace.bound, size), "f4"),
        "boundPerLayer": None if trace is None else packed(trace.bound_per_layer, "f4"),
        "shares": None if trace is None else packed(trace.shares, "f4"),
        "best": best.name,
        "baseline": BASELINE if findings.named(BASELINE) else None,
        "oracle": None if findings.oracle is None else findings.oracle.name,
        "policies": [_policy(findings, policy, size) for policy in findings.policies],
        "frontier": [
            {
                "policy": point.policy,
                "moves": point.moves_per_window,
                "balancedness": point.balancedness,
                "budget": point.budget,
                "ceiling": point.sees_future,
            }
            for point in findings.frontier
        ],
    }


def _worst_shown(findings: Findings) -> int:
    """Return which of the windows that are shown is the least balanced under the best policy."""
    bins = findings.bins
    return int(np.argmin(findings.best.balancedness[np.array(bins.shown()) - bins.first]))


def points_size(findings: Findings) -> int:
    """Return how many windows a point of the chart over time is the mean of."""
    return -(-findings.bins.num_windows // MAX_POINTS)


def binned(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the means of each `size` consecutive values; the last mean may be of fewer.

    Examples
    --------
    >>> binned(np.array([1.0, 3.0, 5.0]), 2).tolist()
    [2.0, 5.0]
    """
    starts = np.arange(0, values.size, size)
    counts = np.diff(np.append(starts, values.size))
    return np.asarray(np.add.reduceat(values, starts) / counts)


def _policy(findings: Findings, policy: PolicyFindings, size: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": policy.name,
        "ceiling": policy.sees_future,
        "mean": policy.mean_balancedness,
        "balancedness": packed(binned(policy.balancedness, size), "f4"),
        "perLayer": packed(policy.balancedness_per_layer, "f4"),
        "moves": packed_counts(policy.moves),
        "reasons": [_reason(reason) for reason in reasons_of(findings, policy)],
    }
    detail = policy.detail
    if detail is None:
        return found
    return found | {
        "rankLoads": packed_over_mean(np.concatenate([detail.rank_loads_overall[None], detail.rank_loads])),
        "movesByLayer": packed_counts(detail.moves_by_layer),
        "movesByRank": packed_counts(detail.moves_by_rank),
        "replicas": packed_counts(detail.replicas),
    }


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "layer": reason.layer,
        "waiting": reason.waiting_share,
        "balancedness": reason.balancedness,
        "cause": reason.cause,
        "moment": reason.moment,
    }
