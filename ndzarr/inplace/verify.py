"""Are all bytes of a store, or of a file that is read where it lies, sound?

Stores are checked by `pyramid.verify`.  Of a TIFF, each tile of each level is decoded: all compressions notice bytes
that make no sense or too few pixels, but only deflate has a checksum, so other damage may go unnoticed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import product
from typing import Any

from ndzarr.errors import DamagedError
from ndzarr.inplace.open import file_kind, open_file
from ndzarr.inplace.reading import Reading
from ndzarr.inplace.tiff.tiles import TileLevel
from ndzarr.pyramid.verify import Problem, Report
from ndzarr.pyramid.verify import verify as verify_store


def verify(path: str | os.PathLike[str], progress: bool = False, threads: int | None = None) -> Report:
    """
    Check a whole store, or a TIFF with tiles.

    Parameters
    ----------
    path
        As `ndzarr.open` takes it.
    progress
        Show a bar, once it takes longer than a second.
    threads
        Decode in so many threads; the number of processors if left out.

    Returns
    -------
    What was checked and what is wrong.

    Raises
    ------
    MissingError, StoreError
        There is nothing at `path`, or nothing that looks like a Zarr store, or a file that cannot be read in place.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile
    >>> pyr = ndzarr.transcode(np.eye(300, dtype="u1"), tempfile.mkdtemp() + "/a.zarr")
    >>> report = ndzarr.verify(pyr.path)
    >>> report.ok, report.levels, report.chunks, report.empty
    (True, 2, 5, 8)
    """
    name = os.fspath(path)
    if "://" in name or file_kind(name) != "TIFF":
        return verify_store(path, progress, threads)
    try:
        pyramid = open_file(name, Reading())
    except DamagedError as error:
        where = os.path.realpath(name)
        return Report(where, 0, 0, 0, 0, (Problem(where, None, str(error)),))
    levels = [level.array for level in pyramid.levels if isinstance(level.array, TileLevel)]
    found = [tally for tallies in _checked(levels, progress, threads) for tally in tallies]
    sizes = [size for size, _ in found]
    problems = [Problem(pyramid.path, None, str(error)) for _, error in found if error is not None]
    problems.sort(key=lambda problem: problem.what)
    stored = sum(size > 0 for size in sizes)
    return Report(pyramid.path, len(levels), stored, len(sizes) - stored, sum(sizes), tuple(problems))


def _checked(levels: list[Any], progress: bool, threads: int | None) -> Iterator[list[tuple[int, DamagedError | None]]]:
    """What `_row` says of each row of tiles."""
    pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="ndzarr-verify")
    try:
        jobs = [
            pool.submit(_row, level, lead)
            for level in levels
            for lead in product(*(range(n) for n in level.tiles[:-1]))
        ]
        done: Any = as_completed(jobs)
        if progress:
            from tqdm.auto import tqdm

            done = tqdm(done, total=len(jobs), unit="row", desc="verifying", delay=1)
        for job in done:
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _row(level: Any, lead: tuple[int, ...]) -> list[tuple[int, DamagedError | None]]:
    """(encoded size, what is wrong) of each tile of a row."""
    scratch, found = level.codec.scratch(), []
    for x in range(level.tiles[-1]):
        chunk = (*lead, x)
        wrong = None
        try:
            level.decode(chunk, scratch)
        except DamagedError as error:
            wrong = error
        found.append((level.encoded_size(chunk), wrong))
    return found
