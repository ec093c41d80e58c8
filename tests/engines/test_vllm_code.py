"""The plug-in in vLLM's own code: its loader of plug-ins, its balancer, its exchange of weights, on gloo."""

import importlib.util
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RANKS = 4
SHARE = 0.125  # of all slots may move at once

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="no vLLM here; `make engines` installs it"),
]


def serve(folder, **environment):
    """Return what each rank of a group of processes reports."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("EPLB_", "VLLM_"))}
    meeting = folder / "meeting"
    program = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "engines" / "vllm_rank.py")]
    ranks = [
        subprocess.Popen(
            [*program, str(rank), str(RANKS), str(meeting)],
            env={**plain, "EPLB_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    said = [rank.communicate(timeout=300) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * RANKS, said[0][1]
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


def moves(before, after):
    """Return how many experts come to ranks that did not hold them."""
    return sum(
        len(set(wanted) - set(held))
        for old, new in zip(before, after, strict=True)
        for held, wanted in zip(by_rank(old), by_rank(new), strict=True)
    )


def by_rank(slots):
    size = len(slots) // RANKS
    return [slots[rank * size : (rank + 1) * size] for rank in range(RANKS)]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """What ranks report that serve with the plug-in switched on."""
    return serve(tmp_path_factory.mktemp("ours"), EPLB_VLLM="1", EPLB_MAX_MOVES_SHARE=f"{SHARE}")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """What ranks report that serve with the plug-in installed alone."""
    return serve(tmp_path_factory.mktemp("theirs"))


def test_vllm_serves_with_the_planner(ours):
    """Ranks agree on every placement, and after every exchange each slot holds the weights that the map says."""
    assert {report["policy"] for report in ours} == {"EplbPolicy"} and all(report["used"] for report in ours)
    assert all(report["maps"] == ours[0]["maps"] for report in ours)
    assert all(all(report["sound"]) for report in ours)
    assert len({json.dumps(placement) for placement in ours[0]["maps"]}) > 1


def test_installed_vllm_serves_as_before(theirs):
    """Without the switch vLLM's own policy plans, in the same harness."""
    assert {report["policy"] for report in theirs} == {"DefaultEplbPolicy"}
    assert all(all(report["sound"]) for report in theirs)


def test_no_exchange_moves_more_than_it_may(ours):
    """Each starts from the placement that vLLM has in force; the load shifts twice, so that some experts do move."""
    maps = ours[0]["maps"]
    found = [moves(*pair) for pair in pairwise(maps)]
    assert 0 < max(found) <= SHARE * sum(map(len, maps[0]))
