"""What would a deployment gain: settings tried on recorded traces, one by one or whole grids of them."""

from eplb.advising.advice import advise
from eplb.advising.costing import CostModel, Meter
from eplb.advising.grid import grid, read_settings
from eplb.advising.outcome import Outcome
from eplb.advising.paragraph import paragraph
from eplb.advising.recommendation import Advice
from eplb.advising.setting import Setting
from eplb.advising.sweep import Sweep, sweep
from eplb.advising.trial import policy_of, run_trial
from eplb.advising.tried import Tried

__all__ = [
    "Advice",
    "CostModel",
    "Meter",
    "Outcome",
    "Setting",
    "Sweep",
    "Tried",
    "advise",
    "grid",
    "paragraph",
    "policy_of",
    "read_settings",
    "run_trial",
    "sweep",
]
