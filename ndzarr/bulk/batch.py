"""How do many targets become one array in memory, with every chunk decoded once?

1. Targets become members: parsed, resolved, nothing read (`member`).
2. All members must agree on axes, channels and dtype; the largest sets the size of the batch.
3. One array is made, and all members are read into their places in it by one `ReadPlan`.
4. One Dataset is put together at the end (`content`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ndzarr.bulk.member import BulkSampler, Mask, Member
from ndzarr.errors import OptionError, TargetError, did_you_mean
from ndzarr.sampler.annotations import Lookup
from ndzarr.targets.rows import Rows, Targets

if TYPE_CHECKING:
    import xarray

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


def load_batch(
    sampler: BulkSampler, targets: Targets | Rows, lookup: Lookup, sizes: Sizes, keys: Mapping[str, Any]
) -> xarray.Dataset:
    """
    Load many windows; see `CocoSampler.load_batch`.

    Parameters
    ----------
    keys
        Keys that every target gets.
    """
    from ndzarr.bulk.content import dataset, of_copies
    from ndzarr.bulk.context import BatchContext, LazyMembers
    from ndzarr.bulk.direct import copies

    check_sizes(sizes)
    rows = Rows(targets)
    if lookup.annot_ids is None and (found := copies(sampler, rows, keys, lookup)) is not None:
        context = BatchContext(LazyMembers(sampler, rows, dict(keys), lookup), (None,) * len(rows))
        return of_copies(found.read(), found.known, context)
    members: list[Member] = sampler.members(rows_with(rows, keys), lookup)
    form = agree(members, sizes)
    return dataset(members, form, read(members, form))


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


def read(members: Sequence[Member], form: Form, out: np.ndarray[Any, Any] | None = None) -> Pixels:
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
