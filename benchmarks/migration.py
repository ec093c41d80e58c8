"""What a migration costs beside bare messages of the same bytes: four processes on gloo, in turns.

python benchmarks/migration.py --out migration.md
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from machine import machine
from migration_tables import markdown
from tables import publish
from timing import peak_megabytes

from eplb import Placement, Topology
from eplb.migration import exchange
from eplb.migration.assignment import assign
from eplb.migration.migrator import Migrator

NUM_RANKS, SLOTS = 4, 8
ROWS = {"w13": (torch.float8_e4m3fn, (2048, 2560)), "w2": (torch.float8_e4m3fn, (2560, 1024))}
SCALES = {"w13_scale": (torch.float32, (16, 20)), "w2_scale": (torch.float32, (20, 8))}
MEGABYTE = 1e6
PADDING = 64  # an expert in staging: its four parameters are rounded up
WAYS = ["bare", "copied", "migrate", "unchecked", "half"]
MEMORY = ("commits", "staging_mb", "limit_mb", "risen_mb")


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    facts = {**machine(options.note), **{name: getattr(options, name) for name in ("rounds", "layers", "moved")}}
    facts["expert_bytes"] = _expert_bytes()
    context = multiprocessing.get_context("spawn")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    results = context.SimpleQueue()
    ranks = [context.Process(target=_rank, args=(rank, store.port, options, results)) for rank in range(NUM_RANKS)]
    for process in ranks:
        process.start()
    told = [results.get() for _ in ranks]
    for process in ranks:
        process.join()
    rows = summary(told)
    publish(markdown(facts, rows), facts, rows, options.out)


def summary(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the results: a round lasts as long as its slowest rank, processors work for all ranks."""
    seconds = {way: np.max([rank[way]["seconds"] for rank in told], axis=0) for way in WAYS}
    work = {way: np.sum([rank[way]["cpu_seconds"] for rank in told], axis=0) for way in WAYS}
    rows = []
    for way in WAYS:
        row = {
            "way": way,
            "median_s": float(np.median(seconds[way])),
            "ratio": float(np.median(seconds[way] / seconds["bare"])),
            "ratio_of_medians": float(np.median(seconds[way]) / np.median(seconds["bare"])),
            "cpu_s": float(np.median(work[way])),
            "moved_mb": sum(rank["received_mb"] for rank in told),
        }
        if "phases" in told[0][way]:
            names = told[0][way]["phases"]
            row["phases"] = {n: float(np.mean([np.median(rank[way]["phases"][n]) for rank in told])) for n in names}
            row |= {name: max(rank[way][name] for rank in told) for name in MEMORY}
        rows.append(row)
    return rows


def placements(num_layers: int, moved: int) -> tuple[Placement, Placement]:
    """Return two placements between which every rank gets `moved` experts of each layer from the others."""
    topology = Topology(num_ranks=NUM_RANKS, slots_per_rank=SLOTS)
    old = np.tile(np.arange(NUM_RANKS * SLOTS).reshape(NUM_RANKS, SLOTS), (num_layers, 1, 1))
    new = old.copy()
    for place in range(moved):
        new[:, :, place] = np.roll(old[:, :, place], 1 + place % (NUM_RANKS - 1), axis=1)
    return tuple(Placement(physical_to_logical=p.reshape(num_layers, -1), topology=topology) for p in (old, new))


def _expert_bytes() -> int:
    return sum(int(np.prod(shape)) * dtype.itemsize for dtype, shape in {**ROWS, **SCALES}.values())


def _rank(rank: int, port: int, options: argparse.Namespace, results: Any) -> None:
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=NUM_RANKS, timeout=timedelta(minutes=5))
    bench = Bench(rank, options)
    for turn in range(options.rounds + 1):
        bench.round(turn)
    results.put(bench.told)
    dist.barrier()
    dist.destroy_process_group()


