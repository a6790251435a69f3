"""Image files that are decoded whole or frame by frame, and those that Pillow decodes: JPEG, WebP, BMP, GIF.

1. Opening parses the header only, and refuses implausible sizes before anything is decoded.
2. A still image is decoded at the first read and kept.
3. An animation is walked once when it is opened, to learn the times of its frames and whether any is transparent.  Then
   each frame is decoded when it is read, and the last one is kept, as frames build on one another.

Pillow reads them with the plugin of the format that was recognised: `PIL.Image.open` would
try others, and has a limit of its own on the size of images.  imagecodecs decodes the other formats, and keeps their
depth.  It has no functions that read headers, so `png`, `jpeg2000` and `jpegxl` parse these.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._files import open_binary
from ndzarr._formats.base import Facts, Pixels, Region, Source, WholeSource, quiet_codecs, reason
from ndzarr._formats.colour import ALPHA, GRAY, RGB, InkMixer, describe_profile
from ndzarr._formats.options import Options
from ndzarr._formats.orientation import Orientation, choose_orientation, describe_orientation, find_orientation
from ndzarr._formats.sidecars import read_sidecar
from ndzarr.errors import OptionError, SourceError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),  # where indices of a palette are wanted
}
_CHANNELS = {"P": ("index",), "L": GRAY, "LA": (*GRAY, ALPHA), "RGB": RGB, "RGBA": (*RGB, ALPHA), "CMYK": RGB}
"""Names of channels per Pillow mode; CMYK is converted afterwards."""


def open_pillow(path: str, form: str, options: Options, tag: int | None = None) -> Source:
    """Open an image that Pillow decodes; `form` is a key of `_PLUGINS`, `tag` its orientation if that is known."""
    with _opened(path, form) as image:
        width, height = image.size
        options.check_pixels(path, height, width, whole=True)
        with decoding(path, form):
            frames = getattr(image, "n_frames", 1)
        tag = find_orientation(image.info) if tag is None else tag
        profile = image.info.get("icc_profile")
        about = {"format": form, **describe_profile(profile), **_notes(path, form)}
        indexed = options.palette == "indices" and image.mode == "P"
        if indexed:
            if frames > 1:
                found, hint = f"is an animation of {frames} frames", "Pass palette='colours'"
                raise OptionError(f"{path}: {found}, so it has no indices to keep", path=path, key="palette", hint=hint)
            mode, times = "P", None
            about |= {"colour": "palette, indices kept", "palette": _palette(image)}
        elif frames > 1:
            mode, times = _survey(path, form, image, frames)
        else:
            mode, times = _mode_of(image), None
            about["colour"] = mode if image.mode == mode else f"{image.mode} converted to {mode}"
    channels, dtype = _CHANNELS[mode], np.dtype(np.uint8)
    mixer = InkMixer(profile, dtype) if mode == "CMYK" else None
    if mixer is not None:
        about["colour"] = mixer.said
    stored = (*([frames] if frames > 1 else []), len(channels), height, width)
    facts, orientation = describe_image(path, options, stored, dtype, channels, about, tag, times)
    if indexed:
        facts = replace(facts, classes=True)
    if frames > 1:
        return AnimatedSource(facts, orientation, lambda: _frames(path, form, mode))
    return WholeSource(facts, orientation, lambda: _decode_pillow(path, form, mode, mixer))


def describe_image(
    path: str,
    options: Options,
    stored: tuple[int, ...],
    dtype: np.dtype[Any],
    channels: tuple[str, ...],
    about: dict[str, Any],
    tag: int = 1,
    times: Pixels | None = None,
) -> tuple[Facts, Orientation]:
    """Return the facts about an image, and its orientation; `stored` is its shape (c, y, x) or (t, c, y, x)."""
    height, width = stored[-2:]
    orientation = choose_orientation(path, tag, height, width, options)
    shape = *stored[:-2], *orientation.size(height, width)
    metadata = {**about, **describe_orientation(tag, orientation)}
    facts = Facts(
        name=path,
        dims=("t", "c", "y", "x")[-len(shape) :],
        shape=shape,
        dtype=dtype,
        channels=channels,
        band=shape[-2],
        times=times,
        metadata=metadata,
    )
    beside = read_sidecar(path)
    expanded = "palette" in about.get("colour", "") and len(channels) > 1
    facts = beside.add_to(facts, orientation.tag == 1, expanded)
    if not expanded:  # else the value would be that of an index
        nodata, notes = beside.values(dtype, len(channels))
        notes = [*facts.metadata.get("notes", ()), *notes]
        facts = replace(facts, nodata=nodata, metadata={**facts.metadata, **({"notes": notes} if notes else {})})
    return facts.settle(options), orientation


class AnimatedSource(Source):
    """An animation, decoded frame by frame."""

    def __init__(self, facts: Facts, orientation: Orientation, frames: Callable[[], Generator[Pixels]]) -> None:
        """`frames` decodes from the first frame on, and yields axes (c, y, x)."""
        super().__init__(facts, orientation)
        self._start = frames
        self._lock = threading.Lock()
        self._frames: Generator[Pixels] | None = None
        self._last: tuple[int, Pixels] | None = None

    def _pixels(self, region: Region) -> Pixels:
        with self._lock:
            parts = [self._frame(t)[region[1:]] for t in range(region[0].start, region[0].stop)]
        return parts[0][None] if len(parts) == 1 else np.stack(parts)

    def _frame(self, t: int) -> Pixels:
        last, self._last = self._last, None
        if last is None or self._frames is None or last[0] > t:  # frames build on one another
            self._stop()
            self._frames, last = self._start(), None
        at, pixels = (-1, None) if last is None else last
        while at < t or pixels is None:
            at, pixels = at + 1, next(self._frames)
        self._last = at, pixels
        return pixels

    def _stop(self) -> None:
        if self._frames is not None:
            self._frames.close()
        self._frames = self._last = None

    def _release(self) -> None:
        with self._lock:
            self._stop()


def _frames(path: str, form: str, mode: str) -> Generator[Pixels]:
    """Yield all frames of an animation in one Pillow mode."""
    with _opened(path, form) as image:
        for number in count():
            with decoding(path, form), _strictly():
                image.seek(number)
                image.load()
            yield _planes(image, mode)


def _palette(image: ImageFile) -> list[list[int]]:
    """Return (r, g, b) of each index of an opened image, or (r, g, b, a) if one is transparent, from 0 to 255."""
    from PIL import Image

    count = len(image.getpalette("RGB") or ()) // 3
    indices = Image.new("P", (256, 1))
    indices.putdata(range(256))
    indices.putpalette(image.getpalette("RGB") or ())
    indices.info = {key: value for key, value in image.info.items() if key == "transparency"}
    mode = "RGBA" if indices.info else "RGB"
    colours: list[list[int]] = np.asarray(indices.convert(mode))[0, :count].tolist()
    return colours


@contextmanager
def _opened(path: str, form: str) -> Iterator[ImageFile]:
    """Open an image with Pillow, which parses the header."""
    with open_binary(path) as file:
        plugin = _plugin(form)
        with decoding(path, form):
            image: ImageFile = plugin(file, path)
        try:
            yield image
        finally:
            image.close()


@cache
def _plugin(form: str) -> Any:
    """Return Pillow's reader of a format, without its look at EXIF, which warns of damage there and is not needed."""
    from PIL import Image

    module, name = _PLUGINS[form]
    return type(name, (getattr(import_module(module), name),), {"getexif": lambda self: Image.Exif()})


