"""Rates fitted to measured times, and where they are read from."""

import json

import numpy as np
import pytest

from eplb.errors import FileFormatError, OptionError
from eplb.replay.cost import Rates, calibrate, read_measurements

TRUE = Rates(seconds_per_token=2e-7, seconds_per_activated_expert=3e-5, fixed_seconds=4e-5, overlap=0.5, tile_tokens=64)


@pytest.fixture
def points(rng):
    """Forty ranks: tokens and activated experts."""
    return np.exp(rng.uniform(2, 10, 40)).round(), rng.integers(1, 17, 40)


def test_rates_are_found_again(points):
    """From times without noise, all of them."""
    found = calibrate(*points, TRUE.fixed_seconds + TRUE.seconds(*points), tile_tokens=64)
    assert found.largest_error < 1e-3
    assert 0 < found.num_bound_by_weights < found.num_points == 40
    for name in ("seconds_per_token", "seconds_per_activated_expert", "fixed_seconds", "overlap"):
        assert getattr(found.rates, name) == pytest.approx(getattr(TRUE, name), rel=0.02)


def test_noise_is_told_of(points, rng):
    """The error of the fit is that of the times."""
    times = (TRUE.fixed_seconds + TRUE.seconds(*points)) * rng.uniform(0.9, 1.1, 40)
    found = calibrate(*points, times, tile_tokens=64)
    assert 0.02 < found.median_error < 0.1 and found.largest_error < 0.25


def test_no_rate_is_negative(points, rng):
    """Whatever the times are."""
    for _ in range(20):
        found = calibrate(*points, rng.uniform(1e-5, 1e-3, 40))
        assert min(found.rates.seconds_per_token, found.rates.seconds_per_activated_expert) >= 0
        assert found.rates.fixed_seconds >= 0 and 0 <= found.rates.overlap <= 1


def test_as_many_experts_in_all_points_leave_the_fixed_time_unknown(points):
    """It counts as weights then."""
    tokens, _ = points
    found = calibrate(tokens, 8, TRUE.fixed_seconds + TRUE.seconds(tokens, np.full(40, 8)), tile_tokens=64)
    assert not found.fixed_is_known and found.rates.fixed_seconds == 0 and found.median_error < 0.1


def test_the_order_of_points_does_not_matter(points):
    """Much: sums round."""
    times = TRUE.seconds(*points)
    forward, backward = calibrate(*points, times), calibrate(*(array[::-1] for array in points), times[::-1])
    assert forward.rates.seconds_per_token == pytest.approx(backward.rates.seconds_per_token)


@pytest.mark.parametrize(
    ("tokens", "activated", "seconds", "says"),
    [
        ([1, 2, 3], 1, [1, 2, 3], "expected at least 4 measurements, got 3"),
        ([5] * 4, [1, 2, 3, 4], [1, 2, 3, 4], "expected different numbers of tokens, got 5 in all 4 measurements"),
        ([1, 2, 3], 1, [1, 2, 3, 4], "tokens: expected 4 numbers, one for each time, got 3"),
        ([1, 2, 3, 4], 1, [1, 2, 0, 4], "seconds: expected finite numbers > 0, got 0.0 at index 2"),
        ([1, 2, 3, 4], 0, [1, 2, 3, 4], "activated_experts: expected finite numbers > 0"),
        ([1, 2, np.nan, 4], 1, [1, 2, 3, 4], "tokens: expected finite numbers > 0, got nan at index 2"),
        ("abc", 1, [1, 2, 3, 4], "tokens: expected a list of numbers"),
        ([1, 2, 3, 4], 1, 3.0, "seconds: expected a list of numbers"),
    ],
)
def test_points_that_say_nothing_are_refused(tokens, activated, seconds, says):
    """With what was expected."""
    with pytest.raises(OptionError, match=says):
        calibrate(tokens, activated, seconds)


# ---- files


def test_measurements_are_read_from_csv_and_json(tmp_path):
    """All three ways to write them say the same."""
    rows = [{"tokens": 10, "activated_experts": 2, "ms": 0.5}, {"tokens": 20, "activated_experts": 4, "ms": 1}]
    (tmp_path / "a.csv").write_text("# H100\ntokens,activated_experts,ms\n10,2,0.5\n\n20,4,1\n")
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "columns.json").write_text(json.dumps({name: [row[name] for row in rows] for name in rows[0]}))
    for name in ("a.csv", "rows.json", "columns.json"):
        found = read_measurements(tmp_path / name)
        assert found.tokens.tolist() == [10, 20] and found.activated_experts.tolist() == [2, 4]
        assert found.seconds.tolist() == [0.0005, 0.001]


def test_activated_experts_may_be_missing(tmp_path):
    """They are one number for all points then, which the caller knows."""
    (tmp_path / "a.csv").write_text("ms,tokens\n0.5,10\n")
    assert read_measurements(tmp_path / "a.csv").activated_experts is None


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "tokens,ms", "expected measurements in a .csv or .json file"),
        ("a.csv", "", "expected the columns tokens,ms or tokens,activated_experts,ms, got none"),
        ("a.csv", "tokens,seconds\n1,2", "got tokens,seconds"),
        ("a.csv", "tokens,ms,rank\n1,2,3", "got tokens,ms,rank"),
        ("a.csv", "tokens,ms\n1,2\n3", "row 3: expected 2 columns, got 1"),
        ("a.csv", "tokens,ms\n1,fast", "column ms: expected numbers"),
        ("a.json", "3", "expected a list of objects"),
        ("a.json", '[{"tokens": 1, "ms": 2}, {"tokens": 1}]', "expected the same names"),
        ("a.json", '{"tokens": [1], "ms": [1, 2]}', "expected columns of one length"),
        ("a.json", '{"tokens": [1], "ms": [null]}', "column ms: expected numbers"),
        ("a.json", "[", "not valid JSON"),
    ],
)
def test_foreign_files_are_refused(tmp_path, name, content, says):
    """With the name of the file."""
    (tmp_path / name).write_text(content)
    with pytest.raises(FileFormatError, match=says) as caught:
        read_measurements(tmp_path / name)
    assert name in str(caught.value)
