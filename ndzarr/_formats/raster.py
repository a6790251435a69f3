"""Image files that are decoded whole or frame by frame: JPEG, WebP, BMP, GIF, PNG, JPEG 2000, JPEG XL.

1. Opening parses the header only, and refuses implausible sizes before anything is decoded.
2. A still image is decoded at the first read and kept.
3. An animation is walked once when it is opened, to learn the times of its frames and whether any is transparent.  Then
   each frame is decoded when it is read, and the last one is kept, as frames build on one another.

Pillow reads JPEG, WebP, BMP, GIF and animated PNG, with the plugin of the format that was recognised: `PIL.Image.open`
would try others, and has a limit of its own on the size of images.  imagecodecs decodes the others, and keeps 16 bits.
It has no functions that read headers, so these are parsed here, as far as shape, type and names of channels need it.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ndzarr._formats.base import Facts, Pixels, Region, Source, WholeSource, reason
from ndzarr._formats.colour import ALPHA, GRAY, RGB, InkMixer, describe_profile, plain_names, with_extras
from ndzarr._formats.options import Options, numbered
from ndzarr._formats.orientation import Orientation, choose_orientation, describe_orientation, exif_orientation
from ndzarr._formats.sidecars import read_sidecar
from ndzarr.errors import OptionError, SourceError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
}
_CHANNELS = {"P": ("index",), "L": GRAY, "LA": (*GRAY, ALPHA), "RGB": RGB, "RGBA": (*RGB, ALPHA), "CMYK": RGB}
"""Names of channels per Pillow mode; CMYK is converted afterwards."""


def open_pillow(path: str, form: str, options: Options) -> Source:
    """Open an image that Pillow decodes; `form` is a key of `_PLUGINS`."""
    with _opened(path, form) as image:
        width, height = image.size
        options.check_pixels(path, height, width, whole=True)
        first = 1 if getattr(image, "default_image", False) else 0  # an APNG's still, shown where animation is not
        with _decoding(path, form):
            frames = getattr(image, "n_frames", 1) - first
        tag = exif_orientation(image.info.get("exif"))
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
            mode, times = _survey(path, form, image, range(first, first + frames))
        else:
            mode, times = _mode_of(image), None
            about["colour"] = mode if image.mode == mode else f"{image.mode} converted to {mode}"
    channels, dtype = _CHANNELS[mode], np.dtype(np.uint8)
    mixer = InkMixer(profile, dtype) if mode == "CMYK" else None
    if mixer is not None:
        about["colour"] = mixer.said
    stored = (*([frames] if frames > 1 else []), len(channels), height, width)
    facts, orientation = _describe(path, options, stored, dtype, channels, about, tag, times)
    if indexed:
        facts = replace(facts, classes=True)
    if frames > 1:
        return AnimatedSource(facts, orientation, form, mode, first)
    return WholeSource(facts, orientation, lambda: _decode_pillow(path, form, mode, mixer))


def _describe(
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
        facts = replace(facts, nodata=beside.value(dtype))
    return facts.settle(options), orientation


class AnimatedSource(Source):
    """An animation, decoded frame by frame."""

    def __init__(self, facts: Facts, orientation: Orientation, form: str, mode: str, first: int) -> None:
        """Convert all frames to one Pillow mode; frame `first` of the file is frame 0 of the source."""
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
            self._exit.close()
            self._image = self._exit.enter_context(_opened(self.name, self._form))
        if last is None or last[0] != t:
            with _decoding(self.name, self._form), _strictly():
                self._image.seek(self._first + t)
                self._image.load()
            last = t, _planes(self._image, self._mode)
        self._last = last
        return last[1]

    def _release(self) -> None:
        with self._lock:
            self._last = None
            self._exit.close()


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
    with open(path, "rb") as file:
        plugin = _plugin(form)
        with _decoding(path, form):
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
def _decoding(path: str, form: str) -> Iterator[None]:
    """Turn what a decoder raises for a damaged file into a SourceError; to enclose calls of decoders only."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # plugins raise OSError, SyntaxError, ValueError, IndexError, struct.error, ...
        raise _refusal(path, form, f"does not decode ({reason(error)})") from error


