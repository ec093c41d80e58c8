"""`dispatch_batch`: the exact split of the very batch, over real processes too."""

import multiprocessing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import OptionError, Placement, PlacementError, Topology, evaluate
from eplb.dispatch import dispatch_batch, solve_split
from eplb.errors import DispatchError
from tests.dispatch.tokens import DTYPES, KINDS, SEEDS, case, random_ids

TIMEOUT_S = 120


def times_of(slots, topology):
    """Return the tokens of each rank divided by its speed, [R]."""
    ranks = topology.rank_of_slot[slots[slots >= 0]]
    return np.bincount(ranks, minlength=topology.num_ranks) / topology.speeds


def least_time(drawn, counts):
    """Return the largest rank load of the exact split of whole tokens."""
    return solve_split(drawn.placement, counts[None], layer=1, whole_tokens=True).largest_loads[0]


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, kind=st.sampled_from(KINDS), dtype=st.sampled_from(DTYPES))
def test_no_whole_tokens_balance_better(seed, kind, dtype):
    """Arrays and tensors, of any batch: the largest rank load is the optimum, and slots are those of the experts."""
    drawn = case(seed, kind, dtype)
    slots = dispatch_batch(drawn.placement, drawn.ids, 1)
    tensor = dispatch_batch(drawn.placement, torch.from_numpy(drawn.ids), 1)
    assert (slots.dtype, tensor.dtype) == (drawn.ids.dtype, torch.from_numpy(drawn.ids).dtype)
    np.testing.assert_array_equal(slots, tensor.numpy())
    np.testing.assert_array_equal(slots < 0, drawn.ids < 0)
    np.testing.assert_array_equal(drawn.placement.physical_to_logical[1][slots[slots >= 0]], drawn.ids[drawn.ids >= 0])
    counts = np.bincount(drawn.ids[drawn.ids >= 0], minlength=drawn.placement.num_experts)
    assert times_of(slots, drawn.placement.topology).max() == pytest.approx(least_time(drawn, counts), rel=1e-12)


def test_a_batch_that_weights_do_not_expect():
    """One expert alone, where the even split would leave a rank idle: tokens go where there is room."""
    placement = Placement(physical_to_logical=[[0, 1, 0, 2]], topology=Topology(num_ranks=2, slots_per_rank=2))
    ids = np.array([[0], [0], [0], [0], [1], [1]])
    assert times_of(dispatch_batch(placement, ids, 0), placement.topology).tolist() == [3, 3]
    assert evaluate(placement, [[4, 2, 0]]).largest_loads.max() == 4


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"placement": [[0, 1]]}, PlacementError, r"expected an eplb\.Placement, got list"),
        ({"layer": 1}, OptionError, "layer: expected an integer of 0 to 0, got 1"),
        ({"mode": "even"}, OptionError, "mode: expected weighted or local-first, got 'even'"),
        ({"group": "all"}, OptionError, "group: expected a torch.distributed process group, got 'all'"),
        ({"mode": "local-first"}, OptionError, "group: mode local-first needs a group of the 2 ranks"),
        ({"topk_ids": [[0]]}, DispatchError, "expected a numpy array or torch tensor"),
        ({"topk_ids": np.array([[3]])}, DispatchError, "got 3 at token 0, place 0"),
        ({"topk_ids": torch.tensor([[1, 1]])}, DispatchError, "got expert 1 twice in token 0"),
    ],
)
def test_what_cannot_be_dispatched_is_named(changed, error, message):
    placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    given = {"placement": placement, "topk_ids": np.array([[0]]), "layer": 0}
    with pytest.raises(error, match=message):
        dispatch_batch(**{**given, **changed})


# ---- over real processes


def group_case(seed):
    """Return a placement on four ranks of two nodes, and ids for each rank; one has none."""
    rng = np.random.default_rng(seed)
    topology = Topology(num_ranks=4, slots_per_rank=3, num_nodes=2, rank_speeds=[1, 1, 2, 1])
    placement = Placement(physical_to_logical=[[*range(8), 0, 1, 0, 2]], topology=topology)
    kinds = ("spread", "bursts", "empty", "padded")
    return placement, [random_ids(rng, 8, kind, np.int64 if rank % 2 else np.int32) for rank, kind in enumerate(kinds)]


def one_rank(rank, num_ranks, store, seed, mode, spoiled, results):
    """Join the group, dispatch this rank's ids, and report slots, or the error."""
    import datetime

    import torch.distributed as dist

    placement, batches = group_case(seed)
    ids = torch.from_numpy(batches[rank])
    if rank == spoiled:
        ids = ids.float() if seed else ids + 100
    timeout = datetime.timedelta(seconds=TIMEOUT_S)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=num_ranks, timeout=timeout)
    try:
        slots = dispatch_batch(placement, ids, 0, group=dist.group.WORLD, mode=mode)
        results.put((rank, slots.numpy()))
    except DispatchError as error:
        results.put((rank, str(error)))
    finally:
        dist.destroy_process_group()


def run_group(tmp_path, seed, mode="weighted", spoiled=None, num_ranks=4):
    """Return what every rank found, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    args = (num_ranks, str(tmp_path / "store"), seed, mode, spoiled, results)
    processes = [context.Process(target=one_rank, args=(rank, *args)) for rank in range(num_ranks)]
    for process in processes:
        process.start()
    try:
        found = dict(results.get(timeout=TIMEOUT_S) for _ in processes)
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    return [found[rank] for rank in range(num_ranks)]


@pytest.mark.parametrize("mode", ["weighted", "local-first"])
def test_ranks_balance_their_tokens_together(tmp_path, mode):
    """Four processes exchange counts: the largest load over all is the optimum, and locality costs nothing."""
    placement, batches = group_case(1)
    slots = run_group(tmp_path, 1, mode)
    counts = sum(np.bincount(ids[ids >= 0], minlength=8) for ids in batches)
    for found, ids in zip(slots, batches, strict=True):
        assert (found.shape, found.dtype) == (ids.shape, ids.dtype)
        np.testing.assert_array_equal(placement.physical_to_logical[0][found[found >= 0]], ids[ids >= 0])
    together = sum(times_of(found, placement.topology) for found in slots)
    optimum = solve_split(placement, counts[None], whole_tokens=True).largest_loads[0]
    assert together.max() == pytest.approx(optimum, rel=1e-12)


@pytest.mark.parametrize(("seed", "reason"), [(0, "expected ids of 0 to 7"), (1, "of dtype float32")])
def test_all_ranks_raise_what_is_wrong_on_one(tmp_path, seed, reason):
    """None waits for ever: the rank itself says why, the others say which rank it is."""
    found = run_group(tmp_path, seed, spoiled=1, num_ranks=2)
    assert reason in found[1]
    assert found[0] == "topk_ids: those of rank 1 of the group cannot be dispatched; its own error says why"
