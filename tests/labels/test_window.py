"""`Pyramid.window`: pixels, coordinates, masks and names."""

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.arrays import random_array
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from helpers.pyramids import make
from ndzarr.errors import OptionError, WindowError

SIZE = (3, 300, 410)


@pytest.fixture(scope="module")
def rgb(tmp_path_factory):
    array = random_array(SIZE, "u1")
    return array, make(tmp_path_factory.mktemp("rgb"), array, channels=("r", "g", "b"))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    array = random_array((5, 2, 60, 70), "u2")
    times = np.array([0, 0.04, 0.08, 0.2, 1.0])
    return array, make(tmp_path_factory.mktemp("video"), array, ("t", "c", "y", "x"), times=times)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    array = random_array((2, 3, 4, 50, 60), "f4")
    return array, make(tmp_path_factory.mktemp("volume"), array, ("t", "c", "z", "y", "x"))


def padded(array, y, x, fill=0):
    """The oracle at native scale: pixels of a window, and which of them are inside."""
    h, w = array.shape[-2:]
    out = np.full((*array.shape[:-2], y.stop - y.start, x.stop - x.start), fill, array.dtype)
    inside = np.zeros(out.shape[-2:], bool)
    a, b, c, d = max(y.start, 0), min(y.stop, h), max(x.start, 0), min(x.stop, w)
    if a < b and c < d:
        target = (slice(a - y.start, b - y.start), slice(c - x.start, d - x.start))
        out[(..., *target)] = array[..., a:b, c:d]
        inside[target] = True
    return out, inside


windows = st.tuples(st.integers(-150, 450), st.integers(1, 200), st.integers(-150, 450), st.integers(1, 200)).map(
    lambda t: (slice(t[0], t[0] + t[1]), slice(t[2], t[2] + t[3]))
)


@given(windows, st.integers(0, 255))
@examples(150)
def test_a_window_at_native_scale_is_the_padded_image(rgb, window, fill):
    array, pyramid = rgb
    y, x = window
    out = pyramid.window(y=y, x=x, fill=fill)
    pixels, inside = padded(array, y, x, fill)
    assert np.array_equal(out.values, pixels)
    assert out.dtype == array.dtype
    assert out.dims == ("c", "y", "x")
    if inside.all():
        assert "valid" not in out.coords, "a mask without anything to mask is left out"
    else:
        assert out.coords["valid"].dims == ("y", "x")
        assert np.array_equal(out.coords["valid"], inside)


scales = st.one_of(st.sampled_from((1.0, 0.5, 0.25, 2.0)), st.floats(0.02, 3))


@given(windows, scales, scales)
@examples(150)
def test_coordinates_are_pixel_centres_in_native_pixels_at_any_scale(rgb, window, sx, sy):
    _, pyramid = rgb
    (y, x), sizes = window, []
    for s, along in ((sy, y), (sx, x)):
        sizes.append(round((along.stop - along.start) * s))
    if 0 in sizes:
        with raises(WindowError, hint="Use a larger scale or window"):
            pyramid.window(y=y, x=x, scale=(sx, sy))
        return
    out = pyramid.window(y=y, x=x, scale=(sx, sy))
    assert out.shape == (3, *sizes)
    for name, along, n in (("y", y, sizes[0]), ("x", x, sizes[1])):
        edges = np.linspace(along.start, along.stop, n + 1)
        np.testing.assert_allclose(out[name].values, (edges[:-1] + edges[1:]) / 2, atol=1e-9)
    inside = [
        (out[d].values + pitch / 2 > 1e-4 * pitch) & (out[d].values - pitch / 2 < length - 1e-4 * pitch)
        for d, length, pitch in (
            ("y", SIZE[1], (y.stop - y.start) / sizes[0]),
            ("x", SIZE[2], (x.stop - x.start) / sizes[1]),
        )
    ]
    wanted = inside[0][:, None] & inside[1]
    valid = out.coords["valid"].values if "valid" in out.coords else np.ones(wanted.shape, bool)
    assert np.array_equal(valid, wanted)


