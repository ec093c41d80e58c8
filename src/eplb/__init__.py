"""Expert-parallelism load balancing with a proven bound: see `plan`."""

from eplb import dispatch, migration, replay
from eplb.certificate import Certificate, PerLayer
from eplb.deepseek import balanced_packing, rebalance_experts, replicate_experts, replication_fixup
from eplb.dispatch.splitting import split
from eplb.errors import (
    DispatchError,
    EplbError,
    FileFormatError,
    InfeasibleError,
    InputError,
    LoadsError,
    MigrationError,
    MigrationInDoubt,
    MissingDependencyError,
    OptionError,
    PlacementError,
    RecordingError,
    TopologyError,
)
from eplb.evaluation import Evaluation, evaluate
from eplb.placement import Placement
from eplb.planning import Plan, plan
from eplb.recording import Recorder, record
from eplb.token_stream import TokenStream
from eplb.topology import Topology
from eplb.trace import LoadTrace
from eplb.trace_store import TraceStore
from eplb.warming import warm_up

__version__ = "0.4.0"

__all__ = [
    "Certificate",
    "DispatchError",
    "EplbError",
    "Evaluation",
    "FileFormatError",
    "InfeasibleError",
    "InputError",
    "LoadTrace",
    "LoadsError",
    "MigrationError",
    "MigrationInDoubt",
    "MissingDependencyError",
    "OptionError",
    "PerLayer",
    "Placement",
    "PlacementError",
    "Plan",
    "Recorder",
    "RecordingError",
    "TokenStream",
    "Topology",
    "TopologyError",
    "TraceStore",
    "balanced_packing",
    "dispatch",
    "evaluate",
    "migration",
    "plan",
    "rebalance_experts",
    "record",
    "replay",
    "replicate_experts",
    "replication_fixup",
    "split",
    "warm_up",
]
