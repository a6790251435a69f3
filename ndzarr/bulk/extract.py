"""How are the samples of many targets written to one store?

1. All targets are surveyed: what they have in common, and in which order they are best read (`survey`).
2. Each task reads and writes the samples of whole shards (`job`), wherever it runs (`workers`); what is done stays done
   when the extraction is broken off (`resume`).
3. Columns, annotations and targets follow, and a rename publishes the store.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ndzarr.bulk import job as tasks
from ndzarr.bulk.batch import check_sizes
from ndzarr.bulk.job import STORE, Job
from ndzarr.bulk.member import BulkSampler
from ndzarr.bulk.resume import identities, missing, tidy, workplace
from ndzarr.bulk.store import consolidate, layout
from ndzarr.bulk.survey import survey
from ndzarr.bulk.workers import Scheduler, checked, working
from ndzarr.errors import OptionError, did_you_mean
from ndzarr.plan.explain import counted, human_bytes
from ndzarr.pyramid.publish import local, put_in_place, refuse_existing
from ndzarr.sampler.annotations import Lookup
from ndzarr.targets.rows import Rows, Targets

if TYPE_CHECKING:
    import pandas
    import xarray

Order: TypeAlias = Literal["input", "locality"]
ORDERS = ("input", "locality")


def extract(
    sampler: BulkSampler,
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
    if order not in ORDERS:
        raise OptionError(f"order={order!r} is not known{did_you_mean(order, ORDERS)}")
    checked(scheduler, workers)
    check_sizes(sizes)
    dest = local(dest)
    refuse_existing(dest, overwrite)
    rows = Rows(targets)
    content = list(rows) if rows.frame is None else rows.frame
    files = identities(sampler.source_files(_images(rows)))
    with workplace(dest, sampler, files, content, dict(keys), astuple(lookup), sizes, order, preset, shard) as folder:
        job = _job(sampler, rows, order, lookup, sizes, preset, shard, keys)
        tasks.write_job(folder, job)
        try:
            _do(job, folder, scheduler, workers, progress)
        finally:
            tasks.forget(folder)
        tidy(folder)
        _finish(job, folder / STORE, job.columns(folder))
        put_in_place(folder / STORE, dest, overwrite)
    return dest


def _job(
    sampler: BulkSampler,
    rows: Rows,
    order: str,
    lookup: Lookup,
    sizes: str,
    preset: str,
    shard: int | None,
    keys: Mapping[str, Any],
) -> Job:
    found = survey(sampler, rows, keys, lookup, sizes)
    positions = found.locality if order == "locality" else np.arange(len(rows))
    arrays = layout(len(rows), found.form, found.mask_dims, preset, shard, found.taken)
    if order == "locality":
        rows = rows.take(positions) if rows.frame is None else Rows(rows.frame.iloc[positions])
    return Job(sampler, rows, positions, dict(keys), lookup, found.form, found.mask_dims, arrays)


def _images(rows: Rows) -> list[Any] | None:
    """Images that a table names; None if only resolving its rows would tell."""
    if rows.frame is None or "gid" not in rows.frame or rows.frame["gid"].isna().any():
        return None
    found: list[Any] = rows.frame["gid"].unique().tolist()
    return found


def _do(job: Job, folder: Path, scheduler: Scheduler, workers: int | None, progress: bool) -> None:
    todo = missing(folder, job.layout.shards)
    if not todo:
        return
    n, total = job.layout.samples, len(job.rows)
    with working(scheduler, workers) as (count, pool):
        if progress:
            print(_announcement(job, len(todo), min(count, len(todo))), file=sys.stderr)
        with _bar(total, total - sum(min(n, total - k * n) for k in todo), progress) as bar:
            for done in pool.run(tasks.do, os.fspath(folder), todo):
                bar.update(done)


def _announcement(job: Job, todo: int, workers: int) -> str:
    layout, shape = job.layout, " x ".join(map(str, job.form.shape))
    done = f", {layout.shards - todo} of them done already" if todo < layout.shards else ""
    return (
        f"extracting {counted(len(job.rows), 'sample')} of {shape} {job.form.dtype} "
        f"into {counted(layout.shards, 'shard')}{done}; memory: "
        f"{counted(workers, 'worker')} x {human_bytes(layout.task_bytes)} = {human_bytes(workers * layout.task_bytes)}"
    )


def _bar(total: int, initial: int, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=initial, unit="sample", desc="extracting", delay=1, disable=not progress)


def _finish(job: Job, root: Path, columns: Mapping[str, Any]) -> None:
    """Write everything that is not pixels, and the metadata."""
    import xarray

    coordinates = {name: c for name, c in columns.items() if c[0][0] == "sample"}
    annotations = {name: c for name, c in columns.items() if c[0][0] != "sample"}
    axes: dict[str, Any] = {"sample": ("sample", job.positions.astype(np.int64))}
    if job.form.channels is not None:
        axes["c"] = "c", np.array(job.form.channels, object)
    notes = {f"target_{name}": ("sample", values) for name, values in _table(job.rows).items()}
    small = xarray.Dataset({**annotations, **notes}, {**coordinates, **axes})
    columns_of_store = root.with_name("columns")
    plain = {n: {"_FillValue": None} for n, v in small.variables.items() if v.dtype.kind == "f"}  # NaN is just a value
    _as_text(small).to_zarr(columns_of_store, mode="w", zarr_format=3, consolidated=False, encoding=plain)
    for array in job.layout.arrays:
        (root / array.name / "zarr.json").write_text(json.dumps(array.metadata()))
    for part in columns_of_store.iterdir():
        if (root / part.name).is_dir():  # of an earlier attempt
            shutil.rmtree(root / part.name)
        os.replace(part, root / part.name)
    options = {key: repr(value) for key, value in job.keys.items()}
    consolidate(root, {"ndzarr": {"extracted": len(job.rows), "keys": options}, "coordinates": " ".join(coordinates)})


def _as_text(small: xarray.Dataset) -> xarray.Dataset:
    """Text as objects, which zarr stores with variable length."""
    return small.assign({n: v.astype(object) for n, v in small.variables.items() if v.dtype.kind == "U"})


def _table(rows: Rows) -> dict[str, np.ndarray[Any, Any]]:
    """The targets by column: numbers and dates as they are, all else as text, lists and slices as JSON."""
    import pandas

    table = rows.frame if rows.frame is not None else pandas.DataFrame(list(rows))
    return {str(name): _column(table[name]) for name in table.columns}


def _column(values: pandas.Series) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = values.to_numpy()
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
