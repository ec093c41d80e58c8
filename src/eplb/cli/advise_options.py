"""The options with which steps are modelled, where more than one command has them."""

from __future__ import annotations

from typing import Annotated

import typer

from eplb.engines.settings import ENGINES

HARDWARE_HELP = "h100, h200, or a .json file with figures"

HardwareName = Annotated[str, typer.Option(metavar="NAME", help=f"{HARDWARE_HELP}.", show_default=False)]
ModelName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="deepseek-v3, qwen3-235b, kimi-k2, ...", show_default="as the trace says"),
]
EngineName = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"Print settings for {', '.join(ENGINES)}.", show_default="none")
]
TokensPerStep = Annotated[
    float | None, typer.Option(help="Tokens of a forward pass, over all ranks.", show_default="as recorded")
]
