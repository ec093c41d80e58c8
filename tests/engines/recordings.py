"""Files as the engines write them, built the way their code does, which the tests marked `engine` run."""

import json

import numpy as np

NUM_EXPERTS, NUM_RANKS, NUM_SLOTS = 8, 4, 12
LAYERS = (3, 4, 5)


def torch_file(path, value):
    """Write what `torch.save` makes of `value`, arrays as tensors."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(value, torch), path)
    return path


def tensors(value, torch):
    """Return `value` with tensors in place of arrays."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {key: tensors(entry, torch) for key, entry in value.items()}
    return [tensors(entry, torch) for entry in value] if isinstance(value, list) else value


def sound_slots(rng, num_layers=3):
    """Return the experts of twelve slots a layer, none twice on a rank, [layers, slots]."""
    rows = [rng.permutation(NUM_EXPERTS) for _ in range(num_layers)]
    return np.array([[*row, *row[[3, 4, 0, 1]]] for row in rows])


def sglang_statistics(path, counts):
    """Write a dump of a stat mode."""
    value = {"rank": 0, "logical_count": counts.astype(np.int32), "average_utilization_rate_over_window": None}
    return torch_file(path, value)


def sglang_details(folder, slots, counts):
    """Write a dump of a detail mode a rank, from physical counts [ranks, passes, layers, slots]."""
    for rank, passes in enumerate(counts):
        records = [
            {"forward_pass_id": 7 + i, "rank": rank, "gatherer_key": "primary", "global_physical_count": physical}
            for i, physical in enumerate(passes)
        ]
        value = {"records": records, "last_physical_to_logical_map": slots}
        torch_file(folder / f"expert_distribution_recorder_1764115200.5_{rank}.pt", value)
    return folder


def tensorrt_llm_statistics(folder, counts, first=100, layers=LAYERS, top_k=2):
    """Write statistics from counts [ranks, iterations, layers, experts]."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    meta = {"num_experts": counts.shape[3], "num_experts_per_token": top_k}
    (folder / "meta_info.json").write_text(json.dumps(meta))
    for rank, steps in enumerate(counts):
        entries = {f"{first + t}_{layer}": steps[t, i] for t in range(len(steps)) for i, layer in enumerate(layers)}
        save_file(entries, folder / f"rank{rank}.safetensors")
    return folder


def tensorrt_llm_balancer(path, slots, layers=LAYERS):
    """Write a configuration of the load balancer, as TensorRT-LLM's generate_eplb_config.py does."""
    lines = [f"  {layer}: [{', '.join(map(str, row))}]" for layer, row in zip(layers, slots.tolist(), strict=True)]
    text = "\n".join(["initial_global_assignments:", *lines, "layer_updates_per_iter: 0", "num_slots: 12", ""])
    path.write_text(text)
    return path


def vllm_ascend_map(path, slots, num_ranks=NUM_RANKS):
    """Write an expert map."""
    layers = [
        {
            "layer_id": layer,
            "device_count": num_ranks,
            "device_list": [
                {"device_id": rank, "device_expert": experts}
                for rank, experts in enumerate(row.reshape(num_ranks, -1).tolist())
            ],
        }
        for layer, row in enumerate(slots)
    ]
    path.write_text(json.dumps({"moe_layer_count": len(layers), "layer_list": layers}, indent=4))
    return path


def megatron_lines(ids, rank=0, layers=LAYERS):
    """Return the lines of a router trace, from ids [steps, layers, tokens, k]."""
    lines = []
    for step, rows in enumerate(ids.tolist()):
        for layer, indices in zip(layers, rows, strict=True):
            record = {"step": step, "stage": "pre_dispatch", "block": "decoder", "layer": layer, "rank": rank}
            record |= {"num_tokens": len(indices), "topk": len(indices[0]), "top_indices": indices}
            lines.append(json.dumps(record) + "\n")
    return lines


def megatron_trace(folder, ids):
    """Write router traces, from ids [ranks, steps, layers, tokens, k]."""
    folder.mkdir(parents=True, exist_ok=True)
    for rank, steps in enumerate(ids):
        (folder / f"router_trace_rank{rank}.jsonl").write_text("".join(megatron_lines(steps, rank)))
    return folder


def counted(ids, num_experts=NUM_EXPERTS):
    """Return loads [..., experts] from ids [..., tokens, k]."""
    flat = ids.reshape(*ids.shape[:-2], -1)
    return np.stack([(flat == expert).sum(axis=-1) for expert in range(num_experts)], axis=-1)
