"""A sampler whose dataset is made up, and whose images are painted in memory when a target first touches them.

Every key of targets, every method and every label is that of real datasets.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np

from ndzarr._executors import Scheduler
from ndzarr._indexing.selection import Selection
from ndzarr._library.library import Library
from ndzarr._pyramid.levels import Level
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.coco_dataset import CocoSource, coerce
from ndzarr._sampling.scene import Asset
from ndzarr._store.downsample import reducer
from ndzarr.coco_sampler import CocoSampler
from ndzarr.errors import OptionError, did_you_mean
from ndzarr.toydata.dataset import Records
from ndzarr.toydata.world import BANDS, Pixels, World, drifts, exposed, picture_size

KEPT = 16
"""Number of images that a sampler keeps in memory."""
_CHUNK = 256
"""Side of what plans count as a chunk, in pixels."""
_NAME = "toy-{}"
"""Name of the file of an image, by its gid."""


@dataclass(frozen=True, eq=False)
class MemoryArray:
    """The array of a level that is in memory."""

    name: str
    pixels: np.ndarray[tuple[int, ...], np.dtype[Any]]
    engine: str = "made on the fly, in memory"
    chunked: Literal[False] = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.pixels.shape

    @property
    def chunks(self) -> tuple[int, ...]:
        """Length of a chunk along each axis."""
        return tuple(n if k < self.pixels.ndim - 2 else min(n, _CHUNK) for k, n in enumerate(self.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples."""
        return self.pixels.dtype

    def encoded_size(self, chunk: tuple[int, ...]) -> None:
        """Return None: nothing is encoded."""

    def read(self, selections: Sequence[Selection]) -> list[np.ndarray[Any, Any]]:
        """Return copies of the pixels of each selection."""
        found = []
        for selection in selections:
            out = self.pixels
            for axis, wanted in enumerate(selection):
                out = out[(slice(None),) * axis + (wanted if isinstance(wanted, slice) else list(wanted),)]
            found.append(out.copy())
        return found


