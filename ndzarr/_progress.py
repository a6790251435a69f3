"""How far along is a transcoding?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self


class _NoBar:
    """Stands in for tqdm, which starts a thread and makes locks even when it is told to show nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, rows: int) -> None:
        """Show nothing."""


def row_progress(total: int | None, name: str, progress: bool) -> Any:
    """Return a bar that counts `total` rows of pixels; None where their number is not known."""
    if not progress:
        return _NoBar()
    from tqdm.auto import tqdm

    return tqdm(total=total, unit="row", unit_scale=True, desc=name, leave=False, delay=1)


# --- How far along is a job that takes longer than a second?


DELAY = 1.0
"""Seconds before anything is shown."""


@contextmanager
def delayed_bar(total: int, name: str, unit: str, progress: bool = True) -> Iterator[Callable[..., None]]:
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
