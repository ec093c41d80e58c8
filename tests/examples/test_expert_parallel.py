"""The expert-parallel example: outputs keep their bits while experts move, and the ranks get evener."""

import doctest
import importlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "expert_parallel"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py"))
PATIENCE_S = 240
TINY = ["--num-layers=2", "--num-experts=4", "--top-k=2", "--slots-per-rank=6", "--tokens-per-rank=16", "--window=2"]


@pytest.fixture(scope="module")
def example():
    """Import a module of the example by its name."""
    hidden = {name: sys.modules.pop(name) for name in set(MODULES) & sys.modules.keys()}
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(hidden)


@pytest.fixture(autouse=True)
def one_thread():
    """Keep to one torch thread, as the example does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def alone():
    """Make this process a group of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def finished():
    """The real example on four processes, once for all tests."""
    program = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "4", str(FOLDER / "run.py"), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "EPLB_NUM_THREADS": "1"}
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def outcome(finished):
    """What the run printed."""
    assert finished.stdout, finished.stderr
    return json.loads(finished.stdout)


# ---- four processes


def test_every_batch_keeps_its_bits(finished, outcome):
    """Before, between and after the commits of three migrations, all outputs equal those of one process."""
    served = sum(window["last"] - window["first"] + 1 for windows in outcome["windows"] for window in windows)
    between = sum(migration["forwards"] for migration in outcome["migrations"])
    assert outcome["num_checked"] == served + between
    assert len(outcome["migrations"]) == 3
    assert (outcome["equal"], outcome["different"], finished.returncode) == (True, [], 0)


def test_a_batch_is_served_after_every_commit(outcome):
    """Weights really cross ranks, and no two commits follow each other without a forward in between."""
    for migration in outcome["migrations"]:
        assert migration["forwards"] == migration["commits"] > 0
        assert migration["moved_bytes"] == migration["moves"] * 3 * 64 * 128 * 4 > 0


def test_little_staging_takes_more_commits(outcome):
    """One expert at a time is never more than one, and cuts layers into several commits; without a limit none is."""
    little, unlimited = outcome["migrations"][0], outcome["migrations"][1]
    assert little["staging_bytes"] <= little["max_staging_bytes"] == 3 * 64 * 128 * 4
    assert little["commits"] > 4 >= unlimited["commits"]
    assert unlimited["max_staging_bytes"] is None


def test_each_migration_evens_out_the_ranks(outcome):
    """Right after each the ranks are evener than without it, and the fullest has fewer rows than at first."""
    first, *after = (windows[0] for windows in outcome["windows"])
    assert outcome["improved"]
    assert all(window["balancedness"] > window["not_migrated"] for window in after)
    assert all(window["largest_rows"] < first["largest_rows"] for window in after)


def test_the_page_shows_this_run(example, outcome):
    """The words of the table are those of README.md; figures differ by a twentieth at most, and times are left out."""
    showing, measuring, serving = (example(name) for name in ("showing", "measuring", "serving"))
    run = showing.Run(
        windows=tuple(tuple(measuring.Window(**window) for window in windows) for windows in outcome["windows"]),
        migrations=tuple(serving.Migration(**migration) for migration in outcome["migrations"]),
        num_checked=outcome["num_checked"],
        different=tuple(outcome["different"]),
    )
    shown, found = blocks_of_page()[1], run.to_text()
    assert re.sub(r"[\d,.-]+", "", shown).split() == re.sub(r"[\d,.-]+", "", found).split()
    assert figures(shown) == pytest.approx(figures(found), rel=0.05)


