"""Groups of processes, which share one process that they are forked from."""

import pytest

from tests.migration.group import Groups


@pytest.fixture(scope="session")
def all_groups():
    return Groups()


@pytest.fixture
def groups(all_groups):
    """Return what starts groups of four ranks; none outlives its test."""
    yield all_groups
    all_groups.end()
