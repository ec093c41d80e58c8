"""The entry of transfers: a range of layers."""

import numpy as np

from eplb.kernels.arrays import Ints
from eplb.kernels.compiling import kernel
from eplb.kernels.migration.needs import find_needs
from eplb.kernels.migration.rounds import colour, largest_degree
from eplb.kernels.migration.sources import choose_sources

EXPERT, SOURCE, TARGET, SOURCE_SLOT, TARGET_SLOT, ROUND = range(6)
NUM_COLUMNS = 6


@kernel
def assign_layers(
    first: int,
    last: int,
    before: Ints,
    after: Ints,
    offsets: Ints,
    nodes: Ints,
    num_experts: int,
    transfers: Ints,
    num_transfers: Ints,
    num_rounds: Ints,
    missing: Ints,
) -> None:
    """Fill `transfers` [columns, L, P], of which the first ``num_transfers`` [L] of a layer count, by round and source.

    `before` and `after` [L, P] are what the slots hold, -1 for nothing; `offsets` [R + 1] the first slot of each rank,
    then P; `nodes` [R] the node of each rank. `missing` [L] is an expert that is needed and that no rank holds, or -1:
    then the layer has no transfers.
    """
    num_ranks = nodes.size
    for layer in range(first, last):
        needs = find_needs(before[layer], after[layer], offsets, num_experts)
        num_transfers[layer], num_rounds[layer], missing[layer] = 0, 0, -1
        for expert in needs.experts:
            if needs.starts[expert] == needs.starts[expert + 1]:
                missing[layer] = expert
                break
        if missing[layer] >= 0 or needs.experts.size == 0:
            continue
        sources = choose_sources(needs, nodes, layer % num_ranks)
        num_rounds[layer] = largest_degree(sources, needs.targets, num_ranks)
        sent = np.empty((num_rounds[layer], num_ranks), np.int64)
        colour(sources, needs.targets, nodes, sent)
        size = 0
        for number in range(num_rounds[layer]):
            for rank in range(num_ranks):
                k = sent[number, rank]
                if k < 0:
                    continue
                expert = needs.experts[k]
                entry = needs.starts[expert]
                while needs.holders[entry] != rank:
                    entry += 1
                transfers[EXPERT, layer, size], transfers[ROUND, layer, size] = expert, number
                transfers[SOURCE, layer, size], transfers[TARGET, layer, size] = rank, needs.targets[k]
                transfers[SOURCE_SLOT, layer, size] = needs.holder_slots[entry]
                transfers[TARGET_SLOT, layer, size] = needs.target_slots[k]
                size += 1
        num_transfers[layer] = size
