"""Resampling against sums written out."""

from fractions import Fraction
from itertools import pairwise
from math import floor

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helpers.hypothesis_settings import examples
from ndzarr._indexing.resample import SUPPORT, Grid, resample, taps
from ndzarr._indexing.windows import span_at

INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")


def interval_means(row, grid):
    """The oracle of 'area' while reducing: the mean over each interval, cut at the ends, by an integral."""
    integral = np.concatenate([[0], np.cumsum(row, dtype=np.float64)])
    edges = np.clip(grid.start + np.arange(grid.n + 1) * grid.step, 0, len(row))
    return np.diff(np.interp(edges, np.arange(len(row) + 1), integral)) / np.diff(edges)


def resample_row(row, grid, interpolation="area", valid=None):
    """One row, resampled along x only."""
    mask = None if valid is None else np.asarray(valid)[None]
    return resample(np.asarray(row)[None], Grid(0, 1, 1), grid, interpolation, mask)[0]


grids = st.builds(
    lambda length, start, step, n: (length, Grid(start * length, step, n)),
    st.integers(1, 40),
    st.floats(-0.2, 0.9),
    st.floats(0.05, 9),
    st.integers(1, 30),
)


@given(grids, st.sampled_from(("area", "nearest")))
@examples(300)
def test_weights_of_every_output_pixel_add_up_to_one(case, interpolation):
    length, grid = case
    indices, weights = taps(grid, length, interpolation)
    assert indices.shape == weights.shape
    assert indices.shape[1] == grid.n
    assert np.allclose(weights.sum(axis=0), 1)
    assert (weights >= 0).all()
    assert indices.min() >= 0
    assert indices.max() < length


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7, 16])
def test_area_by_an_integer_factor_is_the_exact_mean(factor):
    image = np.random.default_rng(factor).normal(size=(2, 6 * factor, 5 * factor))
    wanted = image.reshape(2, 6, factor, 5, factor).mean(axis=(2, 4))
    out = resample(image, Grid(0, factor, 6), Grid(0, factor, 5))
    assert out.shape == wanted.shape
    assert np.allclose(out, wanted, rtol=1e-12, atol=1e-12)


@given(st.integers(1, 60), st.floats(1, 9), st.floats(0, 0.99), st.integers(0, 2**32 - 1))
@examples(200)
def test_area_is_the_mean_over_the_interval_with_its_ends_in_part(length, step, shift, seed):
    row = np.random.default_rng(seed).normal(size=length)
    grid = Grid(shift, step, max(1, int((length - shift) / step)))
    if grid.start + grid.n * grid.step > length + 1e-6:
        grid = Grid(0, min(step, length), 1)
    assert np.allclose(resample_row(row, grid), interval_means(row, grid), atol=1e-7)


def test_area_at_the_border_is_the_mean_over_what_is_inside():
    row = np.arange(10, dtype="f8")
    wanted = [(0 + 0.5) / 1.5, (0.5 + 2 + 3 + 2) / 3, (2 + 5 + 6 + 3.5) / 3, (3.5 + 8 + 9) / 2.5]
    assert np.allclose(resample_row(row, Grid(-1.5, 3.0, 4)), wanted)


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.75])
def test_a_shift_at_equal_scale_is_linear_interpolation(shift):
    row = np.random.default_rng(0).normal(size=20)
    out = resample_row(row, Grid(shift, 1.0, 19))
    assert np.allclose(out, (1 - shift) * row[:-1] + shift * row[1:])


@given(st.floats(0.05, 0.99), st.floats(0, 3), st.floats(-5, 5), st.floats(-100, 100))
@examples(100)
def test_enlarging_keeps_straight_lines_straight(step, start, slope, offset):
    row = slope * (np.arange(12) + 0.5) + offset
    grid = Grid(1 + start, step, 8)
    centres = grid.start + (np.arange(grid.n) + 0.5) * step
    inside = centres < 11.5
    assert np.allclose(resample_row(row, grid)[inside], (slope * centres + offset)[inside], atol=1e-9)


def test_enlarging_repeats_the_border():
    assert resample_row(np.array([1.0, 3.0]), Grid(-1, 0.5, 8)).tolist() == [1, 1, 1, 1.5, 2.5, 3, 3, 3]


ratios = st.builds(Fraction, st.integers(1, 400), st.integers(1, 48))
"""Positive rational numbers whose float is rounded; centres of pixels at multiples of them often fall on borders."""


