"""`eplb report` in this process: what it writes, what it says, and what it refuses."""

import json
import re

import numpy as np
import pytest

import eplb

SMALL = ("--ranks", 4, "--slots-per-rank", 3)
FEW = ("--policy", "static", "--policy", "eplb", "--budget", 0.5)


@pytest.fixture(autouse=True)
def with_plotly():
    """The page needs its library."""
    pytest.importorskip("plotly", reason='needs plotly; pip install "eplb[report]"')


@pytest.fixture
def trace():
    """Twelve windows, two layers, eight experts, far from balance."""
    loads = np.random.default_rng(0).integers(1, 1000, (12, 2, 8))
    return eplb.LoadTrace(loads=loads, layer_ids=[4, 9], model="model <b>")


def refused(invoke, *args):
    """Return the message with which `eplb report` ends before it prints anything."""
    result = invoke("report", *args)
    assert isinstance(result.exception, eplb.EplbError), result.exception
    assert not result.stdout
    return str(result.exception)


def test_a_trace_becomes_a_page(invoke, loads_file, tmp_path):
    """And the terminal says where, and what it recommends."""
    out = tmp_path / "page.html"
    result = invoke("report", loads_file, *SMALL, *FEW, "--out", out)
    assert result.exit_code == 0, result.exception
    assert str(out) in result.stdout.replace("\n", "") and "says" in result.stdout
    assert "model &lt;b&gt;" in out.read_text() and "Plotly" in out.read_text()


def test_json_says_what_was_written(invoke, loads_file, tmp_path):
    """As `eplb replay` says it."""
    args = (loads_file, *SMALL, *FEW)
    told = json.loads(invoke("report", *args, "--out", tmp_path / "a.html", "--json").stdout)
    replayed = json.loads(invoke("replay", loads_file, *SMALL, *FEW[:4], "--first", 6, "--json").stdout)
    assert told["report_bytes"] == (tmp_path / "a.html").stat().st_size
    for name in ("static", "eplb"):
        assert told["policies"][name]["mean_balancedness"] == replayed["policies"][name]["mean_balancedness"]
    assert set(told["policies"]) == {"contiguous", "static", "eplb"}
    assert told["recommendation"]["verdict"] in ("go", "no-go")


def test_saved_replays_become_a_page(invoke, loads_file, tmp_path):
    """Without the options of a machine, which they hold."""
    (tmp_path / "replay.json").write_text(invoke("replay", loads_file, *SMALL, "--json").stdout)
    result = invoke("report", tmp_path / "replay.json", "--out", tmp_path / "a.html")
    assert result.exit_code == 0, result.exception
    assert "which hold no loads" in (tmp_path / "a.html").read_text()
    text = refused(invoke, tmp_path / "replay.json", "--ranks", 4, "--out", tmp_path / "a.html")
    assert text.startswith("--ranks: the file holds replays")


def test_one_window_becomes_a_page(invoke, tmp_path):
    """It is planned, not replayed."""
    (tmp_path / "loads.csv").write_text("1,2,3,4\n4,3,2,1\n")
    result = invoke("report", tmp_path / "loads.csv", "--ranks", 2, "--slots-per-rank", 3, "--out", tmp_path / "a.html")
    assert result.exit_code == 0, result.exception
    assert "nothing could be replayed" in (tmp_path / "a.html").read_text()


def test_a_machine_is_needed_for_a_trace(invoke, loads_file, tmp_path):
    """Both of its numbers."""
    out = ("--out", tmp_path / "a.html")
    assert refused(invoke, loads_file, *out).startswith("--ranks: expected with a trace")
    assert refused(invoke, loads_file, "--ranks", 4, *out).startswith("--slots-per-rank: expected with a trace")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--out", "no/such/a.html"), "no folder"),
        (("--out", "a.pdf"), "ends in .html"),
        (("--budget", 2), "budgets"),
        (("--expert-bytes", 0), "expert_bytes"),
        (("--split", "odd"), "--split"),
        (("--policy", "none"), "policy"),
        (("--first", 12), "first"),
        (("--slots-per-rank", 1), "do not fit"),
    ],
)
def test_bad_input_is_named_and_nothing_written(invoke, loads_file, tmp_path, monkeypatch, args, text):
    """By the option."""
    monkeypatch.chdir(tmp_path)
    assert re.search(text, refused(invoke, loads_file, *SMALL, *args))
    assert [path.name for path in tmp_path.iterdir()] == ["loads.npz"]


def test_the_loads_are_never_replaced(invoke, loads_file, tmp_path):
    """Nor is any other file that is no report."""
    before = loads_file.read_bytes()
    (tmp_path / "a.html").write_text("mine")
    assert "no report of eplb" in refused(invoke, loads_file, *SMALL, "--out", tmp_path / "a.html")
    assert "ends in .html" in refused(invoke, loads_file, *SMALL, "--out", loads_file)
    assert loads_file.read_bytes() == before


def test_the_exit_code_of_bad_input_is_two(program, tmp_path):
    """With one line on stderr."""
    done = program("report", tmp_path / "none.npz", *SMALL, "--out", tmp_path / "a.html")
    assert done.returncode == 2
    assert done.stderr.startswith("error:") and done.stderr.count("\n") == 1
