"""`eplb replay` in this process: what it prints and what it refuses."""

import json

import numpy as np
import pytest

import eplb
from eplb.cli.replay_policies import policies_from
from eplb.cli.replay_source import Batching, read_source
from eplb.cli.replay_tables import next_step, outcome_facts
from eplb.replay import POLICIES, SPLITS, EplbPolicy, policy_named, replay

SMALL = ("--ranks", 4, "--slots-per-rank", 3)
FEW = ("--policy", "contiguous", "--policy", "static")
FIXED = EplbPolicy()


@pytest.fixture
def trace():
    """Twelve windows, two layers, eight experts, far from balance."""
    loads = np.random.default_rng(0).integers(1, 1000, (12, 2, 8))
    return eplb.LoadTrace(loads=loads, layer_ids=[4, 9], model="model", window="a second")


@pytest.fixture
def tokens_file(tmp_path):
    """Twenty requests of ten tokens, two layers, two of eight experts each."""
    rng = np.random.default_rng(0)
    ids = np.argsort(rng.random((200, 2, 8)) ** np.arange(1, 9), axis=2)[..., :2]
    np.savez(tmp_path / "tokens.npz", ids=ids.astype(np.int8), lens=np.full(20, 10), num_experts=8)
    return tmp_path / "tokens.npz"


