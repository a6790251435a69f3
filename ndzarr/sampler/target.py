"""What does a target ask for?

A target is a dictionary that people write.  `parse` turns it, once, into a frozen `Target`: aliases resolved, keys
and their combinations checked, the caller's dictionary untouched.  What depends on the dataset (the size of an
image, where an annotation lies) is left open here and filled in by the sampler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.pyramid.region import AUTO, Sampling
from ndzarr.sampler import forms, values
from ndzarr.sampler.forms import one_of, pair

ALIASES = {"image_id": "gid", "image_ids": "gids", "video_id": "vidid", "annot_id": "aid"}
"""Other names of keys."""

KEYS = (
    "gid", "gids", "vidid", "aid", "key",
    "cx", "cy", "width", "height", "slices", "space_slice", "time_slice", "time_start", "time_stop", "time_step",
    "z_start", "z_stop", "z_step",
    "window_dims", "x", "y", "z", "t",
    "channels", "scale", "resolution", "output_dims", "interpolation", "antialias",
    "pad", "padkw", "fill", "nodata", "dtype", "use_native_scale", "realign_native", "lazy", "finalize",
    "bounds", "crs",
)  # fmt: skip
"""All keys that mean something to a sampler."""

NOTES = (
    "category_id", "category_ids", "annot_ids", "n_annots", "kind", "coverage", "valid_fraction", "quality",
    "probability", "group", "split", "label", "weight", "tag", "space_dims", "data_dims", "annot_idx",
    "img_width", "img_height", "aids",
    "as_xarray", "optimize", "legacy_target", "legacy_annots", "verbose_ndsample",
)  # fmt: skip
"""Keys that tables of targets, and targets that were resolved, carry along, and ndsampler's switches that mean nothing
here; they do not change what is loaded."""

ARGUMENTS = ("with_annots", "annot_ids", "visible_thresh", "clip")
"""What is said beside a target; `annot_ids` in one is a column of a table."""

NOTE = "note_"
"""Keys that begin so are notes too: columns of one's own."""


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
    y: values.Bounds | None = None
    """Half-open interval."""
    x: values.Bounds | None = None
    """Half-open interval."""
    time: slice | int | None = None
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
    bounds: tuple[tuple[float, ...], Any] | None = None
    """((left, bottom, right, top), their reference system or None for that of the image): a window in coordinates."""


def merged(target: Any, keys: Mapping[str, Any]) -> dict[str, Any]:
    """A target, which may be a row of a table with missing values, and further keys."""
    if target is None:
        return dict(keys)
    if hasattr(target, "iloc"):
        from ndzarr.targets.rows import present

        target = present(target)
    _refuse_others(target)
    return {**target, **keys}


