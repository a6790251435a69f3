"""The settings of everything that goes over the network."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from ndzarr.errors import OptionError


@dataclass(frozen=True, slots=True)
class Remote:
    """
    How ndzarr reads from and writes to buckets and web servers.

    Examples
    --------
    >>> import ndzarr
    >>> ndzarr.Remote(inflight=128, cache_dir="/tmp/chunks").inflight
    128
    """

    inflight: int = 64
    """Most requests under way at a time, of the whole process."""
    gap: int = 32 << 10
    """Most unwanted bytes between two ranges of an object that are asked for with one request."""
    cap: int = 1 << 20
    """Most bytes of a request; longer ranges are split.  Reads of few bytes use smaller requests, at least 256 KiB."""
    timeout: float = 30.0
    """Seconds that a request may take."""
    retries: int = 5
    """How often a request is sent again if the server is busy, or the connection fails."""
    cache_dir: str | os.PathLike[str] | None = None
    """Directory for a cache of encoded chunks that processes and runs share; None for no cache."""
    cache_bytes: int = 10 << 30
    """Bytes that the cache may take on the disk."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), _LEAST.get(field.name)
            if least is None:
                continue
            whole = field.name != "timeout"
            fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and value >= least
            if not fits:
                message = f"{field.name}={value!r}: expected a {'whole ' if whole else ''}number of at least {least}"
                raise OptionError(message, key=field.name)
        if self.cache_dir is not None:
            object.__setattr__(self, "cache_dir", str(Path(self.cache_dir).expanduser().absolute()))


_LEAST = {"inflight": 1, "gap": 0, "cap": 1 << 12, "timeout": 0.001, "retries": 0, "cache_bytes": 0}
"""Setting to its least value."""
