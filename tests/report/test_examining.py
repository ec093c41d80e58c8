"""What is found in a trace is what replays and plans say, window by window."""

import numpy as np
import pytest

import eplb
from eplb.errors import InfeasibleError, LoadsError, OptionError
from eplb.replay import EplbPolicy, StaticPolicy, policy_named, replay
from eplb.report import Settings, examine
from tests.report.conftest import TOPOLOGY

FIRST = 8


def test_policies_score_as_they_replay(trace, found):
    """The report adds nothing to what `eplb replay` says."""
    for name in ("static", "eplb", "oracle"):
        alone = replay(trace, TOPOLOGY, policy_named(name))
        assert found.named(name).balancedness.tolist() == alone.balancedness.tolist()
        assert found.named(name).moves.sum() == alone.moves.sum()
        assert found.named(name).detail.replicas.tolist() == alone.placement.replica_counts.tolist()


def test_no_policy_exceeds_the_bound(found):
    """In no window, and in no layer."""
    for policy in found.policies:
        assert (policy.balancedness <= found.trace.bound + 1e-9).all()
        assert (policy.balancedness_per_layer <= found.trace.bound_per_layer + 1e-9).all()


def test_the_bound_is_that_of_the_plan_of_each_window(trace, found):
    """It is proven for the very loads."""
    for t in range(FIRST, trace.num_windows):
        certificate = eplb.plan(trace.loads[t], TOPOLOGY).certificate
        assert found.trace.bound[t - FIRST] == pytest.approx(certificate.best_balancedness, rel=1e-6)


def test_shown_rank_loads_are_those_of_single_windows(trace, found):
    """The experts in order, evaluated by hand, in the window that stands for a bin."""
    detail, placement = found.named("contiguous").detail, replay(trace, TOPOLOGY, policy_named("contiguous")).placement
    for index, window in enumerate(found.bins.shown()):
        evaluation = eplb.evaluate(placement, trace.loads[window])
        expected = evaluation.rank_loads[0] / evaluation.mean_loads[0][:, None]
        assert detail.rank_loads[index] == pytest.approx(expected)


def test_moves_by_layer_and_by_rank_are_the_same_moves(found):
    """In each bin of windows."""
    for policy in found.policies:
        assert policy.detail.moves_by_layer.sum(axis=1).tolist() == policy.moves.tolist()
        assert policy.detail.moves_by_rank.sum(axis=1).tolist() == policy.moves.tolist()


def test_shares_and_change_are_those_of_the_windows(trace, found):
    """Shares of experts, and the total variation between neighbours."""
    shares = trace.loads[FIRST:] / trace.loads[FIRST:].sum(axis=2, keepdims=True)
    assert found.trace.shares == pytest.approx(shares.mean(axis=0))
    assert found.trace.change == pytest.approx(np.abs(np.diff(shares, axis=0)).sum(axis=2).mean(axis=0) / 2)


def test_the_frontier_holds_every_policy_and_budget(found):
    """The first planner of eplb within one budget more."""
    points = [(point.policy, point.budget) for point in found.frontier]
    assert points == [
        *[("contiguous", None), ("static", None), ("deepseek", None), ("eplb", 0.1), ("oracle", None), ("eplb", 0.5)]
    ]


def test_the_baseline_is_added(trace):
    """There is always a before."""
    assert [p.name for p in examine(trace, TOPOLOGY, [StaticPolicy()]).policies] == ["contiguous", "static"]


def test_a_store_gives_what_the_trace_gives(trace, tmp_path):
    """It is read a few windows at a time."""
    store = eplb.TraceStore.from_trace(tmp_path / "a.zarr", trace)
    whole, parts = (examine(t, TOPOLOGY, [EplbPolicy()], Settings(budgets=())) for t in (trace, store))
    assert parts.best.balancedness.tolist() == whole.best.balancedness.tolist()
    assert parts.best.detail.rank_loads.tobytes() == whole.best.detail.rank_loads.tobytes()
    assert parts.model == whole.model


def test_one_window_is_planned_and_scored_on_itself(trace, policies):
    """And the report says so."""
    found = examine(trace.part(3, 4), TOPOLOGY, policies)
    assert [policy.name for policy in found.policies] == ["contiguous", "eplb"]
    assert found.best.mean_balancedness == pytest.approx(eplb.plan(trace.loads[3], TOPOLOGY).certificate.balancedness)
    assert not found.replayed and "very loads" in found.notes[-1]


@pytest.mark.parametrize("split", ["weighted", "weighted-lagged"])
def test_other_splits_stay_below_their_bound(trace, split):
    """Lagged shares are none better than the best ones."""
    found = examine(trace, TOPOLOGY, [policy_named("static", split="weighted")], Settings(split=split))
    assert all((policy.balancedness <= found.trace.bound + 1e-9).all() for policy in found.policies)


def test_failed_ranks_have_no_load(trace):
    """Neither 0 nor anything else."""
    topology = eplb.Topology(num_ranks=4, slots_per_rank=3, failed_ranks=[1])
    detail = examine(trace, topology, [StaticPolicy()]).best.detail
    assert np.isnan(detail.rank_loads[:, :, 1]).all() and np.isfinite(detail.rank_loads[:, :, 0]).all()


def test_progress_runs_over_all_replays(trace):
    """From one to the last window of the last replay."""
    told = []
    examine(trace, TOPOLOGY, [EplbPolicy()], Settings(budgets=[0.5]), progress=lambda *now: told.append(now))
    assert [done for _, done, _ in told] == list(range(1, 33))
    assert {total for _, _, total in told} == {32}
    replays = ["contiguous", "eplb", "eplb within 50% of the slots", "slots filled evenly"]
    assert [what for what, _, _ in told][::8] == replays


def test_bad_input_is_named(trace, policies):
    """Before anything is replayed."""
    for settings, text in (
        ({"budgets": [2]}, "budgets"),
        ({"expert_bytes": 0}, "expert_bytes"),
        ({"split": 1}, "split"),
    ):
        with pytest.raises(OptionError, match=text):
            Settings(**settings)
    with pytest.raises(LoadsError, match="trace"):
        examine(trace.loads, TOPOLOGY, policies)
    with pytest.raises(InfeasibleError, match="do not fit"):
        examine(trace, eplb.Topology(num_ranks=1, slots_per_rank=3), policies)
