"""The parts of the page that are text: they read and print without any script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import eplb
from eplb.report.findings import BASELINE, Findings, PolicyFindings
from eplb.report.recommendation import Recommendation
from eplb.report.sizes import moved_text

VERDICTS = {"go": "Balance", "no-go": "Do not balance", "open": "Look closer"}


def facts_html(findings: Findings) -> str:
    """Return what was replayed, as a list of terms."""
    rows = (f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in findings.facts)
    return f"<dl class='facts'>{''.join(rows)}</dl>"


def recommendation_html(recommendation: Recommendation) -> str:
    """Return the verdict, the recommendation, what it rests on, and what to set or type."""
    verdict = recommendation.verdict if recommendation.verdict in VERDICTS else "open"
    parts = [
        f"<p class='verdict {verdict}'>{VERDICTS[verdict]}</p>",
        f"<p class='headline'>{escape(recommendation.headline)}</p>",
        f"<div class='details'>{''.join(f'<p>{escape(text)}</p>' for text in recommendation.details)}</div>",
    ]
    if recommendation.settings:
        rows = (
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in recommendation.settings
        )
        parts.append(f"<dl class='settings'>{''.join(rows)}</dl>")
    if recommendation.table is not None:
        parts.append(table_html(recommendation.table.caption, recommendation.table.head, recommendation.table.rows))
    if recommendation.commands:
        lines = escape("\n".join(recommendation.commands))
        parts.append(f"<pre tabindex='0' role='region' aria-label='Settings of the engine'>{lines}</pre>")
    return "".join(parts)


def tiles_html(findings: Findings) -> str:
    """Return the numbers that matter most."""
    base, best = findings.named(BASELINE), findings.best
    tiles = []
    if base is not None and base is not best:
        tiles.append(("experts in order", f"{base.mean_balancedness:.3f}", "balancedness; 1 is perfect"))
    tiles.append((best.name, f"{best.mean_balancedness:.3f}", f"worst window {float(best.balancedness.min()):.3f}"))
    if findings.oracle is not None:
        tiles.append((findings.oracle.name, f"{findings.oracle.mean_balancedness:.3f}", "had it known every window"))
    if findings.trace is not None:
        tiles.append(("bound", f"{float(findings.trace.bound.mean()):.3f}", "no plan exceeds it"))
    if findings.replayed:
        share = best.moves_per_window / findings.num_slots
        tiles.append((f"moved by {best.name}", f"{share:.1%}", f"of the slots a window{_bytes(findings, best)}"))
    return "".join(
        f"<div class='tile'><p>{escape(name)}</p><p class='number'>{escape(number)}</p><p>{escape(text)}</p></div>"
        for name, number, text in tiles
    )


def _bytes(findings: Findings, policy: PolicyFindings) -> str:
    if findings.expert_bytes is None:
        return ""
    return f", {moved_text(findings, policy.moves_per_window).partition('(')[2].rstrip(')')}"


def policies_html(findings: Findings) -> str:
    """Return a table with a row for each policy and one for the bound."""
    with_steps = any(policy.step_balancedness is not None for policy in findings.policies)
    head = ["policy", "mean of windows", "worst window"]
    head += ["mean of steps"] if with_steps else []
    if findings.replayed:
        head += ["moved a window", "largest replan", "over budget", "plan, ms"]
    rows = [_cells(findings, policy, with_steps) for policy in findings.policies]
    if findings.trace is not None:
        bound = findings.trace.bound
        cells = ["no plan exceeds", f"{float(bound.mean()):.4f}", f"{float(bound.min()):.4f}"]
        rows.append(cells + [""] * (len(head) - len(cells)))
    return table_html("Policies by balancedness, moves and cost", head, rows)


def _cells(findings: Findings, policy: PolicyFindings, with_steps: bool) -> list[str]:
    cells = [policy.name, f"{policy.mean_balancedness:.4f}", f"{float(policy.balancedness.min()):.4f}"]
    if with_steps:
        cells.append("" if policy.step_balancedness is None else f"{policy.step_balancedness:.4f}")
    if findings.replayed:
        over = f"{policy.num_over_budget:,} of {policy.num_replans:,}" if policy.num_over_budget else ""
        seconds = policy.planning_seconds
        cells += [
            moved_text(findings, policy.moves_per_window).replace(" of the slots", ""),
            f"{policy.largest_moves / findings.num_slots:.1%}",
            over,
            "" if seconds is None else f"{seconds * 1e3:.1f}",
        ]
    return cells


def table_html(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the first cell of a row names it."""
    top = "".join(f"<th scope='col'>{escape(text)}</th>" for text in head)
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    name = escape(caption)
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{name}'><table><caption>{name}</caption>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def notes_html(findings: Findings, points_size: int) -> str:
    """Return what a reader must know besides: what was averaged, what is missing, which version wrote this."""
    notes = list(findings.notes)
    if findings.replayed and points_size > 1:
        notes.append(f"A point of the chart over time is the mean of {points_size} windows.")
    if findings.replayed and findings.bins.size > 1:
        notes.append(
            f"What moved is gathered over {findings.bins.size} windows each; of them, the slider shows the middle one."
        )
    notes.append(f"Written by eplb {eplb.__version__}; charts by plotly.js. This file needs no network.")
    return "".join(f"<li>{escape(note)}</li>" for note in notes)
