"""
Execution of a `ReadPlan`.

1. Every chunk of the plan is decoded once: into the output, where the output is exactly that chunk, else into a scratch
   buffer from which its parts are copied.
2. Large plans of large chunks are cut into runs of neighbouring chunks, one per thread. All others are decoded in the
   calling thread: between two chunks a thread needs Python's lock, and waiting for it costs as much as decoding a small
   chunk does (measured: two threads read chunks of 48 KiB of the preset 'fast' 20% slower than one does).
3. Chunks that are slow to decode (tiles of a TIFF whose compression the compiled core does not know) are shared out one
   by one among threads, also those of one window.
4. Arrays that something else reads (zarr-python, a video decoder) are given all of their windows at once.
5. Chunks of remote arrays are fetched together, and decoded as they land: slow ones in other threads, too.

There is no event loop here; requests have one of their own (`_remote.engine`).
"""

from __future__ import annotations

from array import array as packed
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from math import prod
from sys import getrefcount
from typing import Any

import numpy as np

from ndzarr._concurrency import available_cpus, decode_pool
from ndzarr._files import Bytes, open_files_limit
from ndzarr._indexing.plan import ChunkRead, Part, ReadPlan, check_memory, plan_reads
from ndzarr._indexing.selection import Cut, Selection, cuts
from ndzarr._indexing.tables import part_table
from ndzarr._store import core
from ndzarr._store.arrays import ChunkArray, Decoded, Fetched, Stored
from ndzarr._store.core import FlatPlan
from ndzarr._store.remote import RemoteArray, fetch_or_wait
from ndzarr._store.sharding import ChunkCache
from ndzarr.errors import DamagedError

FEW_FILES = 32
"""Open files that no limit forbids."""

BLOCK_BYTES = 4 << 20
"""Windows of a large plan are parts of blocks of this size, for which numpy asks for huge pages. Whoever keeps a window
keeps its block."""

KEPT_BLOCKS = 64
"""Blocks that are used again once all their windows are gone: to clear new memory takes a third of a plan's time."""

_blocks: deque[np.ndarray[Any, Any]] = deque(maxlen=KEPT_BLOCKS)
"""Blocks in use or not; if there are more, the oldest are left to their windows."""


def _popped(blocks: deque[np.ndarray[Any, Any]]) -> tuple[np.ndarray[Any, Any], int]:
    """Return a block, which no other thread can take now, and the number of references to it."""
    block = blocks.pop()
    return block, getrefcount(block)


_UNUSED = _popped(deque([np.empty(0, np.uint8)]))[1]
"""References to a block that has no windows; how many there are while they are counted differs between Pythons."""

ALIGNED = 64
"""Windows begin on a multiple of this in their block."""

TABLED = 64
"""Parts per array from which on numpy plans faster than lists do."""

TOGETHER_BYTES = 2 << 20
"""Decoded bytes of fetched chunks that one call of the compiled core decodes, if more arrive."""

THREADED_BYTES = 4 << 20
"""Decoded bytes of a plan per thread, below which another thread does not pay for itself."""


