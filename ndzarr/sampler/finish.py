"""What becomes of pixels that are not real: outside the data, of channels that a frame lacks, without data?

1. A padding mode of numpy.pad other than 'constant' continues what lies inside the sampled space, in y, x and t.
2. `nodata='float'` makes everything that is not valid NaN, 'fill' the fill value; otherwise stored values stay.
3. The dtype asked for is applied last.  `valid` says where pixels are real, whatever was put in their place.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.sampler.scene import Scene


def finish(
    scene: Scene, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, dtype: np.dtype[Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """
    Fill in what is missing.

    Parameters
    ----------
    image, valid
        Axes (t, c, y, x); valid is None where all pixels are real.
    dtype
        Of the result.

    Returns
    -------
    (image, valid), valid without c where all channels agree.
    """
    if valid is None:
        if scene.nodata == "ma":
            valid = np.ones((len(image), *scene.n), bool)
        return image.astype(dtype, copy=False), valid
    if scene.padding.mode != "constant":
        image = _continued(scene, image)
    image = _without_nodata(scene, image, valid, dtype)
    if image.dtype != dtype:
        image = image.astype(dtype)
    agree = valid.shape[1] == 1 or bool((valid == valid[:, :1]).all())
    return image, valid[:, 0] if agree else valid


def _without_nodata(
    scene: Scene, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any], dtype: np.dtype[Any]
) -> np.ndarray[Any, Any]:
    nodata = scene.nodata
    if nodata == "auto":
        nodata = "float" if image.dtype.kind == "f" else "ma"
    fill = scene.padding.fill
    if nodata == "float":
        kind = dtype if dtype.kind in "fc" else np.dtype("f8")
        image = image.astype(kind)
        kept = valid | ~_in_space(scene, valid.shape) if scene.padding.mode != "constant" else valid
        image[~kept] = np.nan if fill is None else fill
    elif nodata == "fill" or (fill is not None and np.isnan(fill)):
        image = image.astype(np.result_type(image.dtype, dtype), copy=False)
        image[~valid] = 0 if fill is None else fill
    return image


def _in_space(scene: Scene, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """True within the sampled space, where padding modes put nothing; shape (t, c, y, x)."""
    inside = np.zeros(shape, bool)
    t, y, x = _interior(scene)
    inside[t, :, y, x] = True
    return inside


def _interior(scene: Scene) -> tuple[slice, slice, slice]:
    """Frames, rows and columns of the sample that lie in the sampled space at least in part."""
    real = [k for k, f in enumerate(scene.frames) if f.gid is not None]
    spans = [slice(real[0], real[-1] + 1)]
    for (start, _), n, pitch, length in zip((scene.y, scene.x), scene.n, scene.pitch, scene.space, strict=True):
        first = min(n, max(0, floor(-start / pitch + 1e-6)))
        spans.append(slice(first, max(first, min(n, ceil((length - start) / pitch - 1e-6)))))
    return spans[0], spans[1], spans[2]


def _continued(scene: Scene, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The sample with its padding made from what lies inside."""
    inside = _interior(scene)
    if any(s.start >= s.stop for s in inside):
        raise TargetError(
            f"padkw mode {scene.padding.mode!r}: the window lies wholly outside, there is nothing to continue"
        )
    t, y, x = inside
    widths = [(s.start, n - s.stop) for s, n in zip(inside, (image.shape[0], *scene.n), strict=True)]
    options = dict(scene.padding.options)
    try:
        return np.pad(image[t, :, y, x], [widths[0], (0, 0), *widths[1:]], mode=scene.padding.mode, **options)  # type: ignore[call-overload,no-any-return]
    except (ValueError, TypeError) as error:
        raise TargetError(f"padkw={options!r}: {error}") from error
