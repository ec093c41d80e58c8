"""Ranks that die, stop, or hold damaged bytes: the others end in a named error, with the same placement, in time."""

import signal
import time

import numpy as np
import pytest

from eplb import Topology
from tests.migration.group import (
    assert_all_hold,
    assert_sound,
    assert_survivors_agree,
    random_placement,
    random_placements,
)

SHORT = {"timeout_s": 3.0}
LOST = 2  # the rank that is hit


def play_with(groups, seed, fault, count=2, **more):
    """Play random placements with a fault on one rank; return them and what became of the ranks."""
    placements = random_placements(seed, count)
    told = groups.play(placements=placements, kind="bf16", options=SHORT, faults={LOST: fault}, **more)
    return placements, told


@pytest.mark.parametrize("what", ["kill", "stop"])
@pytest.mark.parametrize("where", ["post", "wait"])
def test_a_rank_lost_before_it_votes(groups, what, where):
    """Before or during the transfer of a layer: the layer is as it was, the one before it is the new one."""
    placements, told = play_with(groups, 1, {"at": where, "commit": 1, "signal": what})
    word = assert_survivors_agree(told, placements, lost=[LOST])
    assert (word["error"], word["ranks"], word["layer"]) == ("MigrationError", (LOST,), 1)
    assert word["phase"] in ("transfer", "check", "decide")
    assert word["text"].startswith(f"layer 1, {word['phase']}: rank {LOST} gave no vote in time")
    assert word["text"].endswith("the layer is as it was")
    assert word["in_force"][0] == placements[1].physical_to_logical[0].tolist()
    assert word["in_force"][1:] == placements[0].physical_to_logical[1:].tolist()


@pytest.mark.parametrize("what", ["kill", "stop"])
def test_a_rank_lost_after_the_decision(groups, what):
    """What was decided is applied, and then the error says so."""
    placements, told = play_with(groups, 2, {"at": "pass", "commit": 1, "signal": what})
    word = assert_survivors_agree(told, placements, lost=[LOST])
    assert (word["error"], word["ranks"], word["layer"], word["phase"]) == ("MigrationError", (LOST,), 1, "commit")
    assert word["text"] == (f"layer 1, commit: rank {LOST} did not pass after the decision; the layer is the new one")
    assert word["in_force"][:2] == placements[1].physical_to_logical[:2].tolist()


@pytest.mark.parametrize("commit", [1, 2])
def test_a_rank_lost_while_it_applies(groups, commit):
    """The others find out at the next commit; after the last there is nothing to find out."""
    placements, told = play_with(groups, 3, {"at": "apply", "commit": commit, "signal": "kill"})
    word = assert_survivors_agree(told, placements, lost=[LOST])
    if commit == 2:
        assert_all_hold([word for rank, word in enumerate(told) if rank != LOST], placements[1])
    else:
        assert (word["error"], word["ranks"], word["layer"]) == ("MigrationError", (LOST,), 2)


def test_a_rank_lost_before_the_next_migration(groups):
    """Nobody begins it."""
    placements, told = play_with(groups, 4, {"at": "apply", "commit": 2, "signal": "kill"}, count=3)
    word = assert_survivors_agree(told, placements, lost=[LOST])
    assert (word["error"], word["ranks"], word["phase"]) == ("MigrationError", (LOST,), "agree")
    assert f"agree: migration 3 began without rank {LOST} (at its migration 2)" in word["text"]


def test_a_bit_that_flipped_on_the_way(groups):
    """The receiver sees it, nobody commits, and all know between whom it happened; a new migration goes through."""
    placements, told = play_with(groups, 5, {"at": "flip", "commit": 1}, count=3, again=True)
    word = assert_survivors_agree(told, [placements[2]])
    assert (word["error"], word["layer"], word["phase"]) == ("MigrationError", 1, "check")
    assert word["ranks"][1] == LOST
    assert f"from rank {word['ranks'][0]} arrived damaged at rank {LOST}" in word["text"]
    assert word["in_force"] == placements[2].physical_to_logical.tolist()


def test_another_plan_on_one_rank(groups):
    """Named on every rank before a byte moves."""
    placements = random_placements(6, 3)
    told = groups.play(placements=placements[:2], kind="bf16", options=SHORT, others={LOST: placements[2]})
    word = assert_survivors_agree(told, placements[:1])
    assert (word["error"], word["ranks"], word["phase"]) == ("MigrationError", (LOST,), "agree")
    hashes = [placement.hash[:12] for placement in placements]
    assert f"new placement: {hashes[1]} on most ranks, but {hashes[2]} on rank {LOST}" in word["text"]