def _refusal(path: str, form: str, found: str) -> SourceError:
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


def _survey(path: str, form: str, image: ImageFile, frames: range) -> tuple[str, Pixels | None]:
    """Return the one mode that holds every frame, and the second at which each begins, if all state a duration."""
    gray, opaque, durations = True, True, []
    for i in frames:
        with _decoding(path, form), _strictly():
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
    with open(path, "rb") as file:
        file.seek(-min(file.seek(0, 2), 1024), 2)
        tail = file.read().rstrip(b"\0")
    return {} if tail.endswith(b";") else {"notes": ["no trailer: the file may be truncated and lack its last frames"]}


def _decode_pillow(path: str, form: str, mode: str, mixer: InkMixer | None) -> Pixels:
    with _opened(path, form) as image:
        with _decoding(path, form), _strictly():
            image.load()
        planes = _planes(image, mode)
        if mixer is None:
            return planes
        # Pillow takes inks to be inverted, as Adobe stores them; without Adobe's marker they are not.
        return mixer(planes if "adobe" in image.info else 255 - planes)


def _planes(image: ImageFile, mode: str) -> Pixels:
    """Return all pixels of a loaded image with axes (c, y, x)."""
    return _channels_first(np.asarray(image if image.mode == mode else image.convert(mode)))


def _channels_first(pixels: Pixels) -> Pixels:
    """Turn axes (y, x) or (y, x, c) into (c, y, x)."""
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


