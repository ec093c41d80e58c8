"""The benchmark of replica choice, on a tiny shape."""

import json

import pytest
import torch

WAYS = ("even", "weighted", "local-first", "exact split of the batch")


@pytest.fixture
def results(imported, tmp_path, capsys):
    """Return the rows and the tables of one round of a few tokens."""
    out = tmp_path / "out.md"
    threads = torch.get_num_threads()
    try:
        imported("routing").main(["--shape", "tiny", "--tokens", "16", "--rounds", "1", "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
    return json.loads(out.with_suffix(".json").read_text())["rows"], capsys.readouterr().out


def test_every_way_is_timed_beside_the_gather(results):
    """As numpy and as torch, for both dtypes, with the ratio to the gather of the same kind."""
    rows, text = results
    times = {(row["library"], row["dtype"], row["what"]): row for row in rows if row["kind"] == "time"}
    for library in ("numpy", "torch cpu"):
        for dtype in ("int32", "int64"):
            gather = times[library, dtype, "table[topk_ids]"]["median_us"]
            for way in WAYS:
                row = times[library, dtype, way]
                assert row["ratio"] == pytest.approx(row["median_us"] / gather)
    assert "|  | numpy int64 | torch cpu int64 | numpy int32 | torch cpu int32 |" in text


def test_balance_and_distance_are_shares(results):
    """Tokens on the rank are on the node too, and of whole tokens nothing balances better than the exact split."""
    rows, text = results
    scores = [row for row in rows if row["kind"] == "balance"]
    for num_tokens in (128, 8):
        by_way = {row["what"]: row for row in scores if row["tokens"] == num_tokens}
        assert len(by_way) == 6
        assert all(0 <= row["on_rank"] <= row["on_node"] <= 1 for row in by_way.values())
        best = by_way["exact split of the batch, local-first"]["largest_over_mean"]
        assert 1 <= best == min(row["largest_over_mean"] for row in by_way.values())
    assert "| way | tokens a rank | largest / mean | on their rank | on their node |" in text
