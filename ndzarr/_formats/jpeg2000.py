"""JPEG 2000 files: JP2 containers and bare codestreams (ISO/IEC 15444-1, ITU-T T.800).

imagecodecs decodes the codestream.  It would apply an ICC profile to the pixels, and it refuses components of different
depth, so what a JP2 container says about colour is read here:

- palettes (pclr, cmap) are looked up; channel definitions (cdef) order the channels and say which one is alpha;
- sYCC, and three components whose chroma is subsampled, become r, g, b in the decoder;
- CMYK of 8 or 16 bits becomes r, g, b, as in other formats; an ICC profile of other spaces changes no pixel;
- components of different depth keep their values, in the type of the deepest; alpha is scaled to the depth of colours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ndzarr._files import open_binary
from ndzarr._formats.base import Pixels, WholeSource
from ndzarr._formats.colour import GRAY, RGB, InkMixer, describe_profile, with_extras
from ndzarr._formats.options import Options, numbered
from ndzarr._formats.raster import channels_first, decoding, describe_image, refusal

_FORM = "JPEG 2000"
_HEAD = 1 << 20
"""Bytes within which the codestream has to begin."""
_SIZ, _COD, _COC, _SOT = b"\xff\x4f\xff\x51", b"\xff\x52", b"\xff\x53", b"\xff\x90"
"""Markers: sizes, behind the start of the codestream; coding style, in general and of a component; start of a tile."""
_COMPONENTS = 42
"""Offset behind `_SIZ` of (depth, horizontal step, vertical step), a byte each, per component."""
_END = b"\xff\xd9"
_ALPHA = {1: "unassociated", 2: "associated"}
"""What kinds of channel definitions say of alpha: opacity, and opacity that colours are multiplied with."""
_LAB, _SYCC = 14, 18
_INKS = (12, b"CMYK")
_COLOURS = {16: RGB, 17: GRAY, _SYCC: RGB, b"GRAY": GRAY, b"RGB ": RGB}
"""Names of the first channels per enumerated colour space, or per space of an ICC profile."""


@dataclass(frozen=True, slots=True)
class _Component:
    """How the samples of a component are stored."""

    bits: int
    signed: bool
    steps: tuple[int, int]
    """Pixels per sample, horizontally and vertically."""

    @property
    def offset(self) -> int:
        """What the decoder adds to values around 0."""
        return 0 if self.signed else 1 << (self.bits - 1)


@dataclass(frozen=True, slots=True)
class _Codestream:
    at: int
    """Offset in the file."""
    height: int
    width: int
    components: tuple[_Component, ...]

    @property
    def deepest(self) -> _Component:
        return max(self.components, key=lambda c: (c.bits, c.signed))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type that holds the values of all components."""
        signed = any(c.signed for c in self.components)
        return _dtype(max(c.bits + (signed and not c.signed) for c in self.components), signed)

    @property
    def subsampled_chroma(self) -> bool:
        """True if the decoder takes the components for luma and chroma, as OpenJPEG's own tools do."""
        steps = [c.steps for c in self.components]
        return len(steps) == 3 and steps[0][0] == steps[0][1] and steps[1][0] != 1


@dataclass(frozen=True, slots=True)
class _Colour:
    """What a JP2 container says about the components of its codestream."""

    space: int | bytes | None = None
    """Enumerated colour space, space of the ICC profile, or None."""
    profile: bytes | None = None
    palette: Pixels | None = None
    """(entry, column)."""
    channels: tuple[tuple[int, int | None], ...] = ()
    """(component, column of the palette or None) per channel, in the order of colours."""
    alpha: int | None = None
    """Position in `channels`."""
    about_alpha: str | None = None
    """'associated' if colours are multiplied with alpha, 'unassociated' if not; None if the container does not say."""


def open_jpeg2000(path: str, options: Options) -> WholeSource:
    """Open a JP2 file or a bare codestream."""
    with open_binary(path) as file:
        head = file.read(_HEAD)
    stream = _read_codestream(path, head)
    options.check_pixels(path, stream.height, stream.width, whole=True)
    colour = _read_colour(path, dict(_boxes(head)), len(stream.components))
    table = colour.palette if options.palette == "indices" and len(stream.components) == 1 else None
    if table is not None:
        colour = _Colour(channels=((0, None),))
    count, deepest = len(colour.channels), stream.deepest
    if not _decodes_steps([c.steps for c in stream.components], colour.space):
        raise refusal(path, _FORM, "has subsampled components that are not chroma, which is not read")
    bits = deepest.bits if colour.palette is None else 8 * colour.palette.dtype.itemsize
    dtype = stream.dtype if colour.palette is None else colour.palette.dtype
    said = f"{'/'.join(str(n) for n in dict.fromkeys(c.bits for c in stream.components))}-bit, {count} components"
    names = with_extras(_colour_names(colour, count), count, colour.alpha)
    mixer = None
    if colour.palette is not None:
        said = f"palette of {len(colour.palette)} colours expanded"
    elif colour.space == _SYCC or stream.subsampled_chroma:
        said += ", YCbCr converted to RGB"
    elif colour.space in _INKS and count >= 4 and bits in (8, 16):
        mixer = InkMixer(colour.profile, dtype)
        said, names = mixer.said, (*RGB, *names[4:])
    if table is not None:
        said, names = "palette, indices kept", ("index",)
    about: dict[str, Any] = {"format": _FORM, "colour": said, **describe_profile(colour.profile)}
    if table is not None:
        about["palette"] = table.tolist()
    elif bits < 8 * dtype.itemsize:
        about["bits"] = bits
    if colour.about_alpha is not None:
        about["alpha"] = colour.about_alpha

    def decode() -> Pixels:
        planes = _pick(_decode(path, stream, colour), stream, colour, dtype)
        return planes if mixer is None else np.concatenate([mixer(planes[:4]), planes[4:]])

    facts, orientation = describe_image(path, options, (len(names), stream.height, stream.width), dtype, names, about)
    return WholeSource(replace(facts, classes=table is not None), orientation, decode)


