"""From loads to a placement with a certificate."""

from eplb.planning.plan import Plan, plan

__all__ = ["Plan", "plan"]
