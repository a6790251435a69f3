"""Targets: the keys of a dictionary, checked.

A target is a dictionary that people write.  `parse` turns it, once, into a frozen `Target`: aliases resolved, keys
and their combinations checked, the caller's dictionary untouched.  What depends on the dataset (the size of an
image, where an annotation lies) is left open here and filled in by the sampler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, isfinite, isnan
from numbers import Integral
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ndzarr._geo.pixel_size import ANGLE, LENGTH, Quantity, is_physical, parse_quantity
from ndzarr._indexing.resample import SUPPORT
from ndzarr._pyramid.crops import AUTO, Sampling
from ndzarr._validation import (
    as_integer,
    as_number,
    as_tuple,
    check_choice,
    check_flag,
    check_id,
    check_ids,
    check_size,
    check_slices,
    check_time_slice,
)
from ndzarr.errors import TargetError, did_you_mean

# --- Single values.


PAD_MODES = (
    "constant", "edge", "linear_ramp", "maximum", "mean", "median", "minimum", "reflect", "symmetric", "wrap", "empty",
)  # fmt: skip
"""The modes of numpy.pad."""

PAD_OPTIONS = {
    "linear_ramp": ("end_values",),
    **dict.fromkeys(("maximum", "mean", "median", "minimum"), ("stat_length",)),
    **dict.fromkeys(("reflect", "symmetric"), ("reflect_type",)),
}
"""Arguments of numpy.pad by mode; beside them, `constant_values` is understood with every mode."""


Bounds: TypeAlias = tuple[int | None, int | None]
"""Start and stop of an interval; None where it is open."""


@dataclass(frozen=True, slots=True)
class Padding:
    """The values of pixels where a window lies outside the data."""

    mode: str = "constant"
    """One of `PAD_MODES`."""
    fill: float | None = None
    """Value of what is padded, and of missing channels and nodata where those do not become NaN; None means 0, or NaN
    for nodata='float'."""
    options: tuple[tuple[str, Any], ...] = ()
    """Other arguments of numpy.pad."""


NO_PADDING = Padding()
"""Constant, with the fill value that suits the type."""

NODATA = ("float", "ma", "auto", "fill")
"""'float': NaN, in a floating type; 'ma': kept, `valid` says where; 'fill': replaced by the fill value; 'auto':
'float' for floating types, else 'ma'."""


def both(a: str, one: Any, b: str, other: Any, more: str = "") -> TargetError:
    """Return the error about two keys of which only one may be given."""
    return TargetError(f"a target has both {a}={one!r} and {b}={other!r}{more}", key=b, hint="Give only one of them")


def parse_bounds(name: str, want: Any) -> Bounds | None:
    """Start and stop of a slice along an axis, None where it is open; None for the whole axis."""
    if want is None or want == slice(None):
        return None
    if not isinstance(want, slice) or want.step not in (None, 1):
        raise TargetError(f"{name}={want!r}: expected slice(start, stop) with step 1", key=name)
    return _position(name, want, want.start), _position(name, want, want.stop)


def _position(name: str, want: slice, value: Any) -> int | None:
    if value is None:
        return None
    if (found := as_integer(value)) is None:
        hint = "Use cx, cy, width and height for others"
        raise TargetError(f"{name}={want!r}: expected whole pixels", key=name, hint=hint)
    return found


def parse_window_dims(value: Any) -> Any:
    """'extent', 'square', (height, width) or None; lengths with a unit are `Quantity`."""
    if value is None or (isinstance(value, str) and value in ("extent", "square")):
        return value
    given = (value, value) if is_physical(value) else as_tuple(value) or ()
    dims = tuple(parse_length("window_dims", n) if is_physical(n) else n for n in given)
    numbers = [1.0 if isinstance(n, Quantity) else as_number(n) for n in dims]
    if len(dims) != 2 or any(n is None or n <= 0 for n in numbers):
        expected = "expected 'extent', 'square' or (height, width), in pixels or as lengths such as '512 m'"
        raise TargetError(f"window_dims={value!r}: {expected}", key="window_dims")
    return dims


def parse_length(name: str, value: Any) -> Quantity:
    """A size of a window that was given with its unit."""
    found = parse_quantity(name, value, TargetError)
    if found.kind not in (LENGTH, ANGLE):
        raise TargetError(f"{name}={value!r}: expected a length with its unit, such as '512 m' or '100 um'", key=name)
    return found


def window_size(dims: Any, size: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    """(height, width) after `window_dims` has had its say."""
    if isinstance(dims, tuple):
        return dims
    if dims == "square":
        if size[0] is None or size[1] is None:
            raise TargetError("window_dims='square' needs width and height, or aid", key="window_dims")
        return max(size[0], size[1]), max(size[0], size[1])
    return size


def parse_channels(value: Any) -> str | tuple[str, ...] | None:
    """A channel code (or an object of delayed_image or kwcoco that has one), or names; None for all."""
    value = getattr(value, "spec", value)
    if value is None or (isinstance(value, str) and value == "<all>"):
        return None
    if isinstance(value, str):
        named: str | tuple[str, ...] = value.strip()
    else:
        found = as_tuple(value)
        items: list[Any] = [getattr(v, "spec", v.item() if hasattr(v, "item") else v) for v in found or ()]
        if found is None or not all(isinstance(v, str) and v for v in items):
            raise TargetError(
                f"channels={value!r}: expected a code such as 'r|g|b', or a list of names", key="channels"
            )
        named = tuple(items)
    if not named:
        raise TargetError(
            f"channels={value!r}: a target needs at least one channel",
            key="channels",
            hint="Leave the key out for all",
        )
    return named


def parse_padding(given: Mapping[str, Any]) -> Padding:
    """Return what `padkw` and `fill` mean together."""
    if given.get("padkw") is None and given.get("fill") is None:
        return NO_PADDING
    asked = given.get("padkw")
    if asked is not None and not isinstance(asked, Mapping):
        raise TargetError(f"padkw={asked!r}: expected a dictionary, such as {{'mode': 'reflect'}}", key="padkw")
    options = dict(asked or {})
    mode = check_choice("padkw mode", options.pop("mode", None), PAD_MODES, TargetError, "constant")
    fills = _fill("padkw constant_values", options.pop("constant_values", None)), _fill("fill", given.get("fill"))
    if None not in fills and fills[0] != fills[1] and not (isnan(fills[0]) and isnan(fills[1])):  # type: ignore[arg-type]
        raise both("padkw constant_values", fills[0], "fill", fills[1])
    able = PAD_OPTIONS.get(mode, ())
    for name in options:
        if name not in able:
            known = did_you_mean(name, ("mode", "constant_values", *able))
            raise TargetError(f"padkw {name!r} means nothing with mode {mode!r}{known}", key="padkw")
    if options.get("reflect_type", "even") not in ("even", "odd"):
        raise TargetError(f"padkw reflect_type={options['reflect_type']!r}: expected 'even' or 'odd'", key="padkw")
    return Padding(mode, fills[0] if fills[0] is not None else fills[1], tuple(sorted(options.items())))


def _fill(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if np.ndim(value) or isinstance(value, str | bytes) or (as_number(value) is None and not _special(value)):
        key = name.partition(" ")[0]  # "padkw constant_values" is a part of `padkw`
        raise TargetError(f"{name}={value!r}: expected one number for all sides", key=key)
    return value.item() if isinstance(value, np.ndarray) else value  # type: ignore[no-any-return]


def _special(value: Any) -> bool:
    """True for NaN and the infinities."""
    return isinstance(value, float | np.floating)


def parse_pad(value: Any, along_t: bool) -> tuple[tuple[int, int], ...]:
    """(before, after) along (t, y, x) from a number, one per axis, or a pair per axis; none along t without frames."""
    if value is None:
        return ((0, 0), (0, 0), (0, 0))
    value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    axes = (value, value) if isinstance(value, Integral) else as_tuple(value) or ()
    pairs = [(a, a) if isinstance(a, Integral) else as_tuple(a) or () for a in axes]
    if len(pairs) == 2:
        pairs = [(0, 0), *pairs]
    if len(pairs) != 3 or (any(pairs[0]) and not along_t):
        raise TargetError(f"pad={value!r}: expected a number, (y, x), or for videos (t, y, x)", key="pad")
    if any(len(p) != 2 or not all(isinstance(n, Integral) and int(n) >= 0 for n in p) for p in pairs):
        raise TargetError(f"pad={value!r}: expected integers of at least 0, or (before, after) per axis", key="pad")
    return tuple((int(p[0]), int(p[1])) for p in pairs)


def parse_dtype(value: Any) -> np.dtype[Any] | None:
    """A numpy type, or None."""
    if value is None:
        return None
    try:
        wanted: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TargetError(f"dtype={value!r} is not a numpy type", key="dtype") from None
    if wanted.kind not in "biufc":
        raise TargetError(f"dtype={value!r}: expected a type of numbers", key="dtype")
    return wanted


def parse_native(given: Mapping[str, Any]) -> str | None:
    """Return what `use_native_scale` and `realign_native` mean together."""
    realign = given.get("realign_native")
    realign = None if isinstance(realign, bool | np.bool_) and not realign else realign
    if realign is not None and (not isinstance(realign, str) or realign != "largest"):
        raise TargetError(f"realign_native={realign!r}: expected 'largest'", key="realign_native")
    if not check_flag("use_native_scale", given.get("use_native_scale")):
        return None
    for key in ("output_dims", "resolution"):
        if given.get(key) is not None:
            raise both("use_native_scale", True, key, given[key])
    return "largest" if realign else "ragged"


def parse_lazy(given: Mapping[str, Any]) -> bool:
    """Return what `lazy` and `finalize` mean together."""
    wanted, finalize = check_flag("lazy", given.get("lazy")), check_flag("finalize", given.get("finalize"))
    if wanted is not None and wanted == finalize:
        raise both("lazy", wanted, "finalize", finalize)
    return finalize is False if wanted is None else wanted


def parse_sampling(given: Mapping[str, Any]) -> Sampling:
    """Return what `interpolation` and `antialias` mean together."""
    antialias = given.get("antialias")
    if antialias is None and given.get("interpolation") is None:
        return AUTO
    name = check_choice("interpolation", given.get("interpolation"), ("auto", *SUPPORT), TargetError, "auto")
    return Sampling(
        name, None if isinstance(antialias, str) and antialias == "auto" else check_flag("antialias", antialias)
    )


def parse_scale(value: Any) -> tuple[float, float]:
    """(along x, along y) from a number or a pair."""
    if value is None:
        return 1.0, 1.0
    pair = as_tuple(value) if as_tuple(value) is not None else (value, value)
    sx, sy = (as_number(v) for v in pair) if pair is not None and len(pair) == 2 else (None, None)
    if sx is None or sy is None:
        raise TargetError(f"scale={value!r}: expected a number or a pair (along x, along y)", key="scale")
    if not (sx > 0 and sy > 0):
        raise TargetError(f"scale={value!r}: expected numbers above 0", key="scale")
    return sx, sy


SIZE_SLACK = 1e-6
"""Pixels by which a size may exceed a whole number without needing another pixel: sums of decimals do."""

START_SLACK = 1e-9
"""Pixels by which a start may fall short of a whole number and still count as that number."""


def centred_interval(centre: float, size: float) -> tuple[int, int]:
    """
    Return the half-open interval of exactly `ceil(size)` pixels (at least 1) around a continuous centre.

    Examples
    --------
    >>> centred_interval(50, 20), centred_interval(50.5, 3), centred_interval(50, 19.5)
    ((40, 60), (49, 52), (40, 60))
    """
    n = max(1, ceil(size - SIZE_SLACK))
    start = floor(centre - n / 2 + START_SLACK)
    return start, start + n


def centred_intervals(centre: np.ndarray[Any, Any], size: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return `centred_interval` of columns; shape (window, 2)."""
    n = np.maximum(1, np.ceil(size - SIZE_SLACK))
    start = np.floor(centre - n / 2 + START_SLACK)
    return np.stack([start, start + n], axis=1).astype(np.int64)