def _decodes_steps(steps: list[tuple[int, int]], space: int | bytes | None) -> bool:
    """Return whether the decoder makes all components as large as the image: 4:2:0 and 4:2:2 of YCbCr."""
    luma, chroma, rest = steps[0], steps[1:3], steps[3:]
    converts = (space == _SYCC or len(steps) == 3) and chroma in ([(2, 2)] * 2, [(2, 1)] * 2)
    return luma == (1, 1) and (converts or set(chroma) <= {(1, 1)}) and set(rest) <= {(1, 1)}


def _dtype(bits: int, signed: bool) -> np.dtype[Any]:
    return np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2 if bits <= 16 else 4 if bits <= 32 else 8}")


def _colour_names(colour: _Colour, count: int) -> tuple[str, ...]:
    if colour.space in _INKS:
        return ("c", "m", "y", "k")[:count]
    if colour.space is None:  # a bare codestream
        return {1: GRAY, 3: RGB}.get(count, numbered(count))
    return _COLOURS.get(colour.space, RGB if colour.palette is not None else numbered(count))


def _read_codestream(path: str, head: bytes) -> _Codestream:
    """Read the SIZ segment."""
    at = head.find(_SIZ)
    try:
        right, bottom, left, top = struct.unpack_from(">IIII", head, at + 8)
        (count,) = struct.unpack_from(">H", head, at + 40)
        stored = [struct.unpack_from("BBB", head, at + _COMPONENTS + 3 * i) for i in range(count)]
        if at < 0 or not count or not all(across and down for _, across, down in stored):
            raise ValueError(f"codestream at {at} with {count} components")
    except (struct.error, ValueError) as error:
        raise refusal(path, _FORM, "has no valid codestream header") from error
    components = tuple(_Component((depth & 0x7F) + 1, depth > 0x7F, (across, down)) for depth, across, down in stored)
    return _Codestream(at, bottom - top, right - left, components)


