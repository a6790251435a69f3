"""What does a batch know of each of its samples, and how does one come out of it again?  `batch.ndzarr`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from ndzarr.bulk.member import Member
from ndzarr.errors import TargetError
from ndzarr.sampler.annotations import Lookup
from ndzarr.sampler.sample import Context
from ndzarr.targets.rows import Rows


@dataclass(frozen=True, slots=True, eq=False)
class BatchContext:
    """Where the samples of a batch came from, in the order in which it was loaded."""

    members: Any
    """The `Member`s by position, or, once they were pickled, `Known` ones."""
    mask_dims: tuple[tuple[str, ...] | None, ...] | None
    """Axes of the mask of each sample, None where it has none; None for a lazy batch, of which nothing was read."""

    @classmethod
    def of(cls, members: Sequence[Member], mask_dims: Sequence[tuple[str, ...] | None]) -> BatchContext:
        """The context of a batch that was read."""
        return cls(tuple(members), tuple(mask_dims))

    def accessor(self, batch: xarray.Dataset) -> BatchAccessor:
        """What `batch.ndzarr` is."""
        return BatchAccessor(batch)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the sampler: what is sent to another process is what the samples know themselves."""
        if self.mask_dims is None:
            return BatchContext, (self.members, None)
        known = [Known.of(self.members[k]) for k in range(len(self.mask_dims))]
        return BatchContext, (tuple(known), self.mask_dims)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A member that has looked everything up."""

    kind: Any
    """Makes the Dataset of a sample: (context, what it needs, image, valid)."""
    needs: Any
    known: Context
    dims: tuple[str, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, member: Any) -> Known:
        """All that a member says about its sample."""
        if isinstance(member, Known):
            return member
        kind, needs = member.labeller
        return cls(kind, needs, member.context(), member.dims, member.shape)

    def context(self) -> Context:
        """What the accessor of the sample knows."""
        return self.known

    def label(self, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None) -> xarray.Dataset:
        """The sample."""
        made: xarray.Dataset = self.kind(self.known, self.needs, image, valid)
        return made


@dataclass(frozen=True)
class LazyMembers:
    """The members of a batch, made when asked for."""

    sampler: Any
    rows: Rows
    keys: Mapping[str, Any]
    lookup: Lookup

    def __getitem__(self, k: int) -> Any:
        return self.sampler.members([{**self.rows[k], **self.keys}], self.lookup)[0]


class BatchAccessor:
    """What a batch knows about its samples."""

    def __init__(self, batch: xarray.Dataset) -> None:
        self._batch = batch

    @property
    def _context(self) -> BatchContext:
        return self._batch.encoding["ndzarr"]  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return self._batch.sizes.get("sample", 1)

    def _numbers(self) -> list[int]:
        """Positions, in the batch as it was loaded, of the samples that are left."""
        if "sample" not in self._batch.coords:
            raise TargetError("an operation on this batch dropped its coordinate `sample`, which says whose is what")
        return [int(k) for k in np.atleast_1d(self._batch["sample"].values)]

    def _members(self) -> Iterator[Any]:
        return (self._context.members[k] for k in self._numbers())

    @property
    def targets(self) -> list[dict[str, Any]]:
        """The target of each sample, with the window that it was resolved to."""
        return [member.context().target for member in self._members()]

    @property
    def detections(self) -> list[list[Any]]:
        """Per sample one `kwimage.Detections` per frame, in sample pixels; see `sample.ndzarr.detections`."""
        from ndzarr.sampler.detections import detections

        return [detections(member.context()) for member in self._members()]

    def sample(self, i: int) -> xarray.Dataset:
        """
        One sample, as `load_sample` returns it: in its own size, with its own coordinates and annotations.

        That of a lazy batch is read now.

        Raises
        ------
        TargetError
            There are fewer samples.
        """
        numbers = self._numbers()
        if not -len(numbers) <= i < len(numbers):
            raise TargetError(f"sample {i} does not exist; the batch has {len(numbers)}")
        k = numbers[i]
        member = self._context.members[k]
        if self._context.mask_dims is None:
            return _read_alone(member)
        mask_dims = self._context.mask_dims[k]
        one = self._batch[["image", "valid"] if "valid" in self._batch else ["image"]]
        one = one.isel(sample=i) if "sample" in one.dims else one
        cut = {d: slice(n) for d, n in zip(member.dims, member.shape, strict=True)}
        image = one["image"].variable.transpose(*member.dims).isel(cut).values
        if mask_dims is None:
            return member.label(image, None)  # type: ignore[no-any-return]
        valid = one["valid"].variable
        valid = valid.isel({d: 0 if d not in mask_dims else cut[d] for d in valid.dims})
        return member.label(image, np.ascontiguousarray(valid.transpose(*mask_dims).values))  # type: ignore[no-any-return]


def _read_alone(member: Member) -> xarray.Dataset:
    image = np.empty(member.shape, member.dtype)
    [mask] = member.read([member], [image])
    return member.label(image, None if mask is None else mask[1])
