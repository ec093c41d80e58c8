"""Which layers wait most, and why: too few slots, loads that change, or experts that nobody placed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eplb.report.findings import BASELINE, ExpertOnRank, Findings, PolicyFindings, WorstMoment

LITTLE = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A layer that waits for its slowest rank.

    Parameters
    ----------
    layer : int
        Index of the layer.
    waiting_share : float
        Its share of all tokens that are waited for, over the layers.
    balancedness : float
        Over all windows.
    oracle, bound : float or None
        What a plan that knows the windows reaches there, and what no plan exceeds.
    cause, moment : str
        A sentence on what keeps it from 1, and one on the window that it waited longest in.
    """

    layer: int
    waiting_share: float
    balancedness: float
    oracle: float | None
    bound: float | None
    cause: str
    moment: str


def reasons_of(findings: Findings, policy: PolicyFindings) -> tuple[Reason, ...]:
    """Return the layers that wait most under `policy`, most first; none where the replay was not watched."""
    if policy.detail is None:
        return ()
    waiting = policy.detail.waiting
    total = float(waiting.cumsum()[-1])
    return tuple(
        Reason(
            layer=moment.layer,
            waiting_share=float(waiting[moment.layer]) / total if total > 0 else 0.0,
            balancedness=float(policy.balancedness_per_layer[moment.layer]),
            oracle=_oracle(findings, moment.layer),
            bound=_bound(findings, moment.layer),
            cause=_cause(findings, policy, moment.layer),
            moment=_moment(findings, policy, moment),
        )
        for moment in policy.detail.worst
    )


def _oracle(findings: Findings, layer: int) -> float | None:
    return None if findings.oracle is None else float(findings.oracle.balancedness_per_layer[layer])


def _bound(findings: Findings, layer: int) -> float | None:
    return None if findings.trace is None else float(findings.trace.bound_per_layer[layer])


def _cause(findings: Findings, policy: PolicyFindings, layer: int) -> str:
    """Return the largest part of what is lost: to the slots, to what was not foreseen, or to not planning at all."""
    reached = float(policy.balancedness_per_layer[layer])
    if 1 - reached < LITTLE:
        return "As good as balanced."
    bound = _bound(findings, layer)
    bound = 1.0 if bound is None else bound
    oracle = _oracle(findings, layer)
    best = bound if oracle is None else oracle
    if 1 - bound >= best - reached:
        return f"Too few slots: no plan exceeds {bound:.3f} here.{_heaviest(findings, layer)}"
    if policy.name == BASELINE:
        return f"Nothing is placed by load: a plan reaches {best:.3f}.{_heaviest(findings, layer)}"
    if policy.sees_future or not findings.replayed:
        return f"The search stopped short of the bound, {bound:.3f}."
    ahead = f"a plan that knew the windows would reach {best:.3f}"
    if findings.trace is None:
        return f"Loads change: {ahead}."
    change = f"{findings.trace.change[layer]:.1%} of the tokens go to other experts from one window to the next"
    return f"Loads change: {change}; {ahead}."


def _heaviest(findings: Findings, layer: int) -> str:
    if findings.trace is None:
        return ""
    shares = findings.trace.shares[layer]
    expert = int(np.argmax(shares))
    return f" Expert {expert} alone has {shares[expert]:.1%} of the tokens."


def _moment(findings: Findings, policy: PolicyFindings, moment: WorstMoment) -> str:
    assert policy.detail is not None
    num_ranks = int(np.isfinite(policy.detail.rank_loads_overall[moment.layer]).sum())
    experts = ", ".join(_expert(expert) for expert in moment.experts)
    return (
        f"Window {moment.window}: rank {moment.rank} had {moment.over_mean:.2f} times the mean, with {experts}. "
        f"A rank's equal share is {1 / num_ranks:.1%}."
    )


def _expert(expert: ExpertOnRank) -> str:
    replicas = f" in {expert.num_replicas} replicas" if expert.num_replicas > 1 else ""
    return f"expert {expert.expert} ({expert.share:.1%}{replicas})"
