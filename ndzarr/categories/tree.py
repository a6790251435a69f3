"""
A tree of categories: names, ids and indices, the hierarchy, scores and decisions.

`CategoryTree` is a `kwcoco.CategoryTree`, so that kwcoco, kwimage and ndsampler accept it as theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import kwcoco
import networkx as nx
import numpy as np

from ndzarr._validation import check_choice
from ndzarr.categories.decisions import decide
from ndzarr.categories.scores import IGNORE, ROOT, Layers, log_conditional, log_probability, negative_log_likelihood
from ndzarr.errors import CategoryError, did_you_mean

_LISTED = 5
"""Maximum number of names that a message lists."""


class CategoryTree(kwcoco.CategoryTree):
    """
    Classes in a hierarchy, or mutually exclusive ones.

    A class has a name (`node`), an id in the dataset, and an index, 0 to n - 1, which is its position along the axis
    of scores. Indices are in the order in which names first occur. `idx_to_node`, `node_to_idx`, `id_to_node`,
    `node_to_id`, `id_to_idx` and `idx_to_id` map each to the others; `index(name)`, `tree[index]`, `name in tree` and
    `len(tree)` do what they say.

    Parameters
    ----------
    graph
        A `networkx.DiGraph` with edges from parent to child; attributes of nodes, such as `id`, are kept.
    checks
        Check that the graph is a forest.

    Raises
    ------
    CategoryError
        The graph is not a forest.

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
            _check_forest(graph)
        super().__init__(graph, checks=False)

    @classmethod
    def from_coco(cls, categories: Iterable[Mapping[str, Any]], missing_parents: str = "error") -> CategoryTree:
        """
        Build a tree from category dictionaries.

        Parameters
        ----------
        categories
            Have a `name`, and may have `id`, `supercategory` and others; see `cats`.
        missing_parents
            What to do about a supercategory that is not a category itself (MS-COCO has such): 'error'; 'add' makes it
            a class, with an id of its own; 'ignore' makes its children roots.

        Raises
        ------
        CategoryError
            Names or ids are missing or occur twice, or supercategories are missing or form a circle.
        """
        tree: CategoryTree = super().from_coco(_check_categories(categories, missing_parents))
        return tree

    @classmethod
    def from_mutex(cls, nodes: Iterable[Hashable], bg_hack: bool = True) -> CategoryTree:
        """
        Build a tree of mutually exclusive classes.

        Parameters
        ----------
        nodes
            Names. Ids count from 1; 'background' has id 0 with `bg_hack`.
        """
        names = list(nodes)
        _check_unique("name", names)
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
        """Return the class that holds a class; None for a root."""
        self._check_known("node", node)
        return next(iter(self.graph.predecessors(node)), None)

    def parents(self, node: Hashable) -> list[Hashable]:
        """Return the class that holds a class as a list of one; empty for a root."""
        parent = self.parent(node)
        return [] if parent is None else [parent]

    def children(self, node: Hashable) -> list[Hashable]:
        """Return the classes directly in a class, by index."""
        self._check_known("node", node)
        return sorted(self.graph.successors(node), key=self.node_to_idx.__getitem__)

    def siblings(self, node: Hashable) -> list[Hashable]:
        """Return the other classes with the same parent, by index; for a root, the other roots."""
        parent = self.parent(node)
        return [name for name in (self.roots if parent is None else self.children(parent)) if name != node]

    def ancestors(self, node: Hashable) -> list[Hashable]:
        """Return the classes that hold a class, from its parent up to its root."""
        path: list[Hashable] = []
        above = self.parent(node)
        while above is not None:
            path.append(above)
            above = self.parent(above)
        return path

    def descendants(self, node: Hashable) -> list[Hashable]:
        """Return the classes in a class, at any depth, by index."""
        self._check_known("node", node)
        return sorted(nx.descendants(self.graph, node), key=self.node_to_idx.__getitem__)

    def depth(self, node: Hashable) -> int:
        """Return the number of ancestors of a class; 0 for a root."""
        self._check_known("node", node)
        return int(self.layers.depth[self.node_to_idx[node]])

    def forest_str(self) -> str:
        """Return the hierarchy as lines of text."""
        return "\n".join(nx.generate_network_text(self.graph))

    def subgraph(self, subnodes: Iterable[Hashable], closure: bool = True) -> CategoryTree:
        """
        Return the tree of some classes, in the order given, with their ids.

        Parameters
        ----------
        closure
            Join a class to its nearest remaining ancestor; if False, only to its parent, if that remains.
        """
        names = list(subnodes)
        self._check_known("subnodes", *names)
        _check_unique("name", names)
        tree: CategoryTree = super().subgraph(names, closure)
        return tree

    def indices(self, ids: Any, missing: int | None = None) -> np.ndarray[Any, np.dtype[np.intp]]:
        """
        Convert category ids to indices, such as targets of a loss.

        Parameters
        ----------
        ids
            Category ids of any shape, such as `sample.category_id`.
        missing
            Index for ids that no category has; None raises an error.

        Raises
        ------
        CategoryError
            No category has an id.
        """
        given = np.asarray(ids)
        known = np.array(list(self.id_to_idx), np.int64)
        order = np.argsort(known)
        place = np.searchsorted(known[order], given).clip(0, max(len(known) - 1, 0))
        found = known[order][place] == given if len(known) else np.zeros(given.shape, bool)
        if missing is None and not found.all():
            unknown = given[~found].flat[0].item()
            raise CategoryError(f"ids: no category has {unknown!r}; the ids are {known[:20].tolist()}", key="ids")
        values = np.array(list(self.id_to_idx.values()), np.intp)[order]
        return np.where(found, values[place] if len(known) else -1, -1 if missing is None else missing)

    def conditional_log_softmax(self, class_energy: Any, dim: int = 1) -> Any:
        """Return log P(class | parent): a softmax over each group of siblings."""
        return log_conditional(class_energy, self.layers, dim)

    def source_log_softmax(self, class_energy: Any, dim: int = 1) -> Any:
        """Return log P(class), top-down: P(class | parent) P(parent). Children sum to their parent, roots to 1."""
        return log_probability(class_energy, self.layers, dim, "top_down")

    def sink_log_softmax(self, class_energy: Any, dim: int = 1) -> Any:
        """Return log P(class), bottom-up: a softmax over the leaves, and sums of it; no other scores matter."""
        return log_probability(class_energy, self.layers, dim, "bottom_up")

    def hierarchical_log_softmax(self, class_energy: Any, dim: int = 1, method: str = "top_down") -> Any:
        """
        Return log P(class).

        Parameters
        ----------
        class_energy
            One score per class along `dim`; any other axes.
        method
            'top_down' (`source_log_softmax`) or 'bottom_up' (`sink_log_softmax`).

        Raises
        ------
        CategoryError
            The axis does not hold one score per class.
        """
        return log_probability(class_energy, self.layers, dim, method)

    def hierarchical_softmax(self, class_energy: Any, dim: int = 1, method: str = "top_down") -> Any:
        """Return P(class); see `hierarchical_log_softmax`."""
        log_probs = self.hierarchical_log_softmax(class_energy, dim, method)
        return log_probs.exp() if hasattr(log_probs, "exp") else np.exp(log_probs)

    def hierarchical_nll_loss(
        self,
        class_logprobs: Any,
        targets: Any,
        reduction: str = "mean",
        *,
        dim: int = 1,
        ignore_index: int = IGNORE,
        weight: Any = None,
    ) -> Any:
        """
        Return minus the log probability of the targets.

        Parameters
        ----------
        class_logprobs
            From `hierarchical_log_softmax`.
        targets
            Indices of classes, leaves or not, of the shape of `class_logprobs` without `dim`. A coarse target says
            nothing about the classes in it: their scores do not matter.
        reduction
            'mean', 'sum' or 'none'.
        ignore_index
            Target of samples that do not count.
        weight
            Weight of each class; 'mean' is then a weighted mean.

        Raises
        ------
        CategoryError
            A target is not a class, or shapes do not fit.
        """
        classes = len(self.layers)
        return negative_log_likelihood(class_logprobs, targets, classes, dim, reduction, ignore_index, weight)

    def hierarchical_cross_entropy(
        self,
        class_energy: Any,
        targets: Any,
        reduction: str = "mean",
        *,
        dim: int = 1,
        method: str = "top_down",
        ignore_index: int = IGNORE,
        weight: Any = None,
    ) -> Any:
        """Return the `hierarchical_nll_loss` of the `hierarchical_log_softmax`."""
        log_probs = self.hierarchical_log_softmax(class_energy, dim, method)
        return self.hierarchical_nll_loss(
            log_probs, targets, reduction, dim=dim, ignore_index=ignore_index, weight=weight
        )

    def decision(
        self,
        class_probs: Any,
        dim: int = 1,
        thresh: float = 0.5,
        criterion: str = "gini",
        ignore_class_idxs: Collection[int] | None = None,
        always_refine_idxs: Collection[int] | None = None,
    ) -> tuple[Any, Any]:
        """
        Return the finest class of each sample that its probabilities support.

        Parameters
        ----------
        class_probs
            From `hierarchical_softmax`.
        thresh
            The higher, the coarser the classes. 0 always goes on to a leaf unless children are equally likely
            ('prob': unless they have no probability).
        criterion
            'gini' and 'entropy' ask how simple it is to tell the children apart, 'prob' how probable the best is; see
            `ndzarr.categories.decisions`.
        ignore_class_idxs
            Indices of classes that are never chosen, nor what lies in them.
        always_refine_idxs
            Indices of classes that are never chosen while they have children, such as a root that holds all.

        Returns
        -------
        indices, probabilities
            Chosen class and its probability; each of the shape of `class_probs` without `dim`.

        Raises
        ------
        CategoryError
            All roots are ignored, or the axis does not hold one probability per class.
        """
        ignored, refined = ignore_class_idxs or (), always_refine_idxs or ()
        return decide(class_probs, self.layers, dim, thresh, criterion, ignored, refined)

    def _check_known(self, key: str, *nodes: Hashable) -> None:
        for node in nodes:
            if node not in self.node_to_idx:
                known = did_you_mean(node, self.idx_to_node[:20])
                raise CategoryError(f"{key}={node!r}: no such category{known}", key=key)

    def _names(self, indices: np.ndarray[Any, Any]) -> list[Hashable]:
        return [self.idx_to_node[i] for i in indices.tolist()]


