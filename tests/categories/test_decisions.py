"""The finest class that probabilities support."""

from __future__ import annotations

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

CRITERIA = st.sampled_from(["gini", "entropy", "prob"])


@pytest.fixture
def tree():
    return CategoryTree(nx.DiGraph([("all", "animal"), ("all", "stone"), ("animal", "cat"), ("animal", "dog")]))


def probs_of(tree, **leaves):
    """Probabilities of one sample from those of leaves."""
    with np.errstate(divide="ignore"):
        energy = np.log([[leaves.get(n, 0.0) for n in tree]])
    return tree.hierarchical_softmax(energy, method="bottom_up")


def chosen(tree, probs, **options):
    return [tree[i] for i in tree.decision(probs, **options)[0]]


@given(forests(), CRITERIA, st.floats(0.03, 0.9), st.integers(0, 100), st.data())
@examples(70)
def test_random_trees_agree_with_ndsampler(graph, criterion, thresh, seed, data):
    tree, peer = peers(graph)
    probs = tree.hierarchical_softmax(scores(20, len(tree), seed))
    options = {"thresh": thresh, "criterion": criterion}
    if criterion != "prob":  # which ignores these options in ndsampler
        indices = st.lists(st.integers(0, len(tree) - 1), max_size=5)
        options["ignore_class_idxs"] = data.draw(indices)
        options["always_refine_idxs"] = data.draw(indices)
    roots = {tree.index(n) for n in tree.roots}
    if roots <= set(options.get("ignore_class_idxs", ())):
        for one in (tree, peer):
            with pytest.raises(ValueError, match="gnore"):
                one.decision(probs, 1, **options)
        return
    # with 'prob', ndsampler writes the finer classes of some samples to others, so it gets one at a time
    batches = [probs] if criterion != "prob" else probs[:, None]
    expected = map(np.concatenate, zip(*(peer.decision(batch.copy(), 1, **options) for batch in batches), strict=True))
    expected = list(expected)
    indices, confidence = tree.decision(probs, **options)
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_allclose(confidence, expected[1])


@given(forests(), CRITERIA, st.floats(0.03, 0.9), st.integers(0, 100), st.data())
@examples(40)
def test_tensors_get_the_decisions_of_arrays(graph, criterion, thresh, seed, data):
    torch = pytest.importorskip("torch")
    tree = CategoryTree(graph)
    probs = tree.hierarchical_softmax(scores(20, len(tree), seed))
    options = {"thresh": thresh, "criterion": criterion}
    options["always_refine_idxs"] = data.draw(st.lists(st.integers(0, len(tree) - 1), max_size=5))
    arrays, tensors = tree.decision(probs, **options), tree.decision(torch.from_numpy(probs), **options)
    for array, tensor in zip(arrays, tensors, strict=True):
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_array_equal(tensor, array)


@given(forests(), CRITERIA, st.floats(0.03, 0.9), st.integers(0, 100))
@examples(40)
def test_the_decision_for_a_sample_does_not_depend_on_the_others(graph, criterion, thresh, seed):
    # with 'prob', ndsampler's does: those that stop at a class shift the answers of those that go on
    tree = CategoryTree(graph)
    probs = tree.hierarchical_softmax(scores(20, len(tree), seed))
    together = tree.decision(probs, thresh=thresh, criterion=criterion)[0]
    alone = [tree.decision(row, dim=0, thresh=thresh, criterion=criterion)[0].item() for row in probs]
    assert together.tolist() == alone


@given(forests(), CRITERIA, st.floats(0.03, 0.9), st.sampled_from([0, 1, 2, -1]))
@examples(40)
def test_any_axis_may_be_that_of_the_classes(graph, criterion, thresh, axis):
    # ndsampler measures impurity along the wrong axis for dim=0, fails for dim=-1, and returns a flat list
    tree = CategoryTree(graph)
    probs = tree.hierarchical_softmax(scores(12, len(tree)))
    indices, confidence = tree.decision(probs, thresh=thresh, criterion=criterion)
    turned = np.moveaxis(probs.reshape(3, 4, -1), 2, axis)
    found = tree.decision(turned, dim=axis, thresh=thresh, criterion=criterion)
    np.testing.assert_array_equal(found[0], indices.reshape(3, 4))
    np.testing.assert_array_equal(found[1], confidence.reshape(3, 4))


