"""What ranks tell each other beside the data: keys of a torch.distributed store, each call with a deadline.

Deadlines are times of the monotonic clock.
"""

from __future__ import annotations

import hashlib
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

from eplb.errors import OptionError
from eplb.migration.worker import Overdue, Worker

Result = TypeVar("Result")

LEAST_WAIT_S = 0.001  # a timeout of 0 means for ever in torch
LEAST_ANSWER_S = 0.3  # even for a rank that was stopped until its time was up: it may still learn what was decided
_CLONES: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


class StoreLost(Exception):  # noqa: N818 - it names a state
    """The store does not answer."""


class Patience(NamedTuple):
    """Until when a rank waits in a commit; the time-out covers all of it."""

    transfer: float
    """For the bytes to arrive."""
    votes: float
    """For all ranks to vote."""
    passing: float
    """For all ranks to have read the decision."""
    end: float
    """For any answer of the store."""

    @classmethod
    def of(cls, timeout_s: float) -> Patience:
        """Return what a rank has that begins now."""
        now = time.monotonic()
        return cls(*(now + share * timeout_s for share in (0.5, 0.65, 0.8, 1.0)))


class Control:
    """Keys under one prefix of a store.

    Every call returns or raises `StoreLost` at its `end`, even where the store itself hangs: a stopped host does that.

    Parameters
    ----------
    store : torch.distributed.Store
        Where it can be cloned, it is once, so that waiting here blocks nobody else.
    prefix : str
        In front of all keys.
    """

    def __init__(self, store: Any, prefix: str, end: float) -> None:
        import torch.distributed as dist

        self._worker = Worker("control")
        self._keys = self._call(lambda: dist.PrefixStore(prefix, _own_connection(store)), end)

    def set(self, key: str, value: str, end: float) -> None:
        """Write a key."""
        self._call(lambda: self._keys.set(key, value), end)

    def note(self, key: str, value: str) -> None:
        """Write a key when there is time; nobody waits for it."""
        self._worker.leave(lambda: self._keys.set(key, value))

    def add(self, key: str, amount: int, end: float) -> int:
        """Add to a number and return it; 0 if there was none."""
        return int(self._call(lambda: self._keys.add(key, amount), end))

    def has(self, key: str, end: float) -> bool:
        """Return whether a key is there."""
        return bool(self._call(lambda: self._keys.check([key]), end))

    def get(self, keys: Sequence[str], end: float) -> list[str]:
        """Return the values of keys that are there."""
        return list(self._call(lambda: self._values(list(keys)), end))

    def write_once(self, key: str, value: str, end: float) -> str:
        """Write a key that nobody has written; return what it holds, from whomever."""
        return str(self._call(lambda: self._keys.compare_set(key, "", value).decode(), end))

    def await_keys(self, keys: Sequence[str], until: float, end: float) -> bool:
        """Return whether all keys are there by `until`."""
        return bool(self._call(lambda: self._wait(list(keys), until), end))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove keys, whether they are there or not, when there is time."""
        self._worker.leave(lambda: [self._keys.delete_key(key) for key in keys])

    def together(self, calls: Callable[[], Result], end: float) -> Result:
        """Return what `calls` does with other methods of this object, handed to the thread as one."""
        return cast("Result", self._call(calls, end))

    def close(self) -> None:
        """End the thread that talks to the store."""
        self._worker.close()

    def _values(self, keys: list[str]) -> list[str]:
        at_once = keys and self._keys.has_extended_api()
        values = self._keys.multi_get(keys) if at_once else [self._keys.get(key) for key in keys]
        return [value.decode() for value in values]

    def _wait(self, keys: list[str], until: float) -> bool:
        import torch.distributed as dist

        try:
            self._keys.wait(keys, timedelta(seconds=max(LEAST_WAIT_S, until - time.monotonic())))
        except dist.DistStoreError:
            return False
        return True

    def _call(self, call: Callable[[], Any], end: float) -> Any:
        if self._worker.is_here():
            return call()
        try:
            return self._worker.call(call, max(end, time.monotonic() + LEAST_ANSWER_S))
        except Overdue:
            raise StoreLost("it did not answer in time") from None
        except RuntimeError as exc:
            raise StoreLost(str(exc).splitlines()[0]) from exc


def _own_connection(store: Any) -> Any:
    """Return a clone of a store, always the same one.

    The host of a TCPStore looks up the name of whoever connects, and answers nobody until slow DNS does: once will do.
    """
    if store not in _CLONES:
        try:
            _CLONES[store] = store.clone()
        except (AttributeError, NotImplementedError):  # older torch, or a store written in Python
            return store
    return _CLONES[store]


def store_of(control: Any, group: Any) -> Any:
    """Return the store that `control` is or has: a store, a process group, or None for the one of the data group.

    Raises
    ------
    OptionError
        If it is neither.
    """
    import torch.distributed as dist
    from torch.distributed import distributed_c10d

    if isinstance(control, dist.Store):
        return control
    owner = control if control is not None else group or dist.group.WORLD
    try:
        return distributed_c10d._get_process_group_store(owner)
    except (AttributeError, KeyError):
        raise OptionError(
            f"control: expected a torch.distributed.Store, or a process group that has one, got {type(owner).__name__}"
        ) from None


def prefix_of(ranks: Sequence[int]) -> str:
    """Return the prefix of the keys of a group, so that groups may share a store."""
    return f"eplb/migration/{hashlib.sha256(repr(list(ranks)).encode()).hexdigest()[:16]}"
