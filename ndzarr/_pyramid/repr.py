"""Text and HTML representations of a pyramid, with a thumbnail."""

from __future__ import annotations

import base64
import html as escaping
import io
import os
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._pyramid.levels import Multiscale, read_window
from ndzarr._store.arrays import ChunkArray
from ndzarr._store.codecs import ANYONE
from ndzarr._store.remote import RemoteArray
from ndzarr._store.validity import Nodata

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 192
"""Longest side of the thumbnail in a notebook, in pixels."""
MOST_PIXELS = 1 << 22
"""Most pixels of the level that a thumbnail is made of: more would take a noticeable time."""


def text_repr(pyramid: Multiscale) -> str:
    """Return a summary with one line per level."""
    size = ", ".join(f"{d}: {n}" for d, n in pyramid.sizes.items())
    lines = [f"<ndzarr.Pyramid {os.path.basename(pyramid.path)!r} ({size}) {pyramid.dtype}>"]
    if names := pyramid.channels:
        listed = " ".join(names) if len(names) <= 12 else f"{' '.join(names[:10])} ... {names[-1]} ({len(names)})"
        lines.append(f"  {'channels':<9}{listed}")
    if pyramid.kind != "intensity":
        lines.append(f"  {'kind':<9}{pyramid.kind}")
    if pyramid.nodata is not None:
        lines.append(f"  {'nodata':<9}{nodata_text(pyramid.nodata, names)}")
    if pyramid.validity.masked:
        lines.append(f"  {'mask':<9}tells which pixels are real")
    if pyramid.pixel_size is not None:
        lines.append(f"  {'pixel':<9}{pyramid.pixel_size}")
    for k, level in enumerate(pyramid.levels):
        shape, chunks = (" x ".join(map(str, lengths)) for lengths in (level.shape, level.chunks))
        lines.append(f"  {f'level {k}':<9}{shape}, in chunks of {chunks}")
    array = pyramid.levels[0].array
    if isinstance(array, ChunkArray | RemoteArray) and array.codec.readers != ANYONE:
        lines.append(f"  {'readers':<9}{array.codec.readers}")
    lines.append(f"  {'path':<9}{pyramid.path}")
    return "\n".join(lines)


def nodata_text(nodata: Nodata, channels: Sequence[str]) -> str:
    """Return the values that mark missing data as a person reads them."""
    if not isinstance(nodata, tuple):
        return "none" if nodata is None else f"{nodata:g}"
    return ", ".join(f"{name}: {nodata_text(v, ())}" for name, v in zip(channels, nodata, strict=True))


def html_repr(pyramid: Multiscale) -> str:
    """Return the summary as a table, beside a thumbnail."""
    rows = [line.strip().split(None, 2) for line in text_repr(pyramid).splitlines()[1:]]
    cells = "".join(
        f"<tr><th align='left'>{escaping.escape(' '.join(r[:-1]))}</th><td>{escaping.escape(r[-1])}</td></tr>"
        for r in ([f"{a} {b}", c[0]] if a == "level" and c else [a, " ".join([b, *c])] for a, b, *c in rows)
    )
    title = escaping.escape(text_repr(pyramid).splitlines()[0])
    return f"<div><b>{title}</b><div style='display:flex;gap:1em'>{_picture(pyramid)}<table>{cells}</table></div></div>"


def _picture(pyramid: Multiscale) -> str:
    if pyramid.dims[-2:] != ("y", "x") or quick_level(pyramid) is None:
        return ""
    from PIL import Image as images

    return html_image(images.fromarray(thumbnail(pyramid)))


def quick_level(pyramid: Multiscale) -> int | None:
    """Return the coarsest level that need not be made first; None if it is large, or empty."""
    k = max(k for k, level in enumerate(pyramid.levels) if getattr(level.array, "made", True))
    return k if 0 < prod(pyramid.levels[k].shape[-2:]) <= MOST_PIXELS and 0 not in pyramid.shape else None


def html_image(picture: Image) -> str:
    """Return an image of Pillow as an element of a page."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    return f"<img style='image-rendering:pixelated' src='data:image/png;base64,{png}'>"


def thumbnail(pyramid: Multiscale) -> np.ndarray[Any, Any]:
    """Return the level `quick_level`, first frame and plane, as uint8 with axes (y, x, rgb)."""
    level = quick_level(pyramid)
    assert level is not None
    shape = pyramid.levels[level].shape
    step = max(1, -(-max(shape[-2:]) // THUMBNAIL))
    window: dict[str, Any] = {d: slice(0, 1) for d in pyramid.dims[:-2] if d != "c"}
    if "c" in pyramid.dims:
        window["c"] = slice(0, 3 if len(pyramid.channels) >= 3 else 1)
    window |= {"y": slice(0, shape[-2], step), "x": slice(0, shape[-1], step)}
    pixels = read_window(pyramid, level, window)
    return displayable(pixels.reshape(-1, *pixels.shape[-2:]), pyramid.kind)


def displayable(
    pixels: np.ndarray[Any, Any], kind: str = "intensity", stretch: tuple[float, float] | None = None
) -> np.ndarray[Any, Any]:
    """
    Return pixels with axes (c, y, x) as an image for the screen: uint8 with axes (y, x, rgb).

    The first three channels are shown, or the first one in grey.  uint8 stays as it is; other types are stretched
    between their 1st and 99th percentile.  `stretch` sets these percentiles, of each channel on its own, for all types.
    """
    shown: np.ndarray[Any, Any] = displayable_frames(pixels[None], stretch, kind)[0]
    return shown


def displayable_frames(
    frames: np.ndarray[Any, Any], stretch: tuple[float, float] | None = None, kind: str = "intensity"
) -> np.ndarray[Any, Any]:
    """Return frames (t, c, y, x) for the screen, (t, y, x, rgb), all stretched alike; see `displayable`."""
    shown = frames[:, :3] if frames.shape[1] >= 3 else np.repeat(frames[:, :1], 3, axis=1)
    if stretch is not None and kind != "labels":
        parts = [_stretched(shown[:, k], stretch) for k in range(3)]
        shown = np.stack(parts, 1)
    elif shown.dtype != np.uint8 or kind == "labels":
        shown = _stretched(shown, (0, 100) if kind == "labels" else (1, 99))
    return np.ascontiguousarray(np.moveaxis(shown, 1, -1))


def _stretched(pixels: np.ndarray[Any, Any], percentiles: tuple[float, float]) -> np.ndarray[Any, Any]:
    """Return pixels as uint8, from the lower percentile of the finite ones (0) to the upper one (255)."""
    real = (np.abs(pixels) if pixels.dtype.kind == "c" else pixels).astype(np.float64)
    finite = real[np.isfinite(real)]
    low, high = np.percentile(finite if finite.size else np.zeros(1), percentiles)
    with np.errstate(over="ignore"):  # the range may exceed float64
        part = (np.clip(np.nan_to_num(real, nan=low), low, high) - low) / max(high - low, 1e-300)
    shown: np.ndarray[Any, Any] = np.rint(part * 255).astype(np.uint8)
    return shown
