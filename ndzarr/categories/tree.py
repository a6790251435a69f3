"""Which classes are there, and which hold which?

A `kwcoco.CategoryTree` (names, ids, indices, subgraphs), so that kwcoco, kwimage and ndsampler take it for theirs, with
queries of the hierarchy, and with the scores, losses and decisions of `ScoredTree`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import kwcoco
import networkx as nx
import numpy as np

from ndzarr.categories.decisions import decide
from ndzarr.categories.scores import IGNORE as losses_IGNORE
from ndzarr.categories.scores import ROOT, Layers
from ndzarr.categories.scores import bottom_up as softmax_bottom_up
from ndzarr.categories.scores import conditional as softmax_conditional
from ndzarr.categories.scores import exp as softmax_exp
from ndzarr.categories.scores import log_softmax as softmax_log_softmax
from ndzarr.categories.scores import nll as losses_nll
from ndzarr.categories.scores import top_down as softmax_top_down
from ndzarr.errors import CategoryError, did_you_mean

# --- Do categories form a tree?


SHOWN = 5
"""Names listed in a message."""

MISSING = ("error", "add", "ignore")
"""What may be done about a supercategory that is no category."""


def checked(categories: Iterable[Mapping[str, Any]], missing_parents: str = "error") -> list[dict[str, Any]]:
    """
    Category dictionaries that form a tree.

    A category that names itself as its supercategory, as MS-COCO's "person" does, is a root.

    Parameters
    ----------
    categories
        With `name`, perhaps `id` and `supercategory`.
    missing_parents
        What to do about a supercategory that is no category itself: 'error'; 'add' leaves it, so that kwcoco makes it
        a category; 'ignore' makes its children roots.

    Raises
    ------
    CategoryError
        Names or ids are missing or occur twice, or supercategories are missing or go round in a circle.
    """
    if missing_parents not in MISSING:
        raise CategoryError(f"missing_parents={missing_parents!r}{did_you_mean(missing_parents, MISSING)}")
    given = [dict(category) for category in categories]
    _refuse_nameless(given)
    _refuse_twice("name", [c["name"] for c in given])
    _refuse_twice("id", [c["id"] for c in given if c.get("id") is not None])
    names = {c["name"] for c in given}
    for category in given:
        parent = category.get("supercategory")
        stray = parent is not None and parent not in names
        if stray and missing_parents == "error":
            raise CategoryError(
                f"category {category['name']!r} is in {parent!r}, which is no category"
                f"{did_you_mean(parent, sorted(map(str, names))[:20])}; "
                "missing_parents='add' makes it one, 'ignore' leaves it out"
            )
        if parent == category["name"] or (stray and missing_parents == "ignore"):
            category["supercategory"] = None
        if category.get("id", ...) is None:
            del category["id"]
    _refuse_circles(given)
    return given


def refuse_unless_forest(graph: Any) -> None:
    """
    Check a graph with edges from parent to child.

    Raises
    ------
    CategoryError
        It is no directed graph, a category has two parents, or is its own ancestor.
    """
    if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
        raise CategoryError(f"{type(graph).__name__}: expected a networkx.DiGraph with edges from parent to child")
    for node in graph:
        parents = list(graph.predecessors(node))
        if len(parents) > 1:
            raise CategoryError(
                f"category {node!r} is in {_listed(parents)}; in a tree it has one parent at most: remove all but one"
            )
    _refuse_circles([{"name": child, "supercategory": parent} for parent, child in graph.edges])


def refuse_unknown(names: Iterable[Hashable], known: Sequence[Hashable]) -> None:
    """
    Check names of categories.

    Raises
    ------
    CategoryError
        There is no such category.
    """
    have = set(known)
    for name in names:
        if name not in have:
            raise CategoryError(f"there is no category {name!r}{did_you_mean(name, known[:20])}")


def refuse_twice(names: Sequence[Hashable]) -> None:
    """
    Check the names of mutually exclusive categories.

    Raises
    ------
    CategoryError
        A name occurs twice.
    """
    _refuse_twice("name", names)


def _refuse_nameless(categories: Sequence[Mapping[str, Any]]) -> None:
    for position, category in enumerate(categories):
        if not category.get("name"):
            raise CategoryError(f"category {category.get('id', f'at position {position}')!r} has no name")
        number = category.get("id")
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise CategoryError(f"category {category['name']!r} has id={number!r}; ids are whole numbers")


def _refuse_twice(what: str, values: Sequence[Any]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise CategoryError(f"{what}s of categories have to differ, and {_listed(twice)} occur more than once")


def _refuse_circles(categories: Iterable[Mapping[str, Any]]) -> None:
    parents = {c["name"]: c["supercategory"] for c in categories if c.get("supercategory") is not None}
    free: set[Hashable] = set()
    for start in parents:
        path: dict[Hashable, None] = {}
        name: Any = start
        while name in parents and name not in free and name not in path:
            path[name] = None
            name = parents[name]
        if name in path:
            circle = list(path)[list(path).index(name) :]
            links = ", ".join(f"{child} in {parents[child]}" for child in circle)
            raise CategoryError(f"categories have to form a tree, and these are in each other: {links[:200]}")
        free |= path.keys()


def _listed(names: Sequence[Hashable]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


# --- What can be done with one score per class of a tree?


class ScoredTree:
    """Mixed into `CategoryTree`."""

    if TYPE_CHECKING:

        @property
        def layers(self) -> Layers: ...  # noqa: D102

    def conditional_log_softmax(self, class_energy: Any, dim: int = 1) -> Any:
        """Log P(class | parent): a softmax over each group of siblings."""
        return softmax_conditional(class_energy, self.layers, dim)

    def source_log_softmax(self, class_energy: Any, dim: int = 1) -> Any:
        """Log P(class), top-down: P(class | parent) P(parent).  Children sum to their parent, roots to 1."""
        return softmax_top_down(class_energy, self.layers, dim)

    def sink_log_softmax(self, class_energy: Any, dim: int = 1) -> Any:
        """Log P(class), bottom-up: a softmax over the leaves, and sums of them; no other scores matter."""
        return softmax_bottom_up(class_energy, self.layers, dim)

    def hierarchical_log_softmax(self, class_energy: Any, dim: int = 1, method: str = "top_down") -> Any:
        """
        Log P(class).

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
        return softmax_log_softmax(class_energy, self.layers, dim, method)

    def hierarchical_softmax(self, class_energy: Any, dim: int = 1, method: str = "top_down") -> Any:
        """P(class); see `hierarchical_log_softmax`."""
        return softmax_exp(self.hierarchical_log_softmax(class_energy, dim, method))

    def hierarchical_nll_loss(
        self,
        class_logprobs: Any,
        targets: Any,
        reduction: str = "mean",
        *,
        dim: int = 1,
        ignore_index: int = losses_IGNORE,
        weight: Any = None,
    ) -> Any:
        """
        Minus the log probability of the targets.

        Parameters
        ----------
        class_logprobs
            From `hierarchical_log_softmax`.
        targets
            Indices of classes, leaves or not, of the shape of `class_logprobs` without `dim`.  A coarse target says
            nothing about the classes in it, and their scores do not matter.
        reduction
            'mean', 'sum' or 'none'.
        ignore_index
            Target of samples that do not count.
        weight
            Of each class; the mean is weighted then.

        Raises
        ------
        CategoryError
            A target is no class, or shapes do not fit.
        """
        return losses_nll(class_logprobs, targets, len(self.layers), dim, reduction, ignore_index, weight)

    def hierarchical_cross_entropy(
        self,
        class_energy: Any,
        targets: Any,
        reduction: str = "mean",
        *,
        dim: int = 1,
        method: str = "top_down",
        ignore_index: int = losses_IGNORE,
        weight: Any = None,
    ) -> Any:
        """`hierarchical_nll_loss` of the `hierarchical_log_softmax`."""
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
        The finest class of each sample that its probabilities support.

        Parameters
        ----------
        class_probs
            From `hierarchical_softmax`.
        thresh
            The higher, the coarser the classes.  0 always goes on to a leaf unless children are equally likely
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
            Of the chosen classes; each of the shape of `class_probs` without `dim`.

        Raises
        ------
        CategoryError
            All roots are ignored, or the axis does not hold one probability per class.
        """
        ignored, refined = ignore_class_idxs or (), always_refine_idxs or ()
        return decide(class_probs, self.layers, dim, thresh, criterion, ignored, refined)


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
