"""Reading ndzarr's own stores: numpy slicing, zarr-python, tensorstore and ndzarr must agree, on every level."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.arrays import DTYPES, random_array, same
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from helpers.pyramids import make, read_with_tensorstore, read_with_zarr
from ndzarr.errors import WindowError

EDGES = (0, 1, 62, 63, 64, 65, 66, 126, 127, 128, 129, 130, 191, 192, 193, 199, 200, 201)
AXES = (("c", "y", "x"), ("t", "c", "y", "x"), ("c", "z", "y", "x"), ("t", "c", "z", "y", "x"))


@st.composite
def axis_windows(draw, n):
    """A slice, indices or None along an axis of length n; slices may be empty or end behind it."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return None
    if kind == 1:
        return draw(st.lists(st.integers(0, n - 1), max_size=5))
    start = draw(st.integers(0, n + 2))
    return slice(start, draw(st.integers(start, n + 40)), draw(st.sampled_from((None, 1, 1, 1, 2, 5))))


def cut(array, window):
    """The oracle: numpy, one axis at a time."""
    for axis, want in enumerate(window):
        if isinstance(want, slice):
            array = array[(slice(None),) * axis + (want,)]
        elif want is not None:
            array = np.take(array, np.asarray(want, int), axis=axis)
    return array


@st.composite
def stores(draw):
    """(array, dims, arguments of `make`); one long axis, so that there are levels."""
    dims = draw(st.sampled_from(AXES))
    lengths = {d: draw(st.integers(1, 5)) for d in dims} | {
        "y": draw(st.integers(1, 70)),
        "x": draw(st.integers(1, 70)),
    }
    if draw(st.booleans()):
        lengths[draw(st.sampled_from("yx"))] = draw(st.integers(257, 530))
    shape = tuple(lengths[d] for d in dims)
    array = random_array(
        shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99)), draw(st.sampled_from((0, 0.7, 1)))
    )
    return (
        array,
        dims,
        {
            "chunks": {d: draw(st.integers(1, 64)) for d in dims if draw(st.integers(0, 2)) == 0},
            "preset": draw(st.sampled_from(("fast", "compact"))),
            "kind": draw(st.sampled_from(("intensity", "labels"))),
            "shard": draw(st.sampled_from((16, 64, 100, 2048))),
            "band": draw(st.integers(1, 80)),
            "interleaved": draw(st.booleans()),
            "workers": draw(st.integers(1, 2)),
        },
    )


@given(stores(), st.data())
@examples(25)
def test_any_window_of_any_store_is_numpys_slice_of_it(case, data):
    array, dims, options = case
    with tempfile.TemporaryDirectory() as folder:
        pyramid = make(Path(folder), array, dims, **options, cache_bytes=data.draw(st.sampled_from((0, 5000))))
        assert (pyramid.dims, pyramid.shape, pyramid.dtype) == (dims, array.shape, array.dtype)
        assert same(pyramid.read(), array)
        for k, level in enumerate(pyramid.levels):
            whole = read_with_zarr(pyramid.path, f"{k}/image")
            assert same(pyramid.read(level=k), whole)
            codec = level.array.codec
            if not codec.delta:  # tensorstore does not know numcodecs.delta
                assert same(read_with_tensorstore(pyramid.path, f"{k}/image"), whole)
            windows = [[data.draw(axis_windows(n)) for n in whole.shape] for _ in range(3)]
            named = [dict(zip(dims, window, strict=True)) for window in windows]
            for window, pixels in zip(windows, pyramid.read_many(named, level=k), strict=True):
                assert same(pixels, cut(whole, window))
            assert same(pyramid.read(k, **named[0]), cut(whole, windows[0]))


@pytest.fixture(scope="module", params=[("u1", {}), ("u2", {"y": 64, "x": 65})], ids=["chunks of 128", "of 64 x 65"])
def edged(request, tmp_path_factory):
    dtype, chunks = request.param
    array = random_array((2, 200, 201), dtype)
    return array, make(tmp_path_factory.mktemp("edges"), array, chunks=chunks, shard=130)


@pytest.mark.parametrize("axis", [1, 2])
def test_windows_at_the_borders_of_chunks_and_shards(edged, axis):
    array, pyramid = edged
    slices = [slice(a, b, s) for a in EDGES for b in EDGES for s in (1, 2) if a <= b]
    name, other = "cyx"[axis], "cyx"[3 - axis]
    windows = [{name: s, other: slice(60, 68)} for s in slices]
    for s, pixels in zip(slices, pyramid.read_many(windows), strict=True):
        window = [slice(None), slice(60, 68), slice(60, 68)]
        window[axis] = s
        assert same(pixels, array[tuple(window)])


def test_each_window_at_the_borders_alone(edged):
    array, pyramid = edged
    for a in EDGES:
        for b in (a, a + 1, 64, 65, 128, 129, 130, 500):
            window = slice(min(a, b), b)
            assert same(pyramid.read(y=window, x=window), array[:, window, window])


