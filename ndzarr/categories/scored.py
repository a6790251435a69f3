"""What can be done with one score per class of a tree?

Scores are what the last layer of a network returns, numpy arrays or torch tensors; results are of the same kind, and
gradients flow.  `dim` is the axis of classes, 1 unless stated, as for batches (n, classes) and (n, classes, y, x).
Names and meaning are ndsampler's.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ndzarr.categories import losses, softmax
from ndzarr.categories.decisions import decide

if TYPE_CHECKING:
    from ndzarr.categories.layers import Layers


class ScoredTree:
    """Mixed into `CategoryTree`."""

    if TYPE_CHECKING:

        @property
        def layers(self) -> Layers: ...  # noqa: D102

    def conditional_log_softmax(self, class_energy: Any, dim: int = 1) -> Any:
        """Log P(class | parent): a softmax over each group of siblings."""
        return softmax.conditional(class_energy, self.layers, dim)

    def source_log_softmax(self, class_energy: Any, dim: int = 1) -> Any:
        """Log P(class), top-down: P(class | parent) P(parent).  Children sum to their parent, roots to 1."""
        return softmax.top_down(class_energy, self.layers, dim)

    def sink_log_softmax(self, class_energy: Any, dim: int = 1) -> Any:
        """Log P(class), bottom-up: a softmax over the leaves, and sums of them; no other scores matter."""
        return softmax.bottom_up(class_energy, self.layers, dim)

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
        return softmax.log_softmax(class_energy, self.layers, dim, method)

    def hierarchical_softmax(self, class_energy: Any, dim: int = 1, method: str = "top_down") -> Any:
        """P(class); see `hierarchical_log_softmax`."""
        return softmax.exp(self.hierarchical_log_softmax(class_energy, dim, method))

    def hierarchical_nll_loss(
        self,
        class_logprobs: Any,
        targets: Any,
        reduction: str = "mean",
        *,
        dim: int = 1,
        ignore_index: int = losses.IGNORE,
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
        return losses.nll(class_logprobs, targets, len(self.layers), dim, reduction, ignore_index, weight)

    def hierarchical_cross_entropy(
        self,
        class_energy: Any,
        targets: Any,
        reduction: str = "mean",
        *,
        dim: int = 1,
        method: str = "top_down",
        ignore_index: int = losses.IGNORE,
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
            `ndzarr.categories.criteria`.
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
