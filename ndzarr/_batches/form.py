"""Samples of a batch before they are read, and what they have in common.

Everything in `_batches` stands on `Pending` samples: targets that were resolved, with their files opened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np

from ndzarr._indexing.plan import ReadPlan, check_memory
from ndzarr._pyramid.crops import Crop, plan_crops
from ndzarr._sampling.annotations import Found, Lookup, find_annotations
from ndzarr._sampling.compose import Mask, SampleRequest, compose, is_uncertain, read
from ndzarr._sampling.native_scale import native_requests
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.sample import Context, context_of
from ndzarr._sampling.target import Target, parse
from ndzarr._validation import check_choice
from ndzarr.errors import TargetError
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets

Array: TypeAlias = np.ndarray[Any, Any]

MaskAxes: TypeAlias = tuple[tuple[str, ...] | None, ...]
"""Axes of the mask of each sample; None where it has none."""
Sizes: TypeAlias = Literal["pad", "refuse"]
SIZES = ("pad", "refuse")
"""Treatments of samples of different sizes."""


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A sample that is not read yet."""

    source: SampleSource
    given: Mapping[str, Any]
    """The target as it was given."""
    parsed: Target
    request: SampleRequest
    lookup: Lookup

    @property
    def found(self) -> Found | None:
        """Its annotations; None where none are looked up."""
        if not self.lookup.wanted or self.source.dset is None:
            return None
        return find_annotations(self.source.annotations, self.source.dset.index.anns, self.request.scene, self.lookup)

    def context(self) -> Context:
        """Return the context of the accessor of the sample."""
        return context_of(self.source, self.given, self.parsed, self.request.scene, self.lookup)


def pending_samples(
    source: SampleSource, targets: Iterable[Mapping[str, Any]], lookup: Lookup, start: int = 0
) -> list[Pending]:
    """Resolve targets, of which the first has the number `start`; none of their pixels is read."""

    def pending(given: Mapping[str, Any]) -> Pending:
        parsed = parse(given)
        if parsed.native is not None:
            message = "use_native_scale gives every asset a size of its own"
            raise TargetError(message, key="use_native_scale", hint="Load such samples one by one")
        if parsed.lazy:
            raise TargetError("lazy: a target in a batch is never lazy by itself", key="lazy", hint="Use lazy_batch")
        return Pending(source, given, parsed, compose(resolve(parsed, source), source), lookup)

    return numbered(pending, targets, start)


def open_together(source: SampleSource, rows: Rows, keys: Mapping[str, Any]) -> None:
    """Open the remote files of targets that name images, several at a time."""
    if not source.remote:
        return
    ids: list[Any] = []
    for name in ("gid", "key"):
        if name in keys:
            ids.append(keys[name])
        elif rows.frame is not None:
            ids += rows.frame[name].dropna().tolist() if name in rows.frame else []
        else:
            ids += [row[name] for row in rows if name in row]
    frames = []
    for known in dict.fromkeys(ids):
        with suppress(TargetError):  # the target that names it says more
            frames.append(source.frame(known))
    source.open_together(frames)


def plan_targets(source: SampleSource, targets: Targets | Rows) -> ReadPlan:
    """Return what loading targets would read."""
    crops: list[Crop] = []
    open_together(source, Rows(targets), {})
    for given in Rows(targets):
        parsed = parse(given)
        if parsed.native is None:
            crops += compose(resolve(parsed, source), source).crops
        else:
            crops += [crop for request in native_requests(source, parsed).values() for crop in request.crops]
    return plan_crops(crops)


def numbered(make: Callable[[Any], Any], targets: Iterable[Any], start: int = 0) -> list[Any]:
    """Return what is made of each target; a `TargetError` says which one is not understood."""
    out = []
    for given in targets:
        try:
            out.append(make(given))
        except TargetError as error:
            error.args = (f"target {start + len(out)}: {error}",)
            raise
    return out


