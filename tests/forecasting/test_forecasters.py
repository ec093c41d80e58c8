"""Forecasters as a caller sees them: what they expect, that they know no future, and what they refuse."""

import numpy as np
import pytest

from eplb import LoadsError, OptionError
from eplb.forecasting import (
    FORECASTERS,
    Auto,
    DriftAware,
    Exponential,
    Forecaster,
    Last,
    Mean,
    checked_forecast,
    forecaster_named,
)

NAMES = tuple(FORECASTERS)


@pytest.fixture
def history(rng):
    """Ten windows of three layers with five experts."""
    return rng.lognormal(0, 1, (10, 3, 5))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_forecast_from_the_future(name, history):
    """Entry t stays the same, bit for bit, whatever comes after window t."""
    forecaster = forecaster_named(name)
    whole = forecaster.forecast(history)
    changed = history.copy()
    changed[6:] = 1000 * changed[6:][::-1]
    np.testing.assert_array_equal(forecaster.forecast(changed)[:6], whole[:6])
    np.testing.assert_array_equal(forecaster.forecast(history[:6])[:6], whole[:6])


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_forecast_each_on_its_own(name, history):
    """What other layers do changes nothing."""
    forecaster = forecaster_named(name)
    np.testing.assert_array_equal(forecaster.forecast(history[:, 1:2]), forecaster.forecast(history)[:, 1:2])


@pytest.mark.parametrize("name", NAMES)
def test_what_never_changes_is_expected_again(name):
    """Every forecaster is right on a constant series, from the first window on."""
    loads = np.tile([[[3.0, 0.0, 7.0]]], (6, 1, 1))
    np.testing.assert_array_equal(forecaster_named(name).forecast(loads), loads)


@pytest.mark.parametrize("name", NAMES)
def test_expectations_stay_within_what_has_been(name, history):
    """No forecast is below the least or above the largest load of its expert so far."""
    forecasts = forecaster_named(name).forecast(history)
    assert (forecasts <= np.maximum.accumulate(history) * (1 + 1e-12)).all()
    assert (forecasts >= np.minimum.accumulate(history) * (1 - 1e-12)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("load", [1.7e308, 5e-324], ids=["huge", "tiny"])
def test_forecasts_of_huge_and_tiny_loads_are_finite(name, load):
    """Experts that take turns at the ends of float64 overflow nothing."""
    loads = np.zeros((6, 1, 8))
    loads[::2, 0, :4] = load
    loads[1::2, 0, 4:] = load
    forecasts = forecaster_named(name).forecast(loads)
    assert ((forecasts >= 0) & (forecasts <= load)).all()


def test_last_expects_the_last_window(history):
    """Nothing older counts."""
    np.testing.assert_allclose(Last().forecast(history), history, rtol=1e-12)


def test_mean_expects_the_mean_of_all(history):
    """All windows count alike."""
    np.testing.assert_allclose(Mean().forecast(history)[-1], history.mean(axis=0), rtol=1e-12)


def test_exponential_halves_the_weight_of_each_window():
    """1, 1/2, 1/4: the mean of 0, 0, 7 is 4."""
    assert Exponential().forecast([[[0.0]], [[0.0]], [[7.0]]])[-1, 0, 0] == pytest.approx(4.0)


def test_a_pull_is_towards_the_mean_of_all():
    """Half the way from the last window, 8, to the mean, 5."""
    forecasts = Exponential(decay=0.0, pull=0.5).forecast([[[2.0]], [[8.0]]])
    assert forecasts[-1, 0, 0] == pytest.approx(6.5)


def test_drift_follows_a_shift_and_averages_noise(rng):
    """After a shift it is nearer to the new level than a mean is; on noise, nearer than the last window."""
    before, level = np.full((10, 1, 6), 2.0), np.array([9.0, 0.5, 2, 7, 1, 3])
    shifted = np.concatenate([before, np.tile(level, (3, 1, 1))])
    noise = level * rng.lognormal(0, 0.3, (40, 1, 6))

    def miss(forecaster, loads):
        return abs(forecaster.forecast(loads)[-1] - level).sum()

    assert miss(DriftAware(), shifted) < 0.2 * miss(Mean(), shifted)
    assert miss(DriftAware(), noise) < 0.7 * miss(Last(), noise)


def wander(rng, num_windows=30):
    """Return loads that walk at random: the last window tells all."""
    return 50 + np.cumsum(rng.normal(0, 1, (num_windows, 1, 8)), axis=0)


def noise(rng, num_windows=30):
    """Return loads around a level that stays: the mean tells all."""
    return 50 + rng.normal(0, 5, (num_windows, 1, 8))


@pytest.mark.parametrize(("series", "best"), [(wander, Last), (noise, Mean)], ids=["a walk", "noise"])
def test_auto_is_about_as_good_as_the_best(rng, series, best):
    """On series made for one forecaster, its later forecasts miss by hardly more than those of that one."""
    loads = series(rng)

    def squared_miss(forecaster):
        return ((forecaster.forecast(loads)[10:-1] - loads[11:]) ** 2).sum()

    worst = max(squared_miss(Last()), squared_miss(Mean()))
    assert squared_miss(Auto()) <= 1.1 * squared_miss(best())
    assert squared_miss(Auto()) < 0.8 * worst


def test_auto_chooses_for_each_layer(rng):
    """A layer that walks gets the last window, one of noise does not; the choice is told."""
    loads = np.concatenate([wander(rng), noise(rng)], axis=1)
    _, chosen = Auto(candidates=((0.0, 0.0), (1.0, 0.0))).forecast_and_choice(loads)
    assert chosen[-1, 0] == 0
    assert chosen[-1, 1] != 0


def test_auto_with_one_window_expects_it_again(history):
    """Nothing was forecast yet that could be wrong."""
    np.testing.assert_array_equal(Auto().forecast(history[:1]), history[:1])


def test_a_forecast_leaves_the_loads_as_they_were(history):
    """Neither the array nor its flags change, and read-only loads will do."""
    before = history.copy()
    history.setflags(write=False)
    for name in NAMES:
        forecaster_named(name).forecast(history)
    np.testing.assert_array_equal(history, before)


def test_every_name_makes_a_forecaster():
    """All have the one method that a caller's own needs."""
    assert all(isinstance(forecaster_named(name), Forecaster) for name in NAMES)


def test_an_unknown_name_lists_the_known_ones():
    """The message says what there is."""
    with pytest.raises(OptionError, match="expected one of last, mean, exponential, drift, auto, got 'prophet'"):
        forecaster_named("prophet")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Exponential(decay=1.5), "decay: expected a number of 0 to 1, got 1.5"),
        (lambda: Exponential(decay=float("nan")), "decay: .* got nan"),
        (lambda: Exponential(decay=True), "decay: .* got True"),
        (lambda: Exponential(pull=-0.1), "pull: .* got -0.1"),
        (lambda: DriftAware(slowest=0), "slowest: expected a number above 0 and up to 1, got 0"),
        (lambda: DriftAware(slowest="fast"), "slowest: .* got 'fast'"),
        (lambda: Auto(candidates=()), "candidates: expected at least one pair"),
        (lambda: Auto(candidates=((2.0, 0.0),)), "decay: .* got 2.0"),
    ],
)
def test_bad_parameters_are_refused(make, says):
    """The message names the parameter, its range and what came."""
    with pytest.raises(OptionError, match=says):
        make()