def window_interval(given: Bounds | None, centre: float | None, size: float | None, length: int) -> tuple[int, int]:
    """
    A half-open interval along one axis from what a target gives; what is not given is the whole axis.

    Examples
    --------
    >>> window_interval(None, 50, 20, 100), window_interval(None, None, None, 100)
    ((40, 60), (0, 100))
    """
    if given is not None:
        return 0 if given[0] is None else given[0], length if given[1] is None else given[1]
    if centre is None:
        return (0, length) if size is None else centred_interval(length / 2, size)
    return centred_interval(centre, length if size is None else size)


def parse_resolution(value: Any) -> Quantity | None:
    """The size of an output pixel, such as '0.5um', '10GSD', '20x', or 10 in the image's own unit."""
    return None if value is None else parse_quantity("resolution", value, TargetError)


def parse_geographic_box(bounds: Any, crs: Any) -> tuple[tuple[float, ...], Any] | None:
    """A box in coordinates, (left, bottom, right, top), and their reference system, None for that of the image."""
    if bounds is None:
        if crs is not None:
            hint = "Give bounds=(left, bottom, right, top)"
            raise TargetError(f"crs={crs!r} is that of bounds", key="crs", hint=hint)
        return None
    numbers = [as_number(v) for v in as_tuple(bounds) or ()]
    if len(numbers) != 4 or None in numbers:
        raise TargetError(f"bounds={bounds!r}: expected four numbers, (left, bottom, right, top)", key="bounds")
    return tuple(numbers), crs  # type: ignore[arg-type]


