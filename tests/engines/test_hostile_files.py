"""Whatever is in a file, reading it ends in a value or in an error of ours that names it."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import eplb
from eplb.engines import Hints, read, validate
from tests.engines.recordings import (
    megatron_trace,
    sglang_details,
    sglang_statistics,
    sound_slots,
    tensorrt_llm_balancer,
    tensorrt_llm_statistics,
    tensors,
    vllm_ascend_map,
)

torch = pytest.importorskip("torch")
pytest.importorskip("yaml")
safetensors = pytest.importorskip("safetensors.numpy")

HINTS = (Hints(), Hints(num_ranks=2), Hints(num_ranks=4, num_experts=8), Hints(layers=[3, 4, 5], num_ranks=1))
quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
few = settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=quiet)
MANY = {  # more than 100,000 in all, most of those that are cheap to make
    "altered": 41_000,
    "random": 25_000,
    "json": 8_000,
    "lines": 4_000,
    "yaml": 6_000,
    "torch": 6_000,
    "safetensors": 6_000,
    "statistics": 8_000,
}

KEYS = [
    *("physical_to_logical_map", "logical_count", "records", "last_physical_to_logical_map", "rank", "forward_pass_id"),
    *("global_physical_count", "num_slots", "initial_global_assignments", "layer_updates_per_iter", "moe_config"),
    *("load_balancer", "moe_layer_count", "layer_list", "layer_id", "device_count", "device_list", "device_id"),
    *("device_expert", "step", "layer", "top_indices", "num_tokens", "topk", "block", "loads", "layer_ids", "tokens"),
    *("labels", "phase", "format", "version", "topology", "num_experts", "physical_to_logical", "hash", "num_ranks"),
    *("slots_per_rank", "num_nodes", "rank_speeds", "failed_ranks", "0", "3", "moe_load_balancer"),
]
WORDS = ["eplb.placement", "decoder", "mtp", "mixed", "x", ""]
numbers = st.integers(-2, 9) | st.sampled_from([2**31, 2**63, -(2**63), 2**64, 10**40, 0.5, 1e308, float("nan")])
leaves = numbers | st.sampled_from([None, True, *WORDS]) | st.lists(st.integers(-1, 4), max_size=4)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=10,
)
objects = st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=8)


def assert_named(path, data):
    """Reading or judging ends in a value, or in an error of ours that begins with the path."""
    call, hints = data.draw(st.sampled_from([read, validate])), data.draw(st.sampled_from(HINTS))
    try:
        call(path, hints)
    except eplb.EplbError as exc:
        assert str(exc).startswith(str(path)), exc


def samples(folder):
    """Write a sound file or folder of every kind, and return the files with what is read for each."""
    rng = np.random.default_rng(0)
    slots, counts = sound_slots(rng), rng.integers(1, 9, (2, 2, 3, 8))
    placement = eplb.Placement(physical_to_logical=slots, topology=eplb.Topology(num_ranks=4, slots_per_rank=3))
    placement.save(folder / "plan.json")
    placement.save(folder / "plan.npz")
    eplb.LoadTrace(loads=counts[0], labels=["a", "b"]).save(folder / "loads.npz")
    (folder / "loads.csv").write_text("layer,expert,load\n0,0,5\n0,1,6\n")
    (folder / "location.json").write_text(json.dumps({"physical_to_logical_map": slots.tolist()}))
    sglang_statistics(folder / "statistics.pt", counts[0])
    sglang_details(folder / "sglang", slots, rng.integers(0, 9, (2, 2, 3, 12)).astype(np.int32))
    tensorrt_llm_balancer(folder / "balancer.yaml", slots)
    tensorrt_llm_statistics(folder / "tensorrt", counts)
    vllm_ascend_map(folder / "map.json", slots)
    megatron_trace(folder / "megatron", rng.integers(0, 8, (2, 2, 3, 4, 2)))
    return sorted((path, _root(path, folder)) for path in folder.rglob("*") if path.is_file())


def _root(path, folder):
    return folder / path.relative_to(folder).parts[0]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return sound files with their bytes."""
    folder = tmp_path_factory.mktemp("sound")
    return [(path, root, path.read_bytes()) for path, root in samples(folder)]


def test_the_samples_are_sound(sound):
    """What is altered below can be read as it is."""
    for _, root, _ in sound:
        assert read(root, Hints(num_ranks=4)).value is not None


