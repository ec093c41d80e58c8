"""Groups of real processes that migrate while things go wrong, and what must hold for those that are left."""

import itertools
import multiprocessing.connection
import os
import signal
import socket
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np

from eplb import Placement, Topology

NUM_RANKS = 4
GENEROUS_S = 60
STOPPED = "TtZX"
COUNTER = itertools.count()


class Groups:
    """Forks ranks from a process that has imported everything, and hosts the store in which they meet."""

    def __init__(self):
        import torch.distributed as dist

        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.migration.rank"])
        self._started = []
        patience = timedelta(seconds=GENEROUS_S)
        self.store = dist.TCPStore("127.0.0.1", 0, None, True, timeout=patience, wait_for_workers=False)

    def start(self, num_ranks=NUM_RANKS, rank_0_hosts=False, **scenario):
        """Return a group under way."""
        port = free_port() if rank_0_hosts else self.store.port
        address = (port, f"{os.getpid()}-{next(COUNTER)}", rank_0_hosts)
        self._started.append(Group(self._context, scenario, num_ranks, address))
        return self._started[-1]

    def end(self):
        """End all groups; a process that is stopped would hold up the end of this one."""
        while self._started:
            self._started.pop().end()

    def play(self, **scenario):
        """Return what each rank tells at the end; None of one that was killed or stopped."""
        return self.start(**scenario).told()


class Group:
    """The processes of one scenario."""

    def __init__(self, context, scenario, num_ranks, address):
        from tests.migration.rank import run

        self._processes, self._pipes = [], []
        self._told = [None] * num_ranks
        for rank in range(num_ranks):
            mine, its = context.Pipe(duplex=False)
            process = context.Process(target=run, args=(scenario, rank, num_ranks, address, its), daemon=True)
            process.start()
            its.close()
            self._processes.append(process)
            self._pipes.append(mine)

    def await_ready(self):
        """Wait until every rank is about to migrate."""
        for pipe in self._pipes:
            assert pipe.poll(GENEROUS_S)
            assert pipe.recv() == "ready"

    def hit(self, rank, number):
        """Send a signal to a rank; one that has ended does not mind."""
        with suppress(ProcessLookupError):
            os.kill(self._processes[rank].pid, number)

    def told(self, until_the_end=True):
        """Return what each rank tells, as soon as all others are dead or stopped; then end those, if wanted."""
        waiting = {pipe: rank for rank, pipe in enumerate(self._pipes) if self._told[rank] is None}
        end = time.monotonic() + GENEROUS_S
        while not all(self._has_stopped(rank) for rank in waiting.values()):
            if time.monotonic() > end:
                self.end()
                raise AssertionError(f"ranks {sorted(waiting.values())} hang")
            for pipe in multiprocessing.connection.wait(list(waiting), timeout=0.1):
                self._receive(pipe, waiting)
        if until_the_end:
            self.end()
        return list(self._told)

    def _receive(self, pipe, waiting):
        try:
            word = pipe.recv()
        except EOFError:
            del waiting[pipe]
            return
        if word != "ready":
            self._told[waiting.pop(pipe)] = word

    def _has_stopped(self, rank):
        try:
            stat = Path(f"/proc/{self._processes[rank].pid}/stat").read_text()
            stopped = stat.rpartition(")")[2].split()[0] in STOPPED
        except (FileNotFoundError, ProcessLookupError):
            stopped = True
        return stopped and not self._pipes[rank].poll()  # in this order: it may have told everything and ended since

    def end(self):
        """Leave no process behind."""
        for rank, process in enumerate(self._processes):
            if process.is_alive():
                self.hit(rank, signal.SIGKILL)
            process.join()
        for pipe in self._pipes:
            pipe.close()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def random_placement(rng, topology, num_experts, num_layers):
    """Return a placement in which every expert has a replica."""
    usable = topology.alive[topology.rank_of_slot]
    rows = np.full((num_layers, topology.num_slots), -1)
    for row in rows:
        spare = rng.integers(0, num_experts, usable.sum() - num_experts)
        row[usable] = rng.permutation(np.concatenate([np.arange(num_experts), spare]))
    return Placement(physical_to_logical=rows, topology=topology, num_experts=num_experts)


def random_placements(seed, count, num_layers=3, num_experts=9, **machine):
    """Return placements of one machine, by default of four ranks with three slots each."""
    rng = np.random.default_rng(seed)
    topology = Topology(**{"num_ranks": NUM_RANKS, "slots_per_rank": 3, "num_nodes": 2, **machine})
    return [random_placement(rng, topology, num_experts, num_layers) for _ in range(count)]


def assert_sound(told):
    """Each rank holds the placement that it says is in force, to the last bit, at the same addresses."""
    for word in told:
        assert word["held"] and word["kept"] and word["followed"], word


def assert_all_hold(told, placement):
    """Every rank came to a placement without an error."""
    assert_sound(told)
    for word in told:
        assert word["error"] is None, word["text"]
        assert word["in_force"] == placement.physical_to_logical.tolist()


def assert_survivors_agree(told, placements, lost=()):
    """All but the lost ended alike, with one placement in force, whose layers are those of the given ones.

    Returns
    -------
    dict
        What one of them tells.
    """
    survivors = [word for rank, word in enumerate(told) if rank not in lost]
    assert all(survivors), told
    assert_sound(survivors)
    for what in ("error", "in_force", "ranks", "layer", "phase", "text"):
        assert len({str(word.get(what)) for word in survivors}) == 1, [word.get(what) for word in survivors]
    for layer, row in enumerate(survivors[0]["in_force"]):
        assert row in [placement.physical_to_logical[layer].tolist() for placement in placements]
    return survivors[0]
