"""How does a sample become dask-backed?  One task reads the whole sample, with its own plan, when it is computed."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
from dask.delayed import delayed

from ndzarr.sampler.assembly import Composition, read


def read_lazily(composition: Composition) -> tuple[Any, Any]:
    """
    What `assembly.read` returns for one composition, as dask arrays.

    `valid` is None only where no pixel can be missing; where a value marks missing data, that is not known before
    reading, and `valid` is an array with all axes.
    """
    task = delayed(_read, pure=False)(composition)
    image = dask.array.from_delayed(task[0], composition.shape, composition.result_dtype)
    certain = composition.complete and all(p.crop.pyramid.nodata is None for p in composition.pieces)
    if certain and composition.scene.nodata != "ma":
        return image, None
    return image, dask.array.from_delayed(task[1], composition.shape, bool)


def _read(composition: Composition) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    [(image, valid)] = read([composition])
    mask = np.ones((), bool) if valid is None else valid
    if mask.ndim == 3:
        mask = mask[:, None]
    return image, np.ascontiguousarray(np.broadcast_to(mask, image.shape))
