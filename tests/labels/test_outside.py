"""Windows that begin before the first frame or plane, or end behind the last."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.hypothesis_settings import examples
from ndzarr._indexing.selection import outside

ARRAY = np.random.default_rng(0).integers(1, 255, (5, 2, 4, 40, 50), dtype=np.uint8)
SECONDS = [0.0, 0.04, 0.08, 0.2, 1.0]


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    import xarray

    stack = xarray.DataArray(ARRAY, dims=("t", "c", "z", "y", "x"), coords={"t": SECONDS})
    return ndzarr.transcode(stack, tmp_path_factory.mktemp("stack") / "a.zarr", access="tubes")


def expected(t, z, y, x, fill):
    """What numpy makes of it: the array in the middle of a larger one of fill values."""
    wide = np.full((60, 2, 60, 100, 110), fill, np.uint8)
    real = np.zeros(wide.shape, bool)
    middle = (slice(15, 20), slice(None), slice(15, 19), slice(30, 70), slice(30, 80))
    wide[middle], real[middle] = ARRAY, True
    index = np.ix_(15 + np.array(t), [0, 1], 15 + np.array(z), 30 + np.array(y), 30 + np.array(x))
    return wide[index], real[index]


intervals = st.tuples(st.integers(-8, 8), st.integers(1, 9), st.integers(1, 3))


@examples(40)
@given(t=intervals, z=intervals, y=st.integers(-12, 30), x=st.integers(-12, 30), fill=st.sampled_from([0, 7]))
def test_windows_with_steps_are_those_of_a_padded_array(pyramid, t, z, y, x, fill):
    frames, planes = (range(a, a + n * step, step) for a, n, step in (t, z))
    window = {
        "t": slice(frames.start, frames.stop, frames.step),
        "z": slice(planes.start, planes.stop, planes.step),
        "y": slice(y, y + 16),
        "x": slice(x, x + 12),
    }
    wanted, real = expected(list(frames), list(planes), range(y, y + 16), range(x, x + 12), fill)
    found = pyramid.window(**window, fill=fill)
    np.testing.assert_array_equal(found.values, wanted)
    valid = found.coords.get("valid", True)
    np.testing.assert_array_equal(np.broadcast_to(_spread(valid, found), real.shape), real)
    sample = ndzarr.Sampler({"a": pyramid}).load_sample({"key": "a", **window, "fill": fill})
    np.testing.assert_array_equal(sample.image.values, wanted)
    assert found.z.values.tolist() == list(planes)


def _spread(valid, found):
    return valid.broadcast_like(found).transpose(*found.dims).values if valid is not True else np.True_


def test_seconds_outside_are_nan(pyramid):
    window = pyramid.window(t=slice(-1, 6), z=slice(0, 1))
    np.testing.assert_array_equal(window.t.values, [np.nan, *SECONDS, np.nan])
    assert window.coords["valid"].any(("z", "y", "x")).values.tolist() == [False, *[True] * 5, False]


def test_scaled_windows_are_padded_alike(pyramid):
    window = pyramid.window(t=slice(-2, 2), z=slice(3, 6), scale=0.5)
    inside = pyramid.window(t=slice(0, 2), z=slice(3, 4), scale=0.5)
    np.testing.assert_array_equal(window.values[2:, :, :1], inside.values)
    assert not window.values[:2].any()
    assert not window.values[:, :, 1:].any()


def test_a_window_wholly_outside_is_all_padding(pyramid):
    window = pyramid.window(t=slice(9, 11), fill=3)
    assert (window.values == 3).all()
    assert not window.coords["valid"].any()


def test_batches_of_stacks_are_padded_as_samples_are(pyramid):
    sampler = ndzarr.Sampler({"a": pyramid})
    targets = [
        {"key": "a", "t": slice(k, k + 4), "z": slice(1, 6), "y": slice(-3, 9), "x": slice(0, 9)} for k in (-2, 0, 3)
    ]
    batch = sampler.load_batch(targets)
    for k, target in enumerate(targets):
        assert batch.ndzarr.sample(k).identical(sampler.load_sample(target))


@given(n=st.integers(0, 20), start=st.integers(-30, 30), stop=st.integers(-30, 40), step=st.integers(1, 7))
def test_what_lies_outside_is_told_exactly(n, start, stop, step):
    asked = range(start, stop, step)
    found = outside("t", n, slice(start, stop, step))
    there = [p for p in asked if 0 <= p < n]
    if found is None:
        assert list(asked) == there
        return
    everything, kept, place = found
    assert everything == asked
    assert list(range(n)[kept]) == there
    assert [asked[k] for k in range(len(asked))[place]] == there
