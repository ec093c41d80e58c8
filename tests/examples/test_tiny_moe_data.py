"""The bundled trace is whole and small, its README shows its real figures, and its text comes out as words."""

import doctest
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "src" / "eplb" / "data"


@pytest.fixture(scope="module")
def trace():
    """Arrays of the loads file."""
    with np.load(DATA / "tiny_moe.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def tokens():
    """Arrays of the tokens file."""
    with np.load(DATA / "tiny_moe_tokens.npz", allow_pickle=False) as file:
        return dict(file)


def test_the_trace_has_its_keys_and_shapes(trace):
    """The loads file holds what it promises, for at least 4 layers of 32 experts."""
    assert set(trace) == {"loads", "layer_ids", "model", "window", "phase", "tokens", "labels", "topk"}
    num_windows, num_layers, num_experts = trace["loads"].shape
    assert (trace["loads"].dtype, trace["layer_ids"].dtype, trace["tokens"].dtype) == (np.int32, np.int64, np.int64)
    assert num_layers >= 4 and num_experts == 32 and trace["topk"] == 4
    assert len(trace["layer_ids"]) == num_layers
    assert len(trace["tokens"]) == len(trace["labels"]) == num_windows


def test_each_layer_and_window_counts_every_token_top_k_times(trace):
    """No token is lost and no padding is counted."""
    expected = np.broadcast_to(trace["topk"] * trace["tokens"][:, None], trace["loads"].shape[:2])
    np.testing.assert_array_equal(trace["loads"].sum(2), expected)


def test_the_kept_tokens_are_whole(trace, tokens):
    """Requests add up to the kept tokens, each token has distinct experts, and none is counted that was not served."""
    assert set(tokens) == {"ids", "lens", "topic", "topk"}
    assert tokens["ids"].dtype == np.int8
    assert tokens["ids"].shape == (tokens["lens"].sum(), trace["loads"].shape[1], tokens["topk"])
    assert len(tokens["topic"]) == len(tokens["lens"])
    assert (np.diff(np.sort(tokens["ids"], axis=2), axis=2) > 0).all()
    for layer, ids in enumerate(tokens["ids"].transpose(1, 0, 2)):
        assert (np.bincount(ids.ravel(), minlength=32) <= trace["loads"][:, layer].sum(0)).all()


def test_the_two_files_are_under_a_megabyte():
    """The wheel stays small."""
    assert sum((DATA / name).stat().st_size for name in ("tiny_moe.npz", "tiny_moe_tokens.npz")) < 1_000_000


def test_the_readme_shows_the_real_figures(tiny_moe):
    """The README holds, word for word, what measure_skew.py prints."""
    readme = (ROOT / "examples" / "tiny_moe" / "README.md").read_text()
    assert tiny_moe("measure_skew").report() in readme


@pytest.mark.parametrize("name", ["roff", "traffic"])
def test_the_examples_in_docstrings_run(tiny_moe, name):
    """What a docstring shows is what comes out."""
    assert doctest.testmod(tiny_moe(name)).failed == 0


def test_a_machine_without_the_text_is_told_what_to_install(tiny_moe, monkeypatch, tmp_path):
    """A missing topic names the package that brings it."""
    corpus = tiny_moe("corpus")
    folders = {topic: (Path(__file__).parent,) for topic in corpus.TOPICS} | {"english": (tmp_path,)}
    monkeypatch.setattr(corpus, "_FOLDERS", folders)
    with pytest.raises(corpus.CorpusError, match="found 0: apt-get install manpages"):
        corpus.read_corpus()


def test_every_topic_has_its_turn(tiny_moe):
    """The topic most asked about runs through all topics in order, and shares always sum to one."""
    shares = np.array([tiny_moe("traffic").topic_shares(at, 4) for at in np.linspace(0, 1, 50)])
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_array_equal(np.unique(shares.argmax(1)), np.arange(4))
    assert (np.diff(shares.argmax(1)) >= 0).all()
