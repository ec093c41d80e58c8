"""From two placements to transfers: moves, copies, bytes, times, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import InfeasibleError, OptionError, Placement, PlacementError, Topology
from eplb.migration import plan_transfers
from tests import reference_migration as reference

SEEDS = st.integers(0, 2**32 - 1)
TOPOLOGY = Topology(num_ranks=4, slots_per_rank=2, num_nodes=2)
OLD = [[0, 1, 2, 3, 4, 5, 0, 2], [0, 1, 2, 3, 4, 5, 0, 2]]
NEW = [[0, 1, 0, 3, 4, 5, 4, 2], [4, 5, 2, 3, 0, 1, 2, 0]]


def placed(rows, topology=TOPOLOGY, **options):
    return Placement(physical_to_logical=rows, topology=topology, **options)


@pytest.fixture
def transfers():
    """Return the transfers of two layers: inside nodes in the first one, between nodes in the second one."""
    return plan_transfers(placed(OLD), placed(NEW), [10, 100])


@pytest.fixture(scope="module")
def pair():
    """Return a function that makes two sound placements of a few layers on a random machine."""

    def make(seed, num_layers=3):
        rng = np.random.default_rng(seed)
        topology = reference.random_machine(rng)
        num_experts = int(rng.integers(1, topology.num_usable_slots + 1))
        rows = [[reference.random_row(rng, topology, num_experts) for _ in range(num_layers)] for _ in range(2)]
        return [placed(r, topology, num_experts=num_experts) for r in rows]

    return make


def carried_out(old, transfers):
    """Return the slots after all transfers and copies, done by hand on the experts' numbers."""
    before = old.physical_to_logical
    after = before.copy()
    after[transfers.layer, transfers.target_slot] = before[transfers.layer, transfers.source_slot]
    copies = transfers.copies
    for layer, source, target, arrives in zip(
        copies.layer, copies.source_slot, copies.target_slot, copies.arrives, strict=True
    ):
        after[layer, target] = (after if arrives else before)[layer, source]
    return after


@settings(max_examples=100)
@given(seed=SEEDS)
def test_transfers_and_copies_lead_to_the_new_placement(pair, seed):
    """Who carries out the lists, and nothing else, ends up where `new` is."""
    old, new = pair(seed)
    assert np.array_equal(carried_out(old, plan_transfers(old, new, 1)), new.physical_to_logical)


@given(seed=SEEDS)
def test_there_is_one_transfer_for_each_move(pair, seed):
    """Moves are those of `Placement.moves_to`."""
    old, new = pair(seed)
    found = plan_transfers(old, new, 1)
    moved = np.stack([found.layer, found.target_rank, found.expert], axis=1)
    assert sorted(moved.tolist()) == old.moves_to(new).tolist()


@given(seed=SEEDS)
def test_bytes_by_rank_add_up(pair, seed):
    """What is sent is received, by link class too, and inside and between nodes are all there is."""
    found = plan_transfers(*pair(seed), [1, 20, 300])
    for between in (None, True, False):
        sent, received = found.sent_bytes(between_nodes=between), found.received_bytes(between_nodes=between)
        assert sent.sum() == received.sum() == found.num_bytes(between_nodes=between)
    inside, between = (found.sent_bytes(between_nodes=between) for between in (False, True))
    assert np.array_equal(inside + between, found.sent_bytes())
    assert found.num_bytes() == found.expert_bytes[found.layer].sum()


def test_transfers_are_told_by_rank_and_link(transfers):
    """Layer 0 sends 10 bytes inside each node; layer 1 sends 100 bytes four times, but for one between nodes."""
    assert transfers.received_bytes(between_nodes=True).tolist() == [200, 0, 100, 0]
    assert transfers.sent_bytes(between_nodes=True).tolist() == [100, 0, 200, 0]
    assert transfers.sent_bytes(between_nodes=False).tolist() == [10, 0, 10, 100]
    assert transfers.num_bytes(between_nodes=False) == 120


def test_the_busiest_rank_is_told_by_layer(transfers):
    """In layer 1 rank 2 sends two experts to the other node."""
    assert transfers.num_rounds.tolist() == [1, 2]
    assert transfers.largest_receives.tolist() == [1, 2]
    assert transfers.largest_sends.tolist() == [1, 2]
    assert transfers.largest_sends_between_nodes.tolist() == [0, 2]


def test_it_says_what_it_is(transfers):
    """The counts that matter fit into a line."""
    assert len(transfers) == 6
    assert repr(transfers) == "Transfers(6 experts (3 between nodes), 420 bytes, 3 rounds in 2 layers, 2 local copies)"