# PNG
_PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Chunks that decoding needs."""
_PNG_SMALL = 1 << 24
"""Maximum size of a chunk that is read before decoding, in bytes."""


def open_png(path: str, options: Options) -> Source:
    """Open a PNG file, still or animated."""
    with open(path, "rb") as file:
        chunks = {kind: data for kind, data, _ in _png_chunks(path, file) if data is not None}
    try:
        width, height, depth, colour_type = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    except (KeyError, struct.error) as error:
        raise _refusal(path, "PNG", "has no valid header") from error
    options.check_pixels(path, height, width, whole=True)
    if int.from_bytes(chunks.get(b"acTL", b"")[:4], "big") > 1:  # number of frames
        return open_pillow(path, "PNG", options)
    palette, coloured, alpha = (bool(colour_type & bit) for bit in (1, 2, 4))
    if palette and options.palette == "indices":
        return open_pillow(path, "PNG", options)
    alpha = alpha or b"tRNS" in chunks  # makes palette entries, or one colour, transparent
    channels = (*(RGB if coloured else GRAY), *((ALPHA,) if alpha else ()))
    if palette:
        colour = f"palette of {depth}-bit indices expanded to RGB{'A' if alpha else ''}"
    else:
        colour = f"{depth}-bit {'RGB' if coloured else 'gray'}{', scaled to 8 bits' if depth < 8 else ''}"
    about = {"format": "PNG", "colour": colour, **describe_profile(_png_profile(chunks.get(b"iCCP")))}
    dtype, tag = np.dtype(np.uint16 if depth == 16 else np.uint8), exif_orientation(chunks.get(b"eXIf"))
    facts, orientation = _describe(path, options, (len(channels), height, width), dtype, channels, about, tag)
    return WholeSource(facts, orientation, lambda: _decode_png(path))


def _png_chunks(path: str, file: BinaryIO) -> Iterator[tuple[bytes, bytes | None, int]]:
    """Yield kind, content and size in the file of each chunk; no content of pixels and of large chunks."""
    size = file.seek(0, 2)
    at = 8
    kind = b""
    while kind != b"IEND":
        file.seek(at)
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (size, b"")
        if at + 12 + length > size:
            raise _refusal(path, "PNG", f"is truncated: it has {size} bytes and no IEND chunk")
        yield kind, None if kind in (b"IDAT", b"fdAT") or length > _PNG_SMALL else file.read(length), 12 + length
        at += 12 + length


def _png_profile(chunk: bytes | None) -> bytes | None:
    """Return the ICC profile in an iCCP chunk: a name, a zero, the compression method, compressed bytes."""
    try:
        return zlib.decompress(chunk[chunk.index(b"\0") + 2 :]) if chunk else None
    except (ValueError, zlib.error):
        return None


def _decode_png(path: str) -> Pixels:
    import imagecodecs

    with open(path, "rb") as file:
        data = file.read()
    # Only the chunks that matter to pixels: libpng prints warnings about some of the others.
    parts = [data[:8]]
    at = 8
    for kind, _, size in _png_chunks(path, io.BytesIO(data)):
        if kind in _PNG_NEEDED:
            part = data[at : at + size]
            if zlib.crc32(part[4:-4]) != int.from_bytes(part[-4:], "big"):  # libpng may only warn
                found = f"does not decode (the checksum of a {kind.decode()} chunk does not match its bytes)"
                raise _refusal(path, "PNG", found)
            parts.append(part)
        at += size
    with _decoding(path, "PNG"):
        pixels = imagecodecs.png_decode(b"".join(parts))
    return _channels_first(pixels)


# JPEG 2000
_J2K_HEAD = 1 << 20
"""Bytes within which the codestream has to begin."""
_J2K_SIZ = b"\xff\x4f\xff\x51"
_J2K_END = b"\xff\xd9"
_J2K_COLOURS = {16: RGB, 17: GRAY, 18: RGB}
"""Names of the first components per enumerated colour space: sRGB, grey, sYCC (which OpenJPEG converts)."""


def open_jpeg2000(path: str, options: Options) -> WholeSource:
    """Open a JP2 file or a bare codestream."""
    with open(path, "rb") as file:
        head = file.read(_J2K_HEAD)
    height, width, components, bits, signed = _j2k_codestream(path, head)
    options.check_pixels(path, height, width, whole=True)
    boxes = dict(_jp2_boxes(head))
    size = 1 if bits <= 8 else 2 if bits <= 16 else 4
    channels, dtype = _jp2_channels(boxes, components), np.dtype(f"{'i' if signed else 'u'}{size}")
    pixels = _decode_jpeg2000(path) if b"pclr" in boxes else None  # a palette: decoding tells what it becomes
    if pixels is not None:
        channels, dtype = with_extras(RGB, len(pixels), None), pixels.dtype
    about = {"format": "JPEG 2000", "colour": f"{bits}-bit, {components} components"}
    facts, orientation = _describe(path, options, (len(channels), height, width), dtype, channels, about)
    return WholeSource(facts, orientation, lambda: _decode_jpeg2000(path) if pixels is None else pixels)


def _j2k_codestream(path: str, head: bytes) -> tuple[int, int, int, int, bool]:
    """Return (height, width, components, bits, signed) of the SIZ segment."""
    at = head.find(_J2K_SIZ)
    try:
        width, height, left, top = struct.unpack_from(">IIII", head, at + 8)
        components, depth = struct.unpack_from(">HB", head, at + 40)
        if at < 0 or not components:
            raise ValueError(f"codestream at {at} with {components} components")
    except (struct.error, ValueError) as error:
        raise _refusal(path, "JPEG 2000", "has no valid codestream header") from error
    return height - top, width - left, components, (depth & 0x7F) + 1, bool(depth & 0x80)


def _jp2_boxes(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the boxes of a JP2 header."""
    at, end = (0, len(head)) if head[4:8] == b"jP  " else (0, 0)
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", head, at)
        if kind == b"jp2c" or length < 8:
            return
        if kind == b"jp2h":  # a box of boxes
            at += 8
            continue
        yield kind, head[at + 8 : at + length]
        at += length