ALIASES = {"image_id": "gid", "image_ids": "gids", "video_id": "vidid", "annot_id": "aid"}
"""Other names of keys."""

KEYS = (
    "gid", "gids", "vidid", "aid", "key",
    "cx", "cy", "width", "height", "slices", "space_slice", "time_slice", "time_start", "time_stop", "time_step",
    "z_start", "z_stop", "z_step",
    "window_dims", "x", "y", "z", "t", "follow",
    "channels", "scale", "resolution", "output_dims", "interpolation", "antialias",
    "pad", "padkw", "fill", "nodata", "dtype", "use_native_scale", "realign_native", "lazy", "finalize",
    "bounds", "crs",
)  # fmt: skip
"""All keys that mean something to a sampler."""

NOTES = (
    "category_id", "category_ids", "track_id", "annot_ids", "n_annots", "kind", "coverage", "valid_fraction", "quality",
    "probability", "group", "split", "label", "weight", "tag", "space_dims", "data_dims", "annot_idx",
    "img_width", "img_height", "aids",
    "as_xarray", "optimize", "legacy_target", "legacy_annots", "verbose_ndsample",
)  # fmt: skip
"""Keys that tables of targets, and targets that were resolved, carry along, and ndsampler's switches that mean nothing
here; they do not change what is loaded."""

