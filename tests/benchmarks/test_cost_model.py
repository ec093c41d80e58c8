"""The benchmark of the cost model, on tiny experts."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "expert_parallel")


@pytest.fixture
def script(imported):
    """The script; torch keeps its threads, and the example's modules are forgotten."""
    threads, before = torch.get_num_threads(), set(sys.modules)
    yield imported("cost_model")
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(EXAMPLE):
            sys.modules.pop(name)


@pytest.fixture
def cases(script):
    """Two batches, each under every placement."""
    sizes = script.Sizes(num_layers=1, width=8, hidden_width=16)
    return script.cases((4, 24), sizes, script.whole_model(sizes, seed=0), seed=0)


def test_twenty_layers_that_were_not_fitted_are_predicted(script, tmp_path, capsys):
    """Beside those that were; no batch is in both."""
    out = tmp_path / "out.md"
    script.main(["--width", "8", "--hidden-width", "16", "--rounds", "1", "--out", str(out)])
    content = json.loads(out.with_suffix(".json").read_text())
    rows = {kind: [row for row in content["rows"] if row["kind"] == kind] for kind in ("fitted", "unseen")}
    assert len(rows["unseen"]) == 20 and len(rows["fitted"]) == 16
    assert not {row["tokens"] for row in rows["unseen"]} & {row["tokens"] for row in rows["fitted"]}
    assert all(row["measured_us"] > 0 and row["predicted_us"] > 0 for row in content["rows"])
    assert -1 <= content["machine"]["rank_correlation"] <= 1
    assert "On 20 layers that were not fitted: rank correlation" in capsys.readouterr().out


def test_every_token_reaches_its_experts(cases):
    """The slots of each case hold four tokens for each token of the batch, and the rows of a rank are those."""
    for served in cases:
        assert served.slot_tokens.sum() == 4 * served.num_tokens
        assert served.slot_tokens.shape == (4, served.slots_per_rank)
        assert [len(rows) for rows in served.rows] == served.slot_tokens.sum(axis=1).tolist()


def test_the_placement_changes_who_computes_and_not_what(script, cases):
    """All outputs of a batch add up to the same under every placement."""
    sums = []
    for served in cases[:4]:
        ranks = zip(served.weights, served.rows, served.slot_tokens.tolist(), strict=True)
        sums.append(sum(script.compute(*rank).double().sum(0) for rank in ranks))
    assert [served.placement for served in cases[:4]] == list(script.PLACEMENTS)
    assert all(torch.allclose(found, sums[0], atol=1e-4) for found in sums)


def test_the_rank_correlation_is_spearmans(script):
    """Equals share their rank; order is all that counts."""
    values = np.array([3.0, 1.0, 2.0, 2.0])
    assert script.rank_correlation(values, np.exp(values)) == pytest.approx(1)
    assert script.rank_correlation(values, -values) == pytest.approx(-1)
    assert script.rank_correlation(values, np.ones(4)) == 0
    assert script.rank_correlation(np.arange(4.0), np.array([1.0, 0.0, 3.0, 2.0])) == pytest.approx(0.6)