def test_a_window_is_what_xarrays_own_constructor_makes(rgb, video):
    array, pyramid = rgb
    wanted = xarray.DataArray(
        array[:, 10:20, 5:9],
        {"c": ["r", "g", "b"], "y": np.arange(10.5, 20), "x": np.arange(5.5, 9)},
        ("c", "y", "x"),
        name="image",
    )
    xarray.testing.assert_identical(pyramid.window(y=slice(10, 20), x=slice(5, 9)), wanted)
    valid = (("y", "x"), np.array([[False] * 4, [True] * 4]))
    wanted = xarray.DataArray(
        np.concatenate([np.zeros((3, 1, 4), "u1"), array[:, :1, 5:9]], axis=1),
        {"c": ["r", "g", "b"], "y": [-0.5, 0.5], "x": np.arange(5.5, 9), "valid": valid},
        ("c", "y", "x"),
        name="image",
    )
    xarray.testing.assert_identical(pyramid.window(y=slice(-1, 1), x=slice(5, 9)), wanted)
    array, pyramid = video
    wanted = xarray.DataArray(
        array[1:3, :, :2, :3],
        {"t": [0.04, 0.08], "c": ["c0", "c1"], "y": [0.5, 1.5], "x": [0.5, 1.5, 2.5]},
        ("t", "c", "y", "x"),
        name="image",
    )
    xarray.testing.assert_identical(pyramid.window(t=slice(1, 3), y=slice(0, 2), x=slice(0, 3)), wanted)


def test_what_comes_back_behaves_as_any_dataarray(rgb):
    _, pyramid = rgb
    out = pyramid.window(y=slice(10, 30), x=slice(5, 25), scale=0.5)
    assert out.sel(c="g").dims == ("y", "x")
    assert out.sel(y=15, method="nearest").y == 15
    assert out.isel(y=slice(2, 4)).shape == (3, 2, 10)
    assert xarray.concat([out, out], "n").shape == (2, 3, 10, 10)
    assert (out + out).shape == out.shape, "coordinates align with themselves"
    assert out.to_dataset().sizes == {"c": 3, "y": 10, "x": 10}
    assert out.copy(deep=True).identical(out)
    assert len(repr(out)) > 50
    assert len(out._repr_html_()) > 50
    out.values[...] = 0
    assert pyramid.window(y=slice(10, 30), x=slice(5, 25), scale=0.5).values.any(), "windows own their pixels"


