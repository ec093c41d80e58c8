"""Checksums see what may happen to bytes on their way."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.migration.checksums import checksum

WORD = 2**64


def plain_checksum(parts):
    """Return the same, word by word in Python's own integers."""
    sums = []
    for part in parts:
        data = part.numpy().tobytes()
        data += bytes(-len(data) % 8)
        words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]
        whole = len(words) // 64 * 64
        sums += [sum(words[i : i + 64]) for i in range(0, whole, 64)] + words[whole:]
    total = sum(value * (2 * place + 1) for place, value in enumerate(sums)) % WORD
    return total - WORD if total >= WORD // 2 else total


def random_bytes(seed, count):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8))


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), lengths=st.lists(st.integers(1, 2000), min_size=1, max_size=3))
def test_checksums_are_what_they_say(seed, lengths):
    """For parts of any length, and parts that do not begin at a word."""
    parts = [random_bytes(seed, length + 3)[3:] for length in lengths]
    assert int(checksum(parts)) == plain_checksum(parts)


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 3000), data=st.data())
def test_any_change_of_a_word_is_seen(seed, length, data):
    """A flipped bit, a zeroed byte, another word."""
    part = random_bytes(seed, length)
    changed = part.clone()
    at = data.draw(st.integers(0, length - 1))
    word = slice(at // 8 * 8, at // 8 * 8 + 8)
    changed[word] = random_bytes(seed + 1, len(changed[word]))
    assert (int(checksum([part])) == int(checksum([changed]))) == torch.equal(part, changed)
    part[at] ^= 1 << data.draw(st.integers(0, 7))
    assert int(checksum([part])) != int(checksum([random_bytes(seed, length)]))


@pytest.mark.parametrize("shift", [8, 512, 4096])
def test_bytes_at_another_place_are_seen(shift):
    """Shifted as a whole, by a word, a chunk or a page."""
    part = random_bytes(5, 65536)
    assert int(checksum([part])) != int(checksum([part.roll(shift)]))


def test_parts_that_change_places_are_seen():
    first, second = random_bytes(1, 640), random_bytes(2, 640)
    assert int(checksum([first, second])) != int(checksum([second, first]))
