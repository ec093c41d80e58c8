"""What one rank's processor, memory and links can do."""

from __future__ import annotations

from dataclasses import dataclass

from eplb.arrays import nonnegative
from eplb.errors import OptionError
from eplb.replay.cost.checking import count, positive, share, text

COMPUTE_TYPES = ("bf16", "fp8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One rank, in figures of its datasheet, and the share of them that is reached.

    Parameters
    ----------
    name : str
        What results call it.
    bf16_flops_per_s : float
        Peak of dense matrix products in BF16, > 0.
    fp8_flops_per_s : float, optional
        The same in FP8. Default: that of BF16.
    memory_bandwidth_bytes_per_s : float
        Peak of reading weights, > 0.
    memory_bytes : float
        Memory of the rank, > 0.
    node_bandwidth_bytes_per_s : float
        Peak to other ranks of its node, in one direction, > 0.
    network_bandwidth_bytes_per_s : float
        Peak to ranks of other nodes, in one direction, > 0.
    efficiency : float, default 0.7
        Share of all these peaks that is reached, above 0 and up to 1. An assumption, no measurement: times are as good
        as it is. It is one share for all peaks, so a gain in percent does not depend on it as long as nothing fixed
        is added; `eplb.replay.cost.calibrate` replaces it for the experts.
    tile_tokens : int, default 64
        Rows of a tile: the tokens of each activated expert count rounded up to a multiple.
    fixed_seconds_per_layer : float, default 0
        What a layer takes beside products and exchanges, such as launches. 0 makes gains look larger than they are.
    exchange_latency_seconds : float, default 0
        What dispatch and combine each take without any bytes, where there are several ranks.
    source : str, default ""
        Where the figures are published.

    Raises
    ------
    OptionError
        If a figure is out of range.
    """

    name: str
    bf16_flops_per_s: float
    memory_bandwidth_bytes_per_s: float
    memory_bytes: float
    node_bandwidth_bytes_per_s: float
    network_bandwidth_bytes_per_s: float
    fp8_flops_per_s: float | None = None
    efficiency: float = 0.7
    tile_tokens: int = 64
    fixed_seconds_per_layer: float = 0.0
    exchange_latency_seconds: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        for name in (
            "bf16_flops_per_s",
            "memory_bandwidth_bytes_per_s",
            "memory_bytes",
            "node_bandwidth_bytes_per_s",
            "network_bandwidth_bytes_per_s",
        ):
            positive(getattr(self, name), name)
        if self.fp8_flops_per_s is not None:
            positive(self.fp8_flops_per_s, "fp8_flops_per_s")
        share(self.efficiency, "efficiency", zero=False)
        count(self.tile_tokens, "tile_tokens")
        nonnegative(self.fixed_seconds_per_layer, "fixed_seconds_per_layer")
        nonnegative(self.exchange_latency_seconds, "exchange_latency_seconds")
        text(self.name, "name")
        text(self.source, "source")

    def flops_per_s(self, compute_type: str) -> float:
        """Return the products' rate that is reached in "bf16" or "fp8".

        Raises
        ------
        OptionError
            If `compute_type` is neither.
        """
        if compute_type not in COMPUTE_TYPES:
            raise OptionError(f"compute_type: expected one of {', '.join(COMPUTE_TYPES)}, got {compute_type!r}")
        peak = self.fp8_flops_per_s if compute_type == "fp8" else None
        return (peak or self.bf16_flops_per_s) * self.efficiency
