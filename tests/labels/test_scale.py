"""`window(scale=...)` of what looks like a photograph stays within one grey level of the mean of native pixels."""

from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.hypothesis_settings import examples
from helpers.pyramids import make

SIDE = 900


@cache
def photograph(seed=0):
    """A scene with a 1/f spectrum, opaque things with hard edges, and noise: (3, y, x) uint8."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij"))
    frequency[0, 0] = 1
    scene = []
    for _ in range(3):
        spectrum = np.exp(2j * np.pi * rng.random(frequency.shape)) / frequency**1.4
        field = np.fft.irfft2(spectrum, (SIDE, SIDE))
        scene.append(110 + 40 * (field - field.mean()) / field.std())
    scene = np.stack(scene)
    for _ in range(40):
        y, x, h, w = rng.integers(0, SIDE, 2).tolist() + rng.integers(2, 120, 2).tolist()
        scene[:, y : y + h, x : x + w] = rng.uniform(0, 255, (3, 1, 1)) + rng.normal(0, 3, (3, 1, 1))
    return np.clip(np.rint(scene + rng.normal(0, 2, scene.shape)), 0, 255).astype("u1")


class AreaMean:
    """The oracle: means over any rectangles, from an integral image in float64."""

    def __init__(self, image):
        self.integral = np.pad(np.asarray(image, "f8").cumsum(axis=-1).cumsum(axis=-2), [(0, 0), (1, 0), (1, 0)])

    def __call__(self, y, x, shape):
        """Over the cells of a grid of `shape` between y = (start, stop) and x."""
        ys, xs = np.linspace(*y, shape[0] + 1), np.linspace(*x, shape[1] + 1)
        rows = _between(self.integral, ys, axis=-2)
        sums = np.diff(np.diff(_between(rows, xs, axis=-1), axis=-2), axis=-1)
        return sums / (np.diff(ys)[:, None] * np.diff(xs))


def _between(integral, at, axis):
    low = np.minimum(at.astype(int), integral.shape[axis] - 2)
    part = np.expand_dims(at - low, -1 if axis == -2 else 0)
    return integral.take(low, axis) * (1 - part) + integral.take(low + 1, axis) * part


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    array = photograph()
    return make(tmp_path_factory.mktemp("scene"), array), AreaMean(array)


def test_the_oracle_is_what_opencv_calls_area():
    image = photograph()[:1, :360, :240]
    for size in ((36, 24), (100, 77), (359, 239)):
        opencv = cv2.resize(image[0].astype("f4"), size[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(AreaMean(image)((0, 360), (0, 240), size)[0] - opencv).max() < 0.05


def difference(scene, y, x, scale):
    pyramid, mean = scene
    out = pyramid.window(y=slice(*y), x=slice(*x), scale=scale)
    return out.values - mean(y, x, out.shape[-2:])


SCALES = (
    0.011,
    0.02,
    1 / 32,
    0.04,
    1 / 16,
    0.07,
    0.09,
    0.1,
    1 / 8,
    0.15,
    0.2,
    0.249,
    0.25,
    0.251,
    0.3,
    1 / 3,
    0.4,
    0.49,
    0.5,
    0.51,
    0.6,
    0.7,
    0.75,
    0.8,
    0.9,
    0.95,
    0.99,
)


@pytest.mark.parametrize("scale", SCALES)
def test_the_whole_image_at_many_scales(scene, scale):
    error = difference(scene, (0, SIDE), (0, SIDE), scale)
    assert np.abs(error).mean() <= 1
    assert abs(error.mean()) <= 0.3, "no drift to bright or dark"


@given(
    st.integers(0, SIDE - 20),
    st.integers(20, SIDE),
    st.integers(0, SIDE - 20),
    st.integers(20, SIDE),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
)
@examples(80)
def test_windows_anywhere_at_any_scale_along_each_axis(scene, top, height, left, width, sy, sx):
    y, x = (top, min(SIDE, top + height)), (left, min(SIDE, left + width))
    if not round((y[1] - y[0]) * sy) or not round((x[1] - x[0]) * sx):
        return
    error = difference(scene, y, x, (sx, sy))
    # few pixels are few samples: of 1000 or more the mean is a mean
    limit = 1.5 if error[0].size >= 1000 else 1.5 + 60 / error[0].size
    assert np.abs(error).mean() <= limit


STARTS = (0, 1, 2, 3, 5, 7, 11, 63, 64, 65, 127, 128, 129)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 4, 1 / 8, 1 / 16, 0.3])
def test_windows_that_are_not_aligned_to_the_pixels_of_a_level(scene, scale):
    errors = [difference(scene, (start, start + 600), (2 * start, 2 * start + 512), scale) for start in STARTS]
    worst = max(np.abs(error).mean() for error in errors)
    assert np.mean([np.abs(error).mean() for error in errors]) <= 1
    assert worst <= 1.5
    assert max(abs(error.mean()) for error in errors) <= 0.3


@pytest.mark.parametrize("scale", [1 / 2, 1 / 4, 1 / 8, 1 / 16])
def test_windows_aligned_to_a_level_are_as_good_as_its_rounding(scene, scale):
    f = round(1 / scale)
    error = difference(scene, (3 * f, 51 * f), (5 * f, 40 * f), scale)
    assert np.abs(error).mean() <= 0.35


def test_no_seams_at_the_borders_of_chunks(scene):
    pyramid, mean = scene
    whole = pyramid.window(scale=0.6).values
    error = np.abs(whole - mean((0, SIDE), (0, SIDE), whole.shape[-2:])).mean(axis=0)
    borders = [round(128 * k * 0.6) for k in range(1, 7)]
    seams = np.concatenate(
        [error[b - 1 : b + 1].ravel() for b in borders] + [error[:, b - 1 : b + 1].ravel() for b in borders]
    )
    assert seams.mean() < error.mean() + 0.1


@pytest.mark.parametrize("scale", [1.3, 2.0, 3.7])
def test_enlarging_keeps_the_mean(scene, scale):
    pyramid, mean = scene
    out = pyramid.window(y=slice(100, 300), x=slice(200, 450), scale=scale)
    small = out.values.reshape(3, *out.shape[1:]).mean(axis=(1, 2))
    assert np.abs(small - mean((100, 300), (200, 450), (1, 1)).ravel()).max() < 0.5


@pytest.fixture(scope="module", params=["u2", "i2", "f4", "f8"])
def typed(request, tmp_path_factory):
    array = photograph()[:1].astype(request.param)
    return make(tmp_path_factory.mktemp("typed"), array), AreaMean(array)


@pytest.mark.parametrize("scale", [0.06, 0.3, 0.5, 0.77])
def test_other_types_are_as_close(typed, scale):
    error = difference(typed, (3, 800), (5, 872), scale)
    assert np.abs(error).mean() <= (1 if typed[0].dtype.kind in "iu" else 0.6)
