"""`eplb plan` in this process: what it prints, writes and refuses."""

import json

import numpy as np
import pytest

import eplb
from eplb.cli.plan import EffortName, hints
from eplb.cli.summary import balancedness_by_window, summarize
from eplb.planning.effort import EFFORTS

SMALL = ("--ranks", 4, "--slots-per-rank", 3)


def balancedness(rank_loads):
    """Sum over layers of mean, over sum over layers of largest rank load [L, R]."""
    return rank_loads.mean(axis=1).sum() / rank_loads.max(axis=1).sum()


def planned_json(invoke, *args):
    """Return the object that `eplb plan --json` prints."""
    result = invoke("plan", *args, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_tells_balancedness_before_and_after(invoke, loads_file, trace):
    """What was before is summed by hand over the windows, for the tokens expected; what is after is the plan's own."""
    found = planned_json(invoke, loads_file, *SMALL)
    before = trace.loads.reshape(3, 2, 4, 2).sum(axis=3)
    expected = np.array(found["per_layer"]["mean_load"])
    largest = expected * before.max(axis=2).sum(axis=0) / before.mean(axis=2).sum(axis=0)
    assert found["largest_load_before"] == pytest.approx(largest.sum())
    assert found["balancedness_before"] == pytest.approx(expected.sum() / largest.sum())
    plan = eplb.plan(trace, eplb.Topology(num_ranks=4, slots_per_rank=3))
    assert found["balancedness"] == plan.certificate.balancedness
    assert found["plan_hash"] == plan.placement.hash


def test_nothing_changes_on_one_rank(invoke, loads_file):
    """Before and after are told for the same tokens."""
    found = planned_json(invoke, loads_file, "--ranks", "1", "--slots-per-rank", "8")
    assert found["largest_load_before"] == pytest.approx(found["largest_load"], rel=1e-12)


def test_json_holds_the_certificate(invoke, loads_file):
    """The sums over layers are those of the layers, and the gap is that of the sums."""
    found = planned_json(invoke, loads_file, *SMALL)
    layers = found["per_layer"]
    assert found["gap"] == pytest.approx(found["largest_load"] / found["lower_bound"] - 1)
    assert found["largest_load"] == pytest.approx(sum(layers["largest_load"]))
    assert layers["layer_ids"] == [4, 9]
    assert found["best_balancedness"] >= found["balancedness"] > found["balancedness_before"]
    assert found["options"]["slots_per_rank"] == 3 and found["placement"] is None and found["ungrouped"] is None


def test_json_holds_every_window(invoke, loads_file, trace):
    """Each window is judged by itself, which looks worse than the mean."""
    found = planned_json(invoke, loads_file, *SMALL)["windows"]
    before = [balancedness(window.reshape(2, 4, 2).sum(axis=2)) for window in trace.loads]
    assert found["balancedness_before"] == pytest.approx(before)
    assert len(found["balancedness"]) == 3


def test_with_groups_tells_the_plan_without(invoke, loads_file):
    """Groups can only cost balance, and how much is told."""
    args = (loads_file, *SMALL, "--nodes", 2, "--groups", 4)
    found = planned_json(invoke, *args)
    assert found["ungrouped"]["lower_bound"] <= found["lower_bound"]
    assert "without groups" in invoke("plan", *args).stdout


@pytest.mark.parametrize("name", ["placement.json", "placement.npz"])
def test_writes_the_placement(invoke, loads_file, tmp_path, name):
    """What is written is the plan that was told of, in place of an older placement."""
    out = tmp_path / name
    planned_json(invoke, loads_file, "--ranks", 2, "--slots-per-rank", 8, "--out", out)
    found = planned_json(invoke, loads_file, *SMALL, "--out", out)
    assert eplb.Placement.load(out).hash == found["plan_hash"]
    assert found["placement"] == str(out)


def test_other_files_are_not_replaced(invoke, loads_file, tmp_path):
    """A file that is no placement is somebody's work."""
    out = tmp_path / "notes.json"
    out.write_text("{}")
    result = invoke("plan", loads_file, *SMALL, "--out", out)
    assert "exists and is no placement" in str(result.exception)
    assert out.read_text() == "{}"


def test_reads_lists_of_slots_speeds_nodes_and_failures(invoke, loads_file):
    """Everything that a topology knows can be said."""
    args = ("--slots-per-rank", "3,3,4,4", "--nodes", "0,0,1,1", "--rank-speeds", "1,1,2,1.5", "--failed-ranks", "3")
    options = planned_json(invoke, loads_file, "--ranks", 4, *args)["options"]
    assert options["slots_per_rank"] == [3, 3, 4, 4] and options["num_nodes"] == 2
    assert options["rank_speeds"] == [1, 1, 2, 1.5] and options["failed_ranks"] == [3]


def test_prints_what_a_person_wants_to_know(invoke, loads_file):
    """Loads, machine, both numbers, bound, picture, worst layers, what to do next."""
    text = " ".join(invoke("plan", loads_file, *SMALL).stdout.split())
    for part in (
        "3 windows x 2 layers x 8 experts",
        "planned for the window after them",
        "4 ranks x 3 slots on 1 node; 4 redundant experts a layer",
        "expected in a window",
        "window by window, the worst",
        "lower bound",
        "gap",
        "least balanced layer",
        "before after",
        "--out placement.json",
    ):
        assert part in text


def test_prints_names_as_they_are(invoke, tmp_path):
    """Neither markup nor control characters of a model's name act on the terminal."""
    eplb.LoadTrace(loads=[[1, 2]], model="[/red]\x1b[31m[bold]").save(tmp_path / "a.npz")
    result = invoke("plan", tmp_path / "a.npz", "--ranks", 2, "--slots-per-rank", 1)
    assert result.exit_code == 0
    assert "[/red]?[31m[bold]" in result.stdout


def test_loads_of_zero_are_balanced(invoke, tmp_path):
    """No division by nothing, and JSON without NaN."""
    np.save(tmp_path / "a.npy", np.zeros((1, 4)))
    args = (tmp_path / "a.npy", "--ranks", 2, "--slots-per-rank", 2)
    assert planned_json(invoke, *args)["balancedness_before"] == 1
    assert invoke("plan", *args).exit_code == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--ranks", 4, "--slots-per-rank", 1), "do not fit"),
        (("--ranks", 4, "--slots-per-rank", "0"), "slots_per_rank"),
        (("--ranks", 4, "--slots-per-rank", "4,4,4,0"), "at rank 3"),
        (("--ranks", 4, "--slots-per-rank", "many"), "--slots-per-rank: expected an integer"),
        (("--ranks", 0, "--slots-per-rank", 3), "num_ranks"),
        (("--ranks", 2**20, "--slots-per-rank", 2000), "slots over all layers"),
        ((*SMALL, "--groups", 9), "groups"),
        ((*SMALL, "--groups", 3), "divisor"),
        ((*SMALL, "--groups", 0), "groups"),
        ((*SMALL, "--nodes", 5), "num_nodes"),
        ((*SMALL, "--rank-speeds", "1,1,1,nan"), "at rank 3"),
        ((*SMALL, "--rank-speeds", "fast"), "--rank-speeds"),
        ((*SMALL, "--failed-ranks", "4"), "failed_ranks"),
        ((*SMALL, "--seed", "-1"), "seed"),
        ((*SMALL, "--split", "odd"), "split: expected 'even' or 'weighted', got 'odd'"),
        ((*SMALL, "--split", "weighted-lagged"), "split: expected 'even' or 'weighted'"),
        ((*SMALL, "--out", "placement.txt"), ".json or .npz"),
        ((*SMALL, "--out", "no/such/folder/placement.json"), "no folder"),
    ],
)
def test_refuses_before_anything_is_written(invoke, loads_file, tmp_path, monkeypatch, args, says):
    """A named error that says what came, and no file."""
    monkeypatch.chdir(tmp_path)
    out = () if "--out" in args else ("--out", "placement.json")
    result = invoke("plan", loads_file, *args, *out)
    assert isinstance(result.exception, eplb.EplbError)
    assert says in str(result.exception)
    assert not result.stdout and list(tmp_path.iterdir()) == [loads_file]


