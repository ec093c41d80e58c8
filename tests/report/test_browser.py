"""The report in a real Chromium: it draws, obeys, fits a phone and paper, and asks the network for nothing."""

import json
import re
from contextlib import contextmanager

import pytest

import eplb
from eplb.cli.replay_json import replays_as_json
from eplb.cli.replay_source import Source
from eplb.replay import policy_named, replay
from eplb.report import Settings, examine, load_findings, write_report
from tests.report.conftest import TOPOLOGY

DRAWN = "html[data-drawn=yes]"
TITLE = "figure[data-chart={}] figcaption"
CHARTS = ("balance", "frontier", "before", "after", "layer", "replicas", "moves", "worst")


@pytest.fixture(scope="module")
def file(found, tmp_path_factory):
    """The report on disk."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(out, found)
    return out


@pytest.fixture
def opened(browser):
    """Return a function that opens a report and, at the end, holds it to no complaint and no request but its own."""
    contexts, complaints, requests, files = [], [], [], []

    def open_report(file, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        files.append(file.as_uri())
        page.goto(file.as_uri())
        page.wait_for_selector(DRAWN)
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert complaints == [] and [url for url in requests if not url.startswith(("data:", "blob:"))] == files


def drawn(page):
    """Return the names of the charts that hold a drawing."""
    return page.evaluate(
        "[...document.querySelectorAll('figure[data-chart]')].filter(f => f.querySelector('svg.main-svg'))"
        ".map(f => f.dataset.chart)"
    )


def numbers(page, chart, field="y"):
    """Return what the first trace of a chart shows."""
    return page.evaluate(
        f"Array.from(document.getElementById('chart-{chart}').data[0].{field}, v => Array.from([v].flat()))"
    )


def until(page, condition):
    """Wait for a condition; playwright's own way to do so is code from text, which the page forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"still not: {condition}")


