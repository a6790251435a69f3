"""How is a file to be read where it lies?

`Reading` is what the caller says about a file, as for a source that is transcoded, and what becomes of levels that it
does not have.  It pickles: a pyramid in another process is opened again with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known about a file beforehand; the first five are as for `ndzarr.transcode`."""

    orient: bool | tuple[int, int] = True
    axes: str | None = None
    channels: tuple[str, ...] | None = None
    nodata: float | None = None
    max_pixels: int | None = None
    kind: str = "intensity"
    """'intensity', or 'labels', whose levels are modes: overviews in the file, of unknown making, are left out."""
    cache: Path | None = None
    """The directory of levels that are made of large files; the user's cache directory if None."""
