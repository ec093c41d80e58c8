"""What the weighted split is worth, on a trace of a few windows and a short stream of tokens."""

import json

import numpy as np
import pytest

from eplb import LoadTrace, Topology
from eplb.replay import EplbPolicy, replay

STREAM = "gptoss20b_tokens_dev.npz"
OURS = [("even", split) for split in ("even", "weighted", "weighted-lagged")]
OURS += [("weighted", split) for split in ("weighted", "weighted-lagged")]


@pytest.fixture
def folder(tmp_path):
    """Return a folder with nine windows of 2 layers x 8 experts, and 64 requests of 290 tokens."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mixtral_olmoe.npz", loads=rng.integers(1, 100, (9, 2, 8)))
    ids = (rng.random((64 * 290, 2, 8)) * np.arange(1, 9)).argsort(axis=2)[:, :, :2]
    np.savez(tmp_path / STREAM, ids=ids, lengths=np.full(64, 290))
    return tmp_path


@pytest.fixture
def results(imported, folder, capsys):
    """Return the rows of a run and what was printed."""
    out = folder / "out.md"
    what = ["--traces", str(folder), "--only", "mixtral", "--machines", "8 x 5", "--streams", STREAM, "none.npz"]
    imported("splits").main([*what, "--threads", "1", "--out", str(out)])
    return json.loads(out.with_suffix(".json").read_text())["rows"], capsys.readouterr()


def test_every_plan_is_scored_by_its_splits(results):
    """Ours within each budget; the others know none."""
    rows = [row for row in results[0] if row["kind"] == "windows"]
    found = [(row["policy"], row["budget"], row["planned"], row["scored"]) for row in rows]
    ours = [("eplb", budget, *splits) for budget in ("2%", "10%", "no limit") for splits in OURS]
    deepseek = [("deepseek", "knows none", "even", split) for split in ("even", "weighted")]
    assert found == [*deepseek, *ours, *[("oracle", "knows none", split, split) for split in ("even", "weighted")]]


def test_the_best_weights_are_never_worse_than_even_shares(results):
    """On the same placement, which is planned once: what is moved and how long it took are the same."""
    rows = [row for row in results[0] if row["kind"] == "windows" and row["planned"] == "even"]
    for policy in ("deepseek", "eplb"):
        for budget in ("knows none", "2%", "10%", "no limit"):
            own = {row["scored"]: row for row in rows if (row["policy"], row["budget"]) == (policy, budget)}
            if own:
                assert own["weighted"]["balancedness"] >= own["even"]["balancedness"]
                assert own["weighted"]["moved_share"] == own["even"]["moved_share"]
                assert own["weighted"]["median_ms"] == own["even"]["median_ms"]


def test_gone_is_measured_by_the_even_plan_of_the_same_budget(results):
    """Which itself has none of its imbalance gone."""
    rows = [row for row in results[0] if row["kind"] == "windows" and row["budget"] == "10%"]
    even = next(row for row in rows if (row["planned"], row["scored"]) == ("even", "even"))
    assert even["gone"] == 0
    for row in rows:
        assert 1 - row["balancedness"] == pytest.approx((1 - row["gone"]) * (1 - even["balancedness"]))


def test_decode_steps_are_split_one_by_one_with_whole_tokens(results):
    """No better than with tokens that may be shared, as even shares may, and no better than the bound."""
    steps = [row for row in results[0] if row["kind"] == "steps"]
    assert [(row["order"], row["batch"], row["num_steps"]) for row in steps] == [("random", 64, 32), ("given", 64, 32)]
    for row in steps:
        for planned in ("even", "weighted"):
            even, whole, shared = (row[f"{planned}, {split}"] for split in ("even", "whole", "shared"))
            assert max(even, whole) <= shared <= 1
            assert whole <= row["bound"] <= 1
        assert row["weighted, whole"] <= row["known"] <= row["bound"]


def test_what_is_skipped_is_said(results):
    """Streams that are not there, and batches that leave too few windows."""
    err = results[1].err
    assert "skipped none.npz" in err
    assert "skipped gptoss20b_tokens_dev, given, 1024 tokens: too few steps" in err


def test_the_tables_have_the_columns(results):
    """A summary and a trace for the machine, and the steps."""
    out = results[1].out
    header = "| policy | budget | planned for | split | balancedness | imbalance gone | moved | planning ms |"
    assert out.count(header) == 2
    assert (
        "| tokens | arrivals | machine | batch | steps | even / even | even / weighted | weighted / weighted |" in out
    )
    assert "| mixtral | mixtral_olmoe.npz | 9 | 7 | 2 | 8 | 8 x 5 |" in out


def test_whole_tokens_bound_a_step(imported):
    """Five tokens on two ranks: one gets three."""
    assert imported("split_steps").whole_bound(np.array([[[[3, 2]]], [[[2, 2]]]]), 2) == pytest.approx((5 / 6 + 1) / 2)


def test_gone_is_a_share_of_the_imbalance(imported):
    """Of none, nothing is gone."""
    gone = imported("split_machines").gone
    assert [gone(0.9, 0.8), gone(1.0, 0.8), gone(0.8, 0.8), gone(0.7, 0.8), gone(1.0, 1.0)] == pytest.approx(
        [0.5, 1.0, 0.0, -0.5, 0.0]
    )


def test_a_remembered_policy_plans_once(imported):
    """Later replays get the same placements, and so the same moves."""
    trace = LoadTrace(loads=np.random.default_rng(0).integers(1, 100, (6, 2, 8)))
    topology, policy = Topology(num_ranks=4, slots_per_rank=3), imported("remembered").Remembered(EplbPolicy())
    first = replay(trace, topology, policy, first=3)
    again = replay(trace, topology, policy.again(), first=3, split="weighted")
    assert len(policy.placements) == 3
    assert again.placement is first.placement
    assert again.moves.tolist() == first.moves.tolist() == replay(trace, topology, EplbPolicy(), first=3).moves.tolist()
