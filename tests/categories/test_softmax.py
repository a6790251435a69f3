"""Probabilities of classes that hold each other."""

from __future__ import annotations

import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.category_trees import forests, peers, scores
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr.categories import CategoryTree
from ndzarr.errors import CategoryError, OptionError

METHODS = ("conditional_log_softmax", "source_log_softmax", "sink_log_softmax", "hierarchical_log_softmax")


@given(forests(), st.integers(0, 100))
@examples(40)
def test_children_sum_to_their_parent_and_roots_to_one(graph, seed):
    tree = CategoryTree(graph)
    for method in ("top_down", "bottom_up"):
        probs = tree.hierarchical_softmax(scores(5, len(tree), seed), method=method)
        np.testing.assert_allclose(probs[:, [tree.index(n) for n in tree.roots]].sum(1), 1)
        for node in tree:
            if children := tree.children(node):
                total = probs[:, [tree.index(n) for n in children]].sum(1)
                np.testing.assert_allclose(total, probs[:, tree.index(node)])


def test_probabilities_are_those_worked_out_by_hand():
    tree = CategoryTree(nx.DiGraph([("a", "b"), ("a", "c"), ("d", "e"), ("d", "f"), ("d", "g")]))
    energy = np.log([[3.0, 1.0, 3.0, 1.0, 2.0, 2.0, 4.0]])
    assert tree.idx_to_node == list("abcdefg")
    conditional = [3 / 4, 1 / 4, 3 / 4, 1 / 4, 2 / 8, 2 / 8, 4 / 8]
    np.testing.assert_allclose(np.exp(tree.conditional_log_softmax(energy))[0], conditional)
    top_down = [3 / 4, 3 / 16, 9 / 16, 1 / 4, 1 / 16, 1 / 16, 1 / 8]
    np.testing.assert_allclose(tree.hierarchical_softmax(energy)[0], top_down)
    bottom_up = [4 / 12, 1 / 12, 3 / 12, 8 / 12, 2 / 12, 2 / 12, 4 / 12]
    np.testing.assert_allclose(tree.hierarchical_softmax(energy, method="bottom_up")[0], bottom_up)
    np.testing.assert_allclose(tree.hierarchical_cross_entropy(energy, [6]), -np.log(1 / 8))


@given(forests(), st.integers(0, 100))
@examples(40)
def test_random_trees_agree_with_ndsampler_in_numpy_and_torch(graph, seed):
    torch = pytest.importorskip("torch")
    tree, peer = peers(graph)
    energy = scores(4, len(tree), seed)
    for method in METHODS:
        expected = getattr(peer, method)(torch.from_numpy(energy), dim=1).numpy()
        np.testing.assert_allclose(getattr(tree, method)(energy), expected, atol=1e-12)
        np.testing.assert_allclose(getattr(tree, method)(torch.from_numpy(energy)).numpy(), expected, atol=1e-12)


@given(forests(), st.sampled_from([0, 1, 2, -1]), st.integers(0, 100))
@examples(40)
def test_any_axis_may_be_that_of_the_classes(graph, axis, seed):
    tree = CategoryTree(graph)
    energy = scores(6, len(tree), seed).reshape(2, 3, -1)
    for method in METHODS:
        expected = np.moveaxis(getattr(tree, method)(energy, dim=2), 2, axis)
        np.testing.assert_allclose(getattr(tree, method)(np.moveaxis(energy, 2, axis), dim=axis), expected)
        np.testing.assert_allclose(getattr(tree, method)(energy[0, 0], dim=0), getattr(tree, method)(energy, 2)[0, 0])


@given(forests(largest=12), st.integers(0, 100))
@examples(12)
def test_gradients_flow_and_are_those_of_finite_differences(graph, seed):
    torch = pytest.importorskip("torch")
    tree = CategoryTree(graph)
    energy = torch.from_numpy(scores(2, len(tree), seed, 1.0)).requires_grad_()
    for method in METHODS:
        assert torch.autograd.gradcheck(getattr(tree, method), (energy,))


def test_tensors_keep_their_dtype_and_stay_contiguous():
    torch = pytest.importorskip("torch")
    tree = CategoryTree.coerce([{"name": "a"}, {"name": "b", "supercategory": "a"}, {"name": "c"}])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        out = tree.hierarchical_log_softmax(torch.zeros(2, 3, 4, dtype=dtype))
        assert (out.dtype, tuple(out.shape), out.is_contiguous()) == (dtype, (2, 3, 4), True)
    assert tree.hierarchical_log_softmax(np.zeros((2, 3), np.float32)).dtype == np.float32
    assert tree.hierarchical_log_softmax([[1, 2, 3]]).dtype == np.float64
    assert tree.hierarchical_log_softmax(torch.zeros(2, 3, dtype=torch.int64)).dtype == torch.float64


def test_large_scores_and_excluded_classes_stay_finite():
    tree = CategoryTree(nx.DiGraph([("a", "b"), ("a", "c"), ("a", "d")]))
    energy = np.array([[0.0, 1e5, -np.inf, 1e5]])
    for method in ("top_down", "bottom_up"):
        np.testing.assert_allclose(tree.hierarchical_softmax(energy, method=method), [[1, 0.5, 0, 0.5]])


def test_no_rows_give_no_rows():
    tree = CategoryTree.from_mutex("abc")
    assert tree.hierarchical_log_softmax(np.empty((0, 3))).shape == (0, 3)
    assert tree.sink_log_softmax(np.empty((0, 3))).shape == (0, 3)


def test_scores_that_do_not_fit_are_refused():
    tree = CategoryTree.from_mutex("abc")
    with raises(
        CategoryError, key="class_energy", hint="dim", match=r"\(5, 4\) holds 4 values along axis 1, .* 3 classes"
    ):
        tree.hierarchical_softmax(np.zeros((5, 4)))
    with raises(CategoryError, key="dim", hint="dim"):
        tree.hierarchical_softmax(np.zeros(3))
    with raises(CategoryError, key="class_energy"):
        tree.hierarchical_softmax(np.array([["a", "b", "c"]]))
    with raises(CategoryError, key="class_energy", match="0 classes"):
        CategoryTree().hierarchical_softmax(np.zeros((5, 0)))
    with raises(OptionError, key="method", match="did you mean 'top_down'"):
        tree.hierarchical_softmax(np.zeros((5, 3)), method="topdown")


@pytest.mark.slow
def test_numpy_arrays_need_no_torch():
    code = (
        "import sys, numpy as np; from ndzarr.categories import CategoryTree; t = CategoryTree.from_mutex('ab');"
        "t.decision(t.hierarchical_softmax(np.zeros((2, 2)))); t.hierarchical_cross_entropy(np.zeros((2, 2)), [0, 1]);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
