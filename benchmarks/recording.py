"""What recording costs: forwards of a small Mixtral with hooks and without, in turns.

python benchmarks/recording.py --out recording.md

Needs `pip install transformers`.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from machine import heading, machine
from options import parser_for
from tables import publish, table

from eplb.recording import record

SHAPES = {"prefill, 2 x 64 tokens": (2, 64), "decode, 8 rows": (8, 1), "decode, 1 row": (1, 1)}
SIZES = {
    **{"vocab_size": 1000, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 8},
    **{"num_attention_heads": 8, "num_key_value_heads": 2, "num_local_experts": 32, "num_experts_per_tok": 4},
}
WINDOW, BLOCK = 32, 64  # forwards


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    torch.set_num_threads(options.threads)
    facts = {**machine(options.note), "threads": options.threads, "rounds": options.rounds, "window": options.window}
    model = small_model()
    rows = [measured(name, *SHAPES[name], model, options) for name in SHAPES]
    publish(markdown(facts, rows), facts, rows, options.out)


def small_model() -> Any:
    """Return a Mixtral of 8 layers x 32 experts, random."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(**SIZES)).eval()


def measured(name: str, num_rows: int, length: int, model: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Return the medians of a forward with hooks and without, and of the ratio over a block of both by turns."""
    ids = torch.randint(3, SIZES["vocab_size"], (num_rows, length), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    other = copy.deepcopy(model)
    with torch.inference_mode():
        blocks = [_both_ways(model, other, inputs, options.window) for _ in range(options.rounds + 1)][1:]
    plain, recorded = (median(seconds) / BLOCK for seconds in zip(*blocks, strict=True))
    return {
        "what": name,
        "plain_ms": plain * 1e3,
        "recorded_ms": recorded * 1e3,
        "ratio": median(second / first for first, second in blocks),
        "added_us": median(second - first for first, second in blocks) / BLOCK * 1e6,
    }


def _both_ways(first: Any, second: Any, inputs: dict[str, Any], window: int) -> tuple[float, float]:
    """Return the seconds of a block without hooks and with them: half of it each model has the hooks."""
    halves = _block(first, second, inputs, window), _block(second, first, inputs, window)
    plain, recorded = (sum(seconds) / 2 for seconds in zip(*halves, strict=True))
    return plain, recorded


def _block(model: Any, watched: Any, inputs: dict[str, Any], window: int) -> tuple[float, float]:
    """Return the seconds of a block without hooks and with them, forward by forward in turns.

    Neighbouring forwards see the machine equally busy. Setting hooks, taking them off and the last counting are part of
    the second.
    """
    totals, recording = [0.0, 0.0], record(watched, window=window)
    totals[1] += _seconds(recording.__enter__)
    for turn in range(BLOCK):
        for which in (turn % 2, 1 - turn % 2):
            totals[which] += _seconds(lambda which=which: (model, watched)[which](**inputs))  # type: ignore[misc]
    totals[1] += _seconds(lambda: recording.__exit__(None, None, None))
    return totals[0], totals[1]


def _seconds(call: Callable[[], Any]) -> float:
    """Return the time of this thread, which others do not use."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


def markdown(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return one table under a heading."""
    columns = ("a forward", "plain ms", "recorded ms", "ratio", "added us")
    lines = [
        (
            *(row["what"], f"{row['plain_ms']:.2f}", f"{row['recorded_ms']:.2f}"),
            *(f"{row['ratio']:.4f}", f"{row['added_us']:.0f}"),
        )
        for row in rows
    ]
    shape = (
        f"Mixtral of 8 layers x 32 experts, 4 a token, width 256, random; windows of {facts['window']} forwards; "
        f"{facts['threads']} thread, {facts['rounds']} blocks of 2 x {BLOCK} forwards of each kind, one by one in "
        "turns on two equal models, each with the hooks half the time. Processor time of the thread, setting hooks and "
        "counting included; medians over blocks, the ratio's too."
    )
    return "\n\n".join([f"# Recording, {facts['date']}", heading(facts), shape, table(columns, lines)])


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="blocks (default 9)")
    parser.add_argument("--window", type=int, default=WINDOW, help=f"forwards of a window (default {WINDOW})")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    return parser


if __name__ == "__main__":
    main()
