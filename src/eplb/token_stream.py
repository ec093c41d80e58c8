"""TokenStream: the experts of single tokens, from which the loads of any batch are made."""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import array_of, frozen, integers
from eplb.errors import FileFormatError, InputError, LoadsError, OptionError
from eplb.files import MAX_ARRAY_BYTES, read_npz
from eplb.placement import checked_layer_ids
from eplb.trace import LoadTrace, checked_labels, label_list, text_field

BLOCK = 1 << 20  # expert ids that are counted at once, to bound the memory
LENGTHS, LABELS = ("lengths", "lens"), ("labels", "topic")  # the names that files give them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenStream:
    """The experts that the router chose for every token of some requests, one request after another.

    Parameters
    ----------
    ids : array_like of integers, [N, L, k]
        The k experts of each token in each layer, 0 .. E-1; -1 marks a place that no expert takes and is not counted.
    lengths : sequence of Q ints
        Tokens of each request, >= 1, N in sum.
    num_experts : int, optional
        Logical experts E; default: the highest id + 1.
    layer_ids : sequence of L ints, optional
        The model's own number of each layer; default 0 .. L-1.
    model : str, default ""
        Name of the model.
    labels : sequence of Q str, optional
        A name for each request, such as its topic.

    Raises
    ------
    LoadsError
        If the ids or one of the lists is malformed.

    Examples
    --------
    Three requests of 1, 3 and 2 tokens, two at once: the third takes the place of the first.

    >>> stream = TokenStream(ids=[[[0]], [[1]], [[1]], [[2]], [[0]], [[0]]], lengths=[1, 3, 2])
    >>> stream.step_tokens(2).tolist()
    [[0, 1], [4, 2], [5, 3]]
    >>> stream.decode_steps(2).loads.tolist()
    [[[1, 1, 0]], [[1, 1, 0]], [[1, 0, 1]]]
    """

    ids: NDArray[Any]
    lengths: NDArray[np.int64]
    num_experts: int = field(default=cast("int", None))
    layer_ids: NDArray[np.int64] = field(default=cast("NDArray[np.int64]", None))
    model: str = ""
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        ids = _checked_ids(self.ids)
        lengths = _checked_lengths(self.lengths, len(ids))
        if not isinstance(self.model, str):
            raise LoadsError(f"model: expected a text, got {self.model!r}")
        put = object.__setattr__
        put(self, "ids", frozen(ids))
        put(self, "lengths", frozen(lengths))
        put(self, "num_experts", _checked_num_experts(self.num_experts, ids))
        put(self, "layer_ids", checked_layer_ids(self.layer_ids, ids.shape[1], LoadsError))
        put(self, "labels", checked_labels(self.labels, len(lengths), "request"))

    @property
    def num_tokens(self) -> int:
        """Tokens N."""
        return len(self.ids)

    @property
    def num_layers(self) -> int:
        """Layers L."""
        return int(self.ids.shape[1])

    @property
    def num_requests(self) -> int:
        """Requests Q."""
        return len(self.lengths)

    def step_tokens(self, batch_size: int, order: str | ArrayLike = "given", seed: int = 0) -> NDArray[np.int64]:
        """Return which tokens are decoded together, as rows of `ids`: [steps, batch_size].

        Continuous batching: `batch_size` requests run at once, in as many places. Each step takes the next token of
        every one; where a request has ended, the next in the order of arrival begins in the step after, the lowest
        place first. The steps end when fewer than `batch_size` requests are left to run, so that every step is a full
        batch; what the others still had to say is left out.

        Parameters
        ----------
        batch_size : int
            Requests that run at once, 1 to the number of those that arrive.
        order : {"given", "random"} or sequence of ints, default "given"
            How requests arrive: as they are stored, shuffled, or these alone, in this order.
        seed : int, default 0
            Seed of "random".

        Raises
        ------
        OptionError
            If an option is out of its range.
        """
        arrival = _arrival(order, self.num_requests, seed)
        whole = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
        if not whole or not 1 <= batch_size <= len(arrival):
            raise OptionError(
                f"batch_size: expected an integer of 1 to {len(arrival)}, the requests that arrive, got {batch_size!r}"
            )
        lengths = self.lengths[arrival]
        starts, places, num_steps = _schedule(lengths, int(batch_size))
        taken = np.minimum(starts + lengths, num_steps) - starts
        first_tokens = (np.cumsum(self.lengths) - self.lengths)[arrival]
        by_place = np.lexsort((starts, places))
        offsets = np.repeat((first_tokens - starts)[by_place], taken[by_place]).reshape(batch_size, num_steps)
        return np.ascontiguousarray((offsets + np.arange(num_steps)).T)

    def decode_steps(self, batch_size: int, order: str | ArrayLike = "given", seed: int = 0) -> LoadTrace:
        """Return the loads of decoding the stream in batches of `batch_size` requests, a window a step.

        The steps are those of `step_tokens`, which tells the parameters; `decode_steps(64).windows(32)` has windows of
        32 steps.

        Raises
        ------
        OptionError
            If an option is out of its range.
        LoadsError
            If the loads would take more than 8 GiB.
        """
        tokens = self.step_tokens(batch_size, order, seed)
        num_bytes = len(tokens) * self.num_layers * self.num_experts * np.dtype(np.int64).itemsize
        if num_bytes > MAX_ARRAY_BYTES:
            raise LoadsError(
                f"{len(tokens):,} steps take {num_bytes:,} bytes, more than {MAX_ARRAY_BYTES:,}; "
                "take a larger batch_size or fewer requests"
            )
        return LoadTrace(
            loads=self._counts(tokens),
            layer_ids=self.layer_ids,
            model=self.model,
            window=f"1 decode step x {batch_size} requests",
            phase="decode",
            tokens=np.full(len(tokens), batch_size),
        )

    def _counts(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how often each expert is chosen by the tokens of each step, [steps, L, E]."""
        shape = (self.num_layers, self.num_experts)
        loads = np.empty((len(tokens), *shape), dtype=np.int64)
        num_rows = max(1, BLOCK // (tokens.shape[1] * self.ids.shape[1] * self.ids.shape[2]))
        layers = np.arange(self.num_layers)[:, None] * self.num_experts
        for first in range(0, len(tokens), num_rows):
            ids = self.ids[tokens[first : first + num_rows]].astype(np.int64)  # [rows, batch, L, k]
            rows = np.arange(len(ids))[:, None, None, None] * (self.num_layers * self.num_experts)
            cells = (rows + layers + ids)[ids >= 0]
            counts = np.bincount(cells, minlength=len(ids) * self.num_layers * self.num_experts)
            loads[first : first + num_rows] = counts.reshape(-1, *shape)
        return loads

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TokenStream:
        """Read an `.npz` file with the arrays `ids` and `lengths` (or `lens`) and, if they are there, the other fields.

        Labels may also be called `topic`.

        Raises
        ------
        FileFormatError
            If the file is truncated, too large, or lacks one of the two.
        LoadsError
            If what it holds is no stream.
        """
        arrays = read_npz(path, ("ids", *LENGTHS, *LABELS, "num_experts", "layer_ids", "model"))
        try:
            return cls(
                ids=_needed(arrays, ("ids",), "[tokens, layers, experts of a token]"),
                lengths=_needed(arrays, LENGTHS, "[requests]"),
                num_experts=cast("int", _number(arrays.get("num_experts"))),
                layer_ids=cast("NDArray[np.int64]", arrays.get("layer_ids")),
                model=text_field(arrays, "model", ""),
                labels=label_list(_either(arrays, LABELS)),
            )
        except InputError as exc:
            raise type(exc)(f"{path}: {exc}") from None


def _either(arrays: dict[str, NDArray[Any]], names: tuple[str, ...]) -> NDArray[Any] | None:
    found = [name for name in names if name in arrays]
    if len(found) > 1:
        raise FileFormatError(f"expected one of {' and '.join(found)}, got both; drop one")
    return arrays[found[0]] if found else None


def _needed(arrays: dict[str, NDArray[Any]], names: tuple[str, ...], shape: str) -> NDArray[Any]:
    array = _either(arrays, names)
    if array is None:
        raise FileFormatError(f"expected an array {' or '.join(map(repr, names))} {shape}; the file has none")
    return array


def _number(array: NDArray[Any] | None) -> int | None:
    if array is None:
        return None
    if array.shape != () or array.dtype.kind not in "iu":
        raise FileFormatError(f"num_experts: expected an integer, got shape {array.shape} of dtype {array.dtype}")
    return int(array)


def _checked_ids(values: ArrayLike) -> NDArray[Any]:
    ids = array_of(values, "ids: expected a rectangular array [tokens, layers, experts of a token]", LoadsError)
    if ids.ndim != 3 or 0 in ids.shape:
        raise LoadsError(
            f"ids: expected [tokens, layers, experts of a token], at least one of each, got shape {ids.shape}"
        )
    if ids.dtype.kind not in "iu":
        raise LoadsError(f"ids: expected integers, got dtype {ids.dtype}")
    return np.array(ids, order="C")


def _checked_lengths(values: ArrayLike, num_tokens: int) -> NDArray[np.int64]:
    lengths = integers(values, "lengths", LoadsError)
    if (lengths < 1).any():
        index = int(np.argmax(lengths < 1))
        raise LoadsError(f"lengths: expected integers >= 1, got {lengths[index]} at index {index}; leave it out")
    total = sum(lengths.tolist())  # which cannot overflow
    if total != num_tokens:
        raise LoadsError(f"lengths: expected {num_tokens:,} tokens in sum, as there are ids, got {total:,}")
    return lengths


def _checked_num_experts(given: int | None, ids: NDArray[Any]) -> int:
    """Return the number of experts, or raise `LoadsError` naming the first id that is out of range."""
    num_experts = int(ids.max()) + 1 if given is None else given
    if not isinstance(num_experts, (int, np.integer)) or isinstance(num_experts, bool) or num_experts < 1:
        raise LoadsError(f"num_experts: expected an integer >= 1, and an id that is not -1, got {num_experts!r}")
    if int(ids.min()) < -1 or int(ids.max()) >= num_experts:
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax((ids < -1) | (ids >= num_experts))), ids.shape))
        raise LoadsError(f"ids: expected -1 to {num_experts - 1}, got {ids[index]} at {list(index)}")
    return int(num_experts)


def _arrival(order: str | ArrayLike, num_requests: int, seed: int) -> NDArray[np.int64]:
    """Return the requests in the order in which they arrive."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise OptionError(f"seed: expected an integer of 0 to 2**64 - 1, got {seed!r}")
    if isinstance(order, str):
        if order not in ("given", "random"):
            raise OptionError(f"order: expected 'given', 'random' or a list of requests, got {order!r}")
        return np.random.default_rng(seed).permutation(num_requests) if order == "random" else np.arange(num_requests)
    requests = integers(order, "order", OptionError)
    bad = np.ones(len(requests), dtype=np.bool_)
    bad[np.unique(requests, return_index=True)[1]] = False
    bad |= (requests < 0) | (requests >= num_requests)
    if bad.any() or not requests.size:
        index = int(np.argmax(bad)) if requests.size else 0
        got = f"{requests[index]} at index {index}" if requests.size else "none"
        raise OptionError(f"order: expected distinct requests of 0 to {num_requests - 1}, got {got}")
    return requests


def _schedule(lengths: NDArray[np.int64], batch_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return the first step and the place of each request, in the order of arrival, and the number of full steps."""
    starts, places = np.empty_like(lengths), np.empty_like(lengths)
    free = [(0, place) for place in range(batch_size)]  # sorted, hence a heap
    for request, length in enumerate(lengths.tolist()):
        starts[request], places[request] = step, place = free[0]
        heapq.heapreplace(free, (step + length, place))
    return starts, places, free[0][0]
