"""How are samples made on the fly?

A `ToySampler` is a `CocoSampler` whose dataset is made up and whose pyramids are painted in memory when a target first
touches them: every key of targets, every method and every label is that of real datasets.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr.errors import OptionError
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.sampler.coco import CocoSampler
from ndzarr.sampler.scene import Asset
from ndzarr.toy.camera import Film
from ndzarr.toy.land import BANDS
from ndzarr.toy.memory import in_memory
from ndzarr.toy.records import dataset_of, image_of
from ndzarr.toy.world import World, exposed

KEPT = 8
"""Images that are kept in memory."""


class ToySampler(CocoSampler):
    """
    Windows of images and videos that exist nowhere, with their annotations.

    Image `gid` (1 ... n), and frame after frame of video `vidid`, follow from the seed alone; nothing is written.
    Everything else is as in `CocoSampler`.

    Parameters
    ----------
    n
        Number of images, or of videos.
    size
        (height, width) of an image, in pixels.
    frames
        Of each video; 0 makes images.
    things
        Most annotations that an image has.
    channels
        Some of r, g, b and nir.
    depth
        Bits: 8 (uint8) or 16 (uint16, reflectance times 10000).
    seed
        The same seed makes the same data.

    Raises
    ------
    OptionError
        An option has no meaning.

    Examples
    --------
    >>> from ndzarr.toy import ToySampler
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
        bands = channels.split("|")
        if unknown := [band for band in bands if band not in BANDS]:
            raise OptionError(f"channels={channels!r}: {unknown[0]!r} is none of {', '.join(BANDS)}")
        if depth not in (8, 16) or n < 0 or frames < 0 or things < 0:
            raise OptionError(f"n={n}, frames={frames}, things={things}, depth={depth}: counts of 0 or more; 8 or 16 bits")
        self._recipe = {
            "n": n, "size": tuple(size), "frames": frames, "things": things, "channels": channels, "depth": depth,
            "seed": seed,
        }  # fmt: skip
        self._bands = tuple(BANDS.index(band) for band in bands)
        self._worlds = [World.make(*size, things, (seed, k), moving=frames > 0) for k in range(n)]
        self._films = [Film(max(frames, 1), (seed, k)) for k in range(n)]
        self._pyramids: OrderedDict[int, Pyramid] = OrderedDict()
        super().__init__(self._content(), workdir=Path())

    def _content(self) -> dict[str, Any]:
        frames = self._recipe["frames"]
        images, annotations = [], []
        for k, (world, film) in enumerate(zip(self._worlds, self._films, strict=True)):
            for t in range(max(frames, 1)):
                gid = len(images) + 1
                video = {"video_id": k + 1, "frame_index": t} if frames else {}
                record = {"id": gid, "file_name": f"toy-{gid}", "channels": self._recipe["channels"], **video}
                images.append({**image_of(world, f"toy-{gid}"), **record, **film.record(t)})
                annotations.append((gid, k, world.annotations(t, film.drift(t))))
        videos = [w.video(k + 1, f"toy-{k + 1}") for k, w in enumerate(self._worlds)] if frames else []
        return dataset_of(images, annotations, videos)
