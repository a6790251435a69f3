"""How are JPEG, WebP, BMP and GIF files, and animated PNGs, read with Pillow?

1. Opening parses the header only, with the plugin of the format that `sniff` found: `PIL.Image.open` would try others,
   and warn or fail on images larger than a limit that is not ours.
2. A still image is decoded at the first read and kept (`whole`).
3. An animation is walked once when it is opened, to learn the times of its frames and whether any is transparent; then
   each frame is decoded when it is read, and the last one kept, as frames build on one another.
"""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ndzarr._formats.base import BaseSource, Facts, Pixels, Region, WholeSource, reason
from ndzarr._formats.colour import ALPHA, GRAY, RGB, InkMixer, describe_profile, with_extras
from ndzarr._formats.options import Options, numbered
from ndzarr._formats.orientation import Orientation, choose, describe, exif_tag
from ndzarr.errors import NdzarrError, SourceError

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


# --- What is in a PNG file, and how is it decoded without losing bits?


_GRAY, _PALETTE = 0, 3
_COLOUR, _HAS_ALPHA = 2, 4
"""Bits of the colour type."""
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Chunks that decoding needs."""
_SMALL = 1 << 24
"""Most bytes of a chunk that is looked into."""


@dataclass(frozen=True, slots=True)
class PngHeader:
    """What the chunks before and after the pixels say."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    depth: int
    """Bits per sample, or per palette index."""
    colour: int
    """Colour type: bit 0 palette, bit 1 colour, bit 2 alpha."""
    transparent: bool
    """True if a tRNS chunk makes palette entries or one colour transparent."""
    exif: bytes | None
    """Content of the eXIf chunk."""
    profile: bytes | None
    """The ICC profile."""
    frames: int
    """Frames of an animation, 1 for a still image."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of decoded samples."""
        return np.dtype(np.uint16 if self.depth == 16 else np.uint8)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of decoded channels."""
        colours = RGB if self.colour & _COLOUR else GRAY
        return (*colours, ALPHA) if self.transparent or self.colour & _HAS_ALPHA else colours

    @property
    def said(self) -> str:
        """What metadata say about colour."""
        if self.colour == _PALETTE:
            return f"palette of {self.depth}-bit indices expanded to RGB{'A' if self.transparent else ''}"
        said = f"{self.depth}-bit {'RGB' if self.colour & _COLOUR else 'gray'}"
        return f"{said}, scaled to 8 bits" if self.depth < 8 else said


def open_png(path: str, options: Options) -> BaseSource:
    """Open a PNG file, still or animated."""
    with open(path, "rb") as file:
        header = read_header(path, file)
    options.check_pixels(path, header.height, header.width, whole=True)
    if header.frames > 1:
        return open_raster(path, "PNG", options)
    tag = exif_tag(header.exif)
    orientation = choose(path, tag, header.height, header.width, options)
    height, width = orientation.size(header.height, header.width)
    facts = Facts(
        name=path,
        dims=("c", "y", "x"),
        shape=(len(header.channels), height, width),
        dtype=header.dtype,
        channels=header.channels,
        band=height,
        metadata={
            "format": "PNG",
            "colour": header.said,
            **describe(tag, orientation),
            **describe_profile(header.profile),
        },
    )
    return WholeSource(facts.settle(options), orientation, lambda: _png_decode(path))


def read_header(path: str, file: BinaryIO) -> PngHeader:
    """
    Walk the chunks of a PNG file.

    Raises
    ------
    SourceError
        The file ends before its IEND chunk, or its header makes no sense.
    """
    found = {kind: data for kind, data, _ in _chunks(path, file) if data is not None}
    try:
        width, height, depth, colour = struct.unpack_from(">IIBB", found[b"IHDR"])
    except (KeyError, struct.error) as error:
        raise SourceError(f"{path}: this PNG has no valid header; fetch or write it again") from error
    return PngHeader(
        width=width,
        height=height,
        depth=depth,
        colour=colour,
        transparent=b"tRNS" in found,
        exif=found.get(b"eXIf"),
        profile=_profile(found.get(b"iCCP")),
        frames=int.from_bytes(found[b"acTL"][:4], "big") if b"acTL" in found else 1,
    )


def _chunks(path: str, file: BinaryIO) -> Iterator[tuple[bytes, bytes | None, int]]:
    """Kind, content and bytes in the file of each chunk up to IEND; None as content of pixels and of what is large."""
    file.seek(0, 2)
    size = file.tell()
    at = 8
    kind = b""
    while kind != b"IEND":
        file.seek(at)
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (size, b"")
        if at + 12 + length > size:
            raise SourceError(
                f"{path}: this PNG is truncated: it has {size} bytes and no IEND chunk; fetch or write it again"
            )
        yield kind, None if kind in (b"IDAT", b"fdAT") or length > _SMALL else file.read(length), 12 + length
        at += 12 + length


def _profile(chunk: bytes | None) -> bytes | None:
    """The ICC profile in an iCCP chunk: a name, a zero, the compression method, compressed bytes."""
    try:
        return zlib.decompress(chunk[chunk.index(b"\0") + 2 :]) if chunk else None
    except (ValueError, zlib.error):
        return None


def _damaged(path: str, found: str) -> SourceError:
    return SourceError(f"{path}: this PNG does not decode ({found}); it is damaged, fetch or write it again")


def _only_pixels(path: str, data: bytes) -> bytes:
    """The file without the chunks that do not matter to pixels: libpng prints warnings about some of them."""
    parts = [data[:8]]
    at = 8
    for kind, _, size in _chunks(path, io.BytesIO(data)):
        if kind in _PIXELS:
            part = data[at : at + size]
            if zlib.crc32(part[4:-4]) != int.from_bytes(part[-4:], "big"):  # libpng may only warn
                raise _damaged(path, f"the checksum of a {kind.decode()} chunk does not match its bytes")
            parts.append(part)
        at += size
    return b"".join(parts)


def _png_decode(path: str) -> Pixels:
    import imagecodecs

    with open(path, "rb") as file:
        data = file.read()
    try:
        pixels: Pixels = imagecodecs.png_decode(_only_pixels(path, data))
    except (RuntimeError, ValueError) as error:
        raise _damaged(path, reason(error)) from error
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


# --- What is in a JPEG 2000 file, and how is it decoded?


_HEAD = 1 << 20
"""Bytes in which the codestream has to begin."""
_SIZ = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"
_COLOURS = {16: RGB, 17: GRAY, 18: RGB}
"""Names of the first components per enumerated colour space: sRGB, grey, sYCC (which OpenJPEG converts)."""


@dataclass(frozen=True, slots=True)
class Codestream:
    """What the SIZ segment says."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    components: int
    """Number of channels."""
    bits: int
    """Per sample."""
    signed: bool
    """True for signed samples."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of decoded samples."""
        size = 1 if self.bits <= 8 else 2 if self.bits <= 16 else 4
        return np.dtype(f"{'i' if self.signed else 'u'}{size}")


