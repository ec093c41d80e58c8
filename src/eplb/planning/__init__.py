"""From loads to a placement with a certificate."""

from eplb.planning.plan import Plan, plan, warm_up

__all__ = ["Plan", "plan", "warm_up"]
