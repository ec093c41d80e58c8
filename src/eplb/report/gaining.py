"""What it is worth to know the loads, and whether that is sure: over the same slots, filled without knowing any."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eplb.advising.backtest import MOST_FOLDS
from eplb.advising.deciding import Gain, gain_of
from eplb.report.findings import Findings, PolicyFindings


def gain_of_knowing(findings: Findings, base: PolicyFindings, policy: PolicyFindings) -> Gain:
    """Return how much balancedness `policy` gains over the best that knows no loads, in up to four parts of the trace.

    The busiest rank of a layer computes for a time in proportion to 1 / balancedness, so this is the gain in tokens a
    second where nothing else takes time. With one window its range has no end.

    Parameters
    ----------
    findings : Findings
        What was replayed. Slots filled evenly know no loads either, where they were replayed.
    base : PolicyFindings
        The experts in order.
    policy : PolicyFindings
        What is judged.
    """
    rivals = [base.balancedness, *(() if findings.uninformed is None else (findings.uninformed,))]
    before = np.max([_parts(rival) for rival in rivals], axis=0)
    return gain_of((1 / before).tolist(), (1 / _parts(policy.balancedness)).tolist())


def _parts(balancedness: NDArray[np.float64]) -> NDArray[np.float64]:
    parts = np.array_split(balancedness, min(MOST_FOLDS, balancedness.size))
    return np.array([part.mean() for part in parts])
