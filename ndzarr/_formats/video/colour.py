"""Conversion of decoded frames to r, g, b or gray, and their orientation.

FFmpeg's scale filter converts.  It is told everything that it would else guess: matrix and range of the source, and
flags that make the result the same on every machine and for every part of a frame (`accurate_rnd`, `bitexact`, chroma
interpolated in full).  Where a frame states nothing, FFmpeg's own defaults hold: BT.601, limited range for YUV, full
range for gray and RGB.  Values keep their depth: 8 bits become uint8, 10 bits become 0 to 1023 in uint16.
"""

from __future__ import annotations

import os
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import av
import numpy as np

from ndzarr._formats.base import Pixels
from ndzarr._formats.colour import ALPHA, GRAY, RGB
from ndzarr._formats.video.container import av_reason, free_with_owner
from ndzarr.errors import OptionError, SourceError

Box: TypeAlias = tuple[int, int, int, int]
"""(first row, stop row, first column, stop column), half-open."""

_FLAGS = "accurate_rnd+full_chroma_int+bitexact"
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
"""AVColorSpace to the name of the scale filter."""
_DEFAULT_MATRIX = "bt601"
_UNSPECIFIED = 2
"""AVColorTransferCharacteristic and AVColorPrimaries: no conversion between any of them."""
_DEPTHS = {"gray": (8, 9, 10, 12, 14, 16), "gbrp": (8, 9, 10, 12, 14, 16), "gbrap": (8, 10, 12, 16)}
"""Bits per sample for which FFmpeg has a format."""
_FORMATS = {GRAY: ("gray", (0,)), RGB: ("gbrp", (2, 0, 1)), (*RGB, ALPHA): ("gbrap", (2, 0, 1, 3))}
"""Channels to FFmpeg's planar format and the plane of each channel."""
_MARGIN = 8
"""Pixels around a box that its interpolated chroma may depend on; also the step of the corners of what is converted."""
_GRAPHS = 32
"""Maximum number of filter graphs that are kept."""


