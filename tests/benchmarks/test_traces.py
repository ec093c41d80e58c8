"""The recorded traces of the benchmarks: read where they lie, or skipped."""

import numpy as np
import pytest


@pytest.fixture
def cases(imported):
    return imported("traces").cases


def test_a_trace_that_is_not_there_is_skipped_and_said(cases, tmp_path, capsys):
    """The bundled trace is found in any case."""
    assert [case.name for case in cases(tmp_path, ["steady", "tiny"])] == ["tiny"]
    assert f"skipped steady: no gptoss20b_decode_steady_dev.npz in {tmp_path}" in capsys.readouterr().err


def test_no_trace_at_all_ends_the_run(cases, tmp_path):
    """An empty table would say nothing."""
    with pytest.raises(SystemExit, match="name another folder by --traces"):
        cases(tmp_path, ["steady", "shift"])


def test_tokens_are_batched_anew(cases, tmp_path):
    """Each window of the tokens is 16 steps of 32 requests, each with 4 experts a layer."""
    (case,) = cases(tmp_path, ["tiny-32x16-given"])
    assert set(case.trace.loads.sum(axis=2).reshape(-1).tolist()) == {16 * 32 * 4}


def test_the_folder_and_its_machine_are_used(cases, tmp_path):
    """A file in the folder gets the ranks of its source."""
    np.savez(tmp_path / "mixtral_olmoe.npz", loads=np.ones((5, 3, 8)))
    (case,) = cases(tmp_path, ["mixtral"])
    assert (case.topology.num_ranks, case.topology.slots_per_rank, case.in_time) == (4, 3, False)
    assert case.num_scored == 3


def test_domains_are_left_out_of_means(imported):
    """Unless there is nothing else."""
    in_means = imported("traces").in_means
    rows = [{"in_time": True}, {"in_time": False}]
    assert in_means(rows) == rows[:1]
    assert in_means(rows[1:]) == rows[1:]
