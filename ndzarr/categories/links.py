"""Do categories form a tree?

Categories come as kwcoco's dictionaries, which name their parent as `supercategory`, or as a networkx graph with edges
from parent to child.  What is no tree is refused here, once, with the categories that are in the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import networkx as nx

from ndzarr.errors import CategoryError, did_you_mean

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
