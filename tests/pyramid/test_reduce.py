"""Every level against a slow reference, spelled out from the docstring of `ndzarr._store.downsample`."""

from collections import Counter
from fractions import Fraction
from math import ceil, floor, isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.arrays import DTYPES, random_array
from helpers.hypothesis_settings import examples
from helpers.pyramids import make
from ndzarr._store.downsample import reducer
from ndzarr._store.validity import Validity

INTENSITIES = [d for d in DTYPES if d.kind != "b"]


def blocks(image):
    """The pixels, in reading order, that each output pixel covers: four, or at an odd border two or one."""
    height, width = image.shape
    return [
        [[image[v, u] for v in (y, y + 1) if v < height for u in (x, x + 1) if u < width] for x in range(0, width, 2)]
        for y in range(0, height, 2)
    ]


def mean_of(pixels, level, nodata):
    """Of one block; None where nothing is valid."""
    dtype = pixels[0].dtype
    if dtype.kind == "c" and nodata is not None:  # a pixel is missing as a whole
        valid = [p for p in pixels if not np.isnan(p) and p != nodata]
        return complex(np.mean(valid, dtype="c16")) if valid else None
    if dtype.kind == "c":
        parts = [mean_of([getattr(p, part) for p in pixels], level, None) for part in ("real", "imag")]
        return complex(*[np.nan if p is None else p for p in parts])
    valid = [p for p in pixels if (dtype.kind != "f" or not isnan(p)) and (nodata is None or float(p) != nodata)]
    if not valid:
        return None
    if dtype.kind == "f":
        return float(np.mean([np.longdouble(p) / 4 for p in valid]) * 4)
    mean = Fraction(sum(int(p) for p in valid), len(valid))
    half = Fraction(1, 2)
    return floor(mean + half) if level % 2 else ceil(mean - half)


def mode_of(pixels):
    count = Counter(pixels)
    return max(pixels, key=lambda p: (count[p], -pixels.index(p)))


def reference(image, level, kind="intensity", nodata=None):
    """The next level of a (..., y, x) image."""
    if image.ndim > 2:
        return np.stack([reference(plane, level, kind, nodata) for plane in image])
    if kind == "labels" or image.dtype.kind == "b":
        return np.array([[mode_of(b) for b in row] for row in blocks(image)], image.dtype)
    missing = nodata if nodata is not None else np.nan
    means = [[mean_of(b, level, nodata) for b in row] for row in blocks(image)]
    # A mean that happens to be nodata must not be taken for it.
    above = nodata
    if nodata is not None and image.dtype.kind in "iu":
        above += 1 if nodata < np.iinfo(image.dtype).max else -1
    return np.array(
        [[missing if m is None else above if m == nodata else m for m in row] for row in means], image.dtype
    )


def assert_equal(found, wanted):
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if found.dtype.kind in "fc":
        epsilon = np.finfo(found.dtype).eps
        scale = np.nanmax(np.abs(wanted[np.isfinite(wanted)]), initial=0)
        np.testing.assert_allclose(found, wanted, rtol=4 * epsilon, atol=4 * epsilon * scale)
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 9)),
    level=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
@examples(15)
def test_halving_equals_the_reference_for_every_type_and_order_in_memory(dtype, shape, level, seed):
    image = random_array(shape, dtype, seed)
    halved = reducer(dtype, "intensity")(image, level)
    assert_equal(halved, reference(image, level))
    interleaved = np.moveaxis(np.ascontiguousarray(np.moveaxis(image, 0, -1)), -1, 0)
    assert reducer(dtype, "intensity")(interleaved, level).tobytes() == halved.tobytes()


@pytest.mark.parametrize("dtype", INTENSITIES, ids=str)
@given(seed=st.integers(0, 2**16), level=st.integers(1, 2), shape=st.tuples(st.integers(1, 7), st.integers(1, 9)))
@examples(15)
def test_nodata_is_left_out_of_the_mean(dtype, seed, level, shape):
    rng = np.random.default_rng(seed)
    image = random_array(shape, dtype, seed)
    nodata = {"u": 0.0, "i": -1.0, "f": -9.0, "c": 0.0}[dtype.kind]
    image[rng.random(shape) < 0.6] = nodata
    if dtype.kind == "f":
        image[rng.random(shape) < 0.2] = np.nan
    found = reducer(dtype, "intensity", Validity(nodata=nodata))(image, level)
    assert_equal(found, reference(image, level, nodata=nodata))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16"])
