"""From the options of `eplb replay` to the policies that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eplb.errors import OptionError
from eplb.forecasting import forecaster_named
from eplb.replay import POLICIES, DropInPolicy, EplbPolicy, Policy, policy_named
from eplb.replay.drop_in import why_no_drop_in
from eplb.topology import Topology


def policies_from(
    names: Sequence[str], forecasts: Sequence[str], topology: Topology, **planning: Any
) -> tuple[list[Policy], list[str]]:
    """Return the policies, one "eplb" for each forecast, and what there is to say about those left out.

    Each is given those of the options `planning` (groups, effort, seed, split) that mean something to it.

    Raises
    ------
    OptionError
        If a policy or a forecast is unknown, comes twice, or cannot plan for this machine.
    """
    policies, notes = [], []
    reason = why_no_drop_in(topology)
    for name in names or POLICIES:
        policy = policy_named(name, **planning)
        if reason and isinstance(policy, DropInPolicy):
            if names:
                raise OptionError(f"--policy {policy.name}: cannot plan where {reason}; leave it out")
            notes.append(f"{policy.name} is left out: {reason}")
        elif isinstance(policy, EplbPolicy):
            policies += _by_forecast(policy, forecasts)
        else:
            policies.append(policy)
    _check(policies, forecasts)
    return policies, notes


def name_of(policy: Policy) -> str:
    """Return what results call `policy`."""
    return str(getattr(policy, "name", type(policy).__name__))


def _by_forecast(policy: EplbPolicy, forecasts: Sequence[str]) -> list[Policy]:
    if not forecasts:
        return [policy]
    return [replace(policy, name=f"{policy.name} ({name})", forecast=forecaster_named(name)) for name in forecasts]


def _check(policies: Sequence[Policy], forecasts: Sequence[str]) -> None:
    names = [name_of(policy) for policy in policies]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionError(f"--policy, --forecast: {twice!r} comes twice; name each once")
    if forecasts and not any(isinstance(policy, EplbPolicy) for policy in policies):
        raise OptionError("--forecast: only the policy eplb forecasts; add --policy eplb, or leave the forecast out")
