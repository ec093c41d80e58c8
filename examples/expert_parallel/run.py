"""Serve an expert-parallel model whose experts move while it serves, and compare every output with one process.

torchrun --nproc-per-node 4 examples/expert_parallel/run.py
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

import numpy as np
import torch
import torch.distributed as dist
from checking import Checker
from model import ExpertParallelModel
from replicas import MODES, Replicas
from serving import Server
from showing import Run
from sizes import Sizes
from traffic import Traffic
from weights import flip_a_bit, slots_of, whole_model

import eplb


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for size in fields(Sizes):
        parser.add_argument(f"--{size.name.replace('_', '-')}", type=int, default=size.default)
    parser.add_argument("--migrations", type=int, default=3, help="the first, third, ... stage one expert at a time")
    parser.add_argument("--window", type=int, default=8, help="batches that are counted together")
    parser.add_argument("--windows-per-migration", type=int, default=3, help="between one migration and the next")
    parser.add_argument("--mode", choices=MODES, default="weighted", help="how a replica is chosen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--damage", type=int, metavar="RANK", help="flip one bit of one weight of this rank")
    return parser.parse_args(words)


def first_placement(sizes: Sizes) -> eplb.Placement:
    """Return what an engine starts with: the experts in order, and then the first ones again."""
    num_ranks = dist.get_world_size()
    nodes = 2 if num_ranks % 2 == 0 else 1
    topology = eplb.Topology(num_ranks=num_ranks, slots_per_rank=sizes.slots_per_rank, num_nodes=nodes)
    row = np.arange(topology.num_slots, dtype=np.int32) % sizes.num_experts
    rows = np.tile(row, (sizes.num_layers, 1))
    return eplb.Placement(physical_to_logical=rows, topology=topology, num_experts=sizes.num_experts)


def server(options: argparse.Namespace) -> Server:
    """Return the serving loop of this rank."""
    sizes = Sizes(**{size.name: getattr(options, size.name) for size in fields(Sizes)})
    placement, rank = first_placement(sizes), dist.get_rank()
    whole = whole_model(sizes, options.seed)
    weights = slots_of(whole, placement, rank)
    if options.damage == rank:
        flip_a_bit(weights)
    traffic = Traffic(sizes, options.seed)
    nothing_known = np.ones((sizes.num_layers, sizes.num_experts))
    replicas = Replicas(placement, nothing_known, options.mode, rank)
    model = ExpertParallelModel(whole.routers, weights, replicas, sizes.top_k)
    return Server(model, placement, traffic, Checker(whole, traffic, sizes.top_k))


def served(options: argparse.Namespace) -> Run:
    """Serve windows of batches, and migrate in between."""
    loop = server(options)
    windows, migrations = [[loop.serve(options.window)]], []
    for number in range(options.migrations):
        migrations.append(loop.migrate(one_at_a_time=number % 2 == 0))
        num_windows = 1 if number + 1 == options.migrations else options.windows_per_migration
        windows.append([loop.serve(options.window) for _ in range(num_windows)])
    return Run(
        windows=tuple(map(tuple, windows)),
        migrations=tuple(migrations),
        num_checked=loop.checker.num_checked,
        different=tuple(loop.checker.different),
    )


def main() -> int:
    """Run on this rank; rank 0 returns 1 if a bit differed or the ranks did not get evener."""
    options = arguments()
    torch.set_num_threads(1)  # as many processes as there are ranks share the processor
    dist.init_process_group("gloo")
    run, rank = served(options), dist.get_rank()
    dist.barrier()
    dist.destroy_process_group()
    if rank > 0:
        return 0
    print(run.to_json() if options.json else run.to_text(), flush=True)
    return 0 if run.passed else 1


if __name__ == "__main__":
    sys.exit(main())
