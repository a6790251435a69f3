"""How are JPEG, WebP, BMP and GIF files, and animated PNGs, read with Pillow?

1. Opening parses the header only, with the plugin of the format that `sniff` found: `PIL.Image.open` would try others,
   and warn or fail on images larger than a limit that is not ours.
2. A still image is decoded at the first read and kept (`whole`).
3. An animation is walked once when it is opened, to learn the times of its frames and whether any is transparent; then
   each frame is decoded when it is read, and the last one kept, as frames build on one another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import NdzarrError, SourceError
from ndzarr.sources.base import BaseSource, Facts, Pixels, Region, reason
from ndzarr.sources.colour import ALPHA, GRAY, RGB, InkMixer, describe_profile
from ndzarr.sources.options import Options
from ndzarr.sources.orientation import Orientation, choose, describe, exif_tag
from ndzarr.sources.whole import WholeSource

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
}
_CHANNELS = {"L": GRAY, "LA": (*GRAY, ALPHA), "RGB": RGB, "RGBA": (*RGB, ALPHA), "CMYK": RGB}
"""Names of channels per Pillow mode that is asked for; CMYK is mixed afterwards."""
_strict = threading.Lock()


def open_raster(path: str, form: str, options: Options) -> BaseSource:
    """
    Open an image with Pillow.

    Parameters
    ----------
    form
        What `sniff` called it.
    """
    with _opened(path, form) as image, _decoding(path, form):
        width, height = image.size
        options.check_pixels(path, height, width, whole=True)
        first = 1 if getattr(image, "default_image", False) else 0  # an APNG's still, shown where animation is not
        frames = getattr(image, "n_frames", 1) - first
        tag = exif_tag(image.info.get("exif"))
        profile = image.info.get("icc_profile")
        about = {"format": form, **describe_profile(profile), **_notes(path, form)}
        if frames > 1:
            mode, times = _survey(path, form, image, range(first, first + frames))
        else:
            mode, times = _mode_of(image), None
            about["colour"] = mode if image.mode == mode else f"{image.mode} converted to {mode}"
    mixer = InkMixer(profile, np.dtype(np.uint8)) if mode == "CMYK" else None
    orientation = choose(path, tag, height, width, options)
    size = orientation.size(height, width)
    facts = Facts(
        name=path,
        dims=("t", "c", "y", "x") if frames > 1 else ("c", "y", "x"),
        shape=(*([frames] if frames > 1 else []), len(_CHANNELS[mode]), *size),
        dtype=np.dtype(np.uint8),
        channels=_CHANNELS[mode],
        band=size[0],
        times=times,
        metadata={**about, **({"colour": mixer.said} if mixer else {}), **describe(tag, orientation)},
    ).settle(options)
    if frames > 1:
        return AnimatedSource(facts, orientation, form, mode, first)
    return WholeSource(facts, orientation, lambda: _decode(path, form, mode, mixer))


class AnimatedSource(BaseSource):
    """An animation, decoded frame by frame."""

    def __init__(self, facts: Facts, orientation: Orientation, form: str, mode: str, first: int) -> None:
        """
        Describe an animation.

        Parameters
        ----------
        form
            What `sniff` called it.
        mode
            The Pillow mode to which all frames are converted.
        first
            Frame of the file that is frame 0 of the source.
        """
        super().__init__(facts, orientation)
        self._form, self._mode, self._first = form, mode, first
        self._lock = threading.Lock()
        self._exit = ExitStack()
        self._last: tuple[int, Pixels] | None = None

    def _pixels(self, region: Region) -> Pixels:
        with self._lock:
            parts = [self._frame(t)[region[1:]] for t in range(region[0].start, region[0].stop)]
        return parts[0][None] if len(parts) == 1 else np.stack(parts)

    def _frame(self, t: int) -> Pixels:
        last, self._last = self._last, None
        if last is None or last[0] > t:  # not every plugin can go back
            self._rewind()
        if last is None or last[0] != t:
            with _decoding(self.name, self._form), _strictly():
                self._image.seek(self._first + t)
                last = t, _planes(self._image, self._mode)
        self._last = last
        return last[1]

    def _rewind(self) -> None:
        self._exit.close()
        self._image = self._exit.enter_context(_opened(self.name, self._form))

    def _release(self) -> None:
        with self._lock:
            self._last = None
            self._exit.close()


@contextmanager
def _opened(path: str, form: str) -> Iterator[ImageFile]:
    """The header of an image, as Pillow parses it."""
    with open(path, "rb") as file:
        with _decoding(path, form):
            image: ImageFile = _plugin(form)(file, path)
        try:
            yield image
        finally:
            image.close()


@cache
def _plugin(form: str) -> Any:
    """Pillow's reader of a format, without its look at EXIF: it warns of damage there, and is not needed."""
    from PIL import Image

    module, name = _PLUGINS[form]
    return type(name, (getattr(import_module(module), name),), {"getexif": lambda self: Image.Exif()})


