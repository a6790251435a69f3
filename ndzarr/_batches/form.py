"""What does bulk work need to know of a sampler, and of one sample that is not read yet?

`CocoSampler` and `Sampler` each make `Member`s out of targets; everything in `ndzarr.bulk` works on those alone, so
that batches, lazy batches and extractions mean the same with either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from ndzarr._indexing.selection import Selection
from ndzarr._pyramid.crops import Crop
from ndzarr._sampling.annotations import AnnotationTable, Found, Lookup
from ndzarr._sampling.sample import Context
from ndzarr._sampling.scene import Scene
from ndzarr._sampling.target import Target
from ndzarr.errors import OptionError, TargetError, did_you_mean
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets

if TYPE_CHECKING:
    import xarray


Mask: TypeAlias = "tuple[tuple[str, ...], np.ndarray[Any, Any]] | None"
"""Where pixels are real, with its axes; None where all of them are."""

Lacking: TypeAlias = Literal["nothing", "planes", "channels"]
"""Which pixels may not be real: none, the same of all channels, or others of other channels."""

Labeller: TypeAlias = "tuple[Callable[[Context, Any, np.ndarray[Any, Any], Any], xarray.Dataset], Any]"
"""Makes the Dataset of a sample of its context, the second item, its pixels and its mask."""


class Member(Protocol):
    """One sample of a batch, before it is read."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Axes of its image."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its image."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its image."""

    @property
    def channels(self) -> tuple[str, ...] | None:
        """Names along c; None where there is no such axis."""

    @property
    def crops(self) -> Sequence[Crop]:
        """What a `ReadPlan` is made from."""

    @property
    def scene(self) -> Scene:
        """Its window and frames."""

    @property
    def origin(self) -> tuple[float, float]:
        """Where its first pixel begins along (y, x), in native pixels."""

    @property
    def pitch(self) -> tuple[float, float]:
        """Native pixels per pixel along (y, x)."""

    @property
    def beyond(self) -> float:
        """Value of the pixels that make it as large as the largest of its batch."""

    @property
    def ids(self) -> dict[str, Any]:
        """What it was read from: columns along sample (and t, where the value is an array)."""

    def labels(self, dim: str) -> np.ndarray[Any, Any]:
        """Labels along t or z."""

    @property
    def found(self) -> Found | None:
        """Its annotations; None where none are looked up."""

    @property
    def lookup(self) -> Lookup:
        """Which annotations are wanted."""

    @property
    def parsed(self) -> Target:
        """What was asked for."""

    @property
    def copied_from(self) -> Origin | None:
        """Where windows of its image are stored; None where they are not simply copied."""

    @property
    def lacking(self) -> Lacking:
        """Which of its pixels may not be real, as far as can be known without reading it."""

    def whole(self, name: Any) -> tuple[int, int] | None:
        """(height, width) of an image, or of a named pyramid, of which every pixel is real; None if some may not be."""

    @property
    def annotation_table(self) -> AnnotationTable | None:
        """The annotations of its dataset; None where none are looked up."""

    @property
    def labeller(self) -> Labeller:
        """Puts names on its pixels, without the sampler."""

    def context(self) -> Context:
        """What the accessor of the sample knows."""

    def label(self, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None) -> xarray.Dataset:
        """What `load_sample` returns, from its pixels and a mask as `read` returned it."""

    @classmethod
    def read(cls, members: Sequence[Any], out: Sequence[np.ndarray[Any, Any]]) -> list[Mask]:
        """Read members of this kind by one plan, into arrays of their shapes and dtypes."""


class BulkSampler(Protocol):
    """A sampler, as far as bulk work needs to know it."""

    def members(self, targets: Iterable[Mapping[str, Any]], lookup: Lookup, start: int = 0) -> list[Any]:
        """The targets, of which the first has this number, parsed and resolved; none of their pixels is read."""

    def source_files(self, images: Iterable[Any] | None) -> Iterator[str]:
        """Paths of the files of some images; None for all."""

    def images_of(self, annot_ids: Iterable[Any]) -> list[Any] | None:
        """The image of each annotation; None if one does not exist."""


def numbered(make: Callable[[Any], Any], targets: Iterable[Any], start: int = 0) -> list[Any]:
    """
    What is made of each target.

    Raises
    ------
    TargetError
        One is not understood: among many, its number (the first has `start`) is what finds it.
    """
    out = []
    for given in targets:
        try:
            out.append(make(given))
        except TargetError as error:
            raise TargetError(f"target {start + len(out)}: {error}") from error
    return out


def batchable(target: Target) -> Target:
    """
    The target.

    Raises
    ------
    TargetError
        It cannot be one of many samples of one array.
    """
    if target.native is not None:
        raise TargetError("use_native_scale gives every asset a size of its own; such samples are loaded one by one")
    if target.lazy:
        raise TargetError("lazy: a target in a batch is never lazy by itself; use lazy_batch")
    return target


# --- How do many targets become one array in memory, with every chunk decoded once?


Sizes: TypeAlias = Literal["pad", "refuse"]
SIZES = ("pad", "refuse")
"""What may be done with samples of different sizes."""