@given(seed=st.integers(0, 2**16), shape=st.tuples(st.integers(1, 7), st.integers(1, 9)))
@examples(10)
def test_nan_is_left_out_of_the_mean_declared_or_not(dtype, seed, shape):
    rng = np.random.default_rng(seed)
    image = random_array(shape, dtype, seed)
    if np.dtype(dtype).kind == "c":
        image.real[rng.random(shape) < 0.4] = np.nan
        image.imag[rng.random(shape) < 0.4] = np.nan
    else:
        image[rng.random(shape) < 0.6] = np.nan
    for nodata in (None, float("nan")):
        assert_equal(reducer(np.dtype(dtype), "intensity", Validity(nodata=nodata))(image, 1), reference(image, 1))


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind in "iu"], ids=str)
def test_halves_go_up_on_odd_levels_and_down_on_even_ones(dtype):
    image = np.array([[1, 2, 5, 6], [2, 1, 5, 5]], dtype)  # means 1.5 and 5.25
    assert reducer(dtype, "intensity")(image, 1).tolist() == [[2, 5]]
    assert reducer(dtype, "intensity")(image, 2).tolist() == [[1, 5]]
    if dtype.kind == "i":
        assert reducer(dtype, "intensity")(-image, 1).tolist() == [[-1, -5]]
        assert reducer(dtype, "intensity")(-image, 2).tolist() == [[-2, -5]]


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind in "iu"], ids=str)
@pytest.mark.parametrize("nodata", [None, 7.0])
@pytest.mark.parametrize("level", [1, 2])
def test_extremes_of_integers_do_not_wrap(dtype, nodata, level):
    limits = np.iinfo(dtype)
    values = [limits.min, limits.min + 1, limits.max - 1, limits.max, 7]
    rng = np.random.default_rng(0)
    image = np.array(rng.choice(np.arange(5), (14, 13)))
    image = np.array([[values[i] for i in row] for row in image], dtype)
    assert_equal(
        reducer(dtype, "intensity", Validity(nodata=nodata))(image, level), reference(image, level, nodata=nodata)
    )


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_mean_of_large_numbers_does_not_overflow(dtype):
    largest = np.finfo(dtype).max
    image = np.full((5, 5), -largest, dtype)
    assert (reducer(np.dtype(dtype), "intensity")(image, 1) == -largest).all()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8"])
@pytest.mark.parametrize("nan", [False, True])
def test_infinity_stays_where_it_is(dtype, nan):
    image = np.ones((4, 6), dtype)
    image[0, 0], image[2, 3], image[3, 2] = np.inf, np.inf, -np.inf
    if nan:
        image[0, 5] = np.nan
    out = reducer(np.dtype(dtype), "intensity")(image, 1)
    assert np.isinf(out).tolist() == [[True, False, False], [False, False, False]]
    assert np.isnan(out).tolist() == [[False, False, False], [False, True, False]]


def test_complex_infinity_does_not_touch_the_other_part():
    image = np.full((2, 2), complex(3, np.inf))
    assert reducer(image.dtype, "intensity")(image, 1).tolist() == [[complex(3, np.inf)]]


@pytest.mark.parametrize("nodata", [-9999.0, 256.0, 0.5, float("nan"), float("inf"), -float("inf")])
def test_a_nodata_value_that_no_pixel_can_have_marks_nothing(nodata):
    image = random_array((6, 6), "u1")
    assert_equal(reducer(image.dtype, "intensity", Validity(nodata=nodata))(image, 1), reference(image, 1))


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from(("u1", "i4", "u8", "f4")),
    classes=st.integers(1, 5),
    level=st.integers(1, 2),
)
@examples(60)
def test_labels_take_the_most_frequent_and_the_first_where_they_tie(seed, shape, dtype, classes, level):
    image = np.random.default_rng(seed).integers(0, classes, shape).astype(dtype)
    found = reducer(image.dtype, "labels")(image, level)
    assert_equal(found, reference(image, level, "labels"))
    assert set(np.unique(found)) <= set(np.unique(image)), "labels are never mixed"


def test_the_rounding_does_not_drift_over_the_levels():
    image = random_array((512, 512), "u1")
    out = image
    for level in range(1, 9):
        out = reducer(out.dtype, "intensity")(out, level)
    assert abs(out.mean() - image.mean()) < 0.3


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "i2", "i4", "f2", "f4", "f8", "c8"])
@pytest.mark.parametrize(
    ("shape", "chunk", "band"), [((259, 7), 5, 3), ((3, 521), 7, 1), ((65, 261), 32, 25), ((259, 9), 1, 259)]
)
@pytest.mark.parametrize("kind", ["intensity", "labels"])
def test_every_level_of_a_store_is_the_reference_of_the_one_before(tmp_path, dtype, shape, chunk, band, kind):
    array = random_array((2, *shape), dtype, 7, zeros=0.3)
    layout = {"chunks": {"x": chunk, "y": chunk}, "shard": 30}
    pyramid = make(tmp_path, array, kind=kind, **layout, band=band, interleaved=band % 2 == 0)
    assert len(pyramid.levels) > 1
    before = array
    for k in range(1, len(pyramid.levels)):
        now = pyramid.read(level=k)
        assert_equal(now, reference(before, k, kind))
        before = now


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_levels_of_a_store_with_nodata_are_the_reference(tmp_path, dtype):
    array = random_array((1, 300, 40), dtype, 3)
    array[:, 100:131, 3:34] = 9
    array[np.random.default_rng(1).random(array.shape) < 0.5] = 9
    pyramid = make(tmp_path, array, nodata=9.0)
    assert_equal(pyramid.read(level=1), reference(array, 1, nodata=9.0))
    assert (pyramid.read(level=1) == 9).any()
