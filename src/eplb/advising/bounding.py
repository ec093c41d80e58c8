"""What no plan exceeds on windows that it knows: cheap, where an oracle is dear."""

from __future__ import annotations

import numpy as np

from eplb.advising.setting import Setting
from eplb.certificate import ratio
from eplb.planning import plan
from eplb.replay.parts import RecordedTrace, part_of, spans


def best_balancedness(trace: RecordedTrace, first: int, last: int, setting: Setting) -> float:
    """Return the mean over windows `first` to `last` - 1 of the balancedness that no plan for that window exceeds.

    Each window of each layer is planned as a layer of its own, with the least effort: the bound does not depend on the
    plan by more than rounding.
    """
    topology, split = setting.topology, "weighted" if setting.split != "even" else "even"
    found = []
    for start, end in spans(first, last, trace.num_layers * max(trace.num_experts, topology.num_slots)):
        loads = part_of(trace, start, end).loads
        layers = loads.reshape(-1, loads.shape[2])
        proof = plan(layers, topology, groups=setting.groups, split=split, effort="fast").certificate.per_layer
        means, bounds = (array.reshape(len(loads), -1).sum(axis=1) for array in (proof.mean_load, proof.lower_bound))
        found.append(ratio(means, bounds))
    return float(np.concatenate(found).mean())
