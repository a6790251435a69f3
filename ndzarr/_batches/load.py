"""Many targets as one Dataset in memory, with every chunk decoded once.

1. Targets become pending samples: resolved, with nothing read (`form`).
2. All must agree on axes, channels and dtype; the largest sets the size of the batch.
3. One array is made, and all samples are read into their places in it by one `ReadPlan`.
4. One Dataset is put together at the end.

Everything that differs between samples lies along `sample`: where each lies (`native_y`, `native_x`, `transform`), what
it was read from (`gid` and `frame_index`, or `key`) and when (`time`).  Annotations of all samples make one table along
`annot`, whose column `annot_sample` says whose they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from ndzarr._batches.columnar import Uniform, copies, touching
from ndzarr._batches.form import (
    Array,
    Form,
    MaskAxes,
    Pending,
    Sizes,
    agree,
    check_sizes,
    open_together,
    pending_samples,
    read_batch,
    rows_with,
)  # fmt: skip
from ndzarr._pyramid.xarray import Axis, build_dataset, index_axis, name_axis
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.compose import Mask, read
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.sample import Context, Labels, labels_of, to_dataset
from ndzarr._sampling.scene import same_unit
from ndzarr.errors import TargetError
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets

if TYPE_CHECKING:
    from PIL.Image import Image


def load_batch(
    source: SampleSource, targets: Targets | Rows, lookup: Lookup, sizes: Sizes, keys: Mapping[str, Any]
) -> xarray.Dataset:
    """Load many windows, with `keys` added to every target; see `CocoSampler.load_batch`."""
    check_sizes(sizes)
    rows = Rows(targets)
    open_together(source, rows, keys)
    if (found := copies(source, rows, keys, lookup)) is not None:
        image, form, mask = found.read(), found.known.form, None
        placed, annotations = window_columns(found.known), window_annotations(found.known)
        context = BatchContext(LazySamples(source, rows, dict(keys), lookup), (None,) * len(rows))
    else:
        samples = pending_samples(source, rows_with(rows, keys), lookup)
        form = agree(samples, sizes)
        image, mask, mask_dims = read_batch(samples, form)
        placed, annotations = sample_columns(samples, form), annotation_columns(samples)
        context = BatchContext(samples, mask_dims)
    variables: Columns = {"image": (("sample", *form.dims), image), **({} if mask is None else {"valid": mask})}
    axes = shared_axes(len(image), form)
    return build_dataset({**variables, **placed, **annotations}, axes, tuple(placed), {"ndzarr": context})


@dataclass(frozen=True, slots=True, eq=False)
class BatchContext:
    """The origin of the samples of a batch, in the order in which it was loaded."""

    samples: Sequence[Pending] | Sequence[Known] | LazySamples
    """By position; `Known` ones once they were pickled."""
    mask_dims: MaskAxes | None
    """None for a lazy batch, of which nothing was read."""

    def accessor(self, batch: xarray.Dataset) -> BatchAccessor:
        """Return `batch.ndzarr`."""
        return BatchAccessor(batch)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the samples know, without the dataset."""
        if self.mask_dims is None:
            return BatchContext, (self.samples, None)
        known = [Known.of(self.samples[k]) for k in range(len(self.mask_dims))]
        return BatchContext, (known, self.mask_dims)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A sample of which everything was looked up."""

    known: Context
    labels: Labels
    shape: tuple[int, ...]

    @classmethod
    def of(cls, sample: Pending | Known) -> Known:
        """Look everything up."""
        if isinstance(sample, Known):
            return sample
        return cls(sample.context(), labels_of(sample.request), sample.request.shape)

    def context(self) -> Context:
        """Return the context of the accessor of the sample."""
        return self.known


@dataclass(frozen=True)
class LazySamples:
    """The samples of a batch, resolved when asked for."""

    source: SampleSource
    rows: Rows
    keys: Mapping[str, Any]
    lookup: Lookup

    def __getitem__(self, k: int) -> Pending:
        return pending_samples(self.source, [{**self.rows[k], **self.keys}], self.lookup)[0]


class BatchAccessor:
    """The accessor `batch.ndzarr`: the origin of each sample."""

    def __init__(self, batch: xarray.Dataset) -> None:
        self._batch = batch
        self._context: BatchContext = batch.encoding["ndzarr"]

    def __len__(self) -> int:
        return self._batch.sizes.get("sample", 1)

    def _numbers(self) -> list[int]:
        """Positions, in the batch as it was loaded, of the samples that are left."""
        if "sample" not in self._batch.coords:
            message = "an operation on this batch dropped its coordinate `sample`, which says whose is what"
            raise TargetError(message, key="sample")
        return [int(k) for k in np.atleast_1d(self._batch["sample"].values)]

    def _contexts(self) -> Iterator[Context]:
        return (self._context.samples[k].context() for k in self._numbers())

    @property
    def targets(self) -> list[dict[str, Any]]:
        """The target of each sample, with the window that it was resolved to."""
        return [context.target for context in self._contexts()]

    @property
    def detections(self) -> list[list[Any]]:
        """Per sample one `kwimage.Detections` per frame, in sample pixels; see `sample.ndzarr.detections`."""
        from ndzarr._sampling.detections import detections

        return [detections(context) for context in self._contexts()]

    def masks(self, size: tuple[int, int] | None = None) -> Iterator[Array]:
        """
        Yield the pixels of the annotations of each sample, bool (annot, y, x); see `sample.ndzarr.masks`.

        Parameters
        ----------
        size
            (height, width) in pixels; that of each sample if left out.
        """
        from ndzarr._sampling.detections import masks

        return (masks(context, size or context.scene.n) for context in self._contexts())

    def sample(self, i: int) -> xarray.Dataset:
        """
        One sample, as `load_sample` returns it: in its own size, with its own coordinates and annotations.

        That of a lazy batch is read now.
        """
        numbers = self._numbers()
        if not -len(numbers) <= i < len(numbers):
            raise TargetError(f"sample {i} does not exist; the batch has {len(numbers)}", key="sample")
        k = numbers[i]
        sample = self._context.samples[k]
        known = Known.of(sample)
        if self._context.mask_dims is None and isinstance(sample, Pending):
            [(image, mask)] = read([sample.request])
            return to_dataset(known.known, known.labels, image, mask)
        one = self._batch[["image", "valid"] if "valid" in self._batch else ["image"]]
        one = one.isel(sample=i) if "sample" in one.dims else one
        dims, own = known.labels.dims, dict(zip(known.labels.dims, map(slice, known.shape), strict=True))
        image = one["image"].variable.transpose(*dims).isel(own).values
        mask_dims = None if self._context.mask_dims is None else self._context.mask_dims[k]
        own_mask: Mask = None
        if mask_dims is not None:
            valid = one["valid"].variable
            valid = valid.isel({d: 0 if d not in mask_dims else own[str(d)] for d in valid.dims})
            own_mask = mask_dims, np.ascontiguousarray(valid.transpose(*mask_dims).values)
        return to_dataset(known.known, known.labels, image, own_mask)

    def draw(
        self,
        columns: int | None = None,
        scale: float | None = None,
        channels: Sequence[str | int] | None = None,
        stretch: tuple[float, float] | None = None,
    ) -> Image:
        """
        A contact sheet: the picture of each sample, in rows; see `sample.ndzarr.draw`.

        Parameters
        ----------
        columns
            Pictures in a row; as many as make the sheet about as wide as high if left out.
        scale, channels, stretch
            As for a sample.
        """
        from ndzarr._sampling.draw import sheet

        samples = [self.sample(i) for i in range(len(self))]
        pictures = [s.ndzarr.draw(scale, channels, stretch) for s in samples]
        if not pictures:
            raise TargetError("an empty batch has no picture", key="targets")
        return sheet(pictures, columns)

    def _repr_html_(self) -> str:
        """Show the contact sheet of the first samples in a notebook."""
        from ndzarr._pyramid.repr import html_image
        from ndzarr._sampling.draw import sheet

        few = [self.sample(i).ndzarr.draw(1) for i in range(min(len(self), SHOWN))]
        return f"{len(self)} samples<br>{html_image(sheet(few))}" if few else "no samples"


SHOWN = 16
"""Samples that a notebook shows of a batch."""

ALONG = {"t": "time", "z": "native_z", "y": "native_y", "x": "native_x"}
"""Axis to the coordinate (sample, axis) that says what a sample alone says under the axis' own name."""