class Bench:
    """One rank: its weights, and the ways to move them."""

    def __init__(self, rank: int, options: argparse.Namespace) -> None:
        self._rank = rank
        self._pair = placements(options.layers, options.moved)
        parameters = {**ROWS, **SCALES}.values()
        self._weights = [
            [_random((SLOTS, *shape), dtype, rank * 1000 + layer) for dtype, shape in parameters]
            for layer in range(options.layers)
        ]
        self._bytes = [[part.view(SLOTS, -1).view(torch.uint8) for part in layer] for layer in self._weights]
        self._buffer = [torch.zeros_like(part[: options.moved]) for part in self._bytes[0]]
        self._limits = {
            "migrate": None,
            "unchecked": None,
            "half": -(-options.moved // 2) * (_expert_bytes() + PADDING),
        }
        self.told: dict[str, Any] = {way: {"seconds": [], "cpu_seconds": []} for way in WAYS}
        self.told["received_mb"] = options.layers * options.moved * _expert_bytes() / MEGABYTE

    def round(self, turn: int) -> None:
        """Move all weights by each way in turn, there or back; the first round warms up and watches memory."""
        old, new = self._pair
        first = turn % len(WAYS)
        for way in WAYS[first:] + WAYS[:first]:
            dist.barrier()
            begin, start = os.times(), time.perf_counter()
            if turn == 0:
                self._watched(way, old, new)
            else:
                self._go(way, old, new)
            dist.barrier()
            end = os.times()
            if turn:
                self.told[way]["seconds"].append(time.perf_counter() - start)
                self.told[way]["cpu_seconds"].append(end.user + end.system - begin.user - begin.system)
            if way != "bare":
                old, new = new, old
        self._pair = old, new

    def _watched(self, way: str, old: Placement, new: Placement) -> None:
        _, risen = peak_megabytes(lambda: self._go(way, old, new))
        self.told[way]["risen_mb"] = risen or 0.0

    def _go(self, way: str, old: Placement, new: Placement) -> None:
        if way in ("bare", "copied"):
            self._bare(old, new, way == "copied")
            return
        summed = exchange.checksum
        if way == "unchecked":
            exchange.checksum = lambda parts: torch.zeros((), dtype=torch.int64)
        self._migrate(way, old, new)
        exchange.checksum = summed

    def _bare(self, old: Placement, new: Placement, in_place: bool) -> None:
        """Send and receive the same messages, a layer a batch, into buffers that are there; then copy if wanted."""
        found = assign(old.physical_to_logical, new.physical_to_logical, old.topology)
        for layer in range(old.num_layers):
            ops: list[Any] = []
            slots: list[int] = []
            for i in np.flatnonzero(found.row == layer).tolist():
                source, target = int(found.source_rank[i]), int(found.target_rank[i])
                if source == self._rank:
                    slot = int(found.source_slot[i]) % SLOTS
                    ops += [dist.P2POp(dist.isend, part[slot], target) for part in self._bytes[layer]]
                if target == self._rank:
                    ops += [dist.P2POp(dist.irecv, part[len(slots)], source) for part in self._buffer]
                    slots.append(int(found.target_slot[i]) % SLOTS)
            for work in dist.batch_isend_irecv(ops):
                work.wait()
            for row, slot in enumerate(slots if in_place else []):
                for mine, its in zip(self._bytes[layer], self._buffer, strict=True):
                    mine[slot].copy_(its[row])

    def _migrate(self, way: str, old: Placement, new: Placement) -> None:
        migrator = Migrator(self._weights, old, new, max_staging_bytes=self._limits[way])
        for _ in migrator:
            pass
        report = migrator.report
        told = self.told[way]
        told["staging_mb"] = report.staging_bytes / MEGABYTE
        told["limit_mb"] = (self._limits[way] or report.staging_bytes) / MEGABYTE
        told["commits"] = len(report.commits)
        for name, seconds in report.seconds.items():
            told.setdefault("phases", {}).setdefault(name, []).append(seconds)


def _random(shape: tuple[int, ...], dtype: Any, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    return torch.randint(0, 256, (num_bytes,), dtype=torch.uint8, generator=generator).view(dtype).view(shape)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds that count (default 15)")
    parser.add_argument("--layers", type=int, default=8, help="layers (default 8)")
    parser.add_argument("--moved", type=int, default=4, help="experts that a rank gets in each layer (default 4)")
    parser.add_argument("--note", default="", help="a line for the head of the results")
    parser.add_argument("--out", type=Path, help="a .md file; the same as .json is written beside it")
    return parser


if __name__ == "__main__":
    main()