def replayed_json(invoke, *args):
    """Return the object that `eplb replay --json` prints."""
    result = invoke("replay", *args, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def refused(invoke, *args):
    """Return the message with which `eplb replay` ends before it prints anything."""
    result = invoke("replay", *args)
    assert isinstance(result.exception, eplb.EplbError), result.exception
    assert not result.stdout
    return str(result.exception)


def replays(trace, *names, split="even", **options):
    """Return replays of `trace` under the policies of these names, which plan for weights if these are in time."""
    topology = eplb.Topology(num_ranks=4, slots_per_rank=3)
    planned = "weighted" if split == "weighted" else "even"
    return [replay(trace, topology, policy_named(name, split=planned), split=split, **options) for name in names]


# ---- JSON


def test_json_is_what_the_library_finds(invoke, loads_file, trace):
    """By policy, window by window and plan by plan."""
    args = (loads_file, *SMALL, *FEW, "--policy", "deepseek", "--history", 5, "--interval", 2, "--first", 3)
    found = replayed_json(invoke, *args)
    names = ("contiguous", "static", "deepseek")
    assert list(found["policies"]) == list(names)
    for name, expected in zip(names, replays(trace, *names, history=5, interval=2, first=3), strict=True):
        policy = found["policies"][name]
        assert policy["balancedness"] == expected.balancedness.tolist()
        assert policy["mean_balancedness"] == pytest.approx(expected.mean_balancedness)
        assert policy["worst_window"] == dict(zip(("window", "balancedness"), expected.worst_window, strict=True))
        assert policy["moves"] == expected.moves.tolist() and policy["num_over_budget"] == expected.num_over_budget
        assert policy["last_plan_hash"] == expected.placement.hash
        assert len(policy["planning_seconds"]) == 5 and policy["steps"] is None


def test_json_holds_what_was_asked(invoke, loads_file):
    """The trace, the machine and every option."""
    args = ("--max-moves-share", 0.5, "--max-moves-per-rank", 2, "--seed", 3, "--effort", "fast", "--split", "even")
    found = replayed_json(invoke, loads_file, *SMALL, *FEW, *args)
    assert (found["file"], found["model"], found["layer_ids"]) == (str(loads_file), "model", [4, 9])
    assert (found["windows_scored"], found["num_slots"], found["max_moves"]) == (4, 24, 12)
    options = {"history": 24, "interval": 1, "first": 8, "max_moves_share": 0.5, "max_moves_per_rank": 2, "seed": 3}
    assert options.items() <= found["options"].items() and found["options"]["num_ranks"] == 4


def test_two_runs_agree(invoke, loads_file):
    """Times aside."""

    def without_times(found):
        for policy in found["policies"].values():
            for name in [name for name in policy if name.endswith("planning_seconds")]:
                assert np.min(policy.pop(name)) >= 0
        return found

    one, other = (without_times(replayed_json(invoke, loads_file, *SMALL, *FEW, "--first", 2)) for _ in range(2))
    assert one == other


def test_loads_of_zero_are_balanced(invoke, tmp_path):
    """No division by nothing."""
    np.save(tmp_path / "a.npy", np.zeros((3, 1, 4)))
    args = (tmp_path / "a.npy", "--ranks", 2, "--slots-per-rank", 2, "--first", 1, *FEW)
    assert replayed_json(invoke, *args)["policies"]["static"]["balancedness"] == [1, 1]
    assert invoke("replay", *args).exit_code == 0


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_is_scored(invoke, loads_file, trace, split):
    """As the library scores it, and told with each policy."""
    found = replayed_json(invoke, loads_file, *SMALL, "--split", split)
    assert found["options"]["split"] == split
    for expected in replays(trace, *POLICIES, split=split):
        policy = found["policies"][expected.policy]
        assert (policy["split"], policy["balancedness"]) == (split, expected.balancedness.tolist())


# ---- where loads come from


def test_a_store_is_opened_and_not_loaded(invoke, trace, tmp_path, monkeypatch):
    """A `.zarr` folder gives what the same trace in a file gives."""
    eplb.TraceStore.from_trace(tmp_path / "a.zarr", trace)
    trace.save(tmp_path / "a.npz")
    from_file = replayed_json(invoke, tmp_path / "a.npz", *SMALL, *FEW)
    monkeypatch.setattr("eplb.cli.replay_source.read_loads", lambda file: pytest.fail("loaded whole"))
    found = replayed_json(invoke, tmp_path / "a.zarr", *SMALL, *FEW)
    assert found["policies"]["static"]["balancedness"] == from_file["policies"]["static"]["balancedness"]
    assert found["model"] == "model"


def test_tokens_are_put_into_steps(invoke, tokens_file):
    """Each window is a sum of steps, and both are scored."""
    args = (tokens_file, *SMALL, *FEW, "--batch-size", 4, "--steps-per-window", 3, "--order", "random", "--seed", 5)
    found = replayed_json(invoke, *args)
    steps = eplb.TokenStream.load(tokens_file).decode_steps(4, order="random", seed=5)
    (expected,) = replays(steps.windows(3), "contiguous", steps=steps.part(0, 48))
    policy = found["policies"]["contiguous"]
    assert policy["balancedness"] == expected.balancedness.tolist()
    assert policy["steps"]["balancedness"] == expected.step_balancedness.tolist()
    assert found["steps_per_window"] == 3
    header = next(line for line in invoke("replay", *args).stdout.splitlines() if line.startswith("policy"))
    assert header.split()[1:4] == ["windows", "window", "steps"]


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("even", "even: an expert's replicas share its tokens alike"),
        ("weighted", "weighted: the best shares for each window and step"),
        ("weighted-lagged", "weighted-lagged: the shares that were best for the window before"),
    ],
)
def test_steps_are_scored_under_the_split(invoke, tokens_file, split, says):
    """With a word on which it is."""
    args = (tokens_file, *SMALL, "--policy", "deepseek", "--batch-size", 4, "--steps-per-window", 3, "--split", split)
    steps = eplb.TokenStream.load(tokens_file).decode_steps(4).part(0, 48)
    (expected,) = replays(steps.windows(3), "deepseek", steps=steps, split=split)
    found = replayed_json(invoke, *args)["policies"]["deepseek"]
    assert found["steps"]["balancedness"] == expected.step_balancedness.tolist()
    assert f"split {says} " in " ".join(invoke("replay", *args).stdout.split())


def test_a_window_is_32_steps(tokens_file):
    """Unless said otherwise; steps that fill no window are left out."""
    source = read_source(tokens_file, Batching(batch_size=4, steps_per_window=None, order=None, seed=0))
    assert (source.trace.num_windows, source.steps.num_windows) == (1, 32)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "holds single tokens; --batch-size N"),
        (("--batch-size", 0), "batch_size"),
        (("--batch-size", 21), "batch_size"),
        (("--batch-size", 4, "--steps-per-window", 0), "--steps-per-window: expected an integer >= 1, got 0"),
        (("--batch-size", 4, "--steps-per-window", 99), "50 steps fill no window of 99"),
        (("--batch-size", 4, "--order", "sorted"), "--order: expected given or random, got 'sorted'"),
    ],
)
def test_tokens_without_a_sensible_batch_are_refused(invoke, tokens_file, args, says):
    """The message names the option."""
    assert says in refused(invoke, tokens_file, *SMALL, *args)


