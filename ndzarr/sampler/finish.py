"""What becomes of pixels that are not real: outside the data, of channels that a frame lacks, without data?

1. `nodata='float'` makes what is missing in the data NaN, 'fill' the fill value; otherwise stored values stay.
2. What lies outside the sampled space holds the fill value; a padding mode of numpy.pad other than 'constant'
   continues what lies inside, in y, x, z and t.
3. The dtype asked for is applied last.  `valid` says where pixels are real, whatever was put in their place.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.geometry.resample import rounded
from ndzarr.sampler.scene import Scene


def finish(
    scene: Scene, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, dtype: np.dtype[Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """
    Fill in what is missing.

    Parameters
    ----------
    image, valid
        Axes (t, c, [z,] y, x); valid is None where all pixels are real.
    dtype
        Of the result.

    Returns
    -------
    (image, valid), valid without c where all channels agree.
    """
    if scene.nodata is not None:
        valid = _without_nan(scene, image, valid)
    if valid is not None and not valid.all():
        if scene.nodata is not None:
            image = _filled(scene, image, valid, dtype)
        if scene.padding.mode != "constant":
            image = _continued(scene, image)
    return _as_type(image, dtype), compact(valid)


def compact(valid: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any] | None:
    """A mask (t, c, [z,] y, x) without c where all channels agree."""
    if valid is None:
        return None
    agree = valid.shape[1] == 1 or bool((valid == valid[:, :1]).all())
    return valid[:, 0] if agree else valid


def _without_nan(
    scene: Scene, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None
) -> np.ndarray[Any, Any] | None:
    """Where pixels hold data, once the target asks for that: NaN never does."""
    if image.dtype.kind in "fc" and image.size and np.isnan(image.min()):  # min propagates NaN
        return np.asarray(~np.isnan(image) if valid is None else valid & ~np.isnan(image))
    return np.ones((len(image), 1, *image.shape[2:]), bool) if valid is None and scene.nodata == "ma" else valid


def _filled(
    scene: Scene, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any], dtype: np.dtype[Any]
) -> np.ndarray[Any, Any]:
    nodata, fill = scene.nodata, scene.padding.fill
    if nodata == "auto":
        nodata = "float" if image.dtype.kind in "fc" else "ma"
    missing = np.broadcast_to(~valid, image.shape)
    if nodata == "float":
        image = image.astype(dtype if dtype.kind in "fc" else np.dtype("f8"), copy=False)
        image[missing] = np.nan
        if fill is not None:
            image[missing & ~_in_space(scene, image.shape)] = fill
    elif nodata == "fill":
        image[missing] = 0 if fill is None else fill
    return image


def _as_type(image: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The image in the type asked for: rounded, and limited to what that can hold."""
    if image.dtype == dtype:
        return image
    if image.dtype.kind == "c" and dtype.kind != "c":
        raise TargetError(
            f"dtype={dtype} has no imaginary part, and the image is {image.dtype}; take .real or abs of it"
        )
    if dtype.kind not in "iu" or np.can_cast(image.dtype, dtype):
        return image.astype(dtype)
    if image.dtype.kind == "f" and np.isnan(image.min(initial=0)):
        raise TargetError(f"dtype={dtype} has no NaN, and there is some; give padkw constant_values, or another dtype")
    limits = np.iinfo(dtype)
    if image.dtype.kind in "iu":
        low, high = max(limits.min, np.iinfo(image.dtype).min), min(limits.max, np.iinfo(image.dtype).max)
        return np.asarray(np.clip(image, low, high), dtype)
    return rounded(image, dtype)


def _in_space(scene: Scene, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """True within the sampled space, whether or not there is data; shape (t, c, [z,] y, x)."""
    inside = np.zeros(shape, bool)
    inside[_interior(scene, shape)] = True
    return inside


def _interior(scene: Scene, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """What of a sample, shape (t, c, [z,] y, x), lies in the sampled space at least in part."""
    real = [k for k, f in enumerate(scene.frames) if f.gid is not None]
    spans = [slice(real[0], real[-1] + 1), slice(0, shape[1])]
    if scene.planes is not None:
        spans.append(scene.planes.target)
    for (start, _), n, pitch, length in zip((scene.y, scene.x), scene.n, scene.pitch, scene.space, strict=True):
        first = min(n, max(0, floor(-start / pitch + 1e-6)))
        spans.append(slice(first, max(first, min(n, ceil((length - start) / pitch - 1e-6)))))
    return tuple(spans)


def _continued(scene: Scene, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The sample with its padding made from what lies inside."""
    inside = _interior(scene, image.shape)
    if any(s.start >= s.stop for s in inside):
        raise TargetError(
            f"padkw mode {scene.padding.mode!r}: the window lies wholly outside, there is nothing to continue"
        )
    widths = [(s.start, n - s.stop) for s, n in zip(inside, image.shape, strict=True)]
    if not any(map(any, widths)):
        return image
    options = dict(scene.padding.options)
    try:
        return np.pad(image[inside], widths, mode=scene.padding.mode, **options)  # type: ignore[call-overload,no-any-return]
    except (ValueError, TypeError) as error:
        raise TargetError(f"padkw={options!r}: {error}") from error
