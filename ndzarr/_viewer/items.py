"""What the viewer shows: the images and videos of a sample source, and the pixels of their tiles.

Every pixel comes from `load_sample`, so that the page shows what a sampler returns.  Tiles are `TILE` pixels wide and
high; on level k, one pixel of a tile covers 2**k native ones, as on level k of a pyramid.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from ndzarr._files import cache_root
from ndzarr._indexing.affine import IDENTITY
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.coco_dataset import CocoSource, file_of
from ndzarr._sampling.compose import compose
from ndzarr._sampling.named_sources import NamedSource
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.sample import load_sample
from ndzarr._sampling.scene import Frame, Scene
from ndzarr._sampling.target import parse
from ndzarr._viewer.render import Channel, Display, display_channels, rendered, rendered_labels

Array: TypeAlias = np.ndarray[Any, Any]
Source: TypeAlias = CocoSource | NamedSource
Interval: TypeAlias = tuple[int, int]

TILE = 512
"""Height and width of a tile, in pixels."""
OVERVIEW = 256
"""Longest side of the overview that contrast is found on, in pixels."""
NO_ANNOTATIONS = Lookup(False)


@dataclass(frozen=True, slots=True)
class Position:
    """The frame and the plane that are shown."""

    t: int = 0
    z: int = 0


@dataclass(eq=False)
class Item:
    """An image or a video of a dataset, or a named source."""

    source: Source
    target: Mapping[str, Any]
    """The key of a target that names it: gid, vidid or key."""
    name: str

    @cached_property
    def pyramid(self) -> Pyramid | None:
        """The pyramid of a named source; None for what a dataset composes of files."""
        return self.source.open(self.target["key"]) if isinstance(self.source, NamedSource) else None

    @cached_property
    def gids(self) -> tuple[Any, ...]:
        """The images of the frames of a video; the one image, or key, of everything else."""
        if "vidid" in self.target:
            return self.source.dataset.video_frames(self.target["vidid"])
        return tuple(self.target.values())

    def frame(self, t: int) -> Frame:
        """Return a frame of a video, or the image."""
        return self.source.frame(self.gids[t if "vidid" in self.target else 0])

    def scene(self, at: Position, y: Interval = (0, 1), x: Interval = (0, 1)) -> Scene:
        """Return the scene of a window."""
        return resolve(parse(self._framed(at.t) | {"y": slice(*y), "x": slice(*x)}), self.source)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) in native pixels of the image, or of the space of the video."""
        return self.scene(Position()).space

    def stated_size(self, t: int) -> tuple[int, int] | None:
        """(height, width) of a frame as the dataset states it, which opens no file."""
        if "vidid" in self.target:
            return self.source.dataset.video_size(self.gids[t])
        size = self.frame(t).size
        return None if size is None else size[::-1]

    @cached_property
    def _sampled(self) -> tuple[dict[str, int], tuple[str, ...], np.dtype[Any]]:
        """Axis to length, channels and type of the first frame."""
        if self.pyramid is not None:
            return self.pyramid.sizes, self.pyramid.channels, self.pyramid.dtype
        request = compose(self.scene(Position()), self.source)
        lengths = dict(zip(request.dims, request.shape, strict=True)) | {"t": len(self.gids)}
        # Frames of other sensors have other channels; the dataset may state them.
        stated = [a.channels or () for gid in self.gids for a in self.source.frame(gid).assets]
        names = dict.fromkeys((*(request.channels or ()), *(name for some in stated for name in some)))
        return lengths, tuple(names), request.dtype

    @property
    def frames(self) -> int:
        """Number of frames; 1 for a still image."""
        return self._sampled[0].get("t", 1)

    @property
    def planes(self) -> int:
        """Number of planes; 1 for what is not a volume."""
        return self._sampled[0].get("z", 1)

    @property
    def kind(self) -> str:
        """'intensity' or 'labels'."""
        if self.pyramid is not None:
            return self.pyramid.kind
        assets = self.frame(0).assets
        return self.source.open_asset(assets[0]).kind if len(assets) == 1 else "intensity"

    @cached_property
    def channels(self) -> list[Channel]:
        """How the channels are shown at first."""
        height, width = self.size
        k = max(0, (max(height, width) - 1) // OVERVIEW).bit_length()
        names = self._sampled[1]
        pixels, valid = self.read(k, (0, -(-height >> k)), (0, -(-width >> k)), Position(z=self.planes // 2), None)
        attrs = {} if self.pyramid is None else self.pyramid.attrs
        return display_channels(names or ("value",), pixels, valid, attrs)

    def times(self) -> list[str]:
        """Return the name of each frame: its date, its second or its position."""
        if self.pyramid is None:
            frames = [self.source.frame(gid) for gid in self.gids]
            return [str(f.time)[:19].replace("T", " ") if f.time is not None else f"frame {f.index}" for f in frames]
        times = self.pyramid.times or ()
        return [f"{time:.3f} s" for time in times] or [f"frame {k}" for k in range(self.frames)]

    def about(self) -> dict[str, Any]:
        """Return what the page needs to know of it."""
        height, width = self.size
        size = None if self.pyramid is None else self.pyramid.pixel_size
        return {
            "name": self.name,
            "height": height,
            "width": width,
            "tile": TILE,
            "times": self.times() if self.frames > 1 else [],
            "planes": self.planes,
            "kind": self.kind,
            "dtype": str(self._sampled[2]),
            "pixelSize": None if size is None else str(size),
            "georeference": self._georeference(),
            "channels": [channel.as_json() for channel in self.channels],
        }

    def _georeference(self) -> dict[str, Any] | None:
        """Return the reference system and the transform of native pixels, if rows and columns run along its axes."""
        found = None
        if self.pyramid is not None:
            found = self.pyramid.georeference
        elif self.source.covered_size(self.gids[0]) is not None:
            frame = self.frame(0)
            if "gid" in self.target or np.array_equal(frame.to_video, IDENTITY):
                found = self.source.open_asset(frame.assets[0]).georeference
        return {"crs": found.crs.name, "transform": found.transform} if found is not None and found.upright else None

    # Targets, and what they load.

    def _framed(self, t: int) -> dict[str, Any]:
        """Return the target of a frame."""
        if "vidid" in self.target:
            return {**self.target, "time_slice": slice(t, t + 1)}
        timed = self.pyramid is not None and "t" in self.pyramid.dims
        return {**self.target, "t": slice(t, t + 1)} if timed else dict(self.target)

    def window(
        self, at: Position, y: Interval, x: Interval, k: int = 0, channels: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Return the target of a window of native pixels, on level k; all channels if None."""
        axes, names, _ = self._sampled
        target = self._framed(at.t) | {"y": slice(*y), "x": slice(*x)}
        if "z" in axes:
            target["z"] = slice(at.z, at.z + 1)
        asked = names if channels is None or not names else tuple(names[c] for c in channels)
        if len(asked) < len(names) or "vidid" in target:  # a frame may lack channels that others have
            target["channels"] = "|".join(asked)
        return target | ({"scale": 1 / (1 << k)} if k else {})

    def read(
        self, k: int, rows: Interval, columns: Interval, at: Position, channels: Sequence[int] | None
    ) -> tuple[Array, Array | None]:
        """
        Return pixels of level k, axes (c, y, x), and which are real, axes (y, x); None if all of them are.

        `rows` and `columns` are half-open intervals in pixels of the level.
        """
        y, x = (rows[0] << k, rows[1] << k), (columns[0] << k, columns[1] << k)
        sample = load_sample(self.source, self.window(at, y, x, k, channels), {}, NO_ANNOTATIONS)
        pixels = sample["image"].values
        valid = sample["valid"].values if "valid" in sample else None
        shape = pixels.shape[-2:]
        return pixels.reshape(-1, *shape), None if valid is None else np.asarray(valid.reshape(-1, *shape).any(axis=0))

    def rendered(self, pixels: Array, valid: Array | None, displays: Sequence[Display]) -> Array:
        """Return a picture of what `read` returns, one channel for each of `displays`; see `render.rendered`."""
        if self.kind == "labels":
            return rendered_labels(pixels, valid, {} if self.pyramid is None else self.pyramid.attrs)
        return rendered(pixels, valid, displays)

    def tile(
        self, k: int, row: int, column: int, at: Position, channels: Sequence[int]
    ) -> tuple[Array, Array | None] | None:
        """Return what `read` returns for a tile of level k; None if there is no such tile."""
        height, width = (-(-n >> k) for n in self.size)
        rows, columns = ((n * TILE, min((n + 1) * TILE, end)) for n, end in ((row, height), (column, width)))
        if rows[0] >= rows[1] or columns[0] >= columns[1]:
            return None
        return self.read(k, rows, columns, at, channels)

    def call(self, at: Position, y: Interval, x: Interval, k: int, channels: Sequence[int] | None) -> str:
        """Return the Python expression that loads a window."""
        target = self.window(at, y, x, k, channels)
        if self.pyramid is None:
            return f"{opening(self.source)}.load_sample({_text(target)})"
        del target["key"]
        if "channels" in target:
            target["c"] = target.pop("channels").split("|")
        keys = ", ".join(f"{name}={_text(value)}" for name, value in target.items())
        return f"ndzarr.open({self.pyramid.path!r}).window({keys})"


def opening(source: Source) -> str:
    """Return the Python expression that opens a dataset; `sampler` for one that is in memory only."""
    path = file_of(source.dset)
    if path is None:
        return "sampler"
    root = source.library.root
    workdir = "" if root == cache_root() else f", workdir={str(root)!r}"
    return f"ndzarr.CocoSampler({path!r}{workdir})"


def _text(value: Any) -> str:
    if isinstance(value, slice):
        return f"slice({value.start}, {value.stop})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_text(v)}" for key, v in value.items()) + "}"
    return repr(value)


def items_of(source: Source) -> Iterator[Item]:
    """Yield the videos of a dataset, and its images that are in none; or the named sources."""
    if isinstance(source, NamedSource):
        yield from (item_of(source, key) for key in source.sources)
        return
    index = source.dset.index
    yield from (item_of(source, gids[0]) for gids in index.vidid_to_gids.values() if gids)
    yield from (item_of(source, gid) for gid, image in index.imgs.items() if image.get("video_id") not in index.videos)


def item_of(source: Source, gid: Any) -> Item:
    """Return the video of an image of a dataset, or the image if it is in none; or a named source."""
    if isinstance(source, NamedSource):
        return Item(source, {"key": gid}, os.path.basename(str(gid)) or str(gid))
    index = source.dset.index
    image = index.imgs[gid]
    vidid = image.get("video_id")
    if vidid in index.videos:
        return Item(source, {"vidid": vidid}, str(index.videos[vidid].get("name", f"video {vidid}")))
    name = image.get("name") or os.path.basename(image.get("file_name") or "") or f"image {gid}"
    return Item(source, {"gid": gid}, str(name))
