"""Hardware and a model with round figures."""

from eplb.replay.cost import Hardware, ModelShape

HARDWARE = Hardware(
    name="round",
    bf16_flops_per_s=1e12,
    memory_bandwidth_bytes_per_s=1e9,
    memory_bytes=1e9,
    node_bandwidth_bytes_per_s=1e8,
    network_bandwidth_bytes_per_s=1e7,
    efficiency=1.0,
    tile_tokens=1,
)
MODEL = ModelShape(
    name="small", num_layers=2, num_experts=4, experts_per_token=2, hidden_size=10, expert_size=100, bytes_per_weight=2
)
