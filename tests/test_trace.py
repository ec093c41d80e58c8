"""LoadTrace: recorded loads, their windows, and their file."""

import dataclasses
from importlib import resources

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from eplb import FileFormatError, LoadsError, LoadTrace
from tests.test_files import disk_full_after

FIELDS = [field.name for field in dataclasses.fields(LoadTrace)]

shapes = arrays_of.array_shapes(min_dims=3, max_dims=3, max_side=4)
counts = shapes.flatmap(lambda shape: arrays_of.arrays(np.int64, shape, elements=st.integers(0, 10**6)))
any_array = arrays_of.arrays(arrays_of.scalar_dtypes(), arrays_of.array_shapes(min_dims=0))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@pytest.fixture
def trace():
    """Return a trace of four windows, two layers and three experts with every field set."""
    return LoadTrace(
        loads=np.arange(24).reshape(4, 2, 3),
        layer_ids=[3, 7],
        model="tiny",
        window="32 decode steps",
        phase="decode",
        tokens=[10, 20, 30, 40],
        labels=["a", "b", "c", "ä"],
    )


@st.composite
def traces(draw):
    """Draw a trace of integers or floats with any fields."""
    dtype = draw(st.sampled_from(["<i8", "<u2", ">i4", "<f2", "<f4", "<f8"]))
    loads = draw(
        arrays_of.arrays(dtype, shapes, elements={"min_value": 0, "allow_infinity": False, "allow_nan": False})
    )
    one_a_window = {"min_size": len(loads), "max_size": len(loads)}
    return LoadTrace(
        loads=loads,
        layer_ids=draw(st.permutations(range(50)))[: loads.shape[1]],
        model=draw(texts),
        window=draw(texts),
        phase=draw(st.sampled_from(["prefill", "decode", "mixed"])),
        tokens=draw(st.none() | st.lists(st.integers(0, 2**63 - 1), **one_a_window)),
        labels=draw(st.none() | st.lists(texts, **one_a_window)),
    )


def assert_same(found, expected):
    for name in FIELDS:
        value, wanted = getattr(found, name), getattr(expected, name)
        assert np.array_equal(value, wanted), name
        assert getattr(value, "dtype", type(value)) == getattr(wanted, "dtype", type(wanted)), name


def assert_refused(match, **fields):
    with pytest.raises(LoadsError, match=match):
        LoadTrace(**{"loads": np.ones((2, 1, 3)), **fields})


def save_arrays(folder, **arrays):
    np.savez(folder / "trace.npz", **arrays)
    return folder / "trace.npz"


# ---- what a trace is


def test_axes_are_windows_layers_and_experts(trace):
    """The three sizes are those of the loads."""
    assert (trace.num_windows, trace.num_layers, trace.num_experts) == (4, 2, 3)


def test_loads_of_one_window_get_their_axis():
    """[L, E] is one window."""
    assert LoadTrace(loads=[[1, 2], [3, 4]]).loads.tolist() == [[[1, 2], [3, 4]]]


def test_fields_have_defaults():
    """Without more than loads, layers count from 0 and nothing is known of the rest."""
    trace = LoadTrace(loads=[[[1, 2]]])
    assert trace.layer_ids.tolist() == [0]
    assert (trace.model, trace.window, trace.phase, trace.tokens, trace.labels) == ("", "", "mixed", None, None)


@pytest.mark.parametrize("dtype", ["i1", "u8", ">i4", "f2", "f4", "f8"])
def test_the_dtype_of_the_loads_stays(dtype):
    """Counts stay counts, floats stay floats."""
    assert LoadTrace(loads=np.ones((1, 2, 3), dtype=dtype)).loads.dtype == np.dtype(dtype)


def test_tensors_are_loads():
    """Tensors of torch are taken; bfloat16, which numpy lacks, as float32."""
    tensor = torch.tensor([[[1.0, 2.5]]], dtype=torch.bfloat16, requires_grad=True)
    trace = LoadTrace(loads=tensor)
    assert (trace.loads.tolist(), trace.loads.dtype) == ([[[1.0, 2.5]]], np.float32)


def test_what_the_caller_passed_stays_the_callers():
    """Loads and tokens are copied: neither frozen nor looked at again."""
    loads, tokens = np.ones((1, 1, 2)), np.array([5])
    trace = LoadTrace(loads=loads, tokens=tokens)
    loads[:], tokens[:] = 9, 9
    assert (trace.loads.tolist(), trace.tokens.tolist()) == ([[[1.0, 1.0]]], [5])


