"""The variants of the planner, and the ablation on a trace of a few windows."""

import json

import numpy as np
import pytest

from eplb import LoadTrace, Topology
from eplb.replay import EplbPolicy, replay

TOPOLOGY = Topology(num_ranks=4, slots_per_rank=3)
TRACE = LoadTrace(loads=np.random.default_rng(0).integers(1, 100, (9, 2, 8)))


@pytest.mark.parametrize(("max_moves_share", "move_cost"), [(0.1, None), (1.0, 0.0)])
def test_the_full_planner_is_the_one_of_the_package(imported, max_moves_share, move_cost):
    """Nothing is taken out of the first variant."""
    full = imported("variants").variants(move_cost)[0]
    found, own = (
        replay(TRACE, TOPOLOGY, policy, first=3, max_moves_share=max_moves_share)
        for policy in (full, EplbPolicy(move_cost=move_cost))
    )
    assert found.moves.tolist() == own.moves.tolist()
    assert found.placement.hash == own.placement.hash


def test_the_plan_of_the_mean_window_sees_the_mean_alone(imported):
    """The order of the windows does not matter to it."""
    by_name = {variant.name: variant for variant in imported("variants").variants(None)}
    on_mean = by_name["planned on the mean window"]
    backwards = LoadTrace(loads=TRACE.loads[::-1])
    hashes = {on_mean.place(trace, TOPOLOGY, None, None).hash for trace in (TRACE, backwards)}
    assert len(hashes) == 1


def test_every_variant_has_a_row_for_each_setting(imported, tmp_path, capsys):
    """The full planner first; the others say how far they are from it."""
    np.savez(tmp_path / "mixtral_olmoe.npz", loads=TRACE.loads)
    out = tmp_path / "out.md"
    imported("ablation").main(["--traces", str(tmp_path), "--only", "mixtral", "--threads", "1", "--out", str(out)])
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    names = [variant.name for variant in imported("variants").variants(None)]
    assert [row["variant"] for row in rows] == names * 2
    assert all(0 < row["balancedness"] <= 1 for row in rows)
    assert capsys.readouterr().out.count("| planner | mean | less full | better than full | moved | mixtral |") == 2
