"""The rows of `cost_model.py` as Markdown."""

from __future__ import annotations

from typing import Any

from machine import heading
from tables import Row, table

COLUMNS = (
    "cases",
    "placement",
    "tokens",
    "slots a rank",
    "most tokens",
    "most activated",
    "measured us",
    "predicted us",
    "off by",
)


def markdown(facts: dict[str, Any], rows: list[Row]) -> str:
    """Return the fit, what it is worth, and a line for each case, under a heading."""
    how = (
        f"The layer of examples/expert_parallel: 4 ranks, 32 experts of {facts['width']} x {facts['hidden_width']} x 3 "
        "weights in float32, 4 experts a token, blocks of 16 rows; the median processor time of "
        f"{facts['rounds']} turns of each rank, on one thread, seed {facts['seed']}."
    )
    fit = (
        f"Fitted to {facts['fit_points']} ranks: {facts['us_per_token']:.3f} us a token, "
        f"{facts['us_per_activated_expert']:.1f} us an activated expert, {facts['fixed_us']:.1f} us fixed, overlap "
        f"{facts['overlap']:.2f}; off by {facts['fit_median_error']:.1%} at the median, "
        f"{facts['fit_largest_error']:.1%} at most."
    )
    unseen = sum(row["kind"] == "unseen" for row in rows)
    worth = (
        f"On {unseen} layers that were not fitted: rank correlation {facts['rank_correlation']:.3f}, off by "
        f"{facts['unseen_median_error']:.1%} at the median. Among placements that serve the same batch: rank "
        f"correlation {facts['rank_correlation_of_placements']:.3f} on average."
    )
    return "\n\n".join(
        [
            f"# Predicted and measured layer times, {facts['date']}",
            heading(facts),
            how,
            fit,
            worth,
            table(COLUMNS, map(_cells, rows), 2),
        ]
    )


def _cells(row: Row) -> list[str]:
    return [
        row["kind"],
        row["placement"],
        f"{row['tokens']:,}",
        str(row["slots_per_rank"]),
        f"{row['largest_tokens']:,}",
        str(row["largest_activated"]),
        f"{row['measured_us']:,.0f}",
        f"{row['predicted_us']:,.0f}",
        f"{row['predicted_us'] / row['measured_us'] - 1:+.1%}",
    ]
