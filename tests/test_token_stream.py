"""TokenStream: experts of single tokens, and the decode steps that are made of them."""

import dataclasses
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from eplb import FileFormatError, LoadsError, OptionError, TokenStream

RECORDED = Path(__file__).parents[2] / "shared" / "traces" / "gptoss20b_tokens_dev.npz"
FIELDS = ("num_experts", "layer_ids", "model", "labels", "topic", "lens", "lengths")


@st.composite
def streams(draw):
    """Draw a stream of a few requests, some of whose places are empty."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=8))
    layers, experts, places = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    dtype = draw(st.sampled_from(["i1", ">i4", "i8"]))
    ids = draw(arrays_of.arrays(dtype, (sum(lengths), layers, places), elements=st.integers(-1, experts - 1)))
    return TokenStream(ids=ids, lengths=lengths, num_experts=experts)


@pytest.fixture
def stream():
    """Return three requests of 1, 3 and 2 tokens; one layer, one expert a token."""
    return TokenStream(ids=np.array([0, 1, 1, 2, 0, 0]).reshape(6, 1, 1), lengths=[1, 3, 2], labels=["a", "b", "c"])


def steps_one_by_one(stream, batch_size, arrival):
    """Return the tokens of each step by serving the requests: the slow, obvious twin."""
    ends = np.cumsum(stream.lengths)
    waiting = [list(range(ends[q] - stream.lengths[q], ends[q])) for q in arrival]
    running = [[] for _ in range(batch_size)]
    steps = []
    while True:
        for place in range(batch_size):
            if not running[place] and waiting:
                running[place] = waiting.pop(0)
        if not all(running):
            return steps
        steps.append([request.pop(0) for request in running])


def counted_one_by_one(stream, tokens):
    """Return the loads of some steps by adding one at a time."""
    loads = np.zeros((len(tokens), stream.num_layers, stream.num_experts), dtype=int)
    for step, layer in np.ndindex(len(tokens), stream.num_layers):
        for expert in stream.ids[tokens[step], layer].ravel():
            loads[step, layer, expert] += expert >= 0
    return loads


def assert_refused(match, **fields):
    with pytest.raises(LoadsError, match=match):
        TokenStream(**{"ids": np.zeros((3, 1, 2), dtype=int), "lengths": [1, 2], **fields})


def save_arrays(folder, **arrays):
    np.savez(folder / "tokens.npz", **arrays)
    return folder / "tokens.npz"


# ---- what a stream is


def test_axes_are_tokens_layers_and_places(stream):
    """The sizes are those of the arrays; the experts go to the highest id."""
    assert (stream.num_tokens, stream.num_layers, stream.num_requests, stream.num_experts) == (6, 1, 3, 3)
    assert (stream.layer_ids.tolist(), stream.model, stream.labels) == ([0], "", ("a", "b", "c"))


def test_a_stream_does_not_change(stream):
    """Fields and arrays are read-only, and what the caller passed stays the caller's."""
    ids = np.zeros((1, 1, 1), dtype=np.int8)
    kept = TokenStream(ids=ids, lengths=[1])
    ids[:] = 5
    assert kept.ids.tolist() == [[[0]]] and kept.ids.dtype == np.int8
    assert not any(array.flags.writeable for array in (kept.ids, kept.lengths, kept.layer_ids))
    with pytest.raises(dataclasses.FrozenInstanceError):
        stream.model = "other"


# ---- steps


@given(streams(), st.data())
@settings(deadline=None)
def test_steps_agree_with_serving_one_by_one(stream, data):
    """In any order of arrival, also of a part of the requests, and at any batch size."""
    order = data.draw(st.permutations(range(stream.num_requests)))
    order = order[: data.draw(st.integers(1, len(order)))]
    batch_size = data.draw(st.integers(1, len(order)))
    tokens = stream.step_tokens(batch_size, order)
    assert tokens.tolist() == steps_one_by_one(stream, batch_size, order)
    steps = stream.decode_steps(batch_size, order)
    np.testing.assert_array_equal(steps.loads, counted_one_by_one(stream, tokens))


@given(streams(), st.data())
@settings(deadline=None)
def test_windows_conserve_tokens(stream, data):
    """Every step has a full batch, no token comes twice, and windows of steps add up to the places that are taken."""
    batch_size, seed = data.draw(st.integers(1, stream.num_requests)), data.draw(st.integers(0, 3))
    tokens = stream.step_tokens(batch_size, "random", seed)
    assert tokens.shape[1] == batch_size and np.unique(tokens).size == tokens.size
    size = data.draw(st.integers(1, len(tokens)))
    windows = stream.decode_steps(batch_size, "random", seed).windows(size)
    taken = (stream.ids[tokens] >= 0).sum(axis=(1, 3))[: windows.num_windows * size]
    np.testing.assert_array_equal(windows.loads.sum(axis=2), taken.reshape(-1, size, stream.num_layers).sum(axis=1))
    assert windows.tokens.tolist() == [size * batch_size] * windows.num_windows


