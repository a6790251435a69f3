"""Libraries: cache directories, or places in buckets, of pyramids, one per source and way of reading it.

The key of a store (`_library.keys`) is made of the file's absolute path with links resolved, its size and time of
modification, the `SourceRequest` and the encoding.  Links are resolved, because a link may come to point to another
file of the same size and age, and two links to one file need only one store.  A file that was changed has another key;
its old store is not read again, and `prune` removes it.  A store is hidden until it is complete; one whose damage shows
when it is opened, prepared or read is made again, with a warning.

Zarr stores and URLs are opened in place, and so are files that are efficiently tiled (`_library.open`).
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from ndzarr._concurrency import BatchError, Failure, Task, TaskContext, ordered_map, run_tasks
from ndzarr._executors import Job, Scheduler, checked, run_jobs, working
from ndzarr._files import Batch, FileId, cache_root, most_writers, settle, signature
from ndzarr._formats.options import Options
from ndzarr._formats.sidecars import BESIDE, sidecar_states
from ndzarr._library import inventory
from ndzarr._library.inventory import Entry
from ndzarr._library.keys import (
    IDENTITIES,
    CacheEntry,
    SourceRequest,
    as_source_request,
    cache_entry,
    is_opened_in_place,
    make_root,
    stored_arrays,
    version_of,
)
from ndzarr._library.open import POLICIES, find_remote, open_unless_transcoded, refuse_disagreement
from ndzarr._library.overviews import overview_store
from ndzarr._progress import progress_bar
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import open_pyramid
from ndzarr._remote.files import OpenedFile, changes, library_cache, look_up
from ndzarr._remote.settings import Remote
from ndzarr._remote.urls import is_url, names_file
from ndzarr._store.arrays import ChunkArray
from ndzarr._store.buckets import Place
from ndzarr._store.destinations import Dest, folder_at, shown_name
from ndzarr._store.presets import Encoding
from ndzarr._store.remote import RemoteArray
from ndzarr._validation import check_choice
from ndzarr.errors import DamagedError, MissingError, NdzarrError, SourceError, StoreError

if TYPE_CHECKING:
    from ndzarr._pyramid.bands import Image, Stage

_TOGETHER = 32
"""URLs that are opened at a time."""
MAX_OPEN = 512
"""Most pyramids that a library keeps open."""


class Library:
    """
    A directory of pyramids, which are made when they are first asked for.

    Any number of processes and threads may share one.  A library pickles to its parameters.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | Dest | None = None,
        encoding: Encoding | None = None,
        max_pixels: int | None = None,
        max_open: int = MAX_OPEN,
        transcode: str = "auto",
        identity: str = "stat",
        storage_options: Mapping[str, Any] | None = None,
        remote: Remote | None = None,
    ) -> None:
        """
        Name a directory, which is made when something is written to it; the user's cache directory if None.  A URL such
        as 's3://bucket/prefix' is a place in a bucket: stores are written there, and read from there.

        Stores have this encoding; images of more than `max_pixels` are refused; `max_open` pyramids are kept open.
        `transcode` 'auto' transcodes all files but those that are efficiently tiled, 'always' all, 'never' none; see
        docs/in-place.md.  `identity` is what tells that a file is still the same: 'stat', its size, time of
        modification and inode; 'content', a digest of its bytes.  `storage_options` and `remote` are those of
        `ndzarr.open`, for URLs.
        """
        if isinstance(root, Place):
            self.root: Dest = root
        elif root is not None and is_url(root):
            self.root = folder_at(root, storage_options, remote)
        else:
            self.root = Path(os.path.abspath(cache_root() if root is None else root))
        self.encoding = encoding or Encoding()
        self.max_pixels = max_pixels
        self.max_open = max_open
        self.transcode = check_choice("transcode", transcode, POLICIES)
        self.identity = check_choice("identity", identity, IDENTITIES)
        self.storage_options = storage_options
        self.remote = remote
        self._open: OrderedDict[SourceRequest, tuple[tuple[int, ...], Pyramid]] = OrderedDict()
        self._repaired: set[Dest] = set()
        self._begun = False

    def __repr__(self) -> str:
        return f"<ndzarr Library {shown_name(self.root)!r}, preset {self.encoding.preset!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        given = self.root, self.encoding, self.max_pixels, self.max_open, self.transcode, self.identity
        return type(self), (*given, self.storage_options, self.remote)

    @property
    def workdir(self) -> Path | str:
        """The directory of the stores, or the URL of their place, without secrets."""
        return self.root if isinstance(self.root, Path) else self.root.url

    @property
    def folder(self) -> Path:
        """The local directory for what is kept of remote files: the user's cache directory if the library is remote."""
        return self.root if isinstance(self.root, Path) else cache_root()

    def pyramid(
        self,
        source: str | os.PathLike[str],
        *,
        orient: bool | tuple[int, int] = True,
        axes: str | None = None,
        channels: Sequence[str] | None = None,
        nodata: float | Sequence[float | None] | None = None,
        palette: str | None = None,
        series: str | int | None = None,
    ) -> Pyramid:
        """
        Return the pyramid of an image file, or of a Zarr store or its URL; see `ndzarr.transcode` for the parameters.

        It is the file itself if that is efficiently tiled, else a store.  The store is made now if it does not exist,
        or if the file was changed since it was made.  For a pyramid that is open already, this only looks at the file's
        time of modification.
        """
        return self.find(as_source_request(source, orient, axes, channels, nodata, palette, series))

    def find(self, request: SourceRequest) -> Pyramid:
        """Return the pyramid of a request made by `as_source_request`; see `pyramid`."""
        try:
            seen = signature(request.path)
        except OSError:
            return self._resolve(request)  # reports what is wrong
        if not seen or not isinstance(self.root, Path):  # the file or the store is remote
            seen = (*seen, changes())
        held = self._open.get(request)
        if held is not None and held[0] == seen:
            try:  # noqa: SIM105 - samples ask this each time
                self._open.move_to_end(request)
            except KeyError:  # another thread dropped it
                pass
            return held[1]
        pyramid = self._resolve(request)
        self._open[request] = seen, pyramid
        while len(self._open) > self.max_open:
            with suppress(KeyError):
                self._open.popitem(last=False)
        return pyramid

    def opened(self, request: SourceRequest) -> Pyramid | None:
        """Return the pyramid of a local file if it is open or has a store; None if it has to be looked for or made."""
        if is_url(request.path) or not isinstance(self.root, Path) or not os.path.exists(request.path):
            return None
        if request in self._open:
            return self.find(request)
        ready = is_opened_in_place(request.path) or self._entry(request).find() is not None
        return self.find(request) if ready else None

    def open_store(self, path: str | os.PathLike[str], series: str | int | None = None) -> Pyramid:
        """Open a store, or its URL, anew; `series` is one of its images, if it holds several."""
        far: dict[str, Any] = {"storage_options": self.storage_options, "remote": self.remote}
        return open_pyramid(path, options=Options(series=series), **far)

    def open_together(self, requests: Iterable[SourceRequest]) -> None:
        """Open the sources of which the file or the store is remote, several at a time: each waits for requests."""
        remote = not isinstance(self.root, Path)
        missing = [r for r in dict.fromkeys(requests) if (remote or is_url(r.path)) and r not in self._open]
        if len(missing) > 1:
            self.look_up(request.path for request in missing)
            for _ in ordered_map(self.find, missing, min(_TOGETHER, len(missing)), name="open"):
                pass

    def prepare(
        self,
        sources: Iterable[str | os.PathLike[str] | tuple[Any, ...]],
        workers: int | None = None,
        progress: bool = False,
        scheduler: Scheduler = "threads",
    ) -> None:
        """
        Make the pyramids of many sources, several at a time; `workers` threads, as many as CPUs if None.

        Workers of another `scheduler` ('processes', a `distributed.Client` or the address of a dask scheduler) need to
        see the files and the directory; huge images are written in bands.

        Sources are paths, or `SourceRequest`s (any tuples of their fields).  If the store exists, the file
        and the indexes of the store's shards are looked at, and a damaged store is made again.
        """
        checked(scheduler, workers)
        requests = [as_source_request(*(item if isinstance(item, tuple) else (item,))) for item in sources]
        self.look_up(request.path for request in requests)
        tasks: dict[Dest, tuple[SourceRequest, Callable[[TaskContext], Any]]] = {}
        batch = Batch()
        failures = []
        together = 1 if isinstance(self.root, Path) else _TOGETHER  # each waits for requests
        for request, found in ordered_map(partial(self._missing, batch), dict.fromkeys(requests), together):
            if isinstance(found, NdzarrError):
                failures.append(Failure(request.path, found))
            elif found is not None:
                tasks[found[0]] = request, found[1]
        local = scheduler == "threads"
        with progress_bar(len(tasks) if local else 0, "transcoding", "source", progress) as advance:
            if local:
                try:
                    failures += run_tasks(
                        [Task(r.path, make) for r, make in tasks.values()], workers, advance, most_writers()
                    )
                finally:
                    batch.publish()
            else:
                failures += self._prepare_on(scheduler, workers, {s: r for s, (r, _) in tasks.items()}, advance)
        if failures:
            order = [request.path for request in requests]
            raise BatchError(sorted(failures, key=lambda failure: order.index(failure.source)))

    def _prepare_on(
        self,
        scheduler: Scheduler,
        workers: int | None,
        missing: Mapping[Dest, SourceRequest],
        advance: Callable[..., None],
    ) -> list[Failure]:
        """Make stores by the workers of a scheduler; return the sources that could not be used."""
        if not missing:
            return []
        self._begin()
        with working(scheduler, workers, "fewer workers") as pool:
            made = [self._making(request, store) for store, request in missing.items()]
            failed = run_jobs(pool, made, lambda _: advance(), lambda tasks: advance(0, more=tasks))
        return [Failure(request.path, failed[i]) for i, request in enumerate(missing.values()) if i in failed]

    def _making(self, request: SourceRequest, store: Dest) -> Job:
        """Make the store of a request by workers."""
        from ndzarr._pyramid.bands import refuse_elsewhere
        from ndzarr._pyramid.transcode import warn_of_trouble

        [(steps, trouble)] = yield [partial(self.make_here, request)]
        if steps:
            entry = self._entry(request, self._find_remote(request))
            image = self._image(entry, request)
            with entry.lock():
                replaced = entry.sound() is None and entry.make_way()
            with image.shared(entry.store, steps, replaced) as shared:
                yield from image.bands(steps, shared)
                [trouble] = yield [partial(image.finish, steps, shared)]
                with entry.lock():
                    if entry.sound() is None:
                        shared.publish(entry.store, overwrite=entry.make_way())
        refuse_elsewhere(store)
        warn_of_trouble(request.path, trouble)

    def make_here(self, request: SourceRequest) -> tuple[list[Stage], list[str]]:
        """
        Make the store of a request in this worker.

        Returns what `Image.begin` does: the stages, if the image is huge.
        """
        from ndzarr._pyramid.bands import refuse_unseen, stages
        from ndzarr._pyramid.transcode import Making

        for path in (shown_name(self.root), request.path):
            if not is_url(path):
                refuse_unseen(path)
        remote = self._find_remote(request)
        if (pyramid := self._open_file(request, remote)) is not None:
            if (overviews := overview_store(pyramid)) is not None:
                overviews.make()
            return [], []
        entry = self._entry(request, remote)
        if entry.sound() is not None:
            return [], []
        with self._image(entry, request).open() as source:
            steps = stages(source, Making.of(source, self._encoding(request)))
            trouble = list(source.trouble)
        if steps:
            return steps, []
        entry.make(partial(self._write, entry, request, context=TaskContext(Event(), threads=1)))
        return [], trouble

    def look_up(self, paths: Iterable[str]) -> None:
        """Fetch and keep the beginnings of all files among URLs that are not kept yet, in one flight of requests."""
        urls = list(dict.fromkeys(path for path in paths if is_url(path) and names_file(path)))
        cache = library_cache(self.folder)
        if urls and cache is not None:
            look_up(urls, BESIDE, cache, self.storage_options, self.remote)

    def _missing(
        self, batch: Batch, request: SourceRequest
    ) -> tuple[SourceRequest, tuple[Dest, Callable[[TaskContext], Any]] | NdzarrError | None]:
        """
        Return a request, and the store that it lacks with the function that makes it.

        Instead of these None if the store exists or is not needed, or the error if the source cannot be used.
        """
        try:
            remote = self._find_remote(request)
            if remote is None and (is_url(request.path) or is_opened_in_place(request.path)):
                return request, None
            if (pyramid := self._open_file(request, remote)) is not None:
                overviews = overview_store(pyramid)
                if overviews is None or overviews.sound:
                    return request, None
                return request, (overviews.place, lambda context: overviews.make())
            entry = self._entry(request, remote)
            if entry.sound() is not None:
                return request, None
            return request, (entry.store, partial(self._make_with, batch, entry, request))
        except (SourceError, MissingError, StoreError) as error:
            return request, error

    def entries(self) -> Iterator[Entry]:
        """Yield all stores that libraries made in the directory, by name."""
        return inventory.entries(self.root)

    def prune(self, dry_run: bool = False) -> list[Entry]:
        """
        Remove stale, orphaned, damaged and unfinished stores, and the locks of dead processes; return these stores.

        A source on a disk that is not mounted counts as gone.  `dry_run` removes nothing.
        """
        return inventory.prune(self.root, dry_run)

    def _resolve(self, request: SourceRequest) -> Pyramid:
        remote = self._find_remote(request)
        if remote is None and (is_url(request.path) or is_opened_in_place(request.path)):
            pyramid = self.open_store(request.path, request.series)
            refuse_disagreement(pyramid, request)
            return pyramid
        if (opened := self._open_file(request, remote)) is not None:
            return opened
        entry = self._entry(request, remote)
        pyramid = entry.find() or self._make(entry, request)
        repair = partial(self._repair, entry, request, pyramid)
        for array in stored_arrays(pyramid):
            array.repair = repair
        return pyramid

    def _repair(self, entry: CacheEntry, request: SourceRequest, pyramid: Pyramid, error: DamagedError) -> None:
        """
        Make the store of an open pyramid again, of which reading raised an error; raise it if that is not possible.

        A store is made again once: if the disk damages the new one too, that is an error.
        """
        with entry.lock():  # other threads read again once this one has adopted what it made
            if entry.store in self._repaired:
                return
            try:
                if self._entry(request, self._find_remote(request)).store != entry.store:
                    raise SourceError(f"{request.path}: was changed since", path=request.path)
                made = entry.make_locked(partial(self._write, entry, request), damaged=version_of(pyramid))
            except NdzarrError as cause:
                raise error from cause
            self._repaired.add(entry.store)
            fresh = {array.name: array for array in stored_arrays(made)}
            adopted = [_adopt(array, fresh.get(array.name)) for array in stored_arrays(pyramid)]
        if not all(adopted):
            self._open.pop(request, None)  # another version of ndzarr had written it, in another layout
            name = shown_name(entry.store)
            raise StoreError(f"{name}: was damaged and made again", path=name, hint="Read it again")

    def _find_remote(self, request: SourceRequest) -> OpenedFile | None:
        """Return the file that a URL names; None for a local one, and for a URL that may be a store."""
        if not is_url(request.path):
            return None
        return find_remote(request.path, self.storage_options, self.remote, library_cache(self.folder))

    def _open_file(self, request: SourceRequest, remote: OpenedFile | None = None) -> Pyramid | None:
        encoding = self._encoding(request)
        return open_unless_transcoded(request, self.transcode, encoding, self.max_pixels, self.root, remote)

    def _encoding(self, request: SourceRequest) -> Encoding:
        """Return how the store of a request is encoded."""
        return self.encoding if request.kind is None else replace(self.encoding, kind=request.kind)

    def _entry(self, request: SourceRequest, remote: OpenedFile | None = None) -> CacheEntry:
        inputs: list[Any] = [request[1:-1], self._encoding(request).as_json()]
        if remote is not None:
            tags = [[end, other.file.tag] for end, other in remote.beside.items()]
            inputs = [*inputs, remote.file.tag, *tags]
            return cache_entry(self.root, remote.file, *inputs)
        real = os.path.realpath(request.path)
        try:
            found = os.stat(real)
        except (FileNotFoundError, NotADirectoryError) as error:
            path = os.path.abspath(request.path)
            raise MissingError(f"{path}: there is no such file", path=path, hint="Check its name") from error
        except OSError as error:
            message = f"{request.path}: it cannot be accessed ({error.strerror})"
            raise SourceError(message, path=request.path, hint="Check its permissions") from error
        inputs += sidecar_states(real)
        file = FileId(real, found.st_ino, found.st_size, found.st_mtime_ns)
        return cache_entry(self.root, file, *inputs, identity=self.identity)

    def _begin(self) -> None:
        if not self._begun:
            make_root(self.root)
            inventory.remove_partial(self.root)
            self._begun = True

    def _make(self, entry: CacheEntry, request: SourceRequest) -> Pyramid:
        self._begin()
        return entry.make(partial(self._write, entry, request))

    def _make_with(self, batch: Batch, entry: CacheEntry, request: SourceRequest, context: TaskContext) -> None:
        self._begin()
        entry.make_with(batch, partial(self._write, entry, request, context=context, batch=batch), context.check)

    def _write(
        self,
        entry: CacheEntry,
        request: SourceRequest,
        overwrite: bool,
        context: TaskContext | None = None,
        batch: Batch | None = None,
    ) -> None:
        from ndzarr._pyramid.transcode import write_pyramid

        settle(entry.origin["mtime_ns"])
        try:
            with self._image(entry, request).open() as source:
                check, threads = (None, None) if context is None else (context.check, context.threads)
                write_pyramid(
                    source,
                    entry.store,
                    self._encoding(request),
                    overwrite=overwrite,
                    origin=entry.origin,
                    workers=threads,
                    check=check,
                    batch=batch,
                )
        except SourceError as error:
            real = entry.origin["path"]
            if is_url(request.path) or os.path.abspath(request.path) == real:
                raise
            raise SourceError(f"{request.path}, which is {error}", path=real) from error

    def _image(self, entry: CacheEntry, request: SourceRequest) -> Image:
        """Return the source of a request."""
        from ndzarr._formats.options import choose_palette
        from ndzarr._pyramid.bands import Image

        encoding = self._encoding(request)
        reading = {name: value for name, value in request._asdict().items() if name not in ("path", "kind")}
        reading |= {"palette": choose_palette(request.palette, encoding.kind), "max_pixels": self.max_pixels}
        reading |= {"storage_options": self.storage_options, "remote": self.remote}
        real = request.path if is_url(request.path) else entry.origin["path"]
        return Image(real, reading, encoding, entry.origin)


def _adopt(array: ChunkArray | RemoteArray, made: ChunkArray | RemoteArray | None) -> bool:
    """Let an open array read what was made again; return False if that has another layout."""
    if isinstance(array, ChunkArray):
        return isinstance(made, ChunkArray) and array.adopt(made)
    return isinstance(made, RemoteArray) and array.adopt(made)