@contextmanager
def _decoding(path: str, form: str) -> Iterator[None]:
    """Turn whatever Pillow makes of a damaged file into a SourceError."""
    try:
        yield
    except NdzarrError:
        raise
    except Exception as error:  # plugins raise OSError, SyntaxError, ValueError, IndexError, struct.error, …
        raise SourceError(
            f"{path}: this {form} file does not decode ({reason(error)}); it is truncated or damaged (fetch or "
            f"write it again), or of a rare kind (convert it to TIFF or PNG)"
        ) from error


@contextmanager
def _strictly() -> Iterator[None]:
    """
    Make Pillow refuse truncated files, for programs that told it not to.

    The switch is global to Pillow.  It is only touched where a program has set it, and then by one thread at a time.
    """
    from PIL import ImageFile

    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        yield
        return
    with _strict:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = True


def _mode_of(image: ImageFile) -> str:
    """The mode of the pixels to ask Pillow for."""
    if image.mode == "CMYK":
        return "CMYK"
    gray = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        return "LA" if gray else "RGBA"
    return "L" if gray else "RGB"


def _survey(path: str, form: str, image: ImageFile, frames: range) -> tuple[str, Pixels | None]:
    """The one mode that holds every frame, and the second at which each begins, if all say how long they last."""
    gray, opaque, durations = True, True, []
    for i in frames:
        with _decoding(path, form), _strictly():
            image.seek(i)
            image.load()
        mode = _mode_of(image)
        gray = gray and mode in ("L", "LA")
        # Encoders use transparency for what does not change, so alpha is only kept where it can be seen.
        opaque = opaque and (mode in ("L", "RGB") or image.convert("RGBA").getchannel("A").getextrema()[0] == 255)
        durations.append(float(image.info.get("duration") or 0))
    times = np.cumsum([0.0, *durations[:-1]]) / 1000
    mode = ("L" if gray else "RGB") + ("" if opaque else "A")
    return mode, times if all(d > 0 for d in durations[:-1]) else None


def _notes(path: str, form: str) -> dict[str, Any]:
    """Metadata about what looks wrong but can be read."""
    if form != "GIF":
        return {}
    with open(path, "rb") as file:
        file.seek(-min(file.seek(0, 2), 1024), 2)
        tail = file.read().rstrip(b"\0")
    return {} if tail.endswith(b";") else {"notes": ["no trailer: the file may be truncated and lack its last frames"]}


def _decode(path: str, form: str, mode: str, mixer: InkMixer | None) -> Pixels:
    with _opened(path, form) as image, _decoding(path, form), _strictly():
        image.load()
        planes = _planes(image, mode)
        if mixer is None:
            return planes
        # Pillow takes inks to be inverted, as Adobe stores them; without Adobe's marker they are not.
        return mixer(planes if "adobe" in image.info else 255 - planes)


def _planes(image: ImageFile, mode: str) -> Pixels:
    """All pixels with axes c y x."""
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