Columns = dict[str, tuple[tuple[str, ...], Array]]


def window_columns(known: Uniform) -> Columns:
    """Return the `sample_columns` of windows as columns."""
    windows, (height, width) = known.windows, known.form.shape[-2:]
    origin, pitch = windows.origin, windows.pitch
    return {
        ALONG["y"]: (("sample", "y"), centres(origin[:, 0], pitch[:, 0], height)),
        ALONG["x"]: (("sample", "x"), centres(origin[:, 1], pitch[:, 1], width)),
        "size_y": (("sample",), windows.n[:, 0]),
        "size_x": (("sample",), windows.n[:, 1]),
        "transform": (("sample", "row", "column"), transforms(origin, pitch)),
        windows.name: (("sample",), windows.labels),
    }


def window_annotations(known: Uniform) -> Columns:
    """Return the `annotation_columns` of windows as columns."""
    first = known.first
    if not first.lookup.wanted or first.source.dset is None:
        return {}
    return _table(*touching(first.source.annotations, known.windows, first.lookup))


def shared_axes(n: int, form: Form) -> dict[str, Axis]:
    """Axes that mean the same for all samples: positions along sample, names along c."""
    axes = {"sample": index_axis("sample", np.arange(n))}
    if form.channels is not None:
        axes["c"] = name_axis("c", form.channels)
    return axes


