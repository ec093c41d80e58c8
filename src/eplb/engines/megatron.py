"""Megatron-core: traces of its routers, JSON lines a rank, read as loads. It takes no placement.

Facts were read from Megatron-core 0.19.2, `megatron/core/transformer/moe/router_trace.py`: a folder with
`router_trace_rank{r}.jsonl`, a line for each step and layer, with the experts of each token. Layers are those of the
rank's pipeline stage, from 0, if hooks recorded them, and the model's, from 1, if routing replay did.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.engines.checking import by_number, integer, named, number_lists, shown
from eplb.engines.contents import MAX_LINE_BYTES, Contents
from eplb.engines.formats import LOADS, Format, Recorded
from eplb.engines.hints import MAX_EXPERTS, Hints
from eplb.engines.remarks import Remarks
from eplb.engines.rules import Rules
from eplb.engines.steps import Steps
from eplb.errors import FileFormatError, LoadsError, OptionError
from eplb.files import naming

PATTERN = r"router_trace_rank(\d+)\.jsonl"
KEYS = frozenset({"step", "layer", "top_indices"})
RULES = Rules(engine="Megatron-core", in_order=True)


def kind_of(contents: Contents) -> str | None:
    """Return "loads" if these are traces of routers."""
    if contents.container == "folder":
        return LOADS if by_number(contents.names, PATTERN) else None
    return LOADS if contents.container in ("lines", "json") and contents.keys >= KEYS else None


def read_loads(contents: Contents, hints: Hints, remarks: Remarks) -> Recorded:
    """Return the tokens that were routed to each expert, a step a window, added up over ranks."""
    files = [contents.path]
    if contents.container == "folder":
        files = [contents.path / name for name in by_number(contents.names, PATTERN).values()]
    steps, left_out = Steps(), 0
    for file in files:
        with naming(file):
            left_out += _add_file(steps, file)
    if not steps.num_experts:
        raise LoadsError("no record of a decoder's router; trace more steps, without CUDA graphs in hook mode")
    num_experts = _num_experts(steps.num_experts, hints, remarks)
    if left_out:
        remarks.note(f"{left_out:,} records of multi-token prediction are left out")
    _remark_ranks(steps.num_ranks, remarks)
    return Recorded(trace=steps.trace(num_experts, "1 step", remarks))


def _remark_ranks(num_ranks: int, remarks: Remarks) -> None:
    if num_ranks == 1:
        remarks.warn("the tokens of one rank alone; give the folder with the files of all data-parallel ranks")
    else:
        remarks.note(f"added up over {num_ranks} ranks; ranks of one tensor-parallel group may count tokens twice")
    remarks.note(
        "Megatron-core's layers are numbered from 0 in the pipeline stage by hooks, from 1 in the model by routing "
        "replay: with several stages convert each apart, and say --layers"
    )


def _num_experts(seen: int, hints: Hints, remarks: Remarks) -> int:
    if hints.num_experts is None:
        remarks.warn(
            f"{seen} experts, by the largest id that a token was routed to; --experts E says how many there are"
        )
        return seen
    if hints.num_experts < seen:
        raise OptionError(f"num_experts: tokens were routed to expert {seen - 1}, got {hints.num_experts} experts")
    return hints.num_experts


def _add_file(steps: Steps, file: Path) -> int:
    """Add the records in a file, and return how many were left out."""
    left_out = 0
    for number, record in _records(file):
        what = f"line {number}"
        if record.get("block", "decoder") != "decoder":
            left_out += 1
            continue
        step = integer(record.get("step"), f"{what}: step")
        layer = integer(record.get("layer"), f"{what}: layer")
        steps.add(step, layer, integer(record.get("rank", 0), f"{what}: rank"), _counts(record, what))
    return left_out


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open("rb") as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES):
            number += 1
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                whole = (
                    "truncated, or no JSON" if len(line) < MAX_LINE_BYTES else f"longer than {MAX_LINE_BYTES:,} bytes"
                )
                raise FileFormatError(f"line {number}: expected a JSON object; it is {whole}") from None
            if not isinstance(record, dict) or not set(record) >= KEYS:
                raise FileFormatError(
                    f"line {number}: expected an object with step, layer, top_indices, got {shown(record)}"
                )
            yield number, record


def _counts(record: dict[str, Any], what: str) -> NDArray[np.int64]:
    """Return how many tokens of a record were routed to each expert, up to the largest id."""
    rows = named(record, "top_indices", list, what)
    if not rows:
        return np.zeros(1, dtype=np.int64)  # a rank without tokens in this step
    ids = number_lists(rows, f"{what}: top_indices")
    if ids.ndim != 2 or ids.dtype.kind != "i" or int(ids.min()) < 0 or int(ids.max()) >= MAX_EXPERTS:
        raise FileFormatError(
            f"{what}: top_indices: expected [tokens, experts per token], ids below {MAX_EXPERTS}, got {shown(ids)}"
        )
    said = [record.get("num_tokens", ids.shape[0]), record.get("topk", ids.shape[1])]
    if said != list(ids.shape):
        raise FileFormatError(
            f"{what}: top_indices: expected {said[0]} tokens x {said[1]}, got {list(ids.shape)} (damaged?)"
        )
    return np.bincount(ids.ravel())


FORMAT = Format(name="megatron", title="Megatron-core", kind_of=kind_of, read_loads=read_loads, rules=RULES)