ARGUMENTS = ("with_annots", "annot_ids", "visible_thresh", "clip")
"""Arguments beside a target; `annot_ids` within one is a column of a table."""

NOTE = "note_"
"""Keys that begin so are notes too: columns of one's own."""


class Target(NamedTuple):
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
    follow: Any = None
    """The track with which the window moves from frame to frame."""
    centre: tuple[float | None, float | None] = (None, None)
    """Centre of the window along (y, x)."""
    size: tuple[float | None, float | None] = (None, None)
    """Pixels along (y, x)."""
    y: Bounds | None = None
    """Half-open interval."""
    x: Bounds | None = None
    """Half-open interval."""
    time: slice | int | None = None
    """Frames of the video."""
    lead: tuple[tuple[str, Any], ...] = ()
    """(axis, slice or indices) for t and z of named pyramids."""
    window_dims: Any = None
    """'extent', 'square' or (height, width), in pixels or `Quantity`."""
    channels: str | tuple[str, ...] | None = None
    """Channels asked for, in order; None for all."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Output pixels per native pixel along (x, y)."""
    resolution: Quantity | None = None
    """Size of an output pixel; together with `scale`, the scale is relative to it."""
    output_dims: tuple[int, int] | None = None
    """Number of output pixels along (y, x)."""
    pad: tuple[tuple[int, int], ...] = ((0, 0), (0, 0), (0, 0))
    """Context added to the window, (before, after) along (t, y, x)."""
    padding: Padding = NO_PADDING
    """The values of pixels outside the data."""
    nodata: str | None = None
    """One of `values.NODATA`; None leaves missing pixels as they are stored."""
    dtype: np.dtype[Any] | None = None
    """Type of the sample; None for that of the data."""
    native: str | None = None
    """'ragged': every asset at its own resolution; 'largest': all at that of the finest; None: one common grid."""
    lazy: bool = False
    """Return a dask-backed sample."""
    sampling: Sampling = AUTO
    """Interpolation and anti-aliasing."""
    bounds: tuple[tuple[float, ...], Any] | None = None
    """((left, bottom, right, top), their reference system or None for that of the image): a window in coordinates."""
    plain: bool = False
    """True for one image and a window of it, at native scale, with nothing else to resolve."""


