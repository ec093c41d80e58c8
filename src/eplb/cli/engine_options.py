"""The options that say what an engine's file does not, from text to values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eplb.cli.options import integers
from eplb.engines import Hints
from eplb.engines.layers import layers_from
from eplb.errors import OptionError

FormatRead = Annotated[
    str | None,
    typer.Option("--from", metavar="NAME", help="Format that is read.", show_default="by the content"),
]
RanksOfFile = Annotated[
    int | None,
    typer.Option("--ranks", help="Ranks of a placement, where the file does not say.", show_default=False),
]
NodesOfFile = Annotated[
    str, typer.Option("--nodes", metavar="N", help="Nodes of a placement, or the node of each rank (0,0,1,1).")
]
ExpertsOfFile = Annotated[
    int | None, typer.Option("--experts", help="Routed experts of a layer.", show_default="as the file says")
]
LayersOfFile = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="A-B,C",
        help="The model's own numbers of the MoE layers: kept of a file that numbers all layers, given to those of "
        "one that counts MoE layers.",
        show_default="as the file says",
    ),
]


def layers_option(text: str | None) -> tuple[int, ...] | None:
    """Return the layers that `--layers` lists, None without it."""
    if text is None:
        return None
    try:
        return layers_from(text)
    except OptionError as exc:
        raise OptionError(f"--{exc}") from None


def hints_from(
    ranks: int | None,
    nodes: str,
    experts: int | None,
    layers: str | None,
    *,
    hidden_layers: int | None = None,
    steps_per_window: int = 1,
    top_k: int | None = None,
    shared_from: Path | None = None,
) -> Hints:
    """Return what the options say."""
    return Hints(
        num_ranks=ranks,
        num_nodes=integers(nodes, "--nodes"),
        num_experts=experts,
        layers=layers_option(layers),
        num_hidden_layers=hidden_layers,
        steps_per_window=steps_per_window,
        experts_per_token=top_k,
        shared_from=shared_from,
    )
