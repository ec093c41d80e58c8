"""The picture of rank loads."""

import numpy as np
import pytest

from eplb.cli.picture import NUM_ROWS, picture


def test_heights_are_on_one_scale():
    """The largest load of both fills its column; an equal load is as high on both sides."""
    lines = picture(np.array([8.0, 4.0]), np.array([4.0, 4.0]), ascii_only=True)
    assert lines[0].split() == ["before", "after"]
    assert lines[1].strip() == "###" and lines[3].split() == ["###"] * 4


def test_a_small_load_is_seen_and_none_is_not():
    """A failed rank is blank, a rank with a single token is not."""
    lines = picture(np.array([1000.0, 1.0, 0.0]), np.zeros(3))
    assert lines[-1].rstrip() == "███ ▁▁▁"


@pytest.mark.parametrize("width", [1, 2, 8, 40, 80, 200])
@pytest.mark.parametrize("num_ranks", [1, 2, 8, 64, 1000])
def test_never_wider_than_the_terminal(num_ranks, width):
    """Many ranks share a column, which shows the largest of them."""
    loads = np.arange(num_ranks, dtype=float)
    lines = picture(loads, loads, width=width)
    assert all(len(line) <= max(width, len("before")) for line in lines)
    assert len(lines) in (NUM_ROWS + 1, 2 * (NUM_ROWS + 1))


def test_the_largest_rank_is_never_lost():
    """A single hot rank among a thousand is what the picture is for."""
    loads = np.ones(1000)
    loads[567] = 100
    assert "█" in picture(loads, np.ones(1000), width=40)[1]


def test_no_load_at_all_is_drawn():
    """Blank, without a division by zero."""
    assert set("".join(picture(np.zeros(4), np.zeros(4))[1:])) <= {" "}
