"""Exceptions and warnings.

Every error raised on purpose is an `NdzarrError`; each leaf also subclasses the builtin that a caller would expect.
A message says what was asked, what was found and, as its last sentence, what to do.  The attributes `path`, `key`,
`window` and `hint` carry the same facts for programs, where they apply.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable
from typing import Self


class NdzarrError(Exception):
    """
    Base of every error that ndzarr raises on purpose.

    Parameters
    ----------
    *args
        The message.
    path
        The file, store or URL that the error is about.
    key
        The option, argument or axis, or the key of a target or of a dataset, that the error is about.
    window
        The window that was asked for, as it was given.
    hint
        What to do, as a sentence without its full stop.  It ends the message.

    Attributes
    ----------
    path, key, window, hint
        As given; None where the error has none.  Pickling and copying keep them.
    """

    path: str | None = None
    key: str | None = None
    window: object = None
    hint: str | None = None

    def __init__(
        self,
        *args: object,
        path: str | None = None,
        key: str | None = None,
        window: object = None,
        hint: str | None = None,
    ) -> None:
        if hint is not None:
            args = (f"{args[0]}. {hint}" if args else hint, *args[1:])
        super().__init__(*args)
        # Stored in the instance dictionary, which exceptions pickle and copy by themselves.
        given = {"path": path, "key": key, "window": window, "hint": hint}
        self.__dict__.update({name: value for name, value in given.items() if value is not None})

    @classmethod
    def like(cls, error: NdzarrError, path: str | None = None) -> Self:
        """Return an error of this class with the message and the attributes of another; `path` if it has none."""
        made = cls(*error.args)
        made.__dict__.update({} if path is None else {"path": path})
        made.__dict__.update(error.__dict__)
        return made


class SourceError(NdzarrError, ValueError):
    """A file or array cannot be used as a source of pixels."""


class MissingError(NdzarrError, FileNotFoundError):
    """A file or store that was named does not exist."""


class ExistsError(NdzarrError, FileExistsError):
    """A destination exists and was not to be overwritten."""


class WriteError(NdzarrError, OSError):
    """A destination cannot be written, because the disk is full or permissions are missing."""


class StoreError(NdzarrError, ValueError):
    """A path does not hold a pyramid that ndzarr can read."""


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


class DamagedFileWarning(UserWarning):
    """A file is damaged or ends too soon.  What can be read is used, and the store's metadata say so."""


class DamagedVideoWarning(DamagedFileWarning):
    """A video is damaged or ends too soon.  The frames that decode are used, and the store's metadata say so."""


class DamagedStoreWarning(UserWarning):
    """A cached store is damaged and was made again, or the metadata of a store were changed since it was written."""


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn about the line outside ndzarr that led to the call of this function."""
    level, frame = 1, sys._getframe()
    own = "ndzarr", "functools"  # the latter calls cached properties
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in own:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """
    Return the end of an error message: the nearest known name and all known ones.

    Examples
    --------
    >>> did_you_mean("windowdims", ["window_dims", "width"])
    "; did you mean 'window_dims'? Known: window_dims, width"
    """
    names = [str(k) for k in known]
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{hint} Known: {', '.join(names)}" if names else hint
