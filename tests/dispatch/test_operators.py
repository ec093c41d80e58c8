"""Replica choice as torch operators: opcheck, compiling, tracing for a GPU that is not there, and one that is."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from eplb import MissingDependencyError
from eplb.dispatch import Dispatcher, composition, matching, operators, source_quotas, weighted_quotas
from tests.dispatch.tokens import DTYPES, KINDS, case

NAMES = ("dispatch_even", "dispatch_weighted", "dispatch_quotas", "local_first_quotas")
COMPOSED = {
    "dispatch_even": composition.even,
    "dispatch_weighted": composition.weighted,
    "dispatch_quotas": composition.quotas,
    "local_first_quotas": matching.local_first,
}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
WAITS = ("_local_scalar_dense", "nonzero", "item.", "unique", "bincount", "masked_select")


def arguments(name, seed=0, kind="padded", dtype=np.int64, device="cpu", num_experts=6):
    """Return what an operator is called with."""
    drawn = case(seed, kind, dtype, num_experts=num_experts)
    tables = Dispatcher(drawn.placement, drawn.weights).tables(1, device)
    ids = torch.from_numpy(drawn.ids).to(device)
    counts = torch.ones(len(tables.nodes), num_experts, dtype=torch.int64, device=device)
    return {
        "dispatch_even": (ids, tables.replicas, tables.counts),
        "dispatch_weighted": (ids, tables.replicas, tables.shares, torch.tensor([5], device=device), 3),
        "dispatch_quotas": (ids, tables.replicas, tables.shares >> 39),
        "local_first_quotas": (counts, tables.shares >> 38, tables.ranks, tables.nodes, 0),
    }[name]


def waits_in(graph):
    """Return the operations of a graph that need a value, or whose shape depends on one."""
    called = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    return [name for name in called if name.removeprefix("aten.").startswith(WAITS)]


def operator(name):
    return getattr(operators(), name).default


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_opcheck_finds_nothing(name, kind, device):
    """Schema, fake tensors and tracing with dynamic shapes, for hostile batches too."""
    torch.library.opcheck(operator(name), arguments(name, kind=kind, device=device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_operators_are_their_composition(name, dtype, device):
    """On every device, for all kinds of batches: the CPU's kernels decide what is right."""
    for seed, kind in enumerate(KINDS):
        found = operator(name)(*arguments(name, seed, kind, dtype, device)).cpu()
        on_cpu = arguments(name, seed, kind, dtype)
        assert torch.equal(found, operator(name)(*on_cpu))
        assert torch.equal(found, COMPOSED[name](*on_cpu))


@pytest.mark.parametrize("name", NAMES[:3])
def test_operators_compile_without_a_break(name):
    """`torch.compile` takes the whole function, with ids whose number changes."""
    torch.compiler.reset()
    compiled = torch.compile(lambda *args: operator(name)(*args) + 1, fullgraph=True, backend="aot_eager", dynamic=True)
    ids, *rest = arguments(name, kind="spread")
    for num_tokens in (len(ids), 5, 7):
        args = (ids[:num_tokens], *rest)
        assert torch.equal(compiled(*args), operator(name)(*args) + 1)


@pytest.mark.parametrize("mode", ["weighted", "even", "local-first"])
def test_an_unchecked_dispatcher_compiles_without_a_break(mode):
    """Engines may compile what calls it, once its tables are on the device; the step is a tensor and changes."""
    torch.compiler.reset()
    drawn = case(4, num_experts=6)
    options = {"rank_invariant": False, "source_rank": 0} if mode == "local-first" else {}
    dispatcher = Dispatcher(drawn.placement, mode=mode, checked=False, **options)
    dispatcher.tables(1, "cpu")
    counts = torch.from_numpy(np.bincount(drawn.ids.ravel(), minlength=6))
    counts = torch.stack([counts] * drawn.placement.topology.num_ranks) if mode == "local-first" else None
    compiled = torch.compile(lambda ids, step: dispatcher(ids, 1, step, counts), fullgraph=True, backend="aot_eager")
    ids = torch.from_numpy(drawn.ids)
    for step in range(4):
        now = torch.tensor([step])
        assert torch.equal(compiled(ids, now), dispatcher(ids, 1, now, counts))


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_is_not_waited_for(name):
    """The composition runs on tensors that have shapes and no values, so it asks for none."""
    args = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments(name)]
    found = COMPOSED[name](*args)
    like = args[1] if name == "local_first_quotas" else args[0]
    assert (found.shape, found.dtype, found.device.type) == (like.shape, like.dtype, "meta")


