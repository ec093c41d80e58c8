"""One rank of a small expert-parallel group that runs vLLM's own balancing code on a CPU; prints what became of it.

    python vllm_rank.py RANK RANKS FILE      FILE: where the ranks meet

Weights of an expert are its layer and its id, so that any rank can tell whether what it holds is what the map says.
"""

import json
import sys
from itertools import chain
from types import SimpleNamespace

import torch
import torch.distributed as dist
from vllm.distributed.eplb import eplb_communicator, eplb_state
from vllm.distributed.eplb.policy import EPLB_POLICIES
from vllm.plugins import load_general_plugins

LAYERS, EXPERTS, SLOTS_PER_RANK, STEPS = 3, 16, 6, 4


class Clock:
    """In place of an event of an accelerator."""

    def __init__(self, enable_timing=False):
        pass

    def record(self, stream=None):
        pass

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return 0.0


def weights_of(slots, rank):
    """Return the weights of a rank, a list of two tensors for each layer."""
    mine = slots[:, rank * SLOTS_PER_RANK : (rank + 1) * SLOTS_PER_RANK].to(torch.float32)
    layers = torch.arange(LAYERS, dtype=torch.float32)[:, None].expand_as(mine)
    both = torch.stack([layers, mine], dim=2)
    return [[both[layer].clone(), both[layer].repeat(1, 3).clone()] for layer in range(LAYERS)]


def model_of(num_ranks, rank):
    """Return what vLLM asks a model for."""
    slots = torch.tensor(
        eplb_state.EplbState.build_initial_global_physical_to_logical_map(EXPERTS, num_ranks * SLOTS_PER_RANK - EXPERTS)
    )
    return SimpleNamespace(
        num_routed_experts=EXPERTS,
        num_logical_experts=EXPERTS,
        num_physical_experts=num_ranks * SLOTS_PER_RANK,
        num_local_physical_experts=SLOTS_PER_RANK,
        num_redundant_experts=num_ranks * SLOTS_PER_RANK - EXPERTS,
        num_expert_groups=1,
        num_moe_layers=LAYERS,
        moe_layers=[],
        expert_weights=weights_of(slots.expand(LAYERS, -1), rank),
        set_eplb_state=lambda *state: None,
    )


def state_of(model):
    """Return vLLM's state of the balancer with the model added."""
    options = SimpleNamespace(
        window_size=STEPS,
        step_interval=STEPS,
        use_async=False,
        policy="default",
        communicator="torch_gloo",
        log_balancedness=False,
        log_balancedness_interval=1,
    )
    config = SimpleNamespace(eplb_config=options, enable_elastic_ep=False, num_ubatches=1)
    state = eplb_state.EplbState(config, torch.device("cpu"))
    state.add_model(model, SimpleNamespace(model="small", compute_hash=lambda: "small"))
    return state


def forward(model_state, rank, busy, rng):
    """Count the tokens of one step in the slots of this rank, as vLLM's kernel does: replicas share evenly."""
    loads = rng.integers(1, 5, (LAYERS, EXPERTS))
    loads[:, busy] += 200
    slots = model_state.physical_to_logical_map
    counts = torch.zeros(LAYERS, EXPERTS, dtype=torch.long).scatter_add_(1, slots, torch.ones_like(slots))
    shared = torch.from_numpy(loads).gather(1, slots) // counts.gather(1, slots)
    mine = slice(rank * SLOTS_PER_RANK, (rank + 1) * SLOTS_PER_RANK)
    model_state.expert_load_pass[:, mine] += shared[:, mine].to(torch.int32)


def main(rank, num_ranks, meeting):
    import numpy as np

    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=num_ranks)
    group = SimpleNamespace(device_group=dist.group.WORLD, cpu_group=dist.group.WORLD, rank=rank, world_size=num_ranks)
    eplb_state.get_ep_group = eplb_state.get_eplb_group = lambda: group
    eplb_state.get_node_count = lambda: 1
    torch.Event = Clock
    torch.accelerator.current_stream = Clock
    eplb_state.PIN_MEMORY = eplb_communicator.PIN_MEMORY = False
    load_general_plugins()
    model = model_of(num_ranks, rank)
    state = state_of(model)
    (model_state,) = state.model_states.values()
    rng, maps, sound = np.random.default_rng(0), [], []
    for window in range(6):
        for _ in range(STEPS):
            forward(model_state, rank, [window // 2, 9], rng)
            state.step()
        slots = model_state.physical_to_logical_map
        maps.append(slots.tolist())
        expected = weights_of(slots, rank)
        pairs = zip(chain(*model.expert_weights), chain(*expected), strict=True)
        sound.append(all(torch.equal(*pair) for pair in pairs))
    policy = EPLB_POLICIES["default"]
    print(json.dumps({"policy": policy.__name__, "used": state.policy is policy, "maps": maps, "sound": sound}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
