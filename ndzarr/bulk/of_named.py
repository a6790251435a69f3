"""What can be asked of a `Sampler` about many targets at once?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ndzarr.sampler.annotations import Lookup
from ndzarr.sampler.target import parse

if TYPE_CHECKING:
    import xarray

    from ndzarr.bulk.batch import Sizes
    from ndzarr.bulk.extract import Order
    from ndzarr.bulk.named_member import NamedMember
    from ndzarr.library import Library
    from ndzarr.pyramid.region import Crop
    from ndzarr.sampler.named import Sampler
    from ndzarr.sampler.target import Target
    from ndzarr.targets.rows import Rows, Targets


class NamedBulk:
    """The part of `Sampler` that works on many targets."""

    sources: dict[Any, Any]
    library: Library

    if TYPE_CHECKING:  # what `Sampler` has

        def crop(self, target: Target) -> Crop: ...  # noqa: D102

    def load_batch(self, targets: Targets | Rows | None = None, *, sizes: Sizes = "pad", **keys: Any) -> xarray.Dataset:
        """
        Load many windows by one plan: each chunk that they touch is decoded once; see `CocoSampler.load_batch`.

        Raises
        ------
        TargetError
            A target is not understood, or they have different axes, channels or dtypes.
        """
        from ndzarr.bulk.batch import load_batch

        return load_batch(self, {} if targets is None else targets, Lookup(False), sizes, keys)

    def lazy_batch(
        self, targets: Targets | Rows, batch_size: int = 64, *, sizes: Sizes = "pad", **keys: Any
    ) -> xarray.Dataset:
        """The Dataset of `load_batch`, dask-backed; see `CocoSampler.lazy_batch`."""
        from ndzarr.bulk.lazy import lazy_batch

        return lazy_batch(self, targets, batch_size, Lookup(False), sizes, keys)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        from dask.base import normalize_token

        sources = {str(k): v if hasattr(v, "levels") else os.fspath(v) for k, v in self.sources.items()}
        return type(self).__name__, normalize_token(sources), os.fspath(self.library.root)

    def extract(
        self,
        targets: Targets | Rows,
        dest: str | os.PathLike[str],
        *,
        order: Order = "input",
        sizes: Sizes = "pad",
        preset: str = "fast",
        shard: int | None = None,
        scheduler: Any = "threads",
        workers: int | None = None,
        progress: bool = False,
        overwrite: bool = False,
        **keys: Any,
    ) -> Path:
        """Write the samples of many targets to one Zarr store; see `CocoSampler.extract`."""
        from ndzarr.bulk.extract import extract

        return extract(
            self,
            targets,
            dest,
            order=order,
            lookup=Lookup(False),
            sizes=sizes,
            preset=preset,
            shard=shard,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
            overwrite=overwrite,
            keys=keys,
        )

    def source_files(self, images: Iterable[Any] | None = None) -> Iterator[str]:
        """Paths of all sources."""
        return (s.path if hasattr(s, "levels") else os.fspath(s) for s in self.sources.values())

    def images_of(self, annot_ids: Iterable[Any]) -> None:
        """Pyramids have no annotations."""
        return

    def members(
        self, targets: Iterable[Mapping[str, Any]], lookup: Lookup | None = None, start: int = 0
    ) -> list[NamedMember]:
        """Targets, understood but not read: what everything in `ndzarr.bulk` begins with."""
        from ndzarr.bulk.member import batchable, numbered
        from ndzarr.bulk.named_member import NamedMember

        sampler = cast("Sampler", self)

        def member(given: Mapping[str, Any]) -> NamedMember:
            parsed = batchable(parse(given))
            return NamedMember(sampler, given, parsed, self.crop(parsed))

        return numbered(member, targets, start)