@pytest.mark.parametrize("name", NAMES)
def test_no_operation_reads_a_value(name):
    """None of the operations of the composition is one of those that wait for a device."""
    graph = make_fx(COMPOSED[name])(*arguments(name)).graph
    assert not waits_in(graph)


def test_quotas_of_a_group_read_no_value():
    """Nor do the quotas that engines make of counts that were gathered on the device."""

    def quotas(counts, shares, ranks, nodes, step):
        group = weighted_quotas(counts.sum(0), shares, step)
        sent = matching.local_first(counts, group, ranks, nodes, 1)
        return source_quotas(counts[1], counts[:1].sum(0), group), sent

    counts, shares = torch.tensor([[3, 1], [2, 2]]), torch.tensor([[2**39, 2**40], [2**40, 2**40]])
    args = (counts, shares, torch.tensor([[0, 1], [1, -1]]), torch.tensor([0, 1]), torch.tensor([4]))
    assert not waits_in(make_fx(quotas)(*args).graph)


@pytest.mark.parametrize("key", ["CPU", "CUDA", "XPU", "PrivateUse1", "Meta"])
@pytest.mark.parametrize("name", NAMES)
def test_devices_have_a_kernel(name, key):
    """GPUs, others that torch knows, and shapes alone."""
    operators()
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"eplb::{name}", key)


def test_operators_are_registered_once():
    assert operators().dispatch_even is operators().dispatch_even


def test_ids_may_be_a_view():
    """The result is contiguous whatever the ids are, as tracing expects."""
    ids, replicas, counts = arguments("dispatch_even", kind="spread")
    for view in (ids.T.contiguous().T, ids.flip(1)[:, ::2], ids.expand(2, *ids.shape)[1]):
        found = operator("dispatch_even")(view, replicas, counts)
        assert found.is_contiguous()
        assert torch.equal(
            found, operator("dispatch_even")(view.clone(memory_format=torch.contiguous_format), replicas, counts)
        )


def test_torch_is_not_needed_for_arrays():
    """Importing and dispatching arrays leaves it alone; operators then say how to get it."""
    code = """
    import sys
    sys.modules["torch"] = None
    import numpy as np, eplb
    from eplb.dispatch import Dispatcher, dispatch_batch, operators
    placement = eplb.Placement(physical_to_logical=[[0, 1]], topology=eplb.Topology(num_ranks=1, slots_per_rank=2))
    ids = np.array([[1, 0]])
    print(Dispatcher(placement)(ids, 0).tolist(), dispatch_batch(placement, ids, 0).tolist())
    try:
        operators()
    except eplb.MissingDependencyError as error:
        print(error)
    """
    done = subprocess.run([sys.executable, "-c", "if True:" + code], capture_output=True, text=True, check=True)
    assert done.stdout == '[[1, 0]] [[1, 0]]\nPyTorch is needed for operators; pip install "eplb[torch]"\n'
    assert issubclass(MissingDependencyError, ImportError)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NAMES)
def test_a_cuda_graph_replays_with_new_ids_and_steps(name):
    """Captured once, without a wait; replayed for other ids and another step."""
    args = arguments(name, 1, device="cuda")
    ids = args[0]
    operator(name)(*args)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.graph(graph):
            captured = operator(name)(*args)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    ids.copy_(ids.flip(0))
    if name == "dispatch_weighted":
        args[3].fill_(77)
    graph.replay()
    assert torch.equal(captured, operator(name)(*args))
