"""Which axis of an array is which, and how does it come into the order t c z y x?

1. An option, or names that the array carries, say what each axis is; else the shape does, where that is safe
   (`guess`).
2. `Arrangement` turns a window with axes t c z y x into an index of the array, and the block found there into the
   order of a source: a transpose, and a c of length 1 where the array has none, so always a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ndzarr.errors import OptionError, SourceError
from ndzarr.sources.base import Pixels, Region, in_order
from ndzarr.sources.options import Options

_NAMES = {
    "t": ("t", "time", "times", "timestep", "frame", "frames", "date", "datetime"),
    "c": ("c", "channel", "channels", "band", "bands", "ch", "s", "sample", "samples", "rgb", "rgba", "wavelength"),
    "z": ("z", "depth", "level", "levels", "slice", "slices", "plane", "planes", "altitude"),
    "y": ("y", "row", "rows", "lat", "latitude", "northing", "height", "line", "lines"),
    "x": ("x", "col", "cols", "column", "columns", "lon", "long", "longitude", "easting", "width"),
}
_AXIS_OF = {name: axis for axis, names in _NAMES.items() for name in names}
MOST_COLOURS = 4
"""Length up to which the last of three unnamed axes is taken for channels."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Where the axes of a source are in an array."""

    axes: str
    """One letter per axis of the array, in its order."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Axis names of the source."""
        return in_order(self.axes)

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Length of each of `dims`, given the shape of the array."""
        lengths = dict(zip(self.axes, shape, strict=True))
        return tuple(int(lengths.get(d, 1)) for d in self.dims)

    def index(self, region: Region) -> Region:
        """The index of the array for a window with axes `dims`."""
        window = dict(zip(self.dims, region, strict=True))
        return tuple(window[a] for a in self.axes)

    def arrange(self, block: Pixels) -> Pixels:
        """A block of the array with axes `dims`; a view."""
        block = block.transpose([self.axes.index(d) for d in self.dims if d in self.axes])
        return block if "c" in self.axes else block[(slice(None),) * self.dims.index("c") + (None,)]

    def along(self, axis: str, lengths: Sequence[int]) -> int:
        """Of one length per axis of the array (such as a chunk's), the one along `axis`; 1 if there is none."""
        return int(lengths[self.axes.index(axis)]) if axis in self.axes else 1


def from_shape(name: str, shape: Sequence[int], options: Options) -> Arrangement:
    """The arrangement of an array without names."""
    if options.axes is not None:
        return _asked(name, shape, options.axes)
    if len(shape) == 2:
        return Arrangement("yx")
    if len(shape) == 3:
        return Arrangement("yxc" if shape[-1] <= MOST_COLOURS else "cyx")
    if len(shape) < 2:
        raise SourceError(f"{name}: an array of shape {tuple(shape)} has fewer than the two axes of an image")
    raise SourceError(
        f"{name}: an array of shape {tuple(shape)} has {len(shape)} axes without names; say what they are, such as "
        f"axes={'tcyx' if len(shape) == 4 else 'tczyx'!r}"
    )


def from_names(name: str, names: Sequence[object], shape: Sequence[int], options: Options) -> Arrangement:
    """The arrangement of an array whose axes have names, such as ('time', 'band', 'lat', 'lon')."""
    if options.axes is not None:
        return _asked(name, shape, options.axes)
    if all(str(n) == f"dim_{i}" for i, n in enumerate(names)):  # xarray's way to say unnamed
        return from_shape(name, shape, options)
    letters = [_AXIS_OF.get(str(n).lower()) for n in names]
    unknown = [str(n) for n, letter in zip(names, letters, strict=True) if letter is None]
    axes = "".join(letter for letter in letters if letter is not None)
    if unknown or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        what = f"{', '.join(map(repr, unknown))} not understood" if unknown else "y and x, and each once, are needed"
        raise SourceError(
            f"{name}: the axes are named {', '.join(map(str, names))}: {what}; say what they are, "
            f"such as axes={'tczyx'[-len(names) :]!r}"
        )
    return Arrangement(axes)


def _asked(name: str, shape: Sequence[int], axes: str) -> Arrangement:
    if len(axes) != len(shape):
        raise OptionError(
            f"{name}: axes={axes!r} names {len(axes)} axes, but the array has {len(shape)}, of shape {tuple(shape)}"
        )
    return Arrangement(axes)
