"""Plans for recorded routing of real models, where their traces lie beside the checkout."""

from pathlib import Path

import pytest

import eplb
from eplb import LoadTrace, Topology
from tests.planning.soundness import assert_sound

TRACES = Path(__file__).parents[2] / "shared" / "traces"
# file, ranks, slots a rank, largest gap of effort="balanced"
CASES = [
    ("gptoss20b_decode_steady_dev.npz", 8, 5, 2e-3),
    ("gptoss20b_decode_shift_dev.npz", 8, 5, 2e-3),
    ("olmoe.npz", 8, 9, 3e-4),
    ("olmoe_finetunes_tulu.npz", 8, 9, 3e-4),
    ("mixtral_olmoe.npz", 4, 3, 0.1),
]


@pytest.mark.parametrize(("name", "num_ranks", "slots_per_rank", "gap"), CASES)
def test_recorded_loads_are_planned_close_to_the_bound(name, num_ranks, slots_per_rank, gap):
    """The plan of the mean window is sound, and as close to its bound as the slots allow."""
    if not (TRACES / name).exists():
        pytest.skip(f"no recorded trace {name} beside the checkout")
    trace = LoadTrace.load(TRACES / name)
    topology = Topology(num_ranks=num_ranks, slots_per_rank=slots_per_rank)
    plan = eplb.plan(trace, topology)
    assert_sound(plan, trace.loads.mean(axis=0), topology)
    assert plan.certificate.gap <= gap


def test_token_ids_are_no_loads():
    """The raw token stream is refused with a word on what it is."""
    if not (TRACES / "gptoss20b_tokens_dev.npz").exists():
        pytest.skip("no recorded token stream beside the checkout")
    with pytest.raises(eplb.FileFormatError, match="loads"):
        LoadTrace.load(TRACES / "gptoss20b_tokens_dev.npz")
