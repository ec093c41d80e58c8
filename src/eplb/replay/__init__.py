"""A recorded trace driven through policies that place experts: what would each have done on windows it had not seen."""

from eplb.replay import cost
from eplb.replay.drop_in import DropInPolicy, deepseek_policy, drop_in_policy
from eplb.replay.eplb_policy import EplbPolicy
from eplb.replay.factory import POLICIES, policy_named
from eplb.replay.merging import MergingPolicy
from eplb.replay.parts import RecordedTrace
from eplb.replay.policies import ContiguousPolicy, OraclePolicy, Policy, StaticPolicy
from eplb.replay.replay import replay
from eplb.replay.result import Replay, Scores
from eplb.replay.splits import SPLITS
from eplb.replay.threshold import ThresholdPolicy
from eplb.replay.watching import ScoredWindows

__all__ = [
    "POLICIES",
    "SPLITS",
    "ContiguousPolicy",
    "DropInPolicy",
    "EplbPolicy",
    "MergingPolicy",
    "OraclePolicy",
    "Policy",
    "RecordedTrace",
    "Replay",
    "ScoredWindows",
    "Scores",
    "StaticPolicy",
    "ThresholdPolicy",
    "cost",
    "deepseek_policy",
    "drop_in_policy",
    "policy_named",
    "replay",
]