def in_memory(
    name: str, pixels: np.ndarray[Any, Any], channels: tuple[str, ...], reopen: Callable[[str, int], Pyramid]
) -> Pyramid:
    """Build the pyramid of an array (c, y, x); `reopen` builds it again from its name, after pickling."""
    halve = reducer(pixels.dtype, "intensity")
    arrays = [pixels]
    while max(arrays[-1].shape[-2:]) > _CHUNK:
        arrays.append(halve(arrays[-1], len(arrays)))
    levels = [Level(MemoryArray(f"{name}/{k}", a), (1.0, 2.0**k, 2.0**k)) for k, a in enumerate(arrays)]
    return Pyramid(name, ("c", "y", "x"), tuple(levels), channels, {}, 0, reopen)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The parameters of a `ToySampler`, from which all data follow."""

    n: int
    size: tuple[int, int]
    frames: int
    things: int
    channels: str
    depth: int
    seed: int

    def __post_init__(self) -> None:
        for band in self.channels.split("|"):
            if band not in BANDS:
                message = f"channels={self.channels!r}: there is no {band!r}{did_you_mean(band, BANDS)}"
                raise OptionError(message, key="channels")
        if self.depth not in (8, 16):
            raise OptionError(f"depth={self.depth!r}: pixels have 8 or 16 bits", key="depth")
        for name in ("n", "frames", "things", "seed"):
            if not isinstance(value := getattr(self, name), int) or value < 0:
                raise OptionError(f"{name}={value!r}: expected a whole number, 0 or more", key=name)

    def world(self, number: int) -> World:
        """Return what image or video `number`, from 0, shows."""
        return World.make(*self.size, self.things, (self.seed, number), moving=self.frames > 0)

    def records(self) -> Records:
        """Return the dataset."""
        records = Records({"ndzarr.toy": "on the fly", **asdict(self)})
        for k in range(self.n):
            world = self.world(k)
            if not self.frames:
                gid = len(records.images) + 1
                records.add_image(world, f"image-{gid}", file_name=_NAME.format(gid), channels=self.channels)
                continue
            video = records.add_video(world, f"video-{k + 1}")
            for t, drift in enumerate(drifts(world.seed, self.frames)):
                file = _NAME.format(len(records.images) + 1)
                records.add_frame(world, video, t, drift, file_name=file, channels=self.channels)
        return records

    def pixels(self, gid: int) -> np.ndarray[Any, Any]:
        """Paint an image; shape (c, y, x)."""
        number, frame = divmod(gid - 1, max(self.frames, 1))
        world, ground = _painted(self, number)
        drift = drifts(world.seed, self.frames)[frame] if self.frames else (0.0, 0.0)
        rng = np.random.default_rng([*world.seed, 4, frame])
        image = exposed(world.picture(ground, frame, drift), rng, self.depth)
        bands = [BANDS.index(band) for band in self.channels.split("|")]
        return np.ascontiguousarray(image[..., bands].transpose(2, 0, 1))


@lru_cache(maxsize=2)
def _painted(recipe: Recipe, number: int) -> tuple[World, Pixels]:
    """Return a world and its ground, which all frames of a video share."""
    world = recipe.world(number)
    return world, world.land.paint()


class ToySampler(CocoSampler):
    """
    Windows of made-up images and videos, with their annotations.

    Images `gid` 1 to n, or videos `vidid` 1 to n, follow from the seed alone, and nothing is written.  Everything else
    is as in `CocoSampler`.

    Parameters
    ----------
    n
        Number of images, or of videos.
    size
        (height, width) of an image, in pixels.
    frames
        Number of frames of each video; 0 makes images.
    things
        Maximum number of annotations of an image.
    channels
        Some of r, g, b and nir.
    depth
        Bits per sample: 8 (uint8) or 16 (uint16, reflectance times 10000).
    seed
        The same seed makes the same data.

    Raises
    ------
    OptionError
        An option is not understood.

    Examples
    --------
    >>> from ndzarr.toydata import ToySampler
    >>> sampler = ToySampler(n=5, size=(200, 300), seed=1)
    >>> sample = sampler.load_sample(gid=3, cx=150, cy=100, width=64, height=64)
    >>> sample.image.shape, sample.image.dtype
    ((3, 64, 64), dtype('uint8'))
    >>> film = ToySampler(n=1, size=(96, 96), frames=4).load_sample(vidid=1, scale=0.5)
    >>> dict(film.image.sizes)
    {'t': 4, 'c': 3, 'y': 48, 'x': 48}
    """

    def __init__(
        self,
        n: int = 100,
        size: tuple[int, int] = (256, 256),
        *,
        frames: int = 0,
        things: int = 8,
        channels: str = "r|g|b",
        depth: int = 8,
        seed: int = 0,
    ) -> None:
        self.recipe = Recipe(n, picture_size(size), frames, things, channels, depth, seed)
        self._source = _ToySource(self.recipe)

    def __repr__(self) -> str:
        r, index = self.recipe, self.dset.index
        what = f"{r.n} videos of {r.frames} frames" if r.frames else f"{r.n} images"
        size = f"{r.size[0]} x {r.size[1]}"
        return f"<ndzarr.toydata.ToySampler: {what}, {size}, {len(index.anns)} annotations, seed {r.seed}>"

    def __reduce__(self) -> tuple[Any, ...]:
        r = self.recipe
        rest = partial(ToySampler, frames=r.frames, things=r.things, channels=r.channels, depth=r.depth, seed=r.seed)
        return rest, (r.n, r.size)


class _ToySource(CocoSource):
    """The dataset of a recipe, whose images are painted instead of opened."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(coerce(recipe.records().content()), Library(os.curdir))
        self._recipe = recipe
        self._pyramids: OrderedDict[int, Pyramid] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._recipe,)

    def prepare(self, progress: bool = False, workers: int | None = None, scheduler: Scheduler = "threads") -> None:
        """Do nothing: images are painted when they are touched."""

    def open_asset(self, asset: Asset) -> Pyramid:
        """Return an image, painted now unless it is among the last `KEPT`."""
        gid = int(os.path.basename(asset.path).rpartition("-")[2])
        if gid not in self._pyramids:
            self._pyramids[gid] = painted(self._recipe, _NAME.format(gid))
        self._pyramids.move_to_end(gid)
        while len(self._pyramids) > KEPT:
            self._pyramids.popitem(last=False)
        return self._pyramids[gid]


def painted(recipe: Recipe, name: str, cache_bytes: int = 0) -> Pyramid:
    """Return the pyramid of an image by its name; pixels in memory need no cache."""
    pixels = recipe.pixels(int(name.rpartition("-")[2]))
    return in_memory(name, pixels, tuple(recipe.channels.split("|")), partial(painted, recipe))
