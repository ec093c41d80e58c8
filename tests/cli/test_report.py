"""`eplb report` in this process: what it writes, what it says, and what it refuses."""

import json
import re

import numpy as np
import pytest

import eplb
from tests.advising.toy import shifting, shuffled, steady

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
    for option, value in (("--ranks", 4), ("--hardware", "h100")):
        text = refused(invoke, tmp_path / "replay.json", option, value, "--out", tmp_path / "a.html")
        assert text.startswith(f"{option}: the file holds replays")


def test_one_window_becomes_a_page(invoke, tmp_path):
    """It is planned, not replayed."""
    (tmp_path / "loads.csv").write_text("1,2,3,4\n4,3,2,1\n")
    result = invoke("report", tmp_path / "loads.csv", "--ranks", 2, "--slots-per-rank", 3, "--out", tmp_path / "a.html")
    assert result.exit_code == 0, result.exception
    assert "nothing could be replayed" in (tmp_path / "a.html").read_text()


# ---- with what a step takes

MODELLED = ("--hardware", "h100", "--model", "gpt-oss-20b", "--tokens-per-step", 4096)


@pytest.fixture
def modelled(invoke, tmp_path):
    """Return a function that reports on a trace of four ranks with time modelled: its JSON object and its page."""

    def run(trace, *args):
        trace.save(tmp_path / "loads.npz")
        more = ("--ranks", 4, "--slots-per-rank", 5, "--effort", "fast", *FEW, *MODELLED, *args)
        result = invoke("report", tmp_path / "loads.npz", *more, "--out", tmp_path / "a.html", "--json")
        assert result.exit_code == 0, result.exception
        return json.loads(result.stdout), (tmp_path / "a.html").read_text()

    return run


def test_with_hardware_it_recommends_what_advise_does(invoke, modelled, tmp_path):
    """The same words and numbers, from the same options."""
    told, page = modelled(shifting(every=12), "--engine", "vllm", "--steps-per-window", 32)
    more = ("--ranks", 4, "--effort", "fast", "--split", "even", "--engine", "vllm", "--steps-per-window", 32)
    advice = json.loads(invoke("advise", tmp_path / "loads.npz", *MODELLED, *more, "--json").stdout)
    for content in (advice, told["advice"]):  # times of planning are measured
        for each in (content, *content["by_ranks"]):
            del each["planning_seconds"]
    assert told["advice"] == advice and advice["recommendation"] == "go"
    assert told["recommendation"]["verdict"] == "go"
    assert told["recommendation"]["headline"] in advice["paragraph"] and told["recommendation"]["headline"] in page
    assert advice["engine_settings"]["lines"][0] in page and "# vLLM shares tokens evenly" in page
    assert f"{advice['options']['static']['balancedness']:.3f}</td>" in page
    assert "By balance alone" not in page


def test_no_go_is_shown_as_advise_says_it(modelled):
    """Though spare slots gain balance, and without settings."""
    told, page = modelled(shuffled(steady(16)), "--engine", "vllm")
    assert (told["recommendation"]["verdict"], told["advice"]["recommendation"]) == ("no-go", "no-go")
    assert told["recommendation"]["commands"] == [] and told["recommendation"]["settings"] == {}
    assert "No-go: leave the experts in order." in page and "Experts that are left in order take 4 slots" in page


def test_small_batches_are_no_go_however_well_they_balance(modelled):
    """What balance alone would not tell."""
    told, _ = modelled(steady(16), "--tokens-per-step", 64)
    assert told["recommendation"]["verdict"] == "no-go"
    assert "a rank waits for weights" in " ".join(told["recommendation"]["details"])


def test_the_terminal_shows_it_too(invoke, tmp_path):
    """With the settings of the engine."""
    shifting(every=12).save(tmp_path / "loads.npz")
    args = ("--ranks", 4, "--slots-per-rank", 6, "--effort", "fast", *FEW, *MODELLED, "--engine", "sglang")
    text = " ".join(invoke("report", tmp_path / "loads.npz", *args, "--out", tmp_path / "a.html").stdout.split())
    for part in ("says Go: replan", "Modelled for H100 SXM", "settings for sglang", "--ep-num-redundant-experts"):
        assert part in text, part
    assert "What is advised has 5: --slots-per-rank 5 draws that." in text


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--model", "gpt-oss-20b"), "--model: expected --hardware with it"),
        (("--tokens-per-step", 8), "--tokens-per-step: expected --hardware with it"),
        (("--engine", "vllm"), "--engine: expected --hardware with it"),
        (("--steps-per-window", 8), "--steps-per-window: "),
        (("--hardware", "b300"), "hardware: expected one of h100, h200"),
        (("--hardware", "h100"), "--model: expected one of deepseek-v3"),
        (("--hardware", "h100", "--model", "gpt-5"), "model: expected one of deepseek-v3"),
        ((*MODELLED, "--engine", "none"), "engine: expected one of vllm"),
        ((*MODELLED, "--failed-ranks", 3), "--failed-ranks: times are modelled for ranks that are alike"),
        ((*MODELLED, "--rank-speeds", "1,1,1,2"), "--rank-speeds: times are modelled for ranks that are alike"),
        ((*MODELLED, "--slots-per-rank", "3,3,3,2"), "--slots-per-rank: times are modelled for ranks that are alike"),
        ((*MODELLED, "--nodes", "0,0,0,1"), "--nodes: times are modelled for ranks that are alike"),
    ],
)
def test_what_cannot_be_modelled_is_said_before_the_work(invoke, loads_file, tmp_path, args, text):
    """And nothing is written."""
    assert refused(invoke, loads_file, *SMALL, *args, "--out", tmp_path / "a.html").startswith(text)
    assert not (tmp_path / "a.html").exists()


def test_a_trace_too_short_to_backtest_says_how_many_windows_are_needed(invoke, tmp_path):
    """Rather than recommend by balance alone what was to be modelled."""
    steady(3).save(tmp_path / "loads.npz")
    args = ("--ranks", 4, "--slots-per-rank", 5, *MODELLED, "--out", tmp_path / "a.html")
    assert "expected at least 4 windows to backtest" in refused(invoke, tmp_path / "loads.npz", *args)


# ---- what is refused


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
