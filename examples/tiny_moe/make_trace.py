"""Train the model on this machine's text, serve drifting traffic with it, and write the two trace files.

python examples/tiny_moe/make_trace.py --out src/eplb/data
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from corpus import read_corpus
from model import ModelConfig, TinyMoe
from serve import ServeConfig, serve
from traffic import Traffic
from train import TrainConfig, train

_DATA = Path(__file__).resolve().parents[2] / "src" / "eplb" / "data"


def _say(line: str) -> None:
    print(line, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a tiny MoE language model and record its router's loads.")
    parser.add_argument("--out", type=Path, default=_DATA, help="folder of the two .npz files (default: the package's)")
    parser.add_argument("--steps", type=int, default=TrainConfig.num_steps, help="training steps")
    parser.add_argument("--windows", type=int, default=ServeConfig.num_windows, help="windows to record")
    parser.add_argument("--balance-weight", type=float, default=TrainConfig.balance_weight, help="0 for no such loss")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="torch threads; another number rounds differently")
    return parser.parse_args()


def main() -> None:
    """Train, serve, save; print sizes, losses and times on the way."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs 6 % of a step, and guards nothing used here
    torch.manual_seed(arguments.seed)

    corpus = read_corpus()
    model = TinyMoe(ModelConfig())
    training = TrainConfig(num_steps=arguments.steps, balance_weight=arguments.balance_weight, seed=arguments.seed)
    _say(corpus.summary())
    _say(f"{model.num_parameters():,} parameters, {training.num_steps} steps of {training.batch} x 256 bytes")
    start = time.monotonic()
    losses = train(model, corpus.train, corpus.held_out, training, _say)
    _say(f"trained for {time.monotonic() - start:.0f} s: held-out loss {losses[0][1]:.3f} -> {losses[-1][1]:.3f}")

    start = time.monotonic()
    serving = ServeConfig(num_windows=arguments.windows, seed=arguments.seed)
    recorder = serve(model.eval(), Traffic(corpus.held_out, seed=arguments.seed), serving, _say)
    _say(f"served {recorder.topic_tokens.sum():,} tokens in {time.monotonic() - start:.0f} s")
    name = f"tiny_moe ({model.config.num_layers} layers x {model.config.num_experts} experts, top-{model.config.top_k})"
    for path in recorder.save(arguments.out, model=name, window=serving.window):
        _say(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
