"""What does a dataset hand to `collate_fn`?

A list of samples, as torch wants it, that still knows the batch it was cut from: `collate` then gives that batch back
without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import default_collate

from ndzarr.errors import OptionError
from ndzarr.torch.content import RAGGED, Tensors


class Fetched(Sequence[Tensors]):
    """The samples of a batch; views of its tensors."""

    def __init__(self, batch: Tensors, length: int, transform: Callable[[Tensors], Tensors] | None = None) -> None:
        self.batch = batch
        """With the axis sample."""
        self.length = length
        """Of that axis."""
        self.transform = transform
        """What is done to each sample."""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        if not -len(self) <= k < len(self):
            raise IndexError(k)
        sample = {name: value[k] for name, value in self.batch.items()}
        return sample if self.transform is None else self.transform(sample)

    def __iter__(self) -> Iterator[Tensors]:
        return (self[k] for k in range(len(self)))


def collate(samples: Sequence[Tensors]) -> Tensors:
    """
    Samples as one batch: the `collate_fn` of a DataLoader.

    Tensors of one shape are stacked; boxes, labels and masks of instances, which differ in number, become lists with
    one tensor per sample.  What a transform made that is no dictionary, such as a pair, is left to torch.

    Raises
    ------
    OptionError
        Images differ in size; give all crops one `output_dims`, or a transform that makes them alike.
    """
    if isinstance(samples, Fetched) and samples.transform is None:
        return samples.batch
    items = list(samples)
    if not all(isinstance(item, dict) for item in items):
        joined: Tensors = default_collate(items)
        return joined
    out: Tensors = {}
    names = dict.fromkeys(name for item in items for name in item)
    for name in names:
        values = [item.get(name) for item in items]
        if name == "valid" and any(v is None for v in values):
            values = _completed(values, items)
        out[name] = _joined(name, values)
    return out


def _joined(name: str, values: list[Any]) -> Any:
    if not all(isinstance(v, torch.Tensor) for v in values) or (name in RAGGED and not _alike(name, values)):
        return values
    if len({v.shape for v in values}) > 1:
        shapes = ", ".join(sorted({" x ".join(map(str, v.shape)) for v in values}))
        raise OptionError(f"{name}: a batch holds tensors of one shape, not of {shapes}; give output_dims")
    return torch.stack(values)


def _alike(name: str, values: list[Any]) -> bool:
    """True for the maps of 'semantic' masks, which are of integers."""
    return name == "masks" and values[0].dtype != torch.bool


def _completed(values: list[Any], items: Sequence[Tensors]) -> list[Any]:
    """Masks of real pixels, all True where a sample had none."""
    like = next(v for v in values if v is not None)
    return [torch.ones_like(like) if v is None else v for v in values]
