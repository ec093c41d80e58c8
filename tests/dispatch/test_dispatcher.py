"""`Dispatcher`: sound slots for all ids, in all modes, as numpy and as torch; and options that exclude each other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import OptionError, Placement, PlacementError, Topology, split
from eplb.dispatch import MODES, Dispatcher
from eplb.errors import DispatchError
from tests.dispatch.tokens import DTYPES, KINDS, SEEDS, case, random_ids

TOPOLOGY = Topology(num_ranks=2, slots_per_rank=2)
PLACEMENT = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=TOPOLOGY)
IDS = np.array([[0, 1], [2, 0], [0, -1]])
APART = {"rank_invariant": False, "source_rank": 0}


def group_of(drawn):
    """Return ids of every rank of the placement, and how many there are of each expert, [R, E]."""
    num_experts = drawn.placement.num_experts
    kinds = drawn.rng.choice(KINDS, drawn.placement.topology.num_ranks)
    batches = [drawn.ids, *(random_ids(drawn.rng, num_experts, kind) for kind in kinds[1:])]
    return batches, np.array([np.bincount(ids[ids >= 0], minlength=num_experts) for ids in batches])


def slots_in(mode, drawn, step=0):
    """Return the slots of the tokens of rank 0 in a mode."""
    weights = None if mode == "even" else drawn.weights
    if mode != "local-first":
        return Dispatcher(drawn.placement, weights, mode)(drawn.ids, 1, step)
    return Dispatcher(drawn.placement, weights, mode, **APART)(drawn.ids, 1, step, group_of(drawn)[1])


def assert_slots_of(slots, ids, placement):
    """Every id has a slot of its expert, padding has none, and the slots of a token differ."""
    assert slots.shape == ids.shape
    np.testing.assert_array_equal(slots < 0, ids < 0)
    np.testing.assert_array_equal(placement.physical_to_logical[1][slots[slots >= 0]], ids[ids >= 0])
    for token in slots:
        assert len(set(token[token >= 0])) == (token >= 0).sum()


def taken_by_slots(slots, placement):
    return np.bincount(slots[slots >= 0], minlength=placement.topology.num_slots)


def wanted_by_slots(counts, placement, weights):
    """Return the tokens [P] that weights ask for."""
    slots = placement.physical_to_logical[1]
    return np.where(slots >= 0, counts[slots] * weights[1], 0)


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS, kind=st.sampled_from(KINDS), dtype=st.sampled_from(DTYPES), mode=st.sampled_from(MODES))
def test_tokens_find_slots_of_their_experts(seed, kind, dtype, mode):
    """Whatever the batch and the mode."""
    drawn = case(seed, kind, dtype)
    slots = slots_in(mode, drawn)
    assert slots.dtype == dtype
    assert_slots_of(slots, drawn.ids, drawn.placement)


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, kind=st.sampled_from(KINDS), step=st.integers(0, 1000))
def test_weights_are_met_to_a_token(seed, kind, step):
    """For the batch of one rank."""
    drawn = case(seed, kind)
    taken = taken_by_slots(Dispatcher(drawn.placement, drawn.weights)(drawn.ids, 1, step), drawn.placement)
    counts = np.bincount(drawn.ids[drawn.ids >= 0], minlength=drawn.placement.num_experts)
    assert (np.abs(taken - wanted_by_slots(counts, drawn.placement, drawn.weights)) < 1 + 1e-9).all()


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, mode=st.sampled_from(["weighted", "local-first"]), step=st.integers(0, 1000))
def test_weights_are_met_to_a_token_over_the_group(seed, mode, step):
    """Each rank knows the counts of all, and what they send together is what the weights want."""
    drawn = case(seed)
    batches, counts = group_of(drawn)
    taken = 0
    for rank, ids in enumerate(batches):
        dispatcher = Dispatcher(drawn.placement, drawn.weights, mode, rank_invariant=False, source_rank=rank)
        slots = dispatcher(ids, 1, step, counts)
        assert_slots_of(slots, ids, drawn.placement)
        taken = taken + taken_by_slots(slots, drawn.placement)
    wanted = wanted_by_slots(counts.sum(axis=0), drawn.placement, drawn.weights)
    assert (np.abs(taken - wanted) < 1 + 1e-9).all()


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, kind=st.sampled_from(KINDS), dtype=st.sampled_from(DTYPES), mode=st.sampled_from(MODES))
def test_tensors_are_routed_like_arrays(seed, kind, dtype, mode):
    """Checked and unchecked, with the step as an int and as a tensor."""
    drawn = case(seed, kind, dtype)
    options = APART if mode == "local-first" else {}
    counts = group_of(drawn)[1] if mode == "local-first" else None
    weights = None if mode == "even" else drawn.weights
    wanted = Dispatcher(drawn.placement, weights, mode, **options)(drawn.ids, 1, 5, counts)
    ids, tensor_counts = torch.from_numpy(drawn.ids), None if counts is None else torch.from_numpy(counts)
    for checked in (True, False):
        dispatcher = Dispatcher(drawn.placement, weights, mode, checked=checked, **options)
        np.testing.assert_array_equal(dispatcher(drawn.ids, 1, 5, counts), wanted)
        for step in (5, torch.tensor([5])):
            found = dispatcher(ids, 1, step, tensor_counts)
            assert found.dtype == ids.dtype
            np.testing.assert_array_equal(found.numpy(), wanted)


def test_local_first_keeps_more_tokens_on_their_rank():
    """Four ranks with a replica each of the busy expert: most tokens stay, and the balance is that of the weights."""
    topology = Topology(num_ranks=4, slots_per_rank=2, num_nodes=2)
    placement = Placement(physical_to_logical=[[0, 1, 0, 2, 0, 3, 0, 4]], topology=topology)
    counts = np.zeros((4, 5), dtype=np.int64)
    counts[:, 0] = [7, 5, 1, 3]
    stayed = {}
    for mode in ("weighted", "local-first"):
        slots = [
            Dispatcher(placement, mode=mode, rank_invariant=False, source_rank=rank)(
                np.zeros((counts[rank, 0], 1), dtype=np.int64), 0, 0, counts
            )
            for rank in range(4)
        ]
        stayed[mode] = sum((found // 2 == rank).sum() for rank, found in enumerate(slots))
        assert np.bincount(np.concatenate(slots).ravel() // 2).tolist() == [4, 4, 4, 4]
    assert stayed == {"weighted": 8, "local-first": 12}


def test_all_ranks_choose_alike_by_default():
    """The same ids give the same slots in every mode that all ranks may use; a source rank turns the rest over."""
    ids = np.zeros((1, 1), dtype=np.int64)
    for mode in ("weighted", "even"):
        assert Dispatcher(PLACEMENT, mode=mode)(ids, 0, 3) == Dispatcher(PLACEMENT, mode=mode)(ids, 0, 3)
    chosen = [int(Dispatcher(PLACEMENT, rank_invariant=False, source_rank=rank)(ids, 0)[0, 0]) for rank in range(64)]
    assert 30 <= chosen.count(0) <= 34


def test_steps_turn_over_who_serves_a_single_token():
    """A decode batch of one token goes to each replica in turn, by weight."""
    dispatcher, ids = Dispatcher(PLACEMENT, weights=[[0.75, 1, 1, 0.25]]), np.zeros((1, 1), dtype=np.int64)
    chosen = [int(dispatcher(ids, 0, step)[0, 0]) for step in range(400)]
    assert 298 <= chosen.count(0) <= 302


def test_the_exact_split_is_followed():
    """Weights of `eplb.split` for these very tokens leave no rank more than a token above the optimum."""
    drawn = case(12, num_experts=7)
    counts = np.bincount(drawn.ids[drawn.ids >= 0], minlength=7)
    weights = split(drawn.placement, np.stack([counts, counts]))
    slots = Dispatcher(drawn.placement, weights)(drawn.ids, 1)
    assert (
        np.abs(taken_by_slots(slots, drawn.placement) - wanted_by_slots(counts, drawn.placement, weights)) < 1
    ).all()


def test_an_update_goes_on_with_another_placement():
    """The next call uses its slots."""
    dispatcher = Dispatcher(PLACEMENT)
    dispatcher.update(Placement(physical_to_logical=[[2, 2, 0, 1]], topology=TOPOLOGY))
    assert dispatcher(IDS, 0)[0].tolist() == [2, 3]
    with pytest.raises(OptionError, match='mode "even"'):
        Dispatcher(PLACEMENT, mode="even").update(PLACEMENT, [[0.75, 1, 1, 0.25]])


def test_tables_are_handed_out():
    """As arrays, or as tensors on a device, the same ones each time."""
    dispatcher = Dispatcher(PLACEMENT)
    assert dispatcher.tables(0).replicas.tolist() == [[0, 3], [1, -1], [2, -1]]
    assert dispatcher.tables(0, "cpu").replicas.tolist() == [[0, 3], [1, -1], [2, -1]]
    assert dispatcher.tables(0, "cpu").shares.data_ptr() == dispatcher.tables(0, torch.device("cpu")).shares.data_ptr()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "nearest"}, "mode: expected one of weighted, even, local-first, got 'nearest'"),
        ({"mode": "local-first"}, "mode: local-first lets every rank choose .* all-to-all"),
        ({"source_rank": 1}, "source_rank: lets every rank choose .* all-to-all"),
        ({"rank_invariant": False}, "source_rank: expected the number of this rank"),
        ({"rank_invariant": 1}, "rank_invariant: expected True or False"),
        ({"rank_invariant": False, "source_rank": -1}, "source_rank: expected an integer >= 0"),
        ({"rank_invariant": False, "source_rank": 1.0}, "source_rank: expected an integer, got 1.0"),
        ({"rank_invariant": False, "source_rank": 2, "mode": "local-first"}, "source_rank: expected .* 0 to 1, got 2"),
        ({"mode": "even", "weights": [[0.5, 1, 1, 0.5]]}, 'mode: "even" looks at no weights'),
        ({"mode": "even", "rank_invariant": False, "source_rank": 0}, 'mode: "even" looks at no weights'),
        ({"weights": [[0.5, 1, 1, 0.4]]}, "weights: expected those of an expert to sum to 1"),
        ({"max_replicas": 1}, "max_replicas: expected an integer of at least 2"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    """Named, with what to do."""
    with pytest.raises(OptionError, match=message):
        Dispatcher(PLACEMENT, **options)


def test_only_a_placement_is_one():
    with pytest.raises(PlacementError, match=r"placement: expected an eplb\.Placement, got list"):
        Dispatcher([[0, 1, 2, 0]])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 1]], "expected a numpy array or torch tensor of int32 or int64, .*, got list"),
        (np.array([0, 1]), r"got shape \(2,\) of dtype int64"),
        (np.array([[0.0, 1.0]]), r"got shape \(1, 2\) of dtype float64"),
        (np.array([[0, 1]], dtype=np.uint32), "dtype uint32"),
        (torch.tensor([[True]]), "dtype bool"),
        (torch.tensor([[0, 1]], dtype=torch.int16), "dtype int16"),
        (np.broadcast_to(np.int64(0), (2**23, 1)), "expected at most 8388607 tokens, got 8388608; cut the batch"),
        (np.array([[0, 1], [2, 3]]), "expected ids of 0 to 2, or -1 for padding, got 3 at token 1, place 1"),
        (np.array([[0, -2]]), "got -2 at token 0, place 1"),
        (torch.tensor([[0, 1], [1, 1]]), "expected different experts in a token, got expert 1 twice in token 1"),
        (torch.tensor([[7, 7]]), "got 7 at token 0, place 0"),
    ],
)
@pytest.mark.parametrize("mode", ["weighted", "even"])
def test_ids_that_cannot_be_routed(ids, message, mode):
    """Kind, dtype, shape, and the first bad id."""
    with pytest.raises(DispatchError, match=message):
        Dispatcher(PLACEMENT, mode=mode)(ids, 0)


@pytest.mark.parametrize(
    ("layer", "step", "message"),
    [
        (1, 0, "layer: expected an integer of 0 to 0, got 1"),
        (-1, 0, "layer: expected an integer of 0 to 0, got -1"),
        (True, 0, "layer: expected an integer, got True"),
        (0, 1.5, "step: expected an integer, got 1.5"),
        (0, torch.tensor([1]), "step: expected an int, or a tensor of one int64 on the device of topk_ids"),
    ],
)
def test_a_layer_or_step_out_of_range(layer, step, message):
    with pytest.raises(OptionError, match=message):
        Dispatcher(PLACEMENT)(IDS, layer, step)


@pytest.mark.parametrize("step", [torch.tensor([1, 2]), torch.tensor([1.0]), torch.tensor([1], dtype=torch.int32)])
def test_a_step_of_another_kind(step):
    with pytest.raises(OptionError, match="step: expected an int, or a tensor of one int64 on the device"):
        Dispatcher(PLACEMENT)(torch.from_numpy(IDS), 0, step)


@pytest.mark.parametrize(
    ("options", "counts", "error", "message"),
    [
        ({}, [[3, 1, 1]], OptionError, "source_counts: to use them lets every rank choose .* all-to-all"),
        ({"mode": "even"}, [[3, 1, 1]], OptionError, "source_counts: mode even looks at no counts"),
        ({"mode": "local-first", **APART}, None, OptionError, "source_counts: mode local-first needs the counts"),
        ({"mode": "local-first", **APART}, [[3, 1, 1]], DispatchError, r"\[2 ranks, 3 experts\].*got shape \(1, 3\)"),
        (APART, [[3, 1]], DispatchError, r"\[at least 1 ranks, 3 experts\].*got shape \(1, 2\)"),
        (APART, [[3.0, 1.0, 1.0]], DispatchError, "of dtype float64"),
        (APART, [[2, 1, 1]], DispatchError, "row 0 must hold the counts .* expected 3 for expert 0, got 2"),
        (APART, [[3, 1, 1], [-1, 0, 0]], DispatchError, "expected counts >= 0, got -1 at rank 1, expert 0"),
        (APART, [[3, 1, 1], [2**23, 0, 0]], DispatchError, "expected at most 8388607 tokens of an expert"),
    ],
)
def test_counts_that_do_not_fit(options, counts, error, message):
    """To the mode, or to the ids."""
    with pytest.raises(error, match=message):
        Dispatcher(PLACEMENT, **options)(IDS, 0, 0, None if counts is None else np.array(counts))


def test_counts_of_another_kind():
    """Arrays go with arrays, tensors with tensors."""
    with pytest.raises(DispatchError, match="of the kind and device of topk_ids, got ndarray"):
        Dispatcher(PLACEMENT, **APART)(torch.from_numpy(IDS), 0, 0, np.array([[3, 1, 1]]))