def _jp2_channels(boxes: dict[bytes, bytes], components: int) -> tuple[str, ...]:
    colour = boxes.get(b"colr", b"")
    space = int.from_bytes(colour[3:7], "big") if colour[:1] == b"\x01" else None
    if space is None:  # a bare codestream, or an ICC profile
        colours = {1: GRAY, 3: RGB}.get(components, numbered(components))
    else:
        colours = _J2K_COLOURS.get(space, numbered(components))
    definitions = boxes.get(b"cdef", b"")[2:]  # behind their number: (component, kind, association) each
    defined = struct.iter_unpack(">HHH", definitions[: len(definitions) // 6 * 6])
    alpha = next((int(component) for component, kind, _ in defined if kind in (1, 2)), None)
    if alpha is None and space in _J2K_COLOURS and components == len(colours) + 1:
        alpha = len(colours)  # encoders that leave out the definition of channels put alpha behind the colours
    return with_extras(colours, components, alpha)


def _decode_jpeg2000(path: str) -> Pixels:
    import imagecodecs

    with open(path, "rb") as file:
        data = file.read()
    # Compressed bits never contain this marker.  Older decoders fill what is missing with gray.
    if data.rfind(_J2K_END) < data.find(_J2K_SIZ):
        raise _refusal(path, "JPEG 2000", "is truncated: its end is missing")
    with _decoding(path, "JPEG 2000"):
        pixels = imagecodecs.jpeg2k_decode(data)
    return _channels_first(pixels)


# JPEG XL
_JXL_SIGNATURE = b"\xff\x0a"
_JXL_HEADER = 32
"""Bytes that surely hold size and orientation."""
_JXL_SIZE_BITS = (9, 13, 18, 30)
_JXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""Width to height per value of the ratio field; after 0 the width follows."""


def open_jpegxl(path: str, options: Options) -> WholeSource:
    """Open a JPEG XL file, still or animated."""
    with open(path, "rb") as file:
        data = file.read()
    height, width, tag = _jxl_header(path, data)
    options.check_pixels(path, height, width, whole=True)
    pixels = _decode_jpegxl(path, data, height, width)
    count = pixels.shape[-3]
    channels = (*GRAY, ALPHA) if count == 2 else plain_names(count)
    facts, orientation = _describe(path, options, pixels.shape, pixels.dtype, channels, {"format": "JPEG XL"}, tag)
    return WholeSource(facts, orientation, lambda: pixels)


def _jxl_header(path: str, data: bytes) -> tuple[int, int, int]:
    """Return (height, width, orientation tag) as stored."""
    at = _jxl_codestream(path, data) + len(_JXL_SIGNATURE)
    rest = int.from_bytes(data[at : at + _JXL_HEADER], "little")

    def take(count: int) -> int:
        nonlocal rest
        value, rest = rest & ((1 << count) - 1), rest >> count
        return value

    def length() -> int:
        return (take(5) + 1) * 8 if small else take(_JXL_SIZE_BITS[take(2)]) + 1

    small = take(1)
    height = length()
    ratio = take(3)
    width = height * _JXL_RATIOS[ratio][0] // _JXL_RATIOS[ratio][1] if ratio else length()
    all_default, extra = take(1), take(1)
    return height, width, 1 if all_default or not extra else take(3) + 1


def _jxl_codestream(path: str, data: bytes) -> int:
    """Return the offset of the codestream, bare or in a box of the container."""
    at = 0
    while not data.startswith(_JXL_SIGNATURE, at):
        length, kind = struct.unpack_from(">I4s", data, at) if at + 16 <= len(data) else (0, b"")
        body = at + 8
        if length == 1:  # the length does not fit into 32 bits and follows in 64
            (length,) = struct.unpack_from(">Q", data, body)
            body += 8
        if kind in (b"jxlc", b"jxlp"):
            return body + (4 if kind == b"jxlp" else 0)
        if length < 8:
            raise _refusal(path, "JPEG XL", "has no codestream")
        at += length
    return at


def _decode_jpegxl(path: str, data: bytes, height: int, width: int) -> Pixels:
    """Return all pixels with axes (c, y, x), or (t, c, y, x) of an animation."""
    import imagecodecs

    with _decoding(path, "JPEG XL"):
        pixels: Pixels = imagecodecs.jpegxl_decode(data, keeporientation=True)
        frames = pixels.shape[:1] if pixels.shape[:2] != (height, width) else ()
        return np.moveaxis(pixels.reshape(*frames, height, width, -1), -1, -3)
