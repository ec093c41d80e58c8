"""Nothing public is accidental: the names, the signatures, and what `import eplb` brings along."""

import importlib.metadata
import inspect
import subprocess
import sys
import types

import pytest

import eplb

PUBLIC = [
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

SIGNATURES = {
    "plan": (
        "(loads, topology, groups=1, previous=None, max_moves=None, split='even', effort='balanced', seed=0, *, "
        "max_moves_per_rank=None, move_cost=None, horizon=1.0, cost_per_activated_slot=0.0, forecast='auto', "
        "recency=0.9)"
    ),
    "evaluate": "(placement, loads, split='even', *, cost_per_activated_slot=0.0, whole_tokens=False)",
    "split": "(placement, loads, *, fixed_costs=None, source_loads=None)",
    "rebalance_experts": "(weight, num_replicas, num_groups, num_nodes, num_gpus, policy='fixup')",
    "replicate_experts": "(weight, num_phy)",
    "balanced_packing": "(weight, num_packs)",
    "replication_fixup": "(weight, logcnt, steps=1, strict=True)",
    "warm_up": "(split=None)",
    "Topology": "(*, num_ranks, slots_per_rank, num_nodes=1, rank_speeds=None, failed_ranks=())",
    "Placement": "(*, physical_to_logical, topology, num_experts=-1, layer_ids=None)",
    "LoadTrace": "(*, loads, layer_ids=None, model='', window='', phase='mixed', tokens=None, labels=None)",
    "TokenStream": "(*, ids, lengths, num_experts=None, layer_ids=None, model='', labels=None)",
    "TraceStore": "(path)",
}

MEMBERS = {
    "Plan": {"placement", "certificate", "moves", "restored", "largest_load_before"},
    "Certificate": {
        "mean_load",
        "largest_load",
        "lower_bound",
        "balancedness",
        "best_balancedness",
        "gap",
        "per_layer",
    },
    "PerLayer": {"mean_load", "largest_load", "lower_bound", "balancedness", "best_balancedness", "gap"},
    "Placement": {"physical_to_logical", "logical_to_physical", "replica_counts", "topology", "hash", "save", "load"},
    "Evaluation": {"rank_loads", "mean_loads", "largest_loads", "balancedness", "activated_experts"},
    "LoadTrace": {"loads", "layer_ids", "model", "window", "phase", "tokens", "windows", "part", "save", "load"},
    "TokenStream": {"ids", "lengths", "num_experts", "layer_ids", "labels", "step_tokens", "decode_steps", "load"},
    "TraceStore": {"create", "open", "from_trace", "append", "part", "num_windows", "num_layers", "num_experts"},
}

OPTIONAL_OR_SLOW = ("numba", "torch", "zarr", "typer", "rich", "scipy", "pandas", "matplotlib")


def signature_of(name):
    """Return the parameters of a public function or class with their defaults, without their types."""
    signature = inspect.signature(getattr(eplb, name))
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def in_a_fresh_process(code):
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.split()


def test_the_public_names_are_these():
    """A name that comes or goes is a decision, and is written here too."""
    assert eplb.__all__ == PUBLIC


def test_nothing_else_shows():
    """Beside the public names the package shows its own modules alone."""
    others = {name for name in dir(eplb) if not name.startswith("_")} - set(PUBLIC)
    for name in others:
        module = getattr(eplb, name)
        assert isinstance(module, types.ModuleType), name
        assert module.__name__ == f"eplb.{name}", name


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_a_contract(name):
    """Parameters, their order and their defaults stay."""
    assert signature_of(name) == SIGNATURES[name]


@pytest.mark.parametrize("name", MEMBERS)
def test_members_are_a_contract(name):
    """What users read from results stays."""
    assert MEMBERS[name] <= set(dir(getattr(eplb, name)))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    """Each public function and class says what it is in one sentence, and members do too."""
    thing = getattr(eplb, name)
    assert inspect.getdoc(thing).split("\n")[0].endswith(".")
    for member, value in vars(thing).items() if inspect.isclass(thing) else ():
        if not member.startswith("_") and (callable(value) or isinstance(value, property | classmethod)):
            assert inspect.getdoc(value), f"{name}.{member}"


def test_importing_brings_nothing_slow_along():
    """`import eplb` imports numpy alone: no compiler, no framework, no extra."""
    loaded = in_a_fresh_process("import eplb, sys; print(*sys.modules)")
    assert "numpy" in loaded
    assert [name for name in OPTIONAL_OR_SLOW if name in loaded] == []


def test_the_nouns_work_without_the_compiler():
    """Reading, checking and evaluating a placement import nothing slow either."""
    code = (
        "import sys; from eplb import *; t = Topology(num_ranks=2, slots_per_rank=1); "
        "evaluate(Placement(physical_to_logical=[[0, 1]], topology=t), LoadTrace(loads=[[1, 2]])); print(*sys.modules)"
    )
    loaded = in_a_fresh_process(code)
    assert [name for name in OPTIONAL_OR_SLOW if name in loaded] == []


def test_the_version_is_that_of_the_package():
    """The version in the code is the one that was installed."""
    assert eplb.__version__ == importlib.metadata.version("eplb")
