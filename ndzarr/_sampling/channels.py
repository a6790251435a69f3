"""The assets that the channels of a sample come from.

For every frame, the channels asked for are looked up in its assets; neighbours in the output that come from one asset
make a `Run`.  None of that depends on the window, so it is found once for the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ndzarr._indexing.affine import IDENTITY, is_scale_offset
from ndzarr._sampling.scene import Asset, Channel, Frame


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """The place of an asset in the sampled space; one object for all that lie alike."""

    matrix: np.ndarray[Any, Any]
    """3x3, from its pixels to the space."""
    upright: tuple[float, float, float, float] | None
    """Scale along x and y, offset along x and y; None where it is rotated, sheared or flipped."""


class Run(NamedTuple):
    """Neighbours along c that come from one asset."""

    frame: int
    """Position along t."""
    first: int
    """Position along c of the first of them."""
    number: int
    """Number of channels."""
    asset: Asset
    selection: slice | tuple[int, ...]
    """Their positions in the asset."""
    placed: Placement


class ChannelMap(NamedTuple):
    """The runs of the frames of a scene; they do not depend on the window."""

    runs: tuple[Run, ...]
    """Along t, then along c."""
    wanted: tuple[str, ...]
    """Names along c."""
    available: tuple[str, ...]
    """Names that some frame has."""
    absent: tuple[str, ...]
    """Names that are wanted and that no frame has."""


def asked_of(channels: Sequence[Channel] | None, frame: Frame) -> tuple[str, ...] | None:
    """The channels that were asked of the sensor of a frame, in order; None for all."""
    if channels is None:
        return None
    any_sensor = frame.sensor == "*"
    return tuple(dict.fromkeys(name for sensor, name in channels if any_sensor or sensor in ("*", frame.sensor)))


@lru_cache(maxsize=1024)
def map_channels(
    frames: tuple[Frame, ...],
    video: bool,
    channels: tuple[Channel, ...] | None,
    stated: tuple[tuple[str, ...], ...],
) -> ChannelMap:
    """Return the runs of the frames of a scene; `stated` names the channels of each asset of each frame."""
    rest = iter(stated)
    tables = [_table(frame, rest) for frame in frames]
    available = tuple(dict.fromkeys(name for table in tables for name in table))
    images = {name for table in tables for name, (asset, _) in table.items() if asset.kind != "labels"}
    by_default = tuple(name for name in available if name in images) or available
    wanted = by_default if channels is None else tuple(dict.fromkeys(name for _, name in channels))
    runs = []
    for t, (frame, table) in enumerate(zip(frames, tables, strict=True)):
        to_video = (frame.to_video if video else IDENTITY).tobytes()
        for first, asset, indices in _neighbours(_offered(channels, frame, wanted), table):
            start, n = indices[0], len(indices)
            selection = slice(start, start + n, 1) if indices == tuple(range(start, start + n)) else indices
            runs.append(Run(t, first, n, asset, selection, _placement(to_video, asset.to_image.tobytes())))
    return ChannelMap(tuple(runs), wanted, available, tuple(name for name in wanted if name not in available))


_Table: TypeAlias = dict[str, tuple[Asset, int]]
"""Channel name to the asset that has it, and its position there."""


def _table(frame: Frame, stated: Iterator[tuple[str, ...]]) -> _Table:
    """The channels of a frame; the first asset wins."""
    table: _Table = {}
    for asset in frame.assets:
        for i, name in enumerate(next(stated)):
            table.setdefault(name, (asset, i))
    return table


def _offered(channels: Sequence[Channel] | None, frame: Frame, wanted: Sequence[str]) -> list[str | None]:
    """The channels wanted, None for those that were not asked of the sensor of this frame."""
    asked = asked_of(channels, frame)
    if asked is None:
        return list(wanted)
    return [name if name in asked else None for name in wanted]


def _neighbours(wanted: Sequence[str | None], table: _Table) -> list[tuple[int, Asset, tuple[int, ...]]]:
    """(position of the first channel in the output, asset, positions there) of neighbours that come from one asset."""
    runs: list[tuple[int, Asset, tuple[int, ...]]] = []
    previous: Asset | None = None
    for k, name in enumerate(wanted):
        if name is None or name not in table:
            previous = None
            continue
        asset, i = table[name]
        if asset is previous:
            first, _, indices = runs[-1]
            runs[-1] = first, asset, (*indices, i)
        else:
            runs.append((k, asset, (i,)))
        previous = asset
    return runs


@lru_cache(maxsize=4096)
def _placement(to_video: bytes, to_image: bytes) -> Placement:
    """From the matrices' bytes: a dataset has few different ones, and numpy is slow with nine numbers."""
    matrix = np.frombuffer(to_video).reshape(3, 3) @ np.frombuffer(to_image).reshape(3, 3)
    if not is_scale_offset(matrix):
        return Placement(matrix, None)
    return Placement(matrix, (float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])))
