"""The commands that the pages of engines show run, on recordings of the size that they speak of."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import eplb
from eplb.cli.app import app
from eplb.engines import Hints, read, validate
from tests.engines.recordings import megatron_lines, sglang_statistics, tensorrt_llm_statistics

PAGES = Path(__file__).parents[2] / "docs" / "engines"
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page):
    """Return the `eplb` commands of the first block of a page, one a line."""
    block = SHELL.search((PAGES / f"{page}.md").read_text(encoding="utf-8"))[1]
    return [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("eplb ")]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the commands of a page in a folder, each of which must succeed."""
    monkeypatch.chdir(tmp_path)

    def run_all(page, count=4):
        found = commands(page)
        assert len(found) == count
        for arguments in found:
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, (arguments, result.exception, result.stdout)

    return run_all


def skewed(rng, shape):
    return (rng.pareto(2, shape) * 20).astype(np.int64)


def test_sglang(run, tmp_path, rng):
    """Ends in a location for all 61 layers that is valid."""
    pytest.importorskip("torch")
    counts = skewed(rng, (16, 61, 256)) + 1
    counts[:, :3] = 0
    sglang_statistics(tmp_path / "recorded" / "expert_distribution_recorder_1764115200.5.pt", counts)
    run("sglang")
    found = read("location.json", Hints(num_ranks=32, layers=range(3, 61))).value
    assert found == eplb.Placement.load("plan.json") and found.physical_to_logical.shape == (58, 288)


def test_tensorrt_llm(run, tmp_path, rng):
    """Ends in a configuration that is valid."""
    pytest.importorskip("yaml")
    pytest.importorskip("safetensors")
    counts = skewed(rng, (2, 8, 58, 256))
    tensorrt_llm_statistics(tmp_path / "expert_statistic", counts, layers=range(3, 61), top_k=8)
    run("tensorrt-llm")
    assert validate("moe_load_balancer.yaml", Hints(num_ranks=36), engine="tensorrt-llm").is_valid
    assert read("moe_load_balancer.yaml", Hints(num_ranks=36)).value == eplb.Placement.load("plan.json")


def test_vllm_ascend(run, tmp_path, rng):
    """Ends in a map that is valid."""
    loads = skewed(rng, (94, 128))
    (tmp_path / "recorded.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in loads.tolist()))
    run("vllm-ascend")
    assert validate("map.json", engine="vllm-ascend").is_valid
    assert read("map.json").value == eplb.Placement.load("plan.json")


def test_transformers(run, rng):
    """Ends in a location for the engine that serves; its recording is run in tests/recording/test_page.py."""
    loads = skewed(rng, (16, 48, 128))
    eplb.LoadTrace(loads=loads, labels=["decode"] * 16).save("served.npz")
    run("transformers", count=3)
    assert read("location.json", Hints(num_ranks=8)).value == eplb.Placement.load("plan.json")


def test_megatron(run, tmp_path, rng):
    """Ends in a location for another engine."""
    (tmp_path / "routed").mkdir()
    for rank in range(2):
        ids = rng.integers(0, 128, (4, 48, 8, 4)) * rng.integers(0, 2, (4, 48, 8, 4))
        lines = megatron_lines(ids, rank, layers=range(48))
        (tmp_path / "routed" / f"router_trace_rank{rank}.jsonl").write_text("".join(lines))
    run("megatron")
    assert read("location.json", Hints(num_ranks=16)).value == eplb.Placement.load("plan.json")
