"""Arrays of pixels: a synthetic photograph, random values of any dtype, and exact comparison."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES = tuple(
    np.dtype(d) for d in ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16"]
)
"""Every dtype that a pyramid can have."""


def photo(height: int, width: int, seed: int = 0) -> Array:
    """A photograph-like uint8 image (y, x, 3): smooth enough to be resampled, different everywhere."""
    return _photo(height, width, seed).copy()


@lru_cache(maxsize=200)
def _photo(height: int, width: int, seed: int) -> Array:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (17 + 3 * k) + seed) + np.cos(y / (23 - 2 * k)) for k in range(3)]
    noise = np.random.default_rng(seed).normal(0, 4, (height, width, 3))
    return np.clip(np.stack(waves, -1) * 55 + 128 + noise, 0, 255).astype(np.uint8)


def random_array(shape: Sequence[int], dtype: Any, seed: int = 0, zeros: float = 0.0) -> Array:
    """Any bits of a dtype (floats finite and moderate); a fraction of large blocks is zero, as missing chunks are."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        out = rng.integers(0, 2, shape).astype(bool)
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        out = rng.integers(info.min, info.max, shape, dtype.newbyteorder("="), endpoint=True)
    elif dtype.kind == "c":
        out = rng.normal(0, 100, shape) + 1j * rng.normal(0, 100, shape)
    else:
        out = rng.normal(0, 100, shape)
    if zeros:
        blocks = rng.random([-(-n // 16) for n in shape]) < zeros
        for axis, n in enumerate(shape):
            blocks = np.repeat(blocks, 16, axis=axis).take(range(n), axis=axis)
        out[blocks] = 0
    return out.astype(dtype)


def assert_same(found: Any, wanted: Any, what: str = "") -> None:
    """`numpy.testing.assert_array_equal`, which is asked only what differs: it takes ten times as long."""
    if not np.array_equal(found, wanted):
        np.testing.assert_array_equal(found, wanted, err_msg=what)


def same(a: Array, b: Array) -> bool:
    """True where shape, type and every bit of meaning agree; NaN equals NaN."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
