"""Write the measured tables of README.md and the pages in docs from the newest results.

python docs/make_tables.py
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("README.md", "docs/splitting.md", "docs/next-window.md", "docs/planning.md")
MARKER = re.compile(r"<!-- table: docs/make_tables.py ([\w-]+) -->")
END = "<!-- end of table -->"
RESULTS_OF = {"steps": "splits"}
SHOWN = ("steady", "shift", "tiny")
LEFT_OUT = "numpy.argsort"  # timed for scale, plans nothing
STEPS_MACHINE = "8 x 5"
STEPS = {"even, even": "even", "weighted, whole": "weighted", "bound": "at best"}

Row = dict[str, Any]


def main(args: list[str] | None = None) -> None:
    """Parse the command line and rewrite the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, default=[ROOT / page for page in PAGES], help="files to rewrite")
    for page in parser.parse_args(args).pages:
        page.write_text(with_tables(page.read_text(encoding="utf-8"), page.parent), encoding="utf-8")


def with_tables(text: str, folder: Path = ROOT) -> str:
    """Return `text` of a page in `folder`, with the tables of the newest results between its markers."""
    makers = {"side-by-side": table, "frontier": frontier, "splits": splits, "steps": steps}
    for name in MARKER.findall(text):
        begin = f"<!-- table: docs/make_tables.py {name} -->"
        before, _, rest = text.partition(begin)
        _, end, after = rest.partition(END)
        if not end or name not in makers:
            raise SystemExit(f"expected {END} after {begin}, and one of {', '.join(makers)}")
        results = newest(RESULTS_OF.get(name, name))
        link = f"[{results.stem}]({Path(os.path.relpath(results.with_suffix('.md'), folder)).as_posix()})"
        text = (
            f"{before}{begin}\n\n{makers[name](json.loads(results.read_text(encoding='utf-8')), link)}\n\n{end}{after}"
        )
    return text


def newest(name: str) -> Path:
    """Return the newest results called `name`; their files begin with the date."""
    files = sorted(RESULTS.glob(f"*-{name}.json"))
    if not files:
        raise SystemExit(f"no results called {name} in {RESULTS}; run `make bench` first")
    return files[-1]


def frontier(content: Row, link: str) -> str:
    """Return a table with a line a policy and budget: balancedness of windows not seen, and what was moved."""
    rows = [row for row in content["rows"] if row["interval"] == 1 and row["in_time"]]
    traces = list(dict.fromkeys(row["trace"] for row in rows))
    shown = [trace for trace in SHOWN if trace in traces]
    lines = [_line(["policy", "moves allowed", f"mean of {len(traces)} traces", *shown, "moved a window"])]
    lines.append(_line(["---", "---", *["---:"] * (len(shown) + 2)]))
    for policy, budget in dict.fromkeys((row["policy"], row["budget"]) for row in rows):
        mine = [row for row in rows if row["policy"] == policy and row["budget"] == budget]
        cells = [f"{mean(row['balancedness'] for row in mine):.4f}"]
        cells += [f"{row['balancedness']:.4f}" for trace in shown for row in mine if row["trace"] == trace]
        lines.append(_line([policy, budget, *cells, f"{mean(row['moved_share'] for row in mine):.1%}"]))
    return "\n".join(
        [
            *lines,
            "",
            "Balancedness of each window under the plan made before it; even split, 8 ranks x 5 slots; moves as a",
            f"share of all slots. {', '.join(shown)}: gpt-oss-20b decoding, and the bundled trace.",
            "`oracle` plans the very windows.",
            f"All numbers, also for a plan every 4 windows: {link}.",
        ]
    )


