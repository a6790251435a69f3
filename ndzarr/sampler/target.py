"""What does a target ask for?

A target is a dictionary that people write.  `parse` turns it, once, into a frozen `Target`: aliases resolved, keys
and their combinations checked, the caller's dictionary untouched.  What depends on the dataset (the size of an
image, where an annotation lies) is left open here and filled in by the sampler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.pyramid.region import AUTO, Sampling
from ndzarr.sampler import values

ALIASES = {"image_id": "gid", "image_ids": "gids", "video_id": "vidid", "annot_id": "aid"}
"""Other names of keys."""

KEYS = (
    "gid", "gids", "vidid", "aid", "key",
    "cx", "cy", "width", "height", "slices", "space_slice", "time_slice", "window_dims", "x", "y", "z", "t",
    "channels", "scale", "resolution", "output_dims", "interpolation", "antialias",
    "pad", "padkw", "fill", "nodata", "dtype", "use_native_scale", "realign_native", "lazy", "finalize",
)  # fmt: skip
"""All keys that mean something to a sampler."""

NOTES = ("category_id", "label", "weight", "tag", "as_xarray")
"""Keys that tables of targets carry along; they do not change what is loaded."""


@dataclass(frozen=True, slots=True)
class Target:
    """A window asked for, as far as it can be known without the dataset."""

    gids: tuple[Any, ...] | None = None
    """Images, or frames of one video."""
    video: bool = False
    """True for a video target: the sample has an axis t, and windows are in video space."""
    vidid: Any = None
    """The video."""
    aid: Any = None
    """The annotation that fills in what is not given."""
    key: Any = None
    """Name of a pyramid, for a sampler without kwcoco."""
    centre: tuple[float | None, float | None] = (None, None)
    """Centre of the window along (y, x)."""
    size: tuple[float | None, float | None] = (None, None)
    """Pixels along (y, x)."""
    y: tuple[int, int] | None = None
    """Half-open interval."""
    x: tuple[int, int] | None = None
    """Half-open interval."""
    time: slice | None = None
    """Frames of the video."""
    lead: tuple[tuple[str, Any], ...] = ()
    """(axis, slice or indices) for t and z of named pyramids."""
    window_dims: Any = None
    """'extent', 'square' or (height, width)."""
    channels: str | tuple[str, ...] | None = None
    """Channels asked for, in order; None for all."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Output pixels per native pixel along (x, y)."""
    resolution: Any = None
    """Ground sampling distance wanted, such as '10GSD'; together with `scale`, the scale is relative to it."""
    output_dims: tuple[int, int] | None = None
    """Exactly so many output pixels along (y, x)."""
    pad: tuple[tuple[int, int], ...] = ((0, 0), (0, 0), (0, 0))
    """Context added to the window, (before, after) along (t, y, x)."""
    padding: values.Padding = values.NO_PADDING
    """What is put where there are no pixels."""
    nodata: str | None = None
    """One of `values.NODATA`; None leaves missing pixels as they are stored."""
    dtype: np.dtype[Any] | None = None
    """Of the sample; None for that of the data."""
    native: str | None = None
    """'ragged': every asset at its own resolution; 'largest': all at that of the finest; None: one common grid."""
    lazy: bool = False
    """Return a dask-backed sample."""
    sampling: Sampling = AUTO
    """Interpolation and anti-aliasing."""


def parse(target: Mapping[str, Any]) -> Target:
    """
    Check a target.

    Raises
    ------
    TargetError
        A key is unknown, two keys contradict each other, or a value has the wrong form.

    Examples
    --------
    >>> parse({"image_id": 3, "cx": 50, "cy": 40, "width": 20, "height": 10}).centre
    (40, 50)
    >>> parse({"gid": 3, "windowdims": (64, 64)})
    Traceback (most recent call last):
    ...
    ndzarr.errors.TargetError: unknown key 'windowdims' in a target; did you mean 'window_dims'? ...
    """
    given = _without_aliases(target)
    _refuse_contradictions(given)
    gids = _ids(given.get("gids")) if "gids" in given else ((given["gid"],) if given.get("gid") is not None else None)
    y, x, time = _intervals(given)
    return Target(
        gids=gids,
        video="gids" in given or given.get("vidid") is not None,
        vidid=given.get("vidid"),
        aid=given.get("aid"),
        key=given.get("key"),
        centre=(given.get("cy"), given.get("cx")),
        size=(given.get("height"), given.get("width")),
        y=y,
        x=x,
        time=time,
        lead=tuple((d, given[d]) for d in ("t", "z") if given.get(d) is not None),
        window_dims=values.window_dims(given.get("window_dims")),
        channels=values.channels(given.get("channels")),
        scale=values.scale(given.get("scale")),
        resolution=given.get("resolution"),
        output_dims=values.pair("output_dims", given.get("output_dims")),
        sampling=values.sampling(given),
        pad=values.pad(given.get("pad"), video="gids" in given or given.get("vidid") is not None),
        padding=values.padding(given),
        nodata=values.one_of("nodata", given.get("nodata"), values.NODATA),
        dtype=values.dtype(given.get("dtype")),
        native=values.native(given),
        lazy=bool(given.get("lazy")) or given.get("finalize") is False,
    )


def _without_aliases(target: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, value in target.items():
        key = ALIASES.get(name, name)
        if key in NOTES:
            continue
        if key not in KEYS:
            raise TargetError(f"unknown key {name!r} in a target{did_you_mean(name, (*KEYS, *ALIASES))}")
        if key in given and given[key] != value:
            raise TargetError(f"a target gives {key} twice: {given[key]!r} and {value!r}")
        given[key] = value
    return given


_CONFLICTS = (
    ("gid", "gids"), ("gid", "vidid"), ("gids", "time_slice"),
    ("space_slice", "cx"), ("space_slice", "width"), ("space_slice", "y"),
    ("slices", "cx"), ("slices", "space_slice"), ("slices", "time_slice"), ("slices", "y"),
    ("y", "cy"), ("x", "cx"), ("window_dims", "space_slice"), ("output_dims", "scale"), ("output_dims", "resolution"),
    ("key", "gid"), ("key", "gids"), ("key", "vidid"), ("key", "aid"),
)  # fmt: skip


def _refuse_contradictions(given: Mapping[str, Any]) -> None:
    for a, b in _CONFLICTS:
        if given.get(a) is not None and given.get(b) is not None:
            raise TargetError(f"a target has both {a}={given[a]!r} and {b}={given[b]!r}; give only one of them")
    for a, b in (("cx", "cy"), ("width", "height")):
        if (given.get(a) is None) != (given.get(b) is None):
            raise TargetError(f"a target has one of {a} and {b}; give both")


def _ids(value: Any) -> tuple[Any, ...]:
    ids = tuple(value) if isinstance(value, (Sequence, set)) or hasattr(value, "__iter__") else (value,)
    if not ids:
        raise TargetError("gids=[]: a target needs at least one image")
    return ids


def _intervals(given: Mapping[str, Any]) -> tuple[tuple[int, int] | None, tuple[int, int] | None, slice | None]:
    """Intervals along y and x, and the slice along time, however they were given."""
    slices = tuple(given.get("slices") or given.get("space_slice") or ())
    time: slice | None = given.get("time_slice")
    if len(slices) == 3:
        time, slices = slices[0], slices[1:]
    if slices and len(slices) != 2:
        raise TargetError(f"space_slice={slices!r}: expected (slice along y, slice along x)")
    y, x = slices or (given.get("y"), given.get("x"))
    return values.bounds("y", y), values.bounds("x", x), time
