"""Crops of several datasets in one stream, by weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import index
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ndzarr._validation import as_number
from ndzarr.errors import OptionError
from ndzarr.torch.crops import CropDataset, ReadCrops, Tensors


class Blend(Dataset[Tensors]):
    """
    Crops of several datasets, of which `loader` takes shares by weight.

    Crops of one batch come from all datasets and need to be alike: give them the same channels and `output_dims`.  They
    have a further tensor `source`, the position of their dataset; `index` is their position in that.  As a map-style
    dataset it is one after the other, as torch's ConcatDataset.

    Parameters
    ----------
    parts
        The datasets.
    weights
        The share of each in an epoch; by default the number of its crops.  Each dataset is passed through in its own
        order: a share that is larger than a dataset begins its next pass, and a smaller one goes on in the next epoch.

    Raises
    ------
    OptionError
        There is no dataset, one is empty, or weights are not as many numbers above 0.
    """

    def __init__(self, parts: Sequence[CropDataset], weights: Sequence[float] | None = None) -> None:
        self.parts = tuple(parts)
        if not self.parts or not all(len(part) for part in self.parts):
            raise OptionError("parts: expected at least one CropDataset, and none that is empty", key="parts")
        given = [len(part) for part in self.parts] if weights is None else list(weights)
        if len(given) != len(self.parts) or not all((as_number(w) or 0) > 0 for w in given):
            message = f"weights={weights!r}: expected a number above 0 for each of {len(self.parts)} datasets"
            raise OptionError(message, key="weights")
        self.weights = tuple(float(w) for w in given)

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the indices of each dataset begin."""
        return tuple(accumulate((len(part) for part in self.parts[:-1]), initial=0))

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __repr__(self) -> str:
        shares = ", ".join(f"{w / sum(self.weights):.0%} of {part!r}" for w, part in self._weighted())
        return f"<ndzarr.torch.Blend: {shares}>"

    def _weighted(self) -> Any:
        return zip(self.weights, self.parts, strict=True)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        """Return the crops of a batch, read by one plan for each dataset; torch's DataLoader calls this."""
        return self.read(indices).samples()

    def read(self, indices: Sequence[int]) -> ReadCrops:
        """Read crops, without their transforms."""
        n = len(self)
        for k in indices:
            if not -n <= index(k) < n:
                raise IndexError(f"crop {k} does not exist; there are {n}")
        wanted = np.array([index(k) % n for k in indices], np.int64)
        whose = np.searchsorted(self.starts, wanted, side="right") - 1
        parts: list[tuple[CropDataset, Tensors, int]] = []
        places = np.full((len(wanted), 2), -1, np.int64)  # (part, position within it)
        for source in np.unique(whose).tolist():
            mine = np.flatnonzero(whose == source)
            dataset = self.parts[source]
            batch = dataset.batch((wanted[mine] - self.starts[source]).tolist())
            n = len(batch["index"])  # fewer if some failed to load
            batch["source"] = torch.full((n,), source)
            places[mine[:n]] = np.stack([np.full(n, len(parts)), np.arange(n)], axis=1)
            parts.append((dataset, batch, n))
        return ReadCrops(tuple(parts), tuple((part, k) for part, k in places.tolist() if part >= 0))
