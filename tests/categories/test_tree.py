"""Which classes hold which, and what is no tree."""

from __future__ import annotations

import json
import pickle

import kwcoco
import kwimage
import networkx as nx
import numpy as np
import pytest

from helpers.errors import raises
from ndzarr.categories import CategoryTree
from ndzarr.errors import CategoryError

ANIMALS = [
    {"id": 5, "name": "animal"},
    {"id": 3, "name": "cat", "supercategory": "animal", "color": "red"},
    {"id": 8, "name": "boxer", "supercategory": "dog"},
    {"id": 4, "name": "dog", "supercategory": "animal"},
    {"id": 1, "name": "stone"},
]


@pytest.fixture
def tree():
    return CategoryTree.from_coco(ANIMALS)


def test_the_hierarchy_can_be_asked(tree):
    assert tree.roots == ["animal", "stone"]
    assert tree.leaves == ["cat", "boxer", "stone"]
    assert tree.children("animal") == ["cat", "dog"]
    assert tree.descendants("animal") == ["cat", "boxer", "dog"]
    assert tree.ancestors("boxer") == ["dog", "animal"]
    assert (tree.parent("dog"), tree.parents("dog"), tree.parent("stone"), tree.parents("stone")) == (
        "animal", ["animal"], None, [],
    )  # fmt: skip
    assert (tree.siblings("cat"), tree.siblings("stone")) == (["dog"], ["animal"])
    assert [tree.depth(n) for n in ("stone", "dog", "boxer")] == [0, 1, 2]
    assert tree.height == 3
    assert not tree.is_mutex()
    assert tree.forest_str().splitlines()[:2] == ["╟── animal", "╎   ├─╼ cat"]


def test_names_ids_and_indices_map_to_each_other_as_in_kwcoco(tree):
    peer = kwcoco.CategoryTree.from_coco(ANIMALS)
    for name in ("idx_to_node", "node_to_idx", "id_to_node", "node_to_id", "id_to_idx", "idx_to_id", "cats"):
        assert getattr(tree, name) == getattr(peer, name), name
    assert (tree.index("dog"), tree[3], "dog" in tree, len(tree)) == (peer.index("dog"), peer[3], True, 5)
    assert tree.cats["cat"]["color"] == "red"


def test_ids_become_targets(tree):
    ids = np.array([[5, 1], [8, 8]])
    names = np.vectorize(lambda i: tree.idx_to_node[i])(tree.indices(ids))
    assert names.tolist() == [["animal", "stone"], ["boxer", "boxer"]]
    assert tree.indices([5, -1], missing=-100).tolist() == [tree.index("animal"), -100]
    with raises(CategoryError, key="ids", match="77"):
        tree.indices([5, 77])
    assert CategoryTree().indices([7], missing=-1).tolist() == [-1]


def test_random_trees_agree_with_networkx():
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 40):
        parents = [None if k == 0 or rng.random() < 0.2 else f"n{rng.integers(k)}" for k in range(size)]
        shuffled = rng.permutation(size)
        tree = CategoryTree.from_coco([{"name": f"n{k}", "supercategory": parents[k]} for k in shuffled])
        for node in tree:
            assert set(tree.ancestors(node)) == nx.ancestors(tree.graph, node)
            assert set(tree.descendants(node)) == nx.descendants(tree.graph, node)
            assert set(tree.children(node)) == set(tree.graph[node])
            assert tree.depth(node) == len(nx.ancestors(tree.graph, node))
        assert tree.height == 1 + nx.dag_longest_path_length(tree.graph)
        assert tree.leaves == [n for n in tree if tree.graph.out_degree(n) == 0]


def test_a_subgraph_joins_what_its_missing_classes_held(tree):
    part = tree.subgraph(["boxer", "animal", "stone"])
    assert isinstance(part, CategoryTree)
    assert part.idx_to_node == ["boxer", "animal", "stone"]
    assert part.parent("boxer") == "animal"
    assert part.idx_to_id == [8, 5, 1]
    assert tree.subgraph(["boxer", "animal"], closure=False).roots == ["boxer", "animal"]
    assert tree.take([0, 4]).is_mutex()
    with raises(CategoryError, key="subnodes", match="'bird'"):
        tree.subgraph(["bird"])


