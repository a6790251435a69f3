"""The samples of many targets, written to one store.

1. All targets are surveyed: what they have in common, and in which order they are best read (`extract_store`).
2. Each task reads and writes the samples of whole shards, wherever it runs (`executors`); what is done stays done when
   the extraction is broken off.
3. Columns, annotations and targets follow, and a rename publishes the store.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ndzarr._batches.columnar import copies
from ndzarr._batches.executors import Scheduler, checked, working
from ndzarr._batches.extract_store import Layout, consolidate, layout, survey
from ndzarr._batches.form import Array, Form, check_sizes, checked_mask, pending_samples, read_promised
from ndzarr._batches.load import ALONG, Columns, annotation_columns, sample_columns, window_annotations, window_columns
from ndzarr._concurrency import available_cpus
from ndzarr._files import PARTIAL, explained, local_path, publish, refuse_existing, replacing, trying
from ndzarr._indexing.plan import counted, human_bytes
from ndzarr._progress import progress_bar
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.compose import Mask
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.scene import same_unit
from ndzarr._validation import check_choice
from ndzarr.errors import ExistsError, MissingError, WriteError
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets

if TYPE_CHECKING:
    import pandas


Order: TypeAlias = Literal["input", "locality"]
ORDERS = ("input", "locality")
JOB = "job.pickle"
PARTS = "parts"
"""Directory of the columns of each shard."""
STORE = "store"
"""Directory of what will be published."""


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

    def do(self, folder: Path, number: int) -> int:
        """Write a shard and the columns of its samples; returns how many samples it has."""
        n = self.layout.samples
        start = number * n
        rows = self.rows[start : start + n]
        with _readers(os.getpid()):
            image, mask, columns, found = self._read(rows, start)
        sums = {"image": self.layout.image.write(folder / STORE, number, image)}
        valid = checked_mask(mask, self.mask_dims, self.form, len(rows), start)
        if self.layout.valid is not None and valid is not None:
            sums["valid"] = self.layout.valid.write(folder / STORE, number, valid)
        del columns[ALONG["y"]], columns[ALONG["x"]]  # which `transform` says in a hundredth of the space
        if found:
            found["annot_sample"] = ("annot",), self.positions[start : start + n][found["annot_sample"][1]]
        _save(part(folder, number), columns | found, sums)
        return len(rows)

    def _read(self, rows: Rows, start: int) -> tuple[Array, Mask, Columns, Columns]:
        """(image, mask, columns along sample, columns along annot) of a shard."""
        direct = copies(self.source, rows, self.keys, self.lookup)
        if direct is not None and direct.known.form == self.form:
            return direct.read(), None, window_columns(direct.known), window_annotations(direct.known)
        samples = pending_samples(self.source, [{**row, **self.keys} for row in rows], self.lookup)
        image, mask = read_promised(samples, self.form, start)
        return image, mask, sample_columns(samples, self.form), annotation_columns(samples)

    def columns(self, folder: Path) -> Columns:
        """The columns of all samples."""
        parts = [_load(part(folder, k)) for k in range(self.layout.shards)]
        out: Columns = {}
        for name, (dims, _) in list(parts[0].items()):
            values = [p.pop(name)[1] for p in parts]  # so that no more than one column is there twice
            if len({v.dtype.kind for v in values}) > 1:  # dates of some, indices of others
                values = [np.datetime_as_string(v) if v.dtype.kind == "M" else v.astype("U") for v in values]
            out[name] = dims, np.concatenate(same_unit(values))
        return out

    def sums(self, folder: Path, name: str) -> list[bytes]:
        """Return what `ShardedArray.write` returned of each shard of an array."""
        return [_load_sum(part(folder, k), name) for k in range(self.layout.shards)]


def part(folder: Path, number: int) -> Path:
    """Return the file of the columns of a shard."""
    return folder / PARTS / f"{number}.npz"


_SUM = "sum:"
"""Begins the names of what is not a column: the checksums of a shard."""


def _save(path: Path, columns: Columns, sums: Mapping[str, bytes]) -> None:
    with replacing(path) as work, open(work, "wb") as file:
        # Text as objects would be pickled.
        arrays: dict[str, Any] = {
            " ".join([name, *dims]): values.astype(str) if values.dtype == object else values
            for name, (dims, values) in columns.items()
        }
        arrays |= {_SUM + name: np.frombuffer(value, np.uint8) for name, value in sums.items()}
        np.savez(file, **arrays)


def _load(path: Path) -> Columns:
    with np.load(path) as stored:
        names = [key for key in stored if not key.startswith(_SUM)]
        return {key.split()[0]: (tuple(key.split()[1:]), stored[key]) for key in names}


def _load_sum(path: Path, name: str) -> bytes:
    with np.load(path) as stored:
        return bytes(stored[_SUM + name])


def refuse_foreign(folder: Path) -> None:
    """
    Raise `WriteError` if somebody else may write to the directory of an extraction.

    Loading a pickle runs what it says, so that whoever may replace the job's might run anything.
    """
    if os.name != "posix":
        return
    found = os.lstat(folder)
    if found.st_uid not in (os.geteuid(), 0) or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        message = f"{folder}: others may write to this directory, in which an extraction is prepared"
        raise WriteError(message, path=str(folder), hint="Remove it, or extract to another directory")


def write_job(folder: Path, job: Job) -> None:
    """Write a job to the directory of its tasks."""
    with replacing(folder / JOB) as work:
        work.write_bytes(pickle.dumps(job))
    _JOBS[os.fspath(folder)] = job


_JOBS: dict[str, Job] = {}
"""Jobs that this process itself began: its threads need no copy."""


@lru_cache(maxsize=1)
def _readers(process: int) -> threading.Semaphore:
    """Return the semaphore of the threads of a process that may read at a time."""
    # Decoding small chunks is mostly Python's work, encoding is not, so that one thread reads while another encodes
    # (measured with two: 15% faster than when both may do the same).
    return threading.BoundedSemaphore(max(1, available_cpus() // 2))


@lru_cache(maxsize=1)
def _stored(folder: str, written: int) -> Job:
    refuse_foreign(Path(folder))
    job: Job = pickle.loads((Path(folder) / JOB).read_bytes())
    return job


def run_part(folder: str, number: int) -> int:
    """The task: do a shard of the job in a directory; returns how many samples it has."""
    job = _JOBS.get(folder)
    if job is None:
        try:
            written = os.stat(Path(folder) / JOB).st_mtime_ns
        except FileNotFoundError:
            raise MissingError(
                f"{folder}: this worker does not see the destination of the extraction",
                path=folder,
                hint="Give all workers a file system in common with the process that called extract",
            ) from None
        job = _stored(folder, written)
    return job.do(Path(folder), number)


_VERSION = 2
"""Version of the directory of an extraction; what another version began is not continued."""


@contextmanager
def workplace(dest: Path, *ingredients: Any) -> Iterator[Path]:
    """Lock the directory in which `dest` is made; it stays if the block ends with an error and some shards are done."""
    from dask.base import tokenize

    if not dest.parent.is_dir():
        message = f"{dest}: the directory {dest.parent} does not exist"
        raise MissingError(message, path=str(dest), hint="Make it first")
    folder = dest.with_name(f".{dest.name}.extract_{tokenize(_VERSION, *ingredients)[:12]}{PARTIAL}")
    kept = f"what is finished is kept in {folder.name}: the same call goes on from there"
    with explained(dest, kept), trying(_lock(folder)) as mine:
        if not mine and not _lock(folder).exists():
            hint = f"Check the permissions of {dest.parent}"
            raise WriteError(f"{dest}: may not be written", path=str(dest), hint=hint)
        if not mine:
            raise ExistsError(f"{dest}: another process is extracting it now", path=str(dest), hint="Wait for it")
        if not (folder / STORE).is_dir():  # it was published, but not removed
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(PermissionError):  # of somebody else
            folder.chmod(0o700)
        refuse_foreign(folder)
        for name in (PARTS, STORE):
            (folder / name).mkdir(exist_ok=True)
        try:
            yield folder
        except BaseException:
            if not any((folder / PARTS).iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        for other in dest.parent.glob(f".{escape(dest.name)}.extract_*{PARTIAL}"):
            with nullcontext(True) if other == folder else trying(_lock(other)) as free:
                if free:
                    shutil.rmtree(other, ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def identities(files: Iterator[str]) -> list[tuple[str, int, int]]:
    """Path, size and time of modification of files (of a store, its metadata); without those that are not there."""
    out = []
    for path in dict.fromkeys(files):
        name = os.path.join(path, "zarr.json") if os.path.isdir(path) else path
        if os.path.exists(name):
            status = os.stat(name)
            out.append((path, status.st_size, status.st_mtime_ns))
    return out


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
    keys: Mapping[str, Any],
) -> Path:
    """Write samples to a store; see `CocoSampler.extract`."""
    check_choice("order", order, ORDERS)
    checked(scheduler, workers)
    check_sizes(sizes)
    dest = local_path(dest)
    refuse_existing(dest, overwrite)
    rows = Rows(targets)
    content = list(rows) if rows.frame is None else rows.frame
    files = identities(source.files(_images(rows)))
    with workplace(dest, source, files, content, dict(keys), astuple(lookup), sizes, order, preset, shard) as folder:
        found = survey(source, rows, keys, lookup, sizes)
        positions = found.locality if order == "locality" else np.arange(len(rows))
        arrays = layout(len(rows), found.form, found.mask_dims, preset, shard, found.taken)
        if order == "locality":
            rows = rows.take(positions) if rows.frame is None else Rows(rows.frame.iloc[positions])
        job = Job(source, rows, positions, dict(keys), lookup, found.form, found.mask_dims, arrays)
        write_job(folder, job)
        try:
            _do(job, folder, scheduler, workers, progress)
        finally:
            _JOBS.pop(os.fspath(folder), None)
        for path in (folder / STORE).rglob(".*"):  # what tasks were writing when they were killed
            path.unlink(missing_ok=True)
        _finish(job, folder / STORE, job.columns(folder))
        publish(folder / STORE, dest, overwrite)
    return dest


def _images(rows: Rows) -> list[Any] | None:
    """Images that a table names; None if only resolving its rows would tell."""
    if rows.frame is None or "gid" not in rows.frame or rows.frame["gid"].isna().any():
        return None
    return list(rows.frame["gid"].unique().tolist())


def _do(job: Job, folder: Path, scheduler: Scheduler, workers: int | None, progress: bool) -> None:
    todo = [k for k in range(job.layout.shards) if not part(folder, k).exists()]
    if not todo:
        return
    n, total = job.layout.samples, len(job.rows)
    with working(scheduler, workers) as (count, run):
        if progress:
            print(_announcement(job, len(todo), min(count, len(todo))), file=sys.stderr, flush=True)
        before = total - sum(min(n, total - k * n) for k in todo)
        with progress_bar(total, "extracting", "sample", progress, before) as advance:
            for done in run(run_part, os.fspath(folder), todo):
                advance(done)


def _announcement(job: Job, todo: int, workers: int) -> str:
    layout, shape = job.layout, " x ".join(map(str, job.form.shape))
    done = f", {layout.shards - todo} of them done already" if todo < layout.shards else ""
    return (
        f"extracting {counted(len(job.rows), 'sample')} of {shape} {job.form.dtype} "
        f"into {counted(layout.shards, 'shard')}{done}; memory: "
        f"{counted(workers, 'worker')} x {human_bytes(layout.task_bytes)} = {human_bytes(workers * layout.task_bytes)}"
    )


def _finish(job: Job, root: Path, columns: Mapping[str, Any]) -> None:
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
        sums = job.sums(root.parent, array.name)
        (root / array.name / "zarr.json").write_text(json.dumps(array.metadata(sums)))
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