def _refuse_others(target: Any) -> None:
    if not isinstance(target, Mapping):
        raise TargetError(f"target={target!r}: expected a dictionary, such as {{'gid': 1}}; load_batch takes many")


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
    (40.0, 50.0)
    >>> parse({"gid": 3, "windowdims": (64, 64)})
    Traceback (most recent call last):
    ...
    ndzarr.errors.TargetError: unknown key 'windowdims' in a target; did you mean 'window_dims'? ...
    """
    _refuse_others(target)
    given = _without_aliases(target)
    _refuse_contradictions(given)
    given |= {key: forms.one_id(key, given[key]) for key in ("gid", "vidid", "aid") if key in given}
    gids = forms.ids_of_images(given["gids"]) if given.get("gids") is not None else None
    video = gids is not None or given.get("vidid") is not None
    if gids is None and given.get("gid") is not None:
        gids = (given["gid"],)
    y, x, time = _intervals(given)
    lead = {"t": given.get("t"), "z": _flat(given, "z", "z", given.get("z"))}
    centre, size = _centre_and_size(given, y, x)
    return Target(
        gids=gids,
        video=video,
        vidid=given.get("vidid"),
        aid=given.get("aid"),
        key=given.get("key"),
        centre=centre,
        size=size,
        y=y,
        x=x,
        time=time,
        lead=tuple([(d, want) for d, want in lead.items() if want is not None]),
        window_dims=values.window_dims(given.get("window_dims")) if y is None and x is None else None,
        **({} if _PIXELS.isdisjoint(given) else _pixels(given, video)),
    )


_PIXELS = frozenset(KEYS[KEYS.index("channels") :])
"""Keys that say how pixels are made; most targets have none of them."""


def _pixels(given: Mapping[str, Any], video: bool) -> dict[str, Any]:
    """Fields that say how pixels are made."""
    return {
        "channels": values.channels(given.get("channels")),
        "scale": values.scale(given.get("scale")),
        "resolution": given.get("resolution"),
        "output_dims": pair("output_dims", given.get("output_dims")),
        "sampling": values.sampling(given),
        "pad": values.pad(given.get("pad"), video or (given.get("gid") is None and given.get("aid") is None)),
        "padding": values.padding(given),
        "nodata": one_of("nodata", given.get("nodata"), values.NODATA),
        "dtype": values.dtype(given.get("dtype")),
        "native": values.native(given),
        "lazy": values.lazy(given),
        "bounds": values.box(given.get("bounds"), given.get("crs")),
    }


def _without_aliases(target: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, value in target.items():
        key = ALIASES.get(name, name)
        if key in NOTES or str(name).startswith(NOTE):
            continue
        if key in ARGUMENTS:
            raise TargetError(f"{name!r} is an argument of load_sample and load_batch, and no key of a target")
        if key not in KEYS:
            raise TargetError(f"unknown key {name!r} in a target{did_you_mean(name, (*KEYS, *ALIASES, *ARGUMENTS))}")
        if given.get(key) is not None and value is not None and given[key] != value:
            raise TargetError(f"a target gives {key} twice: {given[key]!r} and {value!r}")
        given[key] = value if value is not None else given.get(key)
    return given


_CONFLICTS = (
    ("gid", "gids"), ("gid", "vidid"), ("space_slice", "y"), ("space_slice", "x"),
    ("slices", "y"), ("slices", "x"),
    ("output_dims", "scale"), ("output_dims", "resolution"),
    ("bounds", "y"), ("bounds", "x"), ("bounds", "space_slice"), ("bounds", "slices"), ("bounds", "cx"),
    ("bounds", "width"), ("bounds", "window_dims"),
    ("key", "gid"), ("key", "gids"), ("key", "vidid"), ("key", "aid"),
)  # fmt: skip


def _refuse_contradictions(given: Mapping[str, Any]) -> None:
    for a, b in _CONFLICTS:
        if given.get(a) is not None and given.get(b) is not None:
            raise TargetError(f"a target has both {a}={given[a]!r} and {b}={given[b]!r}; give only one of them")
    for a, b in (("cx", "cy"), ("width", "height")):
        if (given.get(a) is None) != (given.get(b) is None):
            raise TargetError(f"a target has one of {a} and {b}; give both")


def _centre_and_size(
    given: Mapping[str, Any], y: values.Bounds | None, x: values.Bounds | None
) -> tuple[tuple[float | None, float | None], tuple[float | None, float | None]]:
    """
    Centre and size along (y, x), where no interval gives the window already.

    A target that was resolved holds both; they are allowed to agree.
    """
    centre = _number(given, "cy"), _number(given, "cx")
    size = _number(given, "height"), _number(given, "width")
    if y is None and x is None:
        return centre, size
    dims = values.window_dims(given.get("window_dims"))
    if (centre, size, dims) == ((None, None), (None, None), None):
        return (None, None), (None, None)
    for name, interval, c, n in zip("yx", (y, x), centre, values.sized(dims, size), strict=True):
        around = None if c is None or n is None else values.centred(c, n)
        if around is None or around != interval:
            raise TargetError(
                f"a target gives {name} both as an interval, {interval}, and by its centre and size, {around}; "
                "give only one of them"
            )
    return (None, None), (None, None)


def _number(given: Mapping[str, Any], key: str) -> float | None:
    value = given.get(key)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not isfinite(number) or (key in ("width", "height") and number <= 0):
        raise TargetError(f"{key}={value!r}: expected a number{' above 0' if key in ('width', 'height') else ''}")
    return number


def _flat(given: Mapping[str, Any], axis: str, key: str, whole: Any) -> Any:
    """A slice that may be given by its parts instead, as tables have them."""
    parts = tuple([given.get(f"{axis}_{part}") for part in ("start", "stop", "step")])
    if parts == (None, None, None):
        return whole
    flat = forms.time(slice(*parts), key)
    if whole is not None and not (isinstance(whole, slice) and whole == flat):
        raise TargetError(f"a target has both {key}={whole!r} and its parts, {flat!r}; give only one of them")
    return flat


def _intervals(given: Mapping[str, Any]) -> tuple[values.Bounds | None, values.Bounds | None, slice | int | None]:
    """Intervals along y and x, and the slice along time, however they were given."""
    slices = forms.slices("slices", given.get("slices"), (2, 3))
    space = forms.slices("space_slice", given.get("space_slice"), (2,))
    time = _flat(given, "time", "time_slice", forms.time(given.get("time_slice")))
    if len(slices) == 3:
        first = forms.time(slices[0])
        if time not in (None, first):
            raise TargetError(f"a target has both slices={slices!r} and time_slice={time!r}; give only one of them")
        time, slices = first, slices[1:]
    if slices and space and slices != space:
        raise TargetError(f"a target has both slices={slices!r} and space_slice={space!r}; give only one of them")
    y, x = slices or space or (given.get("y"), given.get("x"))
    return values.bounds("y", y), values.bounds("x", x), time