def test_a_batch_of_one_decodes_everything(stream):
    """Request after request, to the last token."""
    assert stream.step_tokens(1).ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert stream.step_tokens(1, [2, 0]).ravel().tolist() == [4, 5, 0]


def test_steps_end_with_the_last_full_batch(stream):
    """All requests at once are together for as long as the shortest."""
    assert stream.step_tokens(3).tolist() == [[0, 1, 4]]


def test_steps_say_what_they_are(stream):
    """Name, phase and tokens of each window, and what was known of the model."""
    steps = dataclasses.replace(stream, layer_ids=[7], model="tiny").decode_steps(2)
    assert (steps.window, steps.phase, steps.tokens.tolist()) == ("1 decode step x 2 requests", "decode", [2, 2, 2])
    assert (steps.layer_ids.tolist(), steps.model, steps.loads.dtype) == ([7], "tiny", np.int64)


def test_random_arrival_follows_the_seed():
    """The same seed gives the same steps, another seed others."""
    stream = TokenStream(ids=np.zeros((40, 1, 1), dtype=int), lengths=[2] * 20)
    first, again, other = (stream.step_tokens(4, "random", seed).tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_counting_in_blocks_changes_nothing(stream, monkeypatch):
    """Whatever the block holds, even less than a step."""
    whole = stream.decode_steps(2).loads
    monkeypatch.setattr("eplb.token_stream.BLOCK", 1)
    np.testing.assert_array_equal(stream.decode_steps(2).loads, whole)


def test_places_without_expert_are_not_counted():
    """-1 is nobody's load."""
    steps = TokenStream(ids=[[[1, -1]], [[-1, -1]]], lengths=[1, 1], num_experts=3).decode_steps(2)
    assert steps.loads.tolist() == [[[0, 1, 0]]]


# ---- what is refused


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((0, 1, 2), dtype=int), r"ids: expected .*at least one of each, got shape \(0, 1, 2\)"),
        (np.zeros((3, 2), dtype=int), r"ids: expected \[tokens, layers, experts of a token\].* got shape \(3, 2\)"),
        (np.zeros((3, 1, 2)), "ids: expected integers, got dtype float64"),
        (np.zeros((3, 1, 2), dtype=bool), "ids: expected integers, got dtype bool"),
        ([[[1], [2, 3]]], "ids: expected a rectangular array .*inhomogeneous"),
        (None, r"got shape \(\)"),
        (np.full((3, 1, 2), -1), "num_experts: expected an integer >= 1, and an id that is not -1, got 0"),
        ([[[0, 1]], [[2, 3]], [[1, -2]]], r"ids: expected -1 to 3, got -2 at \[2, 0, 1\]"),
    ],
)
def test_ids_that_are_none_are_refused(ids, message):
    """The message names dtype, shape, or the first bad id and its place."""
    assert_refused(message, ids=ids)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint64, np.int64])
def test_ids_beyond_the_experts_are_refused(dtype):
    """The first is named."""
    ids = np.array([0, 1, 2, 5, 4, 9]).reshape(3, 1, 2).astype(dtype)
    assert_refused(r"ids: expected -1 to 3, got 5 at \[1, 0, 1\]", ids=ids, num_experts=4)
    assert_refused("num_experts: expected an integer >= 1", num_experts=0)
    assert_refused("num_experts: expected an integer >= 1", num_experts=4.0)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 1], "expected 3 tokens in sum, as there are ids, got 2"),
        ([], "expected 3 tokens in sum, as there are ids, got 0"),
        ([3, 0], "expected integers >= 1, got 0 at index 1"),
        ([4, -1], "expected integers >= 1, got -1 at index 1"),
        ([2**62] * 4, "expected 3 tokens in sum, as there are ids, got 18,446,744,073,709,551,616"),
        ([1.5, 1.5], "expected a list of integers, got shape .* of dtype float64"),
        (3, r"expected a list of integers, got shape \(\)"),
    ],
)
def test_lengths_divide_the_tokens(lengths, message):
    """Every request has a token, and every token a request."""
    assert_refused(f"lengths: {message}", lengths=lengths)


def test_the_other_fields_are_checked():
    """As those of a trace are."""
    assert_refused("labels: expected one a request .2., got 1", labels=["a"])
    assert_refused("layer_ids: expected one id a layer .1., got 2", layer_ids=[0, 1])
    assert_refused("model: expected a text, got 3", model=3)


