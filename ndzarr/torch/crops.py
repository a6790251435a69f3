"""How does a DataLoader ask for crops by number?

torch's DataLoader calls `__getitems__` with the numbers of a whole batch: they make one `ReadPlan`, and every chunk is
decoded once, straight into the batch's tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import index
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ndzarr.counts import whole
from ndzarr.errors import OptionError
from ndzarr.sampler.target import parse
from ndzarr.targets.rows import Rows, Targets
from ndzarr.torch.content import Content, Masks, Tensors
from ndzarr.torch.fetched import Fetched
from ndzarr.torch.order import groups, shuffled

Transform = Callable[[Tensors], Tensors]
"""Takes and returns the tensors of a sample, or of a batch."""


class CropDataset(Dataset[Tensors]):
    """
    Targets as a map-style dataset: crop `i` is that of target `i`.

    It pickles and forks; workers may be started in any way.  Use `ndzarr.torch.collate` with it, or
    `ndzarr.torch.loader`.

    Parameters
    ----------
    sampler
        `CocoSampler` or `Sampler`.
    targets
        A pandas table, or a sequence of targets.
    keys
        Keys that every target gets, such as {"channels": "r|g|b", "output_dims": (224, 224)}.
    dtype
        Of images, such as torch.float32; that of the data if left out.
    annotations
        Boxes and labels, of the annotations that touch the crop.
    masks
        'semantic' or 'instance': maps drawn from segmentations, or boxes where an annotation has none.
    labels
        Category id to label; by default categories are counted in the order of the dataset.
    transform
        Takes the tensors of one sample (no sample axis) and returns them, changed.
    batch_transform
        The same for a whole batch, which is quicker.

    Examples
    --------
    >>> import ndzarr, ndzarr.torch, numpy as np, tempfile
    >>> pyr = ndzarr.transcode(np.zeros((300, 400, 3), "u1"), tempfile.mkdtemp() + "/a.zarr")
    >>> targets = [{"key": "a", "cx": x, "cy": 90, "width": 32, "height": 32} for x in range(50, 90, 10)]
    >>> crops = ndzarr.torch.CropDataset(ndzarr.Sampler({"a": pyr}), targets)
    >>> len(crops), crops[0]["image"].shape
    (4, torch.Size([3, 32, 32]))
    """

    def __init__(
        self,
        sampler: Any,
        targets: Targets | Rows,
        *,
        keys: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
        annotations: bool = True,
        masks: Masks | None = None,
        labels: Mapping[Any, int] | None = None,
        transform: Transform | None = None,
        batch_transform: Transform | None = None,
    ) -> None:
        self.sampler = sampler
        self.rows = Rows(targets)
        self.keys = dict(keys or {})
        if "with_annots" in self.keys:
            raise OptionError("keys={'with_annots': ...}: say annotations=True or False instead")
        if len(self.rows):
            parse({**self.rows[0], **self.keys})  # else a typo is found in a worker
        self.transform = transform
        self.batch_transform = batch_transform
        known = bool(getattr(sampler, "class_ids", ()))
        if masks is not None and not known:
            raise OptionError(f"masks={masks!r} needs a dataset with categories; this sampler has none")
        counted = (
            dict(labels) if labels is not None else {c: k for k, c in enumerate(getattr(sampler, "class_ids", ()))}
        )
        self.content = Content(dtype, masks, annotations, counted)
        self._options = {"with_annots": annotations or masks is not None} if hasattr(sampler, "annotations") else {}

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<ndzarr.torch.CropDataset: {len(self)} crops of {str(self.sampler).splitlines()[0]}>"

    def __getitem__(self, index: int) -> Tensors:
        sample: Tensors = self.__getitems__([index])[0]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Fetched:
        """The crops of a batch, by one plan; torch's DataLoader calls it."""
        batch = self.batch(indices)
        if self.batch_transform is not None:
            batch = self.batch_transform(batch)
        return Fetched(batch, len(indices), self.transform)

    def batch(self, indices: Sequence[int]) -> Tensors:
        """The tensors of crops, before any transform; see `Content.tensors`."""
        chosen = np.array([_position(k, len(self)) for k in indices], np.int64)
        loaded = self.sampler.load_batch(self.rows.take(chosen), **self._options, **self.keys)
        return self.content.tensors(loaded, chosen)


def _position(k: int, n: int) -> int:
    """The number of a crop, counted from the end if it is negative; raises `IndexError` if there are fewer."""
    if not -n <= index(k) < n:
        raise IndexError(f"crop {k} does not exist; there are {n}")
    return index(k) % n


class LocalityBatches(Sampler[list[int]]):
    """
    Batches in a random order in which neighbours share chunks: the `batch_sampler` of a DataLoader.

    Call `set_epoch` before each epoch, as with torch's DistributedSampler.
    """

    def __init__(self, dataset: CropDataset, batch_size: int, *, seed: int = 0, drop_last: bool = False) -> None:
        self.batch_size, self.seed = whole("batch_size", batch_size), whole("seed", seed, 0)
        self.drop_last = drop_last
        self.epoch = 0
        self._group = groups(dataset.rows)

    def __len__(self) -> int:
        n = len(self._group)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next."""
        self.epoch = whole("epoch", epoch, 0)

    def __iter__(self) -> Iterator[list[int]]:
        order = shuffled(self._group, self.seed, self.epoch).tolist()
        for k in range(len(self)):
            yield order[k * self.batch_size : (k + 1) * self.batch_size]
