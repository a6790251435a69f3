"""How large is each level of a pyramid, and which one answers a window at a scale?

Level k has ceil(n / 2^k) pixels along each reduced axis; its pixel i covers native [i*2^k, (i+1)*2^k), cut at the
border.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_SIDE = 256
"""A pyramid ends at the first level whose longest side is at most this."""


def count(height: int, width: int, longest: int = LONGEST_SIDE) -> int:
    """
    Number of levels of a pyramid, the native one included.

    Examples
    --------
    >>> count(8192, 8192), count(257, 10), count(256, 256)
    (6, 2, 1)
    """
    side, levels = max(height, width), 1
    while side > longest:
        side, levels = -(-side // 2), levels + 1
    return levels


def shape_at(
    level: int, dims: Sequence[str], shape: Sequence[int], reduced: Sequence[str] = ("y", "x")
) -> tuple[int, ...]:
    """
    Shape of a level.

    Examples
    --------
    >>> shape_at(2, "cyx", (3, 101, 64))
    (3, 26, 16)
    """
    return tuple(-(-n // 2**level) if d in reduced else n for d, n in zip(dims, shape, strict=True))


def finest_needed(scale: float, factors: Sequence[float]) -> int:
    """
    The coarsest level that still has at least the resolution asked for.

    Parameters
    ----------
    scale
        Output pixels per native pixel; the larger one where the axes differ.
    factors
        Native pixels per pixel of each level, ascending from 1.

    Examples
    --------
    >>> [finest_needed(s, [1, 2, 4, 8]) for s in (2.0, 1.0, 0.6, 0.5, 0.3, 0.01)]
    [0, 0, 0, 1, 1, 3]
    """
    wanted = 1 / scale * (1 + 1e-9)
    return max((k for k, f in enumerate(factors) if f <= wanted), default=0)
