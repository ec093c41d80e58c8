"""The size of a model's experts, and what each token costs."""

from __future__ import annotations

from dataclasses import dataclass

from eplb.errors import OptionError
from eplb.replay.cost.checking import count, positive, text
from eplb.replay.cost.hardware import COMPUTE_TYPES

MATRICES = 3  # gate, up and down projection


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A model with gated experts: gate, up and down projection of ``hidden_size x expert_size``.

    Parameters
    ----------
    name : str
        What results call it.
    num_layers : int
        MoE layers, >= 1; dense ones do not count.
    num_experts : int
        Routed experts E of a layer, >= 1.
    experts_per_token : int
        Experts that a token is routed to, 1 to E.
    hidden_size : int
        Values of a token between layers, >= 1.
    expert_size : int
        Values of a token inside an expert (``moe_intermediate_size``), >= 1.
    bytes_per_weight : float
        Bytes of a weight of an expert in memory, scales included, > 0.
    compute_type : {"bf16", "fp8"}, default "bf16"
        In which type products are computed.
    dispatch_bytes_per_value : float, default 2
        Bytes of a value that is sent to an expert.
    combine_bytes_per_value : float, default 2
        Bytes of a value that comes back.
    num_hidden_layers : int, optional
        Layers of the model, dense ones included. Default: `num_layers`.
    source : str, default ""
        Where the figures are published.

    Raises
    ------
    OptionError
        If a figure is out of range.

    Examples
    --------
    >>> shape = ModelShape(name="a", num_layers=2, num_experts=8, experts_per_token=2, hidden_size=64, expert_size=32,
    ...                    bytes_per_weight=2)
    >>> shape.weights_per_expert, shape.bytes_per_expert, shape.flops_per_token
    (6144, 12288, 12288)
    """

    name: str
    num_layers: int
    num_experts: int
    experts_per_token: int
    hidden_size: int
    expert_size: int
    bytes_per_weight: float
    compute_type: str = "bf16"
    dispatch_bytes_per_value: float = 2.0
    combine_bytes_per_value: float = 2.0
    num_hidden_layers: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_experts", "experts_per_token", "hidden_size", "expert_size"):
            count(getattr(self, name), name)
        if self.experts_per_token > self.num_experts:
            raise OptionError(
                f"experts_per_token: expected at most the {self.num_experts} experts, got {self.experts_per_token}"
            )
        for name in ("bytes_per_weight", "dispatch_bytes_per_value", "combine_bytes_per_value"):
            positive(getattr(self, name), name)
        if self.compute_type not in COMPUTE_TYPES:
            raise OptionError(f"compute_type: expected one of {', '.join(COMPUTE_TYPES)}, got {self.compute_type!r}")
        if self.num_hidden_layers is not None:
            count(self.num_hidden_layers, "num_hidden_layers", self.num_layers)
        text(self.name, "name")
        text(self.source, "source")

    @property
    def weights_per_expert(self) -> int:
        """Weights of one expert of one layer; biases are left out."""
        return MATRICES * self.hidden_size * self.expert_size

    @property
    def bytes_per_expert(self) -> float:
        """Bytes of one expert of one layer."""
        return self.weights_per_expert * self.bytes_per_weight

    @property
    def flops_per_token(self) -> int:
        """Operations of one token in one expert: a multiplication and an addition a weight."""
        return 2 * self.weights_per_expert

    @property
    def exchange_bytes_per_token(self) -> float:
        """Bytes of one token to one expert and back."""
        return self.hidden_size * (self.dispatch_bytes_per_value + self.combine_bytes_per_value)

    @property
    def hidden_layers(self) -> int:
        """Layers of the model, dense ones included."""
        return self.num_layers if self.num_hidden_layers is None else self.num_hidden_layers