def check_altered(sound, data):
    """A sound file with bytes changed, cut out, doubled or cut off."""
    path, root, whole = data.draw(st.sampled_from(sound))
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        way = data.draw(st.sampled_from(["change", "cut", "out", "twice", "insert"]))
        length = data.draw(st.integers(1, 40))
        if way == "change":
            content[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
        elif way == "cut":
            del content[at:]
        elif way == "out":
            del content[at : at + length]
        else:
            content[at:at] = content[at : at + length] if way == "twice" else data.draw(st.binary(max_size=9))
    path.write_bytes(content)
    try:
        assert_named(root, data)
    finally:
        path.write_bytes(whole)


def check_random(folder, data):
    """Random bytes after the start of something."""
    start = data.draw(
        st.sampled_from(
            [b"", b"PK\3\4", b"\x93NUMPY\1\0", b"{", b"[", b"num_slots: ", b'{"layer_list": [', b"\xef\xbb\xbf"]
        )
    )
    path = folder / data.draw(st.sampled_from(["a", "a.json", "a.csv", "a.pt", "a.yaml", "a.npz"]))
    path.write_bytes(start + data.draw(st.binary(max_size=120)))
    try:
        assert_named(path, data)
    finally:
        path.unlink()


def check_json(folder, data):
    """JSON with the names that engines use."""
    path = folder / "a.json"
    path.write_text(json.dumps(data.draw(objects | values)))
    assert_named(path, data)


def check_lines(folder, data):
    """JSON lines."""
    path = folder / "a.jsonl"
    record = {"step": 0, "layer": 0, "top_indices": [[0]]}
    lines = data.draw(st.lists(objects | st.just(record), min_size=1, max_size=4))
    path.write_text("\n".join(json.dumps({**record, **line} if data.draw(st.booleans()) else line) for line in lines))
    assert_named(path, data)


def check_yaml(folder, data):
    """YAML, sound or not."""
    import yaml

    path = folder / "a.yaml"
    text = yaml.safe_dump(data.draw(objects), default_flow_style=data.draw(st.booleans()))
    noise = data.draw(st.text(alphabet="{}[]:,-&*!|>#'\"\n \t01ax", max_size=12))
    at = data.draw(st.integers(0, len(text)))
    path.write_text(f"num_slots: {data.draw(numbers)}\n{text[:at]}{noise}{text[at:]}")
    assert_named(path, data)


def check_torch(folder, data):
    """PyTorch files of plain values and tensors of any shape and dtype."""
    dtype = data.draw(st.sampled_from(["int64", "int32", "uint8", "bool", "float32", "complex64"]))
    shape = data.draw(st.lists(st.integers(0, 3), max_size=4))
    array = np.full(shape, data.draw(st.integers(0, 3))).astype(dtype)
    value = data.draw(objects)
    for name in data.draw(st.sets(st.sampled_from(sorted(value)))):
        value[name] = array
    if data.draw(st.booleans()):
        record = {"forward_pass_id": 1, "rank": 0, "global_physical_count": array}
        value = {"records": [record, *data.draw(st.lists(values, max_size=2))], "last_physical_to_logical_map": array}
    path = folder / "a.pt"
    torch.save(tensors(value, torch), path)
    assert_named(path, data)


def check_safetensors(folder, data):
    """Folders of TensorRT-LLM with any header and data, or any arrays."""
    target = folder / "statistics"
    target.mkdir(exist_ok=True)
    meta = {"num_experts": data.draw(st.integers(0, 3)), "num_experts_per_token": 1}
    (target / "meta_info.json").write_text(json.dumps(data.draw(st.just(meta) | objects | values)))
    dtypes = st.sampled_from(["I64", "I32", "F32", "BF16", "U8", "BOOL", "F8_E4M3", "x"])
    entry = st.fixed_dictionaries(
        {"dtype": dtypes, "shape": st.lists(st.integers(-1, 3) | st.just(2**62), max_size=3)},
        optional={"data_offsets": st.lists(st.integers(-1, 32), min_size=2, max_size=2)},
    )
    names = st.sampled_from(["0_3", "1_3", "0_4", "x", "0_", "99999999999_1", "__metadata__"])
    header = json.dumps(data.draw(st.dictionaries(names, entry, max_size=3) | values)).encode()
    length = len(header) + data.draw(st.sampled_from([0, 0, 0, 1, -1, 2**40]))
    content = max(0, length).to_bytes(8, "little") + header + data.draw(st.binary(max_size=48))
    for name in data.draw(st.sets(st.sampled_from(["rank0", "rank1", "rank0_raw", "rank00"]), min_size=1)):
        (target / f"{name}.safetensors").write_bytes(content)
    try:
        assert_named(target, data)
    finally:
        shutil.rmtree(target)


def check_statistics(folder, data):
    """Folders of TensorRT-LLM with sound files of other arrays."""
    target = folder / "statistics"
    target.mkdir(exist_ok=True)
    (target / "meta_info.json").write_text('{"num_experts": 3, "num_experts_per_token": 1}')
    for rank in range(data.draw(st.integers(1, 2))):
        entries = {}
        for key in data.draw(st.sets(st.sampled_from(["0_3", "1_3", "0_4", "1_4", "x"]), max_size=4)):
            dtype = data.draw(st.sampled_from(["int64", "int32", "uint64", "float16", "bool"]))
            shape = data.draw(st.just([3]) | st.lists(st.integers(0, 4), max_size=3))
            entries[key] = np.full(shape, data.draw(st.integers(0, 4))).astype(dtype)
        raw = data.draw(st.sampled_from(["", "_raw"]))
        safetensors.save_file(entries, target / f"rank{rank}{raw}.safetensors")
    try:
        assert_named(target, data)
    finally:
        shutil.rmtree(target)


CHECKS = [check_random, check_json, check_lines, check_yaml, check_torch, check_safetensors, check_statistics]


def _kind(check):
    return check.__name__.removeprefix("check_")


@few
@given(data=st.data())
def test_altered_files(sound, data):
    """Of every kind."""
    check_altered(sound, data)


@pytest.mark.parametrize("check", CHECKS, ids=_kind)
@few
@given(data=st.data())
def test_made_up_files(tmp_path, check, data):
    """Of every kind."""
    check(tmp_path, data)


def many_times(kind, check):
    """Return a check of thousands of inputs; EPLB_SEED chooses others."""
    chosen = int(os.environ.get("EPLB_SEED", "0"))
    return seed(chosen)(
        settings(few, derandomize=False, database=None, max_examples=MANY[kind])(given(data=st.data())(check))
    )


@pytest.mark.slow
def test_many_altered_files(sound):
    """Of every kind, thousands."""
    many_times("altered", lambda data: check_altered(sound, data))()


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=_kind)
def test_many_made_up_files(tmp_path, check):
    """Of every kind, thousands."""
    many_times(_kind(check), lambda data: check(tmp_path, data))()
