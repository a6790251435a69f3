"""Which classes are there, and which hold which?

A `kwcoco.CategoryTree` (names, ids, indices, subgraphs), so that kwcoco, kwimage and ndsampler take it for theirs, with
queries of the hierarchy, and with the scores, losses and decisions of `ScoredTree`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from typing import Any

import kwcoco
import networkx as nx
import numpy as np

from ndzarr.categories.layers import ROOT, Layers
from ndzarr.categories.links import checked, refuse_twice, refuse_unknown, refuse_unless_forest
from ndzarr.categories.scored import ScoredTree
from ndzarr.errors import CategoryError


class CategoryTree(ScoredTree, kwcoco.CategoryTree):
    """
    Classes in a hierarchy, or mutually exclusive ones.

    A class has a name (`node`), an id in the dataset, and an index, 0 to n - 1, which is its place along the axis of
    scores.  Indices are in the order in which names first occur.  `idx_to_node`, `node_to_idx`, `id_to_node`,
    `node_to_id`, `id_to_idx` and `idx_to_id` map each to the others; `index(name)`, `tree[index]`,
    `name in tree` and `len(tree)` do what they say.

    Parameters
    ----------
    graph
        A `networkx.DiGraph` with edges from parent to child; attributes of nodes, such as `id`, are kept.
    checks
        Make sure that it is a forest.

    Raises
    ------
    CategoryError
        The graph is no forest.

    Examples
    --------
    >>> tree = CategoryTree.from_coco(
    ...     [
    ...         {"id": 3, "name": "vehicle"},
    ...         {"id": 7, "name": "car", "supercategory": "vehicle"},
    ...         {"id": 8, "name": "truck", "supercategory": "vehicle"},
    ...         {"id": 9, "name": "person"},
    ...     ]
    ... )
    >>> tree.children("vehicle"), tree.ancestors("car"), tree.leaves, tree.is_mutex()
    (['car', 'truck'], ['vehicle'], ['car', 'truck', 'person'], False)
    >>> scores = np.array([[2.0, 1.0, 1.0, 0.0]])
    >>> tree.hierarchical_softmax(scores).round(2)
    array([[0.88, 0.44, 0.44, 0.12]])
    >>> [tree[i] for i in tree.decision(tree.hierarchical_softmax(scores))[0]]
    ['vehicle']
    """

    def __init__(self, graph: nx.DiGraph | None = None, checks: bool = True) -> None:
        if graph is not None and checks:
            refuse_unless_forest(graph)
        super().__init__(graph, checks=False)

    @classmethod
    def from_coco(cls, categories: Iterable[Mapping[str, Any]], missing_parents: str = "error") -> CategoryTree:
        """
        The tree of category dictionaries.

        Parameters
        ----------
        categories
            With `name`, perhaps `id`, `supercategory` and whatever else; see `cats`.
        missing_parents
            What to do about a supercategory that is no category itself (MS-COCO has such): 'error'; 'add' makes it a
            class, with an id of its own; 'ignore' makes its children roots.

        Raises
        ------
        CategoryError
            Names or ids are missing or occur twice, or supercategories are missing or go round in a circle.
        """
        tree: CategoryTree = super().from_coco(checked(categories, missing_parents))
        return tree

    @classmethod
    def from_mutex(cls, nodes: Iterable[Hashable], bg_hack: bool = True) -> CategoryTree:
        """
        Mutually exclusive classes.

        Parameters
        ----------
        nodes
            Names.  Ids count from 1; 'background' has id 0 with `bg_hack`.
        """
        names = list(nodes)
        refuse_twice(names)
        tree: CategoryTree = super().from_mutex(names, bg_hack)
        return tree

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        state.pop("layers", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        ids = {int(number): node for number, node in state["id_to_node"].items()}  # JSON made them text
        super().__setstate__({**state, "id_to_node": ids})
        stored, self.graph = self.graph, nx.DiGraph()  # kwcoco stores siblings by name; copies take the graph's order
        self.graph.add_nodes_from((node, stored.nodes[node]) for node in self.idx_to_node)
        self.graph.add_edges_from(stored.edges(data=True))

    @cached_property
    def layers(self) -> Layers:
        """The hierarchy as arrays of indices."""
        parents = [self.node_to_idx[p] if (p := self.parent(node)) is not None else ROOT for node in self.idx_to_node]
        return Layers.of(parents)

    @property
    def roots(self) -> list[Hashable]:
        """Classes without a parent, by index."""
        return self._names(np.flatnonzero(self.layers.parent == ROOT))

    @property
    def leaves(self) -> list[Hashable]:
        """Classes without children, by index."""
        return self._names(self.layers.leaves)

    @property
    def height(self) -> int:
        """Number of levels: 1 for mutually exclusive classes, 0 without classes."""
        return len(self.layers.levels)

    def parent(self, node: Hashable) -> Hashable | None:
        """The class that holds a class; None for a root."""
        refuse_unknown([node], self.idx_to_node)
        return next(iter(self.graph.predecessors(node)), None)

    def parents(self, node: Hashable) -> list[Hashable]:
        """The class that holds a class, as a list of one; empty for a root."""
        parent = self.parent(node)
        return [] if parent is None else [parent]

    def children(self, node: Hashable) -> list[Hashable]:
        """Classes directly in a class, by index."""
        refuse_unknown([node], self.idx_to_node)
        return sorted(self.graph.successors(node), key=self.node_to_idx.__getitem__)

    def siblings(self, node: Hashable) -> list[Hashable]:
        """Other classes with the same parent, by index; other roots of a root."""
        parent = self.parent(node)
        return [name for name in (self.roots if parent is None else self.children(parent)) if name != node]

    def ancestors(self, node: Hashable) -> list[Hashable]:
        """Classes that hold a class, from its parent up to its root."""
        path: list[Hashable] = []
        above = self.parent(node)
        while above is not None:
            path.append(above)
            above = self.parent(above)
        return path

    def descendants(self, node: Hashable) -> list[Hashable]:
        """Classes in a class, at whatever depth, by index."""
        refuse_unknown([node], self.idx_to_node)
        return sorted(nx.descendants(self.graph, node), key=self.node_to_idx.__getitem__)

    def depth(self, node: Hashable) -> int:
        """Number of ancestors of a class; 0 for a root."""
        refuse_unknown([node], self.idx_to_node)
        return int(self.layers.depth[self.node_to_idx[node]])

    def forest_str(self) -> str:
        """The hierarchy as lines of text."""
        return "\n".join(nx.generate_network_text(self.graph))

    def subgraph(self, subnodes: Iterable[Hashable], closure: bool = True) -> CategoryTree:
        """
        The tree of some classes, in the order given, with their ids.

        Parameters
        ----------
        closure
            Join classes to their nearest ancestor that is left; else only parents that are left hold their children.
        """
        names = list(subnodes)
        refuse_unknown(names, self.idx_to_node)
        refuse_twice(names)
        tree: CategoryTree = super().subgraph(names, closure)
        return tree

    def indices(self, ids: Any, missing: int | None = None) -> np.ndarray[Any, np.dtype[np.intp]]:
        """
        Category ids to indices, such as targets of a loss.

        Parameters
        ----------
        ids
            Category ids, of any shape, such as `sample.category_id`.
        missing
            Index for ids that no category has; an error if left out.

        Raises
        ------
        CategoryError
            An id is no category's.
        """
        given = np.asarray(ids)
        known = np.array(list(self.id_to_idx), np.int64)
        order = np.argsort(known)
        place = np.searchsorted(known[order], given).clip(0, max(len(known) - 1, 0))
        found = known[order][place] == given if len(known) else np.zeros(given.shape, bool)
        if missing is None and not found.all():
            unknown = given[~found].flat[0].item()
            raise CategoryError(f"no category has id {unknown!r}; the ids are {known[:20].tolist()}")
        values = np.array(list(self.id_to_idx.values()), np.intp)[order]
        return np.where(found, values[place] if len(known) else -1, -1 if missing is None else missing)

    def _names(self, indices: np.ndarray[Any, Any]) -> list[Hashable]:
        return [self.idx_to_node[i] for i in indices.tolist()]
