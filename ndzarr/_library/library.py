"""Which source is already transcoded, and who makes it?

A `Library` is a directory of pyramids, one per source and way of reading it.

1. All that the pixels of a store depend on makes its *key*: the file's absolute path with symlinks resolved, its size
   and time of modification, the `Request`, the encoding.  Resolved, because a link may come to point to another file of
   the same size and age, and because two links to one file need only one store.
2. The store is `STEM-KEY.zarr`.  Files of the same name have other keys; so has a file that was changed, whose old
   store is never met again, until `prune` removes it.
3. What is not there is made by whoever gets the lock of its key; all others wait for it.  The system takes locks from
   processes that die.  Until it is complete a store is hidden (`pyramid.publish`); a damaged one is made again.

A Zarr store, or a URL, that is given as a source is opened where it is; so is a file that is efficiently tiled
(`inplace.policy`).
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ndzarr._concurrency import BatchError, Failure, Task, TaskContext, run_tasks
from ndzarr._files import default_root, settle, signature
from ndzarr._library.in_place import agreeing
from ndzarr._library.in_place import check_policy as checked
from ndzarr._library.in_place import open_in_place as where_it_lies
from ndzarr._library.inventory import Entry
from ndzarr._library.inventory import entries as inventory_entries
from ndzarr._library.inventory import prune as inventory_prune
from ndzarr._library.inventory import sweep as inventory_sweep
from ndzarr._library.keys import CacheEntry as Slot
from ndzarr._library.keys import SourceRequest as Request
from ndzarr._library.keys import as_source_request as as_request
from ndzarr._library.keys import cache_entry as slot
from ndzarr._library.keys import in_place, make_root
from ndzarr._library.overviews import side_store
from ndzarr._progress import progress_bar
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import open_pyramid
from ndzarr._store.presets import Encoding
from ndzarr.errors import MissingError, SourceError, StoreError

__all__ = ["Entry", "Library", "Request", "default_root"]

MAX_OPEN = 512
"""Pyramids that a library keeps open."""


class Library:
    """
    A directory of pyramids, made when they are first asked for.

    Any number of processes and threads may share one.  It pickles to its parameters.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        encoding: Encoding | None = None,
        max_pixels: int | None = None,
        max_open: int = MAX_OPEN,
        transcode: str = "auto",
    ) -> None:
        """
        Take a directory, which is made when something is written to it.

        Parameters
        ----------
        root
            The directory; `default_root()` if left out.
        encoding
            How sources are encoded.
        max_pixels
            Refuse larger images; see `ndzarr.transcode`.
        max_open
            Keep so many pyramids open.
        transcode
            'auto': files that are efficiently tiled are read where they lie, others are transcoded; 'always': all are;
            'never': none is.  See docs/in-place.md.
        """
        self.root = Path(os.path.abspath(default_root() if root is None else root))
        """Where the stores are."""
        self.encoding = encoding or Encoding()
        """How they are encoded."""
        self.max_pixels = max_pixels
        self.max_open = max_open
        self.transcode = checked(transcode)
        """Which sources are transcoded."""
        self._open: OrderedDict[Request, tuple[tuple[int, ...], Pyramid]] = OrderedDict()
        self._begun = False

    def __repr__(self) -> str:
        return f"<ndzarr Library {str(self.root)!r}, preset {self.encoding.preset!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root, self.encoding, self.max_pixels, self.max_open, self.transcode)

    def pyramid(
        self,
        source: str | os.PathLike[str],
        *,
        orient: bool | tuple[int, int] = True,
        axes: str | None = None,
        channels: Sequence[str] | None = None,
        nodata: float | None = None,
    ) -> Pyramid:
        """
        The pyramid of a source: the file itself where it is efficiently tiled, else a store, transcoded now if it is
        not there or was made from another version of the file.

        Where it is open already, that costs one look at the file's time of modification.

        Parameters
        ----------
        source
            Path of an image file; or of a Zarr store, or its URL, which is opened in place.
        orient, axes, channels, nodata
            How the file is to be read; see `ndzarr.transcode`.

        Raises
        ------
        SourceError, MissingError
            The file cannot be used.
        StoreError
            It cannot be read where it lies, and is not to be transcoded.
        WriteError
            The library's directory cannot be written, or the disk is full.
        """
        return self.find(as_request(source, orient, axes, channels, nodata))

    def find(self, request: Request) -> Pyramid:
        """The pyramid of a request in the form that `as_request` gives it; see `pyramid`."""
        try:
            seen = signature(request.path)
        except OSError:
            return self._resolve(request)  # says what is wrong
        held = self._open.get(request)
        if held is not None and held[0] == seen:
            with suppress(KeyError):  # another thread dropped it
                self._open.move_to_end(request)
            return held[1]
        pyramid = self._resolve(request)
        self._open[request] = seen, pyramid
        while len(self._open) > self.max_open:
            with suppress(KeyError):
                self._open.popitem(last=False)
        return pyramid

    def prepare(
        self,
        sources: Iterable[str | os.PathLike[str] | tuple[Any, ...]],
        workers: int | None = None,
        progress: bool = False,
    ) -> None:
        """
        Make the pyramids of many sources, several at a time.

        Parameters
        ----------
        sources
            Paths, or `Request`s (any tuples of their fields).  Those that are there already cost a look at the file.
        workers
            Number of threads; the number of processors if left out.
        progress
            Show a bar of sources.

        Raises
        ------
        BatchError
            Some could not be used: its `failures` say which, and why.  All others are done.
        WriteError
            The library's directory cannot be written, or the disk is full.
        """
        requests = [as_request(*item) if isinstance(item, tuple) else as_request(item) for item in sources]
        tasks: dict[Path, Task] = {}
        failures = []
        for request in dict.fromkeys(requests):
            try:
                store, make = self._missing(request)
            except (SourceError, MissingError, StoreError) as error:
                failures.append(Failure(request.path, error))
                continue
            if make is not None:
                tasks[store] = Task(request.path, make)
        with progress_bar(len(tasks), "transcoding", "source", progress) as advance:
            failures += run_tasks(list(tasks.values()), workers, advance)
        if failures:
            order = [request.path for request in requests]
            raise BatchError(sorted(failures, key=lambda failure: order.index(failure.source)))

    def _missing(self, request: Request) -> tuple[Path, Callable[[TaskContext], Any] | None]:
        """(store of a request, what makes it); nothing makes what is there, or need not be there."""
        if in_place(request.path):
            return self.root, None
        if (pyramid := self._where_it_lies(request)) is not None:
            side = side_store(pyramid)
            return (self.root, None) if side is None or side.made else (side.path, lambda turn: side.make())
        found = self._slot(request)
        there = os.path.exists(f"{found.store}/zarr.json")
        return found.store, None if there else partial(self._make, found, request)

    def entries(self) -> Iterator[Entry]:
        """Everything in the library, by name; files and stores that it did not make are left out."""
        return inventory_entries(self.root)

    def prune(self, dry_run: bool = False) -> list[Entry]:
        """
        Remove what is never read again: stale, orphaned, damaged and unfinished stores, and locks of dead processes.

        A source on a disk that is not mounted counts as gone.

        Parameters
        ----------
        dry_run
            Only say what would be removed.

        Returns
        -------
        What was removed.
        """
        return inventory_prune(self.root, dry_run)

    def _resolve(self, request: Request) -> Pyramid:
        if in_place(request.path):
            return agreeing(open_pyramid(request.path), request)
        if (pyramid := self._where_it_lies(request)) is not None:
            return pyramid
        found = self._slot(request)
        return found.find() or self._make(found, request)

    def _where_it_lies(self, request: Request) -> Pyramid | None:
        """The pyramid of a file that is not transcoded; None for all others."""
        return where_it_lies(request, self.transcode, self.encoding, self.max_pixels, self.root)

    def _slot(self, request: Request) -> Slot:
        real = os.path.realpath(request.path)
        try:
            found = os.stat(real)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingError(f"{os.path.abspath(request.path)}: there is no such file; check its name") from error
        except OSError as error:
            raise SourceError(
                f"{request.path}: it cannot be looked at ({error.strerror}); check its permissions"
            ) from error
        return slot(self.root, real, found.st_size, found.st_mtime_ns, request[1:], self.encoding.as_json())

    def _make(self, slot: Slot, request: Request, turn: TaskContext | None = None) -> Pyramid:
        self._begin()
        return slot.make(partial(self._write, slot, request, turn), None if turn is None else turn.check)

    def _begin(self) -> None:
        """Make the directory; remove what killed processes left in it."""
        if not self._begun:
            make_root(self.root)
            inventory_sweep(self.root)
            self._begun = True

    def _write(self, slot: Slot, request: Request, turn: TaskContext | None) -> None:
        from ndzarr._formats.registry import open_source
        from ndzarr._pyramid.transcode import write_pyramid

        real = slot.origin["path"]
        settle(slot.origin["mtime_ns"])
        options = request._asdict()
        del options["path"]
        try:
            with open_source(real, **options, max_pixels=self.max_pixels) as source:
                check, threads = (None, None) if turn is None else (turn.check, turn.threads)
                write_pyramid(source, slot.store, self.encoding, origin=slot.origin, workers=threads, check=check)
        except SourceError as error:
            if os.path.abspath(request.path) == real:
                raise
            raise SourceError(f"{request.path}, which is {error}") from error
