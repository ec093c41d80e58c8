"""Functions with DeepSeek's signature, from files, as policies."""

import builtins

import numpy as np
import pytest
import torch

import eplb
from eplb import LoadTrace, Topology
from eplb.replay import DropInPolicy, drop_in_policy, policy_named, replay
from eplb.replay.drop_in import why_no_drop_in
from tests.replay.doubles import TOPOLOGY, random_trace

PEER = """
import eplb
from dataclasses import dataclass

CALLS = []

@dataclass
class Settings:
    policy: str = "deepseek"

def rebalance_experts(weight, num_replicas, num_groups, num_nodes, num_gpus):
    CALLS.append((weight, num_replicas, num_groups, num_nodes, num_gpus))
    return eplb.rebalance_experts(weight, num_replicas, num_groups, num_nodes, num_gpus, policy=Settings().policy)

def crashing(*args):
    return 1 // 0
"""


@pytest.fixture
def peer(tmp_path):
    """A file with such functions."""
    file = tmp_path / "peer.py"
    file.write_text(PEER)
    return file


def returning(*results):
    """Return a policy whose function returns these, one after another."""
    answers = iter(results)
    return DropInPolicy(name="peer", function=lambda *_: next(answers))


def test_a_function_in_a_file_is_a_policy(peer):
    """It is asked as DeepSeek's is, and scored as any other."""
    found = replay(random_trace(), TOPOLOGY, drop_in_policy(f"mine={peer}:rebalance_experts"))
    expected = replay(random_trace(), TOPOLOGY, policy_named("deepseek"))
    assert found.policy == "mine"
    np.testing.assert_array_equal(found.balancedness, expected.balancedness)


def test_it_is_given_a_float32_tensor_of_recent_windows(peer):
    """The sum of the newest windows, and the sizes in DeepSeek's order."""
    trace, topology = random_trace(6), Topology(num_ranks=4, slots_per_rank=3, num_nodes=2)
    policy = policy_named(f"mine={peer}:rebalance_experts", groups=2)
    policy.place(trace, topology, None, None)
    DropInPolicy(name="mine", function=policy.function, recent=2).place(trace, topology, None, None)
    (weight, *sizes), (short, *_) = policy.function.__globals__["CALLS"]
    assert sizes == [12, 2, 2, 4] and weight.dtype == torch.float32
    assert weight.tolist() == trace.loads.sum(axis=0).tolist()
    assert short.tolist() == trace.loads[-2:].sum(axis=0).tolist()


def test_without_torch_it_is_given_an_array(monkeypatch):
    """PyTorch is an extra."""
    real, seen = builtins.__import__, []

    def without_torch(name, *args, **more):
        if name == "torch":
            raise ImportError(name)
        return real(name, *args, **more)

    def function(weight, *_):
        seen.append(weight)
        return np.tile([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3], (2, 1)), None, None

    monkeypatch.setattr(builtins, "__import__", without_torch)
    DropInPolicy(name="mine", function=function).place(random_trace(3), TOPOLOGY, None, None)
    assert isinstance(seen[0], np.ndarray) and seen[0].dtype == np.float32


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (None, r"expected a tuple \(phy2log, ...\) from the function, got NoneType"),
        ((), r"expected a tuple \(phy2log, ...\) from the function, got tuple"),
        (([[0, 1], [2]],), "phy2log: expected an array"),
        ((np.zeros((2, 12)),), "expected integers, got dtype float64"),
        ((np.zeros((2, 11), dtype=int),), r"got shape \(2, 11\)"),
        ((np.zeros((2, 12), dtype=int),), "expert 1 of layer 0 has no replica"),
        ((np.arange(24).reshape(2, 12),), "expected an id of 0 to 7, got 8 at layer 0, slot 8"),
        ((torch.full((2, 12), -1),), "expected an id of 0 to 7, got -1"),
        ((np.tile(np.arange(12) % 8, (3, 1)),), r"expected \[2 layers, 12 slots\], got shape \(3, 12\)"),
    ],
)
def test_an_unsound_plan_is_named(result, says):
    """With the policy and the window that it was for, here the second plan."""
    sound = (np.tile(np.arange(12) % 8, (2, 1)), None, None)
    with pytest.raises(eplb.PlacementError, match=f"policy peer, planning window 9: .*{says}"):
        replay(random_trace(), TOPOLOGY, returning(sound, result))


def test_a_crash_is_named(peer):
    """With the policy, the window, and what was raised."""
    with pytest.raises(eplb.PlacementError, match=r"policy mine, planning window 8: .* raised ZeroDivisionError: "):
        replay(random_trace(), TOPOLOGY, drop_in_policy(f"mine={peer}:crashing"))


@pytest.mark.parametrize(
    ("topology", "reason"),
    [
        (Topology(num_ranks=2, slots_per_rank=[5, 4]), "different numbers of slots"),
        (Topology(num_ranks=3, slots_per_rank=5, failed_ranks=[1]), "ranks have failed"),
        (Topology(num_ranks=3, slots_per_rank=5, num_nodes=[0, 1, 0]), "nodes have different numbers of ranks"),
        (Topology(num_ranks=3, slots_per_rank=5, num_nodes=2), "nodes have different numbers of ranks"),
    ],
)
def test_machines_that_the_signature_cannot_tell_are_refused(topology, reason):
    """Five numbers describe an even machine alone."""
    assert reason in why_no_drop_in(topology)
    with pytest.raises(eplb.TopologyError, match=f"policy deepseek, planning window 8: .*{reason}.*leave it out"):
        replay(random_trace(), topology, policy_named("deepseek"))
    assert why_no_drop_in(TOPOLOGY) is None


def test_sums_beyond_float32_are_refused():
    """Rather than passed as infinity."""
    trace = LoadTrace(loads=np.full((4, 1, 4), 2e38))
    with pytest.raises(eplb.LoadsError, match="the sum of 2 windows is beyond float32"):
        replay(trace, TOPOLOGY, policy_named("deepseek"), first=2)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("mine=peer.py", r"expected NAME=path/to/file.py:function, got 'mine=peer.py'"),
        ("=peer.py:f", "expected NAME="),
        ("mine=missing.py:f", "expected a Python file, got 'missing.py'"),
        ("mine=peer.txt:f", "expected a Python file, got 'peer.txt'"),
        ("mine=peer.py:f", "policy mine: expected a function 'f' in peer.py, found none"),
        ("mine=peer.py:CALLS", "expected a function 'CALLS'"),
        ("mine=broken.py:f", "broken.py cannot be run: ZeroDivisionError"),
        ("mine=leaving.py:f", "leaving.py cannot be run: SystemExit"),
    ],
)
def test_a_file_that_has_no_such_function_is_refused(peer, monkeypatch, spec, says):
    """The message says what was looked for."""
    monkeypatch.chdir(peer.parent)
    (peer.parent / "broken.py").write_text("1 / 0")
    (peer.parent / "leaving.py").write_text("raise SystemExit")
    with pytest.raises(eplb.OptionError, match=says):
        drop_in_policy(spec)


def test_a_drop_in_checks_its_options():
    """What cannot be called, and no windows, are refused at once."""
    with pytest.raises(eplb.OptionError, match="function: expected something to call, got int"):
        DropInPolicy(name="peer", function=3)
    with pytest.raises(eplb.OptionError, match="recent: expected an integer >= 1, got 0"):
        DropInPolicy(name="peer", function=min, recent=0)