def blocks_of_page():
    """Return the fenced blocks of README.md: how to run it, its output, the loop, and what the probe prints."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def figures(text):
    """Return the numbers of a table, times left out: those at the end of a line."""
    lines = [re.sub(r"[\d.]+( ms)?$", "", line.rstrip()) for line in text.splitlines()]
    return [float(number.replace(",", "")) for line in lines for number in re.findall(r"\d[\d,.]*", line)]


# ---- what can go wrong is noticed


@pytest.mark.parametrize(("damage", "equal"), [([], True), (["--damage=0"], False)])
def test_one_bit_of_one_weight_is_noticed(example, alone, damage, equal):
    """A run passes with all bits in place, and fails with a single one flipped."""
    run = example("run")
    found = run.served(run.arguments([*TINY, "--migrations=1", *damage]))
    assert found.equal is equal
    assert found.num_checked > 2


def test_minus_zero_is_another_bit(example):
    """Bits are compared, not values."""
    same_bits = example("reference").same_bits
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert same_bits(torch.tensor([torch.nan]), torch.tensor([torch.nan]))


@pytest.mark.parametrize(("different", "before", "passed"), [((), 0.8, True), ((3,), 0.8, False), ((), 0.9, False)])
def test_a_run_passes_with_equal_bits_and_evener_ranks_alone(example, different, before, passed):
    """Either failure is enough."""
    options = {"first": 0, "last": 1, "as_at_first": 0.5, "largest_rows": 1.0, "slowest_ms": 1.0}
    window = example("measuring").Window(balancedness=0.9, not_migrated=before, **options)
    run = example("showing").Run(windows=((window,), (window,)), migrations=(), num_checked=9, different=different)
    assert run.passed is passed


# ---- parts


def test_a_row_of_a_block_has_its_own_bits(example):
    """They depend on neither its place, nor the other rows, nor addresses, nor threads."""
    *promised, _ = example("probe").differing().items()
    assert [count for _, count in promised] == [0, 0, 0, 0]
    shown = blocks_of_page()[3].splitlines()[1:-1]
    assert shown == [f"{count:4}  {what}" for what, count in promised]


def test_the_probe_notices_what_depends_on_other_rows(example, monkeypatch):
    """An expert that adds up its rows is found out."""
    probe = example("probe")
    monkeypatch.setattr(probe, "SHAPES", probe.SHAPES[:1])
    monkeypatch.setattr(probe, "swiglu", lambda gate, up, down, rows: rows + rows.sum(0))
    assert probe.differing()["the other rows of a block"] == 1


@pytest.mark.parametrize("num_rows", [1, 15, 16, 17, 40])
def test_blocks_have_one_shape(example, num_rows):
    """Whatever comes, a function sees sixteen rows at a time, and no filled-up row comes back."""
    seen = []
    rows = torch.arange(num_rows).view(-1, 1)
    found = example("blocks").by_blocks(lambda block: seen.append(block.shape) or 2 * block, rows)
    assert set(seen) == {(16, 1)}
    assert torch.equal(found, 2 * rows)


def test_each_slot_computes_its_own_rows(example):
    """A rank's work alone: rows go slot by slot through gate, up and down; a slot may have none."""
    gate, up, down = torch.randn(3, 8, 4), torch.randn(3, 8, 4), torch.randn(3, 4, 8)
    rows = torch.randn(5, 4)
    found = example("experts").compute([gate, up, down], rows, [2, 0, 3])
    for row, slot, output in zip(rows, [0, 0, 2, 2, 2], found, strict=True):
        inner = torch.nn.functional.silu(gate[slot] @ row) * (up[slot] @ row)
        torch.testing.assert_close(output, down[slot] @ inner)
    assert example("experts").compute([gate, up, down], rows[:0], [0, 0, 0]).shape == (0, 4)


def test_the_reference_is_the_plain_formula(example):
    """One token at a time, in float64, gives the same but for rounding."""
    sizes = example("sizes").Sizes(num_layers=2, num_experts=4, top_k=2, width=8, hidden_width=8)
    model, x = example("weights").whole_model(sizes, 0), torch.randn(6, 8)
    slow = x.double()
    for router, experts in zip(model.routers, model.experts, strict=True):
        slow = torch.stack([token + mixed(token, router.double(), experts) for token in slow])
    torch.testing.assert_close(example("reference").forward(model, x, 2), slow.float(), rtol=1e-4, atol=1e-4)


def mixed(token, router, experts):
    hidden = token / (token.square().mean() + 1e-6).sqrt()
    shares, ids = (router @ hidden).softmax(0).topk(2)
    outputs = []
    for gate, up, down in zip(*(parameter.double()[ids] for parameter in experts), strict=True):
        outputs.append(down @ (torch.nn.functional.silu(gate @ hidden) * (up @ hidden)))
    return shares @ torch.stack(outputs)


def test_topics_drift(example):
    """Another topic leads after its turn; the same batch of a rank is the same tokens wherever it is drawn."""
    traffic, sizes = example("traffic"), example("sizes").Sizes()
    assert traffic.topic_shares(0.0).argmax() == 0
    assert traffic.topic_shares(1.2).argmax() == 1
    one, other = traffic.Traffic(sizes, 5), traffic.Traffic(sizes, 5)
    assert torch.equal(one.batch(3, 1), other.batch(3, 1))
    assert one.batch(3, 1).shape != one.batch(3, 2).shape


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(example, name):
    """What the modules show is what they do."""
    assert doctest.testmod(example(name)).failed == 0


# ---- the exchange


def rows_there_and_back(rank, store, results):
    """Send rows to slots of two ranks, let each slot multiply by its number, and report what came back."""
    sys.path.insert(0, str(FOLDER))
    exchange = importlib.import_module("exchange")
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=PATIENCE_S)
    )
    slots, rows = case_of(rank)
    way = exchange.Exchange(slots, slots_per_rank=3)
    number = torch.arange(3 * rank, 3 * rank + 3).repeat_interleave(torch.tensor(way.counts))
    results.put((rank, way.counts, way.back(way.there(rows) * number[:, None]).numpy()))
    dist.destroy_process_group()


def case_of(rank):
    """Return slots and rows of a rank; rank 1 has none for its own slot 3, and rank 0 has none for rank 1's last."""
    random = np.random.default_rng(rank)
    slots = random.choice([0, 1, 2, 3, 4] if rank == 0 else [0, 1, 2, 4, 5], 20)
    return torch.from_numpy(slots), torch.from_numpy(random.normal(size=(20, 4)))


def test_rows_reach_their_slots_and_come_back_in_order(tmp_path):
    """Two processes: each row meets the slot that it was sent to, once, and returns to its place."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=rows_there_and_back, args=(rank, str(tmp_path / "store"), results)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    try:
        found = {rank: rest for rank, *rest in (results.get(timeout=PATIENCE_S) for _ in processes)}
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    for rank in range(2):
        slots, rows = case_of(rank)
        np.testing.assert_array_equal(found[rank][1], rows * slots[:, None])
    sent = np.bincount(np.concatenate([case_of(rank)[0] for rank in range(2)]), minlength=6)
    assert found[0][0] + found[1][0] == sent.tolist()