@given(st.integers(1, 40), st.builds(Fraction, st.integers(-200, 900), st.integers(1, 48)), ratios, st.integers(1, 30))
@examples(500)
def test_nearest_picks_the_pixel_that_holds_the_centre(length, start, step, n):
    row = np.random.default_rng(0).integers(0, 2**40, length)
    held = [floor(start + (j + Fraction(1, 2)) * step) for j in range(n)]
    grid = Grid(float(start), float(step), n)
    assert np.array_equal(resample_row(row, grid, "nearest"), row[np.clip(held, 0, length - 1)])


@given(st.data(), st.integers(1, 10**7), st.integers(0, 8), st.integers(1, 3000))
@examples(200)
def test_nearest_picks_the_pixel_that_holds_the_centre_of_a_window_of_a_large_image(data, size, level, out):
    """Where float64 cannot tell a centre on a border from one beside it: far from the origin, with many pixels."""
    start, extent = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, 2 * size))
    out = min(out, 4 * extent)
    factor, length = 2**level, -(-size // 2**level)
    span = span_at(start, extent, out, factor, length, size, SUPPORT["nearest"])
    assume(not span.exact)
    positions = range(span.target.start, span.target.stop)
    centres = [(start + (j + Fraction(1, 2)) * Fraction(extent, out)) / factor for j in positions]
    indices, _ = taps(span.grid, span.read.stop - span.read.start, "nearest")
    assert (span.read.start + indices[0]).tolist() == [min(length - 1, floor(centre)) for centre in centres]


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8", "c8"])
@given(case=grids, case_y=grids)
@examples(20)
def test_constants_stay_constant_up_to_the_extremes(dtype, case, case_y):
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        values = [np.iinfo(dtype).min, np.iinfo(dtype).max, 1]
    else:
        values = [0, 1] if dtype.kind == "b" else [0, 1, -3.25]
    for value in values:
        image = np.full((case_y[0], case[0]), value, dtype)
        out = resample(image, case_y[1], case[1])
        assert out.dtype == dtype
        assert np.allclose(out, value, rtol=1e-6, atol=0) if dtype.kind in "fc" else (out == value).all()


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("step", [0.37, 1.0, 2.0, 2.7, 3.0])
def test_extremes_do_not_wrap(dtype, step):
    limits = np.iinfo(dtype)
    for value in (limits.min, limits.min + 1, limits.max - 1, limits.max):
        row = np.full(24, value, dtype)
        out = resample_row(row, Grid(0.25, step, 7))
        error = [abs(int(o) - value) for o in out]
        assert max(error) <= (abs(value) >> 52), f"{value} became {out}"  # exact up to 2**53


@pytest.mark.parametrize("dtype", INTEGERS)
def test_means_of_the_two_extremes_lie_between_them(dtype):
    limits = np.iinfo(dtype)
    out = resample_row(np.array([limits.min, limits.max] * 8, dtype), Grid(0, 2.0, 8))
    middle = (limits.min + limits.max) / 2
    assert max(abs(float(o) - middle) for o in out) <= max(1, abs(middle) * 1e-15, limits.max / 2**52)


@pytest.mark.parametrize(
    ("row", "wanted"), [([0, 1, 1], 1), ([0, 0, 1], 0), ([254, 255, 255], 255), ([2, 2, 3], 2), ([7, 8, 8], 8)]
)
def test_integers_are_rounded_not_truncated(row, wanted):
    for dtype in INTEGERS[:1] + INTEGERS[2:]:
        assert resample_row(np.array(row, dtype), Grid(0, 3.0, 1)).tolist() == [wanted]


def test_negative_integers_are_rounded_to_the_nearest_too():
    assert resample_row(np.array([-1, -1, 0, -5, -5, -4], "i2"), Grid(0, 3.0, 2)).tolist() == [-1, -5]


@given(st.integers(0, 2**32 - 1), st.floats(1, 5), st.sampled_from(("u1", "f4", "f8", "i2")))
@examples(100)
def test_invalid_pixels_do_not_count(seed, step, dtype):
    rng = np.random.default_rng(seed)
    row = rng.integers(0, 200, 30).astype(dtype)
    valid = rng.random(30) < 0.5
    grid = Grid(0.0, step, int(30 / step))
    out = resample_row(row, grid, valid=valid)
    edges = np.arange(grid.n + 1) * step
    for j, (a, b) in enumerate(pairwise(edges)):
        weight = np.clip(np.minimum(b, np.arange(1, 31)) - np.maximum(a, np.arange(30)), 0, None) * valid
        weight[weight < 1e-9] = 0
        if not weight.any():
            assert out[j] == row[min(29, int((a + b) / 2))], "where none is valid, the nearest pixel"
        else:
            mean = (weight * row.astype("f8")).sum() / weight.sum()
            assert abs(float(out[j]) - mean) <= (0.5001 if np.dtype(dtype).kind in "iu" else 1e-4 * abs(mean) + 1e-4)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c16"])
@pytest.mark.parametrize("step", [0.3, 0.5, 1.0, 1.5, 2.0, 3.7])
def test_nan_reaches_only_pixels_that_see_nothing_else(dtype, step):
    row = np.arange(24).astype(dtype)
    row[6:13] = np.nan
    for shift in (0.0, 0.5):
        grid = Grid(shift, step, int((24 - shift) / step))
        out = resample_row(row, grid)
        edges = grid.start + np.arange(grid.n + 1) * step
        if step < 1:  # linear: both neighbours of the centre
            centre = (edges[:-1] + edges[1:]) / 2
            only = (np.floor(centre - 0.5 + 1e-9) >= 6) & (np.ceil(centre - 0.5 - 1e-9) < 13)
        else:
            only = (edges[:-1] >= 6 - 1e-9) & (edges[1:] <= 13 + 1e-9)
        assert np.array_equal(np.isnan(out), only)


def test_infinity_reaches_only_pixels_that_see_it():
    row = np.array([0, np.inf, 0, 0, 0, 0], "f4")
    assert np.isinf(resample_row(row, Grid(0, 2.0, 3))).tolist() == [True, False, False]
    assert np.isinf(resample_row(row, Grid(0, 1.0, 6))).tolist() == [False, True, False, False, False, False]
    assert np.isinf(resample_row(row[::-1], Grid(0, 1.5, 4))).tolist() == [False, False, True, True]
    thirds = resample_row(row, Grid(0, 1 / 3, 18))
    assert not np.isnan(thirds).any(), "the middle third sees one pixel only"
    up = resample_row(row, Grid(0, 0.5, 12))
    assert not np.isnan(up).any()
    assert np.isinf(up).tolist() == [False] + [True] * 4 + [False] * 7


def test_a_mask_of_planes_is_shared_by_what_has_more_axes():
    image = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 3.0)])
    image[:, 0, 0] = -9999
    valid = np.ones((4, 4), bool)
    valid[0, 0] = False
    assert resample(image, Grid(0, 2, 2), Grid(0, 2, 2), valid=valid).tolist() == [[[1, 1], [1, 1]], [[3, 3], [3, 3]]]