def _boxes(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the boxes of a JP2 header; the first colour specification only."""
    at, end = (0, len(head)) if head[4:8] == b"jP  " else (0, 0)
    coloured = False
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", head, at)
        if kind == b"jp2c" or length < 8:
            return
        if kind == b"jp2h":  # a box of boxes
            at += 8
            continue
        if kind != b"colr" or not coloured:
            yield kind, head[at + 8 : at + length]
        coloured = coloured or kind == b"colr"
        at += length


def _read_colour(path: str, boxes: dict[bytes, bytes], components: int) -> _Colour:
    specification = boxes.get(b"colr", b"")
    space: int | bytes | None = None
    profile = None
    if specification[:1] == b"\x01":
        space = int.from_bytes(specification[3:7], "big")
    elif specification[:1] in (b"\x02", b"\x03"):  # restricted and any ICC profile
        profile = specification[3:]
        space = profile[16:20]
    palette: Pixels | None = None
    channels: list[tuple[int, int | None]] = [(i, None) for i in range(components)]
    try:
        if b"pclr" in boxes and b"cmap" in boxes:
            palette = _read_palette(boxes[b"pclr"])
            mapped = struct.iter_unpack(">HBB", boxes[b"cmap"])
            channels = [(component, column if kind else None) for component, kind, column in mapped]
            columns = range(palette.shape[1])
            if components == 1 and not {column for _, column in channels}.issuperset(columns):
                channels = [(0, column) for column in columns]  # some writers fill in the first column only
            if any(c >= components or (column or 0) >= palette.shape[1] for c, column in channels):
                raise ValueError("a channel without component or column")
        definitions = list(struct.iter_unpack(">HHH", boxes.get(b"cdef", b"")[2:])) if space != _SYCC else []
    except (struct.error, ValueError) as error:
        raise refusal(path, _FORM, f"has a damaged palette or channel definition ({error})") from error
    # (channel, 0: colour or 1, 2: opacity, number of the colour from 1) each
    place = {channel: number for channel, kind, number in definitions if kind == 0 and number}
    own = {channel for channel, _, _ in definitions if channel < len(channels)}
    if len(own) < len(definitions) or sorted(place.values()) != list(range(1, len(place) + 1)):
        definitions, place = [], {}  # they contradict themselves, and other decoders leave them out, too
    order = sorted(range(len(channels)), key=lambda k: place.get(k, 1 << 16))
    opacity = [(order.index(k), _ALPHA[kind]) for k, kind, _ in definitions if kind in _ALPHA]
    alpha, about_alpha = opacity[0] if opacity else (None, None)
    names = _COLOURS.get(space, ()) if isinstance(space, int | bytes) else ()
    if alpha is None and names and len(channels) == len(names) + 1:
        alpha = len(names)  # encoders that leave out the definition of channels put alpha behind the colours
    return _Colour(space, profile, palette, tuple(channels[k] for k in order), alpha, about_alpha)


def _read_palette(box: bytes) -> Pixels:
    """Return a palette, (entry, column); its columns have one type."""
    entries, columns = struct.unpack_from(">HB", box)
    depths = [(depth & 0x7F) + 1 for depth in box[3 : 3 + columns]]
    row = np.dtype([(f"f{i}", ">u1" if bits <= 8 else ">u2") for i, bits in enumerate(depths)])
    table = np.frombuffer(box, row, entries, 3 + columns)
    return np.stack([table[name] for name in table.dtype.names or ()], 1).astype(
        np.uint8 if max(depths) <= 8 else np.uint16
    )


def _pick(planes: Pixels, stream: _Codestream, colour: _Colour, dtype: np.dtype[Any]) -> Pixels:
    """Turn components into channels, both (c, y, x): look up palettes, order channels, scale alpha."""
    bits = stream.deepest.bits
    own = None if colour.alpha is None else stream.components[colour.channels[colour.alpha][0]].bits
    scales = colour.palette is None and own is not None and own < bits
    if not scales and colour.channels == tuple((i, None) for i in range(len(planes))):
        return planes
    out = np.empty((len(colour.channels), *planes.shape[1:]), dtype)
    for k, (component, column) in enumerate(colour.channels):
        plane = planes[component]
        if colour.palette is not None and column is not None:
            plane = colour.palette[plane.clip(0, len(colour.palette) - 1), column]
        elif scales and k == colour.alpha and own is not None:
            plane = np.rint(plane * (((1 << bits) - 1) / ((1 << own) - 1)))
        out[k] = plane
    return out


def _decode(path: str, stream: _Codestream, colour: _Colour) -> Pixels:
    """Return all components with their stored values; axes (c, y, x)."""
    import imagecodecs

    with open_binary(path) as file:
        data = file.read()
    # Compressed bits never contain this marker.  Older decoders fill what is missing with gray.
    if data.rfind(_END) < stream.at:
        raise refusal(path, _FORM, "is truncated: its end is missing")
    at, components, deepest = stream.at, stream.components, stream.deepest
    if colour.space != _SYCC:  # without the container, the decoder converts no colours
        data, at = data[at:], 0
    alike = all((c.bits, c.signed) == (deepest.bits, deepest.signed) for c in components)
    if not alike:
        data = _with_depth(data, at, len(components), deepest)
    with decoding(path, _FORM):
        pixels = imagecodecs.jpeg2k_decode(data)
    planes = channels_first(pixels)
    return planes if alike else _with_own_depths(planes, stream, _reversible(data, at, len(components)))


def _with_depth(data: bytes, at: int, count: int, component: _Component) -> bytes:
    """
    Return a codestream whose header gives all components the same depth and sign.

    The depth is not needed to decompress.  It sets what the decoder adds to values around 0, the range to which it
    limits them, and, in irreversible wavelets, the unit: values are multiplied by 2 per bit (T.800, E.1 and G.1).
    """
    patched = bytearray(data)
    depth = component.bits - 1 | component.signed << 7
    for i in range(count):
        patched[at + _COMPONENTS + 3 * i] = depth
    return bytes(patched)


def _with_own_depths(planes: Pixels, stream: _Codestream, reversible: list[bool]) -> Pixels:
    """Undo what `_with_depth` did to the values of each component."""
    deepest = stream.deepest
    out = np.empty(planes.shape, stream.dtype)
    for plane, to, component, exact in zip(planes, out, stream.components, reversible, strict=True):
        values = plane.astype(np.int64) - deepest.offset
        if not exact:
            values = np.rint(values / (1 << (deepest.bits - component.bits))).astype(np.int64)
        low = -(1 << (component.bits - 1))
        to[...] = values.clip(low, -low - 1) + component.offset
    return out


def _reversible(data: bytes, at: int, count: int) -> list[bool]:
    """Return whether the wavelet of each component works on integers, by the main header."""
    found = [True] * count
    at += 4 + int.from_bytes(data[at + 4 : at + 6], "big")
    own = set[int]()
    wide = 1 if count < 257 else 2
    while data[at : at + 2] not in (_SOT, b""):
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _COD:
            general = data[at + 13] == 1
            found = [found[i] if i in own else general for i in range(count)]
        elif marker == _COC:
            number = int.from_bytes(data[at + 4 : at + 4 + wide], "big")
            own.add(number)
            found[number] = data[at + 9 + wide] == 1
        at += 2 + length
    return found
