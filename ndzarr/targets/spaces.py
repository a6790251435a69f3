"""In which spaces do windows lie, and where are the annotations in them?

A space is what a target names: an image, or a video with its frames.  `Spaces` holds their sizes as columns, `Boxes`
the annotations' boxes in them, so that whatever chooses windows is arithmetic on whole columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.sampler.annotations import AnnotationTable
from ndzarr.sampler.dataset import Dataset
from ndzarr.sampler.placed import place
from ndzarr.sampler.resolve import resolve
from ndzarr.sampler.target import parse
from ndzarr.targets.options import several

if TYPE_CHECKING:
    from ndzarr.sampler.coco import CocoSampler

Array: TypeAlias = "np.ndarray[Any, Any]"

COLUMNS = {"image": "gid", "video": "vidid", "source": "key"}
"""Kind of space to the key of targets that names one."""


@dataclass(frozen=True, eq=False)
class Spaces:
    """Images, videos or named sources."""

    kind: str
    """One of `COLUMNS`."""
    ids: Array
    """What targets call them; shape (space,)."""
    height: Array
    """Pixels along y; shape (space,)."""
    width: Array
    """Pixels along x; shape (space,)."""
    frames: tuple[tuple[Any, ...], ...]
    """Image ids of each, in the order of t."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def column(self) -> str:
        """The key of targets that names a space."""
        return COLUMNS[self.kind]

    @property
    def video(self) -> bool:
        """True where targets have an axis t."""
        return self.kind == "video"

    @cached_property
    def lengths(self) -> Array:
        """Frames of each; shape (space,)."""
        return np.array([len(f) for f in self.frames], np.int64)

    @cached_property
    def extents(self) -> tuple[Array, Array]:
        """The different (frames, height, width), shape (3, extent), and that of each space, shape (space,)."""
        different, which = np.unique(np.stack([self.lengths, self.height, self.width]), axis=1, return_inverse=True)
        return different, which.reshape(-1)

    def positions(self, ids: Iterable[Any]) -> Array:
        """
        Where ids are in `ids`.

        Raises
        ------
        TargetError
            One of them is not there.
        """
        where = {i: k for k, i in enumerate(self.ids.tolist())}
        try:
            return np.array([where[i] for i in several(ids)], np.intp)
        except KeyError as error:
            known = did_you_mean(error.args[0], list(where)[:20])
            raise TargetError(f"{self.column}={error.args[0]!r}: no such {self.kind}{known}") from None

    def some(self, ids: Iterable[Any] | None) -> Spaces:
        """Those of them; all for None."""
        if ids is None:
            return self
        keep = self.positions(ids)
        return Spaces(
            self.kind, self.ids[keep], self.height[keep], self.width[keep], tuple(self.frames[k] for k in keep)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of annotations in their spaces, sorted by space, in the order of the dataset's table within an image."""

    space: Array
    """Position among the spaces; shape (n,)."""
    frame: Array
    """Position along t; shape (n,)."""
    row: Array
    """Row of the `AnnotationTable`; shape (n,)."""
    x0: Array
    """Left edges in pixels, continuous; shape (n,)."""
    y0: Array
    """Upper edges."""
    x1: Array
    """Right edges, those of points and lines a little beyond the left ones."""
    y1: Array
    """Lower edges."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def area(self) -> Array:
        """Square pixels; shape (n,)."""
        out: Array = (self.x1 - self.x0) * (self.y1 - self.y0)
        return out

    def take(self, index: Array | slice) -> Boxes:
        """Some of them, by position or mask."""
        columns = (self.space, self.frame, self.row, self.x0, self.y0, self.x1, self.y1)
        return Boxes(*(c[index] for c in columns))


def refuse_time(spaces: Spaces, time_dims: Any) -> None:
    """
    Images have no frames to choose from.

    Raises
    ------
    TargetError
        A number of them was asked for.
    """
    if time_dims is not None and not spaces.video:
        raise TargetError(f"time_dims={time_dims!r}: images have no time; use space='video'")


def column_of_ids(ids: Sequence[Any]) -> Array:
    """Integers as such, all else as objects, so that Python's own values come out again."""
    if all(type(i) is int for i in ids):
        return np.array(ids, np.int64)
    out = np.empty(len(ids), object)
    out[:] = ids
    return out


def spaces_of(sampler: CocoSampler, kind: str) -> Spaces:
    """
    The images or videos of a sampler; videos without frames are left out.

    Raises
    ------
    TargetError
        There are none, or the size of one cannot be known.
    """
    dataset = sampler._dataset
    if kind == "image":
        frames = [(gid,) for gid in dataset.coco.index.imgs]
        ids = [gid for (gid,) in frames]
        sizes = [_image_size(sampler, gid) for gid in ids]
    elif kind == "video":
        known = {v: tuple(g) for v, g in dataset.coco.index.vidid_to_gids.items() if len(g)}
        ids, frames = list(known), list(known.values())
        sizes = [_video_size(sampler, v, known[v][0]) for v in ids]
    else:
        raise TargetError(f"space={kind!r}: expected 'image' or 'video'")
    if not ids:
        raise TargetError(f"space={kind!r}: the dataset has no {kind}s{' with frames' if kind == 'video' else ''}")
    height, width = np.array(sizes, np.int64).T
    return Spaces(kind, column_of_ids(ids), height, width, tuple(frames))


def _image_size(sampler: CocoSampler, gid: Any) -> tuple[int, int]:
    size = sampler.frame(gid).size
    return _resolved_size(sampler, {"gid": gid}) if size is None else (size[1], size[0])


def _video_size(sampler: CocoSampler, vidid: Any, gid: Any) -> tuple[int, int]:
    return sampler._dataset.video_size(gid) or _resolved_size(sampler, {"vidid": vidid})


def _resolved_size(sampler: CocoSampler, target: dict[str, Any]) -> tuple[int, int]:
    """As `load_sample` finds it where the dataset does not say: from the file."""
    return resolve(parse(target), sampler._dataset, sampler._pixel_size).space


def boxes_of(spaces: Spaces, table: AnnotationTable, dataset: Dataset) -> Boxes:
    """Boxes of all annotations that have one, in the given spaces; moved there as `load_sample` moves them."""
    where = [(k, t, gid) for k, gids in enumerate(spaces.frames) for t, gid in enumerate(gids) if gid in table.rows]
    warps = [dataset.frame(gid).to_video if spaces.video else None for _, _, gid in where]
    rows = [table.rows[gid] for _, _, gid in where]
    placed = place([(r, table.columns[:, r], warp) for r, warp in zip(rows, warps, strict=True)])
    row = np.concatenate([np.arange(r.start, r.stop) for r in rows]) if rows else np.empty(0, np.intp)
    space, frame = (np.array([p[i] for p in where], np.int64)[placed.frame] for i in (0, 1))
    x0, y0 = placed.near
    x1, y1 = placed.far
    boxes = Boxes(space, frame, row, x0, y0, x1, y1)
    return boxes.take(np.isfinite(boxes.area))