def _check_categories(categories: Iterable[Mapping[str, Any]], missing_parents: str) -> list[dict[str, Any]]:
    """Return category dictionaries that form a tree; see `CategoryTree.from_coco`."""
    check_choice("missing_parents", missing_parents, ("error", "add", "ignore"), CategoryError)
    given = [dict(category) for category in categories]
    for position, category in enumerate(given):
        if not category.get("name"):
            raise CategoryError(f"category {category.get('id', f'at position {position}')!r} has no name", key="name")
        for key in ("name", "supercategory"):
            if not isinstance(category.get(key), Hashable):
                raise CategoryError(f"category {category.get('id')!r}: {key}={category[key]!r} is not a name", key=key)
        number = category.get("id")
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise CategoryError(f"category {category['name']!r} has id={number!r}; ids are whole numbers", key="id")
    _check_unique("name", [c["name"] for c in given])
    _check_unique("id", [c["id"] for c in given if c.get("id") is not None])
    names = {c["name"] for c in given}
    for category in given:
        parent = category.get("supercategory")
        missing = parent is not None and parent not in names
        if missing and missing_parents == "error":
            guess = did_you_mean(parent, sorted(map(str, names))[:20])
            hint = "Pass missing_parents='add' to make it one, or 'ignore' to leave it out"
            found = f"category {category['name']!r} is in {parent!r}, which is not a category"
            raise CategoryError(f"supercategory: {found}{guess}", key="supercategory", hint=hint)
        # A category in itself, such as MS-COCO's "person", is a root. With 'add', kwcoco makes the parent a category.
        if parent == category["name"] or (missing and missing_parents == "ignore"):
            category["supercategory"] = None
        if category.get("id", ...) is None:
            del category["id"]
    _check_no_circle(
        "supercategory", ((c["name"], c["supercategory"]) for c in given if c.get("supercategory") is not None)
    )
    return given