@pytest.mark.parametrize(
    ("loads", "says"),
    [
        ([[1.0, 2.0]], r"got shape \(1, 2\)"),
        ([[[1.0, float("nan")]]], r"got nan at \[0, 0, 1\]"),
        ([[[1.0, -2.0]]], r"got -2.0 at \[0, 0, 1\]"),
        (np.zeros((0, 1, 2)), "at least one entry"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_bad_loads_are_refused(name, loads, says):
    """A forecast wants windows of finite loads >= 0."""
    with pytest.raises(LoadsError, match=says):
        forecaster_named(name).forecast(loads)


class Says:
    """A forecaster that returns what it was made with."""

    def __init__(self, forecasts):
        self.forecasts = forecasts

    def forecast(self, loads):
        return self.forecasts


@pytest.mark.parametrize(
    ("forecasts", "says"),
    [
        (np.ones((1, 2)), r"got shape \(1, 2\)"),
        (np.ones((3, 1, 2)), r"forecast: expected one a window, shape \(2, 1, 2\), got \(3, 1, 2\)"),
        (np.full((2, 1, 2), np.nan), r"forecast: .* got nan at \[0, 0, 0\]"),
        (np.full((2, 1, 2), -1.0), r"forecast: .* got -1.0 at \[0, 0, 0\]"),
        ("tomorrow", "dtype <U8"),
        (None, "dtype object"),
    ],
)
def test_what_a_forecaster_returns_is_checked(forecasts, says):
    """A forecaster of the caller's own may be wrong; the message says how."""
    with pytest.raises(LoadsError, match=says):
        checked_forecast(Says(forecasts), np.ones((2, 1, 2)))


@pytest.mark.parametrize("what", [5, None, Mean, Exponential, Says], ids=range(5))
def test_an_object_with_a_method_forecast_is_wanted(what):
    """Numbers, functions and classes (not yet made) are none."""
    with pytest.raises(OptionError, match="forecast: expected an object with a method forecast, got"):
        checked_forecast(what, np.ones((2, 1, 2)))
