"""Training of the language model: next byte, AdamW, all topics in equal parts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from model import TinyMoe
from torch import Tensor
from torch.nn import functional

Texts = Mapping[str, npt.NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long and how the model is trained; `balance_weight` is the auxiliary loss's, 0 for none."""

    num_steps: int = 1200
    batch: int = 16
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    balance_weight: float = 1e-3
    evaluate_every_steps: int = 100
    seed: int = 0


def train(
    model: TinyMoe, texts: Texts, held_out: Texts, config: TrainConfig, say: Callable[[str], None] = print
) -> list[tuple[int, float]]:
    """Train the model in place and return the held-out losses as (step, nats a byte), the untrained model's first.

    Parameters
    ----------
    model : TinyMoe
        Changed in place.
    texts, held_out : mapping of str to array of uint8
        Bytes of each topic to train on, and to measure the loss on; longer than the model's context.
    config : TrainConfig
        Steps, batch and rates.
    say : callable, optional
        Receives one line of progress for each evaluation. Default `print`.
    """
    random = np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    losses = [(0, held_out_loss(model, held_out))]
    start = time.monotonic()
    say(f"step     0  held-out loss {losses[0][1]:.3f}")
    for step in range(1, config.num_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(config, step)
        tokens_bs = _batch(texts, random, config.batch, model.config.context_tokens)
        output = model(tokens_bs[:, :-1])
        loss = _next_byte_loss(output.logits, tokens_bs)
        (loss + config.balance_weight * output.balance_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % config.evaluate_every_steps == 0 or step == config.num_steps:
            losses.append((step, held_out_loss(model, held_out)))
            say(
                f"step {step:5}  held-out loss {losses[-1][1]:.3f}  training loss {loss.item():.3f}"
                f"  balance loss {output.balance_loss.item():.2f}  {time.monotonic() - start:5.0f} s"
            )
    return losses


@torch.no_grad()
def held_out_loss(model: TinyMoe, held_out: Texts, rows_a_topic: int = 16) -> float:
    """Mean loss in nats a byte over evenly spaced stretches of every topic's held-out text."""
    length = model.config.context_tokens
    losses = []
    for text in held_out.values():
        starts = np.linspace(0, text.size - length - 1, rows_a_topic).astype(np.int64)
        tokens_bs = _rows(text, starts, length + 1)
        losses.append(_next_byte_loss(model(tokens_bs[:, :-1]).logits, tokens_bs).item())
    return float(np.mean(losses))


def _batch(texts: Texts, random: np.random.Generator, size: int, length: int) -> Tensor:
    names = list(texts)
    rows = []
    for row in range(size):
        text = texts[names[row % len(names)]]
        rows.append(_rows(text, random.integers(text.size - length - 1, size=1), length + 1))
    return torch.cat(rows)


def _rows(text: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], length: int) -> Tensor:
    return torch.from_numpy(text[starts[:, None] + np.arange(length)].astype(np.int64))


def _next_byte_loss(logits: Tensor, tokens_bs: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), tokens_bs[:, 1:].flatten())


def _learning_rate(config: TrainConfig, step: int) -> float:
    done = step / config.num_steps
    return config.learning_rate * min(step / config.warmup_steps, 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)