def test_a_trace_does_not_change(trace):
    """Fields and arrays are read-only."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.model = "other"
    for name in ("loads", "layer_ids", "tokens"):
        assert not getattr(trace, name).flags.writeable, name


# ---- what is refused


@pytest.mark.parametrize(
    ("loads", "message"),
    [
        (np.full((2, 2, 2), np.nan), r"got nan at \[0, 0, 0\]; repair or leave out that part"),
        ([[[1.0, 2.0], [3.0, np.inf]]], r"expected finite values >= 0, got inf at \[0, 1, 1\]"),
        ([[[1, 2], [-3, 4]]], r"expected finite values >= 0, got -3 at \[0, 1, 0\]"),
        ([1, 2, 3], r"expected \[layers, experts\] or \[windows, layers, experts\], got shape \(3,\)"),
        (5, r"got shape \(\)"),
        (np.ones((1, 1, 1, 1)), r"got shape \(1, 1, 1, 1\)"),
        (np.ones((0, 2, 2)), r"expected at least one entry on every axis .* got shape \(0, 2, 2\)"),
        (np.ones((2, 2, 0)), r"got shape \(2, 2, 0\)"),
        ([[1, 2], [3]], "expected a rectangular array .*inhomogeneous"),
        ([[1, None]], "expected integers or floats of at most 64 bits, got dtype object"),
        ([[1, 10**30]], "got dtype object"),
        ([["1", "2"]], "got dtype <U1"),
        ([[True, False]], "got dtype bool"),
        ([[1j, 2]], "got dtype complex128"),
        (np.ones((1, 2), dtype=np.longdouble), "got dtype (float128|float96)"),
        (np.array([["2020-01-01"]], dtype="M8[D]"), "got dtype datetime64"),
        ({"a": 1}, "got dtype object"),
        (None, "got dtype object"),
        (torch.ones(2, 2, device="meta"), "expected a rectangular array"),
    ],
)
def test_loads_that_are_none_are_refused(loads, message):
    """The message names dtype, shape, or the first bad entry and its place."""
    assert_refused(f"loads: .*{message}", loads=loads)


@pytest.mark.parametrize("phase", ["Decode", "", None, 3, ["decode"], np.array(["decode"])])
def test_a_phase_is_one_of_three(phase):
    """The message lists the phases and what came."""
    assert_refused("phase: expected one of prefill, decode, mixed, got ", phase=phase)


@pytest.mark.parametrize("name", ["model", "window"])
@pytest.mark.parametrize("value", [5, None, b"tiny", ["tiny"]])
def test_texts_are_texts(name, value):
    """What could not be read back is not taken."""
    assert_refused(f"{name}: expected a text, got ", **{name: value})


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([1], r"expected one integer a window \(2\), got 1"),
        ([3, -1], "expected integers >= 0, got -1 at index 1"),
        ([1.0, 2.0], r"expected a list of integers, got shape \(2,\) of dtype float64"),
        ([[1], [2]], r"expected a list of integers, got shape \(2, 1\)"),
        ([[1], [2, 3]], "expected a list of integers; .*inhomogeneous"),
        (np.array([1, 2**64 - 1], dtype=np.uint64), "expected at most 2.*63 - 1, got 18446744073709551615 at index 1"),
        (7, r"expected a list of integers, got shape \(\)"),
    ],
)
def test_tokens_are_one_count_a_window(tokens, message):
    """Negative, fractional, missing and unreadable counts are refused."""
    assert_refused(f"tokens: {message}", tokens=tokens)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"], r"expected one a window \(2\), got 1"),
        ("ab", r"expected a list of texts, one a window \(2\), got 'ab'"),
        (5, "expected a list of texts, .*got 5"),
    ],
)
def test_labels_are_one_a_window(labels, message):
    """A text is no list of texts."""
    assert_refused(f"labels: {message}", labels=labels)


def test_layers_have_distinct_ids():
    """The check on layer ids speaks as an error of loads here."""
    assert_refused("layer_ids: expected distinct ids >= 0, got 4 at index 1", loads=np.ones((2, 3)), layer_ids=[4, 4])


# ---- windows


def test_windows_are_summed_with_their_tokens(trace):
    """Two windows become one: loads and tokens add up, the first label stays, the rest is kept."""
    pairs = trace.windows(2)
    assert pairs.loads.tolist() == [[[6, 8, 10], [12, 14, 16]], [[30, 32, 34], [36, 38, 40]]]
    assert (pairs.tokens.tolist(), pairs.labels) == ([30, 70], ("a", "c"))
    assert (pairs.window, pairs.phase, pairs.layer_ids.tolist()) == ("2 x (32 decode steps)", "decode", [3, 7])


@given(counts, st.data())
@settings(deadline=None)
def test_windows_agree_with_plain_loops(loads, data):
    """Every window is the sum of `size` windows, one every `step`; a short rest is left out."""
    size, step = data.draw(st.integers(1, len(loads))), data.draw(st.none() | st.integers(1, 5))
    expected, start = [], 0
    while start + size <= len(loads):
        expected.append(sum(loads[start + i] for i in range(size)).tolist())
        start += step or size
    assert LoadTrace(loads=loads).windows(size, step).loads.tolist() == expected


def test_windows_of_one_are_the_trace(trace):
    """Size 1 changes nothing, not even the name of the window."""
    assert_same(trace.windows(1), trace)


def test_windows_of_narrow_numbers_do_not_overflow():
    """Sums of int8 and float16 leave their range without harm."""
    assert LoadTrace(loads=np.full((4, 1, 1), 100, dtype=np.int8)).windows(4).loads.tolist() == [[[400]]]
    assert LoadTrace(loads=np.full((4, 1, 1), 6e4, dtype=np.float16)).windows(4).loads.tolist() == [[[239_872.0 + 128]]]


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_windows_beyond_64_bits_are_refused(dtype):
    """A sum that would wrap around is an error, not another number."""
    with pytest.raises(LoadsError, match="windows: 4 windows of up to 4611686018427387904 may exceed 64 bits"):
        LoadTrace(loads=np.full((4, 1, 1), 2**62, dtype=dtype)).windows(4)


def test_windows_beyond_floats_are_refused():
    """A sum that becomes infinite is an error."""
    with pytest.raises(LoadsError, match=r"loads: expected finite values >= 0, got inf at \[0, 0, 0\]"):
        LoadTrace(loads=np.full((2, 1, 1), 1e308)).windows(2)


@pytest.mark.parametrize(("size", "step"), [(0, 1), (5, 1), (-1, 1), (1, 0), (2, -2), (2.0, 1), (1, 1.5), ("2", 1)])
def test_windows_have_a_size_and_a_step(trace, size, step):
    """The message holds both numbers and how many windows there are."""
    with pytest.raises(LoadsError, match=f"windows: expected integers 1 <= size <= 4 and step >= 1, got {size!r} and "):
        trace.windows(size, step)


# ---- parts


def test_a_part_keeps_all_that_is_known_of_it(trace):
    """Tokens and labels are those of its windows; the rest is the same."""
    part = trace.part(1, 3)
    assert (part.loads.tolist(), part.loads.dtype) == (trace.loads[1:3].tolist(), trace.loads.dtype)
    assert (part.tokens.tolist(), part.labels) == ([20, 30], ("b", "c"))
    assert (part.layer_ids.tolist(), part.model, part.phase) == ([3, 7], "tiny", "decode")
    assert_same(trace.part(0, 4), trace)


def test_a_part_needs_no_tokens_and_labels():
    """What a trace lacks, its parts lack."""
    part = LoadTrace(loads=np.ones((3, 1, 2))).part(2, 3)
    assert (part.num_windows, part.tokens, part.labels) == (1, None, None)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (2, 1), (-1, 2), (0, 5), (4, 5), (0.0, 1), (0, None)])
def test_a_part_is_inside_the_trace(trace, first, last):
    """The message holds both ends and how many windows there are."""
    with pytest.raises(LoadsError, match=f"part: expected integers 0 <= first < last <= 4, got {first!r} and {last!r}"):
        trace.part(first, last)


# ---- files


@given(traces())
@settings(deadline=None, max_examples=50)
def test_every_trace_comes_back(tmp_path_factory, trace):
    """All fields survive, dtypes included."""
    path = tmp_path_factory.mktemp("trace") / "trace.npz"
    trace.save(path)
    assert_same(LoadTrace.load(path), trace)


def test_loads_alone_are_a_file(tmp_path):
    """Anyone's archive with an array `loads` is a trace."""
    path = save_arrays(tmp_path, loads=np.ones((2, 3), dtype=np.float32), something=np.ones(3))
    assert_same(LoadTrace.load(path), LoadTrace(loads=np.ones((2, 3), dtype=np.float32)))


