"""Which replica computes a token: the exact weighted split, and from the experts of tokens to slots.

`Dispatcher` and `dispatch_batch` check what they are given and take arrays and tensors. Engines that hold their own
tables use `operators` and the functions that make quotas.
"""

from eplb.dispatch.batch import dispatch_batch
from eplb.dispatch.dispatcher import Dispatcher
from eplb.dispatch.local_first import local_first_quotas
from eplb.dispatch.modes import MODES
from eplb.dispatch.operators import operators
from eplb.dispatch.quotas import remainders, source_quotas, weighted_quotas
from eplb.dispatch.splitting import Split, solve_split, split
from eplb.dispatch.tables import LayerTables, cumulative_shares

__all__ = [
    "MODES",
    "Dispatcher",
    "LayerTables",
    "Split",
    "cumulative_shares",
    "dispatch_batch",
    "local_first_quotas",
    "operators",
    "remainders",
    "solve_split",
    "source_quotas",
    "split",
    "weighted_quotas",
]
