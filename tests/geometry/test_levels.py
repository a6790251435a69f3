"""Levels of a pyramid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.hypothesis_settings import examples
from ndzarr._indexing.windows import finest_needed
from ndzarr._indexing.windows import level_count as count
from ndzarr._indexing.windows import level_shape as shape_at


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from((1, 64, 255, 256)))
@examples(200)
def test_the_last_level_is_the_first_that_is_small_enough(height, width, longest):
    shapes = [shape_at(k, "yx", (height, width)) for k in range(count(height, width, longest))]
    assert max(shapes[-1]) <= longest
    assert all(max(shape) > longest for shape in shapes[:-1])


@given(st.integers(1, 10**6), st.integers(0, 20))
@examples(200)
def test_a_level_has_the_pixels_that_halving_again_and_again_gives(n, level):
    halved = n
    for _ in range(level):
        halved = (halved + 1) // 2
    assert shape_at(level, "cyx", (3, n, 1)) == (3, halved, 1)


@pytest.mark.parametrize(
    ("side", "levels"), [(1, 1), (255, 1), (256, 1), (257, 2), (511, 2), (512, 2), (513, 3), (1024, 3), (1025, 4)]
)
def test_levels_at_the_borders(side, levels):
    assert count(side, 1) == count(1, side) == count(side, side) == levels


@given(st.floats(1e-4, 100), st.lists(st.floats(1.01, 4), max_size=8))
@examples(200)
def test_the_level_is_the_coarsest_that_is_fine_enough(scale, ratios):
    factors = np.cumprod([1.0, *ratios])
    level = finest_needed(scale, factors)
    enough = [k for k, f in enumerate(factors) if f * scale <= 1 + 1e-9]
    assert level == (enough[-1] if enough else 0)


@pytest.mark.parametrize("k", range(12))
def test_a_scale_of_a_power_of_two_takes_exactly_that_level(k):
    factors = [2.0**i for i in range(12)]
    assert finest_needed(1 / 2**k, factors) == k
    assert finest_needed(1 / 2**k * 1.001, factors) == max(0, k - 1)
    assert finest_needed(1 / 2**k * 0.999, factors) == k
