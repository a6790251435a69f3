"""How is every asset returned at its own resolution?

A sample is then ragged: a DataTree with one child per frame and asset, named `frame/channels`, each a Dataset of the
same window; where several assets have the same channels, those after the first are numbered, `0/r|g 2`.
`realign_native='largest'` gives them all the size of the finest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.channels import asked_of, names_in
from ndzarr._sampling.compose import Composition, compose, read_lazily
from ndzarr._sampling.compose import read_compositions as read
from ndzarr._sampling.resolve import locate as located
from ndzarr._sampling.sample import label_sample as label
from ndzarr._sampling.scene import Asset, Frame, Scene
from ndzarr._sampling.target import Target
from ndzarr.errors import TargetError

if TYPE_CHECKING:
    from ndzarr.coco_sampler import CocoSampler


@dataclass(frozen=True, slots=True)
class Part:
    """One asset of one frame."""

    path: str
    """Of its child in the tree: `frame/channels`."""
    composition: Composition
    """Everything that is read of it."""


def load_native(
    sampler: CocoSampler, given: Mapping[str, Any], target: Target, scene: Scene, lookup: Lookup
) -> xarray.DataTree:
    """
    One child per frame and asset; all are read by one plan.

    Raises
    ------
    TargetError
        No asset has a channel that was asked for.
    """
    found = native_parts(sampler, target, scene)
    compositions = [part.composition for part in found]
    pixels = [read_lazily(c) for c in compositions] if target.lazy else read(compositions)
    children: dict[str, Any] = {}
    for part, (image, valid) in zip(found, pixels, strict=True):
        made = part.composition
        context = sampler.context(given, target, made.scene, lookup)
        children[part.path] = label(context, made.channels, image, valid, located(made))
    return xarray.DataTree.from_dict(children)


def native_parts(sampler: CocoSampler, target: Target, scene: Scene) -> list[Part]:
    """What is read of each frame and asset; raises what `load_native` does."""
    own = [
        (t, frame, asset, names)
        for t, frame in enumerate(scene.frames)
        for asset in frame.assets
        if (names := _names(sampler, asset, asked_of(scene.channels, frame)))
    ]
    if not own:
        sampler.compose(scene)  # says what is unknown, if something is
        raise TargetError("none of the frames has any of the channels asked for, so there is nothing to return")
    sizes = [_native_size(scene, frame, asset, target.scale) for _, frame, asset, _ in own]
    if target.native == "largest":
        sizes = [(max(h for h, _ in sizes), max(w for _, w in sizes))] * len(sizes)
    times: Counter[str] = Counter()
    found = []
    for (t, frame, asset, names), n in zip(own, sizes, strict=True):
        path = f"{t}/{'|'.join(names).replace('/', '_')}"
        times[path] += 1
        if times[path] > 1:  # another asset of the same channels
            path += f" {times[path]}"
        found.append(Part(path, compose(_alone(scene, frame, asset, n, names), sampler._source)))
    return found


def _names(sampler: CocoSampler, asset: Asset, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    have = asset.channels or names_in(sampler._source.open_asset(asset))
    return have if wanted is None else tuple(name for name in wanted if name in have)


def _alone(scene: Scene, frame: Frame, asset: Asset, n: tuple[int, int], names: tuple[str, ...]) -> Scene:
    return replace(scene.of_asset(frame, asset, n), channels=tuple(("*", name) for name in names))


def _native_size(scene: Scene, frame: Frame, asset: Asset, scale: tuple[float, float]) -> tuple[int, int]:
    """Output pixels along (y, x) so that one is one pixel of the asset, times the scale."""
    to_space = frame.to_video @ asset.to_image if scene.video else asset.to_image
    sx, sy = np.linalg.norm(to_space[:2, 0]), np.linalg.norm(to_space[:2, 1])
    height, width = scene.y[1] - scene.y[0], scene.x[1] - scene.x[0]
    return max(1, round(height / sy * scale[1])), max(1, round(width / sx * scale[0]))
