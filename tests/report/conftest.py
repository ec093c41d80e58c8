"""A small trace, what a report finds in it, and a browser."""

import shutil

import numpy as np
import pytest

import eplb
from eplb.replay import POLICIES, policy_named
from eplb.report import Settings, examine

TOPOLOGY = eplb.Topology(num_ranks=4, slots_per_rank=3)
HOSTILE = "<script>alert(1)</script>{{data}}</script><!--"


@pytest.fixture(scope="session")
def trace():
    """Sixteen windows, three layers, eight experts: far from balance, drifting."""
    rng = np.random.default_rng(0)
    walk = rng.normal(0, 0.2, (16, 3, 8)).cumsum(axis=0)
    return eplb.LoadTrace(loads=rng.poisson(200 * np.exp(walk)), layer_ids=[4, 9, 11], model=HOSTILE)


@pytest.fixture(scope="session")
def policies():
    """All of them."""
    return [policy_named(name) for name in POLICIES]


@pytest.fixture(scope="session")
def found(trace, policies):
    """What a report finds with one budget more."""
    return examine(trace, TOPOLOGY, policies, Settings(source=HOSTILE, budgets=[0.5], expert_bytes=10**6))


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium of this machine, driven by playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright; pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs a Chromium; apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()
