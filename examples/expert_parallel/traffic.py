"""Tokens of topics that come and go, so that experts are popular unequally and by turns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sizes import Sizes
from torch import Tensor

_NUM_TOPICS = 4
_SPREAD = 0.6  # of a topic's bell, in topics: neighbours overlap, topics two apart hardly do


class Traffic:
    """Batches of tokens: each is the centre of its topic, and noise.

    Parameters
    ----------
    sizes : Sizes
        Width of a token, and how many a rank gets.
    seed : int
        Same seed, batch and rank: same tokens, on whichever rank they are drawn.
    strength : float, default 2.0
        Of the centres, in units of the noise: with more, the tokens of a topic choose more alike.
    """

    def __init__(self, sizes: Sizes, seed: int, strength: float = 2.0) -> None:
        self._sizes, self._seed = sizes, seed
        self._centres = strength * np.random.default_rng(seed).normal(size=(_NUM_TOPICS, sizes.width))

    def batch(self, number: int, rank: int) -> Tensor:
        """Return the tokens [N, D] that a rank gets in a batch; N varies."""
        random = np.random.default_rng([self._seed, number, rank])
        mean = self._sizes.tokens_per_rank
        num_tokens = int(random.integers(mean - mean // 4, mean + mean // 4, endpoint=True))
        shares = topic_shares(number / self._sizes.batches_per_topic)
        topics = random.choice(_NUM_TOPICS, num_tokens, p=shares)
        tokens = self._centres[topics] + random.normal(size=(num_tokens, self._sizes.width))
        return torch.from_numpy(tokens.astype(np.float32))


def topic_shares(turn: float) -> npt.NDArray[np.float64]:
    """Return the share of the tokens that each topic has: topic t most at turn t, and so on in a circle.

    Examples
    --------
    >>> topic_shares(0.0).round(2), topic_shares(3.5).round(2)
    (array([0.67, 0.17, 0.  , 0.17]), array([0.47, 0.03, 0.03, 0.47]))
    """
    distance = np.abs(turn - np.arange(_NUM_TOPICS)) % _NUM_TOPICS
    bells = np.exp(-0.5 * (np.minimum(distance, _NUM_TOPICS - distance) / _SPREAD) ** 2)
    return np.asarray(bells / bells.sum())