_CENTRED = ("cx", "cy", "width", "height", "window_dims")
_PLACED = ("slices", "space_slice", "y", "x", *_CENTRED)
_SUPERSEDED = {
    "slices": ("space_slice", "y", "x", *_CENTRED),
    "space_slice": ("slices", "y", "x", *_CENTRED),
    "y": ("slices", "space_slice", *_CENTRED),
    "x": ("slices", "space_slice", *_CENTRED),
    **dict.fromkeys(("cx", "cy", "window_dims"), ("slices", "space_slice", "y", "x")),
    **dict.fromkeys(("width", "height"), ("slices", "space_slice", "y", "x", "window_dims")),
    "bounds": _PLACED,
    "time_slice": ("slices", "gids"),
    "gids": ("slices", "time_slice", "gid", "aid"),
    "vidid": ("slices", "time_slice", "gids", "gid", "aid"),
    "gid": ("aid", "gids", "vidid", "time_slice"),
    "aid": ("gid", "gids", "vidid", "time_slice", *_PLACED),
    "output_dims": ("scale", "resolution"),
    "scale": ("output_dims",),
    "resolution": ("output_dims",),
}
"""Key to those that say the same in another way."""


class EditableTarget(dict[str, Any]):
    """
    A target with everything that it came to mean, under several keys: one that is set later wins over the others.

    Examples
    --------
    >>> target = EditableTarget(gid=1, cx=5, cy=5, width=4, height=4, space_slice=(slice(3, 7), slice(3, 7)))
    >>> target["cx"] = 9
    >>> target
    {'gid': 1, 'cx': 9, 'cy': 5, 'width': 4, 'height': 4}
    """

    def __setitem__(self, key: str, value: Any) -> None:
        others = _SUPERSEDED.get(ALIASES.get(key, key), ())
        if key == "slices" and len(as_tuple(value) or ()) == 3:
            others = (*others, "time_slice", "gids")
        if key == "gid" and len(as_tuple(self.get("slices")) or ()) == 3:
            others = (*others, "slices")
        for other in others:
            self.pop(other, None)
        super().__setitem__(key, value)

    def update(self, *others: Any, **keys: Any) -> None:
        """Set keys one by one."""
        for key, value in dict(*others, **keys).items():
            self[key] = value

    def copy(self) -> EditableTarget:
        """Return a target that may be edited just so."""
        return EditableTarget(self)

    def __reduce__(self) -> Any:  # `copy` and `pickle` would set key by key, and each would drop earlier ones
        return EditableTarget, (dict(self),)

    def __or__(self, other: Any) -> Any:
        made = self.copy()
        made.update(other)
        return made

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self


