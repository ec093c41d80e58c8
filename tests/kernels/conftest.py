"""Parts of kernels have no entry for Python; tests call them through a compiled one."""

import numba
import pytest


@pytest.fixture(scope="session")
def compiled():
    """Return a function that makes a part callable."""
    made = {}

    def entry(part):
        if part not in made:
            made[part] = numba.njit(lambda *args: part(*args))
        return made[part]

    return entry
