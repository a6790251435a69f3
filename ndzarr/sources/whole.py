"""How is an image read whose format has to be decoded as a whole?

Opening reads the header only.  The first `read` decodes the image, under a lock, and keeps it until `close`; every
window is a view of it.  No file stays open in between, so thousands of such sources may be open at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ndzarr.errors import SourceError
from ndzarr.sources.base import BaseSource, Facts, Pixels, Region
from ndzarr.sources.orientation import Orientation


class WholeSource(BaseSource):
    """An image that is decoded at the first read."""

    def __init__(self, facts: Facts, orientation: Orientation, decode: Callable[[], Pixels]) -> None:
        """
        Describe an image that `decode` makes when it is needed.

        Parameters
        ----------
        decode
            Returns all pixels, axes `facts.dims`, as stored; raises SourceError.
        """
        super().__init__(facts, orientation)
        self._decode: Callable[[], Pixels] | None = decode
        self._lock = threading.Lock()
        self._decoded: Pixels | None = None

    def _pixels(self, region: Region) -> Pixels:
        with self._lock:
            if self._decode is None:
                raise SourceError(f"{self.name}: the source is closed; open it again to read")
            if self._decoded is None:
                self._decoded = self._checked(self._decode())
            return self._decoded[region]

    def _checked(self, pixels: Pixels) -> Pixels:
        stored = (*self.shape[:-2], *self.orientation.size(*self.shape[-2:]))
        if pixels.shape != stored or pixels.dtype != self.dtype:
            raise SourceError(
                f"{self.name}: the header announces {self.dtype} pixels of shape {stored}, but the data decode to "
                f"{pixels.dtype} of shape {pixels.shape}; the file is damaged or changed since it was opened"
            )
        return pixels

    def _release(self) -> None:
        with self._lock:
            self._decode = self._decoded = None
