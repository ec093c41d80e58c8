"""A placement carried over to another machine, against its slow twin."""

from itertools import chain
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.kernels.windows.carry import carry_layers
from tests import reference

SEEDS = st.integers(0, 2**32 - 1)


def change_of_machine(seed, groups):
    """Return what ranks held before and the slots they have now: whole loads, so that equal times are equal."""
    rng = np.random.default_rng(seed)
    num_ranks, num_experts = int(rng.integers(1, 5)), 2 * int(rng.integers(1, 4))
    sizes = rng.integers(1, 5, num_ranks)
    sizes[0] += max(0, num_experts - sizes.sum())
    nodes = np.sort(rng.integers(0, 2, num_ranks))
    home = rng.integers(0, nodes.max() + 1, groups) if groups > 1 else np.array([-1])
    return SimpleNamespace(
        loads=rng.integers(0, 9, num_experts) * 64.0,
        held=[rng.integers(-1, num_experts, rng.integers(0, 5)).tolist() for _ in range(num_ranks)],
        sizes=sizes.tolist(),
        speeds=rng.choice([0.5, 1.0, 2.0], num_ranks),
        nodes=nodes,
        homes=home,
        home_of=np.repeat(home, num_experts // home.size).tolist(),
    )


def carried(case, fill):
    """Return what every rank holds, and the experts that had no replica left, by the kernel."""
    offsets, held_offsets = (
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64) for sizes in (case.sizes, [len(h) for h in case.held])
    )
    held = np.array([list(chain.from_iterable(case.held))], dtype=np.int64)
    items, lost = np.empty((1, offsets[-1]), dtype=np.int64), np.empty((1, case.loads.size), dtype=np.bool_)
    machine = (held, held_offsets, offsets, 1 / case.speeds, case.nodes, case.homes[None].copy())
    carry_layers(0, 1, case.loads[None].copy(), *machine, fill, items, lost)
    return [row.tolist() for row in np.split(items[0], offsets[1:-1])], set(np.flatnonzero(lost[0]).tolist())


@settings(deadline=None, max_examples=300)
@given(seed=SEEDS, fill=st.booleans(), groups=st.sampled_from([1, 2]))
def test_a_placement_is_carried_over_as_the_twin_does(seed, fill, groups):
    """Slot by slot, where every expert finds a place; the experts that were lost are the same in any case."""
    case = change_of_machine(seed, groups)
    ranks, lost = carried(case, fill)
    twin = (case.loads.tolist(), case.held, case.sizes, case.speeds, case.nodes, case.home_of, fill)
    expected, expected_lost = reference.carry(*twin)
    assert lost == expected_lost
    if set(chain.from_iterable(expected)) == set(range(case.loads.size)):
        assert ranks == expected
    else:
        assert set(chain.from_iterable(ranks)) != set(range(case.loads.size))


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS)
def test_without_groups_every_expert_is_placed(seed):
    """However much was lost, no slot stays empty and no expert without one."""
    case = change_of_machine(seed, groups=1)
    ranks, _ = carried(case, fill=True)
    assert set(chain.from_iterable(ranks)) == set(range(case.loads.size))


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS)
def test_ranks_keep_what_they_have_room_for(seed):
    """A rank with as many slots as before gives away only slots that others need: those of experts with replicas."""
    case = change_of_machine(seed, groups=1)
    ranks, lost = carried(case, fill=True)
    for old, new in zip(case.held, ranks, strict=True):
        if len(old) <= len(new):
            gone = [e for before, e in zip(old, new, strict=False) if before >= 0 and e != before]
            assert len(gone) <= len(lost)