@pytest.mark.parametrize("criterion", ["gini", "entropy", "prob"])
def test_decisions_are_as_fine_as_the_probabilities_are_clear(tree, criterion):
    assert chosen(tree, probs_of(tree, cat=0.98, dog=0.01, stone=0.01), criterion=criterion) == ["cat"]
    assert chosen(tree, probs_of(tree, cat=0.47, dog=0.47, stone=0.06), criterion=criterion) == ["animal"]
    assert chosen(tree, probs_of(tree, stone=1.0), criterion=criterion) == ["stone"]


def test_confidence_is_the_probability_of_the_chosen_class(tree):
    probs = tree.hierarchical_softmax(scores(50, 5))
    indices, confidence = tree.decision(probs, thresh=0.2)
    np.testing.assert_array_equal(confidence, probs[np.arange(50), indices])


@pytest.mark.parametrize("criterion", ["gini", "entropy", "prob"])
def test_classes_that_are_always_refined_are_never_chosen(tree, criterion):  # ndsampler: not with 'prob'
    probs = probs_of(tree, cat=0.34, dog=0.33, stone=0.33)
    options = {"criterion": criterion, "thresh": 0.9}
    assert set(chosen(tree, probs, **options)) <= {"all", "animal"}
    every = [tree.index("all"), tree.index("animal")]
    assert chosen(tree, probs, always_refine_idxs=every, **options) == ["cat"]


@pytest.mark.parametrize("criterion", ["gini", "entropy", "prob"])
def test_ignored_classes_and_what_they_hold_are_never_chosen(tree, criterion):  # ndsampler: not with 'prob'
    probs = probs_of(tree, cat=0.6, dog=0.2, stone=0.2)
    options = {"criterion": criterion, "thresh": 0.0}
    assert chosen(tree, probs, ignore_class_idxs=[tree.index("animal")], **options) == ["stone"]
    assert chosen(tree, probs, ignore_class_idxs=[tree.index("cat")], **options) == ["dog"]
    leaves = [tree.index(n) for n in tree.leaves]
    assert chosen(tree, probs, ignore_class_idxs=leaves, **options) == ["animal"]


def test_an_only_child_is_taken_unless_its_probability_is_asked_for():
    tree = CategoryTree(nx.DiGraph([("a", "b"), ("b", "c")]))
    probs = tree.hierarchical_softmax(np.zeros((1, 3)))
    for criterion in ("gini", "entropy"):
        assert chosen(tree, probs, criterion=criterion, thresh=0.99) == ["c"]
    assert chosen(tree, probs, criterion="prob", thresh=1.0) == ["a"]


@pytest.mark.parametrize("criterion", ["gini", "entropy"])
def test_a_sample_without_any_probability_stays_at_the_root(tree, criterion):  # ndsampler's entropy goes to a leaf
    assert chosen(tree, np.zeros((1, 5)), criterion=criterion, thresh=0.1) == ["all"]


def test_the_first_of_equal_classes_is_chosen_in_numpy_and_torch():
    torch = pytest.importorskip("torch")
    tree = CategoryTree.from_mutex("abcd")
    probs = np.full((3, 4), 0.25)
    assert tree.decision(probs)[0].tolist() == tree.decision(torch.from_numpy(probs))[0].tolist() == [0, 0, 0]


def test_gradients_flow_to_the_confidence():
    torch = pytest.importorskip("torch")
    tree = CategoryTree(nx.DiGraph([("a", "b"), ("a", "c")]))
    energy = torch.tensor([[0.0, 4.0, 1.0]], requires_grad=True)
    indices, confidence = tree.decision(tree.hierarchical_softmax(energy))
    confidence.sum().backward()
    assert indices.tolist() == [1]
    assert energy.grad.abs().sum() > 0


def test_wrong_options_are_named(tree):
    probs = np.zeros((1, 5))
    with raises(OptionError, key="criterion", match="did you mean 'entropy'"):
        tree.decision(probs, criterion="entopy")
    with raises(CategoryError, key="ignore_class_idxs", match="9, of 5 classes"):
        tree.decision(probs, ignore_class_idxs=[9])
    with raises(CategoryError, key="always_refine_idxs", match="-1, of 5 classes"):
        tree.decision(probs, always_refine_idxs=[-1])
    with raises(CategoryError, key="ignore_class_idxs", hint="Leave at least one"):
        tree.decision(probs, ignore_class_idxs=[tree.index("all")])
