"""How large a report is, how long it takes to make, and how long a browser takes to open it.

python benchmarks/report.py --out report.md

Needs `pip install "eplb[report]" playwright`, and a Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from drifting import windows_for
from machine import heading, machine
from options import parser_for
from shapes import SHAPES
from tables import publish, table

import eplb
from eplb.replay import POLICIES, policy_named
from eplb.report import Settings, examine, write_report
from eplb.report.page import plotly_library

KIND = "drift 2%"
MARKS = {"first screen": "html[data-opened=yes]", "last chart": "html[data-drawn=yes]"}
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    facts = {**machine(options.note), "windows": options.windows, "rounds": options.rounds, "browser": chromium()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        row = made(options.shape, options.windows, file)
        for name, size in SIZES.items():
            row[f"{name}_ms"] = opened(file, size, options.rounds)
    publish(markdown(facts, row), facts, [row], options.out)


def made(name: str, num_windows: int, file: Path) -> dict[str, Any]:
    """Write the report of drifting loads of this shape to `file`; return its size, and the seconds that it took."""
    shape = SHAPES[name]
    trace = eplb.LoadTrace(loads=windows_for(shape, KIND, num_windows), model=shape.title)
    eplb.warm_up()
    start = time.perf_counter()
    found = examine(trace, shape.topology, [policy_named(policy) for policy in POLICIES], Settings(source=KIND))
    examined = time.perf_counter()
    num_bytes = write_report(file, found)
    return {
        "what": f"{shape.title}, {num_windows:,} windows",
        "bytes": num_bytes,
        "bytes_without_plotly": num_bytes - len(plotly_library().encode()),
        "examine_seconds": examined - start,
        "write_seconds": time.perf_counter() - examined,
        "interval": dict(found.facts)["a plan every"],
    }


def opened(file: Path, size: tuple[int, int], rounds: int) -> dict[str, list[float]]:
    """Return milliseconds from navigation until the first screen and the last chart are drawn, a new page each round.

    With them the processor time of the page's main thread, which other work on the machine hardly changes.
    """
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {name: [] for name in (*MARKS, "processor")}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for _ in range(rounds + 1):
            page = browser.new_page(viewport={"width": size[0], "height": size[1]})
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            start = time.perf_counter()
            page.goto(file.as_uri(), wait_until="commit")
            for name, mark in MARKS.items():
                page.wait_for_selector(mark)
                found[name].append((time.perf_counter() - start) * 1e3)
            metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
            found["processor"].append(metrics["ThreadTime"] * 1e3)
            page.close()
        browser.close()
    return {name: times[1:] for name, times in found.items()}


def chromium() -> str:
    """Return the path of a Chromium, or end saying how to get one."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("no Chromium found; apt-get install chromium")
    return found


def markdown(facts: dict[str, Any], row: dict[str, Any]) -> str:
    """Return one table under a heading."""
    lines = [
        ("size of the file, MB", f"{row['bytes'] / 1e6:.2f}"),
        ("of which not plotly.js, MB", f"{row['bytes_without_plotly'] / 1e6:.2f}"),
        *(
            (f"{name}: {what}, ms", _middle_and_most(times))
            for name in SIZES
            for what, times in row[f"{name}_ms"].items()
        ),
        ("made: replays, s", f"{row['examine_seconds']:.1f}"),
        ("made: page, s", f"{row['write_seconds']:.2f}"),
    ]
    shape = (
        f"{row['what']}, {KIND} of loads a window; all policies and budgets, a plan every {row['interval']}. Opened in "
        f"headless Chromium, {facts['rounds']} rounds after one: median and slowest, from navigation until the charts "
        "of the first screen, and the last chart, are drawn. Processor: time of the page's main thread until then."
    )
    return "\n\n".join([f"# Report, {facts['date']}", heading(facts), shape, table(("what", "measured"), lines)])


def _middle_and_most(times: list[float]) -> str:
    return f"{median(times):.0f}, {max(times):.0f}"


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="v3-global", help="model and ranks (default v3-global)")
    parser.add_argument("--windows", type=int, default=1000, help="windows of the trace (default 1000)")
    parser.add_argument("--rounds", type=int, default=7, help="times that it is opened (default 7)")
    return parser


if __name__ == "__main__":
    main()
