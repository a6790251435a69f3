"""Losses of labels as coarse as what is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.category_trees import forests, peers, scores
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr.categories import CategoryTree
from ndzarr.errors import CategoryError, OptionError

ANIMALS = [
    {"name": "background"},
    {"name": "animal"},
    {"name": "dog", "supercategory": "animal"},
    {"name": "cat", "supercategory": "animal"},
    {"name": "boxer", "supercategory": "dog"},
    {"name": "beagle", "supercategory": "dog"},
]


@given(forests(), st.sampled_from(["mean", "sum", "none"]), st.integers(0, 100))
@examples(30)
def test_cross_entropy_agrees_with_ndsampler_in_numpy_and_torch(graph, reduction, seed):
    torch = pytest.importorskip("torch")
    tree, peer = peers(graph)
    energy = scores(6, len(tree), seed)
    targets = np.random.default_rng(seed).integers(0, len(tree), 6)
    ours, theirs = (torch.from_numpy(energy).requires_grad_() for _ in range(2))
    loss = tree.hierarchical_cross_entropy(ours, torch.from_numpy(targets), reduction)
    expected = peer.hierarchical_cross_entropy(theirs, torch.from_numpy(targets), reduction=reduction)
    np.testing.assert_allclose(loss.detach(), expected.detach(), atol=1e-12)
    np.testing.assert_allclose(tree.hierarchical_cross_entropy(energy, targets, reduction), loss.detach(), atol=1e-12)
    loss.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(ours.grad, theirs.grad, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_and_ignored_samples_are_those_of_torch(reduction, weighted):
    torch = pytest.importorskip("torch")
    tree = CategoryTree.from_coco(ANIMALS)
    energy = torch.from_numpy(scores(2 * 6 * 3 * 4, 1).reshape(2, 6, 3, 4))
    targets = torch.from_numpy(np.random.default_rng(1).integers(0, 6, (2, 3, 4)))
    targets[0, 0, :3] = -100
    weight = torch.linspace(0.5, 2, 6, dtype=torch.float64) if weighted else None
    log_probs = tree.hierarchical_log_softmax(energy)
    expected = torch.nn.functional.nll_loss(log_probs, targets, weight=weight, reduction=reduction)
    for convert in (lambda v: v, lambda v: None if v is None else v.numpy()):
        loss = tree.hierarchical_cross_entropy(convert(energy), convert(targets), reduction, weight=convert(weight))
        np.testing.assert_allclose(loss, expected)


def test_a_coarse_label_says_nothing_about_finer_classes():
    torch = pytest.importorskip("torch")
    tree = CategoryTree.from_coco(ANIMALS)
    energy = torch.zeros(1, 6, requires_grad=True)
    tree.hierarchical_cross_entropy(energy, torch.tensor([tree.index("dog")])).backward()
    relevant = {tree[i] for i in energy.grad[0].nonzero().ravel().tolist()}
    assert relevant == {"background", "animal", "dog", "cat"}


def test_a_mean_over_nothing_is_not_a_number_as_in_torch():
    tree = CategoryTree.from_mutex("ab")
    assert np.isnan(tree.hierarchical_cross_entropy(np.zeros((2, 2)), [-100, -100]))


def test_targets_that_do_not_fit_are_refused():
    tree = CategoryTree.from_mutex("ab")
    with raises(CategoryError, key="targets", match=r"shape \(3,\); expected \(2,\)"):
        tree.hierarchical_cross_entropy(np.zeros((2, 2)), [0, 1, 0])
    with raises(CategoryError, key="targets", match="2 is not .* 2 classes"):
        tree.hierarchical_cross_entropy(np.zeros((2, 2)), [0, 2])
    with raises(OptionError, key="reduction", match="did you mean 'mean'"):
        tree.hierarchical_cross_entropy(np.zeros((2, 2)), [0, 1], "means")
