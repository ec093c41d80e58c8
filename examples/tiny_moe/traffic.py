"""Requests whose topic drifts: which topics are asked about when, how often, with which prompts and answer lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_SPREAD = 0.6  # of a topic's bell, in topics: neighbours overlap, topics two apart hardly do
_FLOOR = 0.02  # share every topic keeps beside the bells


@dataclass(kw_only=True)
class Request:
    """One request: its prompt [bytes], how many tokens it asks for, and what has been decoded so far."""

    topic: str
    prompt: npt.NDArray[np.int64]
    num_tokens: int
    begun_in_window: int
    expert_ids: list[npt.NDArray[np.int8]] = field(default_factory=list)  # [L, K] a decoded token


class Traffic:
    """Poisson arrivals of requests; prompts are cut from held-out text.

    Parameters
    ----------
    texts : mapping of str to array of uint8
        Text of each topic, in the order in which the topics have their turn.
    seed : int
        Same seed, same requests.
    arrivals_a_step : float
        Mean number of new requests a decode step. Default 0.43: with the default lengths about 41 requests are live.
    prompt_tokens, answer_tokens : (int, int)
        Least and most tokens of a prompt and of an answer, uniform. Default (32, 96) and (32, 160).
    """

    def __init__(
        self,
        texts: Mapping[str, npt.NDArray[np.uint8]],
        *,
        seed: int,
        arrivals_a_step: float = 0.43,
        prompt_tokens: tuple[int, int] = (32, 96),
        answer_tokens: tuple[int, int] = (32, 160),
    ) -> None:
        self.texts = texts
        self.arrivals_a_step = arrivals_a_step
        self.prompt_tokens, self.answer_tokens = prompt_tokens, answer_tokens
        self._random = np.random.default_rng(seed)

    def arrivals(self, window: int, progress: float) -> list[Request]:
        """Draw the requests of one decode step; `progress` runs from 0 at the first window to 1 at the last."""
        return [self._request(window, progress) for _ in range(self._random.poisson(self.arrivals_a_step))]

    def _request(self, window: int, progress: float) -> Request:
        names = list(self.texts)
        topic = names[self._random.choice(len(names), p=topic_shares(progress, len(names)))]
        text = self.texts[topic]
        length = int(self._random.integers(*self.prompt_tokens, endpoint=True))
        start = int(self._random.integers(text.size - length))
        return Request(
            topic=topic,
            prompt=text[start : start + length].astype(np.int64),
            num_tokens=int(self._random.integers(*self.answer_tokens, endpoint=True)),
            begun_in_window=window,
        )


def topic_shares(progress: float, num_topics: int) -> npt.NDArray[np.float64]:
    """Share of new requests each topic has at `progress` in 0..1: one smooth bell after another.

    Examples
    --------
    >>> topic_shares(0.0, 4).round(2), topic_shares(0.5, 4).round(2)
    (array([0.75, 0.2 , 0.02, 0.02]), array([0.05, 0.45, 0.45, 0.05]))
    """
    distance = progress * (num_topics - 1) - np.arange(num_topics)
    bells = np.exp(-0.5 * (distance / _SPREAD) ** 2)
    return np.asarray(_FLOOR + (1 - num_topics * _FLOOR) * bells / bells.sum())
