"""The benchmark of the cost model, on tiny experts."""

import json

import numpy as np
import pytest
import torch


@pytest.fixture
def script(imported):
    """The script; torch keeps its threads."""
    threads = torch.get_num_threads()
    yield imported("cost_model")
    torch.set_num_threads(threads)


def test_twenty_layers_that_were_not_fitted_are_predicted(script, tmp_path, capsys):
    """Beside those that were; no case is in both."""
    out = tmp_path / "out.md"
    script.main(["--hidden", "8", "--size", "16", "--rounds", "1", "--out", str(out)])
    content = json.loads(out.with_suffix(".json").read_text())
    rows = {kind: [row for row in content["rows"] if row["kind"] == kind] for kind in ("fitted", "unseen")}
    assert len(rows["unseen"]) == 20 and len(rows["fitted"]) == 16
    assert not {row["tokens"] for row in rows["unseen"]} & {row["tokens"] for row in rows["fitted"]}
    assert all(row["measured_us"] > 0 and row["predicted_us"] > 0 for row in content["rows"])
    assert -1 <= content["machine"]["rank_correlation"] <= 1
    assert "On 20 layers that were not fitted: rank correlation" in capsys.readouterr().out


def test_every_token_reaches_its_experts(script):
    """The slots of each case hold four tokens for each token of the batch, whole ones."""
    for case in script.cases((8, 96), seed=0):
        assert case.slot_tokens.sum() == 4 * case.num_tokens and case.slot_tokens.min() >= 0
        assert case.slot_tokens.size == 4 * case.slots_per_rank


def test_the_rank_correlation_is_spearmans(script):
    """Equals share their rank; order is all that counts."""
    values = np.array([3.0, 1.0, 2.0, 2.0])
    assert script.rank_correlation(values, np.exp(values)) == pytest.approx(1)
    assert script.rank_correlation(values, -values) == pytest.approx(-1)
    assert script.rank_correlation(values, np.ones(4)) == 0
    assert script.rank_correlation(np.arange(4.0), np.array([1.0, 0.0, 3.0, 2.0])) == pytest.approx(0.6)
