"""What can go wrong, and what does the caller catch?

Every error raised on purpose is an `NdzarrError`; each leaf also subclasses the builtin a caller
would expect.  Messages say what was asked, what was found and how to fix it, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NdzarrError(Exception):
    """Base of every error that ndzarr raises on purpose."""


class SourceError(NdzarrError, ValueError):
    """A file or array cannot be used as a source of pixels."""


class MissingError(NdzarrError, FileNotFoundError):
    """A file or store that was named does not exist."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ExistsError(NdzarrError, FileExistsError):
    """A destination exists and was not to be overwritten."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class WriteError(NdzarrError, OSError):
    """The destination cannot be written (full disk, permissions)."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class StoreError(NdzarrError, ValueError):
    """A directory is not a pyramid that ndzarr can read."""


class DamagedError(StoreError):
    """Stored bytes are not the bytes that were written."""


class WindowError(NdzarrError, IndexError):
    """A window cannot be read as asked."""


class OptionError(NdzarrError, ValueError):
    """An option has a value that is not understood."""


class TargetError(NdzarrError, ValueError):
    """A sampling target is incomplete, contradictory or names something unknown."""


class CategoryError(NdzarrError, ValueError):
    """Categories do not form a tree, or scores, targets or names do not fit them."""


class DamagedVideoWarning(UserWarning):
    """A video is damaged or ends too soon: what decodes of it is used, and its store's metadata say the same."""


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """
    The end of an error message: the nearest known name and all the known ones.

    Examples
    --------
    >>> did_you_mean("windowdims", ["window_dims", "width"])
    "; did you mean 'window_dims'? Known: window_dims, width"
    """
    names = [str(k) for k in known]
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{hint} Known: {', '.join(names)}" if names else hint
