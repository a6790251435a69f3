"""
Prediction: a model is run over windows of an image, and what it gives back is stitched.

Windows are read in batches, in the order in which they lie; the next ones are read while the model works.  On workers
each task reads a batch, runs the model, and keeps what it gave in a file of its process (`parts`).
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray

from ndzarr._batches.jobs import identities, refuse_foreign
from ndzarr._batches.load import load_batch
from ndzarr._concurrency import ordered_map
from ndzarr._executors import checked, results, working
from ndzarr._files import local_path, refuse_existing_file
from ndzarr._prediction.canvas import Canvas, Place, canvas_of_sample
from ndzarr._prediction.detection_files import format_of, georeference
from ndzarr._prediction.detections import DetectionStitcher, Merge
from ndzarr._prediction.parts import Part, PartsWriter
from ndzarr._prediction.runtimes import Found, Model, identity, run_model
from ndzarr._prediction.stitcher import Stitcher
from ndzarr._progress import progress_bar
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import open_dest
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.named_sources import NamedSource
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.sample import load_sample
from ndzarr._store.destinations import destination
from ndzarr._validation import check_count
from ndzarr.errors import ExistsError, MissingError, OptionError, TargetError, did_you_mean
from ndzarr.targets.accessor import SourceTargets, Targets
from ndzarr.targets.table import Rows

Placed: TypeAlias = tuple[Any, np.ndarray[Any, Any], tuple[int, int], Any, Any, Any, Any]
"""
Id of an image, matrix (3, 3) from pixels of a sample to native ones, its (height, width); and the boxes, scores, labels
and outlines that were found in it.
"""
Group: TypeAlias = Sequence[Mapping[str, Any]]
"""Windows that are predicted together, as targets."""
_NO_ANNOTATIONS = Lookup(False)
_KEYS = ("channels", "scale", "output_dims", "interpolation", "antialias", "padkw", "fill", "dtype")
"""Keys of targets that hold for all windows: those that do not move them."""
_READERS = 2
"""Threads that read batches."""
_AHEAD = 2
"""Batches that are read while the model works."""


@dataclass(frozen=True)
class Batches:
    """Windows of one image in batches, and the model that is run over them."""

    source: SampleSource
    model: Model
    keys: Mapping[str, Any]
    """Keys of targets that hold for all windows."""

    def load(self, rows: Group) -> xarray.Dataset:
        """Read the windows of a batch."""
        return load_batch(self.source, list(rows), _NO_ANNOTATIONS, "pad", self.keys)

    def images(self, rows: Group) -> np.ndarray[Any, Any]:
        """Read the windows of a batch; axes (sample, ...)."""
        return np.asarray(self.load(rows)["image"].values)

    def predict(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Run the model over a batch, of which it gives maps."""
        found = self.run(images)
        if not isinstance(found, np.ndarray):
            what = "the model gave maps for the first windows, and now detections"
            raise OptionError(what, key="model", hint="Return the same for all windows")
        return found

    def run(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | list[Found]:
        """Run the model over a batch: maps (sample, ...), or detections of each sample."""
        found = run_model(self.model, images)
        if isinstance(found, np.ndarray) and (found.ndim < 3 or not found.size):
            what = f"the model gave an array of {found.dtype} and of shape {found.shape} for {len(images)} windows"
            raise OptionError(what, key="model", hint="Return maps (sample, c, y, x), or a dictionary for each sample")
        if len(found) != len(images):
            what = f"the model gave {len(found)} predictions for {len(images)} windows"
            raise OptionError(what, key="model", hint="Return an array with the samples first")
        return found

    def detect(self, rows: Group, batch: xarray.Dataset) -> list[Placed]:
        """Run the model over a batch, of which it gives detections; return them with their windows."""
        found = self.run(batch["image"].values)
        if isinstance(found, np.ndarray):
            what = "the model gave detections for the first windows, and now maps"
            raise OptionError(what, key="model", hint="Return the same for all windows")
        sizes = zip(batch["size_y"].values.tolist(), batch["size_x"].values.tolist(), strict=True)
        return [
            (_id_of(row), matrix, size, one.get("boxes"), one.get("scores"), one.get("labels"),
             one.get("segmentations", one.get("masks")))
            for row, matrix, size, one in zip(rows, batch["transform"].values, sizes, found, strict=True)
        ]  # fmt: skip


class Canvases(Mapping[Any, Canvas]):
    """The spaces of images by their ids, each opened when it is first asked for."""

    def __init__(self, keys: Iterable[Any], canvas_of: Callable[[Any], Canvas]) -> None:
        self._keys, self._canvas_of = list(keys), lru_cache(maxsize=None)(canvas_of)

    def __getitem__(self, key: Any) -> Canvas:
        return self._canvas_of(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _id_of(row: Mapping[str, Any]) -> Any:
    """Return the id of the image, the video or the source that a window belongs to."""
    return next(row[key] for key in ("vidid", "gid", "key") if key in row)


def predict(
    batches: Batches,
    rows: Group,
    canvases: Canvases,
    dest: str | os.PathLike[str],
    *,
    files: Iterable[str],
    images: Mapping[Any, Mapping[str, Any]],
    channels: Sequence[str] | None,
    batch_size: int,
    scheduler: Any,
    workers: int | None,
    progress: bool,
    classes: Sequence[str] | Mapping[Any, str] | None,
    merge: Merge,
    threshold: float,
    **options: Any,
) -> Pyramid | Path:
    """
    Run a model over windows and write the result; see `CocoSampler.predict`.

    `files` are those that are read, and `images` the dictionaries of images in a dataset of what is found in them.
    """
    check_count("batch_size", batch_size)
    for name in batches.keys:
        if name not in _KEYS:
            what = f"{name}= is not a key that holds for all windows{did_you_mean(name, _KEYS)}"
            raise OptionError(what, key=name)
    if scheduler is not None:
        checked(scheduler, workers)
    if not rows:
        raise TargetError(f"{dest}: there is no window of this size", key="window", hint="Choose a smaller one")
    first = batches.run(batches.images(rows[:1]))
    about = (identities(iter(files)), identity(batches.model), batches.keys, [sorted(row.items()) for row in rows])
    run = hashlib.sha256(repr(about).encode()).hexdigest()
    run_options = RunOptions(batch_size, scheduler, workers, progress)
    if not isinstance(first, np.ndarray):
        if format_of(local_path(dest)) == "geojson":  # what cannot be written is said before the model runs
            georeference(canvases[_id_of(rows[0])])
        refuse_existing_file(local_path(dest), options["overwrite"])
        found = DetectionStitcher(
            canvases, dest, classes=classes, merge=merge, threshold=threshold, resume=options["resume"], run=run
        )
        with found:
            _detect(batches, rows, found, run_options)
            return found.write(image=images, overwrite=options["overwrite"])
    if len(canvases) > 1:
        what = f"{dest}: the model gives maps, and these are {len(canvases)} images"
        raise TargetError(
            what, key="gid", hint="Say which is predicted: gid=... or vidid=..., of named sources key=..."
        )
    [canvas] = canvases.values()
    canvas = _scaled_to(canvas, rows[0], first)
    names = _names(channels, first, canvas)
    rows = [_aligned(row, canvas) for row in rows]
    with Stitcher(canvas, dest, channels=names, progress=progress, run=run, **options) as stitcher:
        _map(batches, rows, stitcher, canvas, len(names), options["kind"] == "labels", run_options)
    return open_dest(destination(dest, options.get("storage_options"), options.get("remote")))


@dataclass(frozen=True)
class RunOptions:
    """How windows are predicted."""

    batch_size: int
    scheduler: Any
    workers: int | None
    progress: bool

    def groups(self, rows: Group) -> list[Group]:
        """Return batches of windows; none has windows of two images."""
        return [
            own[k : k + self.batch_size]
            for own in (list(some) for _, some in groupby(rows, _id_of))
            for k in range(0, len(own), self.batch_size)
        ]

    def bar(self, rows: Group, todo: Group) -> Any:
        """Return the progress bar of so many windows, of which some are left."""
        return progress_bar(len(rows), "predicting", "window", self.progress, len(rows) - len(todo))


def _map(
    batches: Batches, rows: Group, stitcher: Stitcher, canvas: Canvas, channels: int, labels: bool, how: RunOptions
) -> None:
    """Run a model that gives maps over the windows that were not added yet."""
    done = [row for row in rows if row in stitcher]
    if done and not stitcher.agrees(done[0], batches.predict(batches.images(done[:1]))[0]):
        raise _another_model(stitcher.path)
    todo = [row for row in rows if row not in stitcher]
    groups = how.groups(todo)
    with how.bar(rows, todo) as advance:
        if how.scheduler is None:
            for group, images in ordered_map(lambda g: (g, batches.images(g)), groups, _READERS, _AHEAD, "predict"):
                for row, array in zip(group, batches.predict(images), strict=True):
                    stitcher.add(row, array)
                advance(len(group))
        else:
            places = [[canvas.place_of(row, channels) for row in group] for group in groups]
            for done_there in _elsewhere(how, stitcher, _Job(batches, groups, places, labels)):
                advance(done_there)


def _another_model(path: str | Path) -> ExistsError:
    what = f"{path}: another model gave what was kept of a run that was broken off"
    return ExistsError(what, path=str(path), key="model", hint="Pass resume=False to begin anew")


def _scaled_to(canvas: Canvas, row: Mapping[str, Any], found: np.ndarray[Any, Any]) -> Canvas:
    """Return a canvas with as many pixels in a window as the model gives."""
    length = canvas.place_of(row, 1).length[-2:]
    scales = [have / want for have, want in zip(found.shape[-2:], length, strict=True)]
    if abs(scales[0] - scales[1]) <= 1e-9:
        return canvas.scaled(scales[0])
    # Lengths in whole native pixels may have other proportions than those in pixels of the resolution asked for.
    scaled = canvas.scaled(float(np.sqrt(scales[0] * scales[1])))
    if not scaled.place_of(row, 1).fits((*scaled.place_of(row, 1).length[:-2], *found.shape[-2:])):
        what = f"the model gives {found.shape[-2:]} pixels for windows of {length}, another scale along y than x"
        raise OptionError(what, key="model", hint="Return maps with the proportions of the window")
    return scaled


def _aligned(row: Mapping[str, Any], canvas: Canvas) -> Mapping[str, Any]:
    """Return a window that begins on a pixel of the canvas: one that was moved inward at the end is moved out again."""
    step = round(1 / canvas.scale)
    if step < 2 or abs(step * canvas.scale - 1) > 1e-9:
        return row
    moved = {}
    for centre, length in (("cy", "height"), ("cx", "width")):
        start = round(row[centre] - row[length] / 2)
        moved[centre] = row[centre] + -start % step
    return {**row, **moved}


def _names(channels: Sequence[str] | None, found: np.ndarray[Any, Any], canvas: Canvas) -> Sequence[str]:
    """Return the names of the channels of predictions."""
    n = found.shape[1 + canvas.dims.index("c")] if found.ndim == len(canvas.dims) + 1 else 1
    if channels is None:
        return ["prediction"] if n == 1 else [f"prediction_{k}" for k in range(n)]
    names = [channels] if isinstance(channels, str) else list(channels)
    if len(names) != n:
        raise OptionError(f"channels={names!r}: the model gives {n}", key="channels", hint="Name each of them")
    return names


def _detect(batches: Batches, rows: Group, stitcher: DetectionStitcher, how: RunOptions) -> None:
    """Run a model that gives detections over the windows that were not added yet."""
    done = [row for row in rows if row in stitcher][:1]
    if done and not all(stitcher.agrees(*one) for one in batches.detect(done, batches.load(done))):
        raise _another_model(stitcher.path or "")
    todo = [row for row in rows if row not in stitcher]
    with how.bar(rows, todo) as advance, _detected(batches, how.groups(todo), how) as found:
        for batch in found:
            for one in batch:
                stitcher.add_placed(*one)
            advance(len(batch))


@contextmanager
def _detected(batches: Batches, groups: Sequence[Group], how: RunOptions) -> Iterator[Iterator[list[Placed]]]:
    """Yield the detections of batches: here, or as workers finish them."""
    if how.scheduler is None:
        loaded = ordered_map(lambda group: (group, batches.load(group)), groups, _READERS, _AHEAD, "predict")
        yield (batches.detect(*pair) for pair in loaded)
        return
    import cloudpickle

    job = cloudpickle.dumps(batches)  # models may be lambdas
    with working(how.scheduler, how.workers) as pool:
        yield results(pool, [partial(_detect_there, job, group) for group in groups])


def _detect_there(job: bytes, group: Group) -> list[Placed]:
    batches = _unpickled(job)
    return batches.detect(group, batches.load(group))


@lru_cache(maxsize=2)
def _unpickled(job: bytes) -> Batches:
    batches: Batches = pickle.loads(job)
    return batches


# Elsewhere: a task is a directory, which holds the job, and the number of a batch.


_JOB = "predict.pickle"


@dataclass(frozen=True)
class _Job:
    batches: Batches
    groups: Sequence[Group]
    """The windows of each batch."""
    places: Sequence[Sequence[Place]]
    """The place of each window on the canvas."""
    labels: bool
    """True if classes are predicted."""


def _elsewhere(how: RunOptions, stitcher: Stitcher, job: _Job) -> Iterator[int]:
    """Run one task per batch on workers; those of a worker that is lost are done again."""
    import cloudpickle

    (stitcher.work / _JOB).write_bytes(cloudpickle.dumps(job))  # models may be lambdas
    with working(how.scheduler, how.workers) as pool:
        for parts in results(pool, [partial(_task, os.fspath(stitcher.work), k) for k in range(len(job.groups))]):
            stitcher.take(parts)
            yield len(parts)


def _task(folder: str, number: int) -> list[Part]:
    job, write = _job(folder, os.getpid())
    group, places = job.groups[number], job.places[number]
    found = job.batches.predict(job.batches.images(group))
    shaped = (np.reshape(array, (*p.length[:-2], *array.shape[-2:])) for p, array in zip(places, found, strict=True))
    return [write.append(p.start, p.fitted(pixels, job.labels)) for p, pixels in zip(places, shaped, strict=True)]


@lru_cache(maxsize=2)
def _job(folder: str, pid: int) -> tuple[_Job, PartsWriter]:
    try:
        refuse_foreign(Path(folder))
        job = (Path(folder) / _JOB).read_bytes()
    except FileNotFoundError:
        raise MissingError(
            f"{folder}: this worker does not see the directory of the predictions",
            path=folder,
            hint="Give all workers a file system in common with the process that called predict",
        ) from None
    return pickle.loads(job), PartsWriter(Path(folder))


def predict_coco(
    source: SampleSource,
    model: Model,
    dest: str | os.PathLike[str],
    *,
    gid: Any,
    vidid: Any,
    window: Any,
    overlap: Any,
    resolution: Any,
    keys: Mapping[str, Any],
    **options: Any,
) -> Pyramid | Path:
    """Run a model over an image or a video of a dataset; see `CocoSampler.predict`."""
    video = vidid is not None
    ids = [vidid] if video else _ids(gid, source.dset.index.imgs)
    windows = Targets(source).grid(window, overlap, space="video" if video else "image", resolution=resolution, ids=ids)
    rows = list(Rows(windows.drop(columns=["annot_ids", "n_annots", "kind"])))
    some = {_id_of(row): row for row in rows}

    def canvas_of(key: Any) -> Canvas:
        sample = load_sample(source, {**some[key], "lazy": True}, {}, _NO_ANNOTATIONS)
        return canvas_of_sample(sample, source.dataset.video_frames(key) if video else ())

    images = {} if video else {key: _image(source, key) for key in ids}
    files = source.files([*source.dataset.video_frames(vidid)] if video else ids)
    canvases = Canvases(some, canvas_of)
    return predict(Batches(source, model, keys), rows, canvases, dest, files=files, images=images, **options)


def _ids(given: Any, every: Iterable[Any]) -> list[Any]:
    """Return the ids that are given, one or several; all by default."""
    if given is None:
        return list(every)
    return list(given) if isinstance(given, list | tuple) else [given]


def _image(source: SampleSource, gid: Any) -> dict[str, Any]:
    """Return the keys of an image that a dataset of its detections has."""
    given = source.dset.index.imgs[gid]
    paths = [asset.path for asset in source.frame(gid).assets]
    name = {} if given.get("name") is None else {"name": given["name"]}
    return {"id": gid, **name, **({"file_name": paths[0]} if paths else {})}


def predict_named(
    source: NamedSource,
    model: Model,
    dest: str | os.PathLike[str],
    *,
    key: Any,
    window: Any,
    overlap: Any,
    resolution: Any,
    keys: Mapping[str, Any],
    **options: Any,
) -> Pyramid | Path:
    """Run a model over a named source; see `Sampler.predict`."""
    ids = _ids(key, source.sources)
    windows = SourceTargets(source).grid(window, overlap, resolution=resolution, ids=ids)
    canvases = Canvases(ids, lambda one: Canvas.like(source.open(one), 1.0))
    images = {one: {"id": number, "name": str(one)} for number, one in enumerate(ids, 1)}
    rows = list(Rows(windows))
    return predict(
        Batches(source, model, keys), rows, canvases, dest, files=source.files(ids), images=images, **options
    )
