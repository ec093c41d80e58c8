"""record: from a model that runs to a trace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eplb.errors import OptionError
from eplb.recording.recorder import Options, Recorder
from eplb.recording.stacks import find_stack
from eplb.trace import PHASES
from eplb.trace_store import TraceStore


@contextmanager
def record(
    model: Any,
    *,
    window: int = 1,
    phase: str = "mixed",
    routers: str | None = None,
    store: TraceStore | str | os.PathLike[str] | None = None,
    name: str | None = None,
    pad_token_id: int | None = None,
    count_padding: bool = False,
) -> Iterator[Recorder]:
    """Count the tokens that a torch model sends to each expert while the block runs.

    Hooks on the routers read what they choose; no code of the model is changed, and the hooks go when the block ends,
    however it ends. Counts stay on the model's device and are copied 64 windows at a time. docs/engines/transformers.md
    lists the models that this was tried with.

    Parameters
    ----------
    model : torch.nn.Module
        A Mixture-of-Experts model, or a part of it that holds the layers, such as the decoder.
    window : int, default 1
        Forwards of a window, >= 1. Prefill and decode fill windows of their own, whose labels say which. At the end of
        the block windows that are not full count as they are.
    phase : {"mixed", "prefill", "decode"}
        Which forwards are counted: all, or these alone. One token a row with others before it is decode.
    routers : str, optional
        Which routers to record where a model has several stacks, as a path with stars, such as
        "thinker.model.layers.*.mlp.gate".
    store : TraceStore or path, optional
        Where windows are appended as they fill, instead of being kept in memory: a store of these layers and experts,
        or the `.zarr` folder to make.
    name : str, optional
        Name of the model in the trace; default: what its configuration says, or its class.
    pad_token_id : int, optional
        Tokens with this id are padding, whatever the mask says: `generate` feeds it to rows that have ended.
    count_padding : bool, default False
        Count every token; no mask is looked at. Otherwise tokens that the attention mask hides are not counted.

    Yields
    ------
    Recorder
        Its `trace` is an `eplb.LoadTrace`, during and after the block.

    Raises
    ------
    RecordingError
        If no router is found, or several stacks, or (from the model's forward) what a router returns is not understood.
    OptionError
        If an option is out of its range.

    Examples
    --------
    >>> import torch
    >>> class Router(torch.nn.Module):
    ...     top_k, num_experts = 1, 2
    ...     def forward(self, x):
    ...         return x, (x[:, :1] < 0).long()  # scores, and the expert of each token
    >>> block = torch.nn.ModuleDict({"gate": Router(), "experts": torch.nn.ModuleList([torch.nn.Identity()] * 2)})
    >>> model = torch.nn.Module()
    >>> model.layers = torch.nn.ModuleList([block])
    >>> model.forward = lambda x: block["gate"](x)[0]
    >>> with record(model) as recorder:
    ...     _ = model(torch.tensor([[1.0], [-2.0], [3.0]]))
    >>> recorder.trace.loads.tolist(), recorder.trace.tokens.tolist()
    ([[[2, 1]]], [3])
    """
    whole = isinstance(window, int) and not isinstance(window, bool)
    if not whole or window < 1:
        raise OptionError(f"window: expected an integer >= 1, got {window!r}")
    if phase not in PHASES:
        raise OptionError(f"phase: expected one of {', '.join(PHASES)}, got {phase!r}")
    if not hasattr(model, "named_modules"):
        raise OptionError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    options = Options(
        window=window,
        phase=phase,
        store=store,
        name=_name(model) if name is None else name,
        count_padding=count_padding,
        pad_token_id=pad_token_id,
    )
    recorder = Recorder(model, find_stack(model, routers), options)
    try:
        yield recorder
    finally:
        recorder.stop()


def _name(model: Any) -> str:
    return getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__