def merged(target: Any, keys: Mapping[str, Any]) -> dict[str, Any]:
    """A target, which may be a row of a table with missing values, and further keys."""
    if target is None:
        return dict(keys)
    if type(target) is dict:
        return {**target, **keys}
    if hasattr(target, "iloc"):
        from ndzarr._validation import drop_missing

        target = drop_missing(target)
    _refuse_others(target)
    return dict(target | keys) if isinstance(target, EditableTarget) else {**target, **keys}


def _refuse_others(target: Any) -> None:
    if not isinstance(target, Mapping):
        raise TargetError(
            f"target={target!r}: expected a dictionary, such as {{'gid': 1}}; load_batch takes many", key="target"
        )


def parse(target: Mapping[str, Any]) -> Target:
    """
    Check a target.

    Examples
    --------
    >>> parse({"image_id": 3, "cx": 50, "cy": 40, "width": 20, "height": 10}).centre
    (40.0, 50.0)
    >>> parse({"gid": 3, "windowdims": (64, 64)})
    Traceback (most recent call last):
    ...
    ndzarr.errors.TargetError: unknown key 'windowdims' in a target; did you mean 'window_dims'? ...
    """
    if type(target) is dict and type(target.get("gid")) in _IDS and (plain := _plain(target)) is not None:
        return plain
    _refuse_others(target)
    given = _without_aliases(target)
    _refuse_contradictions(given)
    given |= {key: check_id(key, given[key]) for key in ("gid", "vidid", "aid", "follow") if key in given}
    gids = check_ids(given["gids"]) if given.get("gids") is not None else None
    video = gids is not None or given.get("vidid") is not None
    if given.get("follow") is not None and not video:
        hint = "Give vidid, or gids"
        raise TargetError(f"follow={given['follow']!r}: a track is followed in a video", key="follow", hint=hint)
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
        follow=given.get("follow"),
        centre=centre,
        size=size,
        y=y,
        x=x,
        time=time,
        lead=tuple([(d, want) for d, want in lead.items() if want is not None]),
        window_dims=parse_window_dims(given.get("window_dims")) if y is None and x is None else None,
        **({} if _PIXELS.isdisjoint(given) else _pixels(given, video)),
    )


_IDS = {int, str}
_NUMBERS = {int, float}
_EXACT = 2.0**52
"""Below it, floats are exact to half a pixel."""


def _plain(target: Mapping[str, Any]) -> Target | None:
    """Return the target of an image and a window at native scale, which most are; None if anything is unusual."""
    scale, keys = target.get("scale", 1), len(target) - ("scale" in target)
    if type(scale) not in _NUMBERS or scale != 1:
        return None
    if keys == 5 and "cx" in target and "cy" in target and "width" in target and "height" in target:
        cx, cy, width, height = target["cx"], target["cy"], target["width"], target["height"]
        numbers = {type(cx), type(cy), type(width), type(height)} <= _NUMBERS
        if numbers and 0 < width < _EXACT and 0 < height < _EXACT and abs(cx) < _EXACT > abs(cy):
            size = float(height), float(width)
            return Target((target["gid"],), centre=(float(cy), float(cx)), size=size, plain=True)
        return None
    if keys == 3 and "y" in target and "x" in target:
        slices = target["y"], target["x"]
    elif keys == 2 and "space_slice" in target:
        slices = target["space_slice"]
    else:
        return None
    if type(slices) is tuple and {*map(type, slices)} == {slice} and len(slices) == 2:
        y, x = slices
        bounds = y.start, y.stop, x.start, x.stop
        if (
            y.step is x.step is None
            and {*map(type, bounds)} == {int}
            and bounds[0] < bounds[1]
            and bounds[2] < bounds[3]
        ):
            return Target((target["gid"],), y=bounds[:2], x=bounds[2:], plain=True)
    return None


_PIXELS = frozenset(KEYS[KEYS.index("channels") :])
"""Keys that say how pixels are made; most targets have none of them."""