def open_jpeg2000(path: str, options: Options) -> WholeSource:
    """Open a JP2 file or a bare codestream."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    stream = _codestream(path, head)
    options.check_pixels(path, stream.height, stream.width, whole=True)
    boxes = dict(_boxes(head))
    orientation = choose(path, 1, stream.height, stream.width, options)
    channels, dtype = _channels(boxes, stream.components), stream.dtype
    pixels = None
    if b"pclr" in boxes:  # a palette: what it decodes to is simplest seen by decoding
        pixels = _jpeg2000_decode(path)
        channels, dtype = with_extras(RGB, len(pixels), None), pixels.dtype
    facts = Facts(
        name=path,
        dims=("c", "y", "x"),
        shape=(len(channels), stream.height, stream.width),
        dtype=dtype,
        channels=channels,
        band=stream.height,
        metadata={"format": "JPEG 2000", "colour": f"{stream.bits}-bit, {stream.components} components"},
    )
    decode = (lambda: _jpeg2000_decode(path)) if pixels is None else (lambda: pixels)
    return WholeSource(facts.settle(options), orientation, decode)


def _codestream(path: str, head: bytes) -> Codestream:
    at = head.find(_SIZ)
    try:
        width, height, left, top = struct.unpack_from(">IIII", head, at + 8)
        (components,) = struct.unpack_from(">H", head, at + 40)
        depth = head[at + 42]
        if at < 0 or not components:
            raise IndexError
    except (struct.error, IndexError) as error:
        raise SourceError(
            f"{path}: this JPEG 2000 file has no valid codestream header; fetch or write it again"
        ) from error
    return Codestream(width - left, height - top, components, (depth & 0x7F) + 1, bool(depth & 0x80))


def _boxes(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes of the header."""
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


def _channels(boxes: dict[bytes, bytes], components: int) -> tuple[str, ...]:
    colour = boxes.get(b"colr", b"")
    space = int.from_bytes(colour[3:7], "big") if colour[:1] == b"\x01" else None
    if space is None:  # a bare codestream, or an ICC profile
        colours = {1: GRAY, 3: RGB}.get(components, numbered(components))
    else:
        colours = _COLOURS.get(space, numbered(components))
    alpha = _alpha(boxes.get(b"cdef"))
    if alpha is None and space in _COLOURS and components == len(colours) + 1:
        alpha = len(colours)  # encoders that leave out the definition of channels put alpha behind the colours
    return with_extras(colours, components, alpha)


