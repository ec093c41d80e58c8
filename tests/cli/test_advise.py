"""`eplb advise` in this process: what it prints, what it says in JSON, and what it refuses."""

import json

import numpy as np
import pytest

import eplb
from eplb.advising.advice import advise
from eplb.advising.paragraph import paragraph
from eplb.cli.advise import machines_from
from eplb.cli.advise_costs import steps_in
from eplb.replay.cost import CostModel, hardware_named
from tests.advising.toy import MODEL, shifting, shuffled, steady

SHAPE = ("--experts-per-token", 2, "--hidden-size", 256, "--expert-size", 256, "--layers", 2)
QUICK = ("--hardware", "h100", "--ranks", 4, "--effort", "fast")


@pytest.fixture
def trace_file(tmp_path):
    """Loads whose heavy experts change, saved."""
    shifting(every=12).save(tmp_path / "loads.npz")
    return tmp_path / "loads.npz"


def advised(invoke, *args):
    """Return the object that `eplb advise --json` prints."""
    result = invoke("advise", *args, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def refused(invoke, *args):
    """Return the message with which `eplb advise` ends before it prints anything."""
    result = invoke("advise", *args)
    assert isinstance(result.exception, eplb.EplbError), result.exception
    assert not result.stdout
    return str(result.exception)


# ---- JSON


def test_json_is_what_the_library_finds(invoke, trace_file):
    """The recommendation, its gain, and what was tried."""
    found = advised(invoke, trace_file, *QUICK, *SHAPE)
    cost = CostModel(hardware=hardware_named("h100"), model=MODEL)
    expected = advise(eplb.LoadTrace.load(trace_file), cost, num_ranks=4, effort="fast")
    assert (found["recommendation"], found["choice"]) == ("go", expected.choice) == ("go", "dynamic")
    assert found["setting"] == expected.chosen.setting.to_dict()
    assert found["gain"]["parts"] == list(expected.chosen.gain.parts)
    assert found["options"]["static"]["seconds_per_step"] == expected.options["static"].seconds_per_step
    assert found["paragraph"].replace("model", "toy") == paragraph(expected, cost).replace("model", "toy")
    assert len(found["tried"]) == len(expected.nearby)


def test_no_go_is_an_answer(invoke, tmp_path):
    """Not an error: the exit code is 0."""
    shuffled(steady(8)).save(tmp_path / "loads.npz")
    found = advised(invoke, tmp_path / "loads.npz", *QUICK, *SHAPE, "--engine", "vllm")
    assert (found["recommendation"], found["choice"], found["engine_settings"]) == ("no-go", "none", None)
    result = invoke("advise", tmp_path / "loads.npz", *QUICK, *SHAPE)
    assert result.exit_code == 0 and "No-go: leave the experts in order." in result.stdout


def test_options_reach_the_cost_model(invoke, trace_file):
    """With their units."""
    more = ("--other-ms", 2, "--planner-ms", 3, "--hidden-migration", 0.5, "--steps-per-window", 4)
    cost = advised(invoke, trace_file, *QUICK, *SHAPE, *more, "--bytes-per-weight", 1)["cost"]
    assert (cost["other_seconds_per_step"], cost["planner_seconds"]) == (0.002, 0.003)
    assert (cost["hidden_migration_share"], cost["steps_per_window"], cost["model"]["bytes_per_weight"]) == (0.5, 4, 1)


def test_batches_are_scaled(invoke, trace_file):
    """To the tokens of a pass that are asked for."""
    found = advised(invoke, trace_file, *QUICK, *SHAPE, "--tokens-per-step", 1000)
    assert found["tokens_per_step"] == pytest.approx(1000)


def test_of_several_ranks_the_one_with_most_tokens_a_rank_is_taken(invoke, trace_file):
    """All of them are shown."""
    found = advised(invoke, trace_file, "--hardware", "h100", "--ranks", "2,4", "--effort", "fast", *SHAPE)
    rates = [each["tokens_per_second_per_rank"] for each in found["by_ranks"]]
    assert len(rates) == 2 and found["tokens_per_second_per_rank"] == max(rates)
    assert "a rank" in invoke("advise", trace_file, "--hardware", "h100", "--ranks", "2,4", *SHAPE).stdout


def test_ranks_that_fit_are_tried_where_none_are_given(invoke, trace_file):
    """With a note which they are."""
    found = advised(invoke, trace_file, "--hardware", "h100", "--effort", "fast", *SHAPE)
    assert "--ranks was not given: 4, 8, 16 are tried" in found["notes"]
    assert [each["setting"]["num_nodes"] for each in found["by_ranks"]] == [1, 1, 2]


def test_measured_times_replace_the_datasheet(invoke, trace_file, tmp_path):
    """With how well they were fitted."""
    lines = ["tokens,activated_experts,ms", *(f"{n},{4},{0.001 * n + 0.2}" for n in (10, 100, 1000, 4000))]
    (tmp_path / "ms.csv").write_text("\n".join(lines))
    found = advised(invoke, trace_file, *QUICK, *SHAPE, "--calibration", tmp_path / "ms.csv")
    assert found["cost"]["rates"]["seconds_per_token"] == pytest.approx(1e-6, rel=0.05)
    assert any("rates fitted to 4 measurements" in note for note in found["notes"])


def test_hardware_comes_from_a_file_too(invoke, trace_file, tmp_path):
    """With the parameters of `Hardware`."""
    figures = {"name": "mine", "bf16_flops_per_s": 1e14, "memory_bandwidth_bytes_per_s": 1e12, "memory_bytes": 1e11}
    links = {"node_bandwidth_bytes_per_s": 1e11, "network_bandwidth_bytes_per_s": 1e10}
    (tmp_path / "mine.json").write_text(json.dumps({**figures, **links}))
    args = ("--hardware", tmp_path / "mine.json", "--ranks", 4, "--effort", "fast")
    assert advised(invoke, trace_file, *args, *SHAPE)["cost"]["hardware"]["name"] == "mine"
    (tmp_path / "mine.json").write_text(json.dumps({**figures, "speed": 1}))
    assert "expected the parameters of eplb.replay.cost.Hardware" in refused(invoke, trace_file, *args, *SHAPE)


# ---- the model of the trace


def test_the_model_is_what_the_trace_says(invoke, tmp_path):
    """Where its name is known; fewer layers stand for all."""
    loads = eplb.LoadTrace(loads=np.full((6, 2, 32), 1000), model="openai/gpt-oss-20b", window="4 decode steps x 9")
    loads.save(tmp_path / "loads.npz")
    found = advised(invoke, tmp_path / "loads.npz", *QUICK)
    assert found["cost"]["model"]["name"] == "gpt-oss-20b" and found["cost"]["steps_per_window"] == 4
    assert found["notes"] == [
        "model gpt-oss-20b, as the trace says",
        "2 recorded layers stand for the 24 MoE layers of gpt-oss-20b",
        "a window is 4 forward passes, as the trace says",
    ]


def test_a_model_with_other_experts_lends_their_size(invoke, trace_file):
    """With a note that says so."""
    found = advised(invoke, trace_file, *QUICK, "--model", "deepseek-v3")
    assert found["cost"]["model"]["num_experts"] == 16
    assert any("the trace has 16 experts a layer, DeepSeek-V3 256" in note for note in found["notes"])


def test_a_stream_of_tokens_is_put_into_batches(invoke, tmp_path, rng):
    """A window is then as many steps as asked for."""
    ids = np.argsort(rng.random((200, 2, 16)) ** np.arange(1, 17), axis=2)[..., :2]
    np.savez(tmp_path / "tokens.npz", ids=ids.astype(np.int8), lens=np.full(20, 10), num_experts=16)
    args = (tmp_path / "tokens.npz", *QUICK, *SHAPE, "--batch-size", 4, "--steps-per-window", 5)
    found = advised(invoke, *args)
    assert (found["num_windows"], found["cost"]["steps_per_window"]) == (10, 5)
    assert found["tokens_per_step"] == pytest.approx(4)


# ---- what is printed


def test_prints_what_a_person_wants_to_know(invoke, trace_file):
    """The answer in a paragraph, the options, what was tried, and the settings of the engine."""
    text = " ".join(invoke("advise", trace_file, *QUICK, *SHAPE, "--engine", "sglang").stdout.split())
    for part in (
        "hardware H100 SXM, at 70% of its datasheet",
        "a window is taken as one forward pass; --steps-per-window says otherwise",
        "Go: replan, ",
        "leave in order ",
        "place once ",
        "replan * ",
        "replanning: best of ",
        "* advised: the simplest of those at most 0.5% slower than the best",
        "memory ",
        "left balancedness 0.",
        "settings for sglang",
        "--ep-num-redundant-experts",
        "--eplb-rebalance-num-iterations",
    ):
        assert part in text, part


def test_eighty_columns_are_enough(invoke, trace_file):
    """No cell of a table is cut."""
    text = invoke("advise", trace_file, *QUICK, *SHAPE).stdout
    assert "…" not in text and all(len(line.rstrip()) <= 80 for line in text.splitlines())


# ---- what is refused


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--hardware", "b300", "--ranks", 4, *SHAPE), "hardware: expected one of h100, h200, got 'b300'"),
        ((*QUICK, "--model", "gpt-5"), "model: expected one of deepseek-v3, qwen3-235b"),
        (QUICK, "--experts-per-token, --hidden-size, --expert-size are missing"),
        ((*QUICK, *SHAPE, "--engine", "none"), "engine: expected one of vllm, sglang"),
        ((*QUICK, *SHAPE, "--split", "lagged"), "splits: expected even, weighted or weighted-lagged"),
        ((*QUICK, *SHAPE, "--layers", 1), "has 1 MoE layers, the trace 2"),
        ((*QUICK, *SHAPE, "--nodes", "1,2,3"), "--nodes: expected one number, or 1 as for --ranks"),
        (("--hardware", "h100", "--nodes", "1", *SHAPE), "--nodes: expected --ranks with it"),
        (("--hardware", "h100", "--ranks", "0", *SHAPE), "--ranks: expected integers >= 1, got '0'"),
        (("--hardware", "h100", "--ranks", "0,4", *SHAPE), "--ranks: expected integers >= 1, got '0,4'"),
        ((*QUICK, *SHAPE, "--nodes", "0"), "--nodes: expected integers >= 1, got '0'"),
        (("--hardware", "h100", "--ranks", "4,4", *SHAPE), "--ranks: expected different numbers"),
        ((*QUICK, *SHAPE, "--steps-per-window", 0), "steps_per_window: expected an integer >= 1, got 0"),
        ((*QUICK, *SHAPE, "--tokens-per-step", 0), "--tokens-per-step: expected a number > 0"),
        ((*QUICK, *SHAPE, "--hidden-migration", 2), "hidden_migration_share"),
        ((*QUICK, *SHAPE, "--calibration", "missing.csv"), "missing.csv"),
        ((*QUICK, *SHAPE, "--order", "random"), "--order: "),
    ],
)
def test_refuses_before_anything_is_printed(invoke, trace_file, args, says):
    """A named error that says what came."""
    assert says in refused(invoke, trace_file, *args)


def test_a_short_trace_says_how_many_windows_are_needed(invoke, tmp_path):
    """And how many it has."""
    steady(3).save(tmp_path / "short.npz")
    message = refused(invoke, tmp_path / "short.npz", *QUICK, *SHAPE)
    assert "expected at least 4 windows to backtest" in message and "got 3" in message


def test_ranks_and_nodes_go_together():
    """One number of nodes is for all."""
    assert machines_from("4", "1") == [(4, 1)]
    assert machines_from("8,16", "1,2") == [(8, 1), (16, 2)]


@pytest.mark.parametrize(("window", "steps"), [("32 forwards", 32), ("0 steps", None), ("2 x (1 decode step)", 2)])
def test_windows_tell_of_their_steps(window, steps):
    """As recordings describe them."""
    assert steps_in(window) == steps