def splits(content: Row, link: str) -> str:
    """Return a table with a line a policy and split: balancedness of windows not seen, on machines of several sizes."""
    rows = [row for row in content["rows"] if row["kind"] == "windows" and row["in_time"] and _shown(row)]
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    lines = [_line(["policy", "planned for", "split", *(f"{machine}, moved" for machine in machines)])]
    lines.append(_line(["---", "---", "---", *["---:"] * len(machines)]))
    for key in dict.fromkeys((row["policy"], row["planned"], row["scored"]) for row in rows):
        cells = []
        for machine in machines:
            mine = _of(rows, policy=key[0], planned=key[1], scored=key[2], machine=machine)
            moved = mean(row["moved_share"] for row in mine)
            cells.append(f"{mean(row['balancedness'] for row in mine):.4f}, {moved:.1%}")
        lines.append(_line([*key, *cells]))
    traces = len(dict.fromkeys(row["trace"] for row in rows))
    return "\n".join(
        [
            *lines,
            "",
            f"Balancedness of each window under the plan made before it, mean of {traces} traces of 32 experts, and",
            "the share of the slots that moved in a window. Columns are ranks x slots. eplb moves at most 10% of them.",
            f"`oracle` plans the very windows. All numbers, trace by trace: {link}.",
        ]
    )


def steps(content: Row, link: str) -> str:
    """Return a table of single decode steps: balancedness with tokens kept whole."""
    rows = [row for row in content["rows"] if row["kind"] == "steps" and row["machine"] == STEPS_MACHINE]
    rows = [row for row in rows if row["order"] == "random" and "gptoss" in row["stream"]]
    lines = [_line(["tokens a step", *STEPS.values(), "imbalance gone"]), _line(["---:"] * (len(STEPS) + 2))]
    for row in rows:
        lines.append(_line([f"{row['batch']:,}", *(f"{row[key]:.4f}" for key in STEPS), f"{row['gone']:.0%}"]))
    return "\n".join(
        [
            *lines,
            "",
            f"Mean balancedness of the decode steps of gpt-oss-20b, {STEPS_MACHINE} slots, top-4. *Even* is planned",
            "and shared evenly, in fractions of tokens; *weighted* is planned for it and split by each step's own",
            "counts, tokens kept whole. No split exceeds *at best*: whole tokens cannot be spread more evenly.",
            f"All numbers: {link}.",
        ]
    )


def _shown(row: Row) -> bool:
    """Whether a row belongs into a short table: one budget, and the oracle of the even split alone."""
    return row["budget"] in ("10%", "knows none") and not (row["policy"] == "oracle" and row["planned"] != "even")


def table(content: Row, link: str) -> str:
    """Return a table with a line a planner and a column a shape, and a paragraph on how it was measured."""
    facts, rows = content["machine"], [row for row in content["rows"] if row["planner"] != LEFT_OUT]
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    lines = [_line(["planner", *shapes]), _line(["---", *["---:"] * len(shapes)])]
    lines.append(_line(["no plan exceeds", *(f"{_mean(_of(rows, shape=shape), 'bound'):.4f}" for shape in shapes)]))
    for planner in dict.fromkeys(row["planner"] for row in rows):
        cells = [_cell(_of(rows, shape=shape, planner=planner)) for shape in shapes]
        lines.append(_line([planner, *cells]))
    busy = "shared with other work, so trust ratios rather than milliseconds" if facts["busy"] else "otherwise idle"
    loads = ", ".join(dict.fromkeys(row["loads"] for row in rows))
    return "\n".join(
        [
            *lines,
            "",
            f"Balancedness, mean over layers and over {loads} loads; milliseconds for all layers, median.",
            f"{facts['date']}, {facts['cpu']}, {facts['processors']} processors, {facts['threads']} threads; "
            f"the machine was {busy}.",
            f"All numbers: {link}.",
        ]
    )


def _of(rows: list[Row], **wanted: str) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _mean(rows: list[Row], key: str) -> float:
    return mean({row["loads"]: row[key] for row in rows if key in row}.values())


def _cell(rows: list[Row]) -> str:
    if any("error" in row for row in rows):
        return "failed"
    milliseconds = median(row["median_ms"] for row in rows)
    note = ", splits groups" if any(row["split_groups"] for row in rows) else ""
    return f"{_mean(rows, 'balancedness'):.4f}, {milliseconds:,.{0 if milliseconds >= 100 else 1}f} ms{note}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
