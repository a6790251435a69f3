"""Probabilities and decisions on a tree of 80 classes, for 10,000 samples."""

from __future__ import annotations

import numpy as np

from benchmarks.categories import ROWS, graph
from ndzarr.categories import CategoryTree


class Scores:
    """`CategoryTree` on numpy arrays."""

    def setup(self) -> None:
        self.tree = CategoryTree(graph())
        self.scores = np.random.default_rng(0).normal(0, 3, (ROWS, 80)).astype(np.float32)
        self.probs = self.tree.hierarchical_softmax(self.scores)

    def time_top_down(self) -> None:
        self.tree.source_log_softmax(self.scores)

    def time_bottom_up(self) -> None:
        self.tree.sink_log_softmax(self.scores)

    def time_decision(self) -> None:
        self.tree.decision(self.probs)