@contextmanager
def decoding(path: str, form: str) -> Iterator[None]:
    """Turn what a decoder raises for a damaged file into a SourceError; to enclose calls of decoders only."""
    try:
        with quiet_codecs():
            yield
    except MemoryError as error:
        found = f"{path}: this {form} file is decoded as a whole, for which there is not enough memory"
        hint = "Convert it to a TIFF with tiles, which is read in parts, or use a machine with more memory"
        raise SourceError(found, path=path, hint=hint) from error
    except Exception as error:  # plugins raise OSError, SyntaxError, ValueError, IndexError, struct.error, ...
        rare = _rare_jpeg(path) if form == "JPEG" else None
        if rare is not None:
            hint = "Convert it to TIFF or PNG, or decode it with imagecodecs.jpeg_decode and pass the array"
            raise SourceError(f"{path}: it is a {rare} JPEG, which is not read", path=path, hint=hint) from error
        raise refusal(path, form, f"does not decode ({reason(error)})") from error


def _rare_jpeg(path: str) -> str | None:
    """Return what kind a JPEG is of that Pillow does not read, by its frame header (T.81, B.1.1.3 and B.2.2)."""
    with open_binary(path) as file:
        data = file.read()
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        kind, length, depth = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big"), data[at + 4]
        if kind == 0xF7:
            return "JPEG-LS"
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # tables and reserved codes, which are no frames
            what = "hierarchical " if kind & 4 else "lossless " if kind & 3 == 3 else ""
            return f"{what}{depth}-bit" if depth != 8 or what else None
        at += 2 + length
    return None


