"""Recording on modules made by hand: what is counted, when windows end, and what is left behind."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import eplb
from eplb.errors import LoadsError, OptionError, RecordingError
from eplb.recording import record
from tests.recording.models import Block, Decoder, Layer, Model, TopKRouter, tokens_of

PROMPTS = torch.tensor([[1, 2, 3, 4], [9, 9, 5, 6]])
MASK = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
ONE = torch.tensor([[7], [8]])


class Cache:
    """A cache that says how many tokens it holds."""

    def __init__(self, length):
        self.length = length

    def get_seq_length(self):
        return self.length


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model()


def hooks_of(model):
    """Return how many hooks the modules of `model` have."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# ---- what is counted


def test_every_choice_is_counted(model):
    """A layer without a router has no row, and the others keep the model's numbers."""
    with record(model) as recorder:
        model(PROMPTS)
    trace = recorder.trace
    assert trace.layer_ids.tolist() == [1, 2]
    assert trace.loads.tolist() == [[tokens_of(block, 6) for block in model.blocks]]
    assert (trace.tokens.tolist(), trace.model, trace.window) == ([8], "Model", "1 forward")


def test_padding_is_not_counted(model):
    """The mask says which tokens are real."""
    with record(model) as recorder:
        model(PROMPTS, attention_mask=MASK)
    assert recorder.trace.loads.tolist() == [[tokens_of(block, 6, MASK.flatten()) for block in model.blocks]]
    assert recorder.trace.tokens.tolist() == [6]


def test_padding_is_counted_on_demand(model):
    """`count_padding` looks at no mask."""
    with record(model, count_padding=True) as recorder:
        model(PROMPTS, attention_mask=MASK)
    assert recorder.trace.tokens.tolist() == [8]


def test_the_mask_of_the_cache_counts_from_its_end(model):
    """A mask that begins with what the cache holds is longer than the tokens."""
    with record(model) as recorder:
        model(ONE, attention_mask=torch.tensor([[1, 1, 1], [1, 1, 0]]), past_key_values=Cache(2))
    assert (recorder.trace.tokens.tolist(), recorder.trace.phase) == ([1], "decode")


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("room", [0, 3])
def test_a_mask_of_four_axes_is_understood(model, added, room):
    """Padding is a key that no query sees; keys behind the last that is seen are room in the cache."""
    seen = torch.ones(4, 4).tril().bool() & MASK.bool()[:, None, None, :]
    mask = torch.cat([seen, torch.zeros(2, 1, 4, room, dtype=torch.bool)], dim=-1)
    mask = torch.zeros(mask.shape).masked_fill(~mask, float("-inf")) if added else mask
    with record(model) as recorder:
        model(PROMPTS, attention_mask=mask)
    assert recorder.trace.tokens.tolist() == [6]


def test_tokens_with_the_pad_id_are_padding(model):
    """Whatever the mask says."""
    with record(model, pad_token_id=9) as recorder:
        model(PROMPTS, attention_mask=torch.ones_like(PROMPTS))
    assert recorder.trace.tokens.tolist() == [6]


def test_a_mask_that_does_not_fit_the_rows_is_an_error():
    """Which tokens a router saw is not guessed."""

    class Half(TopKRouter):
        def forward(self, hidden):
            return super().forward(hidden[:, ::2])

    block = Block(8, 6, Half(8, 6, 2))
    block.forward = lambda hidden: hidden + 0 * block.gate(hidden)[0].sum()
    model = Decoder([Layer(block)], 8)
    with record(model) as recorder, pytest.raises(RecordingError, match="expected a row for each of 8 tokens, got 4"):
        model(PROMPTS, attention_mask=MASK)
    with record(model, count_padding=True) as recorder:
        model(PROMPTS, attention_mask=MASK)
    assert recorder.trace.tokens.tolist() == [4]