def overflow(page):
    """Return by how many pixels the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_every_chart_is_drawn(opened, file):
    """With a name for those who do not see it, and the right numbers."""
    page = opened(file)
    assert tuple(drawn(page)) == CHARTS
    assert page.locator("[aria-roledescription=chart][aria-label]").count() == len(CHARTS)
    assert page.title().startswith("<script>alert(1)</script>")


def test_choosing_a_layer_changes_the_charts(opened, file):
    """By its own number."""
    page = opened(file)
    page.select_option("#layer", label="9")
    before = numbers(page, "layer")
    page.select_option("#layer", label="11")
    assert numbers(page, "layer") != before
    assert "layer 11" in page.inner_text(TITLE.format("layer"))
    assert "layer 11" in page.inner_text("#status")


def test_choosing_a_policy_changes_the_charts(opened, file):
    """Heat map, replicas, moves and reasons."""
    page = opened(file)
    page.select_option("#policy", "static")
    for chart in ("after", "replicas", "moves"):
        assert "static" in page.inner_text(TITLE.format(chart))
    assert "Nothing moves after the first plan of static" in page.inner_text("[data-chart=moves]")
    assert page.locator("#reasons li").count() > 0
    page.select_option("#policy", "eplb")
    assert "moves" in drawn(page)


def test_the_slider_changes_the_window(opened, file, found):
    """By keys; its left end is the sum of all windows."""
    page = opened(file)
    page.focus("#time")
    page.keyboard.press("Home")
    assert "sum of all windows" in page.inner_text(TITLE.format("after"))
    total = numbers(page, "after", "z")
    page.keyboard.press("ArrowRight")
    assert f"window {found.bins.shown()[0]}" in page.inner_text(TITLE.format("after"))
    assert numbers(page, "after", "z") != total


def test_experts_and_moves_have_choices_of_their_own(opened, file):
    """By number, and by rank."""
    page = opened(file)
    page.select_option("#order", "id")
    names = page.evaluate("document.getElementById('chart-replicas').data[0].customdata")
    assert names == [str(expert) for expert in range(8)]
    page.select_option("#moves-by", "rank")
    assert "the rank that receives" in page.inner_text(TITLE.format("moves"))


def test_a_click_on_a_row_chooses_its_layer(opened, file):
    """As the select does."""
    page = opened(file)
    box = page.locator("#chart-before .nsewdrag").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * 5 / 6)
    assert page.input_value("#layer") == "2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_and_the_button(opened, file, scheme):
    """Charts too."""
    page = opened(file, color_scheme=scheme)
    ink = "document.getElementById('chart-balance')._fullLayout.font.color"
    first = page.evaluate(ink)
    assert page.get_attribute("#theme", "aria-pressed") == str(scheme == "dark").lower()
    page.click("#theme")
    assert page.evaluate(ink) != first
    assert page.get_attribute("html", "data-theme") != scheme


def test_no_button_of_a_chart_sends_anything_away(opened, file):
    """Some versions of plotly.js have one that uploads the chart."""
    page = opened(file)
    names = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title || b.ariaLabel)")
    assert len(names) == 6 * len(CHARTS)
    assert not [name for name in names if re.search("share|cloud|upload|edit", name, re.IGNORECASE)]


def test_keys_reach_every_control_in_order(opened, file):
    """The way past the head of the page comes first, and what has the focus is seen to have it."""
    page, reached = opened(file), []
    for _ in range(150):  # the buttons of the charts are reached too
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        if reached[-1] == "moves-by":
            break
    order = [name for name in reached if name in ("skip", "theme", "policy", "layer", "time", "order", "moves-by")]
    assert order == ["skip", "theme", "policy", "layer", "time", "order", "moves-by"]


def test_every_chart_is_a_table_too(opened, file, found):
    """Made when it is opened, by keys, with the numbers of the chart."""
    page = opened(file)
    for chart in CHARTS:
        page.focus(f"[data-chart={chart}] summary")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"[data-chart={chart}] table")
    rows = page.locator("[data-chart=balance] tbody tr")
    assert rows.count() == len(found.trace.bound)
    assert f"{found.trace.bound[0]:.4f}" in rows.first.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(opened, file, scheme):
    """Touch does not catch the page."""
    page = opened(file, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, color_scheme=scheme)
    assert overflow(page) == 0
    assert tuple(drawn(page)) == CHARTS
    assert page.evaluate("document.getElementById('chart-balance')._fullLayout.dragmode") is False


def test_paper_is_light_and_fits(opened, file):
    """Whatever the theme; on the screen it is as before afterwards."""
    page = opened(file, color_scheme="dark")
    page.emulate_media(media="print")
    page.wait_for_selector("html[data-theme=light]")
    assert page.evaluate("document.getElementById('chart-balance')._fullLayout.width") <= 680
    assert page.locator("#theme").is_hidden()
    page.emulate_media(media="screen")
    page.wait_for_selector("html[data-theme=dark]")


def test_a_narrower_window_draws_narrower_charts(opened, file):
    """Without being loaded anew."""
    page = opened(file, viewport={"width": 1200, "height": 900})
    page.set_viewport_size({"width": 700, "height": 900})
    until(page, "document.getElementById('chart-balance')._fullLayout.width < 700")
    assert overflow(page) == 0


@pytest.mark.parametrize("what", ["one window", "two windows", "one layer", "one rank", "one expert a rank"])
def test_small_traces_make_sense(opened, trace, policies, tmp_path, what):
    """Charts are drawn, or say why they are not."""
    topology = TOPOLOGY
    if what == "one window":
        trace = trace.part(0, 1)
    elif what == "two windows":
        trace = trace.part(0, 2)
    elif what == "one layer":
        trace = eplb.LoadTrace(loads=trace.loads[:, :1])
    else:
        ranks, slots = (1, 9) if what == "one rank" else (8, 1)
        topology = eplb.Topology(num_ranks=ranks, slots_per_rank=slots)
    out = tmp_path / "small.html"
    write_report(out, examine(trace, topology, policies, Settings(budgets=())))
    page = opened(out)
    assert {"balance", "before", "after", "layer", "replicas", "worst"} <= set(drawn(page))
    assert ("frontier" in drawn(page)) == (what != "one window")
    assert "undefined" not in page.inner_text("body") and "NaN" not in page.inner_text("body")


def test_saved_replays_show_what_they_hold(opened, trace, tmp_path):
    """No heat maps, and a sentence on how to get them."""
    replays = [replay(trace, TOPOLOGY, policy_named(name)) for name in ("contiguous", "eplb", "oracle")]
    content = {"file": "a.npz", **replays_as_json(Source(trace=trace), replays, [])}
    (tmp_path / "replay.json").write_text(json.dumps(content))
    write_report(tmp_path / "saved.html", load_findings(tmp_path / "replay.json"))
    page = opened(tmp_path / "saved.html")
    assert drawn(page) == ["balance", "frontier", "moves", "worst"]
    assert page.locator("#layer").is_hidden() and page.locator("#policy").is_visible()
    assert "eplb report" in page.inner_text("body")


@contextmanager
def without_scripts(browser, file):
    """A page on which no script runs."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    yield page
    context.close()


def test_without_scripts_the_numbers_are_there(browser, file, found):
    """Recommendation and policies."""
    with without_scripts(browser, file) as page:
        text = page.inner_text("body")
    assert f"{found.best.mean_balancedness:.4f}" in text and "The charts need JavaScript" in text
