"""Seeded windows of loads that drift, or that are the same but for noise."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from shapes import TOKENS_PER_EXPERT, Shape

SIGMA = 1.0  # of the lognormal loads that windows start from
NOISE = 0.01

Loads = NDArray[np.float64]


def _drift(sigma: float) -> Callable[[np.random.Generator, Loads, int], Loads]:
    def windows(rng: np.random.Generator, base: Loads, num_windows: int) -> Loads:
        walk = rng.normal(0.0, sigma, (num_windows, *base.shape)).cumsum(axis=0)
        return rng.poisson(base * np.exp(walk)).astype(np.float64)

    return windows


def _noise(rng: np.random.Generator, base: Loads, num_windows: int) -> Loads:
    return base * np.exp(rng.normal(0.0, NOISE, (num_windows, *base.shape)))


KINDS: dict[str, Callable[[np.random.Generator, Loads, int], Loads]] = {
    "drift 2%": _drift(0.02),
    "drift 10%": _drift(0.1),
    "noise 1%": _noise,
}


def windows_for(shape: Shape, kind: str, num_windows: int, seed: int = 0) -> Loads:
    """Return loads [T, L, E]: lognormal with a mean of `TOKENS_PER_EXPERT`, changing from window to window.

    Parameters
    ----------
    shape : Shape
        Layers and experts.
    kind : str
        A key of `KINDS`: each expert's load times a lognormal step a window, as Poisson counts; or times noise alone.
    num_windows : int
        Windows T.
    seed : int, default 0
        Seed of the generator.
    """
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    base = rng.lognormal(0.0, SIGMA, (shape.num_layers, shape.num_experts))
    return KINDS[kind](rng, base / base.mean(axis=1, keepdims=True) * TOKENS_PER_EXPERT, num_windows)
