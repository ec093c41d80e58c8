"""A binary heap of ids, smallest key first, the lower id first among equal keys."""

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import part


@part
def sift_up(heap: Ints, keys: Floats, child: int) -> None:
    """Move the id at position `child` up to where it belongs."""
    item = heap[child]
    while child > 0:
        parent = (child - 1) >> 1
        if not _before(keys, item, heap[parent]):
            break
        heap[child] = heap[parent]
        child = parent
    heap[child] = item


@part
def sift_down(heap: Ints, keys: Floats, size: int) -> None:
    """Move the id at the top of the first `size` positions down to where it belongs."""
    if size <= 1:
        return
    item = heap[0]
    key = keys[item]
    parent = 0
    child = 1
    while child < size:
        below = heap[child]
        if child + 1 < size and _before(keys, heap[child + 1], below):
            child += 1
            below = heap[child]
        if not (keys[below] < key or (keys[below] == key and below < item)):
            break
        heap[parent] = below
        parent = child
        child = 2 * parent + 1
    heap[parent] = item


@part
def _before(keys: Floats, a: int, b: int) -> bool:
    return keys[a] < keys[b] or (keys[a] == keys[b] and a < b)
