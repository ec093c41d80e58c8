"""Findings and a recommendation as one HTML file that needs nothing else."""

from __future__ import annotations

import json
import os
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import IO

from eplb.errors import FileFormatError, MissingDependencyError, OptionError
from eplb.files import write_atomically
from eplb.report.contents import contents_of, points_size
from eplb.report.findings import Findings
from eplb.report.fragments import facts_html, notes_html, policies_html, recommendation_html, tiles_html
from eplb.report.recommendation import Recommendation
from eplb.report.recommending import recommend

GENERATOR = '<meta name="generator" content="eplb report">'
HEAD_BYTES = 4096
SCRIPTS = (
    "data.js",
    "look.js",
    "tables.js",
    "balance.js",
    "ranks.js",
    "experts.js",
    "moves.js",
    "reasons.js",
    "page.js",
)
NEEDS_PLOTLY = 'the report needs plotly; pip install "eplb[report]"'


def write_report(
    path: str | os.PathLike[str], findings: Findings, recommendation: Recommendation | str | None = None
) -> int:
    """Write a report to `path`, whole or not at all, and return its size in bytes.

    Parameters
    ----------
    path : path
        A name that ends in `.html` or `.htm`. A report that is there is replaced, anything else is not.
    findings : Findings
        What `examine` or `load_findings` returned.
    recommendation : Recommendation or str, optional
        What to recommend. Default: what the replays speak for (`recommend`).

    Raises
    ------
    OptionError
        If something else than a report is at `path`.
    FileFormatError
        If the name ends otherwise, or the file cannot be written.
    MissingDependencyError
        If plotly is not installed.
    """
    check_report_path(path)
    content = report_html(findings, recommendation).encode("utf-8")

    def write(stream: IO[bytes]) -> None:
        stream.write(content)

    write_atomically(path, write)
    return len(content)


def check_report_path(path: str | os.PathLike[str]) -> None:
    """Raise unless a report can be written to `path`: what is there must be a report; all else is somebody's work.

    Raises
    ------
    OptionError, FileFormatError
        As `write_report`.
    """
    out = Path(path)
    if out.suffix.lower() not in (".html", ".htm"):
        raise FileFormatError(f"{out}: expected a name that ends in .html")
    try:
        if not out.parent.is_dir():
            raise FileFormatError(f"{out}: there is no folder {out.parent}; make it first")
        if out.is_dir():
            raise FileFormatError(f"{out}: is a folder; expected the name of a file")
        if out.exists():
            with out.open("rb") as stream:
                if GENERATOR.encode() not in stream.read(HEAD_BYTES):
                    raise OptionError(
                        f"{out}: exists and is no report of eplb; remove it first, or write to another file"
                    )
    except OSError as exc:
        raise FileFormatError(f"{out}: cannot write here: {exc.strerror}") from None
    if not os.access(out.parent, os.W_OK):
        raise FileFormatError(f"{out}: the folder {out.parent} cannot be written; choose another")


def report_html(findings: Findings, recommendation: Recommendation | str | None = None) -> str:
    """Return the report as text; see `write_report`."""
    library = plotly_library()
    if recommendation is None:
        recommendation = recommend(findings)
    elif isinstance(recommendation, str):
        recommendation = Recommendation(verdict="open", headline=recommendation)
    title = findings.model or Path(findings.source).name
    parts = {
        "generator": GENERATOR,
        "title": escape(title),
        "style": _static("style.css"),
        "source": escape(findings.source),
        "facts": facts_html(findings),
        "recommendation": recommendation_html(recommendation),
        "tiles": tiles_html(findings),
        "policies": policies_html(findings),
        "notes": notes_html(findings, points_size(findings)),
        "data": json.dumps(contents_of(findings), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "library": library.replace("</script", "<\\/script"),
        "scripts": "\n".join(_static(name) for name in SCRIPTS),
    }
    return filled(_static("page.html"), parts)


def filled(template: str, parts: dict[str, str]) -> str:
    """Return `template` with each ``{{name}}`` replaced; what is put in is not looked at again.

    Examples
    --------
    >>> filled("<b>{{a}}</b>{{b}}", {"a": "{{b}}", "b": "!"})
    '<b>{{b}}</b>!'
    """
    start, *rest = template.split("{{")
    pieces = [start]
    for piece in rest:
        name, _, text = piece.partition("}}")
        pieces += [parts[name], text]
    return "".join(pieces)


def plotly_library() -> str:
    """Return plotly.js as it comes with the package plotly.

    Raises
    ------
    MissingDependencyError
        If that is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingDependencyError(NEEDS_PLOTLY) from None
    return str(get_plotlyjs())


def _static(name: str) -> str:
    return (files("eplb.report") / "static" / name).read_text(encoding="utf-8")