def _alpha(definitions: bytes | None) -> int | None:
    """The component that a channel definition box calls opacity."""
    if not definitions or len(definitions) < 2:
        return None
    for index, kind, _ in struct.iter_unpack(">HHH", definitions[2 : 2 + (len(definitions) - 2) // 6 * 6]):
        if kind in (1, 2):
            return int(index)
    return None


def _jpeg2000_decode(path: str) -> Pixels:
    import imagecodecs

    with open(path, "rb") as file:
        data = file.read()
    # Compressed bits never look like this marker.  Older decoders fill with gray what is missing.
    if data.rfind(_END) < data.find(_SIZ):
        raise SourceError(f"{path}: this JPEG 2000 file is truncated: its end is missing; fetch or write it again")
    try:
        pixels: Pixels = imagecodecs.jpeg2k_decode(data)
    except (RuntimeError, ValueError) as error:
        raise SourceError(
            f"{path}: this JPEG 2000 file does not decode ({reason(error)}); it is damaged (fetch or write it again), "
            f"or of a rare kind (convert it to TIFF or PNG)"
        ) from error
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


# --- What is in a JPEG XL file, and how is it decoded?


_HEADER = 32
"""Bytes that surely hold size and orientation."""
_SIGNATURE = b"\xff\x0a"
_NAMES = {1: GRAY, 2: (*GRAY, ALPHA), 3: RGB, 4: (*RGB, ALPHA)}
_SIZE_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""Width to height per value of the ratio field; 0 means that the width follows."""


class _Bits:
    """Reads numbers bit by bit, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value


def open_jpegxl(path: str, options: Options) -> WholeSource:
    """Open a JPEG XL file, still or animated."""
    with open(path, "rb") as file:
        data = file.read()
    height, width, tag = _header(path, data)
    options.check_pixels(path, height, width, whole=True)
    pixels = _jpegxl_decode(path, data, height, width)
    animated = pixels.ndim == 4
    orientation = choose(path, tag, height, width, options)
    count = pixels.shape[-3]
    facts = Facts(
        name=path,
        dims=("t", "c", "y", "x") if animated else ("c", "y", "x"),
        shape=(*pixels.shape[:-2], *orientation.size(height, width)),
        dtype=pixels.dtype,
        channels=_NAMES.get(count, numbered(count)),
        band=orientation.size(height, width)[0],
        metadata={"format": "JPEG XL", **describe(tag, orientation)},
    )
    return WholeSource(facts.settle(options), orientation, lambda: pixels)


def _header(path: str, data: bytes) -> tuple[int, int, int]:
    """(height, width, orientation tag), as stored."""
    at = _jpegxl_codestream(path, data) + len(_SIGNATURE)
    bits = _Bits(data[at : at + _HEADER])
    small = bits.take(1)
    height = _length(bits, small)
    ratio = bits.take(3)
    width = height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else _length(bits, small)
    everything_default, extra = bits.take(1), bits.take(1)
    return height, width, 1 if everything_default or not extra else bits.take(3) + 1


def _length(bits: _Bits, small: int) -> int:
    return (bits.take(5) + 1) * 8 if small else bits.take(_SIZE_BITS[bits.take(2)]) + 1


def _jpegxl_codestream(path: str, data: bytes) -> int:
    """Where the codestream begins, bare or in a box of the container."""
    at = 0
    while not data.startswith(_SIGNATURE, at):
        length, kind = struct.unpack_from(">I4s", data, at) if at + 16 <= len(data) else (0, b"")
        body = at + 8
        if length == 1:  # the length does not fit into 32 bits and follows in 64
            (length,) = struct.unpack_from(">Q", data, body)
            body += 8
        if kind in (b"jxlc", b"jxlp"):
            return body + (4 if kind == b"jxlp" else 0)
        if length < 8:
            raise SourceError(f"{path}: this JPEG XL file has no codestream; fetch or write it again")
        at += length
    return at


def _jpegxl_decode(path: str, data: bytes, height: int, width: int) -> Pixels:
    import imagecodecs

    try:
        pixels: Pixels = imagecodecs.jpegxl_decode(data, keeporientation=True)
        frames = pixels.shape[:1] if pixels.shape[:2] != (height, width) else ()
        return np.moveaxis(pixels.reshape(*frames, height, width, -1), -1, -3)
    except (RuntimeError, ValueError) as error:
        raise SourceError(
            f"{path}: this JPEG XL file does not decode ({reason(error)}); it is damaged, fetch or write it again"
        ) from error
