"""Which planes of volumes make a sample?

`z` means what it means to `ndzarr.Sampler`: positions of planes, as a slice whose ends may lie outside, or a sequence.
All files of a sample have to have the same number of planes; one alone is no axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ndzarr.errors import TargetError, WindowError
from ndzarr.geometry.selection import AxisSelection, lengths, outside, select
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.sampler.scene import Asset, Frame


@dataclass(frozen=True, slots=True)
class Planes:
    """The axis z of a sample."""

    positions: tuple[int, ...]
    """Of its planes in their files; negative, or behind the last, for those that do not exist."""
    read: AxisSelection
    """Those that exist."""
    target: slice
    """Where these land among all."""

    @property
    def complete(self) -> bool:
        """True where all exist."""
        return self.target == slice(0, len(self.positions))

    @property
    def number_read(self) -> int:
        """How many exist."""
        return lengths((self.read,))[0]


def planes_of(
    wanted: Any, files: Sequence[tuple[Frame, Asset]], open_asset: Callable[[Asset], Pyramid]
) -> Planes | None:
    """
    The planes of a sample; None where its files have one each.

    Parameters
    ----------
    wanted
        `z` of the target; None for all planes.
    files
        What the sample is made from.

    Raises
    ------
    TargetError
        Files differ in their number of planes, there are no planes to choose from, or the choice is not understood.
    """
    if wanted is None and not any("z" in dims for dims in {open_asset(asset).dims for _, asset in files}):
        return None
    depths = [open_asset(asset).sizes.get("z", 1) for _, asset in files]
    depth = max(depths, default=1)
    if depth == 1:
        if wanted is not None:
            shown = f"{_name(files[0])} has no planes" if files else "there is no file that has planes"
            raise TargetError(f"z={wanted!r}: {shown}; leave z out")
        return None
    if min(depths) != depth:
        few, many = (depths.index(n) for n in (min(depths), depth))
        raise TargetError(
            f"{_name(files[few])} has {depths[few]} plane{'s' * (depths[few] != 1)} along z, {_name(files[many])} has "
            f"{depth}; what makes one sample has to have as many: choose other channels or frames, or load them apart"
        )
    try:
        return _chosen(wanted, depth)
    except WindowError as error:
        raise TargetError(f"{error}; {_name(files[0])} has {depth} planes") from error


def _chosen(wanted: Any, depth: int) -> Planes:
    """As `Pyramid.window` understands it."""
    beyond = outside(depth, wanted) if isinstance(wanted, slice) else None
    if beyond is not None:
        asked, read, target = beyond
        return Planes(tuple(asked), read, target)
    [there] = select(("z",), (depth,), {"z": wanted})
    positions = tuple(range(depth)[there]) if isinstance(there, slice) else there
    return Planes(positions, there, slice(0, len(positions)))


def _name(file: tuple[Frame, Asset]) -> str:
    frame, asset = file
    return f"{frame.name}: {asset.path}"
