"""
Export: crops as image files with their labels, in the layouts that trainers read.

1. Targets are numbered, and those that a split leaves out are left out.
2. Each task reads, encodes and writes some neighbouring crops, wherever it runs: a part, which stays done when the
   export is broken off (`jobs`).
3. What says something about all crops, such as the JSON of COCO, is written at the end, and the dataset is published.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import numpy as np

from ndzarr._batches.columnar import Copies, copies, window_labels
from ndzarr._batches.crop_files import CropEncoder
from ndzarr._batches.export_formats import (
    LAYOUTS,
    Classes,
    Crop,
    Layout,
    WebDatasetLayout,
    Write,
    labels_of,
    safe_name,
    tar_member,
    write_windows,
)
from ndzarr._batches.form import Pending, pending_samples
from ndzarr._batches.jobs import identities, images_of, refuse_foreign, run_parts
from ndzarr._concurrency import available_cpus
from ndzarr._executors import LOCAL, Scheduler, checked
from ndzarr._files import refuse_existing
from ndzarr._indexing.plan import counted
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.clipped import ClippedAnnotation, clipped_annotations
from ndzarr._sampling.compose import read
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.scene import Frame
from ndzarr._store.destinations import Shared, SharedFolder, Work, destination, sharing
from ndzarr._validation import check_choice, check_count, is_missing
from ndzarr.errors import OptionError, TargetError
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets

Format: TypeAlias = Literal["yolo", "coco", "voc", "imagefolder", "webdataset", "mask"]
ImageKind: TypeAlias = Literal["png", "jpeg", "tiff", "mp4", "gif"]
SPLITS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
"""Names of splits to those that trainers look for."""
RECORDS = "records.json"
"""What a part tells of its crops."""
BLOCK_BYTES = 16 << 20
"""Bytes of pixels that a task reads at a time: few enough for the allocator to keep the memory."""
BLOCK = 64
"""Most targets that a task reads at a time."""
_VERSION = 1
"""Version of the directory of an export; what another version began is not continued."""


@dataclass(frozen=True)
class Job:
    """An export."""

    source: SampleSource
    rows: Rows
    numbers: Sequence[int]
    """Position of each row in the targets as they were given."""
    splits: Sequence[str]
    """Split of each row; '' where there is none."""
    own: Sequence[Any]
    """Category id of the annotation that each row is a window around; None where there is none."""
    keys: Mapping[str, Any]
    lookup: Lookup
    layout: Layout
    encoder: CropEncoder
    per_part: int
    """Samples of a part; the last one may have fewer."""

    @property
    def samples(self) -> int:
        """Number of samples of all parts."""
        return len(self.rows)

    def announcement(self, todo: int, workers: int) -> str:
        """Return what is shown before `todo` parts are done."""
        parts = -(-self.samples // self.per_part)
        done = f", {parts - todo} of {parts} parts done already" if todo < parts else ""
        return f"exporting {counted(self.samples, 'sample')} as {self.encoder.kind}{done}; {counted(workers, 'worker')}"

    def do(self, shared: Shared, number: int) -> int:
        """Write the crops of a part; returns how many samples it has."""
        start = number * self.per_part
        stop = min(start + self.per_part, self.samples)
        with shared.part(str(number)) as part, _Files(part, self.layout, number) as files:
            records = [
                self.layout.add(crop, self.encoder.encode(pixels, channels), files.writer(crop.split))
                for crop, pixels, channels in self._crops(start, stop)
            ]
            (part.root / RECORDS).write_text(json.dumps(records), "utf-8")
        return stop - start

    def _crops(self, start: int, stop: int) -> Iterator[_Read]:
        k = start
        while k < stop:
            request = self.pending(k, k + 1)[0].request
            size = max(1, min(BLOCK, BLOCK_BYTES // max(1, prod(request.shape) * request.dtype.itemsize)))
            rows = self.rows[k : min(k + size, stop)]
            found = copies(self.source, rows, self.keys, self.lookup)
            yield from self._sampled(k, k + len(rows)) if found is None else self._copied(k, found)
            k += len(rows)

    def pending(self, start: int, stop: int) -> list[Pending]:
        """Resolve targets, and check that files can hold them."""
        rows = [{**row, **self.keys} for row in self.rows[start:stop]]
        samples = pending_samples(self.source, rows, self.lookup, self.numbers[start])
        for k, sample in enumerate(samples, start):
            request, number = sample.request, self.numbers[k]
            if not {"c", "y", "x"} <= set(request.dims) <= {"t", "c", "y", "x"}:
                what = f"target {number} has the axes {' '.join(request.dims)}, and files of images have y, x and c"
                raise TargetError(what, key="targets", hint="Choose a plane, such as z_start=4, z_stop=5, of an image")
            if self.encoder.clips and "t" not in request.dims:
                what = f"target {number} is a single image, and image={self.encoder.kind!r} holds clips"
                raise TargetError(what, key="image", hint="Pass targets of videos, or image='png'")
            self.encoder.check(request.dtype, len(request.channels or ()))
        return samples

    def _copied(self, start: int, found: Copies) -> Iterator[_Read]:
        """Yield the crops of windows as columns."""
        known, pixels = found.known, found.read()
        labels = window_labels(known)
        windows, channels = known.windows, known.form.channels or ()
        names = {gid: self.source.frame(gid) for gid, _ in windows.by_id}
        corners = zip(windows.ids.tolist(), windows.y.tolist(), windows.x.tolist(), strict=True)
        for i, (gid, y, x) in enumerate(corners):
            crop = self._crop(start + i, names[gid], (y, x), labels[i], known.form.shape[-2:])
            yield crop, pixels[i], channels

    def _sampled(self, start: int, stop: int) -> Iterator[_Read]:
        """Yield the crops of targets that are resolved one by one: one each, or one per frame."""
        samples = self.pending(start, stop)
        pixels = read([sample.request for sample in samples])
        for k, sample, (image, _) in zip(range(start, stop), samples, pixels, strict=True):
            request, labels = sample.request, clipped_annotations(sample.context())
            scene, channels = request.scene, request.channels or ()
            first = next((frame for frame in scene.frames if frame.gid is not None), scene.frames[0])
            whole = self._crop(k, first, (scene.y, scene.x), labels, scene.n)
            if self.encoder.clips or "t" not in request.dims:
                yield whole, image, channels
                continue
            for t, frame in enumerate(scene.frames):
                if frame.gid is not None:  # else it pads the window in time
                    own = [label for label in labels if label.frame == t]
                    origin = {**whole.origin, "gid": frame.gid}
                    name = f"{whole.name}_{t:04d}"
                    yield replace(whole, name=name, frame=t, labels=own, origin=origin), image[t], channels

    def _crop(self, k: int, frame: Frame, window: Any, labels: Sequence[ClippedAnnotation], n: Any) -> Crop:
        """Return the crop of a target: its window in native pixels along (y, x), and its (height, width)."""
        (y0, y1), (x0, x1) = window
        number = self.numbers[k]
        origin = {"gid": frame.gid, "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
        name = f"{safe_name(frame.name or str(frame.gid))}_{number:06d}"
        return Crop(name, self.splits[k], number, None, n, labels, origin, self.own[k])


_Read: TypeAlias = tuple[Crop, np.ndarray[Any, Any], tuple[str, ...]]
"""A crop, its pixels (c, y, x), or (t, c, y, x) for a clip, and the names along c."""


class _Files:
    """The files of a part: each by itself, or in a tar file per split."""

    def __init__(self, part: Work, layout: Layout, number: int) -> None:
        self._root, self._layout, self._number = part.store, layout, number
        self._tars: dict[str, tarfile.TarFile] = {}
        self._held = ExitStack()
        self._folders: set[str] = set()

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.close()

    def writer(self, split: str) -> Write:
        """Return the function that writes files of a split."""
        if not isinstance(self._layout, WebDatasetLayout):
            return self._write
        if split not in self._tars:
            path = self._root / self._layout.shard_path(split, self._number)
            self._tars[split] = self._held.enter_context(tarfile.open(path, "w"))  # noqa: SIM115
        return partial(tar_member, self._tars[split])

    def _write(self, name: str, content: bytes) -> None:
        path = os.path.join(self._root, name)
        folder = os.path.dirname(path)
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        with open(path, "xb") as file:
            file.write(content)


def export(
    source: SampleSource,
    targets: Targets | Rows,
    dest: str | os.PathLike[str],
    *,
    format: str,
    image: str,
    labels: str | None,
    quality: int,
    fps: float,
    lookup: Lookup,
    shard: int | None,
    scheduler: Scheduler,
    workers: int | None,
    progress: bool,
    keys: Mapping[str, Any],
) -> Path:
    """Write samples as image files with labels; see `CocoSampler.export`."""
    from dask.base import tokenize

    check_choice("format", format, tuple(LAYOUTS), OptionError)
    checked(scheduler, workers)
    kind, encoder = LAYOUTS[format], CropEncoder(image, quality, fps)
    if encoder.clips and not kind.CLIPS:
        hint = "Pass format='webdataset' or 'imagefolder', or image='png' for a file per frame"
        raise OptionError(f"image={image!r}: format={format!r} has no place for clips", key="image", hint=hint)
    target = destination(dest)
    if not isinstance(target, Path):
        hint = "Export to a local directory, and copy that"
        raise OptionError(
            f"dest={target.url}: exports are written to directories", path=target.url, key="dest", hint=hint
        )
    refuse_existing(target, False)
    rows, numbers, splits = _split(Rows(targets))
    if not len(rows):
        raise TargetError("targets is empty: there is nothing to export", key="targets")
    # Few enough for all workers to have some, and for little to be done again after a kill.
    n = min(256, max(16, -(-len(rows) // 8))) if shard is None else check_count("shard", shard)
    own = [
        None if is_missing(aid) else source.dataset.annotation(aid).get("category_id") for aid in column(rows, "aid")
    ]
    classes = Classes.of(source.dset.dataset)
    if format == "imagefolder":
        _check_folders(classes.names.values())
    layout = kind(classes, labels_of(kind, format, labels), encoder.suffix)
    if isinstance(layout, WebDatasetLayout):
        layout = replace(layout, shards=_shards(splits, n))
    job = Job(source, rows, numbers, splits, own, dict(keys), lookup, layout, encoder, n)
    job.pending(0, 1)  # raises what is wrong with the first target, before anything is written
    files = identities(source.files(images_of(rows)))
    content = list(rows) if rows.frame is None else rows.frame
    told = tokenize(
        _VERSION, source, files, content, dict(keys), astuple(lookup), format, layout.labels, astuple(encoder), n
    )
    with sharing(target, "export", told[:12], False) as shared:
        assert isinstance(shared, SharedFolder)
        refuse_foreign(Path(shared.folder))
        if workers is None and scheduler in LOCAL:
            workers = available_cpus() + 1  # one waits for the disk
        run_parts(job, shared, "exporting", "fewer workers or smaller windows", scheduler, workers, progress)
        with shared.finishing() as root, TemporaryDirectory(prefix="ndzarr-") as near:
            parts = range(-(-len(rows) // n))
            told_of = [json.loads(shared.read(str(k), RECORDS, Path(near)).read_text("utf-8")) for k in parts]
            crops = [crop for part in told_of for crop in part]
            layout.finish(root, crops)
            if layout.TABLE:
                write_windows(root, crops)
        shared.publish(target, False)
    return target


def column(rows: Rows, name: str) -> list[Any]:
    """Return what each target has under a key; None where it has nothing."""
    if rows.frame is None:
        return [row.get(name) for row in rows]
    return rows.frame[name].tolist() if name in rows.frame else [None] * len(rows)


def _split(rows: Rows) -> tuple[Rows, list[int], list[str]]:
    """Return the targets that are in a split, their positions, and the split of each; all if none has one."""
    split = ["" if is_missing(value) else str(value) for value in column(rows, "split")]
    if not any(split):
        return rows, list(range(len(rows))), split
    kept = [k for k, value in enumerate(split) if value]
    if len(kept) < len(rows):
        rows = rows.take(kept) if rows.frame is None else Rows(rows.frame.iloc[kept])
    return rows, kept, [safe_name(SPLITS.get(split[k], split[k])) for k in kept]


def _shards(splits: Sequence[str], n: int) -> dict[tuple[str, int], int]:
    """Return the number of the tar file of each split in each part."""
    found: dict[tuple[str, int], int] = {}
    count: dict[str, int] = {}
    for k, split in enumerate(splits):
        if (split, k // n) not in found:
            found[split, k // n] = count[split] = count.get(split, -1) + 1
    return found


def _check_folders(names: Iterable[str]) -> None:
    """Raise `OptionError` if two classes would have one directory."""
    taken: dict[str, str] = {}
    for name in names:
        if (other := taken.setdefault(safe_name(name).lower(), name)) != name:
            what = f"format='imagefolder': the classes {other!r} and {name!r} would have one directory"
            raise OptionError(what, key="format", hint="Rename one, or pass format='webdataset'")
