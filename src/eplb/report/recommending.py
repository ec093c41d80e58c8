"""What to do, from the replays alone."""

from __future__ import annotations

from dataclasses import replace

from eplb.advising.advice import LEAST_GAIN
from eplb.advising.deciding import Gain
from eplb.report.findings import BASELINE, Findings, Point, PolicyFindings
from eplb.report.gaining import gain_of_knowing
from eplb.report.recommendation import Recommendation
from eplb.report.sizes import moved_text

AS_GOOD = 0.003
ALONE = "By balance alone, "
CAVEAT = (
    "This judges balance alone. What a step takes was not modelled, so it does not say whether balancing saves time: "
    "eplb report with --hardware NAME does, and so does eplb advise."
)
SPARES_UNKNOWN = (
    "Saved results do not tell what spare slots gain by themselves, which is no merit of a plan: eplb report on the "
    "trace itself does."
)


def recommend(findings: Findings) -> Recommendation:
    """Return what the replays speak for, as far as balance tells.

    Balancing must gain 2% over the same slots filled without knowing any loads, at the low end of the range over parts
    of the trace; else nothing is to be done. Where a plan that is made once is within 0.003 of the best, it is that;
    else replanning, within the smallest budget that is as close to the best. With a single window, or saved results of
    a machine with spare slots, it is left open.
    """
    base, best = findings.named(BASELINE), findings.best
    if base is None or base is best:
        return _nothing_to_compare(findings, best)
    if best.mean_balancedness < base.mean_balancedness * (1 + LEAST_GAIN):
        return _no_go("there is little to gain on these loads.", base, best)
    if base.balancedness.size == 1:
        return _one_window(findings, base, best)
    static = findings.named("static")
    for policy in (best, *(() if static is None else (static,))):
        gain = gain_of_knowing(findings, base, policy)
        if gain.low >= LEAST_GAIN:
            return _go(findings, base, policy, gain)
    gain = gain_of_knowing(findings, base, best)
    blind = "a plan does no better than slots filled without knowing any loads."
    return _no_go("a gain is not sure." if gain.expected >= LEAST_GAIN else blind, base, best, _worth(findings, gain))


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


def _no_go(reason: str, base: PolicyFindings, best: PolicyFindings, worth: str = "") -> Recommendation:
    return Recommendation(
        verdict="no-go",
        headline=f"Leave the experts where they are: {reason}",
        details=(f"Balancedness is {base.mean_balancedness:.3f} as it is and {_reached(best)}.{worth}", CAVEAT),
    )


def _one_window(findings: Findings, base: PolicyFindings, best: PolicyFindings) -> Recommendation:
    return Recommendation(
        verdict="open",
        headline="One window cannot tell whether a plan would hold on others.",
        details=(CAVEAT, _rise(base, best), _left(findings, best)),
    )


def _go(findings: Findings, base: PolicyFindings, policy: PolicyFindings, gain: Gain) -> Recommendation:
    details = (CAVEAT, f"{_rise(base, policy)}{_worth(findings, gain)}", _left(findings, policy))
    static = findings.named("static")
    if static is not None and static.mean_balancedness >= policy.mean_balancedness - AS_GOOD:
        headline = (
            f"{ALONE}plan once and keep it: balancedness {static.mean_balancedness:.3f} without any further move."
        )
        found = Recommendation(verdict="go", headline=headline, details=details)
    else:
        found = _replanning(findings, policy, details)
    if findings.uninformed is None and findings.num_slots > findings.num_experts * len(findings.layer_ids):
        return replace(found, verdict="open", details=(SPARES_UNKNOWN, *found.details))
    return found


def _reached(policy: PolicyFindings) -> str:
    return f"{policy.mean_balancedness:.3f} with {policy.name}"


def _rise(base: PolicyFindings, best: PolicyFindings) -> str:
    """Return the gain; layers run one after another, so the slowest ranks wait in proportion to 1 / balancedness."""
    shorter = 1 - base.mean_balancedness / best.mean_balancedness
    rise = f"Balancedness rises from {base.mean_balancedness:.3f} (experts in order) to {_reached(best)}"
    return f"{rise}: the busiest rank of a layer computes {shorter:.0%} less."


def _worth(findings: Findings, gain: Gain) -> str:
    rival = "the experts in order"
    if findings.uninformed is not None:
        rival = f"the same slots filled without knowing any loads ({float(findings.uninformed.mean()):.3f})"
    return (
        f" Over {rival} it gains {gain.expected:+.1%} ({gain.low:+.1%} to {gain.high:+.1%}, over {len(gain.parts)} "
        "parts of the trace)."
    )


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
        headline = f"{ALONE}replan with {best.name}, which moves {moved} a window."
        return Recommendation(verdict="go", headline=headline, details=details)
    caveat, *others = details
    return Recommendation(
        verdict="go",
        headline=f"{ALONE}replan with {best.name}, and let a replan move {_budget(point)} of the slots.",
        details=(
            caveat,
            f"That budget reaches {point.balancedness:.3f} and moves {moved_text(findings, point.moves_per_window)} a "
            f"window; a larger one gains less than 0.003.{_shown(points, best, point)}",
            *others,
        ),
        settings=(("policy", best.name), ("largest share of the slots in a replan", _budget(point))),
    )


def _shown(points: list[Point], best: PolicyFindings, advised: Point) -> str:
    """Return which budget the numbers and charts beside the advice are of, where it is another."""
    shown = next((point for point in points if point.moves_per_window == best.moves_per_window), advised)
    if shown.budget == advised.budget:
        return ""
    return f" All other numbers and charts show {best.name} moving {_budget(shown)} of them."


def _budget(point: Point) -> str:
    assert point.budget is not None
    return "any number" if point.budget == 1 else f"at most {point.budget:.0%}"
