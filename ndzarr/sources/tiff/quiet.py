"""What does tifffile complain about, and who hears it?

tifffile logs what is wrong with a file, and goes on with fewer pages or zeros.  Within `listening` its messages are
kept from the log and collected instead: those that mean missing pixels become errors, the others notes.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ndzarr.errors import SourceError

_FATAL = re.compile(r"invalid (page )?offset|invalid circular reference|corrupted tag list|failed to read '")
"""Messages after which pages are missing."""
_HEARD = threading.local()
"""Messages of the thread that listens."""


def _keep(record: logging.LogRecord) -> bool:
    """Keep records of threads that listen from handlers; a filter of tifffile's logger."""
    heard: list[str] | None = getattr(_HEARD, "messages", None)
    if heard is None:
        return True
    if record.levelno >= logging.WARNING and "GDAL_NODATA" not in record.getMessage():  # read here, not there
        heard.append(re.sub(r"<tifffile\.\S+ [^>]*> ?", "", record.getMessage()))
    return False


for _name in ("tifffile", "tifffile.tifffile"):  # the second until 2023
    logging.getLogger(_name).addFilter(_keep)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread."""
    before = getattr(_HEARD, "messages", None)
    messages: list[str] = []
    _HEARD.messages = messages
    try:
        yield messages
    finally:
        _HEARD.messages = before


def refuse_missing(path: str, messages: list[str]) -> None:
    """Raise an error if a message means that pages are missing."""
    for message in messages:
        if _FATAL.search(message):
            raise SourceError(f"{path}: this TIFF is truncated or damaged ({message}); fetch or write it again")
