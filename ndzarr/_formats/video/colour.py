"""How do the planes of a decoded frame become r, g, b or gray?

FFmpeg's scale filter converts, with everything said to it that it would else guess: matrix and range of the source, and
flags that make its result the same on every machine and for every part of a frame (`accurate_rnd`, `bitexact`, chroma
interpolated in full).  What a frame does not state is taken as FFmpeg takes it: BT.601, limited range for YUV, full
range for gray and RGB.  Values keep their depth: 8 bits become uint8, 10 bits 0 to 1023 in uint16.
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

import numpy as np

from ndzarr._formats.base import Pixels
from ndzarr._formats.colour import ALPHA, GRAY, RGB
from ndzarr._formats.video.container import abandon, what
from ndzarr.errors import OptionError, SourceError

FLAGS = "accurate_rnd+full_chroma_int+bitexact"
"""Of the scale filter, besides the kernel."""

Box: TypeAlias = tuple[int, int, int, int]
"""(first row, row behind the last, first column, column behind the last), as stored."""

_MATRICES = {1: "bt709", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
"""AVColorSpace to what the filter calls it."""
_ASSUMED = "bt601"
_UNSPECIFIED = 2
"""Of AVColorTransferCharacteristic and AVColorPrimaries: nothing is converted between any of them."""
_DEPTHS = {"gray": (8, 9, 10, 12, 14, 16), "gbrp": (8, 9, 10, 12, 14, 16), "gbrap": (8, 10, 12, 16)}
"""Bits that FFmpeg has formats of."""
_FORMATS = {GRAY: ("gray", (0,)), RGB: ("gbrp", (2, 0, 1)), (*RGB, ALPHA): ("gbrap", (2, 0, 1, 3))}
"""Channels to FFmpeg's planar format, and the planes in the order of the channels."""
_MARGIN = 8
"""Pixels around a part of a frame that interpolated chroma may depend on; also what its corner is a multiple of."""
_GRAPHS = 32
"""Filter graphs that are kept."""


