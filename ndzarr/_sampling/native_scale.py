"""Every asset at its own resolution.

A sample is then ragged: a DataTree with one child per frame and asset, named `frame/channels`, each a Dataset of the
same window; where several assets have the same channels, those after the first are numbered, `0/r|g 2`.
`realign_native='largest'` gives them all the size of the finest.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from ndzarr._sampling.channels import asked_of
from ndzarr._sampling.compose import GRAY, SampleRequest, compose
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.scene import Asset, Frame, Scene
from ndzarr._sampling.target import Target
from ndzarr.errors import TargetError


def native_requests(source: SampleSource, target: Target) -> dict[str, SampleRequest]:
    """Return what is read of each frame and asset, by its path in the tree."""
    scene = resolve(target, source)
    own = [
        (t, frame, asset, names)
        for t, frame in enumerate(scene.frames)
        for asset in frame.assets
        if (names := _names(source, asset, asked_of(scene.channels, frame)))
    ]
    if not own:
        compose(scene, source)  # says what is unknown, if something is
        what = "none of the frames has any of the channels asked for, so there is nothing to return"
        raise TargetError(what, key="channels")
    sizes = [_native_size(scene, frame, asset, target.scale) for _, frame, asset, _ in own]
    if target.native == "largest":
        sizes = [(max(h for h, _ in sizes), max(w for _, w in sizes))] * len(sizes)
    times: Counter[str] = Counter()
    found = {}
    for (t, frame, asset, names), n in zip(own, sizes, strict=True):
        path = f"{t}/{'|'.join(names).replace('/', '_')}"
        times[path] += 1
        if times[path] > 1:  # another asset of the same channels
            path += f" {times[path]}"
        found[path] = compose(scene.of_asset(frame, asset, n, names), source)
    return found


def _names(source: SampleSource, asset: Asset, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    have = asset.channels or source.open_asset(asset).channels or GRAY
    if wanted is None:
        return () if asset.kind == "labels" else have
    return tuple(name for name in wanted if name in have)


def _native_size(scene: Scene, frame: Frame, asset: Asset, scale: tuple[float, float]) -> tuple[int, int]:
    """Output pixels along (y, x) so that one is one pixel of the asset, times the scale."""
    to_space = frame.to_video @ asset.to_image if scene.video else asset.to_image
    sx, sy = np.linalg.norm(to_space[:2, 0]), np.linalg.norm(to_space[:2, 1])
    height, width = scene.y[1] - scene.y[0], scene.x[1] - scene.x[0]
    return max(1, round(height / sy * scale[1])), max(1, round(width / sx * scale[0]))
