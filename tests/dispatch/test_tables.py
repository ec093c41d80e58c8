"""The tables of a placement: shares from weights, and changing them in place."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from eplb import OptionError, Placement, PlacementError, Topology
from eplb.dispatch import cumulative_shares
from eplb.dispatch.tables import Tables
from tests.dispatch.tokens import SEEDS, case, random_placement

ONE = 2**40
TOPOLOGY = Topology(num_ranks=2, slots_per_rank=2, num_nodes=2)


def placed(*rows):
    return Placement(physical_to_logical=rows, topology=TOPOLOGY)


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_shares_add_up_to_one(seed):
    """They never fall, end at exactly one, and are the weights to 2**-40; replicas of weight 0 get none."""
    drawn = case(seed)
    shares = cumulative_shares(drawn.placement, drawn.weights)
    assert shares.shape == drawn.placement.logical_to_physical.shape
    assert (np.diff(shares, axis=2, prepend=0) >= 0).all()
    assert (shares[:, :, -1] == ONE).all()
    for expert, weights in enumerate(drawn.weights_of):
        each = np.diff(shares[1, expert], prepend=0)
        np.testing.assert_allclose(each[: len(weights)] / ONE, weights, atol=2.0**-39)
        assert (each[len(weights) :] == 0).all()
        assert (each[: len(weights)][np.array(weights) == 0] == 0).all()


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS)
def test_without_weights_replicas_are_alike(seed):
    """What the engines do by default."""
    placement = random_placement(np.random.default_rng(seed))
    each = np.diff(cumulative_shares(placement), axis=2, prepend=0) / ONE
    wanted = np.where(placement.logical_to_physical >= 0, 1 / placement.replica_counts[:, :, None], 0)
    np.testing.assert_allclose(each, wanted, atol=2.0**-39)


def test_weights_in_float32_will_do():
    """Sums that are one only nearly are scaled."""
    weights = np.array([[1 / 3, 1, 1, 2 / 3]], dtype=np.float32)
    shares = cumulative_shares(placed([0, 1, 2, 0]), weights)
    np.testing.assert_allclose(shares[0, 0] / ONE, [1 / 3, 1], atol=1e-7)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[0.5, 1, 1, 0.6]], r"weights: expected those of an expert to sum to 1, got 1\.1 for expert 0 of layer 0"),
        ([[0.5, 1, 1]], r"weights: expected one number a slot, \[1 layers, 4 slots\]"),
        ([[1.5, 1, 1, -0.5]], "weights: expected shares of 0 to 1"),
        ([[[0.5, 1, 1, 0.5]]], "weights: expected one window"),
        ("half", "weights: expected one number a slot"),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, message):
    """Shape, sign, sum, and windows, of which there is one."""
    with pytest.raises(OptionError, match=message):
        cumulative_shares(placed([0, 1, 2, 0]), weights)


@pytest.mark.parametrize("width", [1, 0, 2.5, True, "2"])
def test_tables_hold_all_replicas(width):
    """A width below the most replicas of an expert is refused."""
    with pytest.raises(OptionError, match="max_replicas: expected an integer of at least 2"):
        Tables(placed([0, 1, 2, 0]), None, width)


def test_a_placement_that_lacks_an_expert_is_named():
    """Whoever wraps arrays without a check is told here."""
    slots, counts = np.array([[0, 2, 2, 0]], dtype=np.int32), np.array([[2, 0, 2]], dtype=np.int32)
    with pytest.raises(PlacementError, match="placement: expert 1 of layer 0 has no replica"):
        Tables(Placement.from_planner(slots, TOPOLOGY, counts), None, None)


def test_tables_tell_ranks_and_nodes():
    """Of each replica, and nothing where there is none."""
    tables = Tables(placed([0, 1, 2, 0], [1, 1, 0, 2]), None, 3).arrays(1)
    assert tables.replicas.tolist() == [[2, -1, -1], [0, 1, -1], [3, -1, -1]]
    assert tables.ranks.tolist() == [[1, -1, -1], [0, 0, -1], [1, -1, -1]]
    assert (tables.counts.tolist(), tables.nodes.tolist()) == ([1, 2, 1], [0, 1])


def test_an_update_keeps_the_memory():
    """Arrays and tensors that were handed out change, and are those of the new placement."""
    tables = Tables(placed([0, 1, 2, 0]), None, 2)
    array, tensor = tables.arrays(0), tables.tensors(0, torch.device("cpu"))
    addresses = [part.data_ptr() for part in tensor]
    after = placed([1, 2, 0, 1])
    tables.update(after, [[0.75, 1, 1, 0.25]])
    wanted = Tables(after, [[0.75, 1, 1, 0.25]], 2).arrays(0)
    for mine, its, want in zip(array, tensor, wanted, strict=True):
        np.testing.assert_array_equal(mine, want)
        np.testing.assert_array_equal(its.numpy(), want)
    assert [part.data_ptr() for part in tables.tensors(0, torch.device("cpu"))] == addresses


def test_an_update_needs_the_same_shape():
    """Other experts or ranks, or more replicas than there is room for, are refused, and nothing changes."""
    tables = Tables(placed([0, 1, 2, 0]), None, None)
    with pytest.raises(PlacementError, match="expected 1 layers, 3 experts and 2 ranks, as before, got 1 layers, 4"):
        tables.update(placed([0, 1, 2, 3]), None)
    with pytest.raises(OptionError, match="max_replicas"):
        tables.update(
            Placement(physical_to_logical=[[0, 0, 0, 1, 2]], topology=Topology(num_ranks=1, slots_per_rank=5)), None
        )
    assert tables.arrays(0).replicas.tolist() == [[0, 3], [1, -1], [2, -1]]
