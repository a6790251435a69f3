"""What does bulk work need to know of a sampler, and of one sample that is not read yet?

`CocoSampler` and `Sampler` each make `Member`s out of targets; everything in `ndzarr.bulk` works on those alone, so
that batches, lazy batches and extractions mean the same with either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.pyramid.region import Crop
from ndzarr.sampler.annotations import AnnotationTable, Found, Lookup
from ndzarr.sampler.sample import Context
from ndzarr.sampler.scene import Scene
from ndzarr.sampler.target import Target

if TYPE_CHECKING:
    import xarray

    from ndzarr.bulk.direct import Origin

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
