"""Questions that all ranks answer, over a store: one outcome, whoever is there; and calls that can be left behind."""

import threading
import time

import pytest
import torch.distributed as dist

from eplb.migration.control import Control, StoreLost, prefix_of, store_of
from eplb.migration.meeting import Meeting, Word
from eplb.migration.worker import Overdue, Worker


def soon(seconds=10.0):
    return time.monotonic() + seconds


def judged(words, missing):
    """All must be there and say yes."""
    bad = [rank for rank, word in words.items() if not word.ok]
    return Word(not missing and not bad, f"{missing} missing, {bad} complain")


def hold(words, until_s=0.5):
    """Let ranks with words meet on threads, a rank without one not at all; return the outcomes."""
    store, outcomes = dist.HashStore(), {}

    def attend(rank, word):
        meeting = Meeting(Control(store, "p", soon()), "key", rank, len(words))
        outcomes[rank] = meeting.hold(word, judged, soon(until_s), soon())

    threads = [
        threading.Thread(target=attend, args=(rank, word)) for rank, word in enumerate(words) if word is not None
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(outcomes.values())


def test_all_say_yes():
    assert hold([Word(True)] * 3, until_s=20) == [Word(True, "[] missing, [] complain")] * 3


def test_one_is_missing():
    """The others decide when their patience ends, alike."""
    assert hold([Word(True), None, Word(True)]) == [Word(False, "[1] missing, [] complain")] * 2


def test_one_complains():
    """It waits for the others, so that the outcome names all that is wrong."""
    outcomes = hold([Word(True), Word(False, ranks=(0,)), Word(True)], until_s=20)
    assert outcomes == [Word(False, "[] missing, [1] complain")] * 3


def test_one_complains_of_one_that_is_missing():
    """Nobody waits for it any longer."""
    start = time.monotonic()
    outcomes = hold([Word(True), Word(False, ranks=(2,)), None], until_s=50)
    assert outcomes == [Word(False, "[2] missing, [1] complain")] * 2
    assert time.monotonic() - start < 40


def test_a_complaint_alone_is_heard_when_patience_ends():
    assert hold([None, Word(False, ranks=(2,)), None]) == [Word(False, "[0, 2] missing, [1] complain")]


def test_what_was_decided_stays():
    """A rank that comes late reads it."""
    store = dist.HashStore()
    meetings = [Meeting(Control(store, "p", soon()), "key", rank, 2) for rank in range(2)]
    first = meetings[0].hold(Word(True), judged, soon(0.1), soon())
    assert not first.ok
    assert meetings[1].hold(Word(True), judged, soon(), soon()) == first


def test_a_store_that_hangs_is_lost():
    """Whatever it is that hangs."""

    class Hanging(dist.HashStore):
        def clone(self):
            time.sleep(3)

    with pytest.raises(StoreLost, match="did not answer in time"):
        Control(Hanging(), "p", soon(0.1))


def test_a_store_that_breaks_is_lost():
    class Broken(dist.HashStore):
        def clone(self):
            raise RuntimeError("connection reset\nby whom")

    with pytest.raises(StoreLost, match=r"^connection reset$"):
        Control(Broken(), "p", soon())


def test_groups_share_a_store():
    """Each under its own prefix; a store is its own control."""
    store = dist.HashStore()
    assert store_of(store, None) is store
    assert prefix_of([0, 1]) != prefix_of([0, 2])
    assert prefix_of([0, 1]) == prefix_of((0, 1))


def test_calls_return_and_raise_in_order():
    worker = Worker("test")
    assert [worker.call(lambda n=n: n * n, soon()) for n in range(3)] == [0, 1, 4]
    with pytest.raises(ZeroDivisionError):
        worker.call_whole(lambda: 1 // 0)


def test_a_call_is_left_behind():
    """And the next one waits for it no longer than it may."""
    worker, release = Worker("test"), threading.Event()
    for call in (release.wait, lambda: 1):
        with pytest.raises(Overdue):
            worker.call(call, soon(0.05))
    release.set()
    assert worker.call(lambda: 2, soon()) == 2


def test_a_thread_ends_with_its_worker():
    worker = Worker("test-end")
    worker.call(lambda: None, soon())
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "eplb-test-end"]
    del worker
    thread.join(10)
    assert not thread.is_alive()