@dataclass(frozen=True, slots=True)
class Form:
    """What all samples of a batch have in common."""

    dims: tuple[str, ...]
    """Axes of a sample."""
    shape: tuple[int, ...]
    """Of the largest sample along each axis."""
    dtype: np.dtype[Any]
    channels: tuple[str, ...] | None
    """Names along c; None where there is no such axis."""

    @property
    def described(self) -> str:
        """As messages name it."""
        return f"({' '.join(self.dims)}) {self.dtype} {'|'.join(self.channels or ())} {self.shape}"


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A batch that was read, without names."""

    image: np.ndarray[Any, Any]
    """Axes (sample, *form.dims)."""
    masks: list[Mask]
    """Where pixels are real, per sample, in its own size."""


def rows_with(targets: Targets | Rows, keys: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """
    The targets, each with these keys.

    Raises
    ------
    TargetError
        There is no target.
    """
    rows = list(Rows(targets))
    if not rows:
        raise TargetError("targets is empty: a batch needs at least one target, or it would have no shape")
    return [{**row, **keys} for row in rows] if keys else rows


def check_sizes(sizes: str) -> None:
    """Raise `OptionError` for an unknown choice."""
    if sizes not in SIZES:
        raise OptionError(f"sizes={sizes!r} is not known{did_you_mean(sizes, SIZES)}")


def agree(members: Sequence[Member], sizes: str = "pad", first: Member | None = None, start: int = 0) -> Form:
    """
    What the members have in common.

    Parameters
    ----------
    first
        Sample 0, where these are later ones: they must agree with it too.
    start
        Number of the first of these.

    Raises
    ------
    TargetError
        They have different axes, channels or dtypes, or, where those are refused, sizes; the message names two.
    """
    check_sizes(sizes)
    wanted = members[0] if first is None else first

    def same(what: str, of: Callable[[Member], Any], joint: str, fix: str) -> Any:
        return _same(wanted, members, start, what, of, joint, fix)

    dims = same("axes", lambda m: m.dims, " ", "image and video targets, and volumes, make batches of their own")
    if "c" in dims:
        same("channels", lambda m: m.channels, "|", "give channels=")
    dtype = same("dtype", lambda m: m.dtype, "", "give dtype=")
    if sizes == "refuse":
        same("size", lambda m: m.shape, " x ", "use sizes='pad', or targets of one size")
    shape = tuple(map(max, zip(*[m.shape for m in members], strict=True)))
    return Form(dims, shape, dtype, wanted.channels)


def _same(
    first: Member,
    members: Sequence[Member],
    start: int,
    what: str,
    of: Callable[[Member], Any],
    joint: str,
    fix: str,
) -> Any:
    """What all members have; raises `TargetError` if one has something else."""
    wanted = of(first)
    for k, member in enumerate(members, start):
        if (found := of(member)) != wanted:
            others = sum(of(m) != wanted for m in members)
            shown = [joint.join(map(str, v)) if isinstance(v, tuple) else str(v) for v in (wanted, found)]
            raise TargetError(
                f"samples of a batch must have the same {what}: sample 0 has {shown[0]}, sample {k} has {shown[1]}"
                f"{'' if others == 1 else f' (so have {others - 1} more)'}; {fix}"
            )
    return wanted


def read_batch(members: Sequence[Member], form: Form, out: np.ndarray[Any, Any] | None = None) -> Pixels:
    """
    Read all members by one plan.

    Parameters
    ----------
    out
        Where the pixels go, (sample, *form.dims); made if left out.
    """
    shape = (len(members), *form.shape)
    image = np.empty(shape, form.dtype) if out is None else out
    places = []
    for k, member in enumerate(members):
        place = image[k]
        if member.shape != form.shape:
            place[...] = member.beyond
            place = place[tuple(map(slice, member.shape))]
        places.append(place)
    return Pixels(image, type(members[0]).read(members, places))


def valid_of(members: Sequence[Member], form: Form, masks: Sequence[Mask]) -> Mask:
    """The mask of a batch, with axes (sample, ...); None where all pixels of all samples are real."""
    odd = [m.shape != form.shape for m in members]
    if not any(odd) and all(mask is None for mask in masks):
        return None
    with_c = any(mask is not None and "c" in mask[0] for mask in masks)
    dims = tuple(d for d in form.dims if d != "c" or with_c)
    lengths = dict(zip(form.dims, form.shape, strict=True))
    valid = np.zeros((len(members), *[lengths[d] for d in dims]), bool)
    for k, (member, mask) in enumerate(zip(members, masks, strict=True)):
        own = dict(zip(member.dims, member.shape, strict=True))
        place = valid[k][tuple([slice(own[d]) for d in dims])]
        if mask is None:
            place[...] = True
        else:
            place[...] = np.expand_dims(mask[1], [i for i, d in enumerate(dims) if d not in mask[0]])
    return ("sample", *dims), valid


def checked_mask(
    mask: Mask, dims: tuple[str, ...] | None, form: Form, n: int, start: int
) -> np.ndarray[Any, Any] | None:
    """
    The mask of n samples with the axes that were promised before anything was read; None where none was.

    Raises
    ------
    TargetError
        More may be missing than was promised.
    """
    names = f"targets {start} to {start + n - 1}"
    if dims is None:
        if mask is not None and not mask[1].all():
            raise TargetError(
                f"some pixels of {names} are not real (a file has a nodata value, that of target 0 has none); give "
                "nodata='ma', so that `valid` is there"
            )
        return None
    lengths = dict(zip(form.dims, form.shape, strict=True))
    shape = (n, *[lengths[d] for d in dims])
    if mask is None:
        return np.ones(shape, bool)
    have, valid = mask
    if "c" in have and "c" not in dims:
        raise TargetError(
            f"channels of {names} are real at different pixels, those of target 0 were not; load them apart"
        )
    missing = [k for k, d in enumerate(("sample", *dims)) if d not in have]
    return np.array(np.broadcast_to(np.expand_dims(valid, missing), shape))


# --- How is a batch of windows read that are nothing but copies of stored pixels?


class Origin(NamedTuple):
    """Where the pixels of an image are, if windows of it are copies."""

    array: Any
    lead: Selection
    """Along the axes before y."""
    shift: tuple[int, int]
    """From the sampled space to pixels of the array, along (y, x)."""
