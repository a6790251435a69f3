"""Where do pixels land that are made something else at once?

In memory that is used again: new memory costs a page fault for every 4 KiB, a seventh of decoding into it (measured on
windows of 512 x 512 x 3).  Taking and giving are single operations on a deque, so threads need no lock, and a fork
leaves nothing locked behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

LARGEST = 4 << 20
"""Bytes of a buffer that is worth keeping: larger ones are few, and take long to fill."""

SMALLEST = 128 << 10
"""Smaller ones are malloc's own, which keeps them."""

_free: deque[np.ndarray[Any, Any]] = deque(maxlen=8)
"""Buffers of bytes that nobody uses; of more, the oldest goes."""


def take(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array with anything in it."""
    size = prod(shape) * dtype.itemsize
    if not SMALLEST <= size <= LARGEST:
        return np.empty(shape, dtype)
    try:
        memory = _free.pop()
    except IndexError:
        memory = np.empty(size, np.uint8)
    if memory.size < size:
        memory = np.empty(size, np.uint8)
    return memory[:size].view(dtype).reshape(shape)


def give(array: np.ndarray[Any, Any]) -> None:
    """Take back an array of which no view is left."""
    memory = array.base
    if memory is not None:  # else it was not worth keeping
        _free.append(memory)