def origins(samples: Sequence[Pending]) -> tuple[Array, Array]:
    """Return the start of each sample, and native pixels per pixel, along (y, x); shape (sample, 2) each."""
    scenes = [s.request.scene for s in samples]
    return np.array([(s.y[0], s.x[0]) for s in scenes], float), np.array([s.pitch for s in scenes], float)


def sample_columns(samples: Sequence[Pending], form: Form) -> Columns:
    """Coordinates along sample: where its pixels lie, and what they were read from."""
    lengths = dict(zip(form.dims, form.shape, strict=True))
    origin, pitch = origins(samples)
    sizes = np.array([s.request.shape for s in samples], np.int64)
    out: Columns = {}
    for d in form.dims:
        if d in "yx":
            k = "yx".index(d)
            out[ALONG[d]] = ("sample", d), centres(origin[:, k], pitch[:, k], lengths[d])
        elif d != "c":
            out[ALONG[d]] = ("sample", d), _stacked([s.request.labels(d) for s in samples], lengths[d])
    for k, d in enumerate(form.dims):
        if d != "c":
            out[f"size_{d}"] = ("sample",), sizes[:, k]
    out["transform"] = ("sample", "row", "column"), transforms(origin, pitch)
    for name, values in _ids(samples, lengths.get("t", 0)).items():
        out[name] = ("sample", "t")[: values.ndim], values
    return out


def centres(origin: Array, pitch: Array, n: int) -> Array:
    """Pixel centres (sample, n) in native pixels."""
    return np.asarray((np.arange(n) + 0.5) * pitch[:, None] + origin[:, None])


def transforms(origin: Array, pitch: Array) -> Array:
    """(sample, 3, 3) from sample pixels (x, y, 1) to native pixels, given (sample, 2) along (y, x)."""
    out = np.zeros((len(origin), 3, 3))
    out[:, 0, 0], out[:, 1, 1], out[:, 2, 2] = pitch[:, 1], pitch[:, 0], 1
    out[:, 0, 2], out[:, 1, 2] = origin[:, 1], origin[:, 0]
    return out


def _ids(samples: Sequence[Pending], frames: int) -> dict[str, Array]:
    found = [s.request.ids for s in samples]
    out: dict[str, Array] = {}
    for name, first in found[0].items():
        values = [f[name] for f in found]
        out[name] = _stacked(values, frames) if isinstance(first, np.ndarray) else _column(values)
    return out


def _column(values: list[Any]) -> Array:
    """Ids of one kind as they are, others as text."""
    kinds = set(map(type, values))
    return np.array(values if kinds <= {int} or kinds == {str} else list(map(str, values)))


def _stacked(rows: Sequence[Array], n: int) -> Array:
    """Labels (sample, n) of samples of up to n frames; what a shorter one lacks is NaT, NaN, -1 or ''."""
    if len({row.dtype.kind for row in rows}) > 1:  # dates of some, indices of others
        rows = [row.astype("U") if row.dtype.kind != "M" else np.datetime_as_string(row) for row in rows]
    rows = same_unit(rows)
    dtype = np.result_type(*{row.dtype for row in rows})
    missing = {"M": np.datetime64("NaT", "s"), "f": np.nan, "U": ""}.get(dtype.kind, -1)
    out = np.full((len(rows), n), missing, dtype)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def annotation_columns(samples: Sequence[Pending]) -> Columns:
    """The annotations of all samples as one table; empty where none are looked up."""
    found = [s.found for s in samples]
    tables = [f.columns for f in found if f is not None]
    if len(tables) < len(found):
        return {}
    columns = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    return _table(columns, np.repeat(np.arange(len(tables)), [len(t["annot_id"]) for t in tables]))


def _table(columns: Mapping[str, Array], owner: Array) -> Columns:
    """Columns along annot, and whose each row is."""
    out: Columns = {name: (("annot", "xywh")[: c.ndim], c) for name, c in columns.items()}
    return {"annot_sample": (("annot",), owner), **out}
