"""How quick are probabilities, losses and decisions on a tree of classes, beside ndsampler's?

`python -m benchmarks.categories`; ndsampler takes torch tensors for all but decisions, so numpy arrays of ours are
compared with its tensors there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np

from ndzarr.categories import CategoryTree

ROWS = 10_000


def graph(roots: int = 10, middle: int = 20, leaves: int = 50) -> nx.DiGraph:
    """Return a forest of three levels, 80 classes unless something else is asked for."""
    out = nx.DiGraph()
    out.add_nodes_from(f"a{k:03}" for k in range(roots))
    out.add_edges_from((f"a{k % roots:03}", f"b{k:03}") for k in range(middle))
    out.add_edges_from((f"b{k % middle:03}", f"c{k:03}") for k in range(leaves))
    return out


def jobs(rows: int = ROWS) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Return name to (ours, ndsampler's)."""
    import torch
    from ndsampler.category_tree import CategoryTree as Peer

    ours, peer = CategoryTree(graph()), Peer(graph())
    rng = np.random.default_rng(0)
    array = rng.normal(0, 3, (rows, len(ours))).astype(np.float32)
    tensor, targets = torch.from_numpy(array), torch.from_numpy(rng.integers(0, len(ours), rows))
    leaf = tensor.clone().requires_grad_()
    probs = ours.hierarchical_softmax(array)
    soft = torch.from_numpy(probs)

    def train(tree: Any) -> None:
        leaf.grad = None
        tree.hierarchical_cross_entropy(leaf, targets).backward()

    out: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "top-down, numpy": (lambda: ours.source_log_softmax(array), lambda: peer.source_log_softmax(tensor, dim=1)),
        "top-down, torch": (lambda: ours.source_log_softmax(tensor), lambda: peer.source_log_softmax(tensor, dim=1)),
        "bottom-up, numpy": (lambda: ours.sink_log_softmax(array), lambda: peer.sink_log_softmax(tensor, dim=1)),
        "bottom-up, torch": (lambda: ours.sink_log_softmax(tensor), lambda: peer.sink_log_softmax(tensor, dim=1)),
        "loss and gradient, torch": (lambda: train(ours), lambda: train(peer)),
        "decision gini, torch": (lambda: ours.decision(soft), lambda: peer.decision(soft, 1)),
    }
    for criterion in ("gini", "entropy", "prob"):
        out[f"decision {criterion}, numpy"] = (
            lambda c=criterion: ours.decision(probs, criterion=c),  # type: ignore[misc]
            lambda c=criterion: peer.decision(probs, 1, criterion=c),  # type: ignore[misc]
        )
    return out


def main() -> None:
    print(f"{ROWS} samples, 80 classes in 3 levels, float32; medians in ms\n")
    print(f"{'':26}{'ndzarr':>8}{'ndsampler':>11}{'times':>7}")
    for name, pair in jobs().items():
        a, b = _medians(pair)
        print(f"{name:26}{a * 1e3:8.2f}{b * 1e3:11.2f}{b / a:7.1f}")


def _medians(pair: tuple[Callable[[], Any], Callable[[], Any]], repeats: int = 15) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for function, kept in zip(pair, times, strict=True):
            start = time.perf_counter()
            function()
            if turn:  # the first is for warming up
                kept.append(time.perf_counter() - start)
    return float(np.median(times[0])), float(np.median(times[1]))


if __name__ == "__main__":
    main()