def test_a_forward_that_fails_is_not_counted(model):
    """Neither is what its first layers chose, and the next one is."""
    model.decoder.layers[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with record(model) as recorder:
        with pytest.raises(ZeroDivisionError):
            model(PROMPTS)
        model.decoder.layers[2]._forward_pre_hooks.clear()
        model(ONE)
    assert recorder.trace.tokens.tolist() == [2]


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_inference_and_training_may_alternate(model, first):
    """One window holds forwards of any mode."""
    with record(model, window=4) as recorder:
        for mode in (first, torch.enable_grad, torch.inference_mode, torch.no_grad):
            with mode():
                model(PROMPTS)
    assert recorder.trace.tokens.tolist() == [32]


# ---- windows and phases


def test_prefill_and_decode_fill_windows_of_their_own(model):
    """Windows are in the order in which they end, and say what they are; the last may be shorter."""
    with record(model, window=2) as recorder:
        for tokens in (PROMPTS, ONE, ONE, PROMPTS, ONE):
            model(tokens, past_key_values=Cache(0 if tokens is PROMPTS else 4))
    trace = recorder.trace
    assert trace.labels == ("decode", "prefill", "decode")
    assert (trace.tokens.tolist(), trace.phase, trace.window) == ([4, 16, 2], "mixed", "2 forwards")


def test_one_phase_alone(model):
    """The other is run, not counted."""
    with record(model, phase="decode") as recorder:
        model(PROMPTS)
        model(ONE, past_key_values=Cache(4))
    assert (recorder.trace.labels, recorder.trace.phase) == (("decode",), "decode")


@pytest.mark.parametrize(
    ("cache", "mask", "phase"),
    [
        (None, None, "prefill"),
        (Cache(0), None, "prefill"),
        (Cache(1), None, "decode"),
        (Cache(torch.tensor(0)), None, "decode"),
        (None, torch.ones(2, 3), "decode"),
        (object(), None, "decode"),
    ],
)
def test_one_token_a_row_is_decode_if_others_went_before(model, cache, mask, phase):
    """The cache tells, or the mask; a cache that would have to be waited for is taken to hold some."""
    with record(model) as recorder:
        model(ONE, attention_mask=mask, past_key_values=cache)
    assert recorder.trace.phase == phase


def test_many_windows_are_copied_in_time(model):
    """More than wait on the device at once."""
    with record(model) as recorder:
        for _ in range(150):
            model(ONE)
        assert recorder.trace.num_windows == 150
    assert recorder.trace.loads.sum(axis=2).tolist() == [[4, 4]] * 150


# ---- what is left behind


def test_hooks_go_with_the_block(model):
    """However it ends."""
    with record(model), record(model):
        assert hooks_of(model) > 0
    assert hooks_of(model) == 0
    with pytest.raises(KeyError), record(model):
        raise KeyError
    assert hooks_of(model) == 0


def test_two_recorders_count_alike(model):
    """One inside the other, or one of a part."""
    with record(model) as outer, record(model.decoder) as inner:
        model(PROMPTS, attention_mask=MASK)
    assert outer.trace.loads.tolist() == inner.trace.loads.tolist()


def test_several_models_are_told_apart(model):
    """Each recorder sees its own."""
    other = Model(num_experts=4)
    with record(model) as first, record(other, name="other") as second:
        model(PROMPTS)
        other(ONE)
    assert (first.trace.tokens.tolist(), second.trace.tokens.tolist()) == ([8], [2])
    assert (second.trace.num_experts, second.trace.model) == (4, "other")


def test_the_output_of_the_model_stays(model):
    """Watching changes nothing."""
    plain = model(PROMPTS)
    with record(model):
        assert torch.equal(model(PROMPTS), plain)


def test_windows_go_to_a_store(model, tmp_path):
    """As they fill; the trace is read from there."""
    path = tmp_path / "served.zarr"
    with record(model, store=path) as recorder:
        model(PROMPTS)
        assert eplb.TraceStore.open(path).num_windows == 1
        model(ONE, past_key_values=Cache(4))
    stored = eplb.LoadTrace.load(path)
    assert stored.loads.tolist() == recorder.trace.loads.tolist()
    assert (stored.labels, stored.layer_ids.tolist()) == (("prefill", "decode"), [1, 2])
    with record(model, store=eplb.TraceStore.open(path)) as again:
        model(PROMPTS)
    assert (again.trace.num_windows, eplb.TraceStore.open(path).num_windows) == (1, 3)


def test_a_store_of_another_shape_is_refused(model, tmp_path):
    """The store says what it expects, and the hooks go."""
    store = eplb.TraceStore.create(tmp_path / "other.zarr", num_experts=5, layer_ids=[1, 2])
    with pytest.raises(LoadsError, match=r"expected \[2, 5\]"), record(model, store=store):
        model(PROMPTS)
    assert hooks_of(model) == 0


def test_a_plan_is_made_of_what_was_recorded(model):
    """The trace is one like any other."""
    with record(model, window=2) as recorder:
        for _ in range(6):
            model(PROMPTS)
    plan = eplb.plan(recorder.trace.loads, eplb.Topology(num_ranks=4, slots_per_rank=2))
    assert plan.placement.replica_counts.shape == (2, 6)


# ---- what cannot be recorded


def test_a_recorder_is_read_as_its_trace_is(model, tmp_path):
    """Loads, parts and a file of it; policies are replayed on it as it is."""
    with record(model) as recorder:
        for _ in range(4):
            model(PROMPTS)
    recorder.save(tmp_path / "loads.npz")
    saved = eplb.LoadTrace.load(tmp_path / "loads.npz")
    assert recorder.loads.tolist() == saved.loads.tolist() == recorder.trace.loads.tolist()
    assert recorder.part(1, 3).loads.tolist() == saved.loads[1:3].tolist()
    topology = eplb.Topology(num_ranks=2, slots_per_rank=recorder.num_experts)
    found = eplb.replay.replay(recorder, topology, eplb.replay.StaticPolicy(), first=1)
    assert len(found.balancedness) == recorder.num_windows - 1


def test_a_router_that_never_runs_is_said(model):
    """Its loads are 0."""
    model.decoder.forward = lambda input_ids, **_: model.decoder.layers[1](model.decoder.embed(input_ids))
    with pytest.warns(UserWarning, match=r"decoder\.layers\.2\.mlp\.gate: never ran"), record(model) as recorder:
        model(PROMPTS)
    assert recorder.trace.loads.sum(axis=2).tolist() == [[16, 0]]


def test_nothing_recorded_is_an_error(model):
    """With what may have gone wrong."""
    with record(model) as recorder:
        pass
    with pytest.raises(RecordingError, match="no window was recorded"):
        _ = recorder.trace


def test_a_model_without_routers_is_an_error():
    """It says what was looked for."""
    with pytest.raises(RecordingError, match="Linear: no router found; looked for a module called gate or router"):
        record(torch.nn.Linear(2, 2)).__enter__()


def test_two_stacks_are_an_error_unless_one_is_chosen():
    """The message lists them as `routers` takes them."""
    model = torch.nn.Module()
    model.talker, model.thinker = Model(), Model(num_experts=4)
    with pytest.raises(RecordingError, match=r"talker\.decoder\.layers\.\*\.mlp\.gate \(2\), thinker"):
        record(model).__enter__()
    with record(model, routers="thinker.decoder.layers.*.mlp.gate") as recorder:
        model.thinker(PROMPTS)
    assert recorder.trace.loads.shape == (1, 2, 4)
    with pytest.raises(RecordingError, match=r"'nothing\.\*' matches none of talker"):
        record(model, routers="nothing.*").__enter__()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window: expected an integer >= 1, got 0"),
        ({"window": True}, "window: expected an integer >= 1, got True"),
        ({"phase": "training"}, "phase: expected one of prefill, decode, mixed, got 'training'"),
    ],
)
def test_options_out_of_range_are_errors(model, options, message):
    """Before a hook is set."""
    with pytest.raises(OptionError, match=message):
        record(model, **options).__enter__()
    assert hooks_of(model) == 0


def test_what_is_no_module_is_an_error():
    """An array is none."""
    with pytest.raises(OptionError, match=r"model: expected a torch\.nn\.Module, got ndarray"):
        record(np.zeros(2)).__enter__()


def test_importing_brings_no_framework_along():
    """A model that is watched imports torch; nothing imports transformers."""
    code = "import sys, eplb.recording; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
