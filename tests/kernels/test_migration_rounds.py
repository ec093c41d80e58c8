"""Colouring the edges of a bipartite multigraph with as many colours as its largest degree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.kernels.migration.rounds import colour, largest_degree

NODES = np.array([0, 0, 1, 1, 2, 2], dtype=np.int64)
RANKS = st.integers(0, NODES.size - 1)
GRAPHS = st.lists(st.tuples(RANKS, RANKS), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def coloured(compiled):
    """Return a function that colours edges, and gives the table of rounds."""

    def colour_of(edges):
        sources, targets = np.array(edges, dtype=np.int64).T.copy()
        sent = np.empty((compiled(largest_degree)(sources, targets, NODES.size), NODES.size), dtype=np.int64)
        compiled(colour)(sources, targets, NODES, sent)
        return sent

    return colour_of


@settings(max_examples=300)
@given(GRAPHS)
def test_every_edge_has_one_round_of_its_own(coloured, edges):
    """Edges stand once in the table, below their source, and no target twice in a round."""
    sent = coloured(edges)
    assert sorted(sent[sent >= 0].tolist()) == list(range(len(edges)))
    for row in sent:
        rank = np.flatnonzero(row >= 0)
        assert [edges[k][0] for k in row[rank]] == rank.tolist()
        assert len({edges[k][1] for k in row[rank]}) == rank.size


@given(GRAPHS)
def test_there_are_as_many_rounds_as_the_busiest_rank_needs(coloured, edges):
    """The table has the largest degree of rows, and each is used."""
    sources, targets = zip(*edges, strict=True)
    most = max(max(map(sources.count, sources)), max(map(targets.count, targets)))
    sent = coloured(edges)
    assert len(sent) == most and (sent >= 0).any(axis=1).all()


def test_transfers_between_nodes_share_rounds(coloured):
    """Of two transfers of each rank, the one that leaves the node comes first."""
    sent = coloured([(0, 1), (0, 3), (2, 3), (2, 1)])
    assert [set(row.tolist()) - {-1} for row in sent] == [{1, 3}, {0, 2}]