def test_never_overwrites_the_loads(invoke, loads_file):
    """A slip of the hand must not cost the trace."""
    content = loads_file.read_bytes()
    result = invoke("plan", loads_file, *SMALL, "--out", loads_file)
    assert isinstance(result.exception, eplb.OptionError)
    assert loads_file.read_bytes() == content


def test_windows_beyond_float64_are_refused(trace):
    """The mean of windows may be finite where a window is not."""
    topology = eplb.Topology(num_ranks=2, slots_per_rank=1)
    huge = eplb.LoadTrace(loads=[[[1.2e308, 1.2e308]], [[0, 0]]])
    with pytest.raises(eplb.LoadsError, match="float64"):
        balancedness_by_window(eplb.plan(huge, topology).placement, huge)


def test_what_is_planned_for_weights_is_judged_by_them(trace):
    """Window by window and in the picture; with groups, both plans are for them."""
    topology, options = eplb.Topology(num_ranks=4, slots_per_rank=3, num_nodes=2), {"effort": "fast", "seed": 5}
    found = summarize(trace, topology, 4, *options.values(), "weighted")
    assert found.plan.placement == eplb.plan(trace, topology, groups=4, split="weighted", **options).placement
    assert found.ungrouped.placement == eplb.plan(trace, topology, split="weighted", **options).placement
    loads = eplb.evaluate(found.plan.placement, trace.loads.mean(axis=0), "weighted").rank_loads[0]
    np.testing.assert_array_equal(found.rank_loads, loads)


