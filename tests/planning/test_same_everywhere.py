"""The same input gives the same plan on every machine, with every numba: bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import eplb
from eplb import Placement, Topology

PINNED = {
    ("fast", 1): "495c9b5a976e9aa310d9bdb5b315c54016f65f32af6433a8d7a72e82c5ef2b5e",
    ("fast", 4): "4a0f1928742bf3447544f69b211d718edca78adddcbd7fcff00a258bc8916d59",
    ("balanced", 1): "ecac0a39553b1cde10602c1425480d8a6ada6fdc6bf0ce3cec7fb85da7cfd464",
    ("balanced", 4): "eec28478c37409068e9f44aec068ab0fa9496cc50f0d0d9c70338aaf7fc2cb3f",
    ("thorough", 1): "131073f85991ce14dd162ef892c0455e611fb62192604cacc52c77642b7c7338",
    ("thorough", 4): "d2db5ee24db64eb6e5af9bef37e5bc78515269e8e046e617106b28c1abcf03ef",
}


@pytest.mark.parametrize(("effort", "groups"), PINNED)
def test_plans_are_pinned(effort, groups):
    """A change that alters plans must say so by changing these hashes."""
    loads = (np.arange(3 * 96, dtype=np.int64).reshape(3, 96) * 2654435761 % 1009) ** 2
    topology = Topology(num_ranks=8, slots_per_rank=14, num_nodes=2, rank_speeds=[1, 1, 1, 2, 1, 1, 1, 1])
    plan = eplb.plan(loads, topology, groups=groups, effort=effort, seed=3)
    assert plan.placement.hash == PINNED[effort, groups]


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_threads_do_not_change_a_plan(rng, monkeypatch, threads):
    """Layers are planned each on its own, on however many threads."""
    loads = rng.pareto(1.0, (40, 64))
    topology = Topology(num_ranks=8, slots_per_rank=9)
    expected = eplb.plan(loads, topology).placement.hash
    monkeypatch.setenv("EPLB_NUM_THREADS", threads)
    assert eplb.plan(loads, topology).placement.hash == expected


# ---- several windows, and moves from a placement in force

MACHINE = Topology(num_ranks=8, slots_per_rank=14, num_nodes=2, rank_speeds=[1, 1, 1, 2, 1, 1, 1, 1])
START = {
    "from scratch": {},
    "from a placement": {"max_moves": None},
    "within limits": {"max_moves": 20, "max_moves_per_rank": 3},
}
PINNED_WINDOWS = {
    ("from scratch", "fast", 1): ("9d1d459c921e7f3e161c812f37a39f5f", 0),
    ("from scratch", "balanced", 1): ("f58742d45b3b580b0eb3a216289709ac", 0),
    ("from scratch", "balanced", 4): ("45585be0c4af1932c751e0f690cb811a", 0),
    ("from scratch", "thorough", 1): ("d1f84a64708ae75ba4f7c5133c306c78", 0),
    ("from a placement", "fast", 1): ("189b2430cc6e5efe503313d7eb48bfa4", 42),
    ("from a placement", "balanced", 1): ("51627947e2fd44092c8d2f13e5d661c9", 38),
    ("from a placement", "balanced", 4): ("2de4192b2487f659920de06881258636", 17),
    ("from a placement", "thorough", 1): ("7a619e62f7fa7f7fc2e6b0bfc8fe83ac", 43),
    ("within limits", "fast", 1): ("227c49fd522f1b185d7ae63208268457", 16),
    ("within limits", "balanced", 1): ("b847939b34632ea4c347a6f558c5b1d5", 10),
    ("within limits", "balanced", 4): ("b559b9f267bae6bb266ac9a0cb72c0ce", 12),
    ("within limits", "thorough", 1): ("2fe42914f558a1914c4e73bbc9ce5db6", 20),
}


def windows_of(num_layers):
    """Return whole loads [6, L, 96] that look random and drift."""
    loads = np.arange(6 * num_layers * 96, dtype=np.int64).reshape(6, num_layers, 96) * 2654435761 % 1009
    return loads**2 + loads[:1] * 100 * np.arange(6)[:, None, None]


def planned(start, num_layers=3, **options):
    """Return a plan for all windows, from scratch or from the plan of the first."""
    loads = windows_of(num_layers)
    if start != "from scratch":
        groups = options.get("groups", 1)
        options = {**options, **START[start], "previous": eplb.plan(loads[0], MACHINE, groups=groups).placement}
    return eplb.plan(loads, MACHINE, seed=3, **options)


@pytest.mark.parametrize(("start", "effort", "groups"), PINNED_WINDOWS)
def test_plans_for_windows_are_pinned(start, effort, groups):
    """A change that alters plans for the next window, or moves, must say so by changing these hashes."""
    plan = planned(start, effort=effort, groups=groups)
    assert (plan.placement.hash[:32], plan.moves) == PINNED_WINDOWS[start, effort, groups]


@pytest.mark.parametrize("split", ["even", "weighted"])
@pytest.mark.parametrize("start", START)
def test_threads_do_not_change_a_plan_for_windows(monkeypatch, start, split):
    """Layers are searched each on its own, and share the limits afterwards, on however many threads."""
    plans = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("EPLB_NUM_THREADS", threads)
        plans.append(planned(start, num_layers=20, split=split, cost_per_activated_slot=1000.0))
    assert len({plan.placement.hash for plan in plans}) == 1
    assert len({plan.certificate.largest_load for plan in plans}) == 1


# ---- the weighted split

TIGHT = Topology(num_ranks=8, slots_per_rank=13, num_nodes=2, rank_speeds=[1, 1, 1, 2, 1, 1, 1, 1])
PINNED_WEIGHTED = {
    ("one window", "fast", 1): ("4e7aa8841947aec3333fc152b848664d", 0),
    ("one window", "balanced", 1): ("3486b13648731a19c96054f7b98a5bd8", 0),
    ("one window", "thorough", 4): ("75732d66ca11065ba4263fa9672c2401", 0),
    ("from scratch", "fast", 1): ("281dc7d4225e7a159c556775e6ac64ca", 0),
    ("from scratch", "balanced", 1): ("e84f2038b21b217f04c2f970820a5585", 0),
    ("from scratch", "balanced", 4): ("3b51ca3a5ad6f45eb5106981eabbdfa9", 0),
    ("from scratch", "thorough", 1): ("9c209d89e51abbfb5242e607d574ce1b", 0),
    ("from a placement", "balanced", 1): ("c57a54ce77c8a6e4ef706138bbce29fc", 50),
    ("from a placement", "balanced", 4): ("0c97bb0c913a5c2e2d04eaa607fe57d8", 177),
    ("within limits", "balanced", 1): ("9e83e9d51cc4a2b77c83a1ce78f92613", 15),
    ("within limits", "balanced", 4): ("ae826b0d24fc400ddfd01342805c6fed", 15),
}


def weighted(start, groups, **options):
    """Return a plan of skewed loads for the weighted split, from scratch or from the plan of other loads."""
    loads, options = windows_of(3).astype(np.float64) ** 2, {**options, "groups": groups, "split": "weighted"}
    if start == "one window":
        return eplb.plan(loads[0], TIGHT, seed=3, **options)
    if START[start]:
        options = {**options, **START[start], "previous": eplb.plan(loads[0, :, ::-1], TIGHT, groups).placement}
    return eplb.plan(loads, TIGHT, seed=3, **options)


@pytest.mark.parametrize(("start", "effort", "groups"), PINNED_WEIGHTED)
def test_plans_for_the_weighted_split_are_pinned(start, effort, groups):
    """A change that alters them must say so by changing these hashes."""
    plan = weighted(start, effort=effort, groups=groups)
    assert (plan.placement.hash[:32], plan.moves) == PINNED_WEIGHTED[start, effort, groups]


def all_hashes():
    """Return the hashes of plans from every start, for both splits."""
    return [planned(start).placement.hash for start in START] + [weighted(s, groups=1).placement.hash for s in START]


def in_another_process(**environment):
    """Return the hashes of all plans that a fresh interpreter makes."""
    code = "from tests.planning.test_same_everywhere import all_hashes; print(*all_hashes())"
    environment = {**os.environ, **environment}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()


@pytest.mark.parametrize(("threads", "seed"), [("1", "0"), ("3", "random")])
def test_another_process_reaches_the_same_plan_for_windows(threads, seed):
    """Fresh interpreters, with other threads and other seeds of hash(), plan what this one does."""
    assert in_another_process(EPLB_NUM_THREADS=threads, PYTHONHASHSEED=seed) == all_hashes()


@pytest.mark.slow
def test_another_processor_reaches_the_same_plan_for_windows(tmp_path):
    """Code compiled without the vector units of this processor plans the same, bit for bit."""
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert in_another_process(**plain) == all_hashes()


@pytest.mark.parametrize("split", ["even", "weighted"])
@pytest.mark.parametrize("scale", [2.0**-900, 2.0**-30, 2.0**60, 2.0**990])
@pytest.mark.parametrize("start", START)
def test_plans_for_windows_do_not_depend_on_the_unit(start, scale, split):
    """A power of two that multiplies loads and costs alike changes nothing but the unit."""
    loads = windows_of(3).astype(np.float64)
    options = {**START[start], "previous": eplb.plan(loads[0], MACHINE).placement} if START[start] else {}
    options = {**options, "split": split}
    one, other = (
        eplb.plan(loads * unit, MACHINE, cost_per_activated_slot=1e5 * unit, **options) for unit in (1.0, scale)
    )
    assert other.placement == one.placement
    assert other.certificate.largest_load == one.certificate.largest_load * scale


@pytest.mark.parametrize("start", ["from scratch", "from a placement"])
def test_a_layer_is_planned_as_it_would_be_alone(start):
    """Without limits on moves, layers know nothing of each other."""
    loads = windows_of(5)
    previous = eplb.plan(loads[0], MACHINE, effort="fast").placement if START[start] else None
    whole = eplb.plan(loads, MACHINE, previous=previous, effort="fast").placement
    some = [1, 3, 4]
    if previous is not None:
        previous = Placement(physical_to_logical=previous.physical_to_logical[some], topology=MACHINE, num_experts=96)
    part = eplb.plan(loads[:, some], MACHINE, previous=previous, effort="fast").placement
    np.testing.assert_array_equal(part.physical_to_logical, whole.physical_to_logical[some])