def test_an_interval_beyond_the_input_repeats_its_border():
    assert resample_row(np.array([1.0, 2.0]), Grid(0, 1.0, 4)).tolist() == [1, 2, 2, 2]
    assert resample_row(np.array([1.0, 2.0]), Grid(1.5, 2.0, 2)).tolist() == [2, 2]


def test_the_input_is_left_as_it_was():
    image = np.array([[1.0, np.nan], [3.0, 4.0]])
    before = image.copy()
    resample(image, Grid(0, 2, 1), Grid(0, 2, 1))
    assert np.array_equal(image, before, equal_nan=True)


@pytest.mark.parametrize("interpolation", ["area", "linear", "cubic", "lanczos", "nearest"])
@pytest.mark.parametrize(("dtype", "base"), [("i8", 2**62 + 2), ("i8", -(2**63)), ("u8", 2**64 - 2**20), ("i8", 2**53)])
def test_64_bit_integers_keep_their_low_bits_where_they_lie_near_each_other(dtype, base, interpolation):
    small = np.random.default_rng(0).integers(0, 2**20, 40)
    row = np.array([base + int(n) for n in small], dtype)
    limits = np.iinfo(dtype)
    for grid in (Grid(0, 3.0, 13), Grid(0.25, 2.2, 17), Grid(0, 0.5, 80)):
        wanted = resample_row(small.astype("i8"), grid, interpolation)
        out = resample_row(row, grid, interpolation)
        assert [int(n) for n in out] == [min(max(base + int(n), limits.min), limits.max) for n in wanted]


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_64_bit_integers_that_lie_far_apart_are_as_exact_as_float64(dtype):
    row = np.random.default_rng(0).integers(0, 2**63 - 1, 40).astype(dtype)
    out = resample_row(row, Grid(0, 4.0, 10))
    for found, group in zip(out, row.reshape(10, 4), strict=True):
        assert abs(int(found) * 4 - sum(int(n) for n in group)) <= 2**63 * 4 * 2**-52
