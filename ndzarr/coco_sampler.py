"""Windows of the images and videos of a kwcoco dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndzarr._indexing.plan import ReadPlan, counted
from ndzarr._library.library import Library
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._remote.settings import Remote
from ndzarr._sampling.annotations import Crowd, Lookup
from ndzarr._sampling.coco_assets import Allow
from ndzarr._sampling.coco_dataset import CocoSource, coerce
from ndzarr._sampling.sample import load_native, load_sample
from ndzarr._store.presets import Encoding, chunks_option
from ndzarr.errors import TargetError

if TYPE_CHECKING:
    import xarray

    from ndzarr._batches.export import Format, ImageKind
    from ndzarr._batches.extract import Order
    from ndzarr._batches.form import Sizes
    from ndzarr._prediction.blending import Weights
    from ndzarr._prediction.detections import Merge
    from ndzarr._prediction.runtimes import Model
    from ndzarr._sampling.named_sources import Named
    from ndzarr._viewer.server import Viewer
    from ndzarr.categories import CategoryTree
    from ndzarr.targets.accessor import Targets
    from ndzarr.targets.grid import Overlap, WindowDims
    from ndzarr.targets.table import Rows, TargetsLike


class CocoSampler:
    """
    Windows of the images and videos of a kwcoco dataset, with their annotations.

    Parameters
    ----------
    dset
        A `kwcoco.CocoDataset`, the path of one, its dictionary, the name of a demo that kwcoco makes, such as
        'vidshapes8', or labels of any form that `ndzarr.dataset` reads.  It is looked
        at once: after a change to it, make another sampler.
    workdir
        Where pyramids are kept; a directory, or a URL such as 's3://bucket/pyramids'; by default the user's cache
        directory.  Pyramids are keyed by the source's path and `identity`, so datasets may share one.
    preset
        How sources are encoded; see `ndzarr.transcode`.
    transcode
        'auto': files that are efficiently tiled (COGs) are read in place, all others are transcoded; 'always';
        'never'.  See docs/in-place.md.
    identity
        What tells that a file is still the one that a pyramid was made from.  'stat': its size, time of modification
        and inode; 'content': a digest of its bytes, which are read once per process.
    image_root
        The directory that names of files in the dataset are relative to; that of the dataset's file by default.
    images, format
        The images of labels that are not kwcoco's, and their format; see `ndzarr.dataset`.
    allow
        How far names of files in the dataset may lead: 'bundle', not out of that directory, for datasets of people
        whom you do not trust; 'files', to all local files; 'urls', also to buckets and web servers.  See
        docs/reliability.md.
    storage_options, remote
        How URLs are reached, and settings of requests; see `ndzarr.open`.

    Raises
    ------
    SourceError
        `dset` is not a kwcoco dataset.

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
        self,
        dset: Any,
        workdir: str | os.PathLike[str] | None = None,
        *,
        preset: str = "fast",
        transcode: str = "auto",
        identity: str = "stat",
        image_root: str | os.PathLike[str] | None = None,
        images: Any = None,
        format: str = "auto",
        allow: Allow = "files",
        storage_options: Mapping[str, Any] | None = None,
        remote: Remote | None = None,
    ) -> None:
        library = Library(
            workdir,
            Encoding(preset),
            transcode=transcode,
            identity=identity,
            storage_options=storage_options,
            remote=remote,
        )
        self._source = CocoSource(_dataset(dset, images, format), library, image_root, allow)

    def __repr__(self) -> str:
        return f"<ndzarr.CocoSampler {self._source.summary}>\n  workdir  {self.workdir}"

    def _repr_html_(self) -> str:
        from ndzarr._viewer.overview import overview_html

        return overview_html(repr(self), self._source)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return type(self).__name__, self._source.__dask_tokenize__()

    @property
    def dset(self) -> Any:
        """The `kwcoco.CocoDataset`."""
        return self._source.dset

    @property
    def workdir(self) -> Path | str:
        """The directory of the pyramids, or its URL."""
        return self._source.library.workdir

    @property
    def classes(self) -> CategoryTree | None:
        """The categories of the dataset as a tree; None if it has none."""
        from ndzarr._sampling.detections import category_tree

        tree: CategoryTree | None = category_tree(self.dset.dataset.get("categories"))
        return tree

    @cached_property
    def targets(self) -> Targets:
        """Chooses windows: `sampler.targets.grid(...)`, `.positives(...)`, `.negatives(...)` and more."""
        from ndzarr.targets.accessor import Targets

        return Targets(self._source)

    def prepare(self, progress: bool = False, workers: int | None = None, scheduler: Any = "threads") -> None:
        """
        Transcode every asset that is not transcoded yet.

        Parameters
        ----------
        progress
            Show a bar.
        workers
            How many threads or processes; one per processor if left out.
        scheduler
            'threads' or 'processes' of this machine, a `distributed.Client`, or the address of a dask scheduler: one
            task per file, and for a huge image one per band of it.  Workers need to see the files and `workdir`.  A
            call that was interrupted, or killed, goes on where it was when it is made again; see docs/remote.md.

        Raises
        ------
        SourceError
            Some files could not be used; the message names each.  All others are done.
        """
        self._source.prepare(progress, workers, scheduler)

    def open(self, gid: Any, asset: int = 0) -> Pyramid:
        """
        Open the pyramid of a file of an image, transcoded now if need be.

        Parameters
        ----------
        gid
            The image.
        asset
            Which of its files, in the order of the dataset: the image's own first, then its assets.

        Raises
        ------
        TargetError
            There is no such image, or it has no such file.
        """
        assets = self._source.frame(gid).assets
        if asset not in range(len(assets)):
            raise TargetError(f"asset={asset!r}: image {gid!r} has {counted(len(assets), 'file')}", key="asset")
        return self._source.open_asset(assets[asset])

    def load_sample(
        self,
        target: Mapping[str, Any] | None = None,
        *,
        with_annots: bool | str | Sequence[str] = True,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        crowd: Crowd = "keep",
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
        crowd
            What becomes of annotations whose `iscrowd` is 1: 'keep' takes them as all others, 'drop' leaves them out,
            'ignore' sets their `ignore` to 1.

        Returns
        -------
        Dataset with `image` (c, y, x), for video targets (t, c, y, x), of volumes (c, z, y, x) and (t, c, z, y, x);
        `valid` where something is padded or missing;
        and, along `annot`, annot_id, category_id, track_id, frame, bbox (x, y, width, height in sample pixels) and the
        other keys of annotations, such as iscrowd, area, score and one's own.
        More under the accessor `sample.ndzarr`.  With `use_native_scale` it is what `load_native` returns.

        Raises
        ------
        TargetError
            The target is not understood, or names something that the dataset does not have.
        """
        return load_sample(self._source, target, keys, Lookup(with_annots, annot_ids, visible_thresh, clip, crowd))

    def load_native(
        self,
        target: Mapping[str, Any] | None = None,
        *,
        with_annots: bool | str | Sequence[str] = True,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        crowd: Crowd = "keep",
        **keys: Any,
    ) -> xarray.DataTree:
        """
        Load one window of every asset at the asset's own resolution.

        Parameters
        ----------
        target
            As for `load_sample`; `realign_native='largest'` gives all assets the size of the finest.
        with_annots, annot_ids, visible_thresh, clip, crowd
            As for `load_sample`.

        Returns
        -------
        DataTree with one child per frame and asset, named `frame/channels`, each a Dataset as `load_sample` returns it.

        Raises
        ------
        TargetError
            The target is not understood, or no asset has a channel that was asked for.
        """
        return load_native(self._source, target, keys, Lookup(with_annots, annot_ids, visible_thresh, clip, crowd))

    def plan(self, targets: TargetsLike | Rows) -> ReadPlan:
        """Return what loading targets would read: `plan(targets).explain()`."""
        from ndzarr._batches.form import plan_targets

        return plan_targets(self._source, targets)

    def load_batch(
        self,
        targets: TargetsLike | Rows,
        *,
        with_annots: bool | str | Sequence[str] = True,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        crowd: Crowd = "keep",
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
        with_annots, annot_ids, visible_thresh, clip, crowd
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

        lookup = Lookup(with_annots, annot_ids, visible_thresh, clip, crowd)
        return load_batch(self._source, targets, lookup, sizes, keys)

    def lazy_batch(
        self,
        targets: TargetsLike | Rows,
        batch_size: int = 64,
        *,
        with_annots: bool | str | Sequence[str] = True,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        crowd: Crowd = "keep",
        sizes: Sizes = "pad",
        **keys: Any,
    ) -> xarray.Dataset:
        """
        The Dataset of `load_batch`, dask-backed: nothing is read before it is computed, by one task per batch.

        Parameters
        ----------
        batch_size
            Samples that are read together: dask chunks along `sample`.
        targets, with_annots, annot_ids, visible_thresh, clip, crowd, sizes
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

        lookup = Lookup(with_annots, annot_ids, visible_thresh, clip, crowd)
        return lazy_batch(self._source, targets, batch_size, lookup, sizes, keys)

    def extract(
        self,
        targets: TargetsLike | Rows,
        dest: str | os.PathLike[str],
        *,
        order: Order = "input",
        with_annots: bool | str | Sequence[str] = True,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        crowd: Crowd = "keep",
        sizes: Sizes = "pad",
        preset: str = "fast",
        shard: int | None = None,
        scheduler: Any = "threads",
        workers: int | None = None,
        progress: bool = False,
        overwrite: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        remote: Remote | None = None,
        **keys: Any,
    ) -> Path | str:
        """
        Write the samples of many targets to one Zarr store, which `xarray.open_zarr` opens; see docs/bulk.md.

        A call that was interrupted, or killed, goes on where it was when it is made again.

        Parameters
        ----------
        dest
            The store, or its URL, such as 's3://bucket/crops.zarr': there once it is complete.
        order
            How samples lie in the store: 'input', or 'locality', where neighbours lie together, so that what they have
            in common is decoded once.  The coordinate `sample` says which target each is.
        targets, with_annots, annot_ids, visible_thresh, clip, crowd, sizes
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
        storage_options, remote
            Credentials and settings for the URL `dest`; see `open`.

        Raises
        ------
        TargetError
            A target is not understood, or they have different axes, channels or dtypes.
        ExistsError
            `dest` exists and is not to be overwritten.
        """
        from ndzarr._batches.extract import extract

        return extract(
            self._source,
            targets,
            dest,
            order=order,
            lookup=Lookup(with_annots, annot_ids, visible_thresh, clip, crowd),
            sizes=sizes,
            preset=preset,
            shard=shard,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
            overwrite=overwrite,
            storage_options=storage_options,
            remote=remote,
            keys=keys,
        )

    def export(
        self,
        targets: TargetsLike | Rows,
        dest: str | os.PathLike[str],
        format: Format = "yolo",
        *,
        image: ImageKind = "png",
        labels: str | None = None,
        quality: int = 95,
        fps: float = 10.0,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        crowd: Crowd = "keep",
        shard: int | None = None,
        scheduler: Any = "threads",
        workers: int | None = None,
        progress: bool = False,
        **keys: Any,
    ) -> Path:
        """
        Write windows as image files with their labels, in the layout that a trainer reads; see docs/export.md.

        A call that was interrupted, or killed, goes on where it was when it is made again.

        Parameters
        ----------
        targets
            As for `load_batch`.  With a column `split`, as `targets.split` makes it, each split has its own directories
            or files, and windows in none of them are left out; 'validation' becomes 'val'.
        dest
            The directory to make: there once it is complete.
        format
            'yolo' (with `data.yaml`), 'coco', 'voc', 'imagefolder' (a directory per class: that of the annotation a
            window was made around, else of all objects in it; 'background' without objects), 'webdataset' (tar files),
            'mask' (an image of classes or instances beside each).
        image
            'png' (8 and 16 bit, up to 4 channels), 'jpeg' (8 bit, 1 or 3 channels), 'tiff' (all types and channels).
            Each frame of a video's window is a file; for 'imagefolder' and 'webdataset' also 'mp4' and 'gif', which
            hold all frames of a window (8 bit, 1 or 3 channels).
        labels
            For 'yolo' 'boxes', 'segments', 'obb' (oriented boxes) or 'pose' (boxes with keypoints), for 'coco' and
            'webdataset' 'segments' or 'boxes', for 'mask' 'classes' or 'instances'; by default the first.
        quality
            Quality of JPEG, from 1 to 100.
        fps
            Frames per second of clips.
        annot_ids, visible_thresh, crowd
            As for `load_sample`.  Labels are clipped to their window.
        shard
            Windows of a part of the work, of 'webdataset' those of a tar file.
        scheduler, workers, progress
            As for `extract`.
        **keys
            Keys that hold for all targets, such as `channels="r|g|b"`, `scale=0.5` or `dtype="uint8"`.

        Raises
        ------
        TargetError
            A target is not understood, or shows what the format cannot say.
        OptionError
            The files cannot hold the pixels, or an option is not understood.
        ExistsError
            `dest` exists.
        """
        from ndzarr._batches.export import export

        return export(
            self._source,
            targets,
            dest,
            format=format,
            image=image,
            labels=labels,
            quality=quality,
            fps=fps,
            lookup=Lookup(True, annot_ids, visible_thresh, False, crowd),
            shard=shard,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
            keys=keys,
        )

    def predict(
        self,
        model: Model,
        dest: str | os.PathLike[str],
        *,
        gid: Any = None,
        vidid: Any = None,
        window: WindowDims = (512, 512),
        overlap: Overlap = 0.25,
        channels: Sequence[str] | None = None,
        input_channels: str | Sequence[str] | None = None,
        batch_size: int = 8,
        resolution: float | str | None = None,
        weights: Weights = "gaussian",
        kind: str = "intensity",
        nodata: float | None = None,
        classes: Sequence[str] | Mapping[Any, str] | None = None,
        merge: Merge = "nms",
        threshold: float = 0.5,
        preset: str = "fast",
        scheduler: Any = None,
        workers: int | None = None,
        resume: bool = True,
        overwrite: bool = False,
        progress: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        remote: Remote | None = None,
        **keys: Any,
    ) -> Pyramid | Path:
        """
        Run a model over overlapping windows of an image or a video and stitch what it gives.

        Parameters
        ----------
        model
            Takes the images of a batch (sample, c, y, x), of videos and volumes with their further axes, as a numpy
            array, and returns an array (sample, c, y, x) or, of one channel, (sample, y, x).  A module of torch gets a
            tensor of the type of its parameters on their device, without gradients; call its `eval()` before.
            A detector returns a list with a dictionary per sample, as torchvision's do: `boxes` (left, top, right,
            bottom), and perhaps `scores`, `labels` and `masks` or `segmentations`; see `ndzarr.DetectionStitcher.add`.
        dest
            The store to make; see `ndzarr.Stitcher`.  For a detector the file to make, whose name says the format:
            `.json`, `.kwcoco.json` or `.geojson`.
        gid, vidid
            The image, or a list of them, or the video; all images by default.  Maps are of one image or video.
        window, overlap, resolution
            Size, overlap and resolution of windows, as for `targets.grid`.
        channels
            Names of the channels that the model gives.
        input_channels
            Channels that the model gets, such as 'r|g|b'; all of the image by default.
        batch_size
            Number of windows that the model gets at a time.
        weights, kind, nodata, preset, resume, overwrite
            As for `ndzarr.Stitcher`.  A run that was killed goes on where it was, unless the model or the windows are
            others.
        classes, merge, threshold
            As for `ndzarr.DetectionStitcher`, for detectors.
        scheduler
            None runs the model in this process, while the next windows are read.  Or 'processes', a
            `distributed.Client` or the address of a dask scheduler: the model is pickled, and workers need a file
            system in common.  The result has the same bits.
        workers
            Number of processes of this machine.
        progress
            Show progress bars.
        storage_options, remote
            Credentials and settings for the URL `dest`; see `open`.
        **keys
            Keys of targets that hold for all windows, such as `dtype` or `interpolation`.

        Returns
        -------
        The predictions, with the size of the image times the scale of the model's maps, and its georeference;
        or the path of the file of detections.

        Raises
        ------
        TargetError
            There is no such image or video, or it has to be named.
        OptionError
            What the model returns does not fit the windows.
        ExistsError
            `dest` exists, or what a killed run left was made by another model or of other windows.
        """
        from ndzarr._prediction.predict import predict_coco

        return predict_coco(
            self._source,
            model,
            dest,
            gid=gid,
            vidid=vidid,
            window=window,
            overlap=overlap,
            resolution=resolution,
            keys=keys if input_channels is None else {**keys, "channels": input_channels},
            channels=channels,
            batch_size=batch_size,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
            weights=weights,
            kind=kind,
            nodata=nodata,
            classes=classes,
            merge=merge,
            threshold=threshold,
            preset=preset,
            resume=resume,
            overwrite=overwrite,
            storage_options=storage_options,
            remote=remote,
        )

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
        storage_options: Mapping[str, Any] | None = None,
        remote: Remote | None = None,
        **keys: Any,
    ) -> Pyramid:
        """
        Write a video as one pyramid: its frames and assets aligned on the grid of the video, axes t c y x.

        Parameters
        ----------
        vidid
            The video.
        dest, preset, access, chunks, overwrite, progress, storage_options, remote
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
        from ndzarr._sampling.video_source import transcode_video

        return transcode_video(
            self._source,
            vidid,
            dest,
            keys,
            Encoding(preset, chunks=chunks_option(chunks), access=access),
            overwrite=overwrite,
            progress=progress,
            storage_options=storage_options,
            remote=remote,
        )

    def view(
        self,
        targets: TargetsLike | None = None,
        *,
        beside: Named | None = None,
        port: int = 0,
        browser: bool = True,
    ) -> Viewer:
        """
        Show the images and videos, and their annotations, on a page in the browser.

        Parameters
        ----------
        targets
            Windows that are drawn over the images, positive and negative ones apart by the column `kind`.
        beside
            A pyramid, such as predictions, or the path of an image, that is shown beside the image.
        port
            Port of the loopback address; 0 lets the system choose.
        browser
            Open the page.

        Returns
        -------
        The viewer: `url` is the address of the page, `close()` ends it, `wait()` waits for Ctrl-C.  It ends with this
        process.  See docs/viewer.md.

        Raises
        ------
        TargetError
            There is no image, or a target is not understood.
        OptionError
            The port is taken.
        """
        from ndzarr._viewer.server import view

        return view(self._source, targets, beside, port, browser)


def _dataset(dset: Any, images: Any, format: str) -> Any:
    if images is None and format == "auto" and not isinstance(dset, (str, os.PathLike)):
        return coerce(dset)
    from ndzarr._labels.dataset import dataset

    return dataset(dset, images, format)