def test_a_copy_inside_a_rank_is_told_apart():
    """The second slot of an expert that arrives, and one that trades places, are copies."""
    topology = Topology(num_ranks=2, slots_per_rank=5)
    old, new = (placed([row], topology) for row in ([0, 1, 2, 3, 4, 5, 6, 7, 0, 0], [1, 0, 2, 3, 4, 2, 2, 5, 6, 7]))
    found = plan_transfers(old, new, 1)
    assert found.expert.tolist() == [2]
    copies = [column.tolist() for column in found.copies[1:]]
    assert copies == [[1, 0, 2, 5, 6, 7], [1, 0, 5, 5, 6, 7], [0, 1, 6, 7, 8, 9], [False, False, True, *[False] * 3]]


def test_a_round_takes_as_long_as_its_slowest_transfer(transfers):
    """Layer 0 takes one round inside a node, layer 1 two rounds between nodes; rounds add up."""
    assert transfers.layer_seconds(10.0, 4.0).tolist() == [1.0, 50.0]
    assert transfers.seconds(10.0, 4.0, latency_s=0.5) == 51.0 + 1.5


def test_nothing_moves_between_equal_placements():
    """No transfer, no round, no time."""
    found = plan_transfers(placed(OLD), placed(OLD), 1)
    assert (len(found), found.num_rounds.tolist(), found.num_bytes()) == (0, [0, 0], 0)
    assert (found.seconds(1.0, 1.0), found.largest_sends.tolist(), found.copies.layer.size) == (0.0, [0, 0], 0)


def test_ranks_that_fail_send_nothing_and_get_nothing():
    """Rank 2 gets expert 0 from rank 0, though rank 3 is nearer: rank 3 fails."""
    left = Topology(num_ranks=4, slots_per_rank=2, num_nodes=2, failed_ranks=[3])
    old, new = placed([[0, 1, 2, 3, 4, 2, 0, 2]]), placed([[0, 1, 2, 3, 4, 0, -1, -1]], left)
    found = plan_transfers(old, new, 1)
    assert (found.source_rank.tolist(), found.target_rank.tolist(), found.copies.layer.size) == ([0], [2], 0)


def test_a_rank_that_comes_back_gets_all_it_needs():
    """A rank that had failed holds nothing before."""
    failed = Topology(num_ranks=2, slots_per_rank=2, failed_ranks=[1])
    found = plan_transfers(
        placed([[0, 1, -1, -1]], failed), placed([[0, 1, 1, 0]], Topology(num_ranks=2, slots_per_rank=2)), 1
    )
    assert (found.expert.tolist(), found.target_rank.tolist()) == ([1, 0], [1, 1])


def test_arrays_are_read_only(transfers):
    """A plan that all ranks have agreed on does not change."""
    with pytest.raises(ValueError, match="read-only"):
        transfers.source_rank[0] = 3
    with pytest.raises(ValueError, match="read-only"):
        transfers.copies.layer[0] = 3


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ([NEW], "new: expected an eplb.Placement, got list"),
        (placed(NEW[:1]), "expected 2 layers x 6 experts as in old, got 1 x 6"),
        (placed([[0, 1, 2, 3, 4, 5, 6, 7]] * 2), "got 2 x 8"),
        (placed(NEW, layer_ids=[0, 5]), "expected layer 1 at index 1 as in old, got layer 5"),
        (placed(NEW, Topology(num_ranks=8, slots_per_rank=1)), "expected 4 ranks as in old, got 8"),
        (placed(NEW, Topology(num_ranks=4, slots_per_rank=[2, 1, 3, 2], num_nodes=2)), "expected 2 slots on rank 1"),
        (placed(NEW, Topology(num_ranks=4, slots_per_rank=2)), "expected 1 as the node of rank 2 as in old, got 0"),
    ],
)
def test_a_placement_of_something_else_is_refused(new, message):
    """Layers, experts, ranks, slots and nodes have to be the same."""
    with pytest.raises(PlacementError, match=message):
        plan_transfers(placed(OLD), new, 1)


@pytest.mark.parametrize("size", [0, -1, 1.5, [1], [1, 2, 3], [1, 2**41], "many", True, None])
def test_bytes_that_are_none_are_refused(size):
    """One integer, or one a layer, of 1 to 2**40."""
    with pytest.raises(OptionError, match=r"expert_bytes: expected an integer of 1 to 2\*\*40, or one a layer \(2\)"):
        plan_transfers(placed(OLD), placed(NEW), size)


@pytest.mark.parametrize("bandwidths", [(0, 1), (1, 0.0), (-1, 1), (1, np.nan), ("fast", 1)])
def test_bandwidths_that_are_none_are_refused(transfers, bandwidths):
    """Both are finite numbers above 0."""
    with pytest.raises(OptionError, match="bytes_per_s: expected a"):
        transfers.seconds(*bandwidths)


def test_an_expert_whose_ranks_all_fail_is_named():
    """It has to be loaded again, which `recover` plans."""
    left = Topology(num_ranks=4, slots_per_rank=2, num_nodes=2, failed_ranks=[2])
    with pytest.raises(InfeasibleError, match=r"expert 4 of layer 0 has no replica .*\(2 such in all\).*recover"):
        plan_transfers(placed(OLD[:1]), placed([[0, 1, 2, 3, -1, -1, 4, 5]], left), 1)
