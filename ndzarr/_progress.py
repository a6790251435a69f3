"""A progress bar for work that takes longer than a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

DELAY = 1.0
"""Seconds before a bar is shown, unless told otherwise."""


@contextmanager
def progress_bar(
    total: int | None, name: str, unit: str, progress: bool = True, done: int = 0, delay: float = DELAY
) -> Iterator[Callable[..., None]]:
    """
    Yield a function that is called with the number of steps done, 1 by default, and that of `more` steps to do.

    `total` is None if it is not known; `done` steps were done before; a bar is
    shown after `delay` seconds. tqdm is imported once there is something to show:
    it starts a thread and makes locks even to show nothing.
    """
    begin = time.monotonic()
    bar: Any = None

    def advance(steps: int = 1, more: int = 0) -> None:
        nonlocal done, bar, total
        done += steps
        if total is not None:
            total += more
        if bar is not None:
            bar.total = total
            bar.update(steps)
        elif progress and time.monotonic() - begin > delay:
            from tqdm.auto import tqdm

            many = total is None or total > 99_999
            bar = tqdm(total=total, desc=name, unit=unit, initial=done, leave=False, unit_scale=many)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.close()
