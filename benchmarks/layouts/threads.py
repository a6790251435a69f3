"""From how many decoded bytes do two threads for one window pay?"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue

import numpy as np

from benchmarks.layouts.chunks import Encoded, Layout, encode
from benchmarks.layouts.codecs import Blosc, Delta, Zstd
from benchmarks.layouts.measurement import Settings, positions, race
from benchmarks.layouts.report import Report
from benchmarks.photographs import photograph


class Pair:
    """A second thread that waits for half of the work."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._done.put(None)

    def run(self, mine: Callable[[], object], other: Callable[[], object]) -> None:
        """Do ``mine`` here and ``other`` there, and wait for both."""
        self._work.put(other)
        mine()
        self._done.get()

    def close(self) -> None:
        """End the thread."""
        self._work.put(None)
        self._thread.join()


def study_threads(report: Report, settings: Settings) -> None:
    """Idea (b): from how many decoded bytes do two threads for one window pay?"""
    image = photograph(settings.side, settings.side)
    pair, pool = Pair(), ThreadPoolExecutor(2)
    rows = []
    for codec in (Blosc("lz4hc", 4, "bitshuffle"), Delta(Zstd(1))):
        encoded = encode(image, Layout(codec, "planar", 128))
        chunks_across = (1, 2, 4, 6) if settings.quick else (1, 2, 3, 4, 6, 8, 12)
        rows += [_threads_row(encoded, across * 128, pair, pool, settings.seconds / 4) for across in chunks_across]
    pair.close()
    pool.shutdown()
    quantities = ["1 thread, ms", "pool of 2", "own pair"]
    head = ["codec, chunks", "decoded bytes", *quantities, *(f"{name}, quietest" for name in quantities)]
    note = (
        "Windows on the chunk grid; the chunks of each are halved between two threads: a ThreadPoolExecutor, or this "
        "thread and one that waits on a queue. Wall time; speed-ups of the median, then of the quickest 2 % of the "
        f"calls. Load average meanwhile: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    )
    report.table("Idea (b): two threads for one window (photograph, planar, edge 128)", head, rows, note)


def _threads_row(encoded: Encoded, size: int, pair: Pair, pool: ThreadPoolExecutor, seconds: float) -> list[str]:
    windows = positions(encoded.shape[1], size, multiple=128)
    first, second = encoded.scratch(), encoded.scratch()
    out = np.empty((encoded.shape[0], size, size), encoded.dtype)

    def halves(turn: int) -> tuple[Callable[[], None], Callable[[], None]]:
        touches = list(encoded.touches(*windows[turn % len(windows)], size))
        middle = (len(touches) + 1) // 2
        return (
            partial(encoded.read, touches[:middle], out, first),
            partial(encoded.read, touches[middle:], out, second),
        )

    def alone(turn: int) -> None:
        for half in halves(turn):
            half()

    def pooled(turn: int) -> None:
        for future in [pool.submit(half) for half in halves(turn)]:
            future.result()

    def paired(turn: int) -> None:
        pair.run(*halves(turn))

    cells = []
    for quantile in (0.5, 0.02):
        one, two, own = race([alone, pooled, paired], seconds, time.perf_counter, quantile)
        cells += [f"{one * 1e3:.3f}", f"{one / two:.2f}", f"{one / own:.2f}"]
    nbytes = encoded.shape[0] * size**2 * encoded.dtype.itemsize
    return [f"{encoded.layout.codec.name}, {(size // 128) ** 2}", f"{nbytes}", *cells]
