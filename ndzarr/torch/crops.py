"""
Targets as a map-style dataset for PyTorch.

torch's DataLoader calls `__getitems__` with the indices of a whole batch. They make one `ReadPlan`: every chunk is
decoded once, straight into the batch's tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from ndzarr._concurrency import share_cpus
from ndzarr._sampling.annotations import CROWD, OWN_COLUMNS, Crowd, Lookup
from ndzarr._sampling.target import parse
from ndzarr._validation import check_choice, check_count
from ndzarr.errors import OptionError
from ndzarr.targets.table import Rows, TargetsLike
from ndzarr.torch.order import groups, shuffled

if TYPE_CHECKING:
    import xarray

    from ndzarr.coco_sampler import CocoSampler
    from ndzarr.sampler import Sampler


Tensors: TypeAlias = dict[str, Any]
"""Names to tensors, and to lists of tensors."""

Transform: TypeAlias = Callable[[Tensors], Tensors]
"""Takes and returns the tensors of a sample, or of a batch."""

Masks: TypeAlias = Literal["semantic", "instance"]
MASKS = ("semantic", "instance")
RAGGED = ("boxes", "labels", "track_ids", "frames", "masks", "iscrowd", "ignore", "area", "score", "weight")
"""Names of lists with one tensor per sample; of 'masks' where they are those of instances."""
COLUMN = "annot_"
"""Names that begin so are further lists with one tensor per sample: the keys of one's own."""


@dataclass(frozen=True, slots=True)
class TensorOptions:
    """The tensors that are made of a batch."""

    dtype: torch.dtype | None
    """Type of images; None for that of the data."""
    masks: Masks | None
    annotations: bool
    """Make boxes and labels."""
    labels: dict[Any, int]
    """Category ids to labels."""
    crowd: str = "keep"
    """One of `annotations.CROWD`."""

    def __post_init__(self) -> None:
        if self.dtype is not None and not isinstance(self.dtype, torch.dtype):
            raise OptionError(f"dtype={self.dtype!r}: expected one of torch's, such as torch.float32", key="dtype")
        if self.masks is not None:
            check_choice("masks", self.masks, MASKS)
        check_choice("crowd", self.crowd, CROWD)

    def tensors(self, batch: xarray.Dataset, index: np.ndarray[Any, Any]) -> Tensors:
        """
        Return a batch as tensors.

        `batch` is what `load_batch` returns, `index` the position of each sample among the targets.

        Returns
        -------
        image
            (sample, c, y, x) or (sample, t, c, y, x); volumes have z before y.
        valid
            bool, False where pixels are padded or missing; left out if all are real.
        index
            (sample,)
        transform
            (sample, 3, 3), from sample pixels to native pixels.
        boxes, labels, annot_ids, track_ids, frames
            A list with one tensor per sample: (n, 4) as left, top, right, bottom, else (n,). Ids that are names are
            lists.
        iscrowd, ignore, area, score, weight, annot_...
            The other keys of the annotations, those of one's own as `annot_` and their name: a list with one tensor
            (n,) per sample, or one list of text.
        masks
            'semantic': (sample, y, x) or (sample, t, y, x) of labels + 1, 0 where there is no annotation, -100 in
            regions to ignore. 'instance': a list with one tensor (n, y, x) per sample.
        """
        image = torch.from_numpy(_writable(batch["image"].values))
        out: Tensors = {"image": image if self.dtype is None else image.to(self.dtype)}
        if "valid" in batch:
            out["valid"] = torch.from_numpy(_writable(batch["valid"].values))
        out["index"] = torch.from_numpy(np.asarray(index, np.int64))
        out["transform"] = torch.from_numpy(_writable(batch["transform"].values))
        if self.annotations and "annot_sample" in batch:
            out |= self._annotations(batch)
        if self.masks is not None:
            out["masks"] = self._masks(batch)
        return out

    def _annotations(self, batch: xarray.Dataset) -> Tensors:
        owner = batch["annot_sample"].values  # (annot,), sorted
        stops = np.searchsorted(owner, np.arange(1, batch.sizes["sample"]))
        corners = batch["bbox"].values.astype(np.float32)
        corners[:, 2:] += corners[:, :2]
        categories = batch["category_id"].values.tolist()
        columns: dict[str, np.ndarray[Any, Any]] = {
            "boxes": corners,
            "labels": np.array([self.labels.get(c, -1) for c in categories], np.int64),
            "annot_ids": batch["annot_id"].values,
            "track_ids": batch["track_id"].values,
            "frames": batch["frame"].values.astype(np.int64),
        }
        for name, column in batch.data_vars.items():
            if column.dims == ("annot",) and name not in (*OWN_COLUMNS, "annot_sample"):
                own = str(name) if name in RAGGED or str(name).startswith(COLUMN) else f"{COLUMN}{name}"
                columns[own] = column.values
        return {name: [_tensor(part) for part in np.split(column, stops)] for name, column in columns.items()}

    def _masks(self, batch: xarray.Dataset) -> Any:
        dims, image = batch["image"].dims, batch["image"].shape
        shape = tuple(n for d, n in zip(dims, image, strict=True) if d in ("t", "y", "x"))
        instances = batch.ndzarr.masks(shape[-2:])
        if self.masks == "instance":
            return [torch.from_numpy(one) for one in instances]
        values = np.array([self.labels.get(category, -1) + 1 for category in batch["category_id"].values.tolist()])
        beneath = np.zeros(len(values), bool)
        if self.crowd == "ignore" and "ignore" in batch:
            beneath = batch["ignore"].values.astype(bool)
            values[beneath] = IGNORED
        frames, stops = batch["frame"].values, np.searchsorted(batch["annot_sample"].values, np.arange(image[0] + 1))
        classes = np.zeros((image[0], *(shape if len(shape) == 3 else (1, *shape))), np.int64)
        for k, masks in enumerate(instances):
            mine = np.arange(stops[k], stops[k + 1])
            # What is known lies on top of what is to be ignored.
            for i in mine[np.argsort(~beneath[mine], kind="stable")].tolist():
                np.copyto(classes[k, frames[i]], values[i], where=masks[i - stops[k]])
        return torch.from_numpy(classes.reshape(image[0], *shape))


