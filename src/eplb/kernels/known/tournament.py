"""A tournament of ranks: the lightest one with room is always on top, the lower id among equals.

Keys are times seen as integers (the bits of floats >= 0 are ordered as the floats are), so that a match is a
subtraction and a choice without a branch, where the branches of a heap could not be predicted.
"""

import numpy as np

from eplb.kernels.arrays import Ints
from eplb.kernels.compiling import part

OUT = np.int64(0x7FF0000000000000)  # infinity: a rank that is full or set aside


@part
def seats(num_ranks: int) -> int:
    """Return the leaves of the tree: the least power of two that seats all ranks."""
    size = 1
    while size < num_ranks:
        size *= 2
    return size


@part
def begin(keys: Ints, tree: Ints) -> None:
    """Fill `tree` [2 * seats] with the winners among `keys` [seats]; ``tree[1]`` is the lightest rank."""
    size = keys.size
    for rank in range(size):
        tree[size + rank] = rank
    for node in range(size - 1, 0, -1):
        left, right = tree[2 * node], tree[2 * node + 1]
        tree[node] = right if keys[right] < keys[left] else left


@part
def replay(keys: Ints, tree: Ints, rank: int, key: int) -> None:
    """Give `rank` a new `key` and replay its matches up to the top."""
    keys[rank] = key
    node = keys.size + rank
    winner = rank
    while node > 1:
        rival = tree[node ^ 1]
        rival_key = keys[rival]
        rival_wins = rival_key - key - (node & 1) < 0  # a left rival also wins ties
        key = rival_key if rival_wins else key
        winner = rival if rival_wins else winner
        node >>= 1
        tree[node] = winner
