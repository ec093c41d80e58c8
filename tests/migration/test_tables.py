"""Tables that follow a migration in the same memory."""

import numpy as np
import pytest
import torch

from eplb import OptionError, Placement, PlacementError, Topology, split
from eplb.dispatch import Dispatcher
from eplb.migration.tables import LiveTables, checked_tables
from tests.migration.group import random_placements

TOPOLOGY = Topology(num_ranks=2, slots_per_rank=2)


def placed(*rows):
    return Placement(physical_to_logical=rows, topology=TOPOLOGY)


def test_tables_hold_the_maps_of_a_placement():
    """Padded with -1 to the width that was asked for, as int64 or what is asked for."""
    placement = random_placements(0, 1)[0]
    tables = LiveTables(placement, max_replicas=12, dtype=torch.int32)
    width = placement.logical_to_physical.shape[2]
    np.testing.assert_array_equal(tables.physical_to_logical, placement.physical_to_logical)
    np.testing.assert_array_equal(tables.logical_to_physical[:, :, :width], placement.logical_to_physical)
    np.testing.assert_array_equal(tables.replica_counts, placement.replica_counts)
    assert (tables.logical_to_physical[:, :, width:] == -1).all()
    assert tables.replica_counts.dtype == torch.int32
    assert LiveTables(placement).logical_to_physical.dtype == torch.int64


def test_an_update_of_a_layer_changes_that_layer_in_place():
    """Inside and outside of inference mode; the other layer stays."""
    tables = LiveTables(placed([0, 1, 2, 0], [0, 1, 2, 0]), max_replicas=2)
    seen = tables.logical_to_physical
    for row, mode in (([2, 2, 0, 1], True), ([1, 2, 0, 1], False)):
        with torch.inference_mode(mode):
            tables.update_layer(1, placed([0, 0, 1, 2], row))
        assert tables.physical_to_logical.tolist() == [[0, 1, 2, 0], row]
        assert seen[1].tolist() == placed(row).logical_to_physical[0].tolist()
        assert seen[0].tolist() == [[0, 3], [1, -1], [2, -1]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_replicas": 1}, OptionError, "max_replicas: expected an integer of at least 2"),
        ({"max_replicas": True}, OptionError, "max_replicas: expected an integer >= 1, got True"),
        ({"placement": [[0, 1]]}, PlacementError, r"placement: expected an eplb\.Placement, got list"),
    ],
)
def test_tables_that_cannot_be_made(options, error, message):
    with pytest.raises(error, match=message):
        LiveTables(**{"placement": placed([0, 1, 2, 0]), **options})


@pytest.mark.parametrize("make", [LiveTables, Dispatcher])
def test_tables_that_do_not_fit_a_migration(make):
    """Another shape, too few places for replicas, or no tables at all."""
    tables = make(placed([0, 1, 2, 0]), max_replicas=2)
    tables.check_fits(placed([0, 1, 2, 0]), 2)
    with pytest.raises(OptionError, match=r"expected an integer of at least 3, the most replicas .*, got 2"):
        checked_tables([tables], placed([0, 1, 2, 0]), 3)
    with pytest.raises(PlacementError, match=r"expected 1 layers, 3 experts .*, got 1 layers, 4 experts"):
        checked_tables(tables, placed([0, 1, 2, 3]), 1)
    with pytest.raises(OptionError, match=r"tables: expected LiveTables, .*, got str"):
        checked_tables(["tables"], placed([0, 1, 2, 0]), 2)


def test_a_dispatcher_follows_layer_by_layer():
    """Arrays and tensors that were handed out are those of a new dispatcher; weights of the layer may be given."""
    old, new = random_placements(1, 2)
    weights = split(new, np.ones((3, 9)))
    dispatcher, wanted = Dispatcher(old, max_replicas=12), Dispatcher(new, weights, max_replicas=12)
    array, tensor = dispatcher.tables(1), dispatcher.tables(1, "cpu")
    before = [part.copy() for part in dispatcher.tables(0)]
    dispatcher.update_layer(1, new, weights[1])
    for mine, its, want in zip(array, tensor, wanted.tables(1), strict=True):
        np.testing.assert_array_equal(mine, want)
        np.testing.assert_array_equal(its.numpy(), want)
    for mine, was in zip(dispatcher.tables(0), before, strict=True):
        np.testing.assert_array_equal(mine, was)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((1, placed([0, 1, 2, 0])), OptionError, "layer: expected an integer of 0 to 0, got 1"),
        ((0, placed([0, 1, 2, 3])), PlacementError, "as before, got 1 layers, 4 experts"),
        ((0, [[0, 1, 2, 0]]), PlacementError, r"expected an eplb\.Placement, got list"),
        ((0, placed([0, 1, 2, 0]), [0.5, 1, 1, 0.4]), OptionError, "to sum to 1"),
        ((0, placed([0, 1, 0, 2]), [0.5, 1, 0.5]), OptionError, "weights: expected one number a slot"),
    ],
)
def test_a_layer_that_does_not_fit_a_dispatcher(args, error, message):
    """Nothing changes."""
    dispatcher = Dispatcher(placed([0, 1, 2, 0]))
    with pytest.raises(error, match=message):
        dispatcher.update_layer(*args)
    assert dispatcher.tables(0).replicas.tolist() == [[0, 3], [1, -1], [2, -1]]
