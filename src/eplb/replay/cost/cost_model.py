"""`CostModel`: seconds of layers and of migrations from rank loads and moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import array_of, nonnegative
from eplb.errors import LoadsError, OptionError
from eplb.replay.cost.checking import count, positive, share
from eplb.replay.cost.communication import exchange_seconds
from eplb.replay.cost.hardware import Hardware
from eplb.replay.cost.model_shape import ModelShape
from eplb.replay.cost.rates import Rates, rates_of
from eplb.replay.cost.step_times import StepTimes
from eplb.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """What a forward pass takes on given hardware, for a given model.

    A layer takes its fixed time, the time of the slowest rank's experts, and the time of the rank whose links have most
    to carry. Layers run one after another. Attention and dense layers are `other_seconds_per_step`.

    Parameters
    ----------
    hardware : Hardware
        Of each rank.
    model : ModelShape
        Whose experts are served.
    rates : Rates, optional
        Of the experts, as `calibrate` fits them. Default: what the datasheet gives, `rates_of`.
    steps_per_window : int, default 1
        Forward passes that a window of loads is the sum of.
    batch_scale : float, default 1
        Tokens of a forward pass relative to those recorded.
    hidden_migration_share : float, default 0
        Share of a migration that serving hides, 0 to 1. 0: serving stalls until all weights have arrived.
    planner_seconds : float, default 0
        What serving stalls for each plan that changes the placement. 0: planning runs beside it.
    other_seconds_per_step : float, default 0
        What a forward pass takes beside its MoE layers. 0: gains are those of the MoE layers alone.

    Raises
    ------
    OptionError
        If a figure is out of range.

    Examples
    --------
    >>> from eplb.replay.cost import hardware_named, model_named
    >>> cost = CostModel(hardware=hardware_named("h100"), model=model_named("deepseek-v3"))
    >>> seconds = cost.layer_seconds([[9000, 1000], [5000, 5000]], [[8, 8], [8, 8]])
    >>> f"{seconds[0] / seconds[1]:.2f}"
    '1.77'
    """

    hardware: Hardware
    model: ModelShape
    rates: Rates | None = None
    steps_per_window: int = 1
    batch_scale: float = 1.0
    hidden_migration_share: float = 0.0
    planner_seconds: float = 0.0
    other_seconds_per_step: float = 0.0

    def __post_init__(self) -> None:
        for name, kind in (("hardware", Hardware), ("model", ModelShape)):
            if not isinstance(getattr(self, name), kind):
                raise OptionError(
                    f"{name}: expected an eplb.replay.cost.{kind.__name__}, got {type(getattr(self, name)).__name__}; "
                    f"{name}_named gives one by its name"
                )
        if self.rates is not None and not isinstance(self.rates, Rates):
            raise OptionError(f"rates: expected an eplb.replay.cost.Rates, got {type(self.rates).__name__}")
        count(self.steps_per_window, "steps_per_window")
        positive(self.batch_scale, "batch_scale")
        share(self.hidden_migration_share, "hidden_migration_share")
        nonnegative(self.planner_seconds, "planner_seconds")
        nonnegative(self.other_seconds_per_step, "other_seconds_per_step")

    @property
    def expert_rates(self) -> Rates:
        """The rates in use: those given, or those of the datasheet."""
        return rates_of(self.hardware, self.model) if self.rates is None else self.rates

    @property
    def tokens_per_load(self) -> float:
        """Tokens of a forward pass for each token of a window."""
        return self.batch_scale / self.steps_per_window

    def layer_seconds(
        self,
        tokens: ArrayLike,
        activated_experts: ArrayLike,
        *,
        topology: Topology | None = None,
        rows: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Return the seconds of layers in one forward pass, [...].

        Parameters
        ----------
        tokens : array_like [..., R]
            Tokens of each rank in the pass, one for each expert that a token goes to; finite, >= 0.
        activated_experts : array_like [..., R]
            Slots of each rank that get any.
        topology : Topology, optional
            Which ranks share a node. Default: all do.
        rows : array_like [..., R], optional
            Tokens with each slot's rounded up to tiles, see `rows_of_slots`. Default: an estimate.

        Raises
        ------
        LoadsError
            If an entry is negative or not finite, or shapes differ.
        """
        loads = _numbers(tokens, "tokens")
        activated = _numbers(activated_experts, "activated_experts", loads.shape)
        counted = None if rows is None else _numbers(rows, "rows", loads.shape)
        if topology is not None and topology.num_ranks != loads.shape[-1]:
            raise LoadsError(f"tokens: expected [..., {topology.num_ranks} ranks], got shape {loads.shape}")
        rates = self.expert_rates
        computing = rates.seconds(loads, activated, counted).max(axis=-1)
        travelling = exchange_seconds(loads, self.hardware, self.model, topology).max(axis=-1)
        return np.asarray(rates.fixed_seconds + computing + travelling)

    def migration_seconds(self, received: ArrayLike, topology: Topology | None = None) -> NDArray[np.float64]:
        """Return the stalls of migrations, [...], each set by the rank that receives most.

        Parameters
        ----------
        received : array_like [...]
            The most experts that one rank receives, over all layers of the model.
        topology : Topology, optional
            With several nodes all weights are taken to cross the network, which is an upper bound.
        """
        links = self.hardware
        several = topology is not None and topology.node_count > 1
        bandwidth = links.network_bandwidth_bytes_per_s if several else links.node_bandwidth_bytes_per_s
        num_bytes = self.model.bytes_per_expert * _numbers(received, "received")
        return np.asarray((1 - self.hidden_migration_share) * num_bytes / (bandwidth * links.efficiency))

    def meter(self, topology: Topology) -> StepTimes:
        """Return what watches one replay on `topology` and adds up its times."""
        return StepTimes(self)


def _numbers(values: Any, name: str, shape: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    array = array_of(values, f"{name}: expected numbers", LoadsError)
    if array.dtype.kind not in "iuf":
        raise LoadsError(f"{name}: expected numbers, got dtype {array.dtype}")
    array = array.astype(np.float64)
    if shape is not None and array.shape != shape:
        raise LoadsError(f"{name}: expected the shape {shape} of the tokens, got {array.shape}")
    if name == "tokens" and (array.ndim == 0 or not array.shape[-1]):
        raise LoadsError(f"tokens: expected [..., ranks], got shape {array.shape}")
    if array.size and not (np.isfinite(array).all() and array.min() >= 0):
        raise LoadsError(f"{name}: expected finite numbers >= 0")
    return array
