"""The named kernels against Pillow, whose resize stretches them in the same way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers.hypothesis_settings import examples
from ndzarr._indexing.resample import SUPPORT, Grid, resample, taps

PILLOW = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
KERNELS = sorted(PILLOW)


def row_of(row, grid, interpolation, **options):
    return resample(np.asarray(row)[None], Grid(0, 1, 1), grid, interpolation, **options)[0]


@pytest.mark.parametrize("interpolation", KERNELS)
@given(st.integers(0, 40), st.integers(10, 80), st.integers(1, 100), st.integers(0, 2**16))
@examples(40)
def test_kernels_are_those_of_pillow_away_from_the_border(interpolation, start, length, n, seed):
    row = np.random.default_rng(seed).normal(size=300).astype("f4")
    grid = Grid(100.0 + start, length / n, n)
    box = (100 + start, 0, 100 + start + length, 1)
    pillow = np.asarray(Image.fromarray(row[None]).resize((n, 1), PILLOW[interpolation], box=box))[0]
    reach = SUPPORT[interpolation] * max(1, grid.step)
    centres = grid.start + (np.arange(n) + 0.5) * grid.step
    inside = (centres - reach > 0) & (centres + reach < 300)
    np.testing.assert_allclose(row_of(row, grid, interpolation)[inside], pillow[inside], atol=2e-5)


@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize("antialias", [False, True])
@given(st.integers(1, 40), st.floats(-0.2, 0.9), st.floats(0.05, 9), st.integers(1, 30))
@examples(40)
def test_weights_add_up_to_one_and_fall_inside(interpolation, antialias, length, start, step, n):
    indices, weights = taps(Grid(start * length, step, n), length, interpolation, antialias)
    assert np.allclose(weights.sum(axis=0), 1)
    assert indices.min() >= 0
    assert indices.max() < length


@pytest.mark.parametrize("step", [0.3, 1.0, 2.5, 7.0])
def test_linear_without_anti_aliasing_looks_at_two_pixels(step):
    row = np.random.default_rng(1).normal(size=80)
    grid = Grid(2.25, step, 10)
    centres = grid.start + (np.arange(10) + 0.5) * step
    wanted = np.interp(centres, np.arange(80) + 0.5, row)
    assert np.allclose(row_of(row, grid, "linear", antialias=False), wanted)


@pytest.mark.parametrize("interpolation", [*KERNELS, "area"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2"])
def test_overshoot_at_edges_is_cut_not_wrapped(interpolation, dtype):
    limits = np.iinfo(dtype)
    row = np.array([limits.min, limits.max] * 4 + [limits.max] * 8 + [limits.min] * 8, dtype)
    for step in (0.4, 0.5, 1.3, 2.0):
        out = row_of(row, Grid(0.25, step, 10), interpolation)
        flat = row_of(row.astype("f8"), Grid(0.25, step, 10), interpolation)
        assert np.abs(out - np.clip(flat, limits.min, limits.max)).max() <= 0.51


@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize("dtype", ["f4", "u1"])
def test_invalid_pixels_do_not_leak_through_kernels(interpolation, dtype):
    row = np.full(40, 100, dtype)
    valid = np.ones(40, bool)
    row[15:21], valid[15:21] = 0, False
    for step in (0.4, 1.0, 1.7, 3.0):
        out = row_of(row, Grid(0.3, step, int(39 / step)), interpolation, valid=valid[None])
        assert set(np.round(out, 3).tolist()) <= {0, 100}, "either all that counts, or what marks missing data"


@pytest.mark.parametrize("interpolation", KERNELS)
def test_infinity_stays_out_of_pixels_that_give_it_no_weight(interpolation):
    row = np.zeros(20, "f4")
    row[9] = np.inf
    out = row_of(row, Grid(0, 1.0, 20), interpolation)
    assert np.flatnonzero(np.isinf(out)).tolist() == [9]
    assert not np.isnan(out).any()