@pytest.mark.parametrize("args", [("--batch-size", 4), ("--steps-per-window", 3), ("--order", "random")])
def test_windows_are_not_batched_again(invoke, loads_file, args):
    """An option that would do nothing is refused."""
    assert f"{args[0]}: {loads_file} holds windows already" in refused(invoke, loads_file, *SMALL, *args)


# ---- which policies


def test_deepseek_is_left_out_of_uneven_machines(invoke, loads_file):
    """With a word on why, unless it was asked for."""
    args = (loads_file, "--ranks", 4, "--slots-per-rank", "3,3,4,4")
    found = replayed_json(invoke, *args)
    assert list(found["policies"]) == ["contiguous", "static", "eplb", "oracle"]
    assert found["notes"] == ["deepseek is left out: ranks have different numbers of slots"]
    assert "deepseek is left out" in invoke("replay", *args).stdout
    assert "--policy deepseek: cannot plan where ranks" in refused(invoke, *args, "--policy", "deepseek")


def test_a_function_in_a_file_takes_part(invoke, loads_file, tmp_path):
    """Beside the policies that come with the package."""
    (tmp_path / "peer.py").write_text("from eplb import rebalance_experts as plan")
    found = replayed_json(
        invoke, loads_file, *SMALL, "--policy", "deepseek", "--policy", f"mine={tmp_path}/peer.py:plan"
    )
    assert list(found["policies"]) == ["deepseek", "mine"]


def test_each_forecast_is_a_row(invoke, loads_file):
    """So that forecasts are compared; without one there is a single row."""
    names = ["contiguous", "static", "deepseek", "eplb (last)", "eplb (drift)", "oracle"]
    found = replayed_json(invoke, loads_file, *SMALL, "--forecast", "last", "--forecast", "drift")
    assert list(found["policies"]) == names and found["options"]["forecasts"] == ["last", "drift"]
    assert list(replayed_json(invoke, loads_file, *SMALL)["policies"]) == [*names[:3], "eplb", "oracle"]


@pytest.mark.parametrize(
    ("split", "planned"), [("even", "even"), ("weighted", "weighted"), ("weighted-lagged", "even")]
)
def test_policies_plan_for_weights_where_weights_are_scored(invoke, loads_file, monkeypatch, split, planned):
    """Of this very window; for those of a window before, they plan as for even shares, which does better."""
    asked = {}
    monkeypatch.setattr("eplb.cli.replay_policies.policy_named", lambda name, **more: asked.update(more) or FIXED)
    replayed_json(invoke, loads_file, *SMALL, "--policy", "eplb", "--effort", "fast", "--split", split)
    assert asked == {"groups": 1, "effort": "fast", "seed": 0, "split": planned}


def test_each_forecast_plans_for_the_split():
    """As the policy does that they are made from."""
    topology = eplb.Topology(num_ranks=4, slots_per_rank=3)
    policies, _ = policies_from(["eplb"], ["last", "drift"], topology, split="weighted")
    assert [policy.split for policy in policies] == ["weighted", "weighted"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--policy", "none"), "expected one of contiguous"),
        (("--policy", "static", "--policy", "static"), "'static' comes twice"),
        (("--policy", "mine=missing.py:plan"), "missing.py"),
        ((*FEW, "--forecast", "last"), "--forecast: only the policy eplb forecasts"),
        (("--forecast", "last", "--forecast", "last"), "'eplb (last)' comes twice"),
        (("--forecast", "none"), "forecast: expected one of last, mean"),
        ((*FEW, "--history", 0), "history"),
        ((*FEW, "--interval", 0), "interval"),
        ((*FEW, "--first", 12), "first: expected an integer of 1 to 11 of a trace of 12 windows, got 12"),
        ((*FEW, "--max-moves-share", 2), "max_moves_share"),
        ((*FEW, "--max-moves-per-rank", -1), "max_moves_per_rank"),
        ((*FEW, "--split", "lagged"), "--split: expected even, weighted or weighted-lagged, got 'lagged'"),
        ((*FEW, "--failed-ranks", "0,1"), "8 experts do not fit 6 usable slots"),
        ((*FEW, "--seed", -1), "seed"),
    ],
)
def test_refuses_before_anything_is_printed(invoke, loads_file, args, says):
    """A named error that says what came."""
    assert says in refused(invoke, loads_file, *SMALL, *args)


def test_a_missing_file_is_named(invoke, tmp_path):
    """As a file and as a folder."""
    for name in ("a.npz", "a.zarr"):
        assert name in refused(invoke, tmp_path / name, *SMALL, *FEW)