@dataclass(frozen=True, slots=True)
class Output:
    """Format of converted frames."""

    channels: tuple[str, ...]
    """('gray',), ('r', 'g', 'b') or ('r', 'g', 'b', 'a')."""
    format: str
    planes: tuple[int, ...]
    """Plane of each channel; a single plane if the channels are interleaved."""
    bits: int
    """Values are 0 to 2**bits - 1."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples: uint8 or uint16."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)


def output_for(name: str, frame: Any, channels: tuple[str, ...] | None) -> Output:
    """Choose the format that frames like this one are converted to; `channels` None stands for what the frame has."""
    components = frame.format.components
    alpha = any(component.is_alpha for component in components)
    gray = len(components) - alpha == 1 and not frame.format.has_palette and not frame.format.name.startswith("bayer")
    own = (*(GRAY if gray and not alpha else RGB), *((ALPHA,) if alpha else ()))
    wanted = own if channels is None else channels
    if wanted not in _FORMATS or (ALPHA in wanted and not alpha):
        raise OptionError(
            f"{name}: channels={list(wanted)!r} are not in this video of {', '.join(own)}",
            key="channels",
            hint="Ask for gray, or for r, g and b",
        )
    if wanted == own and alpha and frame.format.is_rgb and not frame.format.is_planar and components[0].bits == 8:
        return Output(wanted, "rgba", (0,), 8)  # FFmpeg 7 rounds when it sorts such pixels into planes
    family, planes = _FORMATS[wanted]
    depth = max(component.bits for component in components)
    bits = next((b for b in _DEPTHS[family] if b >= depth), 16)
    suffix = "" if bits == 8 else f"{bits}{'le' if sys.byteorder == 'little' else 'be'}"
    return Output(wanted, family + suffix, planes, bits)


@dataclass(frozen=True, slots=True)
class Colours:
    """Meaning of the samples of a frame."""

    matrix: str
    """Name of the combination of r, g and b that each plane is."""
    limited: bool
    """True if black and white are 16 and 235 (of 8 bits), False if they are 0 and 255."""
    description: str


def colours_of(frame: Any) -> Colours:
    """Return what a frame states about its colours, or the default where it states nothing."""
    name, stated = frame.format.name, int(frame.color_range)
    # swscale takes gray as full range; so do the encoders that state none.
    full = stated == 2 or name.startswith("yuvj") or (stated == 0 and (frame.format.is_rgb or name.startswith("gray")))
    if frame.format.is_rgb or frame.format.has_palette:
        return Colours(_DEFAULT_MATRIX, False, "RGB")
    matrix = _MATRICES.get(int(frame.colorspace))
    extent = ("full" if full else "limited") + (" range" if stated else " range (assumed)")
    if name.startswith("gray"):
        return Colours(_DEFAULT_MATRIX, not full, f"gray, {extent}")
    return Colours(matrix or _DEFAULT_MATRIX, not full, f"YUV by {matrix or f'{_DEFAULT_MATRIX} (assumed)'}, {extent}")


class Converter:
    """Converts the frames of one video to the same channels, depth and size."""

    def __init__(self, name: str, output: Output, size: tuple[int, int], scaled: bool = False) -> None:
        """Convert to `size`, the (height, width) as stored; only if `scaled`, frames may have another size before."""
        self.name, self.output, self.size, self._scaled = name, output, size, scaled
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._graphs: OrderedDict[tuple[Any, ...], Callable[[Any], Any]] = OrderedDict()
        self._free_kept = free_with_owner(self, self._graphs)

    def pixels(self, frame: Any, box: Box | None = None) -> Pixels:
        """Return the pixels of a frame, or of a part of it, which equal those of the whole there; axes (c, y, x)."""
        if not self._scaled and (frame.height, frame.width) != self.size:
            raise SourceError(
                f"{self.name}: the size of its frames changes from {self.size[1]} x {self.size[0]} to {frame.width} "
                f"x {frame.height}",
                path=self.name,
                hint="Transcode it with size=(height, width), which scales all of them",
            )
        top, bottom, left, right = box or (0, self.size[0], 0, self.size[1])
        crop = None if self._scaled or box is None else _box_to_convert(frame, box)
        for name in ("color_trc", "color_primaries"):  # since PyAV 16; swscale refuses values that it does not know
            if hasattr(frame, name):
                setattr(frame, name, _UNSPECIFIED)
        try:
            made = self._graph(frame, crop)(frame)
        except av.FFmpegError as error:
            raise SourceError(
                f"{self.name}: FFmpeg cannot convert its {frame.format.name} frames ({av_reason(error)})",
                path=self.name,
                hint="Convert the video to another pixel format first",
            ) from error
        y, x = (0, 0) if crop is None else (crop[0], crop[2])
        part = slice(top - y, bottom - y), slice(left - x, right - x)
        if len(self.output.planes) < len(self.output.channels):  # interleaved
            together = _plane(made.planes[0], made.width * len(self.output.channels), self.output.dtype)
            pixels = together.reshape(*together.shape[:1], made.width, -1)[part]
            return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        planes = [_plane(made.planes[k], made.width, self.output.dtype) for k in self.output.planes]
        return np.stack([plane[part] for plane in planes])

    def _graph(self, frame: Any, crop: Box | None) -> Callable[[Any], Any]:
        if os.getpid() != self._process:  # a forked child
            self._free_kept()
            self._reset()
        colours = colours_of(frame)
        key = frame.format.name, frame.width, frame.height, colours, crop
        found = self._graphs.pop(key, None)
        if found is None:
            found = _make_graph(frame, crop, colours, self.output.format, self.size if self._scaled else None)
        self._graphs[key] = found
        while len(self._graphs) > _GRAPHS:
            self._graphs.popitem(last=False)
        return found


def _make_graph(
    frame: Any, crop: Box | None, colours: Colours, form: str, size: tuple[int, int] | None
) -> Callable[[Any], Any]:
    """Return a function that converts frames like this one."""
    graph = av.filter.Graph()
    if hasattr(graph, "threads"):  # since PyAV 17; the decoder keeps the processors busy
        graph.threads = 1
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1))]
    if crop is not None:
        y0, y1, x0, x1 = crop
        nodes.append(graph.add("crop", f"w={x1 - x0}:h={y1 - y0}:x={x0}:y={y0}:exact=1"))
    kernel, scale = "bilinear", ""
    if size is not None and size != (frame.height, frame.width):
        kernel = "area" if size[0] <= frame.height and size[1] <= frame.width else "bicubic"
        scale = f"w={size[1]}:h={size[0]}:"
    nodes.append(
        graph.add(
            "scale",
            f"{scale}in_color_matrix={colours.matrix}:in_range={'tv' if colours.limited else 'pc'}:out_range=pc:"
            f"flags={kernel}+{_FLAGS}",
        )
    )
    nodes += [graph.add("format", form), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()

    def convert(given: Any) -> Any:
        graph.vpush(given)
        return graph.vpull()

    return convert


def _box_to_convert(frame: Any, box: Box) -> Box | None:
    """Return the part of a frame that has to be converted for a box; None for all of it."""
    # If chroma planes are stretched by a factor that is not whole, a pixel's weights depend on its place in the frame.
    form = frame.format
    sub_y, sub_x = 16 // form.chroma_height(16), 16 // form.chroma_width(16)
    if frame.height % sub_y or frame.width % sub_x or form.is_bit_stream or form.has_palette or "bayer" in form.name:
        return None

    def widen(start: int, stop: int, length: int) -> tuple[int, int]:
        return max(0, (start - _MARGIN) // _MARGIN * _MARGIN), min(length, -(-(stop + _MARGIN) // _MARGIN) * _MARGIN)

    return *widen(box[0], box[1], frame.height), *widen(box[2], box[3], frame.width)


def _plane(plane: Any, width: int, dtype: np.dtype[Any]) -> Pixels:
    """Return a view of a plane without the padding of its rows."""
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[: plane.height, :width]


_TAGS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
"""Signs of (a, b, c, d), where x' = a x + c y and y' = b x + d y, to the value of the EXIF tag."""
_TAG_OF_ROTATION = {0: 1, 90: 8, 180: 3, -180: 3, -90: 6}
"""Degrees that FFmpeg makes of a matrix, to the value of the EXIF tag."""


def orientation_tag(frame: Any) -> int:
    """Return the orientation of a frame as the value of the EXIF tag; 1 if the frame states none."""
    try:
        data = bytes(frame.side_data["DISPLAYMATRIX"])
    except KeyError:
        return 1
    except ValueError:  # beside it lies something that PyAV has no name for, and PyAV does not look past it
        return _TAG_OF_ROTATION.get(int(frame.rotation), 1)
    a, b, _, c, d = struct.unpack("=5i", data[:20])
    return _TAGS.get((_sign(a), _sign(b), _sign(c), _sign(d)), 1)


def _sign(value: int) -> int:
    """Return a 16.16 number that is -1, 0 or 1 but for rounding; 2 for any other."""
    nearest = round(value / 65536)
    return nearest if abs(value - nearest * 65536) < 256 and abs(nearest) <= 1 else 2
