"""Running a kernel over layers on a few threads."""

import os
import threading

import numpy as np
import pytest

import eplb
from eplb.errors import OptionError
from eplb.kernels import threads
from eplb.kernels.threads import num_threads, over_layers

WANTED_THREADS = 3


@pytest.fixture
def three_threads(monkeypatch):
    """Ask for three threads."""
    monkeypatch.setenv("EPLB_NUM_THREADS", str(WANTED_THREADS))


@pytest.fixture
def no_wish(monkeypatch):
    """Ask for no number of threads."""
    monkeypatch.delenv("EPLB_NUM_THREADS", raising=False)


def mark(first, last, seen):
    """Count each layer of a range once."""
    seen[first:last] += 1


def test_as_many_threads_as_processors_this_process_may_use(no_wish):
    """An affinity of one processor means one thread."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert num_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_at_most_four_threads_unless_asked(no_wish, monkeypatch):
    """A node of many processors serves more than the planner."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(192)))
    assert num_threads() == 4


def test_the_variable_decides(three_threads):
    """EPLB_NUM_THREADS is what is used, whatever the processors."""
    assert num_threads() == WANTED_THREADS


@pytest.mark.parametrize("value", ["0", "-1", "many", "", "2.5", "257"])
def test_a_bad_variable_is_refused(value, monkeypatch):
    """No number of threads is guessed."""
    monkeypatch.setenv("EPLB_NUM_THREADS", value)
    with pytest.raises(OptionError, match="EPLB_NUM_THREADS: expected an integer of 1 to 256"):
        num_threads()


@pytest.mark.parametrize("num_layers", [1, 2, 3, 7, 12, 13, 1_000])
@pytest.mark.parametrize("min_layers", [1, 2, 5])
def test_every_layer_runs_once(three_threads, num_layers, min_layers):
    """The ranges cover all layers without overlap."""
    seen = np.zeros(num_layers, dtype=np.int64)
    over_layers(mark, num_layers, (seen,), min_layers)
    assert (seen == 1).all()


def test_no_range_is_smaller_than_asked(three_threads):
    """Each range is worth its thread."""
    sizes = []
    over_layers(lambda first, last: sizes.append(last - first), 50, (), min_layers=12)
    assert min(sizes) >= 12


def test_small_work_stays_on_the_calling_thread(three_threads):
    """Fewer layers than are worth a second thread start none."""
    seen = []
    over_layers(lambda first, last: seen.append(threading.get_ident()), 9, (), min_layers=5)
    assert seen == [threading.get_ident()]


def test_several_threads_take_part(three_threads):
    """Three threads meet at a barrier that fewer could not pass."""
    barrier = threading.Barrier(WANTED_THREADS, timeout=60)
    met = set()

    def meet(first, last):
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            barrier.wait()

    over_layers(meet, 100, ())
    assert len(met) == WANTED_THREADS


@pytest.mark.parametrize("bad_layer", [0, 50, 99])
def test_an_error_in_any_range_reaches_the_caller(three_threads, bad_layer):
    """Whichever thread meets it, the error is raised, and the pool still works after."""

    def fail(first, last):
        if first <= bad_layer < last:
            raise ArithmeticError("bad layer")

    with pytest.raises(ArithmeticError, match="bad layer"):
        over_layers(fail, 100, ())
    test_every_layer_runs_once(three_threads, 100, 1)


def test_the_pool_is_kept_and_changes_with_the_wish(monkeypatch):
    """Plans share a pool; another number of threads makes another one."""
    kept = []
    for wanted in ("2", "2", "3"):
        monkeypatch.setenv("EPLB_NUM_THREADS", wanted)
        over_layers(mark, 100, (np.zeros(100),))
        kept.append(threads._pool)
    assert kept[0] is kept[1]
    assert kept[1] is not kept[2]


@pytest.mark.parametrize("split", ["even", "weighted"])
def test_plans_from_several_threads_at_once_are_the_plan(three_threads, split):
    """Eight threads that plan eight inputs at once get what one thread gets for each."""
    topology = eplb.Topology(num_ranks=8, slots_per_rank=9)
    inputs = [np.random.default_rng(seed).lognormal(size=(40, 64)) for seed in range(8)]
    expected = [eplb.plan(loads, topology, split=split).placement.hash for loads in inputs]
    found = [[] for _ in inputs]

    def work(own):
        for step in range(3 * len(inputs)):
            loads = inputs[(own + step) % len(inputs)]
            found[own].append(eplb.plan(loads, topology, split=split).placement.hash)

    workers = [threading.Thread(target=work, args=(own,)) for own in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert found == [[expected[(own + step) % 8] for step in range(24)] for own in range(8)]
