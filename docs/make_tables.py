"""Write the measured table of README.md from the newest side-by-side results.

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
BEGIN, END = "<!-- table: docs/make_tables.py -->", "<!-- end of table -->"
LEFT_OUT = "numpy.argsort"  # timed for scale, plans nothing

Row = dict[str, Any]


def main(args: list[str] | None = None) -> None:
    """Parse the command line and rewrite the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file to rewrite (default README.md)")
    readme = parser.parse_args(args).readme
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), newest()), encoding="utf-8")


def newest() -> Path:
    """Return the newest side-by-side results; their names begin with the date."""
    files = sorted(RESULTS.glob("*-side-by-side.json"))
    if not files:
        raise SystemExit(f"no side-by-side results in {RESULTS}; run `make bench` first")
    return files[-1]


def with_table(text: str, results: Path) -> str:
    """Return `text` with what stands between the two markers replaced by the table of `results`."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"expected the lines {BEGIN} and {END} in the text")
    return f"{before}{begin}\n\n{table(results)}\n\n{end}{after}"


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
