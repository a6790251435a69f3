"""Affine transforms of the plane.

A transform is a 3x3 matrix that maps continuous coordinates (x, y, 1), where pixel i covers [i, i+1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

IDENTITY = np.eye(3)
"""The transform that maps every point to itself."""


def scale_offset(scale: tuple[float, float], offset: tuple[float, float]) -> np.ndarray[Any, Any]:
    """
    Return the transform that first scales, then shifts, both along (x, y).

    Examples
    --------
    >>> scale_offset((2, 2), (10, 0)) @ [1, 1, 1]
    array([12.,  2.,  1.])
    """
    return np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]], [0, 0, 1]], float)


def is_scale_offset(matrix: np.ndarray[Any, Any]) -> bool:
    """Return True if a transform neither rotates, shears nor flips, so that it maps windows to windows."""
    off = max(abs(matrix[0, 1]), abs(matrix[1, 0]))
    return bool(off < 1e-9 * max(abs(matrix[0, 0]), abs(matrix[1, 1])) and matrix[0, 0] > 0 and matrix[1, 1] > 0)


def warp_boxes(matrix: np.ndarray[Any, Any], boxes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """
    Return the upright boxes that enclose transformed boxes; rows are x, y, width, height in pixels.

    Examples
    --------
    >>> warp_boxes(scale_offset((2, 1), (1, 0)), np.array([[0, 0, 10, 5]]))
    array([[ 1.,  0., 20.,  5.]])
    """
    x, y, w, h = np.moveaxis(np.asarray(boxes, float).reshape(-1, 4), -1, 0)
    (a, b, c), (d, e, f) = matrix[0], matrix[1]
    left = a * x + b * y + c + np.minimum(a * w, 0) + np.minimum(b * h, 0)
    top = d * x + e * y + f + np.minimum(d * w, 0) + np.minimum(e * h, 0)
    return np.stack([left, top, abs(a) * w + abs(b) * h, abs(d) * w + abs(e) * h], axis=-1)