@pytest.mark.parametrize(
    ("channels", "picked"),
    [
        (["g"], [1]),
        (["b", "r"], [2, 0]),
        ("b", [2]),
        ([2, "r"], [2, 0]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        (["g", "g"], [1, 1]),
        (np.array([2, 1]), [2, 1]),
        (None, [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
def test_channels_come_by_name_in_the_order_asked_for(rgb, channels, picked, scale):
    _, pyramid = rgb
    whole = pyramid.window(scale=scale)
    out = pyramid.window(c=channels, scale=scale)
    assert out.c.values.tolist() == [("r", "g", "b")[i] for i in picked]
    assert out.dims == ("c", "y", "x")
    assert np.array_equal(out.values, whole.values[picked])


def test_no_axis_is_ever_dropped(volume):
    array, pyramid = volume
    out = pyramid.window(t=slice(1, 2), c=["c1"], z=slice(3, 4), y=slice(5, 6), x=slice(7, 8))
    assert out.dims == ("t", "c", "z", "y", "x")
    assert out.shape == (1, 1, 1, 1, 1)
    assert out.item() == array[1, 1, 3, 5, 7]
    assert (out.t.item(), out.c.item(), out.z.item(), out.y.item(), out.x.item()) == (1, "c1", 3, 5.5, 7.5)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_frames_and_planes_by_index_slice_and_step(video, volume, scale):
    array, pyramid = video
    whole = pyramid.window(scale=scale).values
    for want in ([0, 2], [4, 1, 1], slice(1, 5, 2), slice(3, 5), None, np.array([3])):
        out = pyramid.window(t=want, scale=scale)
        picks = list(range(5)) if want is None else list(range(5)[want]) if isinstance(want, slice) else list(want)
        assert np.array_equal(out.values, whole[picks])
        assert np.array_equal(out.t, np.array([0, 0.04, 0.08, 0.2, 1.0])[picks])
    array, pyramid = volume
    out = pyramid.window(t=[1], z=[3, 0], scale=1)
    assert np.array_equal(out.values, array[1:, :, [3, 0]])
    assert out.z.values.tolist() == [3, 0]


@pytest.mark.parametrize("window", [{"t": []}, {"t": slice(2, 2)}, {"c": []}, {"c": slice(5, 9)}])
@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_a_window_without_frames_or_channels_is_empty_but_labelled(video, window, scale):
    out = video[1].window(**window, y=slice(-3, 10), x=slice(0, 10), scale=scale)
    assert out.size == 0
    assert out.sizes[next(iter(window))] == 0
    assert out.dims == ("t", "c", "y", "x")


@pytest.mark.parametrize("k", [0, 1])
def test_windows_at_the_scale_of_a_level_are_its_pixels(rgb, k):
    _, pyramid = rgb
    level = pyramid.read(level=k)
    f = 2**k
    out = pyramid.window(y=slice(4 * f, 30 * f), x=slice(7 * f, 9 * f), scale=1 / f)
    assert np.array_equal(out.values, level[:, 4:30, 7:9])
    assert np.array_equal(out.y, pyramid.to_xarray(k).y[4:30])


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37, 1.6])
def test_pixels_without_data_are_not_valid_and_stay_what_marks_them(tmp_path, dtype, scale):
    nodata = {"u1": 255, "i2": -(2**15), "f4": float("nan")}[dtype]
    array = random_array((2, 300, 300), dtype) // 2
    array[:, 100:180, 60:220] = nodata
    array[0, 200:, 200:] = nodata  # in one channel only
    pyramid = make(tmp_path, array, nodata=float(nodata))
    out = pyramid.window(y=slice(-40, 300), x=slice(0, 320), scale=scale)
    valid = out.coords["valid"]
    missing = np.isnan(out.values) if dtype == "f4" else out.values == nodata
    y, x = out.y.values, out.x.values
    outside = (y < -0.49 / scale)[:, None] | (x > 300 + 0.49 / scale)[None]
    wanted = ~missing & ~outside
    assert valid.dims == ("c", "y", "x"), "channels differ, so the mask has them"
    assert np.array_equal(valid, wanted)
    margin = 2 / scale
    hole = ((y > 100 + margin) & (y < 180 - margin))[:, None] & ((x > 60 + margin) & (x < 220 - margin))[None]
    assert hole.any()
    assert not valid.values[:, hole].any(), "nothing is made up in the middle of a hole"
    around = ((y < 100 - margin) & (y > margin))[:, None] & ((x > margin) & (x < 300 - margin))[None]
    assert valid.values[:, around].all()
    same = pyramid.window(c=["c1"], y=slice(-40, 300), x=slice(0, 320), scale=scale)
    assert same.coords["valid"].dims == ("y", "x")


def test_masks_have_frames_where_frames_have_holes(tmp_path):
    array = random_array((3, 1, 20, 20), "u1") | 1
    array[1, 0, 4:8] = 0
    pyramid = make(tmp_path, array, ("t", "c", "y", "x"), nodata=0.0)
    valid = pyramid.window(y=slice(0, 25)).coords["valid"]
    assert valid.dims == ("t", "y", "x")
    assert np.array_equal(valid.values[:, :20], array[:, 0] != 0)
    assert not valid.values[:, 20:].any()


def test_nan_that_nobody_declared_does_not_spread(tmp_path):
    array = np.ones((1, 300, 300), "f4")
    array[0, 128:136, 128:136] = np.nan
    pyramid = make(tmp_path, array)
    for scale, limit in ((1.0, 64), (0.5, 16), (0.25, 4), (0.3, 9), (2.0, 256), (1.5, 144)):
        out = pyramid.window(scale=scale)
        assert 0 < np.isnan(out.values).sum() <= limit
        assert (out.values[~np.isnan(out.values)] == 1).all()


@given(windows, st.floats(0.05, 2))
@examples(60)
def test_labels_are_never_mixed(labels, window, scale):
    pyramid, known = labels
    y, x = window
    if not round((y.stop - y.start) * scale) or not round((x.stop - x.start) * scale):
        return
    out = pyramid.window(y=y, x=x, scale=scale, fill=-5)
    assert set(np.unique(out.values)) <= known | {-5}
    if "valid" in out.coords:
        assert (out.values[0][~out.coords["valid"].values] == -5).all()
        assert (out.values[0][out.coords["valid"].values] != -5).all()


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    cells = np.random.default_rng(0).choice([3, 17, 200, 40_000], (10, 14))
    array = np.kron(cells, np.ones((30, 30), int)).astype("i4")[None]
    return make(tmp_path_factory.mktemp("labels"), array, kind="labels"), {3, 17, 200, 40_000}


def test_masks_stay_masks(tmp_path):
    array = random_array((1, 300, 300), "?")
    out = make(tmp_path, array).window(scale=0.4)
    assert out.dtype == bool


def test_nearest_can_be_asked_for(rgb):
    array, pyramid = rgb
    out = pyramid.window(y=slice(0, 30), x=slice(0, 30), scale=1 / 3, interpolation="nearest")
    assert np.array_equal(out.values, array[:, 1:30:3, 1:30:3])


@pytest.mark.parametrize("interpolation", ["area", "nearest", "linear", "cubic", "lanczos"])
@pytest.mark.parametrize("scale", [0.3, 0.5, 0.8, 1.0, 1.3, 2.0])
def test_whatever_the_interpolation_a_flat_image_stays_flat_and_sizes_are_kept(tmp_path, interpolation, scale):
    pyramid = make(tmp_path, np.full((1, 300, 300), 200, "u1"))
    out = pyramid.window(y=slice(-10, 310), x=slice(3, 290), scale=scale, interpolation=interpolation, fill=200)
    assert (out.values == 200).all()
    assert out.shape == (1, round(320 * scale), round(287 * scale))


@pytest.mark.parametrize("interpolation", ["area", "linear", "cubic", "lanczos"])
@pytest.mark.parametrize("scale", [0.4, 0.7, 1.6])
def test_a_window_is_the_same_cut_out_of_a_larger_one(rgb, interpolation, scale):
    """What lies beside a window counts at its border; nothing is repeated there but the border of the image."""
    _, pyramid = rgb
    large = pyramid.window(y=slice(0, 200), x=slice(0, 200), scale=scale, interpolation=interpolation)
    small = pyramid.window(y=slice(50, 150), x=slice(100, 200), scale=scale, interpolation=interpolation)
    y, x = round(50 * scale), round(100 * scale)
    part = large.values[:, y : y + small.shape[1], x : x + small.shape[2]]
    assert np.abs(part.astype(int) - small.values).max() <= 1


@pytest.mark.parametrize(
    ("options", "error", "fact"),
    [
        ({"interpolation": "neerest"}, OptionError, "did you mean 'nearest'"),
        ({"yy": slice(0, 3)}, WindowError, "Known: c, y, x"),
        ({"t": slice(0, 3)}, WindowError, None),
        ({"y": [1, 2]}, WindowError, None),
        ({"y": slice(0, 10, 2)}, WindowError, "scale="),
        ({"y": slice(0.5, 10)}, WindowError, None),
        ({"y": 5}, WindowError, None),
        ({"y": slice(5, 5)}, WindowError, None),
        ({"y": slice(9, 5)}, WindowError, None),
        ({"c": ["x"]}, WindowError, "Known: r, g, b"),
        ({"c": 0}, WindowError, None),
        ({"c": [3]}, WindowError, "index 3"),
        ({"scale": 0}, WindowError, None),
        ({"scale": -1.0}, WindowError, None),
        ({"scale": float("nan")}, WindowError, None),
        ({"scale": float("inf")}, WindowError, None),
        ({"scale": 1e-9}, WindowError, None),
        ({"fill": -1}, OptionError, "uint8"),
        ({"fill": 256}, OptionError, "uint8"),
        ({"fill": 0.5}, OptionError, "uint8"),
        ({"fill": float("nan")}, OptionError, "uint8"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(rgb, options, error, fact):
    key = "y" if options == {"scale": 1e-9} else next(iter(options))
    with raises(error, key=key, match=fact):
        rgb[1].window(**options)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 4, 1 / 8, 0.3, 0.12])
def test_no_level_finer_than_needed_is_read(tmp_path, monkeypatch, scale):
    from ndzarr._pyramid import crops

    pyramid = make(tmp_path, random_array((1, 2048, 2048), "u1"))
    plans = []
    execute = crops.execute
    monkeypatch.setattr(crops, "execute", lambda plan, *a: (plans.append(plan), execute(plan, *a))[1])
    out = pyramid.window(scale=scale)
    read = plans[0].shapes[0]
    if scale in (1 / 2, 1 / 4, 1 / 8):
        assert read == out.shape, "the level has these pixels"
    else:
        assert 2 * out.shape[-1] <= read[-1] < 4 * out.shape[-1] + 4


def test_a_store_of_another_writer_has_windows_too(tmp_path):
    import zarr

    array = random_array((40, 50), "f8")
    zarr.create_array(tmp_path / "a", data=array, chunks=(16, 16), dimension_names=("y", "x"))
    out = ndzarr.open(tmp_path / "a").window(y=slice(30, 45), x=slice(-2, 10), fill=np.nan)
    assert np.array_equal(out.values[:10, 2:], array[30:, :10])
    assert np.isnan(out.values[10:]).all()
    assert out.dims == ("y", "x")
    zarr.create_array(tmp_path / "b", data=array, chunks=(16, 16), dimension_names=("lat", "lon"))
    assert np.array_equal(ndzarr.open(tmp_path / "b").window(y=slice(0, 1)).values, array[:1])
