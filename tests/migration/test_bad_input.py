"""What is refused before anything moves, and what the message says."""

import pytest
import torch
import torch.distributed as dist

from eplb import MigrationInDoubt, OptionError, Placement, PlacementError, Topology
from eplb.migration.migrator import Migrator, migrate
from eplb.migration.tables import LiveTables

TOPOLOGY = Topology(num_ranks=1, slots_per_rank=3)


def placed(*rows, topology=TOPOLOGY, **more):
    return Placement(physical_to_logical=rows, topology=topology, **more)


OLD, NEW = placed([0, 1, 0], [0, 1, 1]), placed([1, 0, 1], [0, 1, 1])


def pair_of(slots_per_rank, **more):
    return Topology(num_ranks=2, slots_per_rank=slots_per_rank, **more)


def two_layers(*parameters):
    """Return weights of two layers; by default of two parameters."""
    return [list(parameters or (torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 2]))) for _ in range(2)]


@pytest.fixture
def alone():
    """A group of this process alone."""
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield store
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.zeros(2, 3), r"weights: expected a list of 2 layers, .* \[3 slots, \.\.\.\], got Tensor"),
        (two_layers()[:1], "weights: expected a list of 2 layers, .*, got 1 layers"),
        ([torch.zeros(3), torch.zeros(3)], "got Tensor for layer 0"),
        ([[], []], "got list for layer 0"),
        (two_layers([0.0, 0.0, 0.0]), r"weights\[0\]\[0\]: expected a tensor, got list"),
        (two_layers(torch.zeros(2, 2)), r"weights\[0\]\[0\]: expected one row for each of the 3 slots .* \(2, 2\)"),
        (two_layers(torch.tensor(1.0)), r"got shape \(\)"),
        (two_layers(torch.zeros(2, 3).T), r"expected a contiguous tensor, got strides \(1, 3\) for shape \(3, 2\)"),
        (two_layers(torch.zeros(3, 2).to_sparse()), "expected a dense tensor, got torch.sparse_coo"),
        (
            two_layers(torch.zeros(3), torch.zeros(3, device="meta")),
            r"expected all on one device, got weights\[0\]\[0\] on cpu, weights\[0\]\[1\] on meta",
        ),
        (two_layers(torch.zeros(3, device="meta")), "weights: expected tensors with memory, got device meta"),
    ],
)
def test_weights_that_cannot_be_moved(alone, weights, message):
    """Shape, memory, device."""
    with pytest.raises(OptionError, match=message):
        Migrator(weights, OLD, NEW)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ([[0, 1, 0]], NEW, r"old: expected an eplb\.Placement, got list"),
        (OLD, None, "new: expected an eplb.Placement, got NoneType"),
        (OLD, placed([1, 0, 1]), "new: expected 2 layers x 2 experts as in old, got 1 x 2"),
        (OLD, placed([0, 1, 2], [0, 1, 2]), "new: expected 2 layers x 2 experts as in old, got 2 x 3"),
        (OLD, placed([0, 1], [0, 1], topology=pair_of(1)), "new: expected 1 ranks as in old, got 2"),
        (
            placed([0, 0], topology=pair_of(1)),
            placed([0, -1], topology=pair_of(1, failed_ranks=[1])),
            r"new: expected the failed ranks \[\] as in old, got \[1\]; start from eplb.migration.recover",
        ),
    ],
)
def test_placements_that_do_not_go_together(alone, old, new, message):
    """Another kind, other layers, experts, ranks or failed ranks."""
    with pytest.raises(PlacementError, match=message):
        Migrator(two_layers(), old, new)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_s": 0}, "timeout_s: expected a finite number of seconds > 0, got 0"),
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"max_staging_bytes": 2.5}, "max_staging_bytes: expected an integer, got 2.5"),
        ({"max_staging_bytes": 31}, "expected room for one expert, 32 bytes in layer 0, got 31"),
        ({"control": "store"}, r"control: expected a torch\.distributed\.Store, or a process group .*, got str"),
        ({"tables": 5}, "tables: expected LiveTables, .*, got int"),
        ({"tables": [LiveTables(OLD), 5]}, "tables: expected LiveTables, .*, got int"),
        ({"group": "world"}, "group: expected a ProcessGroup, got str"),
    ],
)
def test_options_out_of_range(alone, options, message):
    """Each is named."""
    with pytest.raises(OptionError, match=message):
        Migrator(two_layers(), OLD, NEW, **options)


def test_a_group_of_another_size(alone):
    """The placements are of two ranks, the group has one."""
    pair = [
        placed(row, topology=Topology(num_ranks=3, slots_per_rank=1, failed_ranks=[2]))
        for row in ([0, 1, -1], [1, 0, -1])
    ]
    with pytest.raises(OptionError, match=r"for each of the 3 ranks .*, or for each of the 2 that work, got 1"):
        Migrator([[torch.zeros(1)]], *pair)


def test_no_group_at_all():
    with pytest.raises(OptionError, match=r"torch\.distributed is not initialised; call init_process_group first"):
        migrate(two_layers(), OLD, NEW)


def test_after_a_refusal_the_next_migration_goes_through(alone):
    """Nothing has moved, and the control store is as new."""
    weights = two_layers()
    with pytest.raises(OptionError, match="room for one expert"):
        Migrator(weights, OLD, NEW, max_staging_bytes=1)
    assert weights[0][1].tolist() == [0, 1, 2]
    report = migrate(weights, OLD, NEW, control=alone)
    assert weights[0][1].tolist() == [1, 0, 1]
    assert weights[1][1].tolist() == [0, 1, 2]
    assert (len(report.commits), report.bytes_sent, report.staging_bytes) == (1, 0, 32)
    assert set(report.seconds) == {"agree", "transfer", "check", "decide", "apply"}


def test_parameters_of_a_module_are_moved(alone):
    """They need gradients, and are changed in place all the same."""
    weights = [[torch.nn.Parameter(part.clone()) for part in layer[:1]] for layer in two_layers()]
    migrate(weights, OLD, NEW)
    assert weights[0][0].tolist() == [[2.0, 3.0], [0.0, 1.0], [2.0, 3.0]]
    assert weights[0][0].requires_grad


class TornTable:
    def check_fits(self, placement, max_replicas):
        pass

    def update_layer(self, layer, placement):
        raise ValueError("no room")


def test_tables_that_fail_leave_a_rank_in_doubt(alone):
    """Its weights are new and its tables are not; the migrator goes no further."""
    migrator = Migrator(two_layers(), OLD, NEW, tables=TornTable())
    with pytest.raises(MigrationInDoubt, match="layer 0, apply: no room; the layer is torn on this rank"):
        next(migrator)
    with pytest.raises(MigrationInDoubt, match="this migration has ended: layer 0, apply"):
        next(migrator)