def refusal(path: str, form: str, found: str) -> SourceError:
    hint = "Fetch or write it again if truncated or damaged; convert it to TIFF or PNG if of a rare kind"
    return SourceError(f"{path}: this {form} file {found}", path=path, hint=hint)


@contextmanager
def _strictly() -> Iterator[None]:
    """
    Make Pillow refuse truncated files, also in programs that told it not to.

    The switch is global to Pillow.  It is changed only where a program has set it, and by one thread at a time.
    """
    from PIL import ImageFile

    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        yield
        return
    with _switch_lock(os.getpid()):
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = True


@cache
def _switch_lock(pid: int) -> threading.Lock:
    """Return the lock of this process; a forked child must not wait for one that its parent held."""
    return threading.Lock()


def _mode_of(image: ImageFile) -> str:
    """Return the Pillow mode to which an image is converted."""
    if image.mode == "CMYK":
        return "CMYK"
    gray = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        return "LA" if gray else "RGBA"
    return "L" if gray else "RGB"


def _survey(path: str, form: str, image: ImageFile, frames: int) -> tuple[str, Pixels | None]:
    """Return the one mode that holds every frame, and the second at which each begins, if all state a duration."""
    gray, opaque, durations = True, True, []
    for i in range(frames):
        with decoding(path, form), _strictly():
            image.seek(i)
            image.load()
        mode = _mode_of(image)
        gray = gray and mode in ("L", "LA")
        # Encoders use transparency for what does not change, so alpha is kept only where it can be seen.
        opaque = opaque and (mode in ("L", "RGB") or image.convert("RGBA").getchannel("A").getextrema()[0] == 255)
        durations.append(float(image.info.get("duration") or 0))
    times = np.cumsum([0.0, *durations[:-1]]) / 1000
    mode = ("L" if gray else "RGB") + ("" if opaque else "A")
    return mode, times if all(d > 0 for d in durations[:-1]) else None


def _notes(path: str, form: str) -> dict[str, Any]:
    """Return metadata about what looks wrong but can be read."""
    if form != "GIF":
        return {}
    with open_binary(path) as file:
        file.seek(-min(file.seek(0, 2), 1024), 2)
        tail = file.read().rstrip(b"\0")
    return {} if tail.endswith(b";") else {"notes": ["no trailer: the file may be truncated and lack its last frames"]}


def _decode_pillow(path: str, form: str, mode: str, mixer: InkMixer | None) -> Pixels:
    with _opened(path, form) as image:
        with decoding(path, form), _strictly():
            image.load()
        planes = _planes(image, mode)
        if mixer is None:
            return planes
        # Pillow takes inks to be inverted, as Adobe stores them; without Adobe's marker they are not.
        return mixer(planes if "adobe" in image.info else 255 - planes)


def _planes(image: ImageFile, mode: str) -> Pixels:
    """Return all pixels of a loaded image with axes (c, y, x)."""
    return channels_first(np.asarray(image if image.mode == mode else image.convert(mode)))


def channels_first(pixels: Pixels) -> Pixels:
    """Turn axes (y, x) or (y, x, c) into (c, y, x)."""
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
