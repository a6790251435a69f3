"""Where are windows of one size that hold enough real data?

1. In each image, the real fraction of the window at every position that the pixels of a coarse level allow (and at the
   far borders) comes from the summed-area table of its mask, all at once.
2. Windows are drawn from all positions of all images that have enough, each as likely as any other, and none twice
   while there are others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.sampler import values
from ndzarr.targets.bar import bar
from ndzarr.targets.options import portion, whole
from ndzarr.targets.spaces import spaces_of
from ndzarr.targets.valid import Observable, observe

if TYPE_CHECKING:
    import pandas

    from ndzarr.sampler.coco import CocoSampler

MAX_POSITIONS = 1 << 20
"""Positions of a window that are looked at per image, about."""


def observed(
    sampler: CocoSampler,
    n: int,
    window_dims: tuple[int, int],
    min_fraction: float = 0.9,
    channels: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> pandas.DataFrame:
    """
    Draw windows of which at least a fraction is real data, from all images.

    Parameters
    ----------
    n
        How many.
    window_dims
        (height, width) in image space; windows lie wholly in their image.
    min_fraction
        From 0 to 1.
    channels
        Those that must all be real; None for all of the image.
    seed
        The same one gives the same table.

    Returns
    -------
    A table with gid, cx, cy, width, height and valid_fraction.

    Raises
    ------
    TargetError
        No image has such a window.
    """
    import pandas

    n, min_fraction = whole("n", n, least=0), portion("min_fraction", min_fraction)
    dims = values.window_dims(window_dims)
    if not isinstance(dims, tuple):
        raise TargetError(f"window_dims={window_dims!r}: expected (height, width)")
    height, width = (whole("window_dims", length) for length in dims)
    spaces = spaces_of(sampler, "image")
    parts = []
    with bar(len(spaces), "valid regions", "image", progress) as advance:
        for k in range(len(spaces)):
            size = int(spaces.height[k]), int(spaces.width[k])
            if size[0] >= height and size[1] >= width:
                mask = observe(sampler, spaces.frames[k][0], False, Observable(channels, None, MAX_POSITIONS))
                step = max(1, int(np.ceil(np.sqrt(size[0] * size[1] / MAX_POSITIONS))))
                y, x = _positions(size[0] - height, step), _positions(size[1] - width, step)
                y0, x0 = (v.ravel() for v in np.meshgrid(y, x, indexing="ij"))
                found = mask.fraction(np.stack([y0, y0 + height], 1), np.stack([x0, x0 + width], 1))
                keep = np.flatnonzero(found >= min_fraction)
                parts.append((np.full(len(keep), k), y0[keep], x0[keep], found[keep]))
            advance()
    total = sum(len(p[0]) for p in parts)
    if not total and n:
        raise TargetError(
            f"no image has a window of {height} x {width} of which {min_fraction:g} is real data; ask for less"
        )
    image, y0, x0, fraction = (np.concatenate(c) for c in zip(*parts, strict=True)) if parts else [np.empty(0, int)] * 4
    chosen = _draw(total, n, seed)
    return pandas.DataFrame(
        {
            "gid": spaces.ids[image[chosen]],
            "cx": x0[chosen] + width / 2,
            "cy": y0[chosen] + height / 2,
            "width": width,
            "height": height,
            "valid_fraction": fraction[chosen],
        }
    )


def _positions(room: int, step: int) -> np.ndarray[Any, Any]:
    """Where a window may begin along one axis; the last one ends at the border."""
    return np.unique(np.r_[np.arange(0, room + 1, step), room])


def _draw(total: int, n: int, seed: int) -> np.ndarray[Any, Any]:
    """Positions in a random order, each once before any is there twice."""
    rng = np.random.default_rng(seed)
    if n <= total:
        return rng.choice(total, n, replace=False, shuffle=True)
    whole = [rng.permutation(total) for _ in range(n // max(total, 1))]
    return np.concatenate([*whole, rng.choice(total, n - total * len(whole), replace=False)])