def test_the_trace_that_comes_with_the_package_is_read():
    """The bundled recording is a trace with tokens and labels."""
    with resources.as_file(resources.files("eplb") / "data" / "tiny_moe.npz") as path:
        trace = LoadTrace.load(path)
    assert trace.loads.sum() > 0
    assert len(trace.tokens) == trace.num_windows


@pytest.mark.parametrize("name", ["trace", "trace.json", "trace.npy"])
def test_another_ending_is_refused_before_anything_is_written(trace, tmp_path, name):
    """Traces are .npz files."""
    with pytest.raises(FileFormatError, match=rf"{name}: expected a name that ends in .npz"):
        trace.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(trace, tmp_path):
    """A write that fails half way leaves what was there, and nothing beside it."""
    path = tmp_path / "trace.npz"
    trace.save(path)
    with disk_full_after(500), pytest.raises(FileFormatError, match=r"trace.npz: cannot write here: File too large"):
        trace.windows(2).save(path)
    assert_same(LoadTrace.load(path), trace)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({}, FileFormatError, "expected an array 'loads' .*; the file has none"),
        ({"load": np.ones((1, 1, 1))}, FileFormatError, "expected an array 'loads' .*; the file has none"),
        ({"loads": np.array([[None]])}, FileFormatError, "array 'loads': holds pickled Python objects"),
        ({"loads": np.array([[-1]])}, LoadsError, r"loads: expected finite values >= 0, got -1 at \[0, 0\]"),
        ({"loads": np.array([["1"]])}, LoadsError, "loads: expected integers or floats"),
        ({"loads": np.ones((0, 1, 1))}, LoadsError, r"loads: .* got shape \(0, 1, 1\)"),
        ({"model": np.array(3)}, FileFormatError, r"model: expected a text, got shape \(\) of dtype int64"),
        ({"window": np.array(["a"])}, FileFormatError, r"window: expected a text, got shape \(1,\)"),
        ({"phase": np.array("idle")}, LoadsError, "phase: expected one of .* got 'idle'"),
        ({"tokens": np.array([1.5])}, LoadsError, "tokens: expected a list of integers"),
        ({"labels": np.array([["a"]])}, FileFormatError, r"labels: expected a list of texts, got shape \(1, 1\)"),
        ({"labels": np.array([b"a"])}, FileFormatError, r"labels: expected a list of texts, .* of dtype \|S1"),
        ({"layer_ids": np.array([-1])}, LoadsError, "layer_ids: expected distinct ids >= 0, got -1 at index 0"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path, arrays, error, message):
    """The message names the file, the array and what is wrong with it."""
    rest = {} if not arrays or "load" in arrays else {"loads": np.ones((1, 1, 1))}
    path = save_arrays(tmp_path, **{**rest, **arrays})
    with pytest.raises(error, match=f"trace.npz: {message}"):
        LoadTrace.load(path)


