"""How does a kwcoco dataset answer targets?

1. `target.parse` says what is asked; `resolve` fills in what only the dataset knows.
2. `assembly.compose` finds the assets' pyramids (transcoded on first touch) and the crops; `assembly.read` reads them.
3. The table of annotations gives those that touch the window, moved to sample pixels; `sample` puts names on
   everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ndzarr._files import cache_root
from ndzarr._indexing.plan import ReadPlan, counted
from ndzarr._library.library import Library
from ndzarr._pyramid.crops import Crop, plan_crops
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.annotations import AnnotationTable, Lookup
from ndzarr._sampling.annotations import find_annotations as find
from ndzarr._sampling.coco_dataset import CocoSource, coerce
from ndzarr._sampling.compose import Composition, compose
from ndzarr._sampling.compose import read_compositions as read
from ndzarr._sampling.resolve import locate as located
from ndzarr._sampling.resolve import resolve, resolved
from ndzarr._sampling.sample import Context
from ndzarr._sampling.sample import label_sample as label
from ndzarr._sampling.scene import Asset, Frame, Scene
from ndzarr._sampling.target import Target, merged, parse
from ndzarr._store.presets import Encoding
from ndzarr.errors import TargetError
from ndzarr.ndsampler_compat import NdsamplerNames
from ndzarr.targets.table import Rows

if TYPE_CHECKING:
    import xarray

    from ndzarr._batches.extract import Order
    from ndzarr._batches.form import Sizes
    from ndzarr._batches.load import CocoMember
    from ndzarr.targets.accessor import Targets as coco_Targets
    from ndzarr.targets.table import TargetsLike as ManyTargets
    from ndzarr.targets.table import TargetsLike as Targets


# --- What can be asked of a `CocoSampler` about many targets at once?


class CocoBulk:
    """The part of `CocoSampler` that works on many targets."""

    if TYPE_CHECKING:  # what `CocoSampler` has

        @property
        def dset(self) -> Any: ...  # noqa: D102
        @property
        def library(self) -> Library: ...  # noqa: D102
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
        from ndzarr._batches.load import load_batch

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
        from ndzarr._batches.lazy import lazy_batch

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
        from ndzarr._batches.extract import extract

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
        from ndzarr._batches.form import batchable, numbered
        from ndzarr._batches.load import CocoMember

        sampler = cast("CocoSampler", self)

        def member(given: Mapping[str, Any]) -> CocoMember:
            parsed = batchable(parse(given))
            return CocoMember(sampler, given, parsed, self.composition_of(parsed), lookup)

        return numbered(member, targets, start)


class CocoSampler(CocoBulk, NdsamplerNames):
    """
    Windows of the images and videos of a kwcoco dataset, with their annotations.

    Parameters
    ----------
    dset
        A `kwcoco.CocoDataset`, the path of one, its dictionary, or the name of a demo that kwcoco makes, such as
        'vidshapes8'.  It is looked at once: after a change to it, make another sampler.
    workdir
        Where pyramids are kept; by default the user's cache directory.  Pyramids are keyed by the source's path,
        size and time of modification, so datasets may share a directory.
    preset
        How sources are encoded; see `ndzarr.transcode`.
    transcode
        'auto': files that are efficiently tiled (COGs) are read where they lie, all others are transcoded; 'always';
        'never'.  See docs/in-place.md.

    Examples
    --------
    >>> import ndzarr, numpy as np, PIL.Image, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> PIL.Image.fromarray(np.zeros((300, 400, 3), "u1")).save(folder + "/a.png")
    >>> dset = {"images": [{"id": 1, "file_name": folder + "/a.png", "width": 400, "height": 300}]}
    >>> sampler = ndzarr.CocoSampler(dset, workdir=folder)
    >>> sample = sampler.load_sample({"gid": 1, "cx": 200, "cy": 200, "width": 100, "height": 100})
    >>> sample.image.shape
    (3, 100, 100)
    """

    def __init__(
        self, dset: Any, workdir: str | os.PathLike[str] | None = None, *, preset: str = "fast", transcode: str = "auto"
    ) -> None:
        root = Path(workdir) if workdir is not None else cache_root()
        self._source = CocoSource(coerce(dset), Library(root, Encoding(preset), transcode=transcode))

    @property
    def dset(self) -> Any:
        """The `kwcoco.CocoDataset`."""
        return self._source.dset

    @property
    def library(self) -> Library:
        """Where the pyramids are."""
        return self._source.library

    def __repr__(self) -> str:
        index = self.dset.index
        numbers = {"image": index.imgs, "video": index.videos, "annotation": index.anns, "category": index.cats}
        content = ", ".join(counted(len(some), noun) for noun, some in numbers.items())
        return f"<ndzarr.CocoSampler {self.dset.tag!r}: {content}>\n  workdir  {self.library.root}"

    @property
    def annotations(self) -> AnnotationTable:
        """All annotations as columns, sorted by image."""
        return self._source.annotations

    @cached_property
    def targets(self) -> coco_Targets:
        """Chooses windows: `sampler.targets.grid(...)`, `.positives(...)`, `.negatives(...)` and more."""
        from ndzarr.targets.accessor import Targets

        return Targets(self._source)

    def prepare(self, progress: bool = False, workers: int | None = None) -> None:
        """
        Transcode every asset that is not transcoded yet.

        Raises
        ------
        SourceError
            Some files could not be used; the message names each.  All others are done.
        """
        self._source.prepare(progress, workers)

    def load_sample(
        self,
        target: Mapping[str, Any] | None = None,
        *,
        with_annots: bool | str | Sequence[str] = True,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        **keys: Any,
    ) -> xarray.Dataset:
        """
        Load one window.

        Parameters
        ----------
        target
            What to load; see docs/targets.md.  `gid` for an image, `vidid` or `gids` for a video, `aid` for the
            surroundings of an annotation; a window in space (`cx cy width height`, or `space_slice`) and time
            (`time_slice`), of volumes also `z`; `channels`, `scale` and many more.  Keys may also be given as keyword
            arguments.
        with_annots
            Look up annotations.  Text such as 'boxes+segmentation' restricts the geometry of
            `sample.ndzarr.detections`.
        annot_ids
            Take these annotations instead of those that touch the window.
        visible_thresh
            Leave out annotations of which less than this fraction of the box lies in the window.
        clip
            Clip boxes to the window.

        Returns
        -------
        Dataset with `image` (c, y, x), for video targets (t, c, y, x), of volumes (c, z, y, x) and (t, c, z, y, x);
        `valid` where something is padded or missing;
        and, along `annot`, annot_id, category_id, track_id, frame and bbox (x, y, width, height in sample pixels).
        More under the accessor `sample.ndzarr`.  With `use_native_scale`, a DataTree with one such child per frame
        and asset.

        Raises
        ------
        TargetError
            The target is not understood, or names something that the dataset does not have.
        """
        given = merged(target, keys)
        parsed = parse(given)
        scene = resolve(parsed, self._source)
        lookup = Lookup(with_annots, annot_ids, visible_thresh, clip)
        if parsed.native is not None:
            from ndzarr._sampling.native_scale import load_native

            return load_native(self, given, parsed, scene, lookup)  # type: ignore[return-value]
        composition = self.compose(scene)
        if parsed.lazy:
            from ndzarr._sampling.compose import read_lazily

            image, valid = read_lazily(composition)
        else:
            [(image, valid)] = read([composition])
        context = self.context(given, parsed, composition.scene, lookup)
        return label(context, composition.channels, image, valid, located(composition))

    def plan(self, targets: ManyTargets) -> ReadPlan:
        """What loading targets would read: `plan(targets).explain()`."""
        return plan_crops([crop for target in Rows(targets) for crop in self._crops(parse(target))])

    def _crops(self, target: Target) -> list[Crop]:
        """All that loading a target reads."""
        if target.native is None:
            return self.composition_of(target).crops
        from ndzarr._sampling.native_scale import native_parts as parts

        scene = resolve(target, self._source)
        return [crop for part in parts(self, target, scene) for crop in part.composition.crops]

    def composition(self, target: Mapping[str, Any]) -> Composition:
        """Everything that is read for a target."""
        return self.composition_of(parse(target))

    def composition_of(self, target: Target) -> Composition:
        """Everything that is read for a target that was parsed."""
        return self.compose(resolve(target, self._source))

    def compose(self, scene: Scene) -> Composition:
        """Everything that is read for a scene."""
        return compose(scene, self._source)

    def context(self, given: Mapping[str, Any], parsed: Target, scene: Scene, lookup: Lookup) -> Context:
        """What the accessor of a sample knows: where it came from, and its annotations."""
        found = None
        if lookup.wanted:
            if len(self.annotations) != len(self.dset.index.anns):
                raise TargetError("the dataset was changed after annotations were looked up; make another CocoSampler")
            found = find(self.annotations, self.dset.index.anns, scene, lookup)
        target = resolved(given, parsed, scene, self._source.dataset)
        content = self.dset.dataset
        classes, points = content.get("categories", []), content.get("keypoint_categories", [])
        return Context(target, scene, found, classes, points, lookup.geometry)

    def transcode_video(
        self,
        vidid: Any,
        dest: str | os.PathLike[str],
        *,
        preset: str = "fast",
        access: str = "frames",
        chunks: Mapping[str, int] | None = None,
        overwrite: bool = False,
        progress: bool = False,
        **keys: Any,
    ) -> Pyramid:
        """
        Write a video as one pyramid: its frames and assets aligned on the grid of the video, axes t c y x.

        Parameters
        ----------
        vidid
            The video.
        dest, preset, access, chunks, overwrite, progress
            As for `ndzarr.transcode`.
        **keys
            Keys of a target that say what is read, such as channels, nodata or interpolation.

        Raises
        ------
        TargetError
            There is no such video.
        ExistsError
            `dest` exists.
        """
        from ndzarr._files import local_path, refuse_existing
        from ndzarr._pyramid.transcode import write_pyramid
        from ndzarr._pyramid.zarr_store import open_pyramid
        from ndzarr._sampling.video_source import SampledVideo
        from ndzarr._store.presets import chunks_option

        target = local_path(dest)
        refuse_existing(target, overwrite)
        encoding = Encoding(preset, chunks=chunks_option(chunks), access=access)
        with SampledVideo(self, vidid, keys) as source:
            write_pyramid(source, target, encoding, overwrite=overwrite, progress=progress)
        return open_pyramid(target)

    def pyramid(self, asset: Asset) -> Pyramid:
        """The pyramid of an asset, transcoded now if need be."""
        return self._source.open_asset(asset)

    def frame(self, gid: Any) -> Frame:
        """An image with its assets."""
        return self._source.frame(gid)

    @property
    def hashid(self) -> str:
        """Changes whenever the dataset or an option of this sampler does."""
        return self._source.hashid
