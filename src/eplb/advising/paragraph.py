"""An advice as one paragraph for a person."""

from __future__ import annotations

from eplb.advising.deciding import DYNAMIC, NONE, STATIC, Gain
from eplb.advising.recommendation import Advice, Option
from eplb.replay.cost import CostModel

NEARLY_BALANCED = 0.97
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def paragraph(advice: Advice, cost: CostModel) -> str:
    """Return what to do and why, in a few sentences.

    Parameters
    ----------
    advice : Advice
        What `advise` returned.
    cost : CostModel
        What it was asked with.
    """
    return " ".join(sentences(advice, cost))


def sentences(advice: Advice, cost: CostModel) -> list[str]:
    """Return what `paragraph` joins; the first is what to do."""
    return _go(advice, cost) if advice.go else _no_go(advice, cost)


def _go(advice: Advice, cost: CostModel) -> list[str]:
    option, none = advice.chosen, advice.options[NONE]
    what = "replan" if advice.choice == DYNAMIC else "place the experts once"
    steps = "A step" if cost.other_seconds_per_step else "A step's MoE layers"
    texts = [
        f"Go: {what}, {option.setting.slots_per_rank} slots a rank{_how_often(option, cost)}.",
        f"{steps} should take {milliseconds(option.seconds_per_step)} instead of "
        f"{milliseconds(none.seconds_per_step)} ({option.gain.step_change:+.1%}); {gain_text(option.gain)}, on "
        f"{len(option.gain.parts)} later parts of the trace that did not choose the settings.",
    ]
    if option.extra_bytes_per_rank:
        texts.append(f"Spare slots take {num_bytes(option.extra_bytes_per_rank)} of memory a rank.")
    if option.moved_bytes_per_step:
        stall = option.stall_seconds_per_step / option.seconds_per_step
        texts.append(
            f"Replans move {num_bytes(option.moved_bytes_per_step)} a step over all ranks and stall for {stall:.1%} of "
            "the time, which is counted."
        )
    texts.append(_left(advice))
    other = STATIC if advice.choice == DYNAMIC else DYNAMIC
    name = "A placement made once" if other == STATIC else "Replanning"
    over = advice.dynamic_over_static
    texts.append(
        f"{name} gains {advice.options[other].gain.expected:+.1%} instead; replanning over placing once: "
        f"{over.expected:+.1%} ({over.low:+.1%} to {over.high:+.1%})."
    )
    return texts


def _how_often(option: Option, cost: CostModel) -> str:
    setting = option.setting
    lagged = "" if setting.split == "even" else f", tokens split {setting.split}, which your engine must know"
    if option.kind != DYNAMIC:
        return lagged
    steps = setting.interval * setting.window * cost.steps_per_window
    return f", every {steps:,} steps, at most {setting.max_moves_share:.0%} of the slots each time{lagged}"


def _no_go(advice: Advice, cost: CostModel) -> list[str]:
    best = max((advice.options[STATIC], advice.options[DYNAMIC]), key=lambda option: option.own_gain.low)
    name = "placing them once" if best.kind == STATIC else "replanning"
    texts = [
        "No-go: leave the experts in order.",
        f"Of what was tried, {name} does best: {gain_text(best.own_gain)}, on {len(best.own_gain.parts)} later parts "
        f"of the trace; that is not surely the {advice.least_gain:.0%} it should be.",
    ]
    texts.append(_reason(advice, best))
    if advice.spare_slots_gain >= advice.least_gain:
        texts.append(_blind(advice))
    return texts


def _blind(advice: Advice) -> str:
    extra = advice.options[DYNAMIC].extra_bytes_per_rank
    gain, counts = f"{advice.spare_slots_gain:+.1%}", "what balancing adds to that is what counts above."
    if not extra:
        return f"Another order, which knows no loads either, gains {gain}; {counts}"
    return f"Spare slots alone, filled without knowing any loads, gain {gain} for {num_bytes(extra)} a rank; {counts}"


def _reason(advice: Advice, best: Option) -> str:
    none = advice.options[NONE]
    if best.setting.num_ranks == 1:
        return "There is one rank, and nothing to balance."
    if advice.tokens_per_expert < advice.knee_tokens:
        return (
            f"An activated expert gets {advice.tokens_per_expert:,.0f} tokens a step; below {advice.knee_tokens:,.0f} "
            "a rank waits for weights, and how many tokens it has matters little. Larger batches change that."
        )
    if none.balancedness >= NEARLY_BALANCED:
        return f"The experts in order are nearly balanced: {none.balancedness:.3f} of at most {advice.bound:.3f}."
    return (
        f"The experts in order are at {none.balancedness:.3f} of at most {advice.bound:.3f}, but the windows before do "
        "not tell enough of those after."
    )


def _left(advice: Advice) -> str:
    option = advice.chosen
    return f"Balancedness is {option.balancedness:.3f}; no placement on these slots exceeds {advice.bound:.3f}."


def gain_text(gain: Gain) -> str:
    """Return a gain with its range.

    Examples
    --------
    >>> from eplb.advising.deciding import gain_of
    >>> gain_text(gain_of([1.2, 1.3, 1.1], [1.0, 1.0, 1.0]))
    'tokens/s +20.0% (+3.1% to +36.9%)'
    """
    return f"tokens/s {gain.expected:+.1%} ({gain.low:+.1%} to {gain.high:+.1%})"


def milliseconds(seconds: float) -> str:
    """Return a time with three digits.

    Examples
    --------
    >>> milliseconds(0.0057351), milliseconds(1.98)
    ('5.74 ms', '1,980 ms')
    """
    digits = max(0, 2 - len(f"{int(seconds * 1e3)}") + 1) if seconds >= 1e-3 else 3
    return f"{seconds * 1e3:,.{digits}f} ms"


def num_bytes(number: float) -> str:
    """Return a number of bytes with its unit.

    Examples
    --------
    >>> num_bytes(0), num_bytes(9.27e6), num_bytes(1.2e10)
    ('nothing', '9.3 MB', '12.0 GB')
    """
    if number < 1:
        return "nothing"
    for unit, size in UNITS:
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number:,.0f} bytes"
