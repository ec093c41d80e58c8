"""Replays as a table, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from eplb.cli.console import one_line
from eplb.cli.replay_source import Source
from eplb.cli.summary import counted
from eplb.replay import Replay

TITLE = "balancedness (1 is perfect), moves as a share of all slots, cost"
BASELINE = "contiguous"
OURS = "eplb"
LITTLE = 0.01
HEADERS = (
    "mean of\nwindows",
    "worst\nwindow",
    "mean of\nsteps",
    "moved a\nwindow",
    "largest\nreplan",
    "most to\na rank",
    "active\nexperts",
    "plan,\nms",
)
STEPS = HEADERS.index("mean of\nsteps")


def source_facts(source: Source, name: str, machine: tuple[str, str]) -> list[tuple[str, str]]:
    """Return what is replayed, and on which machine."""
    trace = source.trace
    text = (
        f"{counted(trace.num_windows, 'window')} x {counted(trace.num_layers, 'layer')} x "
        f"{counted(trace.num_experts, 'expert')}"
    )
    rows = [("loads", name), ("", text)]
    for noun in ("model", "window"):
        rows += [(noun, getattr(trace, noun))] if getattr(trace, noun) else []
    return [*rows, machine]


def replayed_facts(replay: Replay) -> list[tuple[str, str]]:
    """Return which windows were scored, under which split, what a plan was shown, and what it could move."""
    last = replay.first + replay.balancedness.size - 1
    every = "every window" if replay.interval == 1 else f"every {replay.interval} windows"
    budget = "any number of" if replay.max_moves is None else f"at most {replay.max_moves:,}"
    moves = f"a replan may move {budget} experts, of {replay.num_slots:,} slots over all layers"
    if replay.max_moves_per_rank is not None:
        moves += f", and {replay.max_moves_per_rank:,} to each rank"
    return [
        ("replayed", f"windows {replay.first} to {last}, replanned {every} from the last {replay.history}"),
        ("", moves),
        ("split", _split_text(replay)),
    ]


def _split_text(replay: Replay) -> str:
    if replay.split == "even":
        return "even: an expert's replicas share its tokens alike"
    if replay.split == "weighted":
        return "weighted: the best shares for each window" + ("" if replay.step_scores is None else " and step")
    return f"{replay.split}: the shares that were best for the window before"


def replay_table(replays: Sequence[Replay]) -> Table:
    """Return a row for each policy; the column of steps only where they are known."""
    with_steps = replays[0].step_scores is not None
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("policy", min_width=10, overflow="fold")
    for index, header in enumerate(HEADERS):
        if with_steps or index != STEPS:
            table.add_column(header, justify="right", no_wrap=True)
    for replay in replays:
        cells = _cells(replay)
        table.add_row(one_line(replay.policy), *(cells if with_steps else cells[:STEPS] + cells[STEPS + 1 :]))
    return table


def _cells(replay: Replay) -> list[str]:
    scores = replay.step_scores or replay.scores
    return [
        f"{replay.mean_balancedness:.4f}",
        f"{replay.worst_window[1]:.4f}",
        f"{scores.balancedness.mean():.4f}",
        f"{replay.moved_share:.1%}",
        f"{replay.largest_moved_share:.1%}",
        f"{replay.most_received:,}",
        f"{scores.activated_experts:.2f}",
        f"{replay.median_planning_seconds * 1e3:.1f}",
    ]


def outcome_facts(replays: Sequence[Replay], notes: Sequence[str]) -> list[tuple[str, str]]:
    """Return the best policy and its gain, who moved more than allowed, and what was left out."""
    runnable = _runnable(replays)
    rows = []
    if runnable:
        best = _best(runnable)
        rows.append(("best", f"{best.policy}{_gain(best, replays)}{_ceiling(best, replays)}"))
    over = [replay for replay in runnable if replay.num_over_budget]
    rows += [
        (
            "over budget",
            f"{r.policy}: {r.num_over_budget:,} of {counted(r.moves.size, 'replan')} moved more than allowed",
        )
        for r in over
    ]
    return [*rows, *(("note", note) for note in notes)]


def _runnable(replays: Sequence[Replay]) -> list[Replay]:
    """Return the replays of policies that could run, which those that see the future could not."""
    return [replay for replay in replays if not replay.sees_future]


def _best(replays: Sequence[Replay]) -> Replay:
    """Return the best replay, of those within the budget if there are any; the first of equals."""
    within = [replay for replay in replays if not replay.num_over_budget]
    return max(within or replays, key=lambda replay: replay.mean_balancedness)


def _named(replays: Sequence[Replay], name: str) -> Replay | None:
    return next((replay for replay in replays if replay.policy == name), None)


def _gain(best: Replay, replays: Sequence[Replay]) -> str:
    base = _named(replays, BASELINE)
    if base is None or base is best:
        return f": {best.mean_balancedness:.4f}"
    gain = best.mean_balancedness / base.mean_balancedness - 1
    return f": {best.mean_balancedness:.4f}, {gain:+.1%} over {BASELINE}"


def _ceiling(best: Replay, replays: Sequence[Replay]) -> str:
    oracle = next((replay for replay in replays if replay.sees_future), None)
    return "" if oracle is None else f"; {oracle.policy} {oracle.mean_balancedness:.4f}"


def next_step(replays: Sequence[Replay], forecasts: Sequence[str]) -> str:
    """Return what to try next."""
    runnable = _runnable(replays) or replays
    base, best = _named(replays, BASELINE), _best(runnable)
    if base is not None and all(r.mean_balancedness < base.mean_balancedness + LITTLE for r in runnable):
        return "there is little to gain on these loads: the experts in order do about as well"
    if not any(replay.policy.startswith(OURS) for replay in replays):
        return f"--policy {OURS} shows what replanning within the budget gains"
    if best.policy == "static":
        return "one plan does best here: `eplb plan` makes it; a larger --max-moves-share may change that"
    if best.split == "even" and _has_redundant_experts(best):
        return "--split weighted shows what solving the split for each batch gains"
    if not forecasts and best.mean_balancedness < 1 - LITTLE:
        return "--forecast last --forecast drift shows what foresight gains"
    if best.interval == 1:
        return "--interval 4 shows what planning less often costs"
    return "--max-moves-share 1 shows what moving freely gains"


def _has_redundant_experts(replay: Replay) -> bool:
    return replay.placement.topology.num_usable_slots > replay.placement.num_experts
