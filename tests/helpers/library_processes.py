"""Functions that spawned processes run in tests of the library.

`open_source` is replaced to slow sources down; everything behind it is left alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr._formats.registry
from ndzarr._library.library import Library


class Slow:
    """A source that logs its reads, and takes its time for each."""

    def __init__(self, source: Any, log: Path, seconds: float) -> None:
        self._source, self._log, self._seconds = source, log, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self._source.close()

    def read(self, window: Mapping[str, slice]) -> Any:
        with open(self._log, "a") as file:
            file.write(f"{os.getpid()} {self._source.name} {[part.start for part in window.values()]}\n")
        time.sleep(self._seconds)
        return self._source.read(window)


def slow_down(log: Path, seconds: float) -> None:
    """From now on sources are opened slow."""
    plain = ndzarr._formats.registry.open_source
    ndzarr._formats.registry.open_source = lambda *args, **options: Slow(plain(*args, **options), log, seconds)


def save(path: Path, seed: int = 0, shape: tuple[int, ...] = (300, 40)) -> np.ndarray[Any, Any]:
    """Write a random image as NPY, in place if it exists, and return its pixels with axes c y x."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 2**16, shape).astype("u2")
    np.save(path, pixels)
    return pixels[None] if pixels.ndim == 2 else pixels


def make(root: Path, source: Path, log: Path, seconds: float, results: Any) -> None:
    """Ask a library for a pyramid, slowly, and report its pixels' sum."""
    slow_down(log, seconds)
    try:
        results.put(int(Library(root).pyramid(source).read().sum(dtype="u8")))
    except Exception as error:
        results.put(repr(error))


def ask(library: Library, source: Path, results: Any) -> None:
    """Ask a library that came with the call for a pyramid."""
    results.put((int(library.pyramid(source).read().sum(dtype="u8")), len(library._open)))


def wait_for(path: Path, lines: int = 1, seconds: float = 60) -> list[str]:
    """The lines of a log, once it has so many."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and len(found := path.read_text().splitlines()) >= lines:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{path} has not got {lines} lines in {seconds} s")
