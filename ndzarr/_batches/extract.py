"""The samples of many targets, written to one store.

1. All targets are surveyed: what they have in common, and in which order they are best read (`extract_store`).
2. Each task reads and writes the samples of whole shards, wherever it runs (`_executors`): a part of the store, which
   stays done when the extraction is broken off (`_store.destinations`).
3. Columns, annotations and targets follow, and the store is published.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ndzarr._batches.columnar import copies
from ndzarr._batches.extract_store import Layout, consolidate, layout, survey
from ndzarr._batches.form import Array, Form, check_sizes, checked_mask, pending_samples, read_promised
from ndzarr._batches.jobs import identities, images_of, refuse_foreign, run_parts
from ndzarr._batches.load import ALONG, Columns, annotation_columns, sample_columns, window_annotations, window_columns
from ndzarr._concurrency import available_cpus, ordered_map
from ndzarr._executors import Scheduler, checked
from ndzarr._indexing.plan import counted, human_bytes
from ndzarr._remote.settings import Remote
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.compose import Mask
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.scene import same_unit
from ndzarr._store.destinations import Shared, SharedFolder, destination, refuse_existing_at, sharing
from ndzarr._validation import check_choice
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets

if TYPE_CHECKING:
    import pandas


Order: TypeAlias = Literal["input", "locality"]
ORDERS = ("input", "locality")
COLUMNS = "columns.npz"
"""The columns of the samples of a part."""
READERS = 8
"""Files of columns that are read at a time."""


@dataclass(frozen=True)
class Job:
    """An extraction."""

    source: SampleSource
    rows: Rows
    """The targets, in the order in which they are stored."""
    positions: Array
    """Position of each in the targets as they were given."""
    keys: Mapping[str, Any]
    lookup: Lookup
    form: Form
    mask_dims: tuple[str, ...] | None
    layout: Layout

    @property
    def samples(self) -> int:
        """Number of samples of all shards."""
        return len(self.rows)

    @property
    def per_part(self) -> int:
        """Samples of a shard."""
        return self.layout.samples

    def announcement(self, todo: int, workers: int) -> str:
        """Return what is shown before `todo` shards are written."""
        layout, shape = self.layout, " x ".join(map(str, self.form.shape))
        memory = f"{human_bytes(layout.task_bytes)} = {human_bytes(workers * layout.task_bytes)}"
        done = f", {layout.shards - todo} of them done already" if todo < layout.shards else ""
        return (
            f"extracting {counted(len(self.rows), 'sample')} of {shape} {self.form.dtype} "
            f"into {counted(layout.shards, 'shard')}{done}; memory: "
            f"{counted(workers, 'worker')} x {memory}"
        )

    def do(self, shared: Shared, number: int) -> int:
        """Write a shard and the columns of its samples; returns how many samples it has."""
        n = self.layout.samples
        start = number * n
        rows = self.rows[start : start + n]
        with _readers(os.getpid()):
            image, mask, columns, found = self._read(rows, start)
        with shared.part(str(number)) as part:
            sums = {"image": self.layout.image.write(part.store, number, image)}
            part.written(self.layout.image.path(part.store, number))
            valid = checked_mask(mask, self.mask_dims, self.form, len(rows), start)
            if self.layout.valid is not None and valid is not None:
                sums["valid"] = self.layout.valid.write(part.store, number, valid)
                part.written(self.layout.valid.path(part.store, number))
            del columns[ALONG["y"]], columns[ALONG["x"]]  # which `transform` says in a hundredth of the space
            if found:
                found["annot_sample"] = ("annot",), self.positions[start : start + n][found["annot_sample"][1]]
            _save(part.root / COLUMNS, columns | found, sums)
        return len(rows)

    def _read(self, rows: Rows, start: int) -> tuple[Array, Mask, Columns, Columns]:
        """(image, mask, columns along sample, columns along annot) of a shard."""
        direct = copies(self.source, rows, self.keys, self.lookup)
        if direct is not None and direct.known.form == self.form:
            return direct.read(), None, window_columns(direct.known), window_annotations(direct.known)
        samples = pending_samples(self.source, [{**row, **self.keys} for row in rows], self.lookup)
        image, mask = read_promised(samples, self.form, start)
        return image, mask, sample_columns(samples, self.form), annotation_columns(samples)

    def columns(self, shared: Shared) -> tuple[Columns, dict[str, list[bytes]]]:
        """The columns of all samples, and what `ShardedArray.write` returned of each shard, by array."""
        with TemporaryDirectory(prefix="ndzarr-") as near:
            names = map(str, range(self.layout.shards))
            read = partial(shared.read, file=COLUMNS, into=Path(near))
            parts, sums = zip(*ordered_map(lambda name: _load(read(name)), names, READERS), strict=True)
        out: Columns = {}
        for name, (dims, _) in list(parts[0].items()):
            values = [p.pop(name)[1] for p in parts]  # so that no more than one column is there twice
            if len({v.dtype.kind for v in values}) > 1:  # dates of some, indices of others
                values = [np.datetime_as_string(v) if v.dtype.kind == "M" else v.astype("U") for v in values]
            out[name] = dims, np.concatenate(same_unit(values))
        return out, {array.name: [own[array.name] for own in sums] for array in self.layout.arrays}


_SUM = "sum:"
"""Begins the names of what is not a column: the checksums of a shard."""


def _save(path: Path, columns: Columns, sums: Mapping[str, bytes]) -> None:
    with path.open("wb") as file:
        # Text as objects would be pickled.
        arrays: dict[str, Any] = {
            " ".join([name, *dims]): values.astype(str) if values.dtype == object else values
            for name, (dims, values) in columns.items()
        }
        arrays |= {_SUM + name: np.frombuffer(value, np.uint8) for name, value in sums.items()}
        np.savez(file, **arrays)


def _load(path: Path) -> tuple[Columns, dict[str, bytes]]:
    with np.load(path) as stored:
        sums = {key.removeprefix(_SUM): bytes(stored[key]) for key in stored if key.startswith(_SUM)}
        names = [key for key in stored if not key.startswith(_SUM)]
        return {key.split()[0]: (tuple(key.split()[1:]), stored[key]) for key in names}, sums


@lru_cache(maxsize=1)
def _readers(process: int) -> threading.Semaphore:
    """Return the semaphore of the threads of a process that may read at a time."""
    # Decoding small chunks is mostly Python's work, encoding is not, so that one thread reads while another encodes
    # (measured with two: 15% faster than when both may do the same).
    return threading.BoundedSemaphore(max(1, available_cpus() // 2))


_VERSION = 3
"""Version of the directory of an extraction; what another version began is not continued."""


def extract(
    source: SampleSource,
    targets: Targets | Rows,
    dest: str | os.PathLike[str],
    *,
    order: Order,
    lookup: Lookup,
    sizes: str,
    preset: str,
    shard: int | None,
    scheduler: Scheduler,
    workers: int | None,
    progress: bool,
    overwrite: bool,
    storage_options: Mapping[str, Any] | None,
    remote: Remote | None,
    keys: Mapping[str, Any],
) -> Path | str:
    """Write samples to a store; see `CocoSampler.extract`."""
    from dask.base import tokenize

    check_choice("order", order, ORDERS)
    checked(scheduler, workers)
    check_sizes(sizes)
    target = destination(dest, storage_options, remote)
    refuse_existing_at(target, overwrite)
    rows = Rows(targets)
    content = list(rows) if rows.frame is None else rows.frame
    files = identities(source.files(images_of(rows)))
    told = tokenize(_VERSION, source, files, content, dict(keys), astuple(lookup), sizes, order, preset, shard)[:12]
    with sharing(target, "extract", told, overwrite) as shared:
        if isinstance(shared, SharedFolder):
            refuse_foreign(Path(shared.folder))
        found = survey(source, rows, keys, lookup, sizes)
        positions = found.locality if order == "locality" else np.arange(len(rows))
        arrays = layout(len(rows), found.form, found.mask_dims, preset, shard, found.taken)
        if order == "locality":
            rows = rows.take(positions) if rows.frame is None else Rows(rows.frame.iloc[positions])
        job = Job(source, rows, positions, dict(keys), lookup, found.form, found.mask_dims, arrays)
        run_parts(job, shared, "extracting", "fewer workers or a smaller shard=", scheduler, workers, progress)
        with shared.finishing() as store:
            columns, sums = job.columns(shared)
            _finish(job, store, columns, sums)
        shared.publish(target, overwrite)
    return target if isinstance(target, Path) else target.url


def _finish(job: Job, root: Path, columns: Mapping[str, Any], sums: Mapping[str, Sequence[bytes]]) -> None:
    """Write everything that is not pixels, and the metadata."""
    import xarray

    coordinates = {name: c for name, c in columns.items() if c[0][0] == "sample"}
    annotations = {name: c for name, c in columns.items() if name not in coordinates}
    axes: dict[str, Any] = {"sample": ("sample", job.positions.astype(np.int64))}
    if job.form.channels is not None:
        axes["c"] = "c", np.array(job.form.channels, object)
    notes = {f"target_{name}": ("sample", values) for name, values in _table(job.rows).items()}
    small = xarray.Dataset({**annotations, **notes}, {**coordinates, **axes})
    columns_of_store = root.with_name("columns")
    plain = {n: {"_FillValue": None} for n, v in small.variables.items() if v.dtype.kind == "f"}  # NaN is just a value
    # zarr stores text that is objects with variable length.
    small = small.assign({n: v.astype(object) for n, v in small.variables.items() if v.dtype.kind == "U"})
    small.to_zarr(columns_of_store, mode="w", zarr_format=3, consolidated=False, encoding=plain)
    for array in job.layout.arrays:
        (root / array.name).mkdir(exist_ok=True)
        (root / array.name / "zarr.json").write_text(json.dumps(array.metadata(sums[array.name])))
    for part in columns_of_store.iterdir():
        if (root / part.name).is_dir():  # of an earlier attempt
            shutil.rmtree(root / part.name)
        os.replace(part, root / part.name)
    options = {key: repr(value) for key, value in job.keys.items()}
    consolidate(root, {"extracted": len(job.rows), "keys": options}, {"coordinates": " ".join(coordinates)})


def _table(rows: Rows) -> dict[str, Array]:
    """The targets by column: numbers and dates as they are, all else as text, lists and slices as JSON."""
    import pandas

    table = rows.frame if rows.frame is not None else pandas.DataFrame(list(rows))
    return {str(name): _column(table[name]) for name in table.columns}


def _column(values: pandas.Series) -> Array:
    array: Array = values.to_numpy()
    if array.dtype.kind in "biufM":
        return array
    if not values.isna().any() and {type(v) for v in array.tolist()} <= {int, float}:
        return np.asarray(array.tolist())
    return np.array([_text(v) for v in array.tolist()], object)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, slice):
        return [value.start, value.stop, value.step]
    return value.tolist() if hasattr(value, "tolist") else str(value)
