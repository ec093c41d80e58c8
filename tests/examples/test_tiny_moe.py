"""The tiny MoE example learns, records real tokens alone, and repeats itself from a seed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

TEXTS = {"abc": np.frombuffer(b"abc" * 200, np.uint8), "xyz": np.frombuffer(b"xy z " * 120, np.uint8)}
SIZES = {"num_layers": 2, "num_experts": 8, "top_k": 2, "width": 16, "num_heads": 2, "expert_width": 8}


@pytest.fixture(autouse=True)
def one_thread():
    """Keep to one torch thread: on a busy machine threads that wait for each other make tiny products slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model(tiny_moe):
    """An untrained model of the smallest sizes."""
    torch.manual_seed(0)
    module = tiny_moe("model")
    return module.TinyMoe(module.ModelConfig(**SIZES, context_tokens=32))


def served(tiny_moe, model, *, arrivals_a_step=0.3):
    """Record of a short service with few enough requests that slots stand empty."""
    traffic = tiny_moe("traffic").Traffic(
        TEXTS, seed=0, arrivals_a_step=arrivals_a_step, prompt_tokens=(4, 8), answer_tokens=(4, 16)
    )
    config = tiny_moe("serve").ServeConfig(
        num_windows=3, steps_a_window=16, num_slots=6, warmup_windows=1, keep_one_in=1
    )
    return tiny_moe("serve").serve(model, traffic, config, say=lambda line: None)


def trained(tiny_moe, model):
    """Held-out losses of a short training."""
    module = tiny_moe("train")
    config = module.TrainConfig(num_steps=40, batch=4, warmup_steps=4, learning_rate=1e-2)
    return module.train(model, TEXTS, TEXTS, config, say=lambda line: None)


def test_training_lowers_the_loss(tiny_moe, model):
    """Forty steps on a text that repeats itself at least halve the held-out loss."""
    losses = trained(tiny_moe, model)
    assert losses[-1][1] < losses[0][1] / 2


def test_cached_decoding_is_the_whole_forward_pass(tiny_moe, model):
    """A prefill and single steps give the logits and expert ids of one pass over everything."""
    tokens = torch.randint(0, 256, (1, 12))
    cache = tiny_moe("model").KvCache.empty(model.config, 1)
    with torch.no_grad():
        whole = model(tokens)
        parts = [model(tokens[:, :5], torch.arange(5)[None], cache)]
        parts += [model(tokens[:, at : at + 1], torch.tensor([[at]]), cache) for at in range(5, 12)]
    torch.testing.assert_close(torch.cat([part.logits for part in parts], 1), whole.logits)
    assert torch.equal(torch.cat([part.expert_ids for part in parts], 2), whole.expert_ids)


def test_the_grouped_experts_are_a_weighted_sum_over_each_tokens_own(tiny_moe, model):
    """Sorting tokens by expert changes nothing: the slow sum over a token's experts gives the same."""
    block = model.blocks[0].experts
    x = torch.randn(5, SIZES["width"])
    mixed, ids, _ = block(x)
    shares = block.router(x).softmax(-1).gather(1, ids)
    for token, row in enumerate(x):
        outputs = [torch.nn.functional.gelu(row @ block.widen[e]) @ block.narrow[e] for e in ids[token]]
        slow = sum(share * output for share, output in zip(shares[token], outputs, strict=True)) / shares[token].sum()
        torch.testing.assert_close(mixed[token], slow)


def test_a_row_without_a_request_is_not_recorded(tiny_moe):
    """Of two rows only the one with a request is counted."""
    request = tiny_moe("traffic").Request(topic="abc", prompt=np.arange(3), num_tokens=1, begun_in_window=0)
    recorder = tiny_moe("recorder").Recorder(num_windows=1, num_layers=1, num_experts=4, top_k=2, topics=["abc"])
    recorder.step(0, np.array([[[0, 1], [2, 3]]]), [None, request])
    np.testing.assert_array_equal(recorder.loads, [[[0, 0, 1, 1]]])
    assert recorder.topic_tokens.sum() == 1


def test_loads_are_top_k_times_the_real_tokens(tiny_moe, model):
    """Every layer of every window counts each real token top_k times, though slots stand empty."""
    recorder = served(tiny_moe, model)
    tokens = recorder.topic_tokens.sum(1)
    assert 0 < tokens.sum() < 3 * 16 * 6
    np.testing.assert_array_equal(recorder.loads.sum(2), np.repeat(2 * tokens[:, None], 2, axis=1))


def test_a_kept_request_has_all_its_tokens(tiny_moe, model):
    """The ids kept of a request are as many as it asked for, one row a layer and top_k experts each."""
    kept = served(tiny_moe, model).kept
    assert kept
    assert all(np.stack(one.expert_ids).shape == (one.num_tokens, 2, 2) for one in kept)


def test_one_seed_gives_one_trace(tiny_moe):
    """Training and serving twice from the same seeds give the same losses and loads."""
    module = tiny_moe("model")
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        model = module.TinyMoe(module.ModelConfig(**SIZES, context_tokens=32))
        losses = trained(tiny_moe, model)
        results.append((losses, served(tiny_moe, model).loads))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