def rows_with(targets: Targets | Rows, keys: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the targets, each with these keys."""
    rows = list(Rows(targets))
    if not rows:
        raise TargetError(
            "targets is empty: a batch needs at least one target, or it would have no shape", key="targets"
        )
    return [{**row, **keys} for row in rows] if keys else rows


@dataclass(frozen=True, slots=True)
class Form:
    """What all samples of a batch have in common."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    """Shape of a sample, the largest length along each axis."""
    dtype: np.dtype[Any]
    channels: tuple[str, ...] | None
    """Names along c; None without that axis."""

    def __str__(self) -> str:
        return f"({' '.join(self.dims)}) {self.dtype} {'|'.join(self.channels or ())} {self.shape}"

    def empty(self, n: int) -> Array:
        """Return an uninitialised batch of `n` samples; TargetError if it cannot fit memory."""
        check_memory(n * prod(self.shape) * self.dtype.itemsize, TargetError, hint=_FEWER.format(n))
        return np.empty((n, *self.shape), self.dtype)

    def holds(self, other: Form) -> bool:
        """Return True if samples of the other form are samples of this one."""
        same = (other.dims, other.dtype, other.channels) == (self.dims, self.dtype, self.channels)
        return same and all(n <= most for n, most in zip(other.shape, self.shape, strict=True))


_FEWER = "Load fewer than {} targets at a time, or use lazy_batch or extract, which do so"


def check_sizes(sizes: str) -> None:
    """Raise `OptionError` for an unknown choice."""
    check_choice("sizes", sizes, SIZES)


def agree(samples: Sequence[Pending], sizes: str = "pad", first: Pending | None = None, start: int = 0) -> Form:
    """Return the form of samples; those from number `start` > 0 on must agree with `first`, sample 0, too."""
    check_sizes(sizes)
    requests, wanted = [s.request for s in samples], (first or samples[0]).request

    def same(what: str, of: Callable[[SampleRequest], Any], joint: str, key: str | None, hint: str) -> None:
        expected = of(wanted)
        for k, request in enumerate(requests, start):
            if (found := of(request)) != expected:
                others = sum(of(r) != expected for r in requests)
                shown = [joint.join(map(str, v)) if isinstance(v, tuple) else str(v) for v in (expected, found)]
                raise TargetError(
                    f"samples of a batch must have the same {what}: sample 0 has {shown[0]}, sample {k} has {shown[1]}"
                    f"{'' if others == 1 else f' (so have {others - 1} more)'}",
                    key=key,
                    hint=hint,
                )

    same("axes", lambda r: r.dims, " ", None, "Load image targets, video targets and volumes in batches of their own")
    same("channels", lambda r: r.channels, "|", "channels", "Give channels=")
    same("dtype", lambda r: r.dtype, "", "dtype", "Give dtype=")
    if sizes == "refuse":
        same("size", lambda r: r.shape, " x ", "sizes", "Use sizes='pad', or targets of one size")
    shape = tuple(map(max, zip(*[r.shape for r in requests], strict=True)))
    return Form(wanted.dims, shape, wanted.dtype, wanted.channels)


def read_batch(samples: Sequence[Pending], form: Form) -> tuple[Array, Mask, MaskAxes]:
    """Read all samples by one plan: (image with axes (sample, *form.dims), mask of the batch, axes of each mask)."""
    image = form.empty(len(samples))
    places = []
    for place, sample in zip(image, samples, strict=True):
        if sample.request.shape != form.shape:
            place[...] = sample.request.fill
        places.append(place[tuple(map(slice, sample.request.shape))])
    masks = [mask for _, mask in read([s.request for s in samples], places)]
    return image, _joined(samples, form, masks), tuple([None if mask is None else mask[0] for mask in masks])


def read_promised(samples: Sequence[Pending], form: Form, start: int) -> tuple[Array, Mask]:
    """Read samples, from number `start` on, that must have the form of the first of all."""
    for k, sample in enumerate(samples, start):
        if not form.holds(own := agree([sample])):
            raise TargetError(
                f"target {k} gives {own}, but target 0 promised {form}",
                hint="Give channels= and dtype=, or load such targets apart",
            )
    image, mask, _ = read_batch(samples, form)
    return image, mask


def _joined(samples: Sequence[Pending], form: Form, masks: Sequence[Mask]) -> Mask:
    """Return the mask of a batch, with axes (sample, ...); None where all pixels of all samples are real."""
    odd = [s.request.shape != form.shape for s in samples]
    if not any(odd) and all(mask is None for mask in masks):
        return None
    with_c = any(mask is not None and "c" in mask[0] for mask in masks)
    dims = tuple(d for d in form.dims if d != "c" or with_c)
    lengths = dict(zip(form.dims, form.shape, strict=True))
    valid = np.zeros((len(samples), *[lengths[d] for d in dims]), bool)
    for k, (sample, mask) in enumerate(zip(samples, masks, strict=True)):
        own = dict(zip(sample.request.dims, sample.request.shape, strict=True))
        place = valid[k][tuple([slice(own[d]) for d in dims])]
        if mask is None:
            place[...] = True
        else:
            place[...] = np.expand_dims(mask[1], [i for i, d in enumerate(dims) if d not in mask[0]])
    return ("sample", *dims), valid


Lacking: TypeAlias = Literal["nothing", "planes", "channels"]
"""Which pixels may not be real: none, the same of all channels, or others of other channels."""


def lacking(r: SampleRequest) -> Lacking:
    """Return which pixels of a sample may not be real, as far as can be known without reading it."""
    if is_uncertain(r):
        return "channels"
    if r.complete:
        return "planes" if r.scene.nodata == "ma" else "nothing"
    alike = len(r.pieces) == len(r.scene.frames) and all(_has_all_channels(r, p.place) for p in r.pieces)
    return "planes" if alike else "channels"


def _has_all_channels(r: SampleRequest, place: tuple[int | slice, ...]) -> bool:
    if r.channels is None:
        return True
    along_c = place[r.dims.index("c")]
    return isinstance(along_c, slice) and along_c.stop - along_c.start == len(r.channels)


def mask_dims(form: Form, shapes: Iterable[tuple[int, ...]], lacks: Collection[str]) -> tuple[str, ...] | None:
    """Return the axes of `valid`: none where no pixel can be missing, c only where channels can differ."""
    if "channels" in lacks and len(form.channels or ()) != 1:
        return form.dims
    if set(lacks) - {"nothing"} or any(shape != form.shape for shape in shapes):
        return tuple(d for d in form.dims if d != "c")
    return None


def checked_mask(mask: Mask, dims: tuple[str, ...] | None, form: Form, n: int, start: int) -> Array | None:
    """Return the mask of n samples with the axes that were promised before anything was read; None where none was."""
    names = f"targets {start} to {start + n - 1}"
    if dims is None:
        if mask is not None and not mask[1].all():
            raise TargetError(
                f"some pixels of {names} are not real (a file has nodata, alpha or a mask, that of target 0 has none)",
                key="nodata",
                hint="Give nodata='ma', so that `valid` is there",
            )
        return None
    lengths = dict(zip(form.dims, form.shape, strict=True))
    shape = (n, *[lengths[d] for d in dims])
    if mask is None:
        return np.ones(shape, bool)
    have, valid = mask
    if "c" in have and "c" not in dims:
        message = f"channels of {names} are real at different pixels, unlike target 0"
        raise TargetError(message, key="channels", hint="Load them apart")
    missing = [k for k, d in enumerate(("sample", *dims)) if d not in have]
    return np.array(np.broadcast_to(np.expand_dims(valid, missing), shape))