def _check_forest(graph: object) -> None:
    """Check a graph with edges from parent to child."""
    if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
        raise CategoryError(
            f"graph is a {type(graph).__name__}: expected a networkx.DiGraph with edges from parent to child",
            key="graph",
        )
    for node in graph:
        parents = list(graph.predecessors(node))
        if len(parents) > 1:
            hint = "In a tree it has one parent at most: remove all but one"
            raise CategoryError(f"graph: category {node!r} is in {_listed(parents)}", key="graph", hint=hint)
    _check_no_circle("graph", ((child, parent) for parent, child in graph.edges))


def _check_unique(what: str, values: Sequence[Hashable]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        message = f"{what}s of categories have to differ, and {_listed(twice)} occur more than once"
        raise CategoryError(message, key=what)


def _check_no_circle(key: str, links: Iterable[tuple[Hashable, Hashable]]) -> None:
    """Check pairs of child and parent."""
    try:
        circle = nx.find_cycle(nx.DiGraph(list(links)))
    except nx.NetworkXNoCycle:
        return
    said = ", ".join(f"{child} in {parent}" for child, parent in circle)
    message = f"{key}: categories have to form a tree, and these are in each other: {said[:200]}"
    raise CategoryError(message, key=key)


def _listed(names: Sequence[Hashable]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(repr, names[:_LISTED])) + more
