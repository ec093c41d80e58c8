"""Fixtures for all tests."""

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# The first example of a test may wait for the compiler, in its drawing or after.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture
def rng():
    """Return a seeded generator."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def compiled():
    """Return a function that makes a part of kernels callable: parts have no entry for Python."""
    made = {}

    def entry(part):
        if part not in made:
            made[part] = numba.njit(lambda *args: part(*args))
        return made[part]

    return entry
