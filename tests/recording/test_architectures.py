"""Every Mixture-of-Experts architecture of transformers: what is recorded is what its experts were called with."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")
import torch
import transformers

from eplb.recording import record
from tests.recording.architectures import ARCHITECTURES, architecture, find, tiny_model

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

transformers.logging.set_verbosity_error()

PROMPTS = torch.tensor([[5, 6, 7, 8, 9, 10], [0, 0, 11, 12, 13, 14]])
MASK = (PROMPTS != 0).long()
IDS = ("top_k_index", "router_indices", "selected_experts")


@pytest.fixture(params=ARCHITECTURES)
def case(request):
    """Return an architecture and its tiny model."""
    entry = ARCHITECTURES[request.param]
    return entry, tiny_model(entry)


def inputs_of(model, prompts=PROMPTS, mask=MASK):
    """Return what a forward is called with."""
    inputs = {"input_ids": prompts, "attention_mask": mask}
    translates = getattr(model.config, "is_encoder_decoder", False)
    return {**inputs, **{f"decoder_{name}": value for name, value in inputs.items()}} if translates else inputs


def spied(model, layers):
    """Return what the experts of each layer will be called with: {layer id: [ids [N, k] of each call]}.

    It replaces `forward` of single modules, and knows of each architecture what the recorder must find out.
    """
    seen = {}
    for path, module in model.named_modules():
        names = list(inspect.signature(module.forward).parameters)
        name = next((name for name in names if name in IDS), None)
        kind = type(module).__name__
        take = SPECIAL[kind] if kind in SPECIAL else name and taking_ids(names, name)
        if take and any(path.startswith(f"{layer}.") for layer in layers):
            layer = next(layer for layer in layers if path.startswith(f"{layer}."))
            spy(module, take, seen.setdefault(layers[layer], []))
    return seen


def spy(module, take, calls):
    forward = module.forward

    def spying(*args, **kwargs):
        output = forward(*args, **kwargs)
        calls.append(take(module, args, kwargs, output))
        return output

    module.forward = spying


def taking_ids(names, name):
    return lambda module, args, kwargs, output: {**dict(zip(names, args, strict=False)), **kwargs}[name].tolist()


def best_scores(which, num_chosen):
    """Return a function that takes the best scores of a router's output, sorted in numpy."""

    def take(module, args, kwargs, output):
        scores = (output if which is None else output[which]).double().numpy()
        return np.argsort(-scores, axis=-1)[:, :num_chosen].tolist()

    return take


def chosen_in_mask(which):
    """Return a function that takes the places of a mask that are not 0 from the arguments of experts."""

    def take(module, args, kwargs, output):
        rows = args[which].reshape(len(args[0]), -1)
        return [[expert for expert, share in enumerate(row) if share] for row in rows.tolist()]

    return take


def unless_skipped(module, args, kwargs, output):
    """Zaya's router gives expert 0 with weight 0 to a token that skips the experts."""
    _, ids, weights = args
    return [
        [expert for expert, weight in zip(row, shares, strict=True) if weight]
        for row, shares in zip(ids.tolist(), weights.tolist(), strict=True)
    ]


SPECIAL = {  # what is looked at instead of ids that experts take; None: not looked at
    "DbrxRouter": best_scores(None, 2),
    "DbrxExperts": None,
    "Llama4Router": best_scores(1, 2),
    "JetMoeTopKGating": best_scores(4, 2),
    "NllbMoeExperts": chosen_in_mask(2),
    "SwitchTransformersExperts": chosen_in_mask(1),
    "ZayaExperts": unless_skipped,
}


def counted(calls, real, num_experts):
    """Return the tokens of each expert [E] over the calls of one forward, counted one by one."""
    loads = [0] * num_experts
    for rows in calls:
        assert len(rows) == len(real)
        for row, is_real in zip(rows, real, strict=True):
            for expert in row:
                if is_real and expert < num_experts:
                    loads[expert] += 1
    return loads


def blocks_of(recorder):
    """Return {path of what holds the router: layer id}."""
    paths = [path.rpartition(".")[0] for path in recorder.router_paths]
    return dict(zip(paths, recorder.layer_ids, strict=True))


@torch.no_grad()
def test_a_padded_prefill_is_counted_as_the_experts_see_it(case):
    """Every layer, every expert; padding is left out."""
    entry, model = case
    with record(model, routers=entry.routers) as recorder:
        seen = spied(model, blocks_of(recorder))
        model(**inputs_of(model))
    trace = recorder.trace
    real = MASK.flatten().tolist()
    expected = [counted(seen[layer], real, recorder.num_experts) for layer in trace.layer_ids.tolist()]
    assert trace.loads.tolist() == [expected]
    assert (trace.tokens.tolist(), trace.phase, trace.labels) == ([10], "prefill", ("prefill",))


