"""What the router did while serving: tokens of each expert a window, and the expert ids of some requests' tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from traffic import Request


class Recorder:
    """Counts of real tokens; padding never reaches them.

    Parameters
    ----------
    num_windows, num_layers, num_experts, top_k : int
        Sizes of the trace.
    topics : sequence of str
        Names that requests may carry.
    """

    def __init__(
        self, *, num_windows: int, num_layers: int, num_experts: int, top_k: int, topics: Sequence[str]
    ) -> None:
        self.top_k, self.topics = top_k, list(topics)
        self.loads = np.zeros((num_windows, num_layers, num_experts), np.int32)
        self.topic_tokens = np.zeros((num_windows, len(self.topics)), np.int64)
        self.kept: list[Request] = []

    def step(self, window: int, expert_ids: npt.NDArray[np.int64], slots: Sequence[Request | None]) -> None:
        """Count one decode step: `expert_ids` [L, B, K], a request or None (padding) for each of the B rows."""
        real = [row for row, request in enumerate(slots) if request is not None]
        for layer, ids in enumerate(expert_ids[:, real]):
            self.loads[window, layer] += np.bincount(ids.ravel(), minlength=self.loads.shape[2]).astype(np.int32)
        for request in slots:
            if request is not None:
                self.topic_tokens[window, self.topics.index(request.topic)] += 1

    def keep(self, request: Request) -> None:
        """Keep a finished request's expert ids."""
        self.kept.append(request)

    def save(self, folder: Path, *, model: str, window: str) -> tuple[Path, Path]:
        """Write tiny_moe.npz and tiny_moe_tokens.npz and return their paths."""
        loads_path, tokens_path = folder / "tiny_moe.npz", folder / "tiny_moe_tokens.npz"
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            loads_path,
            loads=self.loads,
            layer_ids=np.arange(self.loads.shape[1], dtype=np.int64),
            model=np.array(model),
            window=np.array(window),
            phase=np.array("decode"),
            tokens=self.topic_tokens.sum(1),
            labels=np.array([self.topics[most] for most in self.topic_tokens.argmax(1)]),
            topk=np.array(self.top_k),
        )
        np.savez_compressed(
            tokens_path,
            ids=np.concatenate([np.stack(request.expert_ids) for request in self.kept]),
            lens=np.array([len(request.expert_ids) for request in self.kept]),
            topic=np.array([request.topic for request in self.kept]),
            topk=np.array(self.top_k),
        )
        return loads_path, tokens_path
