"""Which variables and coordinates has a batch?

Everything that differs between samples lies along `sample`: where each lies (`native_y`, `native_x`, `transform`), what
it was read from (`gid` and `frame_index`, or `key`) and when (`time`).  Annotations of all samples make one table along
`annot`, whose column `annot_sample` says whose they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from ndzarr._batches.columnar import Uniform, touching
from ndzarr._batches.form import Form, Member, Pixels, valid_of
from ndzarr._pyramid.xarray import Axis
from ndzarr._pyramid.xarray import build_dataset as construct
from ndzarr._pyramid.xarray import index_axis as axis
from ndzarr._pyramid.xarray import name_axis as names
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.sample import Context
from ndzarr.errors import TargetError
from ndzarr.targets.table import Rows

# --- What does a batch know of each of its samples, and how does one come out of it again?  `batch.ndzarr`.


@dataclass(frozen=True, slots=True, eq=False)
class BatchContext:
    """Where the samples of a batch came from, in the order in which it was loaded."""

    members: Any
    """The `Member`s by position, or, once they were pickled, `Known` ones."""
    mask_dims: tuple[tuple[str, ...] | None, ...] | None
    """Axes of the mask of each sample, None where it has none; None for a lazy batch, of which nothing was read."""

    @classmethod
    def of(cls, members: Sequence[Member], mask_dims: Sequence[tuple[str, ...] | None]) -> BatchContext:
        """The context of a batch that was read."""
        return cls(tuple(members), tuple(mask_dims))

    def accessor(self, batch: xarray.Dataset) -> BatchAccessor:
        """What `batch.ndzarr` is."""
        return BatchAccessor(batch)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the sampler: what is sent to another process is what the samples know themselves."""
        if self.mask_dims is None:
            return BatchContext, (self.members, None)
        known = [Known.of(self.members[k]) for k in range(len(self.mask_dims))]
        return BatchContext, (tuple(known), self.mask_dims)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A member that has looked everything up."""

    kind: Any
    """Makes the Dataset of a sample: (context, what it needs, image, valid)."""
    needs: Any
    known: Context
    dims: tuple[str, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, member: Any) -> Known:
        """All that a member says about its sample."""
        if isinstance(member, Known):
            return member
        kind, needs = member.labeller
        return cls(kind, needs, member.context(), member.dims, member.shape)

    def context(self) -> Context:
        """What the accessor of the sample knows."""
        return self.known

    def label(self, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None) -> xarray.Dataset:
        """The sample."""
        made: xarray.Dataset = self.kind(self.known, self.needs, image, valid)
        return made


@dataclass(frozen=True)
class LazyMembers:
    """The members of a batch, made when asked for."""

    sampler: Any
    rows: Rows
    keys: Mapping[str, Any]
    lookup: Lookup

    def __getitem__(self, k: int) -> Any:
        return self.sampler.members([{**self.rows[k], **self.keys}], self.lookup)[0]


class BatchAccessor:
    """What a batch knows about its samples."""

    def __init__(self, batch: xarray.Dataset) -> None:
        self._batch = batch

    @property
    def _context(self) -> BatchContext:
        return self._batch.encoding["ndzarr"]  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return self._batch.sizes.get("sample", 1)

    def _numbers(self) -> list[int]:
        """Positions, in the batch as it was loaded, of the samples that are left."""
        if "sample" not in self._batch.coords:
            raise TargetError("an operation on this batch dropped its coordinate `sample`, which says whose is what")
        return [int(k) for k in np.atleast_1d(self._batch["sample"].values)]

    def _members(self) -> Iterator[Any]:
        return (self._context.members[k] for k in self._numbers())

    @property
    def targets(self) -> list[dict[str, Any]]:
        """The target of each sample, with the window that it was resolved to."""
        return [member.context().target for member in self._members()]

    @property
    def detections(self) -> list[list[Any]]:
        """Per sample one `kwimage.Detections` per frame, in sample pixels; see `sample.ndzarr.detections`."""
        from ndzarr._sampling.detections import detections

        return [detections(member.context()) for member in self._members()]

    def sample(self, i: int) -> xarray.Dataset:
        """
        One sample, as `load_sample` returns it: in its own size, with its own coordinates and annotations.

        That of a lazy batch is read now.

        Raises
        ------
        TargetError
            There are fewer samples.
        """
        numbers = self._numbers()
        if not -len(numbers) <= i < len(numbers):
            raise TargetError(f"sample {i} does not exist; the batch has {len(numbers)}")
        k = numbers[i]
        member = self._context.members[k]
        if self._context.mask_dims is None:
            return _read_alone(member)
        mask_dims = self._context.mask_dims[k]
        one = self._batch[["image", "valid"] if "valid" in self._batch else ["image"]]
        one = one.isel(sample=i) if "sample" in one.dims else one
        cut = {d: slice(n) for d, n in zip(member.dims, member.shape, strict=True)}
        image = one["image"].variable.transpose(*member.dims).isel(cut).values
        if mask_dims is None:
            return member.label(image, None)  # type: ignore[no-any-return]
        valid = one["valid"].variable
        valid = valid.isel({d: 0 if d not in mask_dims else cut[d] for d in valid.dims})
        return member.label(image, np.ascontiguousarray(valid.transpose(*mask_dims).values))  # type: ignore[no-any-return]


def _read_alone(member: Member) -> xarray.Dataset:
    image = np.empty(member.shape, member.dtype)
    [mask] = member.read([member], [image])
    return member.label(image, None if mask is None else mask[1])


ALONG = {"t": "time", "z": "native_z", "y": "native_y", "x": "native_x"}
"""Axis to the coordinate (sample, axis) that says what a sample alone says under the axis' own name."""

