"""What does one task of an extraction do, and what is known of it afterwards?

A `Job` is all that a task needs, and lies as a file beside what has been written so far, so that tasks can be sent
anywhere as a path and a number.  A task reads the samples of one shard by one plan, writes the shard, and then, as its
last act, the columns of its samples: a shard whose columns are there is done.
"""

from __future__ import annotations

import os
import pickle
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr.batch import processors
from ndzarr.bulk.batch import Form, agree, checked_mask, read, valid_of
from ndzarr.bulk.content import ALONG, Columns, annotation_columns, where, where_windows, window_annotations
from ndzarr.bulk.direct import copies
from ndzarr.bulk.member import BulkSampler, Mask, Member
from ndzarr.bulk.store import Layout
from ndzarr.errors import MissingError, TargetError
from ndzarr.sampler.annotations import Lookup
from ndzarr.targets.rows import Rows

_reading = threading.BoundedSemaphore(max(1, processors() // 2))
"""Threads that read at a time: decoding small chunks is mostly Python's, encoding is not, so that one thread reads
while another encodes (measured with two: 15% faster than when both may do the same)."""


def _forget() -> None:
    global _reading
    _reading = threading.BoundedSemaphore(max(1, processors() // 2))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

JOB = "job.pickle"
"""File of a job."""
PARTS = "parts"
"""Directory of the columns of each shard."""
STORE = "store"
"""Directory of what will be published."""


@dataclass(frozen=True)
class Job:
    """An extraction."""

    sampler: BulkSampler
    rows: Rows
    """The targets, in the order in which they are stored."""
    positions: np.ndarray[Any, Any]
    """Position of each in the targets as they were given."""
    keys: Mapping[str, Any]
    """Keys that every target gets."""
    lookup: Lookup
    form: Form
    mask_dims: tuple[str, ...] | None
    layout: Layout

    def do(self, folder: Path, number: int) -> int:
        """
        Write a shard and the columns of its samples.

        Returns
        -------
        How many samples it has.
        """
        n = self.layout.samples
        start = number * n
        rows = self.rows[start : start + n]
        with _reading:
            image, mask, columns, found = self._read(rows, start)
        self.layout.image.write(folder / STORE, number, image)
        valid = checked_mask(mask, self.mask_dims, self.form, len(rows), start)
        if self.layout.valid is not None and valid is not None:
            self.layout.valid.write(folder / STORE, number, valid)
        del columns[ALONG["y"]], columns[ALONG["x"]]  # which `transform` says in a hundredth of the space
        if found:
            found["annot_sample"] = ("annot",), self.positions[start : start + n][found["annot_sample"][1]]
        _save(part(folder, number), columns | found)
        return len(rows)

    def _read(self, rows: Rows, start: int) -> tuple[np.ndarray[Any, Any], Mask, Columns, Columns]:
        """(image, mask, columns along sample, columns along annot) of a shard."""
        direct = copies(self.sampler, rows, self.keys, self.lookup) if self.lookup.annot_ids is None else None
        if direct is not None and direct.form == self.form:
            return direct.read(), None, where_windows(direct.known), window_annotations(direct.known)
        members: list[Member] = self.sampler.members([{**row, **self.keys} for row in rows], self.lookup)
        self._check(members, start)
        pixels = read(members, self.form)
        mask = valid_of(members, self.form, pixels.masks)
        return pixels.image, mask, where(members, self.form), annotation_columns(members)

    def _check(self, members: list[Member], start: int) -> None:
        form = agree(members)
        same = (form.dims, form.dtype, form.channels) == (self.form.dims, self.form.dtype, self.form.channels)
        if not same or any(n > most for n, most in zip(form.shape, self.form.shape, strict=True)):
            raise TargetError(
                f"targets {start} to {start + len(members) - 1} (as they are stored) give {form.described}, the first "
                f"of all {self.form.described}; give channels= and dtype=, or extract them apart"
            )

    def columns(self, folder: Path) -> Columns:
        """The columns of all samples."""
        parts = [_load(part(folder, k)) for k in range(self.layout.shards)]
        out: Columns = {}
        for name, (dims, _) in list(parts[0].items()):
            values = [p.pop(name)[1] for p in parts]  # so that no more than one column is there twice
            if len({v.dtype.kind for v in values}) > 1:  # dates of some, indices of others
                values = [np.datetime_as_string(v) if v.dtype.kind == "M" else v.astype("U") for v in values]
            out[name] = dims, np.concatenate(values)
        return out


def part(folder: Path, number: int) -> Path:
    """Where the columns of a shard are."""
    return folder / PARTS / f"{number}.npz"


def _save(path: Path, columns: Columns) -> None:
    work = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with open(work, "wb") as file:
        arrays: dict[str, Any] = {" ".join([name, *dims]): values for name, (dims, values) in columns.items()}
        np.savez(file, **arrays)
    os.replace(work, path)


def _load(path: Path) -> Columns:
    with np.load(path) as stored:
        return {key.split()[0]: (tuple(key.split()[1:]), stored[key]) for key in stored}


def write_job(folder: Path, job: Job) -> None:
    """Leave a job where its tasks find it."""
    work = folder / f"{JOB}.tmp"
    work.write_bytes(pickle.dumps(job))
    os.replace(work, folder / JOB)
    _JOBS[os.fspath(folder)] = job


_JOBS: dict[str, Job] = {}
"""Jobs that this process itself began: its threads need no copy."""


def forget(folder: Path) -> None:
    """The job of a directory is over."""
    _JOBS.pop(os.fspath(folder), None)


@lru_cache(maxsize=1)
def _stored(folder: str, written: int) -> Job:
    job: Job = pickle.loads((Path(folder) / JOB).read_bytes())
    return job


def do(folder: str, number: int) -> int:
    """
    The task: do a shard of the job in a directory; returns how many samples it has.

    Raises
    ------
    MissingError
        This process does not see that directory.
    """
    job = _JOBS.get(folder)
    if job is None:
        try:
            written = os.stat(Path(folder) / JOB).st_mtime_ns
        except FileNotFoundError:
            raise MissingError(
                f"{folder}: this worker does not see the destination of the extraction; all workers need a file system "
                "in common with the process that called extract"
            ) from None
        job = _stored(folder, written)
    return job.do(Path(folder), number)