def _pixels(given: Mapping[str, Any], video: bool) -> dict[str, Any]:
    """Fields that say how pixels are made."""
    return {
        "channels": parse_channels(given.get("channels")),
        "scale": parse_scale(given.get("scale")),
        "resolution": parse_resolution(given.get("resolution")),
        "output_dims": check_size("output_dims", given.get("output_dims")),
        "sampling": parse_sampling(given),
        "pad": parse_pad(given.get("pad"), video or (given.get("gid") is None and given.get("aid") is None)),
        "padding": parse_padding(given),
        "nodata": None if given.get("nodata") is None else check_choice("nodata", given["nodata"], NODATA, TargetError),
        "dtype": parse_dtype(given.get("dtype")),
        "native": parse_native(given),
        "lazy": parse_lazy(given),
        "bounds": parse_geographic_box(given.get("bounds"), given.get("crs")),
    }


def _without_aliases(target: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, value in target.items():
        key = ALIASES.get(name, name)
        if key in NOTES or str(name).startswith(NOTE):
            continue
        if key in ARGUMENTS:
            raise TargetError(f"{name!r} is an argument of load_sample and load_batch, not a key of a target", key=name)
        if key not in KEYS:
            known = did_you_mean(name, (*KEYS, *ALIASES, *ARGUMENTS))
            raise TargetError(f"unknown key {name!r} in a target{known}", key=str(name))
        if given.get(key) is not None and value is not None and given[key] != value:
            raise TargetError(f"a target gives {key} twice: {given[key]!r} and {value!r}", key=key)
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
            raise both(a, given[a], b, given[b])
    for a, b in (("cx", "cy"), ("width", "height")):
        if (given.get(a) is None) != (given.get(b) is None):
            raise TargetError(f"a target has one of {a} and {b}", key=a, hint="Give both")


def _centre_and_size(
    given: Mapping[str, Any], y: Bounds | None, x: Bounds | None
) -> tuple[tuple[float | None, float | None], tuple[float | None, float | None]]:
    """
    Centre and size along (y, x), where no interval gives the window already.

    A target that was resolved holds both; they are allowed to agree.
    """
    centre = _number(given, "cy"), _number(given, "cx")
    size = _number(given, "height"), _number(given, "width")
    if y is None and x is None:
        return centre, size
    dims = parse_window_dims(given.get("window_dims"))
    if (centre, size, dims) == ((None, None), (None, None), None):
        return (None, None), (None, None)
    for name, interval, c, n in zip("yx", (y, x), centre, window_size(dims, size), strict=True):
        around = None if c is None or n is None else centred_interval(c, n)
        if around is None or around != interval:
            raise TargetError(
                f"a target gives {name} both as an interval, {interval}, and by its centre and size, {around}",
                key=name,
                hint="Give only one of them",
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
        raise TargetError(
            f"{key}={value!r}: expected a number{' above 0' if key in ('width', 'height') else ''}", key=key
        )
    return number


def _flat(given: Mapping[str, Any], axis: str, key: str, whole: Any) -> Any:
    """A slice that may be given by its parts instead, as tables have them."""
    parts = tuple([given.get(f"{axis}_{part}") for part in ("start", "stop", "step")])
    if parts == (None, None, None):
        return whole
    flat = check_time_slice(slice(*parts), key)
    if whole is not None and not (isinstance(whole, slice) and whole == flat):
        what = f"a target has both {key}={whole!r} and its parts, {flat!r}"
        raise TargetError(what, key=key, hint="Give only one of them")
    return flat


def _intervals(given: Mapping[str, Any]) -> tuple[Bounds | None, Bounds | None, slice | int | None]:
    """Intervals along y and x, and the slice along time, however they were given."""
    slices = check_slices("slices", given.get("slices"), (2, 3))
    space = check_slices("space_slice", given.get("space_slice"), (2,))
    time = _flat(given, "time", "time_slice", check_time_slice(given.get("time_slice")))
    if len(slices) == 3:
        first = check_time_slice(slices[0])
        if time not in (None, first):
            raise both("slices", slices, "time_slice", time)
        time, slices = first, slices[1:]
    if slices and space and slices != space:
        raise both("slices", slices, "space_slice", space)
    y, x = slices or space or (given.get("y"), given.get("x"))
    return parse_bounds("y", y), parse_bounds("x", x), time
