"""What to do, from the replays alone."""

from __future__ import annotations

from dataclasses import dataclass

from eplb.report.findings import BASELINE, Findings, Point, PolicyFindings
from eplb.report.sizes import moved_text

LITTLE = 0.01
AS_GOOD = 0.003
CAVEAT = "This judges balance alone; whether it saves time depends on the hardware: eplb advise models that."


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What the report recommends.

    Parameters
    ----------
    verdict : {"go", "no-go", "open"}
        Whether to balance.
    headline : str
        The recommendation in one sentence.
    details : tuple of str, default none
        What it rests on, a paragraph each.
    settings : tuple of (name, value), default none
        What to set.
    """

    verdict: str
    headline: str
    details: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


def recommend(findings: Findings) -> Recommendation:
    """Return what the replays speak for.

    Where balancing gains less than 0.01 of balancedness over the experts in order, nothing; where a plan that is made
    once is within 0.003 of the best, that; else replanning, within the smallest budget that is as close to the best.
    """
    base, best = findings.named(BASELINE), findings.best
    if base is None or base is best:
        return _nothing_to_compare(findings, best)
    if best.mean_balancedness < base.mean_balancedness + LITTLE:
        return Recommendation(
            verdict="no-go",
            headline="Leave the experts where they are: there is little to gain on these loads.",
            details=(f"Balancedness is {base.mean_balancedness:.3f} as it is and {_reached(best)}.", CAVEAT),
        )
    details = (_gain(base, best), _left(findings, best), CAVEAT)
    if not findings.replayed:
        return Recommendation(verdict="open", headline=_once(best), details=details)
    static = findings.named("static")
    if static is not None and static.mean_balancedness >= best.mean_balancedness - AS_GOOD:
        return Recommendation(verdict="go", headline=_once(static), details=(_gain(base, static), *details[1:]))
    return _replanning(findings, best, details)


def _nothing_to_compare(findings: Findings, best: PolicyFindings) -> Recommendation:
    if best.name == BASELINE and len(findings.runnable) > 1:
        return Recommendation(
            verdict="no-go",
            headline="Leave the experts where they are: no policy did better.",
            details=(f"Balancedness is {best.mean_balancedness:.3f} as it is.", CAVEAT),
        )
    reached = f"{best.name} reaches a balancedness of {best.mean_balancedness:.3f}"
    return Recommendation(
        verdict="open",
        headline=f"{reached}; there is nothing to compare it with.",
        details=("Replay contiguous and eplb as well to see what balancing gains.",),
    )


def _once(policy: PolicyFindings) -> str:
    return f"Plan once and keep it: balancedness {policy.mean_balancedness:.3f} without any further move."


def _reached(policy: PolicyFindings) -> str:
    return f"{policy.mean_balancedness:.3f} with {policy.name}"


def _gain(base: PolicyFindings, best: PolicyFindings) -> str:
    """Return the gain; layers run one after another, so the slowest ranks wait in proportion to 1 / balancedness."""
    shorter = 1 - base.mean_balancedness / best.mean_balancedness
    rise = f"Balancedness rises from {base.mean_balancedness:.3f} (experts in order) to {_reached(best)}"
    return f"{rise}: the busiest rank of a layer computes {shorter:.0%} less."


def _left(findings: Findings, best: PolicyFindings) -> str:
    parts = []
    if findings.oracle is not None:
        parts.append(f"a plan that knew every window in advance reaches {findings.oracle.mean_balancedness:.3f}")
    if findings.trace is not None:
        parts.append(f"no plan exceeds {float(findings.trace.bound.mean()):.3f}")
    text = "; ".join(parts) or f"the worst window is at {float(best.balancedness.min()):.3f}"
    return f"What is left: {text}."


def _replanning(findings: Findings, best: PolicyFindings, details: tuple[str, ...]) -> Recommendation:
    points = sorted(
        (point for point in findings.frontier if point.policy == best.name and point.budget is not None),
        key=lambda point: point.moves_per_window,
    )
    most = max((point.balancedness for point in points), default=0.0)
    point = next((point for point in points if point.balancedness >= most - AS_GOOD), None)
    if point is None or point.budget is None:
        moved = moved_text(findings, best.moves_per_window)
        return Recommendation(
            verdict="go", headline=f"Replan with {best.name}, which moves {moved} a window.", details=details
        )
    return Recommendation(
        verdict="go",
        headline=f"Replan with {best.name}, and let a replan move {_budget(point)} of the slots.",
        details=(
            f"That budget reaches {point.balancedness:.3f} and moves {moved_text(findings, point.moves_per_window)} a "
            "window; a larger one gains less than 0.003.",
            *details,
        ),
        settings=(("policy", best.name), ("largest share of the slots in a replan", _budget(point))),
    )


def _budget(point: Point) -> str:
    assert point.budget is not None
    return "any number" if point.budget == 1 else f"at most {point.budget:.0%}"
