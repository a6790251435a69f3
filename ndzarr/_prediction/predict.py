"""
Prediction: a model is run over windows of an image, and what it gives back is stitched.

Windows are read in batches, in the order in which they lie; the next ones are read while the model works.  On workers
each task reads a batch, runs the model, and keeps what it gave in a file of its process (`parts`).
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray

from ndzarr._batches.jobs import refuse_foreign
from ndzarr._batches.load import load_batch
from ndzarr._concurrency import ordered_map
from ndzarr._executors import checked, results, working
from ndzarr._files import local_path, refuse_existing_file
from ndzarr._indexing.plan import counted
from ndzarr._prediction.canvas import Canvas, Place, canvas_of_sample
from ndzarr._prediction.detections import DetectionStitcher, Merge, format_of
from ndzarr._prediction.parts import PartsWriter
from ndzarr._prediction.runtimes import Found, Model, run_model
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
from ndzarr.errors import MissingError, OptionError, TargetError
from ndzarr.targets.accessor import SourceTargets, Targets
from ndzarr.targets.table import Rows

Placed: TypeAlias = tuple[np.ndarray[Any, Any], tuple[int, int], Found]
"""Matrix (3, 3) from pixels of a sample to native ones, its (height, width), and what was found in it."""
Group: TypeAlias = Sequence[Mapping[str, Any]]
"""Windows that are predicted together, as targets."""
_NO_ANNOTATIONS = Lookup(False)
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
        if len(found) != len(images):
            what = f"the model gave {len(found)} predictions for {len(images)} windows"
            raise OptionError(what, key="model", hint="Return an array with the samples first")
        return found

    def detect(self, batch: xarray.Dataset) -> list[Placed]:
        """Run the model over a batch, of which it gives detections; return them with their windows."""
        found = self.run(batch["image"].values)
        if isinstance(found, np.ndarray):
            what = "the model gave detections for the first windows, and now maps"
            raise OptionError(what, key="model", hint="Return the same for all windows")
        sizes = zip(batch["size_y"].values.tolist(), batch["size_x"].values.tolist(), strict=True)
        return list(zip(batch["transform"].values, sizes, found, strict=True))


def predict(
    batches: Batches,
    rows: Group,
    canvas: Canvas,
    dest: str | os.PathLike[str],
    *,
    channels: Sequence[str] | None,
    batch_size: int,
    scheduler: Any,
    workers: int | None,
    progress: bool,
    classes: Sequence[str] | Mapping[Any, str] | None,
    merge: Merge,
    threshold: float,
    image: Mapping[str, Any],
    **options: Any,
) -> Pyramid | Path:
    """Run a model over windows and write the result; see `CocoSampler.predict`."""
    check_count("batch_size", batch_size)
    if scheduler is not None:
        checked(scheduler, workers)
    first = batches.run(batches.images(rows[:1]))
    if not isinstance(first, np.ndarray):
        found = DetectionStitcher(canvas, classes=classes, merge=merge, threshold=threshold)
        format_of(local_path(dest))  # before the model runs
        refuse_existing_file(local_path(dest), options["overwrite"])
        _detect(batches, rows, found, batch_size, scheduler, workers, progress)
        return found.write(dest, image=image, overwrite=options["overwrite"])
    canvas = _scaled_to(canvas, rows[0], first)
    names = _names(channels, first, canvas)
    rows = [_aligned(row, canvas) for row in rows]
    with Stitcher(canvas, dest, channels=names, progress=progress, **options) as stitcher:
        todo = [row for row in rows if row not in stitcher]
        groups = [todo[k : k + batch_size] for k in range(0, len(todo), batch_size)]
        with progress_bar(len(rows), "predicting", "window", progress, len(rows) - len(todo)) as advance:
            if scheduler is None:
                for group, images in ordered_map(lambda g: (g, batches.images(g)), groups, _READERS, _AHEAD, "predict"):
                    for row, array in zip(group, batches.predict(images), strict=True):
                        stitcher.add(row, array)
                    advance(len(group))
            else:
                places = [[canvas.place_of(row, len(names)) for row in group] for group in groups]
                labels = options.get("kind") == "labels"
                for done in _elsewhere(scheduler, workers, batches, stitcher, groups, places, labels):
                    advance(done)
    return open_dest(destination(dest, options.get("storage_options"), options.get("remote")))


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


def _detect(
    batches: Batches,
    rows: Group,
    stitcher: DetectionStitcher,
    batch_size: int,
    scheduler: Any,
    workers: int | None,
    progress: bool,
) -> None:
    """Run a model that gives detections over windows."""
    groups = [rows[k : k + batch_size] for k in range(0, len(rows), batch_size)]
    with (
        progress_bar(len(rows), "predicting", "window", progress) as advance,
        _detected(batches, groups, scheduler, workers) as found,
    ):
        for batch in found:
            for matrix, size, one in batch:
                shapes = one.get("segmentations", one.get("masks"))
                stitcher.add_placed(matrix, size, one.get("boxes"), one.get("scores"), one.get("labels"), shapes)
            advance(len(batch))


@contextmanager
def _detected(
    batches: Batches, groups: Sequence[Group], scheduler: Any, workers: int | None
) -> Iterator[Iterator[list[Placed]]]:
    """Yield the detections of batches: here, or as workers finish them."""
    if scheduler is None:
        yield map(batches.detect, ordered_map(batches.load, groups, _READERS, _AHEAD, "predict"))
        return
    import cloudpickle

    job = cloudpickle.dumps(batches)  # models may be lambdas
    with working(scheduler, workers) as pool:
        yield results(pool, [partial(_detect_there, job, group) for group in groups])


def _detect_there(job: bytes, group: Group) -> list[Placed]:
    batches = _unpickled(job)
    return batches.detect(batches.load(group))


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


def _elsewhere(
    scheduler: Any,
    workers: int | None,
    batches: Batches,
    stitcher: Stitcher,
    groups: Sequence[Group],
    places: Sequence[Sequence[Place]],
    labels: bool,
) -> Iterator[int]:
    """Run one task per batch on workers; those of a worker that is lost are done again."""
    import cloudpickle

    (stitcher.work / _JOB).write_bytes(
        cloudpickle.dumps(_Job(batches, groups, places, labels))
    )  # models may be lambdas
    with working(scheduler, workers) as pool:
        yield from results(pool, [partial(_task, os.fspath(stitcher.work), k) for k in range(len(groups))])


def _task(folder: str, number: int) -> int:
    job, write = _job(folder, os.getpid())
    group, places = job.groups[number], job.places[number]
    found = job.batches.predict(job.batches.images(group))
    for place, array in zip(places, found, strict=True):
        pixels = np.reshape(array, (*place.length[:-2], *array.shape[-2:]))
        write.append(place.start, place.fitted(pixels, job.labels))
    return len(group)


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
    if gid is None and vidid is None:
        images = list(source.dset.index.imgs)
        if len(images) != 1:
            what = f"the dataset has {counted(len(images), 'image')}"
            raise TargetError(what, key="gid", hint="Say which is predicted: gid=... or vidid=...")
        gid = images[0]
    video = vidid is not None
    windows = Targets(source).grid(
        window, overlap, space="video" if video else "image", resolution=resolution, ids=[vidid if video else gid]
    )
    rows = list(Rows(windows.drop(columns=["annot_ids", "n_annots", "kind"])))
    if not rows:
        raise TargetError(f"{dest}: there is no window of this size", key="window", hint="Choose a smaller one")
    sample = load_sample(source, {**rows[0], "lazy": True}, {}, _NO_ANNOTATIONS)
    canvas = canvas_of_sample(sample, source.dataset.video_frames(vidid) if video else ())
    image = {} if video else _image(source, gid)
    return predict(Batches(source, model, keys), rows, canvas, dest, image=image, **options)


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
    pyramid = source.open(key)
    ids = list(source.sources) if key is None else [key]
    windows = SourceTargets(source).grid(window, overlap, resolution=resolution, ids=ids)
    return predict(
        Batches(source, model, keys), list(Rows(windows)), Canvas.like(pyramid, 1.0), dest, image={}, **options
    )