@pytest.mark.parametrize("batch_size", [0, -1, 4, 2.0, True, None])
def test_a_batch_is_one_to_all_requests(stream, batch_size):
    """The message says how many there are."""
    with pytest.raises(OptionError, match=f"batch_size: expected an integer of 1 to 3, .* got {batch_size!r}"):
        stream.decode_steps(batch_size)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("sorted", "expected 'given', 'random' or a list of requests, got 'sorted'"),
        ([0, 1, 1], "expected distinct requests of 0 to 2, got 1 at index 2"),
        ([0, 3], "expected distinct requests of 0 to 2, got 3 at index 1"),
        ([-1, 0], "expected distinct requests of 0 to 2, got -1 at index 0"),
        ([], "expected distinct requests of 0 to 2, got none"),
        ([0.0, 1.0], "expected a list of integers"),
        (None, "expected a list of integers"),
    ],
)
def test_requests_arrive_once(stream, order, message):
    """The first that cannot is named."""
    with pytest.raises(OptionError, match=f"order: {message}"):
        stream.step_tokens(1, order)


def test_other_options_have_a_range(stream):
    """A seed is an integer; loads beyond memory are refused before they are made."""
    with pytest.raises(OptionError, match="seed: expected an integer of 0 to"):
        stream.step_tokens(1, "random", seed=-1)
    with pytest.raises(
        LoadsError, match=r"6 steps take 48,000,000,000,000 bytes, more than .* take a larger batch_size"
    ):
        dataclasses.replace(stream, num_experts=10**12).decode_steps(1)


# ---- files


@pytest.mark.parametrize(("lengths", "labels"), [("lens", "topic"), ("lengths", "labels")])
def test_a_file_holds_the_fields_under_either_name(tmp_path, lengths, labels):
    """What recordings call `lens` and `topic`, and the names used here."""
    arrays = {lengths: [1, 2], labels: np.array(["a", "b"]), "model": np.array("tiny"), "num_experts": 9}
    stream = TokenStream.load(save_arrays(tmp_path, ids=np.zeros((3, 2, 1), "i1"), layer_ids=[4, 6], **arrays))
    assert (stream.lengths.tolist(), stream.labels, stream.model, stream.num_experts) == ([1, 2], ("a", "b"), "tiny", 9)
    assert stream.layer_ids.tolist() == [4, 6]


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"ids": None}, FileFormatError, r"expected an array 'ids' \[tokens, .*the file has none"),
        ({"lens": None}, FileFormatError, r"expected an array 'lengths' or 'lens' \[requests\]; the file has none"),
        ({"lengths": [3]}, FileFormatError, "expected one of lengths and lens, got both; drop one"),
        ({"num_experts": [3]}, FileFormatError, r"num_experts: expected an integer, got shape \(1,\)"),
        ({"topic": [3]}, FileFormatError, "labels: expected a list of texts"),
        ({"model": 3}, FileFormatError, "model: expected a text"),
        ({"lens": [2]}, LoadsError, "lengths: expected 3 tokens in sum"),
        ({"ids": np.array([[[None]]])}, FileFormatError, "pickled"),
    ],
)
def test_a_file_that_is_no_stream_is_refused(tmp_path, arrays, error, message):
    """The message names the file and what is wrong with it."""
    content = {"ids": np.zeros((3, 1, 1), "i1"), "lens": [3], **arrays}
    path = save_arrays(tmp_path, **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(error, match=rf"tokens.npz: .*{message}"):
        TokenStream.load(path)


@given(
    st.dictionaries(
        st.sampled_from(FIELDS), arrays_of.arrays(arrays_of.scalar_dtypes(), arrays_of.array_shapes(min_dims=0))
    )
)
@settings(deadline=None)
def test_hostile_fields_are_refused_by_name(tmp_path_factory, fields):
    """No array in place of any field makes another error than ours."""
    path = save_arrays(tmp_path_factory.mktemp("stream"), ids=np.zeros((1, 1, 1), "i1"), **fields)
    try:
        assert TokenStream.load(path).num_tokens == 1
    except (FileFormatError, LoadsError) as error:
        assert str(error).startswith(f"{path}: ")


# ---- recorded streams


def test_the_stream_that_comes_with_the_package_is_read():
    """The bundled tokens are a stream with a topic for each request."""
    with resources.as_file(resources.files("eplb") / "data" / "tiny_moe_tokens.npz") as path:
        stream = TokenStream.load(path)
    steps = stream.decode_steps(16)
    assert len(stream.labels) == stream.num_requests
    assert (steps.loads.sum(axis=2) == 16 * stream.ids.shape[2]).all()


@pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded tokens are not beside the project")
@pytest.mark.parametrize("order", ["given", "random"])
def test_recorded_tokens_are_conserved(order):
    """Windows of 32 steps of 64 requests hold 32 x 64 tokens, each with its four experts, in every layer."""
    windows = TokenStream.load(RECORDED).decode_steps(64, order).windows(32)
    assert windows.num_windows > 50
    assert (windows.loads.sum(axis=2) == 32 * 64 * 4).all()
    assert (windows.tokens == 32 * 64).all()