Columns = dict[str, tuple[tuple[str, ...], np.ndarray[Any, Any]]]


def batch_dataset(members: Sequence[Member], form: Form, pixels: Pixels) -> xarray.Dataset:
    """A batch that was read, with names."""
    variables: Columns = {"image": (("sample", *form.dims), pixels.image)}
    valid = valid_of(members, form, pixels.masks)
    if valid is not None:
        variables["valid"] = valid
    placed = where(members, form)
    variables |= placed | annotation_columns(members)
    axes = shared_axes(len(members), form)
    context = BatchContext.of(members, [None if mask is None else mask[0] for mask in pixels.masks])
    return construct(variables, axes, tuple(placed), {"ndzarr": context})


def of_copies(image: np.ndarray[Any, Any], known: Uniform, context: BatchContext) -> xarray.Dataset:
    """A batch that is nothing but copies, with names."""
    form = known.form
    placed = where_windows(known)
    variables = {"image": (("sample", *form.dims), image), **placed, **window_annotations(known)}
    return construct(variables, shared_axes(len(image), form), tuple(placed), {"ndzarr": context})


def where_windows(known: Uniform) -> Columns:
    """What `where` says, of windows as columns."""
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
    """What `annotation_columns` says, of windows as columns."""
    found = known.first.annotation_table
    return {} if found is None else table(*touching(found, known.windows, known.first.lookup))


def shared_axes(n: int, form: Form, first: int = 0) -> dict[str, Axis]:
    """Axes that mean the same for all samples: positions along sample, names along c."""
    axes = {"sample": axis("sample", np.arange(first, first + n))}
    if form.channels is not None:
        axes["c"] = names("c", form.channels)
    return axes


def where(members: Sequence[Member], form: Form) -> Columns:
    """Coordinates along sample: where its pixels lie, and what they were read from."""
    lengths = dict(zip(form.dims, form.shape, strict=True))
    origin = np.array([m.origin for m in members], float)
    pitch = np.array([m.pitch for m in members], float)
    sizes = np.array([m.shape for m in members], np.int64)
    out: Columns = {}
    for d in form.dims:
        if d in "yx":
            k = "yx".index(d)
            out[ALONG[d]] = ("sample", d), centres(origin[:, k], pitch[:, k], lengths[d])
        elif d != "c":
            out[ALONG[d]] = ("sample", d), _stacked([m.labels(d) for m in members], lengths[d])
    for k, d in enumerate(form.dims):
        if d != "c":
            out[f"size_{d}"] = ("sample",), sizes[:, k]
    out["transform"] = ("sample", "row", "column"), transforms(origin, pitch)
    for name, values in _ids(members, lengths.get("t", 0)).items():
        out[name] = ("sample", "t")[: values.ndim], values
    return out


def centres(origin: np.ndarray[Any, Any], pitch: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """Pixel centres (sample, n) in native pixels."""
    return np.asarray((np.arange(n) + 0.5) * pitch[:, None] + origin[:, None])


def transforms(origin: np.ndarray[Any, Any], pitch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(sample, 3, 3) from sample pixels (x, y, 1) to native pixels, given (sample, 2) along (y, x)."""
    out = np.zeros((len(origin), 3, 3))
    out[:, 0, 0], out[:, 1, 1], out[:, 2, 2] = pitch[:, 1], pitch[:, 0], 1
    out[:, 0, 2], out[:, 1, 2] = origin[:, 1], origin[:, 0]
    return out


def _ids(members: Sequence[Member], frames: int) -> dict[str, np.ndarray[Any, Any]]:
    found = [m.ids for m in members]
    out: dict[str, np.ndarray[Any, Any]] = {}
    for name, first in found[0].items():
        values = [f[name] for f in found]
        out[name] = _stacked(values, frames) if isinstance(first, np.ndarray) else _column(values)
    return out


def _column(values: list[Any]) -> np.ndarray[Any, Any]:
    """Ids of one kind as they are, others as text."""
    kinds = set(map(type, values))
    return np.array(values if kinds <= {int} or kinds == {str} else list(map(str, values)))


def _stacked(rows: Sequence[np.ndarray[Any, Any]], n: int) -> np.ndarray[Any, Any]:
    """Labels (sample, n) of samples of up to n frames; what a shorter one lacks is NaT, NaN, -1 or ''."""
    if len({row.dtype.kind for row in rows}) > 1:  # dates of some, indices of others
        rows = [row.astype("U") if row.dtype.kind != "M" else np.datetime_as_string(row) for row in rows]
    dtype = np.result_type(*{row.dtype for row in rows})
    missing = {"M": np.datetime64("NaT", "ns"), "f": np.nan, "U": ""}.get(dtype.kind, -1)
    out = np.full((len(rows), n), missing, dtype)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def annotation_columns(members: Sequence[Member]) -> Columns:
    """The annotations of all members as one table; empty where none are looked up."""
    found = [m.found for m in members]
    tables = [f.columns for f in found if f is not None]
    if len(tables) < len(found):
        return {}
    counts = [len(t["annot_id"]) for t in tables]
    return table(
        {name: np.concatenate([t[name] for t in tables]) for name in tables[0]},
        np.repeat(np.arange(len(counts)), counts),
    )


def table(columns: Mapping[str, np.ndarray[Any, Any]], owner: np.ndarray[Any, Any]) -> Columns:
    """Columns along annot, and whose each row is."""
    out: Columns = {name: (("annot", "xywh")[: c.ndim], c) for name, c in columns.items()}
    return {"annot_sample": (("annot",), owner), **out}