def test_the_split_is_told(invoke, loads_file, trace):
    """In JSON with every window under it, and in words unless it is the even one."""
    weighted = (loads_file, *SMALL, "--split", "weighted")
    found = planned_json(invoke, *weighted)
    placement = eplb.plan(trace, eplb.Topology(num_ranks=4, slots_per_rank=3), split="weighted").placement
    assert (found["options"]["split"], found["plan_hash"]) == ("weighted", placement.hash)
    assert found["windows"]["balancedness"] == eplb.evaluate(placement, trace, "weighted").balancedness.tolist()
    assert "weighted: the best shares for each window" in invoke("plan", *weighted).stdout
    assert planned_json(invoke, loads_file, *SMALL)["options"]["split"] == "even"
    assert "best shares" not in invoke("plan", loads_file, *SMALL).stdout


def test_windows_are_evaluated_in_parts(trace, monkeypatch):
    """Long traces are cut to spare memory, which changes nothing."""
    placement = eplb.plan(trace, eplb.Topology(num_ranks=4, slots_per_rank=3)).placement
    whole = balancedness_by_window(placement, trace)
    monkeypatch.setattr("eplb.cli.summary.LOADS_AT_ONCE", 1)
    np.testing.assert_array_equal(balancedness_by_window(placement, trace), whole)


def test_hints_fit_the_plan():
    """Balanced loads need no plan; a lone hot expert needs slots; a kept placement is shown how to read."""
    topology = eplb.Topology(num_ranks=2, slots_per_rank=2)
    even = summarize(eplb.LoadTrace(loads=[[1, 1, 1, 1]]), topology, 1, "fast", 0)
    hot = summarize(eplb.LoadTrace(loads=[[9, 1, 1, 1]]), eplb.Topology(num_ranks=4, slots_per_rank=1), 1, "fast", 0)
    assert "little to gain" in hints(even, "fast", None)[0]
    assert "more slots" in hints(hot, "fast", None)[0]


def test_efforts_are_those_of_the_library():
    """The command offers what the planner knows."""
    assert [effort.value for effort in EffortName] == list(EFFORTS)


@pytest.fixture
def in_force(invoke, loads_file, tmp_path):
    """Return the file of a placement planned for the loads."""
    file = tmp_path / "in_force.json"
    assert invoke("plan", loads_file, *SMALL, "--out", file).exit_code == 0
    return file


def test_moves_from_what_is_in_force(invoke, loads_file, in_force, tmp_path):
    """With other loads, only the moves that the budget allows are made, and told."""
    other = tmp_path / "other.npz"
    np.savez(other, loads=np.load(loads_file)["loads"][:, ::-1, ::-1], layer_ids=[4, 9])
    found = planned_json(invoke, other, *SMALL, "--previous", in_force, "--max-moves", 3)
    assert 0 < found["moves"] <= 3 and found["bound_ignores_budget"]
    assert found["largest_load"] < found["largest_load_if_nothing_moves"]
    shown = invoke("plan", other, *SMALL, "--previous", in_force, "--max-moves", 3).stdout
    assert "moves" in shown and "of 24 slots" in shown


def test_says_that_nothing_needs_to_move(invoke, loads_file, in_force):
    """The same loads again move nothing."""
    shown = invoke("plan", loads_file, *SMALL, "--previous", in_force).stdout
    assert "0 of 24 slots" in shown and "nothing needs to move" in shown


def test_restores_what_a_failed_rank_held(invoke, loads_file, in_force):
    """A rank that failed takes experts with it, which are placed again and listed."""
    found = planned_json(invoke, loads_file, *SMALL, "--failed-ranks", 1, "--previous", in_force)
    assert found["restored"] and {layer for layer, _ in found["restored"]} <= {4, 9}


def test_refuses_the_placement_of_another_model(invoke, in_force, tmp_path):
    """Layers and experts must be the same."""
    other = tmp_path / "other.npz"
    np.savez(other, loads=np.ones((2, 6)))
    result = invoke("plan", other, *SMALL, "--previous", in_force)
    assert result.exit_code != 0 and "another model" in str(result.exception)
