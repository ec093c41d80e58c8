"""One rank of a group that migrates: a process of its own, with faults where the test asks for them.

What a slot holds follows from the layer and the expert, so that a rank can tell whether it holds what a placement says.
"""

import os
import signal
import threading
import time
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from eplb import MigrationError, Topology
from eplb.errors import EplbError
from eplb.migration.assignment import assign
from eplb.migration.decision import Decisions
from eplb.migration.migrator import Migrator
from eplb.migration.tables import LiveTables
from eplb.migration.transport import Transport

assign(np.array([[0, 1]]), np.array([[1, 0]]), Topology(num_ranks=2, slots_per_rank=1))  # forks find it compiled

PATIENCE = timedelta(seconds=60)
GRACE_S = 1  # for what others still ask, or threads still do
SETTLE_S = 0.2  # until a signal has reached all threads
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "interrupt": signal.SIGINT}
PARAMETERS = {
    "bf16": ((torch.bfloat16, (6, 8)), (torch.bfloat16, (8, 3))),
    "fp8": ((torch.float8_e4m3fn, (16, 8)), (torch.float32, (2,)), (torch.float32, ())),
    "int4": ((torch.uint8, (5, 7)), (torch.float16, (5,)), (torch.int32, (1,))),
    "odd": ((torch.bool, (13,)), (torch.uint8, (3,)), (torch.float64, (2, 2)), (torch.int16, (0,))),
    "large": ((torch.float32, (256, 256)), (torch.bfloat16, (64, 64))),
}


# ---- weights that can be told apart


def expert(layer, number, parameter, dtype, shape):
    """Return what an expert holds in a parameter: random bits."""
    rng = np.random.default_rng((layer, number, parameter))
    count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    bits = rng.integers(0, 2 if dtype is torch.bool else 256, count, dtype=np.uint8)
    return torch.from_numpy(bits).view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)


def weights_of(placement, rank, kind):
    """Return the weights of a rank, by layer and parameter."""
    mine = slice(*placement.topology.slot_offsets[rank : rank + 2].tolist())
    return [
        [
            torch.stack([expert(layer, number, index, dtype, shape) for number in row[mine].clip(0)])
            for index, (dtype, shape) in enumerate(PARAMETERS[kind])
        ]
        for layer, row in enumerate(placement.physical_to_logical)
    ]


def is_held(weights, placement, rank, kind):
    """Return whether weights are those of a placement, to the last bit."""
    wanted = weights_of(placement, rank, kind)
    pairs = [pair for layers in zip(weights, wanted, strict=True) for pair in zip(*layers, strict=True)]
    return all(torch.equal(*(part.view(-1).view(torch.uint8) for part in pair)) for pair in pairs)


def is_followed(tables, placement):
    """Return whether tables say what a placement does."""
    width = placement.logical_to_physical.shape[2]
    found = tables.logical_to_physical.numpy()
    return (
        np.array_equal(tables.physical_to_logical.numpy(), placement.physical_to_logical)
        and np.array_equal(tables.replica_counts.numpy(), placement.replica_counts)
        and np.array_equal(found[:, :, :width], placement.logical_to_physical)
        and bool((found[:, :, width:] == -1).all())
    )


# ---- faults: {"at": where, "commit": which, "signal": what, "after_s": when}


class Fault:
    """What hits this rank, once."""

    def __init__(self, fault):
        self._fault, self._done = fault or {}, False

    def is_due(self, at, commit):
        due = not self._done and (self._fault.get("at"), self._fault.get("commit")) == (at, commit)
        self._done |= due
        return due

    def strike(self, at, commit):
        if self.is_due(at, commit):
            time.sleep(self._fault.get("after_s", 0))
            os.kill(os.getpid(), SIGNALS[self._fault["signal"]])
            time.sleep(SETTLE_S)


class FaultyTransport(Transport):
    """Strikes before messages are posted ("post") or waited for ("wait"), or flips a bit that came ("flip")."""

    def __init__(self, fault):
        super().__init__(None, torch.device("cpu"))
        self._fault, self._commit = fault, -1

    def post(self, messages, tag):
        self._commit += 1
        self._fault.strike("post", self._commit)
        return super().post(messages, tag)

    def wait(self, pending, until):
        self._fault.strike("wait", self._commit)
        super().wait(pending, until)
        if not pending.messages[0].is_send and self._fault.is_due("flip", self._commit):
            pending.messages[0].data[-1] ^= 1 << 3