@torch.no_grad()
def test_generating_is_counted_step_by_step(case):
    """The prompt is prefill without its padding, each token after it decode, with what the cache holds not counted."""
    entry, model = case
    if not entry.generates:
        pytest.skip("is no language model of its own")
    with record(model, routers=entry.routers) as recorder:
        seen = spied(model, blocks_of(recorder))
        model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    trace = recorder.trace
    assert trace.labels == ("prefill", "decode", "decode", "decode")
    assert trace.tokens.tolist() == [10, 2, 2, 2]
    for at, layer in enumerate(trace.layer_ids.tolist()):
        calls = np.array_split(np.array(seen[layer], dtype=object), 4)
        reals = [MASK.flatten().tolist(), *[[1, 1]] * 3]
        expected = [counted(*pair, recorder.num_experts) for pair in zip(calls, reals, strict=True)]
        assert trace.loads[:, at].tolist() == expected


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
def test_implementations_of_experts_are_counted_alike(implementation):
    """However the experts are multiplied, the router chose the same ones."""
    model = tiny_model(ARCHITECTURES["MixtralForCausalLM"])
    model.set_experts_implementation(implementation)
    with record(model) as recorder:
        model(**inputs_of(model))
    seen = spied(model, blocks_of(recorder))
    model(**inputs_of(model))
    expected = [counted(seen[layer], MASK.flatten().tolist(), 8) for layer in recorder.layer_ids]
    assert recorder.trace.loads.tolist() == [expected]


@torch.no_grad()
def test_both_stacks_of_a_translator_are_recorded_side_by_side():
    """The encoder runs once, the decoder once a token; each has its own recorder."""
    model = tiny_model(ARCHITECTURES["SwitchTransformersForConditionalGeneration"])
    model.generation_config.decoder_start_token_id = 1
    with record(model, routers="encoder.*") as encoder, record(model, routers="decoder.*") as decoder:
        model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert encoder.trace.tokens.tolist() == [10]
    assert (encoder.trace.phase, decoder.trace.tokens.tolist()) == ("prefill", [2, 2, 2])


@torch.no_grad()
def test_rows_that_have_ended_are_padding_if_the_id_is_told():
    """`generate` goes on with its pad id, and its mask says that it is real."""
    model = tiny_model(ARCHITECTURES["MixtralForCausalLM"])
    with record(model, pad_token_id=0) as recorder:
        model(input_ids=torch.tensor([[0], [3]]), attention_mask=torch.ones(2, 5, dtype=torch.long))
    assert recorder.trace.tokens.tolist() == [1]


@torch.no_grad()
def test_a_static_cache_is_recorded():
    """Its masks have four axes and are longer than what it holds."""
    model = tiny_model(ARCHITECTURES["MixtralForCausalLM"])
    traces = []
    for kind in ("dynamic", "static"):
        with record(model) as recorder:
            model.generate(
                PROMPTS,
                attention_mask=MASK,
                max_new_tokens=3,
                min_new_tokens=3,
                do_sample=False,
                cache_implementation=kind,
            )
        traces.append(recorder.trace)
    assert traces[0].loads.tolist() == traces[1].loads.tolist()
    assert traces[0].labels == traces[1].labels == ("prefill", "decode", "decode")


@torch.no_grad()
def test_an_unsupported_model_is_said():
    """Doge mixes the scores of all tokens before it chooses; no module of it returns a choice."""
    from eplb.errors import RecordingError

    model = tiny_model(architecture("DogeForCausalLM", is_moe=True, num_experts=16))
    with pytest.raises(RecordingError, match="no router found; looked for"), record(model):
        pass


def test_training_with_recomputed_layers_counts_once():
    """Gradient checkpointing runs each layer again in the backward pass."""
    model = tiny_model(ARCHITECTURES["MixtralForCausalLM"]).train()
    model.gradient_checkpointing_enable()
    with record(model) as recorder:
        model(**inputs_of(model), labels=PROMPTS, use_cache=False).loss.backward()
    assert recorder.trace.loads.sum(axis=2).tolist() == [[20] * 4]


def test_no_architecture_is_left_out():
    """Each folder of transformers in which a class *Router or *Experts is defined has a model in the table."""
    folders = {find(entry.model).__module__.split(".")[2] for entry in ARCHITECTURES.values()}
    root = Path(transformers.models.__path__[0])
    routed = {
        path.parent.name
        for path in root.glob("*/modeling_*.py")
        if re.search(r"^class \w*(TopKRouter|TopkRouter|Experts)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(routed) > 60
    assert routed - folders == set()
