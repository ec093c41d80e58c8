"""What an advice is asked with: model, hardware and steps, from text to a cost model, with what was assumed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from eplb.cli.replay_source import Source
from eplb.errors import FileFormatError, OptionError
from eplb.files import read_json
from eplb.replay.cost import (
    MODELS,
    Calibration,
    CostModel,
    Hardware,
    ModelShape,
    calibrate,
    hardware_named,
    model_named,
    read_measurements,
)
from eplb.replay.cost.presets import known_model

NEEDED = {
    "experts_per_token": "--experts-per-token",
    "hidden_size": "--hidden-size",
    "expert_size": "--expert-size",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Options that describe a model; None where one was not given."""

    num_layers: int | None
    experts_per_token: int | None
    hidden_size: int | None
    expert_size: int | None
    bytes_per_weight: float | None

    @property
    def given(self) -> dict[str, Any]:
        """Those that were given."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def hardware_from(text: str) -> Hardware:
    """Return the hardware called `text`, or that of the JSON file `text`, which has the parameters of `Hardware`."""
    if not text.lower().endswith(".json"):
        return hardware_named(text)
    content = read_json(Path(text))
    try:
        return Hardware(**content)
    except TypeError as exc:
        raise FileFormatError(f"{text}: expected the parameters of eplb.replay.cost.Hardware: {exc}") from None


def model_from(name: str | None, figures: Figures, trace: Any) -> tuple[ModelShape, list[str]]:
    """Return the model, and what was assumed: the preset `name` or that of the trace, and the figures in its place.

    Raises
    ------
    OptionError
        If the name is unknown, figures are missing, or the model has fewer layers than the trace.
    """
    own = getattr(trace, "model", "")
    notes = []
    if name is None and known_model(own) is not None:
        name = own
        notes.append(f"model {model_named(own).name}, as the trace says")
    if name is None:
        missing = [option for field, option in NEEDED.items() if field not in figures.given]
        if missing:
            raise OptionError(
                f"--model: expected one of {', '.join(MODELS)}, or the figures of another: {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing; the trace is of {own or 'a model without a name'!r}"
            )
        defaults = {"num_layers": trace.num_layers, "bytes_per_weight": 2.0}
        model = ModelShape(name=own or "model", num_experts=trace.num_experts, **{**defaults, **figures.given})
    else:
        # Hidden layers would contradict another number of layers.
        model = replace(model_named(name), **figures.given, **_without_dense(figures))
    return _fitted(model, trace, notes)


def _without_dense(figures: Figures) -> dict[str, Any]:
    return {"num_hidden_layers": None} if figures.num_layers is not None else {}


def _fitted(model: ModelShape, trace: Any, notes: list[str]) -> tuple[ModelShape, list[str]]:
    if trace.num_layers > model.num_layers:
        raise OptionError(
            f"--model: {model.name} has {model.num_layers} MoE layers, the trace {trace.num_layers}; give the model "
            "that was recorded, or --layers"
        )
    if trace.num_layers < model.num_layers:
        notes.append(f"{trace.num_layers} recorded layers stand for the {model.num_layers} MoE layers of {model.name}")
    if trace.num_experts != model.num_experts:
        notes.append(
            f"the trace has {trace.num_experts} experts a layer, {model.name} {model.num_experts}: this is about a "
            "model with the experts of the trace, each as large as one of that model"
        )
        per_token = min(model.experts_per_token, trace.num_experts)
        model = replace(model, num_experts=trace.num_experts, experts_per_token=per_token)
    return model, notes


def steps_from(source: Source, given: int | None) -> tuple[int, list[str]]:
    """Return how many forward passes a window is, and what was assumed."""
    if source.steps is not None:
        return source.steps.num_windows // source.trace.num_windows, []
    if given is not None:
        return given, []
    described = steps_in(getattr(source.trace, "window", ""))
    if described is not None:
        return described, [f"a window is {described:,} forward passes, as the trace says"]
    return 1, ["a window is taken as one forward pass; --steps-per-window says otherwise"]


def steps_of_all(traces: Mapping[str, Any], given: int | None) -> tuple[int, list[str]]:
    """Return how many forward passes a window of each of `traces` is, and what was assumed.

    Raises
    ------
    OptionError
        If the traces do not agree and none is given.
    """
    found = {name: steps_from(Source(trace=trace), given) for name, trace in traces.items()}
    if len({steps for steps, _ in found.values()}) > 1:
        each = ", ".join(f"{steps:,} in {name}" for name, (steps, _) in found.items())
        raise OptionError(f"--steps-per-window: expected windows alike, got {each}; say how many, or sweep each alone")
    return next(iter(found.values()))


def steps_in(window: str) -> int | None:
    """Return the forward passes that the description of a window tells of, or None.

    Examples
    --------
    >>> steps_in("4 x (32 decode steps x 64 requests)"), steps_in("1 decode step x 8 requests"), steps_in("a minute")
    (128, 1, None)
    """
    found = re.search(r"(\d+) (?:\w+ )?(?:step|forward)", window)
    if found is None or int(found[1]) == 0:
        return None
    steps = int(found[1])
    for factor in re.findall(r"(\d+) x \(", window):
        steps *= int(factor)
    return steps


def rates_from(file: Path | None, slots: int, tile_tokens: int) -> Calibration | None:
    """Return the rates that fit the measurements in `file`; `slots` experts are active where it does not say."""
    if file is None:
        return None
    found = read_measurements(file)
    activated = slots if found.activated_experts is None else found.activated_experts
    try:
        return calibrate(found.tokens, activated, found.seconds, tile_tokens=tile_tokens)
    except OptionError as exc:
        raise OptionError(f"{file}: {exc}") from None


def calibration_note(found: Calibration) -> str:
    """Return how well measured times were fitted."""
    text = (
        f"rates fitted to {found.num_points} measurements: off by {found.median_error:.1%} at the median, "
        f"{found.largest_error:.1%} at most"
    )
    if found.num_bound_by_weights in (0, found.num_points):
        side = "products" if found.num_bound_by_weights else "weights"
        text += f"; none of them is bound by {side}, so what those take is a guess"
    return text


def scaled(cost: CostModel, tokens_per_step: float | None, recorded: float) -> CostModel:
    """Return `cost` for passes of `tokens_per_step` tokens where `recorded` were recorded."""
    return cost if tokens_per_step is None else replace(cost, batch_scale=tokens_per_step / recorded)
