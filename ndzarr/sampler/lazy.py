"""How does a sample become dask-backed?  One task reads the whole sample, with its own plan, when it is computed."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
from dask.delayed import delayed

from ndzarr.sampler.assembly import Composition, read, uncertain, valid_by_geometry


def read_lazily(composition: Composition) -> tuple[Any, Any]:
    """
    What `assembly.read` returns for one composition, as dask arrays.

    Where pixels are real follows from the geometry alone, and `valid` is that, in memory.  Only where a value marks
    missing data it is not known before reading, and `valid` is a dask array with all axes.
    """
    task = delayed(_read, pure=False)(composition)
    image = dask.array.from_delayed(task[0], composition.shape, composition.result_dtype)
    if not uncertain(composition):
        return image, valid_by_geometry(composition)
    return image, dask.array.from_delayed(task[1], composition.shape, bool)


def _read(composition: Composition) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    [(image, valid)] = read([composition])
    mask = np.ones((), bool) if valid is None else valid
    if mask.ndim == image.ndim - 1:  # without c
        mask = mask[:, None]
    return image, np.ascontiguousarray(np.broadcast_to(mask, image.shape))
