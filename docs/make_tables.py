"""Write the measured tables of README.md from the newest results side by side and on recorded traces.

python docs/make_tables.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
END = "<!-- end of table -->"
SHOWN = ("steady", "shift", "tiny")
LEFT_OUT = "numpy.argsort"  # timed for scale, plans nothing

Row = dict[str, Any]


def main(args: list[str] | None = None) -> None:
    """Parse the command line and rewrite the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file to rewrite (default README.md)")
    readme = parser.parse_args(args).readme
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")


def with_tables(text: str) -> str:
    """Return `text` with what stands between the markers replaced by the tables of the newest results."""
    for name, made in (("side-by-side", table), ("frontier", frontier)):
        begin = f"<!-- table: docs/make_tables.py {name} -->"
        before, found, rest = text.partition(begin)
        _, end, after = rest.partition(END)
        if not (found and end):
            raise SystemExit(f"expected the lines {begin} and {END} in the text")
        text = f"{before}{begin}\n\n{made(newest(name))}\n\n{end}{after}"
    return text


def newest(name: str) -> Path:
    """Return the newest results called `name`; their files begin with the date."""
    files = sorted(RESULTS.glob(f"*-{name}.json"))
    if not files:
        raise SystemExit(f"no results called {name} in {RESULTS}; run `make bench` first")
    return files[-1]


def frontier(results: Path) -> str:
    """Return a table with a line a policy and budget: balancedness of windows not seen, and what was moved."""
    content = json.loads(results.read_text(encoding="utf-8"))
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
            f"All numbers, also for a plan every 4 windows: [{results.stem}](benchmarks/results/{results.stem}.md).",
        ]
    )


def table(results: Path) -> str:
    """Return a table with a line a planner and a column a shape, and a paragraph on how it was measured."""
    content = json.loads(results.read_text(encoding="utf-8"))
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
            f"All numbers: [{results.stem}](benchmarks/results/{results.stem}.md).",
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
