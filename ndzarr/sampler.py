"""Windows of named images and pyramids, without kwcoco."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndzarr._indexing.plan import ReadPlan, counted
from ndzarr._library.library import Library
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._remote.settings import Remote
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.named_sources import Named, NamedSource
from ndzarr._sampling.sample import load_native, load_sample
from ndzarr._store.presets import Encoding

if TYPE_CHECKING:
    import xarray

    from ndzarr._batches.extract import Order
    from ndzarr._batches.form import Sizes
    from ndzarr._prediction.blending import Weights
    from ndzarr._prediction.detections import Merge
    from ndzarr._prediction.runtimes import Model
    from ndzarr._viewer.server import Viewer
    from ndzarr.targets.accessor import SourceTargets
    from ndzarr.targets.grid import Overlap, WindowDims
    from ndzarr.targets.table import Rows, TargetsLike

NO_ANNOTATIONS = Lookup(False)


class Sampler:
    """
    Windows of named images and pyramids.

    Parameters
    ----------
    sources
        Name to pyramid, path of a pyramid, or path of an image file, which is transcoded when it is first touched; or a
        sequence of them, whose names are then 0, 1, 2, ...  Or the path or URL of an OME-Zarr plate or another group
        that holds several images: the names are those of its fields, such as 'B/03/0'.
    workdir
        Where pyramids of image files are kept: a directory, or a URL such as 's3://bucket/pyramids'; by default the
        user's cache directory.
    preset
        How image files are encoded; see `ndzarr.transcode`.
    transcode
        'auto': files that are efficiently tiled (COGs) are read in place, all others are transcoded; 'always';
        'never'.  See docs/in-place.md.
    identity
        What tells that a file is still the one that a pyramid was made from.  'stat': its size, time of modification
        and inode; 'content': a digest of its bytes, which are read once per process.
    storage_options, remote
        How URLs are reached, and settings of requests; see `ndzarr.open`.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile
    >>> pyr = ndzarr.transcode(np.arange(4096, dtype="u1").reshape(64, 64), tempfile.mkdtemp() + "/a.zarr")
    >>> sampler = ndzarr.Sampler({"a": pyr})
    >>> sampler.load_sample({"key": "a", "y": slice(0, 8), "x": slice(-2, 6)}).image.shape
    (1, 8, 8)
    """

    def __init__(
        self,
        sources: Mapping[Any, Named] | Iterable[Named],
        workdir: str | os.PathLike[str] | None = None,
        *,
        preset: str = "fast",
        transcode: str = "auto",
        identity: str = "stat",
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
        self._source = NamedSource(sources, library)

    def __len__(self) -> int:
        return len(self._source.sources)

    def __repr__(self) -> str:
        return f"<ndzarr.Sampler: {counted(len(self), 'source')}>\n  workdir  {self.workdir}"

    def _repr_html_(self) -> str:
        from ndzarr._viewer.overview import overview_html

        return overview_html(repr(self), self._source)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return type(self).__name__, self._source.__dask_tokenize__()

    @property
    def sources(self) -> dict[Any, Named]:
        """Name to what was given for it."""
        return self._source.sources

    @property
    def workdir(self) -> Path | str:
        """The directory of the pyramids of image files, or its URL."""
        return self._source.library.workdir

    @property
    def targets(self) -> SourceTargets:
        """Chooses windows: `sampler.targets.grid(...)`."""
        from ndzarr.targets.accessor import SourceTargets

        return SourceTargets(self._source)

    def prepare(self, progress: bool = False, workers: int | None = None, scheduler: Any = "threads") -> None:
        """
        Transcode every image file that is not transcoded yet.

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

    def open(self, key: Any = None) -> Pyramid:
        """
        Open the pyramid of a source, transcoded now if need be; that of the only one if `key` is left out.

        Raises
        ------
        TargetError
            There is no such source.
        """
        return self._source.open(key)

    def load_sample(self, target: Mapping[str, Any] | None = None, **keys: Any) -> xarray.Dataset:
        """
        Load one window.

        Parameters
        ----------
        target
            `key`, and a window: `y`, `x` as slices, or `cx cy` with `width height` or `window_dims`, or, where the
            source is georeferenced, `bounds`; `t`, `z` as slices or lists of positions; and every other key of
            docs/targets.md that needs no annotation, such as `channels`, `scale`, `pad`, `nodata` or `lazy`.  Keys may
            also be given as keyword arguments.

        Returns
        -------
        Dataset with `image`, with the axes of the source, and `valid` where something is padded or holds no data.  With
        `use_native_scale` it is what `load_native` returns.

        Raises
        ------
        TargetError
            The target is not understood.
        WindowError
            The source does not have the axes or positions that were asked for.
        """
        return load_sample(self._source, target, keys, NO_ANNOTATIONS)

    def load_native(self, target: Mapping[str, Any] | None = None, **keys: Any) -> xarray.DataTree:
        """Load one window at the source's own resolution, as a DataTree; see `CocoSampler.load_native`."""
        return load_native(self._source, target, keys, NO_ANNOTATIONS)

    def plan(self, targets: TargetsLike | Rows) -> ReadPlan:
        """Return what loading targets would read: `plan(targets).explain()`."""
        from ndzarr._batches.form import plan_targets

        return plan_targets(self._source, targets)

    def load_batch(
        self, targets: TargetsLike | Rows | None = None, *, sizes: Sizes = "pad", **keys: Any
    ) -> xarray.Dataset:
        """
        Load many windows by one plan: each chunk that they touch is decoded once; see `CocoSampler.load_batch`.

        Raises
        ------
        TargetError
            A target is not understood, or they have different axes, channels or dtypes.
        """
        from ndzarr._batches.load import load_batch

        return load_batch(self._source, {} if targets is None else targets, NO_ANNOTATIONS, sizes, keys)

    def lazy_batch(
        self, targets: TargetsLike | Rows, batch_size: int = 64, *, sizes: Sizes = "pad", **keys: Any
    ) -> xarray.Dataset:
        """Return the Dataset of `load_batch`, dask-backed; see `CocoSampler.lazy_batch`."""
        from ndzarr._batches.lazy import lazy_batch

        return lazy_batch(self._source, targets, batch_size, NO_ANNOTATIONS, sizes, keys)

    def extract(
        self,
        targets: TargetsLike | Rows,
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
        storage_options: Mapping[str, Any] | None = None,
        remote: Remote | None = None,
        **keys: Any,
    ) -> Path | str:
        """Write the samples of many targets to one Zarr store; see `CocoSampler.extract`."""
        from ndzarr._batches.extract import extract

        return extract(
            self._source,
            targets,
            dest,
            order=order,
            lookup=NO_ANNOTATIONS,
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

    def predict(
        self,
        model: Model,
        dest: str | os.PathLike[str],
        *,
        key: Any = None,
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
        Run a model over overlapping windows of a source and stitch what it gives.

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
        key
            Name of the source, or a list of them; all by default.  Maps are of one source.
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
            There is no such source, or it has to be named.
        OptionError
            What the model returns does not fit the windows.
        """
        from ndzarr._prediction.predict import predict_named

        return predict_named(
            self._source,
            model,
            dest,
            key=key,
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

    def view(
        self,
        targets: TargetsLike | None = None,
        *,
        beside: Named | None = None,
        port: int = 0,
        browser: bool = True,
    ) -> Viewer:
        """Show the sources, and windows of them, on a page in the browser; see `CocoSampler.view`."""
        from ndzarr._viewer.server import view

        return view(self._source, targets, beside, port, browser)