def execute(
    plan: ReadPlan,
    out: Sequence[np.ndarray[Any, Any]] | None = None,
    cache: ChunkCache | None = None,
    threads: int | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> list[np.ndarray[Any, Any]]:
    """
    Read all windows of a plan into `out` (arrays or views of the plan's shapes; new ones by default).

    `cache` holds decoded chunks between calls. At most `threads` threads decode, by default as many as there are CPUs.
    `meanwhile` may be called, while other threads decode.
    Damaged stores that can be made again are (`ChunkArray.repair`, `RemoteArray.repair`), once per call.
    """
    if out is None:
        out = _new_outputs(plan)
    tried: list[object] = []
    while True:
        try:
            return _execute(plan, out, cache, threads, meanwhile)
        except DamagedError as error:
            stored = (a for a in plan.arrays if isinstance(a, ChunkArray | RemoteArray))
            repair = next((a.repair for a in stored if a.holds(error.path)), None)
            if repair is None or repair in tried:
                raise
            tried.append(repair)
            repair(error)


def _new_outputs(plan: ReadPlan) -> list[np.ndarray[Any, Any]]:
    """Return uninitialised arrays for the windows of a plan: parts of blocks, if together they are large."""
    arrays: Any = plan.arrays
    left = plan.wanted_bytes
    check_memory(left, hint="Ask for smaller windows, or for fewer at a time")
    if left < BLOCK_BYTES:
        return [np.empty(shape, arrays[a].dtype) for (a, _), shape in zip(plan.windows, plan.shapes, strict=True)]
    out, blocks, used = [], [_take_block()], 0
    for (a, _), shape in zip(plan.windows, plan.shapes, strict=True):
        size = prod(shape) * arrays[a].dtype.itemsize
        if size > BLOCK_BYTES // 2:
            out.append(np.empty(shape, arrays[a].dtype))
            continue
        if used + size > BLOCK_BYTES:
            blocks.append(_take_block())
            used = 0
        out.append(blocks[-1][used : used + size].view(arrays[a].dtype).reshape(shape))
        used += -(-size // ALIGNED) * ALIGNED
    _blocks.extendleft(blocks)
    return out


def _take_block() -> np.ndarray[Any, Any]:
    """Return a block that no window is part of any more, or a new one."""
    for _ in range(len(_blocks)):
        try:
            block, references = _popped(_blocks)
        except IndexError:
            break
        if references == _UNUSED:
            return block
        _blocks.appendleft(block)
    return np.empty(BLOCK_BYTES, np.uint8)


def _execute(
    plan: ReadPlan,
    out: Sequence[np.ndarray[Any, Any]],
    cache: ChunkCache | None,
    threads: int | None,
    meanwhile: Callable[[], object] | None = None,
) -> list[np.ndarray[Any, Any]]:
    arrays: Any = plan.arrays
    if cache is None and core.enabled and arrays:
        mine = [_is_for_core(arrays[a]) and out[i].dtype == arrays[a].dtype for i, (a, _) in enumerate(plan.windows)]
        if all(mine) and _few_files(plan):
            _decode_by_core(plan, out, threads, meanwhile)
            return list(out)
        if all(mine) and len(plan.windows) > 1:
            middle = len(plan.windows) // 2
            for half in (slice(middle), slice(middle, None)):
                part = plan_reads([(arrays[a], selection) for a, selection in plan.windows[half]])
                _execute(part, out[half], cache, threads)
            return list(out)
        if any(mine) and not all(mine):
            for side in (True, False):
                chosen = [i for i, own in enumerate(mine) if own is side]
                some = plan_reads([(arrays[a], selection) for a, selection in (plan.windows[i] for i in chosen)])
                _execute(some, [out[i] for i in chosen], cache, threads)
            return list(out)
    if cache is None and _is_simple(plan, out):
        _decode_windows(plan, out)
        return list(out)
    for a, array in enumerate(arrays):
        if not array.chunked:
            _read_windows(plan, a, out)
    if any(array.chunked and array.remote for array in arrays):
        _decode_fetched(plan, out, cache)
    runs = _runs(plan, threads)
    if len(runs) == 1:
        _decode(runs[0], arrays, out, cache)
    else:
        jobs = [decode_pool().submit(_decode_run, run, arrays, out, cache) for run in runs[1:]]
        try:
            _decode_run(runs[0], arrays, out, cache)
        finally:
            begun = [job for job in jobs if not (_is_shared(plan) and job.cancel())]
            for job in begun:
                job.exception()
        for job in begun:
            job.result()
    return list(out)


def _is_for_core(array: Stored) -> bool:
    return array.chunked and array.chunk_format is not None and array.chunk_format.known


def _few_files(plan: ReadPlan) -> bool:
    """Return True if all shards of a plan may be open at a time, as they are while the core decodes."""
    arrays: Any = plan.arrays
    if sum([array.shard_count for array in arrays]) <= FEW_FILES:
        return True
    touched: int = sum([arrays[a].shards_touched(s) for a, s in plan.windows])
    return touched <= open_files_limit(4, 4096)


def _decode_by_core(
    plan: ReadPlan,
    out: Sequence[np.ndarray[Any, Any]],
    threads: int | None,
    meanwhile: Callable[[], object] | None,
) -> None:
    """Decode with the compiled core; what it reports, decode the Python way, which says what is wrong."""
    arrays: Any = plan.arrays
    flat, held = flatten(plan, out)
    left = flat.decode(threads, meanwhile)
    for array in arrays:
        array.check()
    for k in left:
        _decode([plan.reads[k]], arrays, out, None)
    del held  # files stay open until here


def flatten(plan: ReadPlan, out: Sequence[np.ndarray[Any, Any]]) -> tuple[FlatPlan, object]:
    """Return what the core does for a plan of `Located` arrays, and what must live until it has done so."""
    if len(plan.arrays) == len(plan.windows) and all(_is_plain(selection) for _, selection in plan.windows):
        return _flat_windows(plan, out)
    large = _parts_at_least(plan, TABLED * len(plan.arrays))
    return _flat_tables(plan, out) if large else _flat_lists(plan, out)


def _parts_at_least(plan: ReadPlan, number: int) -> bool:
    """Return True if the windows are about so many chunks large, or larger."""
    arrays: Any = plan.arrays
    found = 0
    for (a, _), shape in zip(plan.windows, plan.shapes, strict=True):
        found += prod([1 + n // chunk for n, chunk in zip(shape, arrays[a].chunks, strict=True)])
        if found >= number:
            return True
    return False


def _is_plain(selection: Selection) -> bool:
    return all(isinstance(s, slice) and s.step == 1 for s in selection)


def _flat_windows(plan: ReadPlan, out: Sequence[np.ndarray[Any, Any]]) -> tuple[FlatPlan, object]:
    """Return the flat form of a plan of one plain window of each array, and what must live while it is decoded."""
    arrays: Any = plan.arrays
    axes = max([len(array.shape) for array in arrays])
    windows: list[int] = []
    shapes: list[int] = []
    shards: list[int] = []
    held: list[object] = []
    plain: Any = plan.windows
    for number, selection in plain:
        array = arrays[number]
        more = axes - len(selection)
        windows += number, len(held), *(0,) * more
        windows += [s.start for s in selection]
        windows += (1,) * more
        windows += [s.stop for s in selection]
        found = array.shards_of(selection)
        for shard in found:
            shards += (-1, 0) if shard is None else shard.source
        held += found
    for array in arrays:
        ones = (1,) * (axes - len(array.chunks))
        shapes += ones + array.chunks + ones + array.per_shard
    chunks, parts = core.cut(axes, windows, shapes, shards)
    formats = tuple([array.chunk_format for array in arrays])
    return FlatPlan(axes, formats, out, packed("q", [1]) * (axes * len(out)), chunks, parts), held


def _flat_lists(plan: ReadPlan, out: Sequence[np.ndarray[Any, Any]]) -> tuple[FlatPlan, object]:
    """Return the same for a small plan of any windows."""
    arrays: Any = plan.arrays
    axes = max([len(array.shape) for array in arrays])
    chunks: list[int] = []
    parts: list[int] = []
    held = []
    n = 0
    for number, chunk, boxes in plan.reads:
        place, shard = arrays[number].place(chunk)
        held.append(shard)
        chunks += *place, number, n, n + len(boxes)
        n += len(boxes)
        _add_boxes(parts, axes - len(chunk), boxes)
    # arrays of the standard library: numpy takes longer to make one of few numbers
    formats = tuple([array.chunk_format for array in arrays])
    return FlatPlan(axes, formats, out, *(packed("q", table) for table in (_steps(plan, axes), chunks, parts))), held


def _add_boxes(table: list[int], missing: int, boxes: Iterable[Part]) -> None:
    """Add a row of `parts` for each box of a chunk, whose array lacks the first `missing` axes of the plan."""
    zeros, ones = [0] * missing, [1] * missing
    for window, source, target in boxes:
        table.append(window)
        table += zeros
        table += [s.start for s in source]
        table += zeros
        table += [s.start for s in target]
        table += ones
        table += [s.stop - s.start for s in target]


def _flat_tables(plan: ReadPlan, out: Sequence[np.ndarray[Any, Any]]) -> tuple[FlatPlan, object]:
    """Return the same for a large plan."""
    arrays: Any = plan.arrays
    axes = max([len(array.shape) for array in arrays])
    chunks, parts, held, n = [], [], [], 0
    for number, array in enumerate(arrays):
        mine = [w for w, (a, _) in enumerate(plan.windows) if a == number]
        table = part_table([plan.windows[w][1] for w in mine], array.chunks, axes)
        table.parts[:, 0] = np.array(mine)[table.parts[:, 0]]
        places, shards = array.locate(table.positions)
        numbers = np.full(len(places), number)
        chunks.append(np.column_stack([places, numbers, table.first[:-1] + n, table.first[1:] + n]))
        parts.append(table.parts)
        held.append(shards)
        n += len(table.parts)
    formats = tuple([array.chunk_format for array in arrays])
    steps = np.array(_steps(plan, axes), np.int64)
    return FlatPlan(axes, formats, out, steps, np.concatenate(chunks), np.concatenate(parts)), held


def _steps(plan: ReadPlan, axes: int) -> list[int]:
    """Return the step of each window along each axis, one after another."""
    steps: list[int] = []
    for _, selection in plan.windows:
        steps += (1,) * (axes - len(selection))
        steps += [s.step if isinstance(s, slice) else 1 for s in selection]
    return steps


def _read_windows(plan: ReadPlan, number: int, out: Sequence[np.ndarray[Any, Any]]) -> None:
    """Read all windows of an array that is not decoded chunk by chunk."""
    array: Any = plan.arrays[number]
    mine = [i for i, (a, _) in enumerate(plan.windows) if a == number]
    for i, pixels in zip(mine, array.read([plan.windows[i][1] for i in mine]), strict=True):
        out[i][...] = pixels


def _is_simple(plan: ReadPlan, out: Sequence[np.ndarray[Any, Any]]) -> bool:
    """Return True if no chunk is wanted twice, and one thread decodes them all, none straight into the output."""
    arrays: Any = plan.arrays
    if len(arrays) != len(plan.windows):
        return False
    size = 0
    for array, (_, selection), pixels in zip(arrays, plan.windows, out, strict=True):
        if not array.chunked or pixels.shape[-1] == array.chunks[-1] or tuple in map(type, selection):
            return False
        if array.codec.slow or array.remote:
            return False
        size += pixels.nbytes
    return size < THREADED_BYTES


def _decode_windows(plan: ReadPlan, out: Sequence[np.ndarray[Any, Any]]) -> None:
    """Decode window by window: as their chunks are all different, there is nothing to gather first."""
    arrays: Any = plan.arrays
    alike: dict[Any, list[Cut]] = {}
    for array, (_, selection), pixels in zip(arrays, plan.windows, out, strict=True):
        # The frames of a video share the slices of their selections, so that the same cuts serve them all.
        key = array.chunks, *map(id, selection)
        found = alike.get(key)
        if found is None:
            found = alike[key] = cuts(selection, array.chunks)
        scratch = array.codec.scratch()
        view = array.codec.view(scratch)
        for chunk, source, target in found:
            pixels[target] = view[source] if array.decode(chunk, scratch, source) else array.fill


def _is_shared(plan: ReadPlan) -> bool:
    """Return True if chunks are slow: threads then take them one by one, so that a late thread keeps nobody waiting."""
    array: Any = plan.arrays[0]
    return bool(array.chunked and array.codec.slow)


def _left(queue: deque[ChunkRead]) -> Iterator[ChunkRead]:
    """Yield reads that no other thread has taken."""
    while True:
        try:
            yield queue.popleft()
        except IndexError:
            return


def _runs(plan: ReadPlan, threads: int | None) -> Sequence[Iterable[ChunkRead]]:
    """Return the reads of local arrays, cut into one run per thread that pays for itself."""
    arrays: Any = plan.arrays
    reads: Any = plan.reads
    if any(array.chunked and array.remote for array in arrays):
        reads = [read for read in reads if not (array := arrays[read[0]]).chunked or not array.remote]
    if not reads:
        return [reads]
    array = arrays[reads[0][0]]
    chunk = prod(array.chunks) * array.dtype.itemsize
    if threads is None and (not array.chunked or chunk < array.codec.threaded_bytes):
        return [reads]
    most = threads or available_cpus()
    if _is_shared(plan):
        queue = deque(reads)
        return [_left(queue) for _ in range(min(most, len(reads)))]
    n = min(most, len(reads), 1 + len(reads) * chunk // THREADED_BYTES)
    borders = [len(reads) * i // n for i in range(n + 1)]
    return [reads[a:b] for a, b in pairwise(borders)]


def _decode_run(
    run: Iterable[ChunkRead], arrays: Sequence[Stored], out: Sequence[np.ndarray[Any, Any]], cache: ChunkCache | None
) -> None:
    """Decode; if that fails, drop the reads that are left, which nobody needs any more."""
    try:
        _decode(run, arrays, out, cache)
    except BaseException:
        if isinstance(run, Iterator):
            deque(run, maxlen=0)
        raise


def _decode(
    reads: Iterable[ChunkRead], arrays: Sequence[Stored], out: Sequence[np.ndarray[Any, Any]], cache: ChunkCache | None
) -> None:
    current = -1
    scratch = view = np.empty(0)
    for number, chunk, parts in reads:
        array = arrays[number]
        if not array.chunked:
            continue
        decoded: np.ndarray[Any, Any] | None
        if cache is not None:
            decoded = _through_cache(array, chunk, cache)
        elif len(parts) == 1 and (direct := _exact_target(array, parts[0], out)) is not None:
            if not array.decode(chunk, direct):
                direct[...] = array.fill
            continue
        else:
            if number != current:
                current, scratch = number, array.codec.scratch()
                view = array.codec.view(scratch)
            wanted = parts[0][1] if len(parts) == 1 else None
            decoded = view if array.decode(chunk, scratch, wanted) else None
        for window, source, target in parts:
            out[window][target] = array.fill if decoded is None else decoded[source]


def _decode_fetched(plan: ReadPlan, out: Sequence[np.ndarray[Any, Any]], cache: ChunkCache | None) -> None:
    """Fetch the chunks of all remote arrays of a plan in one flight, and decode each as soon as it lands."""
    arrays: Any = plan.arrays
    reads: list[ChunkRead] = []
    for number, chunk, parts in plan.reads:
        array = arrays[number]
        if not array.chunked or not array.remote:
            continue
        if cache is not None and (held := cache.get(array.key(chunk))) is not None:
            _copy(parts, held, out)
        else:
            reads.append((number, chunk, parts))
    scratch: dict[int, np.ndarray[Any, Any]] = {}
    others: deque[tuple[Future[None], Callable[..., None]]] = deque()
    together = _Together(plan, out, cache)
    try:
        for found in fetch_or_wait([(arrays[number], chunk) for number, chunk, _ in reads]):
            if found is None or together.full:
                for read, data in together.decode():
                    _land(arrays[read[0]], *read, data, out, cache, scratch)
            if found is None:
                continue
            k, encoded = found
            number, chunk, parts = reads[k]
            array = arrays[number]
            if encoded is not None and together.add(reads[k], encoded):
                continue
            land: Callable[..., None] = partial(_land, array, number, chunk, parts, encoded, out, cache)
            if array.codec.slow and len(others) < _AHEAD * available_cpus():
                others.append((decode_pool().submit(land, {}), land))
            else:
                land(scratch)
            while others and others[0][0].done():
                others.popleft()[0].result()
        for read, data in together.decode():
            _land(arrays[read[0]], *read, data, out, cache, scratch)
        while others:
            job, land = others.popleft()
            if job.cancel():  # not begun: this thread may be the one that all others wait for
                land(scratch)
            else:
                job.result()
    finally:
        for job, _ in others:
            if not job.cancel():
                job.exception()  # waits: the output belongs to the caller


class _Together:
    """Fetched chunks that the compiled core decodes by one call: those that have landed while it decoded others."""

    def __init__(self, plan: ReadPlan, out: Sequence[np.ndarray[Any, Any]], cache: ChunkCache | None) -> None:
        self._arrays: Any = plan.arrays
        self._out = out
        self._formats: dict[int, int] = {}
        """Number of an array that the core decodes to that of its format."""
        if cache is None and core.enabled:
            others = {a for i, (a, _) in enumerate(plan.windows) if out[i].dtype != self._arrays[a].dtype}
            array: Any
            for a, array in enumerate(self._arrays):
                form = array.fetched_format if array.chunked and array.remote else None
                if form is not None and form.known and a not in others:
                    self._formats[a] = len(self._formats)
        if self._formats:
            self._axes = max(len(array.shape) for array in self._arrays)
            self._steps = packed("q", _steps(plan, self._axes))
        self._waiting: list[tuple[ChunkRead, list[Bytes]]] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        """True if enough chunks wait, though more may have landed."""
        return self._bytes >= TOGETHER_BYTES

    def add(self, read: ChunkRead, encoded: list[Bytes]) -> bool:
        """Take a chunk; return False if the core cannot decode it."""
        if read[0] not in self._formats or len(encoded) > 1:
            return False
        self._waiting.append((read, encoded))
        self._bytes += self._arrays[read[0]].fetched_format.nbytes
        return True

    def decode(self) -> list[tuple[ChunkRead, list[Bytes]]]:
        """Decode the chunks that wait; return those that are left to the Python way, which says what is wrong."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if not waiting:
            return []
        chunks: list[int] = []
        boxes: list[int] = []
        n = 0
        for (number, chunk, parts), [data] in waiting:
            chunks += core.MEMORY, data.__array_interface__["data"][0], data.size
            chunks += self._formats[number], n, n + len(parts)
            n += len(parts)
            _add_boxes(boxes, self._axes - len(chunk), parts)
        formats = tuple([self._arrays[a].fetched_format for a in self._formats])
        flat = FlatPlan(self._axes, formats, self._out, self._steps, packed("q", chunks), packed("q", boxes))
        return [waiting[k] for k in flat.decode()]


_AHEAD = 4
"""Slow chunks per CPU that wait for another thread to decode them; this one decodes what lands meanwhile."""


def _land(
    array: Fetched,
    number: int,
    chunk: tuple[int, ...],
    parts: Sequence[Part],
    encoded: Sequence[Bytes] | None,
    out: Sequence[np.ndarray[Any, Any]],
    cache: ChunkCache | None,
    scratch: dict[int, np.ndarray[Any, Any]],
) -> None:
    """Decode a chunk that was fetched, and copy its parts; `scratch` holds a buffer per array, by its number."""
    if encoded is None:
        pixels = array.missing(chunk)
        for window, source, target in parts:
            out[window][target] = pixels if np.ndim(pixels) == 0 else pixels[source]
        return
    if cache is None and len(parts) == 1 and (direct := _exact_target(array, parts[0], out)) is not None:
        array.decode_fetched(chunk, encoded, direct)
        return
    if cache is not None or (buffer := scratch.get(number)) is None:
        buffer = scratch[number] = array.codec.scratch()
    array.decode_fetched(chunk, encoded, buffer, parts[0][1] if len(parts) == 1 and cache is None else None)
    decoded = array.codec.view(buffer)
    if cache is not None:
        cache.put(array.key(chunk), decoded)
    _copy(parts, decoded, out)


def _copy(parts: Sequence[Part], decoded: np.ndarray[Any, Any], out: Sequence[np.ndarray[Any, Any]]) -> None:
    for window, source, target in parts:
        out[window][target] = decoded[source]


def _exact_target(array: Decoded, part: Part, out: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any] | None:
    """Return the part of the output that is exactly one decoded chunk, if it is contiguous."""
    window, _, target = part
    whole = out[window]
    # Cheap test first: along the last axis the output must be as long as the chunk.
    if whole.shape[-1] != array.chunks[-1] or whole.dtype != array.dtype:
        return None
    view = whole[target]
    if view.shape != array.chunks:
        return None
    if array.codec.order is not None:
        view = view.transpose(array.codec.order)  # as the chunk is laid out
    return view if view.flags.c_contiguous else None


def _through_cache(array: Decoded, chunk: tuple[int, ...], cache: ChunkCache) -> np.ndarray[Any, Any] | None:
    key = array.key(chunk)
    held = cache.get(key)
    if held is None:
        scratch = array.codec.scratch()
        if not array.decode(chunk, scratch):
            return None
        held = array.codec.view(scratch)
        cache.put(key, held)
    return held