@dataclass(frozen=True, slots=True)
class Output:
    """What frames become."""

    channels: tuple[str, ...]
    """('gray',), ('r', 'g', 'b') or ('r', 'g', 'b', 'a')."""
    format: str
    """FFmpeg's name of planes of them."""
    planes: tuple[int, ...]
    """Which of its planes each channel is; a single one where the channels of a pixel lie side by side in it."""
    bits: int
    """Values are 0 to 2**bits - 1."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)


def output_for(name: str, frame: Any, channels: tuple[str, ...] | None) -> Output:
    """
    What frames like this one become.

    Parameters
    ----------
    channels
        Names asked for: gray, or r g b, with a for alpha; None for what the frame has.

    Raises
    ------
    OptionError
        It has no such channels.
    """
    components = frame.format.components
    alpha = any(component.is_alpha for component in components)
    gray = len(components) - alpha == 1 and not frame.format.has_palette and not frame.format.name.startswith("bayer")
    own = (*(GRAY if gray and not alpha else RGB), *((ALPHA,) if alpha else ()))
    wanted = own if channels is None else channels
    if wanted not in _FORMATS or (ALPHA in wanted and not alpha):
        raise OptionError(
            f"{name}: channels={list(wanted)!r} are not in this video of {', '.join(own)}; ask for gray, or for r, g "
            "and b"
        )
    if wanted == own and alpha and frame.format.is_rgb and not frame.format.is_planar and components[0].bits == 8:
        return Output(wanted, "rgba", (0,), 8)  # FFmpeg 7 does not sort such pixels into planes without rounding
    family, planes = _FORMATS[wanted]
    depth = max(component.bits for component in components)
    bits = next((b for b in _DEPTHS[family] if b >= depth), 16)
    suffix = "" if bits == 8 else f"{bits}{'le' if sys.byteorder == 'little' else 'be'}"
    return Output(wanted, family + suffix, planes, bits)


@dataclass(frozen=True, slots=True)
class Colours:
    """What the numbers of a frame mean."""

    matrix: str
    """Which combination of r, g and b each plane is."""
    limited: bool
    """True where black and white are 16 and 235 (of 8 bits), not 0 and 255."""
    said: str
    """For metadata."""


def colours_of(frame: Any) -> Colours:
    """What a frame states, and what is assumed where it does not."""
    name, stated = frame.format.name, int(frame.color_range)
    # swscale takes gray as full range; so do the encoders that state none.
    full = stated == 2 or name.startswith("yuvj") or (stated == 0 and (frame.format.is_rgb or name.startswith("gray")))
    if frame.format.is_rgb or frame.format.has_palette:
        return Colours(_ASSUMED, False, "RGB")
    matrix = _MATRICES.get(int(frame.colorspace))
    extent = ("full" if full else "limited") + (" range" if stated else " range (assumed)")
    if name.startswith("gray"):
        return Colours(_ASSUMED, not full, f"gray, {extent}")
    return Colours(matrix or _ASSUMED, not full, f"YUV by {matrix or f'{_ASSUMED} (assumed)'}, {extent}")


class Converter:
    """Makes frames of one video alike: channels, depth and size."""

    def __init__(self, name: str, output: Output, size: tuple[int, int], scaled: bool = False) -> None:
        """
        Parameters
        ----------
        name
            What errors call the video.
        size
            (height, width) that frames become, as stored.
        scaled
            Frames may have another size.
        """
        self.name, self.output, self.size, self._scaled = name, output, size, scaled
        self._process = os.getpid()
        self._graphs: OrderedDict[tuple[Any, ...], Callable[[Any], Any]] = OrderedDict()

    def pixels(self, frame: Any, box: Box | None = None) -> Pixels:
        """
        The pixels of a frame, or of a part of it, axes (c, y, x); the same whichever part is asked for.

        Raises
        ------
        SourceError
            The frame is of another size than others of its video, or FFmpeg cannot convert it.
        """
        if not self._scaled and (frame.height, frame.width) != self.size:
            raise SourceError(
                f"{self.name}: the size of its frames changes from {self.size[1]} x {self.size[0]} to {frame.width} x "
                f"{frame.height}; transcode it with size=(height, width), which all of them will get"
            )
        import av

        top, bottom, left, right = box or (0, self.size[0], 0, self.size[1])
        cut = None if self._scaled or box is None else _around(frame, box)
        for name in ("color_trc", "color_primaries"):  # since PyAV 16; swscale refuses values that it does not know
            if hasattr(frame, name):
                setattr(frame, name, _UNSPECIFIED)
        try:
            made = self._graph(frame, cut)(frame)
        except av.FFmpegError as error:
            raise SourceError(
                f"{self.name}: its {frame.format.name} frames cannot be converted ({what(error)}); convert it to "
                f"another pixel format first"
            ) from error
        y, x = (0, 0) if cut is None else (cut[0], cut[2])
        part = slice(top - y, bottom - y), slice(left - x, right - x)
        if len(self.output.planes) < len(self.output.channels):  # the channels of a pixel lie side by side
            together = _plane(made.planes[0], made.width * len(self.output.channels), self.output.dtype)
            pixels = together.reshape(*together.shape[:1], made.width, -1)[part]
            return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        planes = [_plane(made.planes[k], made.width, self.output.dtype) for k in self.output.planes]
        return np.stack([plane[part] for plane in planes])

    def _graph(self, frame: Any, cut: Box | None) -> Callable[[Any], Any]:
        if os.getpid() != self._process:
            abandon(self._graphs)
            self._process, self._graphs = os.getpid(), OrderedDict()
        colours = colours_of(frame)
        key = frame.format.name, frame.width, frame.height, colours, cut
        found = self._graphs.pop(key, None)
        if found is None:
            found = _make(frame, cut, colours, self.output.format, self.size if self._scaled else None)
        self._graphs[key] = found
        while len(self._graphs) > _GRAPHS:
            self._graphs.popitem(last=False)
        return found


def _make(frame: Any, cut: Box | None, colours: Colours, form: str, size: tuple[int, int] | None) -> Any:
    """A filter graph for frames like this one."""
    import av

    graph = av.filter.Graph()
    if hasattr(graph, "threads"):  # since PyAV 17; other threads have other work
        graph.threads = 1
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1))]
    if cut is not None:
        y0, y1, x0, x1 = cut
        nodes.append(graph.add("crop", f"w={x1 - x0}:h={y1 - y0}:x={x0}:y={y0}:exact=1"))
    kernel, sized = "bilinear", ""
    if size is not None and size != (frame.height, frame.width):
        kernel = "area" if size[0] <= frame.height and size[1] <= frame.width else "bicubic"
        sized = f"w={size[1]}:h={size[0]}:"
    nodes.append(
        graph.add(
            "scale",
            f"{sized}in_color_matrix={colours.matrix}:in_range={'tv' if colours.limited else 'pc'}:out_range=pc:"
            f"flags={kernel}+{FLAGS}",
        )
    )
    nodes += [graph.add("format", form), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()

    def run(given: Any) -> Any:
        graph.vpush(given)
        return graph.vpull()

    return run


def _around(frame: Any, box: Box) -> Box | None:
    """
    What has to be converted for a part of a frame; None for all of it.

    Where the chroma planes of an odd frame are stretched by other than whole numbers, each pixel's weights depend on
    its place in the whole.
    """
    form = frame.format
    sub_y, sub_x = 16 // form.chroma_height(16), 16 // form.chroma_width(16)
    if frame.height % sub_y or frame.width % sub_x or form.is_bit_stream or form.has_palette or "bayer" in form.name:
        return None
    step = _MARGIN

    def widen(start: int, stop: int, length: int) -> tuple[int, int]:
        return max(0, (start - _MARGIN) // step * step), min(length, -(-(stop + _MARGIN) // step) * step)

    return *widen(box[0], box[1], frame.height), *widen(box[2], box[3], frame.width)


def _plane(plane: Any, width: int, dtype: np.dtype[Any]) -> Pixels:
    """A plane without the padding of its rows, a view."""
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[: plane.height, :width]


# --- Which way up is a video?


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
"""Signs of (a, b, c, d), where x' = a x + c y and y' = b x + d y, to EXIF's number."""
_TURNED = {0: 1, 90: 8, 180: 3, -180: 3, -90: 6}
"""Degrees that FFmpeg makes of a matrix, to EXIF's number."""


def tag_of(frame: Any) -> int:
    """The orientation of a frame as EXIF's number; 1 where none is stated."""
    try:
        data = bytes(frame.side_data["DISPLAYMATRIX"])
    except KeyError:
        return 1
    except ValueError:  # beside it lies something that PyAV has no name for, and will not look past
        return _TURNED.get(int(frame.rotation), 1)
    a, b, _, c, d = struct.unpack("=5i", data[:20])
    return _TAGS.get((_sign(a), _sign(b), _sign(c), _sign(d)), 1)


def _sign(value: int) -> int:
    """Of a 16.16 number that is -1, 0 or 1 but for rounding; 2 for any other."""
    nearest = round(value / 65536)
    return nearest if abs(value - nearest * 65536) < 256 and abs(nearest) <= 1 else 2
