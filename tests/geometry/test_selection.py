"""Selections against numpy's own slicing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr._indexing.selection import lengths, segments, select
from ndzarr.errors import WindowError

EDGES = (0, 1, 2, 62, 63, 64, 65, 126, 127, 128, 129, 130, 191, 192, 193, 255, 256, 257)


@st.composite
def axis_selections(draw, n):
    """What `select` takes for an axis of length n."""
    kind = draw(st.sampled_from(("slice", "slice", "open", "indices", "none")))
    if kind == "none":
        return None
    if kind == "indices":
        return draw(st.lists(st.integers(0, n - 1), max_size=6)) if n else []
    start, stop = draw(st.integers(0, n + 3)), draw(st.integers(0, n + 3))
    step = draw(st.sampled_from((None, 1, 1, 2, 3, 7, n + 1)))
    if kind == "open":
        return slice(None, stop, step) if draw(st.booleans()) else slice(start, None, step)
    return slice(start, stop, step)


@st.composite
def selections(draw):
    """(shape, window by axis name, chunk lengths)."""
    shape = draw(st.lists(st.integers(0, 40), min_size=1, max_size=4))
    window = {f"d{i}": draw(axis_selections(n)) for i, n in enumerate(shape)}
    chunks = [draw(st.integers(1, max(1, n + 3))) for n in shape]
    return tuple(shape), {k: v for k, v in window.items() if v is not None or draw(st.booleans())}, chunks


def numpy_read(array, dims, window):
    """The oracle: numpy, one axis at a time."""
    for axis, name in enumerate(dims):
        want = window.get(name)
        if isinstance(want, slice):
            array = array[(slice(None),) * axis + (want,)]
        elif want is not None:
            array = np.take(array, np.asarray(want, int), axis=axis)
    return array


@given(selections())
@examples(150)
def test_select_selects_what_numpy_slices(case):
    shape, window, _ = case
    dims = [f"d{i}" for i in range(len(shape))]
    array = np.arange(np.prod(shape)).reshape(shape)
    selection = select(dims, shape, window)
    wanted = numpy_read(array, dims, window)
    picked = array
    for axis, want in enumerate(selection):
        picked = np.take(
            picked, range(want.start, want.stop, want.step) if isinstance(want, slice) else want, axis=axis
        )
    assert np.array_equal(picked, wanted)
    assert lengths(selection) == wanted.shape


@given(selections())
@examples(150)
def test_segments_put_every_index_in_its_place_once(case):
    shape, window, chunks = case
    dims = [f"d{i}" for i in range(len(shape))]
    for want, n, chunk in zip(select(dims, shape, window), shape, chunks, strict=True):
        out = np.full(lengths((want,)), -1)
        axis = np.arange(n)
        for k, source, target in segments(want, chunk):
            assert 0 <= source.start < source.stop <= chunk
            assert (out[target] == -1).all(), "written twice"
            out[target] = axis[k * chunk : (k + 1) * chunk][source]
        wanted = axis[want] if isinstance(want, slice) else axis[list(want)]
        assert np.array_equal(out, wanted)


@pytest.mark.parametrize("chunk", [1, 63, 64, 65, 127, 128, 129])
def test_segments_at_the_borders_of_chunks(chunk):
    axis = np.arange(300)
    for start in EDGES:
        for stop in EDGES:
            for step in (1, 2, 64, 128):
                parts = segments(slice(min(start, stop), stop, step), chunk)
                found = [axis[k * chunk : (k + 1) * chunk][source] for k, source, _ in parts]
                assert np.array_equal(np.concatenate([axis[:0], *found]), axis[start:stop:step])
                touched = [k for k, _, _ in parts]
                assert touched == sorted(set(touched))
                ends = [0] + [target.stop for _, _, target in parts]
                assert [target.start for _, _, target in parts] == ends[:-1]


def test_a_stop_beyond_the_end_is_clipped_as_numpy_clips_it():
    assert select("x", [10], {"x": slice(8, 99)}) == (slice(8, 10, 1),)
    assert lengths(select("x", [10], {"x": slice(50, 99)})) == (0,)
    assert lengths(select("x", [10], {"x": slice(7, 3)})) == (0,)


@pytest.mark.parametrize("window", [slice(-1, None), slice(0, -1), slice(-5, -1), [-1], [0, 10], np.array([3, -3])])
def test_negative_and_out_of_range_indices_are_refused(window):
    with raises(WindowError, key="x"):
        select("x", [10], {"x": window})


@pytest.mark.parametrize("step", [0, -1, -7])
def test_a_step_below_one_is_refused(step):
    with raises(WindowError, key="x"):
        select("x", [10], {"x": slice(0, 5, step)})


@pytest.mark.parametrize("window", [3, np.int64(3), True])
def test_an_integer_is_refused_because_it_would_drop_the_axis(window):
    with raises(WindowError, key="x"):
        select("x", [10], {"x": window})


@pytest.mark.parametrize("window", [slice(0.5, 3), slice("a", None), [1.5], ["r"], 2.5, object()])
def test_what_is_no_integer_is_refused_by_name(window):
    with raises(WindowError, key="x"):
        select("x", [10], {"x": window})


def test_an_unknown_axis_is_refused_with_the_known_ones():
    with raises(WindowError, key="w", match="Known: y, x"):
        select("yx", [10, 10], {"w": slice(0, 1)})


@pytest.mark.parametrize("indices", [np.array([4, 2, 2]), (4, 2, 2), [np.uint8(4), 2, 2], iter([4, 2, 2])])
def test_any_sequence_of_indices_is_taken_in_its_order_with_repeats(indices):
    assert select("x", [10], {"x": indices}) == ((4, 2, 2),)