def test_mutually_exclusive_classes_have_one_level():
    tree = CategoryTree.from_mutex(["a", "b", "background"])
    assert (tree.height, tree.is_mutex(), tree.leaves) == (1, True, ["a", "b", "background"])
    assert tree.node_to_id["background"] == 0
    assert CategoryTree.coerce(3).idx_to_node == ["class_1", "class_2", "class_3"]


def test_trees_survive_pickling_json_and_copying(tree):
    tree.hierarchical_softmax(np.zeros((1, 5)))
    for other in (
        pickle.loads(pickle.dumps(tree)),
        pickle.loads(pickle.dumps(tree)).copy(),
        tree.copy(),
        CategoryTree.from_json(json.loads(json.dumps(tree.__json__()))),
        CategoryTree.coerce(kwcoco.CategoryTree.from_coco(ANIMALS)),
        CategoryTree.from_coco(tree.to_coco()),
    ):
        assert isinstance(other, CategoryTree)
        assert other.ancestors("boxer") == ["dog", "animal"]
        assert other.node_to_id == tree.node_to_id
        assert other.idx_to_node == tree.idx_to_node


def test_kwimage_takes_it_for_classes(tree):
    dets = kwimage.Detections(
        boxes=kwimage.Boxes([[0, 0, 5, 5]], "xywh"), class_idxs=np.array([tree.index("dog")]), classes=tree
    )
    assert dets.classes is tree
    [annotation] = dets.to_coco(style="new")
    assert annotation["category_name"] == "dog"


@pytest.mark.parametrize(
    ("categories", "key", "fact"),
    [
        ([{"name": "a", "supercategory": "b"}, {"name": "b", "supercategory": "c"},
          {"name": "c", "supercategory": "a"}], "supercategory", "in each other: a in b, b in c, c in a"),
        ([{"name": "a"}, {"name": "b", "supercategory": "aa"}], "supercategory", "'b' is in 'aa'.* did you mean 'a'"),
        ([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "name", "'a' occur more than once"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "id", "1 occur more than once"),
        ([{"id": 1}], "name", "category 1"),
        ([{"id": "one", "name": "a"}], "id", "'a' has id='one'"),
    ],
)  # fmt: skip
def test_what_is_no_tree_is_refused_with_the_categories_in_the_way(categories, key, fact):
    with raises(CategoryError, key=key, match=fact):
        CategoryTree.from_coco(categories)


def test_graphs_that_are_no_forest_are_refused():
    two_parents = nx.DiGraph([("a", "c"), ("b", "c")])
    with raises(CategoryError, key="graph", hint="remove all but one", match="'c' is in 'a', 'b'"):
        CategoryTree(two_parents)
    with raises(CategoryError, key="graph", match="b in a, a in b"):
        CategoryTree(nx.DiGraph([("a", "b"), ("b", "a")]))
    with raises(CategoryError, key="graph"):
        CategoryTree(nx.Graph([("a", "b")]))
    with raises(CategoryError, key="name", match="'x'"):
        CategoryTree.from_mutex(["x", "y", "x"])


def test_a_category_in_itself_is_a_root_as_in_mscoco():
    tree = CategoryTree.from_coco([{"id": 1, "name": "person", "supercategory": "person"}])
    assert tree.roots == ["person"]


def test_missing_parents_can_be_added_or_ignored():
    categories = [{"id": 1, "name": "car", "supercategory": "vehicle"}, {"id": 2, "name": "bus", "supercategory": None}]
    added = CategoryTree.from_coco(categories, missing_parents="add")
    assert added.children("vehicle") == ["car"]
    assert set(added.id_to_node) == {1, 2, 3}
    assert CategoryTree.from_coco(categories, missing_parents="ignore").is_mutex()
    with raises(CategoryError, key="missing_parents", match="did you mean 'ignore'"):
        CategoryTree.from_coco(categories, missing_parents="ignored")
    assert categories[0]["supercategory"] == "vehicle", "what was given is not changed"


def test_unknown_names_are_named_with_the_nearest(tree):
    for query in (tree.parent, tree.children, tree.descendants, tree.ancestors, tree.depth, tree.siblings):
        with raises(CategoryError, key="node", match="did you mean 'dog'"):
            query("dgo")
