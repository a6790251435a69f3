"""Random trees of categories, as ours and as ndsampler's, and scores for their classes."""

from __future__ import annotations

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from ndzarr.categories.tree import CategoryTree


@st.composite
def forests(draw, largest=24):
    """A networkx forest of 1 to `largest` classes in shuffled order."""
    size = draw(st.integers(1, largest))
    parents = [draw(st.one_of(st.none(), st.integers(0, k - 1))) if k else None for k in range(size)]
    order = draw(st.permutations(range(size)))
    graph = nx.DiGraph()
    graph.add_nodes_from(f"n{k:02}" for k in order)
    graph.add_edges_from((f"n{p:02}", f"n{k:02}") for k, p in enumerate(parents) if p is not None)
    return graph


def peers(graph):
    """(our tree, ndsampler's) of a graph."""
    import ndsampler

    return CategoryTree(graph), ndsampler.category_tree.CategoryTree(graph)


def scores(rows, classes, seed=0, spread=3.0):
    return np.random.default_rng(seed).normal(0, spread, (rows, classes))
