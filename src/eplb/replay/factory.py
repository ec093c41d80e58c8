"""From the name of a policy to the policy."""

from __future__ import annotations

from eplb.errors import OptionError
from eplb.forecasting import Forecaster
from eplb.replay.drop_in import deepseek_policy, drop_in_policy
from eplb.replay.eplb_policy import EplbPolicy
from eplb.replay.policies import ContiguousPolicy, OraclePolicy, Policy, StaticPolicy

POLICIES = ("contiguous", "static", "deepseek", "eplb", "oracle")


def policy_named(
    name: str,
    *,
    groups: int = 1,
    effort: str = "balanced",
    seed: int = 0,
    forecast: str | Forecaster = "auto",
    split: str = "even",
) -> Policy:
    """Return the policy called `name`.

    Parameters
    ----------
    name : {"contiguous", "static", "deepseek", "eplb", "oracle"} or str
        Or ``NAME=path/to/file.py:function``: a function with the signature of DeepSeek's `rebalance_experts`.
    groups, effort, seed
        As in `eplb.plan`, for the policies that they mean something to.
    forecast : str or Forecaster, default "auto"
        For "eplb": what is expected of the next window, as in `eplb.plan`.
    split : {"even", "weighted"}, default "even"
        For "static", "eplb" and "oracle": what they plan for, as in `eplb.plan`.

    Raises
    ------
    OptionError
        If there is no such policy.

    Examples
    --------
    >>> policy_named("static", effort="fast")
    StaticPolicy(groups=1, effort='fast', seed=0, split='even', name='static')
    """
    if not isinstance(name, str) or (name not in POLICIES and "=" not in name):
        raise OptionError(
            f"policy: expected one of {', '.join(POLICIES)}, or NAME=path/to/file.py:function, got {name!r}"
        )
    if name == "contiguous":
        return ContiguousPolicy()
    if name == "static":
        return StaticPolicy(groups=groups, effort=effort, seed=seed, split=split)
    if name == "deepseek":
        return deepseek_policy(groups)
    if name == "eplb":
        return EplbPolicy(groups=groups, effort=effort, seed=seed, forecast=forecast, split=split)
    if name == "oracle":
        return OraclePolicy(groups=groups, effort=effort, seed=seed, split=split)
    return drop_in_policy(name, groups)
