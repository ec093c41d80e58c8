"""The benchmark of recording, a block of each kind."""

import json

import pytest

pytest.importorskip("transformers")
import torch

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


def test_every_shape_is_measured_in_turns(imported, tmp_path):
    """With a ratio for each."""
    out, threads = tmp_path / "out.md", torch.get_num_threads()
    try:
        imported("recording").main(["--rounds", "1", "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["what"].split(",")[0] for row in rows] == ["prefill", "decode", "decode"]
    assert all(row["ratio"] > 0 for row in rows)
    assert "| a forward | plain ms | recorded ms | ratio | added us |" in out.read_text()
