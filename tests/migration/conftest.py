"""Groups of processes, which share one process that they are forked from."""

import pytest

from tests.migration.group import Groups


@pytest.fixture(scope="session")
def all_groups():
    """Return what starts groups; stores look up the names of those who connect, and where DNS is slow give up soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RES_OPTIONS", "timeout:1 attempts:1")
        yield Groups()


@pytest.fixture
def groups(all_groups):
    """Return what starts groups of four ranks; none outlives its test."""
    yield all_groups
    all_groups.end()