def test_another_limit_on_one_rank(groups):
    """It would cut the layers otherwise."""
    placements = random_placements(6, 2)
    options_of = {LOST: {"max_staging_bytes": 4096}}
    told = groups.play(placements=placements, kind="bf16", options=SHORT, options_of=options_of)
    word = assert_survivors_agree(told, placements[:1])
    assert word["text"] == f"agree: max_staging_bytes: None on most ranks, but 4096 on rank {LOST}"


def test_bad_input_on_one_rank(groups):
    """That rank raises its own error, the others say whose it is."""
    placements = random_placements(6, 2)
    options_of = {LOST: {"max_staging_bytes": 1}}
    told = groups.play(placements=placements, kind="bf16", options=SHORT, options_of=options_of)
    assert_sound(told)
    assert [word["error"] for word in told] == [*["MigrationError"] * LOST, "OptionError", "MigrationError"]
    assert f"agree: rank {LOST}: max_staging_bytes: expected room for one expert" in told[0]["text"]
    assert told[0]["ranks"] == (LOST,)


@pytest.mark.parametrize("what", ["kill", "stop"])
def test_the_store_is_lost(groups, what):
    """Its host is rank 0: who had voted is in doubt, and holds what it held."""
    placements = random_placements(7, 2)
    fault = {"at": "wait", "commit": 1, "signal": what, "after_s": 0.7}
    told = groups.play(placements=placements, kind="bf16", options=SHORT, faults={0: fault}, rank_0_hosts=True)
    assert_sound(told[1:])
    for word in told[1:]:
        assert (word["error"], word["layer"], word["phase"]) == ("MigrationInDoubt", 1, "decide")
        assert "cannot learn whether the layer was committed: the control store is lost" in word["text"]
        assert word["in_force"][0] == placements[1].physical_to_logical[0].tolist()
        assert word["in_force"][1:] == placements[0].physical_to_logical[1:].tolist()


def test_a_rank_that_wakes_up_learns_what_was_decided(groups):
    """Stopped for longer than the time-out, before its vote or after the decision, it ends as the others did."""
    for where in ("wait", "pass"):
        placements = random_placements(8, 2)
        faults = {LOST: {"at": where, "commit": 1, "signal": "stop"}}
        group = groups.start(placements=placements, kind="bf16", options=SHORT, faults=faults)
        group.told(until_the_end=False)
        group.hit(LOST, signal.SIGCONT)
        word = assert_survivors_agree(group.told(), placements)
        assert (word["error"], word["ranks"], word["layer"]) == ("MigrationError", (LOST,), 1)


def random_hit(groups, rng):
    """Hit a rank at a random instant of a random migration that goes to and fro; return what must hold."""
    slots = rng.integers(2, 5, 4).tolist()
    topology = Topology(num_ranks=4, slots_per_rank=slots, num_nodes=2)
    first, second = (random_placement(rng, topology, 7, 4) for _ in range(2))
    limit = int(rng.integers(1, 3)) * 270336 if rng.random() < 0.5 else None
    options = {"timeout_s": 2.0, "max_staging_bytes": limit}
    group = groups.start(placements=[first, *[second, first] * 6], kind="large", options=options)
    victim, number = int(rng.integers(4)), rng.choice([signal.SIGKILL, signal.SIGSTOP])
    group.await_ready()
    time.sleep(rng.uniform(0, 0.5))
    group.hit(victim, number)
    told = group.told(until_the_end=False)
    lost = [victim] if told[victim] is None else []
    word = assert_survivors_agree(told, [first, second], lost) if limit is None else _alike(told, lost)
    assert word["error"] in (None, "MigrationError")
    if lost and word["error"]:
        assert word["ranks"] == (victim,)
    if lost and number == signal.SIGSTOP:
        group.hit(victim, signal.SIGCONT)
        _check_late(group.told(), victim, word)
    group.end()
    return word["phase"] if word["error"] else "none"


def _alike(told, lost):
    """As `assert_survivors_agree`, where a layer may be on its way between the two."""
    rows = [np.array(word["in_force"]) for rank, word in enumerate(told) if rank not in lost]
    return assert_survivors_agree(told, [_Rows(rows[0])], lost)


class _Rows:
    def __init__(self, rows):
        assert all(set(row) == set(range(7)) for row in rows.tolist())
        self.physical_to_logical = rows


def _check_late(told, victim, word):
    """A rank that wakes up holds what the others hold, or says that it is in doubt."""
    late = told[victim]
    assert late["held"] and late["kept"] and late["followed"], late
    assert late["error"] == "MigrationInDoubt" or late["in_force"] == word["in_force"], (late, word)


def test_signals_at_random_instants(groups):
    """A seeded few."""
    rng = np.random.default_rng(2024)
    for _ in range(4):
        random_hit(groups, rng)


@pytest.mark.slow
def test_a_hundred_signals_at_random_instants(groups, rng):
    """In every phase."""
    phases = [random_hit(groups, rng) for _ in range(100)]
    assert len(set(phases)) > 2, phases
