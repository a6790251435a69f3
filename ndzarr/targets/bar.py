"""How far along is a job that takes longer than a second?

tqdm starts a thread and makes locks as soon as a bar exists, so there is none before a second has passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

DELAY = 1.0
"""Seconds before anything is shown."""


@contextmanager
def bar(total: int, name: str, unit: str, progress: bool = True) -> Iterator[Callable[..., None]]:
    """
    What is called after each of so many steps, or with the number of several.

    Parameters
    ----------
    name
        What is being done, such as 'statistics'.
    progress
        False shows nothing, ever.
    """
    begun, done = time.monotonic(), 0
    shown: Any = None

    def advance(steps: int = 1) -> None:
        nonlocal done, shown
        done += steps
        if shown is None and progress and time.monotonic() - begun > DELAY:
            shown = _tqdm(total=total, desc=name, unit=unit, initial=done)
        elif shown is not None:
            shown.update(steps)

    try:
        yield advance
    finally:
        if shown is not None:
            shown.close()


def _tqdm(**options: Any) -> Any:
    from tqdm.auto import tqdm

    return tqdm(**options)