# ---- what is printed


def test_prints_what_a_person_wants_to_know(invoke, loads_file):
    """Loads, machine, what was replayed, the table, the best and its gain, what to do next."""
    result = invoke("replay", loads_file, *SMALL, *FEW, "--policy", "oracle", "--interval", 2)
    text = " ".join(result.stdout.split())
    for part in (
        "12 windows x 2 layers x 8 experts",
        "window a second",
        "4 ranks x 3 slots on 1 node; 4 redundant experts a layer",
        "windows 8 to 11, replanned every 2 windows from the last 24",
        "a replan may move at most 2 experts, of 24 slots over all layers",
        "split even: an expert's replicas share its tokens alike",
        "best static: 0.",
        "over contiguous; oracle 0.",
        "--policy eplb shows",
    ):
        assert part in text, part
    names = ("contiguous ", "static ", "oracle ")
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith(names)]
    assert [(row[0], len(row)) for row in rows] == [("contiguous", 8), ("static", 8), ("oracle", 8)]


def test_eighty_columns_are_enough(invoke, loads_file):
    """No cell of the table is cut."""
    text = invoke("replay", loads_file, *SMALL, *FEW, "--policy", "deepseek").stdout
    assert "…" not in text and all(len(line.rstrip()) <= 80 for line in text.splitlines())


def test_who_moves_too_much_is_not_the_best(trace):
    """Unless everyone does; each is told of."""
    many = replays(trace, "static", "deepseek", max_moves_share=0)
    rows = outcome_facts(many, ["left out"])
    assert rows[0][1].startswith("static: ")
    assert rows[1:] == [
        ("over budget", "deepseek: 3 of 3 replans moved more than allowed"),
        ("note", "left out"),
    ]
    assert outcome_facts(many[1:], [])[0][1].startswith("deepseek: ")
    assert outcome_facts(replays(trace, "oracle"), []) == []


def test_the_next_step_fits_the_outcome(trace):
    """Balanced loads need nothing; a policy that is missing is named first."""
    even = eplb.LoadTrace(loads=np.ones((12, 1, 12)))
    assert "little to gain" in next_step(replays(even, "contiguous", "static"), [])
    assert "--policy eplb" in next_step(replays(trace, "contiguous", "static"), [])
    assert "--policy eplb" in next_step(replays(trace, "oracle"), [])
    ours = replays(trace, "contiguous", "eplb")
    assert "--split weighted" in next_step(ours, [])
    weighted = replays(trace, "contiguous", "eplb", split="weighted")
    assert "--forecast last" in next_step(weighted, [])
    assert "--interval 4" in next_step(weighted, ["last"])
    assert "--max-moves-share 1" in next_step(replays(trace, "eplb", interval=2, split="weighted"), ["last"])
    assert "one plan does best" in next_step(replays(trace, "static", "eplb", max_moves_share=0), [])


def test_no_split_is_named_without_redundant_experts(trace):
    """There is nothing to split."""
    topology = eplb.Topology(num_ranks=4, slots_per_rank=2)
    assert "--interval 4" in next_step([replay(trace, topology, policy_named("eplb"))], ["last"])


def test_foresight_is_not_named_where_it_has_nothing_to_gain():
    """Loads that hardly change are split as if they were known."""
    steady = eplb.LoadTrace(loads=np.tile(np.arange(1, 9), (12, 1, 1)))
    assert "--interval 4" in next_step(replays(steady, "contiguous", "eplb", split="weighted"), [])


def test_who_moves_too_much_shows_that_there_is_something_to_gain(trace):
    """Only that it was not gained within the budget."""
    assert "--policy eplb" in next_step(replays(trace, "contiguous", "deepseek", max_moves_share=0), [])


def test_help_tells_of_every_policy(invoke):
    """And how a function is named."""
    text = invoke("replay", "--help").stdout
    names = ("contiguous", "static", "deepseek", "eplb", "oracle", "file.py:function", "weighted-lagged")
    assert all(name in text for name in names)


def test_a_short_trace_is_scored_from_its_middle(invoke, tmp_path, trace):
    """Where the default would leave nothing to score."""
    trace.part(0, 5).save(tmp_path / "short.npz")
    assert replayed_json(invoke, tmp_path / "short.npz", *SMALL, *FEW)["options"]["first"] == 2
