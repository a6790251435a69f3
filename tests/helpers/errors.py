"""Errors that a call has to raise, told by their attributes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ndzarr import errors


@contextmanager
def raises(
    error: type[errors.NdzarrError],
    *,
    path: str | os.PathLike[str] | None = None,
    key: str | None = None,
    window: Any = None,
    hint: str | None = None,
    match: str | None = None,
) -> Iterator[pytest.ExceptionInfo[errors.NdzarrError]]:
    """
    `pytest.raises` of an error that has these attributes and whose message names its path and its key.

    `hint` is a part of the hint.  `match` searches the message: for a fact in it, such as a number, that no attribute
    holds.
    """
    with pytest.raises(error, match=match) as caught:
        yield caught
    found, message = caught.value, str(caught.value)
    if path is not None:
        assert found.path == os.fspath(path), message
        assert found.path in message
    if key is not None:
        assert found.key == key, message
        assert found.key in message
    if window is not None:
        assert found.window == window, message
    if hint is not None:
        assert found.hint is not None, message
        assert hint in found.hint, message
