"""The file that is written: whole, alone, and free of markup from elsewhere."""

import json
import re
import sys

import numpy as np
import pytest

from eplb.errors import FileFormatError, MissingDependencyError, OptionError
from eplb.report import NumberTable, Recommendation, report_html, write_report
from tests.report.conftest import HOSTILE

DATA = re.compile(r'<script id="report-data" type="application/json">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="module")
def html(found):
    """The page, once."""
    return report_html(found)


def test_names_from_files_are_no_markup(html):
    """Neither in the text nor in the data of the charts."""
    assert HOSTILE not in html and "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert DATA.search(html)


def test_the_page_may_load_nothing(html):
    """Its own policy forbids it, and no tag asks for it."""
    assert "default-src 'none'" in html
    page = html.replace(html[html.index("plotly.js v") : html.rindex("<script>")], "")
    assert not re.findall(r"<(?:link|img|iframe|script[^>]*src)|@import|url\(", page)


def test_the_data_hold_what_was_found(html, found):
    """Packed arrays decode to the numbers."""
    import base64

    data = json.loads(DATA.search(html).group(1))
    (policy,) = (policy for policy in data["policies"] if policy["name"] == "eplb")
    packed = policy["balancedness"]
    values = np.frombuffer(base64.b64decode(packed["data"]), dtype=f"<{packed['type']}").reshape(packed["shape"])
    assert values == pytest.approx(found.named("eplb").balancedness, rel=1e-6)
    assert data["best"] == found.best.name and data["layers"] == [4, 9, 11]


def test_the_same_findings_make_the_same_page(html, found):
    """Byte for byte."""
    assert report_html(found) == html


def test_numbers_and_commands_of_a_recommendation_are_shown(found):
    """As a table and as lines to copy, escaped like all text."""
    table = NumberTable(caption="what", head=("do", "ms"), rows=(("<wait>", "8.1"),))
    told = Recommendation(verdict="go", headline="Do.", table=table, commands=("export A='<1>'", "serve"))
    page = report_html(found, told)
    assert "<th scope='row'>&lt;wait&gt;</th><td>8.1</td>" in page
    assert "export A=&#x27;&lt;1&gt;&#x27;\nserve</pre>" in page


def test_a_recommendation_of_others_takes_the_place(found):
    """A text, or one with a verdict and settings; escaped like all text."""
    assert "Wait &amp; see" in report_html(found, "Wait & see")
    told = Recommendation(verdict="no-go", headline="Do not.", details=("<b>",), settings=(("ranks", "8"),))
    page = report_html(found, told)
    assert "Do not balance" in page and "&lt;b&gt;" in page and "<dd>8</dd>" in page


def test_a_report_is_replaced_and_nothing_else(found, tmp_path):
    """What is no report is somebody's work."""
    out = tmp_path / "a.html"
    assert write_report(out, found) == out.stat().st_size
    write_report(out, found)
    (tmp_path / "b.html").write_text("mine")
    with pytest.raises(OptionError, match="no report of eplb"):
        write_report(tmp_path / "b.html", found)
    assert (tmp_path / "b.html").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


@pytest.mark.parametrize(
    ("name", "text"), [("a.txt", "ends in .html"), ("no/a.html", "no folder"), ("d.html", "folder")]
)
def test_bad_names_are_refused(found, tmp_path, name, text):
    """Before anything is written."""
    (tmp_path / "d.html").mkdir()
    with pytest.raises(FileFormatError, match=text):
        write_report(tmp_path / name, found)


def test_a_failure_leaves_the_old_report(found, tmp_path, monkeypatch):
    """Whole, and no half one beside it."""
    out = tmp_path / "a.html"
    write_report(out, found, "first")
    monkeypatch.setattr("os.fdopen", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(FileFormatError, match="No space left"):
        write_report(out, found, "second")
    assert "first" in out.read_text() and list(tmp_path.iterdir()) == [out]


def test_a_missing_plotly_is_named_with_the_command(found, tmp_path, monkeypatch):
    """And nothing is written."""
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "eplb\[report\]"'):
        write_report(tmp_path / "a.html", found)
    assert not list(tmp_path.iterdir())
