"""Certificate: loads, bound, gap; by layer and over layers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import Certificate, LoadsError, PerLayer, Topology, evaluate, plan

NAMES = ("mean_load", "largest_load", "lower_bound")

layers = st.lists(st.tuples(st.floats(0, 1e9), st.floats(1, 4), st.floats(1, 2)), min_size=1, max_size=6)


@pytest.fixture
def certificate():
    """Return the certificate of a perfect layer, a layer with a gap, and a layer without load."""
    return Certificate(
        per_layer=PerLayer(mean_load=[4.0, 4.0, 0.0], largest_load=[4.0, 6.0, 0.0], lower_bound=[4.0, 5.0, 0.0])
    )


def assert_refused(match, **changes):
    with pytest.raises(LoadsError, match=match):
        PerLayer(**{**dict.fromkeys(NAMES, (1.0, 2.0)), **changes})


def test_sums_over_layers_count(certificate):
    """Layers run one after another: loads add up before anything is divided."""
    assert (certificate.mean_load, certificate.largest_load, certificate.lower_bound) == (8.0, 10.0, 9.0)
    assert (certificate.balancedness, certificate.best_balancedness) == (8 / 10, 8 / 9)
    assert certificate.gap == 10 / 9 - 1


def test_each_layer_has_its_own_numbers(certificate):
    """A layer without load is in balance and proven optimal."""
    assert certificate.per_layer.balancedness.tolist() == [1.0, 4 / 6, 1.0]
    assert certificate.per_layer.best_balancedness.tolist() == [1.0, 4 / 5, 1.0]
    assert certificate.per_layer.gap.tolist() == [0.0, 6 / 5 - 1, 0.0]


def test_no_load_at_all_is_in_balance():
    """Nothing is divided by zero."""
    nothing = Certificate(per_layer=PerLayer(**dict.fromkeys(NAMES, (0.0, 0.0))))
    assert (nothing.balancedness, nothing.best_balancedness, nothing.gap) == (1.0, 1.0, 0.0)


@given(layers)
@settings(deadline=None)
def test_certificates_agree_with_plain_sums(drawn):
    """Over layers, the definitions hold on sums; the gap is never negative where largest >= bound."""
    bound = [mean * factor for mean, factor, _ in drawn]
    largest = [low * excess for low, (_, _, excess) in zip(bound, drawn, strict=True)]
    found = Certificate(per_layer=PerLayer(mean_load=[d[0] for d in drawn], largest_load=largest, lower_bound=bound))
    if sum(bound) > 0:
        assert found.gap == pytest.approx(sum(largest) / sum(bound) - 1, rel=1e-9, abs=1e-12)
        assert found.balancedness == pytest.approx(sum(d[0] for d in drawn) / sum(largest))
    assert found.gap >= 0
    assert found.balancedness <= found.best_balancedness <= 1


def test_a_certificate_prints_what_matters(certificate):
    """The short form holds balancedness, loads and gap."""
    assert repr(certificate) == "Certificate(balancedness=0.8000, largest_load=10, lower_bound=9, gap=11.11%)"


def test_what_the_caller_passed_stays_the_callers():
    """Arrays are copied: the caller's are neither frozen nor looked at again."""
    loads = np.array([1.0])
    per_layer = PerLayer(**dict.fromkeys(NAMES, loads))
    loads[:] = 9
    assert per_layer.mean_load.tolist() == [1.0]
    assert not per_layer.mean_load.flags.writeable


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"expected numbers \[layers\], got shape \(0,\)"),
        (1.0, r"expected numbers \[layers\], got shape \(\)"),
        ([[1.0, 2.0]], r"expected numbers \[layers\], got shape \(1, 2\)"),
        (["1", "2"], r"expected numbers \[layers\], got shape \(2,\) of dtype <U1"),
        ([[1], [2, 3]], r"expected numbers \[layers\]; .*inhomogeneous"),
    ],
)
def test_layers_that_are_none_are_refused(name, value, message):
    """The message names the field and what came."""
    assert_refused(f"{name}: {message}", **{name: value})


def test_layers_of_different_number_are_refused():
    """All three arrays have one entry a layer."""
    assert_refused(r"expected one length, got \(2, 3, 2\)", largest_load=[1.0, 2.0, 3.0])


def test_a_plan_is_certified_for_what_it_does(rng):
    """The largest loads of a plan's certificate are those of its evaluation, and the bound is below."""
    topology = Topology(num_ranks=3, slots_per_rank=[3, 4, 3], rank_speeds=[1, 2, 1])
    loads = rng.integers(0, 1000, (4, 8))
    result = plan(loads, topology)
    evaluation = evaluate(result.placement, loads)
    assert result.certificate.per_layer.largest_load == pytest.approx(evaluation.largest_loads[0])
    assert result.certificate.per_layer.mean_load == pytest.approx(evaluation.mean_loads[0])
    assert result.certificate.balancedness == pytest.approx(evaluation.balancedness[0])
    assert (result.certificate.per_layer.gap >= 0).all()
