"""Why a layer waits."""

import numpy as np
import pytest

import eplb
from eplb.replay import ContiguousPolicy, OraclePolicy, StaticPolicy
from eplb.report import Settings, examine
from eplb.report.reasons import reasons_of

FEW = Settings(budgets=(), first=1)


def reasons(loads, topology, name, *policies):
    """Return the reasons of the policy called `name`."""
    found = examine(eplb.LoadTrace(loads=loads), topology, [ContiguousPolicy(), StaticPolicy(), *policies], FEW)
    return reasons_of(found, found.named(name))


def test_too_few_slots_are_told_from_the_bound():
    """One expert has nearly everything, and a single slot."""
    (reason,) = reasons([[[900, 50, 50]]] * 4, eplb.Topology(num_ranks=3, slots_per_rank=1), "static")
    assert reason.cause.startswith("Too few slots: no plan exceeds 0.370")
    assert "Expert 0 alone has 90.0% of the tokens" in reason.cause


def test_change_is_told_from_the_oracle():
    """The loads turn around when the plan is made."""
    loads = [[[90, 90, 10, 10]]] + [[[90, 10, 90, 10]], [[10, 90, 10, 90]]] * 2
    topology = eplb.Topology(num_ranks=2, slots_per_rank=2)
    (reason,) = reasons(loads, topology, "static", OraclePolicy())
    assert reason.oracle == 1.0 and reason.balancedness < 1
    assert "80.0% of the tokens go to other experts" in reason.cause


def test_nothing_placed_is_told_as_such():
    """The experts in order, where a plan would do."""
    (reason,) = reasons([[[90, 90, 10, 10]]] * 3, eplb.Topology(num_ranks=2, slots_per_rank=2), "contiguous")
    assert reason.cause.startswith("Nothing is placed by load: a plan reaches 1.000")


def test_the_moment_names_window_rank_and_experts():
    """With shares and replicas, heaviest first."""
    loads = np.array([[[20, 20, 20]], [[20, 20, 20]], [[70, 20, 10]]])
    (reason,) = reasons(loads, eplb.Topology(num_ranks=2, slots_per_rank=2), "contiguous")
    assert reason.moment == (
        "Window 2: rank 0 had 1.10 times the mean, with expert 0 (70.0% in 2 replicas), expert 1 (20.0%). "
        "A rank's equal share is 50.0%."
    )


def test_layers_that_wait_most_come_first(found):
    """Shares of all waiting fall, and belong to different layers."""
    shares = [reason.waiting_share for reason in reasons_of(found, found.best)]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)
