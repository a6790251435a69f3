"""Images and pyramids that are named by their user, without a kwcoco dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ndzarr._indexing.plan import counted
from ndzarr._library.library import Library
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import open_pyramid
from ndzarr.errors import SourceError, TargetError, did_you_mean

Named: TypeAlias = Pyramid | str | os.PathLike[str]


class NamedSource:
    """
    Named images and pyramids.

    Parameters
    ----------
    sources
        Name to pyramid or path, or a sequence of them, whose names are then 0, 1, 2, ...
    library
        Transcodes image files.

    Raises
    ------
    SourceError
        A source is neither a pyramid nor a path.
    """

    def __init__(self, sources: Mapping[Any, Named] | Iterable[Named], library: Library) -> None:
        if isinstance(sources, str | os.PathLike | Pyramid):
            what = sources.path if isinstance(sources, Pyramid) else os.fspath(sources)
            raise SourceError(f"{what}: a single source is given as a list of it, or with a name: {{'name': ...}}")
        self.sources: dict[Any, Any] = dict(sources) if isinstance(sources, Mapping) else dict(enumerate(sources))
        """Name to what was given for it."""
        self.library = library
        for key, source in self.sources.items():
            if not isinstance(source, Pyramid | str | os.PathLike):
                raise SourceError(
                    f"source {key!r} is of type {type(source).__name__}: expected a pyramid or a path; "
                    f"ndzarr.transcode makes a pyramid of arrays, and of lists of frames"
                )
        self._opened: dict[Any, Pyramid] = {}

    def __repr__(self) -> str:
        return f"<{counted(len(self.sources), 'source')}>"

    def open(self, key: Any) -> Pyramid:
        """
        Return the pyramid of a source.

        Raises
        ------
        TargetError
            There is no such source.
        """
        if key not in self.sources:
            raise TargetError(f"key={key!r}: no such source{did_you_mean(key, list(self.sources)[:20])}")
        source = self.sources[key]
        if isinstance(source, Pyramid):
            return source
        if not is_store(source):
            return self.library.pyramid(os.fspath(source))
        if key not in self._opened:
            self._opened[key] = open_pyramid(source)
        return self._opened[key]

    def prepare(self, progress: bool = False, workers: int | None = None) -> None:
        """Transcode every image file that is not transcoded yet."""
        files = [os.fspath(s) for s in self.sources.values() if not isinstance(s, Pyramid) and not is_store(s)]
        self.library.prepare([(f, True) for f in dict.fromkeys(files)], workers=workers, progress=progress)


def is_store(source: str | os.PathLike[str]) -> bool:
    """True for a source that is opened in place: a directory or a URL."""
    name = os.fspath(source)
    return "://" in name or os.path.isdir(name)