IGNORED = -100
"""Class of regions to ignore: the default `ignore_index` of torch's losses."""


def _tensor(column: np.ndarray[Any, Any]) -> Any:
    """Return a copy of a sample's column as a tensor; names, which no tensor holds, as a list."""
    return torch.from_numpy(column.copy()) if column.dtype.kind in "biuf" else column.tolist()


def _writable(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array that torch may share: contiguous and writable."""
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy()


class Fetched(Sequence[Tensors]):
    """The samples of a batch, as views of its tensors."""

    def __init__(self, batch: Tensors, length: int, transform: Callable[[Tensors], Tensors] | None = None) -> None:
        self.batch, self.length, self.transform = batch, length, transform

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        if not -len(self) <= k < len(self):
            raise IndexError(k)
        sample = {name: value[k] for name, value in self.batch.items()}
        return sample if self.transform is None else self.transform(sample)


def collate(samples: Sequence[Tensors]) -> Tensors:
    """
    Collate samples to a batch: the `collate_fn` of a DataLoader.

    Tensors of one shape are stacked; boxes, labels and masks of instances, which differ in number, become lists with
    one tensor per sample. Samples that a transform made something else than dictionaries, such as pairs, go to torch's
    `default_collate`.

    Raises
    ------
    OptionError
        Images differ in size: give all crops one `output_dims`, or a transform that makes them alike.
    """
    if isinstance(samples, Fetched) and samples.transform is None:
        return samples.batch
    items = list(samples)
    if not all(isinstance(item, dict) for item in items):
        joined: Tensors = default_collate(items)
        return joined
    out: Tensors = {}
    for name in dict.fromkeys(name for item in items for name in item):
        values = [item.get(name) for item in items]
        if name == "valid":  # all True for samples that had none
            like = next(v for v in values if v is not None)
            values = [torch.ones_like(like) if v is None else v for v in values]
        out[name] = _joined(name, values)
    return out


def _joined(name: str, values: list[Any]) -> Any:
    """Return stacked tensors, or a list of those that differ in number."""
    if not all(isinstance(v, torch.Tensor) for v in values):
        return values
    classes = name == "masks" and values[0].dtype != torch.bool  # 'semantic', of one shape
    if (name in RAGGED or name.startswith(COLUMN)) and not classes:
        return values
    if len({v.shape for v in values}) > 1:
        shapes = ", ".join(sorted({" x ".join(map(str, v.shape)) for v in values}))
        message = f"{name}: a batch holds tensors of one shape, not of {shapes}"
        raise OptionError(message, key=name, hint="Give output_dims")
    return torch.stack(values)


class CropDataset(Dataset[Tensors]):
    """
    Targets as a map-style dataset: crop `i` is that of target `i`.

    It pickles and forks, so that workers may be started in any way. Use it with `ndzarr.torch.collate`, or with
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
        Type of images, such as torch.float32; that of the data by default.
    annotations
        Add boxes and labels of the annotations that touch the crop.
    masks
        'semantic' or 'instance': add maps of the pixels of segmentations, or of boxes where an annotation has none.
    visible_thresh, clip
        As for `CocoSampler.load_sample`.
    crowd
        What becomes of annotations whose `iscrowd` is 1: 'keep' takes them as all others, 'drop' leaves them out,
        'ignore' sets their `ignore` to 1, and semantic maps to -100, where no other annotation is.
    labels
        Category ids to labels; by default the position of a category in the dataset.
    transform
        Takes the tensors of one sample (no sample axis) and returns them, changed.
    batch_transform
        The same for a whole batch, which is quicker.

    Raises
    ------
    OptionError
        An option has a value that is not understood, or `masks` is asked of a sampler without categories.
    TargetError
        The first target is not understood.

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
        sampler: CocoSampler | Sampler,
        targets: TargetsLike | Rows,
        *,
        keys: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
        annotations: bool = True,
        masks: Masks | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        crowd: Crowd = "keep",
        labels: Mapping[Any, int] | None = None,
        transform: Transform | None = None,
        batch_transform: Transform | None = None,
    ) -> None:
        self.sampler = sampler
        self.rows = Rows(targets)
        self.keys = dict(keys or {})
        if "with_annots" in self.keys:
            raise OptionError("keys={'with_annots': ...}: give annotations=True or False instead", key="keys")
        if len(self.rows):
            parse({**self.rows[0], **self.keys})  # or else a worker finds a typo
        self.transform = transform
        self.batch_transform = batch_transform
        dset = getattr(sampler, "dset", None)
        categories = [] if dset is None else list(dset.index.cats)
        if masks is not None and not categories:
            raise OptionError(f"masks={masks!r} needs a dataset with categories; this sampler has none", key="masks")
        counted = {c: k for k, c in enumerate(categories)} if labels is None else dict(labels)
        self.options = TensorOptions(dtype, masks, annotations, counted, crowd)
        self.lookup: dict[str, Any] = {"visible_thresh": visible_thresh, "clip": clip, "crowd": crowd}
        Lookup(**self.lookup)  # checks them
        if dset is None:
            self.lookup = {}
        else:
            self.keys["with_annots"] = annotations or masks is not None

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<ndzarr.torch.CropDataset: {len(self)} crops of {str(self.sampler).splitlines()[0]}>"

    def __getitem__(self, index: int) -> Tensors:
        sample: Tensors = self.__getitems__([index])[0]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Fetched:
        """Return the crops of a batch, read by one plan; torch's DataLoader calls this."""
        return self.transformed(self.batch(indices), len(indices))

    @property
    def parts(self) -> tuple[CropDataset, ...]:
        """The dataset itself: the only part, where others are blends."""
        return (self,)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each part."""
        return (1.0,)

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the indices of each part begin."""
        return (0,)

    def read(self, indices: Sequence[int]) -> ReadCrops:
        """Read crops, without their transforms."""
        return ReadCrops(((self, self.batch(indices), len(indices)),))

    def transformed(self, batch: Tensors, length: int) -> Fetched:
        """Return a batch of so many crops, as `batch` returns it, with the transforms."""
        if self.batch_transform is not None:
            batch = self.batch_transform(batch)
        return Fetched(batch, length, self.transform)

    def batch(self, indices: Sequence[int]) -> Tensors:
        """Return the tensors of crops, before any transform; see `TensorOptions.tensors`. -1 is the last crop."""
        n = len(self)
        for k in indices:
            if not -n <= index(k) < n:
                raise IndexError(f"crop {k} does not exist; there are {n}")
        if (worker := torch.utils.data.get_worker_info()) is not None:
            share_cpus(worker.num_workers)
        chosen = np.array([index(k) % n for k in indices], np.int64)
        loaded = self.sampler.load_batch(self.rows.take(chosen), **self.keys, **self.lookup)
        return self.options.tensors(loaded, chosen)