def test_a_window_of_exactly_one_chunk_is_decoded_into_the_output(edged):
    array, pyramid = edged
    c, h, w = pyramid.levels[0].chunks
    for y in range(200 // h):
        for x in range(200 // w):
            window = {"c": slice(0, c), "y": slice(y * h, (y + 1) * h), "x": slice(x * w, (x + 1) * w)}
            assert same(pyramid.read(**window), array[tuple(window.values())])


def test_channels_by_name_come_in_the_order_asked_for(edged):
    array, pyramid = edged
    assert same(pyramid.read(c=["c1", "c0"]), array[[1, 0]])
    assert same(pyramid.read(c="c1"), array[[1]])
    assert same(pyramid.read(c=["c1", 1, 0]), array[[1, 1, 0]])
    assert same(pyramid.read(c=np.array([1])), array[[1]])
    assert same(pyramid.read(c=[]), array[:0])


@pytest.mark.parametrize(
    ("window", "fact"),
    [
        ({"y": slice(-1, 5)}, None),
        ({"y": [200]}, "index 200"),
        ({"c": ["c7"]}, "Known: c0, c1"),
        ({"c": 1}, None),
        ({"w": slice(0, 1)}, None),
        ({"level": 9}, "levels 0 to 0"),
        ({"level": -1}, None),
        ({"x": 3}, None),
        ({"x": slice(0, 9, -1)}, None),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(edged, window, fact):
    with raises(WindowError, key=next(iter(window)), match=fact):
        edged[1].read(**window)


def test_many_windows_decode_a_shared_chunk_once(edged, monkeypatch):
    from ndzarr._store.codecs import ChunkCodec

    array, pyramid = edged
    decoded = []
    decode = ChunkCodec.decode
    monkeypatch.setattr("ndzarr._store.core.enabled", False)  # which would not call what is counted here
    monkeypatch.setattr(ChunkCodec, "decode", lambda self, *a: (decoded.append(1), decode(self, *a))[1])
    windows = [{"y": slice(i, i + 20), "x": slice(i, i + 20)} for i in range(0, 40, 3)]
    for window, pixels in zip(windows, pyramid.read_many(windows), strict=True):
        assert same(pixels, array[:, window["y"], window["x"]])
    assert len(decoded) == len(pyramid.plan(windows).reads)
    assert len(decoded) < len(windows)


def test_channels_that_are_picked_decode_their_chunks_once(edged, monkeypatch):
    from ndzarr._store.codecs import ChunkCodec

    array, pyramid = edged
    decoded = []
    decode = ChunkCodec.decode
    monkeypatch.setattr("ndzarr._store.core.enabled", False)  # which would not call what is counted here
    monkeypatch.setattr(ChunkCodec, "decode", lambda self, *a: (decoded.append(1), decode(self, *a))[1])
    window = {"c": [1, 0], "y": slice(3, 30), "x": slice(5, 40)}
    assert same(pyramid.read(**window), array[[1, 0], 3:30, 5:40])
    assert len(decoded) == len(pyramid.plan([window]).reads)


def test_pixels_read_twice_are_not_shared(edged):
    array, pyramid = edged
    pixels = pyramid.read()
    assert pixels.flags.writeable
    pixels[...] = 0
    assert same(pyramid.read(), array)


@pytest.mark.parametrize("cache_bytes", [1, 20_000, 10**7])
def test_the_cache_of_chunks_changes_nothing_and_keeps_to_its_budget(tmp_path, cache_bytes):
    array = random_array((3, 200, 201), "u2", zeros=0.3)
    pyramid = make(tmp_path, array, chunks={"y": 32, "x": 32}, cache_bytes=cache_bytes)
    rng = np.random.default_rng(0)
    for _ in range(100):
        y, x = rng.integers(0, 180, 2)
        pixels = pyramid.read(y=slice(y, y + 40), x=slice(x, x + 40))
        assert same(pixels, array[:, y : y + 40, x : x + 40])
        pixels[...] = 0  # the cache holds copies
        assert pyramid.cache.nbytes <= cache_bytes
    if cache_bytes == 10**7:
        assert pyramid.cache.hits > pyramid.cache.misses


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("preset", ["fast", "compact"])
def test_every_type_survives_at_its_extremes(tmp_path, dtype, preset):
    array = random_array((1, 40, 40), dtype)
    if dtype.kind in "iu":
        array[0, 0, :2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    if dtype.kind == "f":
        info = np.finfo(dtype)
        array[0, 0, :7] = info.min, info.max, info.smallest_subnormal, np.nan, np.inf, -np.inf, -0.0
    pyramid = make(tmp_path, array, preset=preset)
    assert pyramid.read().tobytes() == array.tobytes(), "lossless to the bit"


def test_a_chunk_of_negative_zeros_is_not_a_missing_one(tmp_path):
    for k, dtype in enumerate(("f4", "f8", "c8")):
        (tmp_path / str(k)).mkdir()
        array = np.full((1, 4, 4), -0.0, dtype)
        assert make(tmp_path / str(k), array).read().tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: p.read(level="0"), "level '0' does not exist"),
        (lambda p: p.read(level=0.5), "level 0.5 does not exist"),
        (lambda p: p.window(scale="half"), "scale='half': expected a number above 0"),
        (lambda p: p.read_many({"y": slice(0, 3)}), "'y': expected a list of windows such as"),
        (lambda p: p.plan([3]), "3: expected a list of windows"),
    ],
)
def test_values_of_another_kind_are_named(tmp_path, call, words):
    import ndzarr

    with pytest.raises(WindowError, match=words):
        call(ndzarr.transcode(np.zeros((9, 9), np.uint8), tmp_path / "a.zarr"))
