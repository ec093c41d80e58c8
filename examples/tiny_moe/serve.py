"""Serving with continuous batching: every step decodes one token of each live request, sampled from the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from model import KvCache, TinyMoe
from recorder import Recorder
from torch import Tensor
from traffic import Request, Traffic


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How long and how wide is served; one request in `keep_one_in` has its tokens' expert ids kept."""

    num_windows: int = 96
    steps_a_window: int = 32
    num_slots: int = 48
    warmup_windows: int = 5
    keep_one_in: int = 4
    temperature: float = 0.8
    seed: int = 0

    @property
    def window(self) -> str:
        """What one window of the trace is."""
        return f"{self.steps_a_window} decode steps x up to {self.num_slots} requests"


@torch.no_grad()
def serve(model: TinyMoe, traffic: Traffic, config: ServeConfig, say: Callable[[str], None] = print) -> Recorder:
    """Serve the traffic and return what was recorded: decode steps alone, of real tokens alone.

    Parameters
    ----------
    model : TinyMoe
        Its context must hold the longest prompt and answer.
    traffic : Traffic
        Where requests come from; its topics drift from the first recorded window to the last.
    config : ServeConfig
        Windows, slots, sampling. The warm-up windows fill the slots and are not recorded.
    say : callable, optional
        Receives one line of progress now and then. Default `print`.
    """
    server = _Server(model, config)
    recorder = Recorder(
        num_windows=config.num_windows,
        num_layers=model.config.num_layers,
        num_experts=model.config.num_experts,
        top_k=model.config.top_k,
        topics=list(traffic.texts),
    )
    num_finished = 0
    for window in range(-config.warmup_windows, config.num_windows):
        progress = max(window, 0) / max(config.num_windows - 1, 1)
        for _ in range(config.steps_a_window):
            server.admit(traffic.arrivals(window, progress))
            slots, expert_ids = server.decode()
            if window >= 0:
                recorder.step(window, expert_ids, slots)
            # Requests begun while warming up are left out, so that kept tokens are all counted ones.
            for request in server.release_finished():
                if request.begun_in_window >= 0:
                    num_finished += 1
                    if num_finished % config.keep_one_in == 0:
                        recorder.keep(request)
        if (window + 1) % 16 == 0:
            say(f"window {window + 1:4}  {num_finished:5} requests finished, {len(server.waiting)} waiting")
    return recorder


class _Server:
    """Slots of a fixed-shape batch; an empty slot is padding until the next request takes it."""

    def __init__(self, model: TinyMoe, config: ServeConfig) -> None:
        self.model, self.temperature = model, config.temperature
        self.slots: list[Request | None] = [None] * config.num_slots
        self.waiting: list[Request] = []
        self.cache = KvCache.empty(model.config, config.num_slots)
        self.next_tokens = torch.zeros(config.num_slots, dtype=torch.int64)
        self.positions = torch.zeros(config.num_slots, dtype=torch.int64)
        self.generator = torch.Generator().manual_seed(config.seed)

    def admit(self, arrivals: list[Request]) -> None:
        """Queue the arrivals and prefill as many waiting requests as there are empty slots."""
        self.waiting += arrivals
        for slot, held in enumerate(self.slots):
            if held is None and self.waiting:
                request = self.slots[slot] = self.waiting.pop(0)
                prompt = torch.from_numpy(request.prompt)[None]
                positions = torch.arange(prompt.shape[1])[None]
                output = self.model(prompt, positions, self.cache.rows(slice(slot, slot + 1)))
                self.next_tokens[slot] = self._sample(output.logits[:, -1])[0]
                self.positions[slot] = prompt.shape[1]

    def decode(self) -> tuple[list[Request | None], npt.NDArray[np.int64]]:
        """Run one step over all slots; return who sat in them and the expert ids [L, B, K]."""
        output = self.model(self.next_tokens[:, None], self.positions[:, None], self.cache)
        self.next_tokens = self._sample(output.logits[:, 0])
        expert_ids = output.expert_ids[:, :, 0].numpy()
        for slot, request in enumerate(self.slots):
            if request is not None:
                request.expert_ids.append(expert_ids[:, slot].astype(np.int8))
                self.positions[slot] += 1
        return list(self.slots), expert_ids

    def release_finished(self) -> list[Request]:
        """Empty the slots whose request has all its tokens and return those requests."""
        finished = []
        for slot, request in enumerate(self.slots):
            if request is not None and len(request.expert_ids) == request.num_tokens:
                finished.append(request)
                self.slots[slot] = None
                self.next_tokens[slot] = self.positions[slot] = 0
        return finished

    def _sample(self, logits: Tensor) -> Tensor:
        shares = (logits / self.temperature).softmax(-1)
        return torch.multinomial(shares, 1, generator=self.generator)[:, 0]