def test_a_file_cut_off_anywhere_is_refused(trace, tmp_path):
    """A proper prefix of a file is an error."""
    path = tmp_path / "trace.npz"
    trace.save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 5), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"trace.npz: not a readable .npz file \(truncated\?\)"):
            LoadTrace.load(path)


def test_a_flipped_bit_is_never_read_as_another_trace(trace, tmp_path):
    """A flipped bit gives a named error, or hit nothing that counts."""
    path = tmp_path / "trace.npz"
    trace.save(path)
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 31):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert_same(LoadTrace.load(path), trace)
        except (FileFormatError, LoadsError) as error:
            assert str(error).startswith(f"{path}: ")


@given(
    st.dictionaries(st.sampled_from(FIELDS[1:]), arrays_of.arrays(arrays_of.scalar_dtypes(), arrays_of.array_shapes()))
)
@settings(deadline=None)
def test_hostile_fields_are_refused_by_name(tmp_path_factory, fields):
    """No array in place of any field makes another error than ours."""
    path = save_arrays(tmp_path_factory.mktemp("trace"), loads=np.ones((1, 1, 1)), **fields)
    try:
        assert LoadTrace.load(path).num_windows == 1
    except (FileFormatError, LoadsError) as error:
        assert str(error).startswith(f"{path}: ")
