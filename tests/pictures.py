"""Pictures to test with."""

from __future__ import annotations

import numpy as np


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (y, x, 3), smooth enough to be resampled, different everywhere."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (17 + 3 * k) + seed) + np.cos(y / (23 - 2 * k)) for k in range(3)]
    noise = np.random.default_rng(seed).normal(0, 4, (height, width, 3))
    return np.clip(np.stack(waves, -1) * 55 + 128 + noise, 0, 255).astype(np.uint8)
