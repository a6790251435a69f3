"""The parts of a matrix are the whole of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.hypothesis_settings import examples
from ndzarr._indexing.resample import SUPPORT, Grid, bands, matrix, through_bands

F8 = np.dtype("f8")

axes = st.builds(
    lambda length, start, step, n: (length, Grid(start * length, step, n)),
    st.integers(1, 70),
    st.floats(-0.5, 0.9),
    st.floats(0.05, 9),
    st.integers(1, 40),
)


def product(image, rows, columns):
    return np.concatenate([values.copy() for _, values in through_bands(image, rows, columns)])


@given(axes, axes, st.sampled_from(sorted(SUPPORT)), st.integers(1, 5))
@examples(200)
def test_products_with_bands_are_products_with_the_matrix(y, x, interpolation, planes):
    image = np.random.default_rng(0).integers(0, 255, (planes, y[0], x[0]), dtype=np.uint8)
    options = interpolation, True, F8
    out = product(image, bands(y[1], y[0], *options), bands(x[1], x[0], *options))
    wanted = matrix(y[1], y[0], *options) @ image @ matrix(x[1], x[0], *options).T
    np.testing.assert_allclose(out, wanted, atol=1e-9)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_plane_is_the_same_alone_and_among_many(dtype):
    image = np.random.default_rng(0).integers(0, 255, (40, 200, 170), dtype=np.uint8)
    options = "area", True, np.dtype(dtype)
    rows, columns = bands(Grid(0.3, 2.7, 70), 200, *options), bands(Grid(0.1, 3.1, 50), 170, *options)
    together = product(image, rows, columns)
    for k in (0, 7, 39):
        assert np.array_equal(product(image[k : k + 1], rows, columns)[0], together[k])
