"""
Targets as a map-style dataset for PyTorch.

torch's DataLoader calls `__getitems__` with the indices of a whole batch. They make one `ReadPlan`: every chunk is
decoded once, straight into the batch's tensor.
"""

from __future__ import annotations

import warnings
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
from ndzarr.errors import NdzarrError, OptionError, SourceError
from ndzarr.targets.statistics import Statistics
from ndzarr.targets.table import Rows, TargetsLike
from ndzarr.torch.formats import OF_BOXES, OF_MASKS, Detection, Format, Yolo, check_format, collated_yolo, finisher
from ndzarr.torch.order import groups, shuffled
from ndzarr.torch.pixels import ANY, Normalisation, Screening

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
RASTERS = ("ignore", "weight")
RASTER_NAMES = {"ignore": "ignore_mask", "weight": "weight_map"}
"""Raster to the tensor that holds it."""
OnError: TypeAlias = Literal["raise", "skip", "replace"]
ON_ERROR = ("raise", "skip", "replace")
"""What becomes of crops that fail to load."""
FAILURES = (NdzarrError, OSError)
"""What it means to fail; wrong options are errors of the program and always raised."""
MOST_REPLACED = 10
"""Crops that are tried in place of one that failed."""
MOST_WORKERS = 1024
"""Workers whose failures are counted apart."""
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
    rasters: tuple[str, ...] = ()
    """Any of `RASTERS`."""
    ignored: frozenset[Any] = frozenset()
    """Categories whose annotations are regions to ignore."""

    def __post_init__(self) -> None:
        if self.dtype is not None and not isinstance(self.dtype, torch.dtype):
            raise OptionError(f"dtype={self.dtype!r}: expected one of torch's, such as torch.float32", key="dtype")
        if self.masks is not None:
            check_choice("masks", self.masks, MASKS)
        check_choice("crowd", self.crowd, CROWD)
        for name in self.rasters:
            check_choice("rasters", name, RASTERS)

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
        ignore_mask, weight_map
            (sample, y, x) or (sample, t, y, x): True in regions to ignore; and what pixels count, float32.
        """
        image = torch.from_numpy(_writable(batch["image"].values))
        out: Tensors = {"image": image if self.dtype is None else image.to(self.dtype)}
        if "valid" in batch:
            out["valid"] = torch.from_numpy(_writable(batch["valid"].values))
        out["index"] = torch.from_numpy(np.asarray(index, np.int64))
        out["transform"] = torch.from_numpy(_writable(batch["transform"].values))
        if self.annotations and "annot_sample" in batch:
            out |= self._annotations(batch)
        if self.masks is not None or self.rasters:
            out |= self._maps(batch)
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

    def _maps(self, batch: xarray.Dataset) -> Tensors:
        """Return masks, and rasters, of the pixels of annotations."""
        dims, image = batch["image"].dims, batch["image"].shape
        shape = tuple(n for d, n in zip(dims, image, strict=True) if d in ("t", "y", "x"))
        instances = batch.ndzarr.masks(shape[-2:])
        if self.masks == "instance" and not self.rasters:
            return {"masks": [torch.from_numpy(one) for one in instances]}
        categories = batch["category_id"].values.tolist()
        values = np.array([self.labels.get(category, -1) + 1 for category in categories])
        stated = batch["ignore"].values.astype(bool) if "ignore" in batch else np.zeros(len(values), bool)
        beneath = stated & (self.crowd == "ignore")
        values[beneath] = IGNORED
        ignored = stated | np.array([category in self.ignored for category in categories], bool)
        weights = batch["weight"].values.astype(np.float32) if "weight" in batch else np.ones(len(values), np.float32)
        weights = np.where(ignored, 0, np.where(np.isnan(weights), 1, weights))
        frames, stops = batch["frame"].values, np.searchsorted(batch["annot_sample"].values, np.arange(image[0] + 1))
        whole = (image[0], *(shape if len(shape) == 3 else (1, *shape)))
        kept: list[torch.Tensor] = []
        layers: dict[
            str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
        ] = {}  # to pixels, and what annotations have
        if self.masks == "semantic":
            layers["masks"] = np.zeros(whole, np.int64), values
        if "ignore" in self.rasters:
            layers[RASTER_NAMES["ignore"]] = np.zeros(whole, bool), ignored
        if "weight" in self.rasters:
            layers[RASTER_NAMES["weight"]] = np.ones(whole, np.float32), weights
        for k, masks in enumerate(instances):
            if self.masks == "instance":
                kept.append(torch.from_numpy(masks))
            mine = np.arange(stops[k], stops[k + 1])
            # What is known lies on top of what is to be ignored.
            for i in mine[np.argsort(~beneath[mine], kind="stable")].tolist():
                for name, (pixels, own) in layers.items():
                    if own[i] or name != RASTER_NAMES["ignore"]:  # what is to be ignored is so, whatever lies on top
                        np.copyto(pixels[k, frames[i]], own[i], where=masks[i - stops[k]])
        out: Tensors = {"masks": kept} if self.masks == "instance" else {}
        return out | {name: torch.from_numpy(pixels.reshape(image[0], *shape)) for name, (pixels, _) in layers.items()}


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


def collate(samples: Sequence[Any]) -> Any:
    """
    Collate samples to a batch: the `collate_fn` of a DataLoader.

    Tensors of one shape are stacked; boxes, labels and masks of instances, which differ in number, become lists with
    one tensor per sample. Crops in the formats 'coco' and 'instance' become a list of images and one of targets, those
    in 'yolo' a batch of ultralytics. Samples that a transform made something else than dictionaries, such as pairs, go
    to torch's `default_collate`.

    Raises
    ------
    OptionError
        Images differ in size: give all crops one `output_dims`, or a transform that makes them alike.
    """
    if isinstance(samples, Fetched) and samples.transform is None:
        return samples.batch
    items: list[Any] = list(samples)
    if all(isinstance(item, Detection) for item in items):
        return [item.image for item in items], [item.target for item in items]
    if all(isinstance(item, Yolo) for item in items):
        return collated_yolo(items)
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
        As for `CocoSampler.load_sample`.  The formats 'coco', 'yolo' and 'instance' clip by default.
    crowd
        What becomes of annotations whose `iscrowd` is 1: 'keep' takes them as all others, 'drop' leaves them out,
        'ignore' sets their `ignore` to 1, and semantic maps to -100, where no other annotation is.
    labels
        Category ids to labels; by default the position of a category in the dataset.
    transform
        Takes the tensors of one sample (no sample axis) and returns them, changed.
    batch_transform
        The same for a whole batch, which is quicker.
    format
        What a crop is: 'dict', a dictionary of tensors; 'tv_tensors', the same with torchvision's tv_tensors; a pair
        'semantic' of image and class map; a pair of image and target for torchvision's detection models, 'coco', with
        masks 'instance'; 'yolo', ultralytics' dictionary.  It is made after the transform, which gets tv_tensors for
        all formats but 'dict' if torchvision is installed.
    rasters
        Further maps of annotations: 'ignore', True in regions to ignore (annotations whose `ignore` is 1, and those of
        the category 'ignore'), as `ignore_mask`; 'weight', what a pixel counts (the `weight` of the annotation that
        lies there, 0 in regions to ignore, else 1), as `weight_map`.
    normalise
        `Statistics`, or a `Normalisation` by sensor, robust or clipped: images become floats, and missing pixels 0.
    screening
        Which pixels and frames do not count; see `Screening`.
    on_error
        What becomes of a crop that fails to load, since a file is missing or damaged or its frames show too little:
        'raise' the error; 'skip' it, so that the batch is smaller; 'replace' it by another one, drawn by its index.
        `failures` counts them.

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
        clip: bool | None = None,
        crowd: Crowd = "keep",
        labels: Mapping[Any, int] | None = None,
        transform: Callable[[Tensors], Any] | None = None,
        batch_transform: Transform | None = None,
        format: Format = "dict",
        rasters: Sequence[str] = (),
        normalise: Normalisation | Statistics | None = None,
        screening: Screening | None = None,
        on_error: OnError = "raise",
    ) -> None:
        check_format(format)
        check_choice("on_error", on_error, ON_ERROR)
        if (needed := OF_MASKS.get(format)) is not None:
            if masks not in (None, needed):
                message = f"masks={masks!r} do not make format={format!r}"
                raise OptionError(message, key="masks", hint=f"Leave masks out, or give {needed!r}")
            masks = needed  # type: ignore[assignment]
        annotations = annotations or format in OF_BOXES
        clip = format in OF_BOXES if clip is None else clip
        rasters = tuple([rasters] if isinstance(rasters, str) else rasters)
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
        for key, wanted in (("masks", masks), ("rasters", rasters or None), ("format", _of_annotations(format))):
            if wanted is not None and not categories:
                raise OptionError(f"{key}={wanted!r} needs a dataset with categories; this sampler has none", key=key)
        counted = {c: k for k, c in enumerate(categories)} if labels is None else dict(labels)
        names = {} if dset is None else {c: str(record.get("name")) for c, record in dset.index.cats.items()}
        ignored = frozenset(c for c, name in names.items() if name.lower() == IGNORE)
        self.options = TensorOptions(dtype, masks, annotations, counted, crowd, rasters, ignored)
        self.format: Format = format
        self.normalise = Normalisation(normalise) if isinstance(normalise, Statistics) else normalise
        self.screening, self.on_error = screening, on_error
        # Shared memory: one count for each worker, and one for this process.
        self._failed = torch.zeros(MOST_WORKERS + 1, dtype=torch.int64).share_memory_() if on_error != "raise" else None
        self.lookup: dict[str, Any] = {"visible_thresh": visible_thresh, "clip": clip, "crowd": crowd}
        Lookup(**self.lookup)  # checks them
        if dset is None:
            self.lookup = {}
        else:
            self.keys["with_annots"] = annotations or masks is not None or bool(rasters)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<ndzarr.torch.CropDataset: {len(self)} crops of {str(self.sampler).splitlines()[0]}>"

    def __getitem__(self, index: int) -> Tensors:
        sample: Tensors = self.__getitems__([index])[0]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Fetched:
        """Return the crops of a batch, read by one plan; torch's DataLoader calls this."""
        batch = self.batch(indices)
        return self.transformed(batch, len(batch["index"]))

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
        batch = self.batch(indices)
        return ReadCrops(((self, batch, len(batch["index"])),))

    def transformed(self, batch: Tensors, length: int) -> Fetched:
        """Return a batch of so many crops, as `batch` returns it, with the transforms."""
        if self.batch_transform is not None:
            batch = self.batch_transform(batch)
        return Fetched(batch, length, finisher(self.format, self.transform))

    def batch(self, indices: Sequence[int]) -> Tensors:
        """Return the tensors of crops, before any transform; see `TensorOptions.tensors`. -1 is the last crop."""
        n = len(self)
        for k in indices:
            if not -n <= index(k) < n:
                raise IndexError(f"crop {k} does not exist; there are {n}")
        if (worker := torch.utils.data.get_worker_info()) is not None:
            share_cpus(worker.num_workers)
        chosen = np.array([index(k) % n for k in indices], np.int64)
        try:
            return self._tensors(chosen)
        except FAILURES as error:
            if self._failed is None or isinstance(error, OptionError):
                raise
        return self._tensors(self._without_failures(chosen))

    @property
    def failures(self) -> int:
        """Number of times that a crop failed to load and was left out or replaced, in all workers."""
        return 0 if self._failed is None else int(self._failed.sum())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._failed is not None:
            self._failed.share_memory_()

    def _without_failures(self, chosen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return those that load, or others in place of those that do not."""
        assert self._failed is not None
        worker = torch.utils.data.get_worker_info()
        kept, tries = [], MOST_REPLACED + 1 if self.on_error == "replace" else 1
        last: BaseException | None = None
        for k in chosen.tolist():
            for attempt in range(tries):
                one = k if not attempt else int(np.random.default_rng((k, attempt)).integers(len(self)))
                try:
                    self._tensors(np.array([one]))
                except FAILURES as error:
                    if isinstance(error, OptionError):
                        raise
                    last = error
                    self._failed[MOST_WORKERS if worker is None else worker.id % MOST_WORKERS] += 1
                    warnings.warn(f"crop {one} fails to load: {error}", UserWarning, stacklevel=3)
                else:
                    kept.append(one)
                    break
        if not kept or (self.on_error == "replace" and len(kept) < len(chosen)):
            message = (
                f"on_error={self.on_error!r}: crops {chosen.tolist()} fail to load, and so do those in place of them"
            )
            raise SourceError(message, key="on_error") from last
        return np.array(kept, np.int64)

    def _tensors(self, chosen: np.ndarray[Any, Any]) -> Tensors:
        loaded = self.sampler.load_batch(self.rows.take(chosen), **self.keys, **self.lookup)
        if self.screening is not None:
            loaded = self._screened(loaded, chosen)
        out = self.options.tensors(loaded, chosen)
        if self.normalise is not None:
            image = self.normalise.apply(
                torch.from_numpy(_writable(loaded["image"].values)), loaded, self._sensors(loaded)
            )
            out["image"] = image if self.options.dtype is None else image.to(self.options.dtype)
        return out

    def _sensors(self, loaded: xarray.Dataset) -> np.ndarray[Any, Any]:
        """Return the sensor of each image, of videos of each frame; shape (sample,) or (sample, t)."""
        dset = getattr(self.sampler, "dset", None)
        if dset is None:
            return np.full(loaded.sizes["sample"], ANY)
        gids = loaded["gid"].values
        known = {g: dset.index.imgs[g].get("sensor_coarse") or ANY for g in set(gids.ravel().tolist()) if g != -1}
        rows = []
        for row in gids.reshape(len(gids), -1).tolist():
            first = next(known[g] for g in row if g in known)
            rows.append([known.get(g, first) for g in row])  # frames that pad are as the first
        return np.array(rows).reshape(gids.shape)

    def _screened(self, loaded: xarray.Dataset, chosen: np.ndarray[Any, Any]) -> xarray.Dataset:
        """Return a batch without pixels that do not count, frames that show too little replaced."""
        assert self.screening is not None
        dims, tried = loaded["image"].dims, [set[Any]() for _ in chosen]
        for attempt in range(self.screening.tries + 1):
            image, valid = self.screening.apply(loaded)
            bad = self.screening.too_little(valid, dims)
            gids = loaded["gid"].values.reshape(len(chosen), -1) if "gid" in loaded.coords else np.zeros_like(bad, int)
            bad &= gids != -1  # frames that pad show nothing, and are meant to
            if not bad.any():
                break
            targets = loaded.ndzarr.targets
            for k in np.flatnonzero(bad.any(axis=1)).tolist():
                worse = gids[k][bad[k]].tolist()
                tried[k].update(worse)
                other = None
                if "t" in dims and attempt < self.screening.tries:
                    other = self._other_frames(gids[k].tolist(), worse, tried[k])
                if other is None:
                    message = (
                        f"crop {chosen[k]}: image {worse[0]!r} shows less than min_valid={self.screening.min_valid:g}"
                    )
                    raise SourceError(message, key="min_valid", hint="Use on_error='skip' or 'replace'")
                targets[k] = {key: v for key, v in targets[k].items() if key not in OF_FRAMES} | {"gids": other}
            loaded = self.sampler.load_batch(targets, **self.keys, **self.lookup)
        c = dims.index("c")
        if (valid == valid.take([0], c)).all():
            return loaded.assign(image=(dims, image), valid=([d for d in dims if d != "c"], valid.take(0, c)))
        return loaded.assign(image=(dims, image), valid=(dims, valid))

    def _other_frames(self, gids: list[Any], worse: list[Any], tried: set[Any]) -> list[Any] | None:
        """Return the frames of a crop, some replaced by the nearest ones of their video; None if there are none."""
        index = self.sampler.dset.index  # type: ignore[union-attr]
        video = index.imgs[worse[0]].get("video_id")
        frames = [] if video is None else list(index.vidid_to_gids[video])
        place = {gid: k for k, gid in enumerate(frames)}
        mine = [gid for gid in gids if gid in place]
        for gid in worse:
            free = [other for other in frames if other not in mine and other not in tried]
            if not free:
                return None
            mine[mine.index(gid)] = min(free, key=lambda other: (abs(place[other] - place[gid]), place[other]))
        return sorted(mine, key=place.__getitem__)


OF_FRAMES = (
    "gid", "image_id", "gids", "image_ids", "aid", "annot_id", "time_slice", "time_start", "time_stop", "time_step",
    "slices",
)  # fmt: skip
"""Keys of targets that name frames, besides the video."""
IGNORE = "ignore"
"""Name of the category whose annotations are regions to ignore."""


def _of_annotations(format: str) -> str | None:
    """Return a format that needs annotations; None for others."""
    return format if format not in ("dict", "tv_tensors") else None


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
