"""The named kernels against OpenCV."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helpers.hypothesis_settings import examples
from ndzarr._indexing.resample import SUPPORT, Grid, resample, taps

OPENCV = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
KERNELS = sorted(OPENCV)


def row_of(row, grid, interpolation, **options):
    return resample(np.asarray(row)[None], Grid(0, 1, 1), grid, interpolation, **options)[0]


@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize("dtype", ["u1", "f4"])
@given(length=st.integers(8, 80), n=st.integers(1, 200), seed=st.integers(0, 2**16))
@examples(40)
def test_kernels_are_those_of_opencv(interpolation, dtype, length, n, seed):
    row = np.random.default_rng(seed).integers(0, 256, length).astype(dtype)
    out = row_of(row, Grid(0, length / n, n), interpolation, antialias=False)
    wanted = cv2.resize(row[None], (n, 1), interpolation=OPENCV[interpolation])[0]
    np.testing.assert_allclose(out.astype("f8"), wanted, atol=1 if dtype == "u1" else 0.3)


@pytest.mark.parametrize("interpolation", KERNELS)
@given(st.integers(10, 80), st.integers(1, 40), st.integers(0, 2**16))
@examples(40)
def test_antialiasing_stretches_the_kernel_by_the_reduction(interpolation, length, n, seed):
    """Pillow's rule; the oracle samples the kernel that enlarging by the same factor draws."""
    assume(length > n)
    row, step = np.random.default_rng(seed).uniform(size=length), length / n
    points = (np.arange(length) + 0.5 - (np.arange(n)[:, None] + 0.5) * step) / step
    impulse = np.zeros(17)
    impulse[8] = 1
    fine = 2048
    drawn = row_of(impulse, Grid(0, 1 / fine, 17 * fine), interpolation, antialias=False)
    weights = np.interp(points, (np.arange(17 * fine) + 0.5) / fine - 8.5, drawn)
    centres, reach = (np.arange(n) + 0.5) * step, SUPPORT[interpolation] * step
    whole = (centres - reach > 0) & (centres + reach < length)
    out = row_of(row, Grid(0, step, n), interpolation)
    wanted = (weights * row).sum(axis=1) / weights.sum(axis=1)
    np.testing.assert_allclose(out[whole], wanted[whole], atol=2e-3)


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