class FaultyTable:
    """Strikes when the weights of a commit are in place, and its tables are not ("apply")."""

    def __init__(self, fault):
        self._fault, self._commit = fault, -1

    def check_fits(self, placement, max_replicas):
        pass

    def update_layer(self, layer, placement):
        self._commit += 1
        self._fault.strike("apply", self._commit)


def set_trap(fault):
    """Strike when a decision is read, and before this rank says so ("pass")."""
    passing = Decisions.pass_together

    def hit(self, commit, patience):
        fault.strike("pass", commit)
        return passing(self, commit, patience)

    Decisions.pass_together = hit


# ---- a scenario


class Rank:
    """One rank that goes from placement to placement.

    A scenario holds the placements, the kind of weights, options of the migrator and, if wanted: `faults` by rank,
    `others` (another new placement for some ranks), `members` (ranks of the topology that take part), `forwards` (work
    between commits) and `again` (goes on to the next placement after an error).
    """

    def __init__(self, scenario, rank):
        self._scenario, self._rank = scenario, rank
        self._placements, self._kind = scenario["placements"], scenario["kind"]
        self.in_force = self._placements[0]
        self._member = scenario.get("members", range(self.in_force.topology.num_ranks))[rank]
        self._weights = weights_of(self.in_force, self._member, self._kind)
        self._addresses = self._found_at()
        self._tables = LiveTables(self.in_force, max_replicas=self.in_force.topology.num_slots)
        fault = Fault(scenario.get("faults", {}).get(rank))
        set_trap(fault)
        self._options = {"transport": FaultyTransport(fault), "tables": [self._tables, FaultyTable(fault)]}
        self._options |= scenario.get("options", {}) | scenario.get("options_of", {}).get(rank, {})
        self._told = {"error": None, "commits": 0, "staging": 0, "interrupts": 0}

    def _found_at(self):
        return [part.data_ptr() for layer in self._weights for part in layer]

    def meet(self):
        """Agree once on nothing: from then on all are connected to the store."""
        Migrator(self._weights, self.in_force, self.in_force, timeout_s=PATIENCE.total_seconds())

    def play(self):
        """Return what became of it."""
        for new in self._placements[1:]:
            try:
                self._migrate(self._scenario.get("others", {}).get(self._rank, new))
            except EplbError as exc:
                self._note(exc)
                if not self._scenario.get("again"):
                    break
        return self._told | {
            "in_force": self.in_force.physical_to_logical.tolist(),
            "held": is_held(self._weights, self.in_force, self._member, self._kind),
            "kept": self._addresses == self._found_at(),
            "followed": is_followed(self._tables, self.in_force),
        }

    def _migrate(self, new):
        migrator = Migrator(self._weights, self.in_force, new, **self._options)
        try:
            while self._take(migrator):
                self._told["commits"] += 1
                self._told["staging"] = max(self._told["staging"], migrator.report.staging_bytes)
                if self._scenario.get("forwards"):
                    assert is_held(self._weights, migrator.placement, self._member, self._kind)
                    dist.all_reduce(torch.ones(3))
        finally:
            self.in_force = migrator.placement

    def _take(self, migrator):
        try:
            return next(migrator, None)
        except KeyboardInterrupt:
            self._told["interrupts"] += 1
            return True

    def _note(self, exc):
        self._told |= {"error": type(exc).__name__, "text": str(exc)}
        if isinstance(exc, MigrationError):
            self._told |= {"ranks": exc.ranks, "layer": exc.layer, "phase": exc.phase}


def let_threads_end():
    """Wait for what migrations that are over left to their threads: removing keys."""
    for thread in threading.enumerate():
        if thread.name == "eplb-control":
            thread.join(GRACE_S)


def run(scenario, rank, num_ranks, address, pipe):
    """Join the group and play the scenario; what became of it goes into the pipe."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    port, prefix, hosts = address
    store = dist.TCPStore("127.0.0.1", port, None, hosts and rank == 0, timeout=PATIENCE, wait_for_workers=False)
    mine = dist.PrefixStore(prefix, store)
    dist.init_process_group("gloo", store=mine, rank=rank, world_size=num_ranks, timeout=PATIENCE)
    player = Rank(scenario, rank)
    player.meet()
    dist.barrier()
    pipe.send("ready")
    told = player.play()
    if told["error"] is None:
        let_threads_end()
    pipe.send(told)
    if hosts:
        time.sleep(GRACE_S)
    os._exit(0)  # a group that lost a rank may not come down in order