@dataclass(frozen=True, slots=True, eq=False)
class ReadCrops:
    """Crops of a batch that were read, before their transforms."""

    parts: tuple[tuple[CropDataset, Tensors, int], ...]
    """Datasets, what was read of each, and its number of crops."""
    places: tuple[tuple[int, int], ...] = ()
    """(part, position within it) of each crop of a blend."""

    @property
    def nbytes(self) -> int:
        """Bytes of their images."""
        return sum(int(batch["image"].nbytes) for _, batch, _ in self.parts)

    def samples(self) -> Sequence[Any]:
        """Return the crops, transformed, in their order."""
        fetched = [dataset.transformed(batch, n) for dataset, batch, n in self.parts]
        return [fetched[part][k] for part, k in self.places] if self.places else fetched[0]

    def collated(self) -> Any:
        """Return them as a batch."""
        return collate(self.samples())


class LocalityBatches(torch.utils.data.Sampler[list[int]]):
    """
    Batches in a random order whose neighbours share chunks: the `batch_sampler` of a DataLoader.

    Call `set_epoch` before each epoch, as with torch's DistributedSampler.

    Parameters
    ----------
    batch_size
        Crops of a batch.
    seed
        Decides the order, together with the epoch.
    drop_last
        Leave out a last batch that is not full.
    """

    def __init__(self, dataset: CropDataset, batch_size: int, *, seed: int = 0, drop_last: bool = False) -> None:
        self.batch_size, self.seed = check_count("batch_size", batch_size), check_count("seed", seed, 0)
        self.drop_last = drop_last
        self.epoch = 0
        self._group = groups(dataset.rows)

    def __len__(self) -> int:
        n = len(self._group)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order comes next."""
        self.epoch = check_count("epoch", epoch, 0)

    def __iter__(self) -> Iterator[list[int]]:
        order = shuffled(self._group, self.seed, self.epoch).tolist()
        for k in range(len(self)):
            yield order[k * self.batch_size : (k + 1) * self.batch_size]
