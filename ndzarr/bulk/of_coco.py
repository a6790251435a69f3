"""What can be asked of a `CocoSampler` about many targets at once?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ndzarr.sampler.annotations import Lookup
from ndzarr.sampler.target import parse

if TYPE_CHECKING:
    import xarray

    from ndzarr.bulk.batch import Sizes
    from ndzarr.bulk.coco_member import CocoMember
    from ndzarr.bulk.extract import Order
    from ndzarr.library import Library
    from ndzarr.sampler.assembly import Composition
    from ndzarr.sampler.coco import CocoSampler
    from ndzarr.sampler.scene import Frame
    from ndzarr.sampler.target import Target
    from ndzarr.targets.rows import Rows, Targets


class CocoBulk:
    """The part of `CocoSampler` that works on many targets."""

    dset: Any
    library: Library

    if TYPE_CHECKING:  # what `CocoSampler` has

        @property
        def hashid(self) -> str: ...  # noqa: D102
        def frame(self, gid: Any) -> Frame: ...  # noqa: D102
        def composition_of(self, target: Target) -> Composition: ...  # noqa: D102

    def load_batch(
        self,
        targets: Targets | Rows,
        *,
        with_annots: bool | str | Sequence[str] = True,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        sizes: Sizes = "pad",
        **keys: Any,
    ) -> xarray.Dataset:
        """
        Load many windows by one plan: each chunk that they touch is decoded once.

        Parameters
        ----------
        targets
            A pandas table with a column per key, or a sequence of targets; see docs/bulk.md.  Keys given as keyword
            arguments hold for all of them.
        with_annots, annot_ids, visible_thresh, clip
            As for `load_sample`.
        sizes
            What becomes of samples that are smaller than the largest: 'pad' pads them at their ends, where `valid` is
            then False; 'refuse' is an error.

        Returns
        -------
        Dataset with `image` (sample, c, y, x), for video targets (sample, t, c, y, x), of volumes with z before y,
        `valid` as `load_sample` has it, coordinates along sample, and the annotations of all samples along `annot`,
        with the sample of each in `annot_sample`.  `batch.ndzarr.sample(i)` is what `load_sample` returns for the i-th
        target.

        Raises
        ------
        TargetError
            A target is not understood, or they have different axes, channels or dtypes; the message names them.
        """
        from ndzarr.bulk.batch import load_batch

        return load_batch(self, targets, Lookup(with_annots, annot_ids, visible_thresh, clip), sizes, keys)

    def lazy_batch(
        self,
        targets: Targets | Rows,
        batch_size: int = 64,
        *,
        with_annots: bool | str | Sequence[str] = True,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        sizes: Sizes = "pad",
        **keys: Any,
    ) -> xarray.Dataset:
        """
        The Dataset of `load_batch`, dask-backed: nothing is read before it is computed, by one task per batch.

        Parameters
        ----------
        batch_size
            Samples that are read together: dask chunks along `sample`.
        targets, with_annots, annot_ids, visible_thresh, clip, sizes
            As for `load_batch`.  A table whose rows differ in image and window alone costs a microsecond a row.

        Returns
        -------
        As `load_batch`; `valid` is there wherever it may be needed, which only reading tells for sure.

        Raises
        ------
        TargetError
            As `load_batch`; also when it is computed, if images have other channels or dtypes than the first.
        """
        from ndzarr.bulk.lazy import lazy_batch

        lookup = Lookup(with_annots, annot_ids, visible_thresh, clip)
        return lazy_batch(self, targets, batch_size, lookup, sizes, keys)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return type(self).__name__, self.hashid, os.fspath(self.library.root)

    def extract(
        self,
        targets: Targets | Rows,
        dest: str | os.PathLike[str],
        *,
        order: Order = "input",
        with_annots: bool | str | Sequence[str] = True,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        sizes: Sizes = "pad",
        preset: str = "fast",
        shard: int | None = None,
        scheduler: Any = "threads",
        workers: int | None = None,
        progress: bool = False,
        overwrite: bool = False,
        **keys: Any,
    ) -> Path:
        """
        Write the samples of many targets to one Zarr store, which `xarray.open_zarr` opens; see docs/bulk.md.

        A call that was interrupted, or killed, goes on where it was when it is made again.

        Parameters
        ----------
        dest
            The store: there once it is complete.
        order
            How samples lie in the store: 'input', or 'locality', where neighbours lie together, so that what they have
            in common is decoded once.  The coordinate `sample` says which target each is.
        targets, with_annots, annot_ids, visible_thresh, clip, sizes
            As for `load_batch`.
        preset
            How images are encoded; see `ndzarr.transcode`.
        shard
            Samples of a shard, and of a task; as many as make about 32 MB if left out.
        scheduler
            'threads' or 'processes' of this machine, a `distributed.Client`, or the address of a dask scheduler.
        workers
            How many threads or processes; one per processor if left out.
        progress
            Say on stderr what is done and how much memory that takes, and show a bar.

        Raises
        ------
        TargetError
            A target is not understood, or they have different axes, channels or dtypes.
        ExistsError
            `dest` exists and is not to be overwritten.
        """
        from ndzarr.bulk.extract import extract

        return extract(
            self,
            targets,
            dest,
            order=order,
            lookup=Lookup(with_annots, annot_ids, visible_thresh, clip),
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
        """Paths of the files of some images; of all if left out."""
        chosen = self.dset.index.imgs if images is None else images
        return (asset.path for gid in chosen for asset in self.frame(gid).assets)

    def images_of(self, annot_ids: Iterable[Any]) -> list[Any] | None:
        """The image of each annotation; None if one does not exist."""
        known = self.dset.index.anns
        try:
            return [known[aid]["image_id"] for aid in annot_ids]
        except (KeyError, TypeError):
            return None

    def members(self, targets: Iterable[Mapping[str, Any]], lookup: Lookup, start: int = 0) -> list[CocoMember]:
        """Targets, understood but not read: what everything in `ndzarr.bulk` begins with."""
        from ndzarr.bulk.coco_member import CocoMember
        from ndzarr.bulk.member import batchable, numbered

        sampler = cast("CocoSampler", self)

        def member(given: Mapping[str, Any]) -> CocoMember:
            parsed = batchable(parse(given))
            return CocoMember(sampler, given, parsed, self.composition_of(parsed), lookup)

        return numbered(member, targets, start)
