"""Every key of a target means the same for images and for videos."""

from __future__ import annotations

import copy

import kwcoco
import numpy as np
import pytest
import tifffile

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr._sampling.target import PAD_MODES
from ndzarr.errors import TargetError

SPACE = (slice(-6, 40), slice(100, 131))  # 6 rows above, 11 columns right of a 96x120 space


def both(film, **keys):
    """(pixels (t, c, y, x), valid or None) of the same keys for an image and for a video of that one frame."""
    sampler = film.sampler()
    image, video = sampler.load_sample(gid=11, **keys), sampler.load_sample(gids=[11], **keys)
    np.testing.assert_array_equal(image.image.values, video.image.values[0])
    assert image.image.dtype == video.image.dtype
    if "valid" in image:
        np.testing.assert_array_equal(image.valid.values, video.valid.values[0])
    else:
        assert "valid" not in video
    return image.image.values, image.valid.values if "valid" in image else None


# -- padding


@pytest.mark.parametrize("mode", [m for m in PAD_MODES if m != "empty"])
def test_padding_modes_are_those_of_numpy_in_space(film, mode):  # ndsampler's defects 17 and 18
    image, valid = both(film, channels="r|g", space_slice=SPACE, padkw={"mode": mode})
    clipped = film.rg[1][:, :40, 100:]
    np.testing.assert_array_equal(image, np.pad(clipped, [(0, 0), (6, 0), (0, 11)], mode=mode))
    assert valid[6:, :20].all()
    assert valid.sum() == 40 * 20


@pytest.mark.parametrize("mode", [m for m in PAD_MODES if m not in ("empty", "constant")])
def test_padding_modes_are_those_of_numpy_in_time(film, mode):  # ndsampler's defect 16
    sample = film.sampler().load_sample(
        vidid=1, time_slice=slice(-2, 3), channels="r|g", padkw={"mode": mode}, space_slice=SPACE
    )
    clipped = film.rg[:3, :, :40, 100:]
    expected = np.pad(clipped, [(2, 0), (0, 0), (6, 0), (0, 11)], mode=mode)
    np.testing.assert_array_equal(sample.image.values, expected)


def test_options_of_padding_modes_reach_numpy_and_the_callers_dictionary_stays(film):  # ndsampler's defect 18
    padkw = {"mode": "linear_ramp", "end_values": 7}
    before = copy.deepcopy(padkw)
    image, _ = both(film, channels="r", space_slice=SPACE, padkw=padkw)
    assert padkw == before
    expected = np.pad(film.rg[1][:1, :40, 100:], [(0, 0), (6, 0), (0, 11)], mode="linear_ramp", end_values=7)
    np.testing.assert_array_equal(image, expected)
    with raises(TargetError, key="padkw"):
        both(film, channels="r", space_slice=SPACE, padkw={"mode": "edge", "end_values": 7})
    with raises(TargetError, key="padkw", match="did you mean 'reflect'"):
        both(film, padkw={"mode": "reflct"})


def test_there_is_nothing_to_continue_wholly_outside(film):
    with raises(TargetError, key="padkw"):
        both(film, space_slice=(slice(200, 210), slice(0, 10)), padkw={"mode": "edge"})


@pytest.mark.parametrize("fill", [0, 7, 65535])
def test_constant_values_fill_what_lies_outside(film, fill):
    image, valid = both(film, channels="r|g", space_slice=SPACE, padkw={"constant_values": fill})
    assert (image[:, ~valid] == fill).all()
    assert image.dtype == np.uint16


def test_a_fill_that_the_type_does_not_have_is_refused_or_kept_in_a_wider_one(film):
    with raises(TargetError, key="fill", match="uint16"):
        both(film, space_slice=SPACE, padkw={"constant_values": -1})
    image, valid = both(film, channels="r", space_slice=SPACE, padkw={"constant_values": -1.5}, dtype="float32")
    assert (image[:, ~valid] == -1.5).all()
    np.testing.assert_array_equal(image[0, 6:, :20], film.rg[1][0, :40, 100:])
    sample = film.sampler().load_sample(gid=12, channels="r|nir", fill=-2, dtype="int32")
    assert (sample.image.sel(c="nir") == -2).all(), "also for channels that the image lacks"


@pytest.mark.parametrize(
    ("pad", "expected"),
    [
        (3, ((3, 3), (3, 3))),
        (np.int64(3), ((3, 3), (3, 3))),
        ((2, 5), ((2, 2), (5, 5))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ([[1, 2], 0], ((1, 2), (0, 0))),
    ],
)
def test_pad_adds_context_per_axis_and_side(film, pad, expected):
    image, _ = both(film, channels="r", space_slice=(slice(10, 20), slice(90, 118)), pad=pad)
    (top, bottom), (left, right) = expected
    assert image.shape == (1, 10 + top + bottom, 28 + left + right)
    padded = np.pad(film.rg[1][:1], [(0, 0), (9, 9), (9, 9)])
    expected = padded[:, 19 - top : 29 + bottom, 99 - left : 127 + right]
    np.testing.assert_array_equal(image, expected)


def test_pad_in_time_adds_frames(film):
    sampler = film.sampler()
    sample = sampler.load_sample(vidid=1, time_slice=slice(1, 3), pad=((1, 2), 0, 0), channels="r")
    assert sample.frame_index.values.tolist() == [0, 1, 2, 3, 4]
    assert sample.gid.values.tolist() == [10, 11, 12, 13, -1]
    assert sampler.load_sample(vidid=1, time_slice=slice(1, 3), pad=2).sizes["t"] == 2, "a number is for space"
    with raises(TargetError, key="pad"):
        sampler.load_sample(gid=11, pad=(1, 2, 3))


@pytest.mark.parametrize("pad", [-1, 1.5, "3", (1,), (1, 2, 3, 4), ((1, 2, 3), 0)])
def test_other_pads_are_refused(film, pad):
    with raises(TargetError, key="pad"):
        film.sampler().load_sample(vidid=1, pad=pad)


# -- nodata


@pytest.fixture
def holes(tmp_path):
    """An int16 image with nodata -9999, once tagged in its file, once stated by the dataset; a float one with NaN."""
    image = photo(40, 50)[..., 0].astype(np.int16) + 1
    image[5:15, 10:30] = -9999
    tifffile.imwrite(tmp_path / "tagged.tif", image, extratags=[(42113, "s", 0, "-9999", True)])
    tifffile.imwrite(tmp_path / "plain.tif", image)
    real = image.astype(np.float32)
    real[image == -9999] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", real)
    images = [
        {"id": k, "file_name": str(tmp_path / f"{name}.tif"), "width": 50, "height": 40, "channels": "band"}
        for k, name in enumerate(("tagged", "plain", "nan", "plain"), start=1)
    ]
    images[1]["nodata"] = -9999
    return ndzarr.CocoSampler({"images": images}, tmp_path / "work"), image


@pytest.mark.parametrize("gid", [1, 2])
@pytest.mark.parametrize("form", [{"gid": None}, {"gids": None}])
def test_nodata_of_the_file_and_of_the_dataset_becomes_what_was_asked(holes, gid, form):  # ndsampler's defect 10
    sampler, image = holes
    real = image != -9999
    target = {k: gid if k == "gid" else [gid] for k in form}

    def load(**keys):
        sample = sampler.load_sample({**target, **keys})
        return sample.image.values.reshape(40, 50), sample.valid.values.reshape(40, 50)

    stored, valid = load()
    np.testing.assert_array_equal(stored, image)
    np.testing.assert_array_equal(valid, real)
    masked, valid = load(nodata="ma")
    np.testing.assert_array_equal(masked, image)
    np.testing.assert_array_equal(valid, real)
    floats, valid = load(nodata="float")
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(floats, np.where(real, image, np.nan))
    np.testing.assert_array_equal(load(nodata="auto")[0], image)
    np.testing.assert_array_equal(load(nodata="fill")[0], np.where(real, image, 0))
    np.testing.assert_array_equal(load(nodata="fill", fill=-1)[0], np.where(real, image, -1))
    assert load(nodata="fill", dtype="float64", fill=np.nan)[0].dtype == np.float64


def test_without_a_stated_nodata_value_pixels_are_data(holes):
    sampler, image = holes
    sample = sampler.load_sample(gid=4, nodata="float")
    np.testing.assert_array_equal(sample.image.values[0], image)
    assert "valid" not in sample


def test_nan_is_no_data_once_nodata_is_asked_for(holes):
    sampler, image = holes
    real = image != -9999
    np.testing.assert_array_equal(sampler.load_sample(gid=3).image.values[0], np.where(real, image, np.nan))
    for nodata, value in (("float", np.nan), ("auto", np.nan), ("fill", 0)):
        sample = sampler.load_sample(gid=3, nodata=nodata)
        np.testing.assert_array_equal(sample.image.values[0], np.where(real, image, value))
        np.testing.assert_array_equal(sample.valid.values, real)


def test_nodata_does_not_spread_when_it_is_resampled(holes):
    sampler, image = holes
    real = image != -9999
    sample = sampler.load_sample(gid=1, scale=0.5, nodata="float")
    counts = real.reshape(20, 2, 25, 2).sum((1, 3))
    sums = np.where(real, image, 0).astype(float).reshape(20, 2, 25, 2).sum((1, 3))
    assert (np.isnan(sample.image.values[0]) == (counts == 0)).all()
    some = counts > 0
    assert np.abs(sample.image.values[0][some] - (sums[some] / counts[some])).max() <= 0.5


def test_nan_inside_and_another_value_outside(holes):
    sampler, image = holes
    sample = sampler.load_sample(gid=1, nodata="float", pad=4, padkw={"constant_values": 5})
    assert np.isnan(sample.image.values[0, 9:19, 14:34]).all()
    assert (sample.image.values[0, :4] == 5).all()
    reflected = sampler.load_sample(gid=1, nodata="float", pad=10, padkw={"mode": "reflect"}).image.values[0]
    clean = np.where(image == -9999, np.nan, image).astype(np.float32)
    np.testing.assert_array_equal(reflected, np.pad(clean, 10, mode="reflect"))


def test_nodata_float_is_nan_outside_and_for_missing_channels(film):
    sample = film.sampler().load_sample(vidid=1, channels="r|nir", nodata="float", space_slice=SPACE)
    assert sample.image.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(sample.image.values), ~sample.valid.values)
    assert np.isnan(sample.image.sel(c="nir").values[2]).all()


# -- dtype


def test_dtype_is_applied_last_rounding_and_limiting(film):
    image, _ = both(film, channels="r", dtype="float32")
    np.testing.assert_array_equal(image, film.rg[1][:1].astype(np.float32))
    image, _ = both(film, channels="r", dtype=np.uint8)
    np.testing.assert_array_equal(image, np.clip(film.rg[1][:1], 0, 255))
    with raises(TargetError, key="dtype"):
        both(film, dtype="uint7")


def test_a_real_dtype_has_no_place_for_the_imaginary_part(tmp_path):
    waves = np.exp(1j * np.arange(30 * 20)).reshape(20, 30).astype(np.complex64)
    tifffile.imwrite(tmp_path / "waves.tif", waves)
    image = {"id": 1, "file_name": str(tmp_path / "waves.tif"), "width": 30, "height": 20}
    sampler = ndzarr.CocoSampler({"images": [image]}, tmp_path / "work")
    np.testing.assert_array_equal(sampler.load_sample(gid=1, dtype="complex128").image.values[0], waves)
    with raises(TargetError, key="dtype", hint="Take .real or abs of it"):
        sampler.load_sample(gid=1, dtype="float32")


def test_an_integer_dtype_has_no_place_for_nan(film):
    with raises(TargetError, key="dtype", hint="Give padkw constant_values"):
        film.sampler().load_sample(gid=11, channels="r", space_slice=SPACE, nodata="float", dtype="uint8")


# -- scale, resolution, output_dims


@pytest.mark.parametrize(
    ("keys", "shape"),
    [
        ({"scale": 0.5}, (24, 32)),
        ({"scale": (0.5, 0.25)}, (12, 32)),
        ({"scale": [2, 1]}, (48, 128)),
        ({"scale": np.float32(1.5)}, (72, 96)),
        ({"output_dims": (10, 100)}, (10, 100)),
        ({"output_dims": np.array([10, 100])}, (10, 100)),
    ],
)
def test_scales_and_sizes_give_exactly_that_many_pixels(film, keys, shape):  # ndsampler's defects 17 and 20
    image, _ = both(film, space_slice=(slice(20, 68), slice(30, 94)), **keys)
    assert image.shape == (3, *shape)


def test_scaling_moves_coordinates_boxes_and_the_transform_together(film):
    sample = film.sampler().load_sample(gid=11, space_slice=(slice(16, 48), slice(10, 74)), scale=(0.5, 0.25))
    assert sample.x.values[:2].tolist() == [11, 13]
    assert sample.y.values[:2].tolist() == [18, 22]
    assert sample.bbox.values.tolist() == [[5, 1, 15, 4]]
    assert (sample.ndzarr.transform @ [5, 1, 1]).tolist() == [20, 20, 1]


@pytest.mark.parametrize(
    ("resolution", "scale"),
    [("10GSD", 0.5), (10, 0.5), ("20 GSD", 0.25), ("5 meters", 1), ("2.5m", 2), ("1e1 GSD", 0.5)],
)
@pytest.mark.parametrize("form", ["image", "video"])
def test_resolution_is_metres_per_pixel_from_the_datasets_metadata(film, resolution, scale, form):
    sampler = film.sampler(resolution="5 meter")
    target = {"gid": 11} if form == "image" else {"gids": [11]}
    a = sampler.load_sample(**target, space_slice=(slice(0, 40), slice(0, 80)), resolution=resolution)
    b = sampler.load_sample(**target, space_slice=(slice(0, 40), slice(0, 80)), scale=scale)
    np.testing.assert_array_equal(a.image, b.image)
    assert a.image.shape[-2:] == (40 * scale, 80 * scale)


def test_resolution_of_the_video_holds_for_its_frames(film):
    content = copy.deepcopy(film.content)
    content["videos"][0]["target_gsd"] = 30.0
    sampler = ndzarr.CocoSampler(content, film.workdir)
    assert sampler.load_sample(vidid=1, resolution="60GSD").image.shape == (4, 3, 48, 60)
    assert sampler.load_sample(gid=11, resolution="60GSD", scale=0.5).image.shape == (3, 24, 30)


def test_resolution_without_metadata_or_sense_is_an_error(film):
    with raises(TargetError, key="resolution", hint="Use scale"):
        film.sampler().load_sample(gid=11, resolution="10GSD")
    for wrong in ("ten", "-3GSD", 0):
        with raises(TargetError, key="resolution"):
            film.sampler(resolution=1).load_sample(gid=11, resolution=wrong)


@pytest.mark.parametrize("interpolation", ["auto", "area", "nearest", "linear", "cubic", "lanczos"])
@pytest.mark.parametrize("antialias", [None, True, False, "auto"])
@pytest.mark.parametrize("scale", [0.3, 1.7])
def test_every_interpolation_works_with_and_without_antialiasing(film, interpolation, antialias, scale):
    image, _ = both(film, channels="r|nir", scale=scale, interpolation=interpolation, antialias=antialias)
    assert image.shape == (2, round(96 * scale), round(120 * scale))
    assert abs(image[0].mean() / film.rg[1][0].mean() - 1) < 0.02


def test_antialiasing_lets_every_pixel_count_and_its_absence_does_not(tmp_path):
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "board.tif", board)
    content = {"images": [{"id": 1, "file_name": str(tmp_path / "board.tif"), "width": 256, "height": 256}]}
    sampler = ndzarr.CocoSampler(content, tmp_path / "work")
    for interpolation in ("area", "linear", "cubic", "lanczos"):
        grey = sampler.load_sample(gid=1, scale=0.25, interpolation=interpolation, antialias=True).image.values
        assert np.ptp(grey.astype(int)) < 30, "a fine checkerboard becomes grey"
    picked = sampler.load_sample(gid=1, scale=0.2, interpolation="nearest", antialias=False).image.values
    assert set(np.unique(picked)) == {0, 255}
    with raises(ndzarr.NdzarrError, key="interpolation", match="did you mean 'nearest'"):
        sampler.load_sample(gid=1, interpolation="nearst")


# -- time


@pytest.mark.parametrize(
    ("time", "frames"),
    [
        (slice(1, 3), [1, 2]),
        (slice(0, 4, 2), [0, 2]),
        (slice(None), [0, 1, 2, 3]),
        (slice(None, None, 3), [0, 3]),
        (slice(-2, 2), [-2, -1, 0, 1]),
        (slice(2, 7, 2), [2, 4, 6]),
        (2, [2]),
    ],
)
def test_time_slices_give_those_frames_and_pad_outside(film, time, frames):  # ndsampler's defect 16
    sample = film.sampler().load_sample(vidid=1, time_slice=time, channels="r", nodata="float")
    assert sample.frame_index.values.tolist() == frames
    for k, t in enumerate(frames):
        if 0 <= t < 4:
            np.testing.assert_array_equal(np.nan_to_num(sample.image.values[k]), film.frame(t)[:1])
            assert sample.t.values[k] == np.datetime64(f"2024-05-0{t + 1}T12:00:00")
            assert sample.gid.values[k] == 10 + t
        else:
            assert not sample.valid.values[k].any()
            assert np.isnan(sample.image.values[k]).all()
            assert np.isnat(sample.t.values[k])
            assert sample.gid.values[k] == -1


def test_slices_hold_time_and_space(film):
    sample = film.sampler().load_sample(vidid=1, slices=(slice(1, 3), slice(5, 25), slice(7, 17)), channels="g|r")
    np.testing.assert_array_equal(sample.image.values, film.rg[1:3, ::-1, 5:25, 7:17])


def test_slices_may_be_open(film):
    image, valid = both(film, channels="r", space_slice=(slice(90, None), slice(None, 5)))
    np.testing.assert_array_equal(image, film.rg[1][:1, 90:, :5])
    assert valid is None


def test_frames_come_in_the_order_asked_for_and_may_repeat(film):
    sample = film.sampler().load_sample(gids=[12, 10, 11, 10], channels="r|g")
    np.testing.assert_array_equal(sample.image.values, film.rg[[2, 0, 1, 0]])
    assert sample.frame_index.values.tolist() == [2, 0, 1, 0]
    assert sample.annot_id.values.tolist() == [102, 100, 101, 100]
    assert sample.frame.values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("time", [slice(3, 3), slice(0, 4, -1), slice(0, 4, 0), "2", slice(10, 12)])
def test_times_without_sense_are_refused(film, time):
    with raises(TargetError, key="time_slice"):
        film.sampler().load_sample(vidid=1, time_slice=time)


# -- windows


def test_window_dims_choose_the_size_around_a_centre(film):
    sampler = film.sampler()
    around = {"gid": 11, "cx": 40, "cy": 30, "width": 20, "height": 10}
    assert sampler.load_sample(around).image.shape == (3, 10, 20)
    assert sampler.load_sample(around, window_dims="extent").image.shape == (3, 10, 20)
    assert sampler.load_sample(around, window_dims="square").image.shape == (3, 20, 20)
    assert sampler.load_sample(around, window_dims=(6, 8)).image.shape == (3, 6, 8)
    assert sampler.load_sample(gid=11, window_dims=(6, 8)).y.values.mean() == 48, "without a centre, that of the image"
    with raises(TargetError, key="window_dims"):
        sampler.load_sample(gid=11, cx=3, cy=3, window_dims="square")


@pytest.mark.parametrize("window_dims", ["square", (40, 44), None])
@pytest.mark.parametrize("target", [{"aid": 103}, {"aid": 103, "vidid": 1}, {"aid": 101, "gids": [10, 11]}])
def test_a_resolved_target_loads_the_same_window_again(film, target, window_dims):
    sampler = film.sampler()
    for further in ({}, {"pad": 3}, {"scale": 0.5}):
        sample = sampler.load_sample(target, window_dims=window_dims, **further)
        again = sampler.load_sample(sample.ndzarr.target)
        assert sample.identical(again)
    resolved = sampler.load_sample(target, window_dims=window_dims).ndzarr.target
    assert resolved["category_id"] == 1
    assert {"cx", "cy", "width", "height", "space_slice"} <= resolved.keys()


def test_a_resolved_video_target_loads_the_same_frames_again(film):
    sampler = film.sampler()
    for target in (
        {"vidid": 1, "time_slice": slice(1, 6, 2), "pad": ((1, 0), 2, 2)},
        {"gids": [12, 10], "window_dims": (30, 20)},
        {"vidid": 1},
    ):
        sample = sampler.load_sample(target)
        assert sample.identical(sampler.load_sample(sample.ndzarr.target))


# -- channels


def test_channel_codes_name_sensors_and_come_in_order(film):
    sampler = film.sampler()
    sample = sampler.load_sample(vidid=1, channels="S2:g,L8:nir|r")
    assert sample.c.values.tolist() == ["g", "nir", "r"]
    real = sample.valid.any(("y", "x")).values
    assert real.tolist() == [[True, False, False], [False, True, True], [True, False, False], [False, True, True]]
    assert sample.image.dtype == np.uint16
    with raises(TargetError, key="channels", match="S3"):
        sampler.load_sample(vidid=1, channels="S3:g")
    with raises(TargetError, key="channels", hint="Write 'r|g|b' or 'S2:red|nir'"):
        sampler.load_sample(vidid=1, channels="S2:(g|")


def test_fused_codes_lists_and_objects_mean_the_same_as_names(tmp_path):
    import delayed_image

    stack = np.random.default_rng(0).integers(0, 999, (4, 30, 40)).astype("u2")
    tifffile.imwrite(tmp_path / "b.tif", stack.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(tmp_path / "c.tif", stack[:3].transpose(1, 2, 0), photometric="rgb")
    images = [
        {"id": 1, "file_name": str(tmp_path / "b.tif"), "width": 40, "height": 30, "channels": "B:4"},
        {"id": 2, "file_name": str(tmp_path / "c.tif"), "width": 40, "height": 30, "channels": "rgb"},
    ]
    sampler = ndzarr.CocoSampler({"images": images}, tmp_path / "work")
    for channels in (
        "B.0:3", "B.0|B.1|B.2", ["B.0", "B.1", "B.2"], ["B.0:2", "B.2"], ("B.0|B.1", "B.2"),
        delayed_image.ChannelSpec.coerce("B.0|B.1|B.2"), delayed_image.FusedChannelSpec.coerce("B.0:3"),
    ):  # fmt: skip
        for target in ({"gid": 1}, {"gids": [1]}):
            sample = sampler.load_sample(target, channels=channels)
            assert sample.c.values.tolist() == ["B.0", "B.1", "B.2"]
            np.testing.assert_array_equal(sample.image.values.reshape(3, 30, 40), stack[:3])
    assert sampler.load_sample(gid=1, channels="<all>").sizes["c"] == 4
    assert sampler.load_sample(gid=2, channels="rgb").c.values.tolist() == ["r", "g", "b"]
    assert sampler.load_sample(gid=2, channels="b").c.values.tolist() == ["b"]
    with raises(TargetError, key="channels", hint="Leave the key out for all"):
        sampler.load_sample(gid=1, channels=[])


def test_a_channel_of_other_images_is_missing_and_an_unknown_one_an_error(film):
    sample = film.sampler().load_sample(gid=12, channels="nir|r")
    assert not sample.image.sel(c="nir").any()
    assert not sample.valid.sel(c="nir").any()
    assert sample.valid.sel(c="r").all()
    with raises(TargetError, key="channels", match="swir"):
        film.sampler().load_sample(gid=12, channels="swir|r")


def test_only_assets_whose_channels_are_wanted_are_opened(film):
    content = copy.deepcopy(film.content)
    content["images"][1]["assets"][1]["file_name"] = "/nowhere/gone.tif"
    sampler = ndzarr.CocoSampler(content, film.workdir)
    assert sampler.load_sample(gid=11, channels="r").image.shape == (1, 96, 120)
    with raises(ndzarr.NdzarrError, hint="Check its name"):
        sampler.load_sample(gid=11, channels="nir")


# -- native resolution


def test_native_scale_gives_every_asset_at_its_own_resolution(film):
    tree = film.sampler().load_sample(
        gids=[10, 12], use_native_scale=True, channels="nir|g|r", space_slice=(slice(10, 50), slice(20, 80))
    )
    assert set(tree.children) == {"0", "1"}
    assert set(tree["0"].children) == {"g|r", "nir"}
    assert set(tree["1"].children) == {"g|r"}
    np.testing.assert_array_equal(tree["0/nir"].image.values[0, 0], film.nir[0][5:25, 10:40])
    np.testing.assert_array_equal(tree["1/g|r"].image.values[0], film.rg[2][::-1, 10:50, 20:80])
    assert tree["0/nir"].bbox.values.tolist() == [[-5, 5, 15, 8]]


def test_native_scale_works_for_images_repeated_frames_and_lazily(film):
    sampler = film.sampler()
    tree = sampler.load_sample(gid=11, use_native_scale=True)
    assert {k: v.image.shape for k, v in tree["0"].children.items()} == {"r|g": (2, 96, 120), "nir": (1, 48, 60)}
    assert len(sampler.load_sample(gids=[11, 11], use_native_scale=True).children) == 2
    lazy = sampler.load_sample(gid=11, use_native_scale=True, lazy=True)
    assert lazy["0/nir"].image.chunks is not None
    for name in ("0/nir", "0/r|g"):
        assert lazy[name].to_dataset().compute().identical(tree[name].to_dataset())


def test_assets_of_the_same_channels_are_all_there_at_native_scale(tmp_path):
    fine, coarse = photo(40, 60), photo(20, 30, 1)
    assets = []
    for name, pixels in (("fine", fine), ("coarse", coarse)):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="rgb")
        assets.append(
            {"file_name": str(tmp_path / f"{name}.tif"), "channels": "r|g|b", "width": pixels.shape[1],
             "height": pixels.shape[0], "warp_aux_to_img": {"scale": 60 / pixels.shape[1]}}
        )  # fmt: skip
    content = {"images": [{"id": 1, "width": 60, "height": 40, "assets": assets}]}
    tree = ndzarr.CocoSampler(content, tmp_path / "work").load_sample(gid=1, use_native_scale=True)["0"]
    assert list(tree.children) == ["r|g|b", "r|g|b 2"]
    np.testing.assert_array_equal(tree["r|g|b"].image.values, fine.transpose(2, 0, 1))
    np.testing.assert_array_equal(tree["r|g|b 2"].image.values, coarse.transpose(2, 0, 1))


def test_the_plan_of_a_native_sample_is_what_it_reads(film):
    target = {"gids": [10, 11], "use_native_scale": True, "space_slice": (slice(8, 40), slice(8, 40))}
    tree = film.sampler().load_sample(target)
    children = [node.image for frame in tree.children.values() for node in frame.children.values()]
    assert film.sampler().plan(target).explain().wanted_bytes == sum(image.nbytes for image in children)
    with raises(TargetError, key="channels"):
        film.sampler().plan({"gid": 12, "use_native_scale": True, "channels": "nir"})


def test_realigned_native_scale_gives_all_the_size_of_the_finest(film):
    tree = film.sampler().load_sample(
        vidid=1, time_slice=slice(0, 1), use_native_scale=True, realign_native="largest", scale=0.5
    )
    assert {node.image.shape for node in tree["0"].children.values()} == {(1, 2, 48, 60), (1, 1, 48, 60)}
    with raises(TargetError, key="realign_native", match="largest"):
        film.sampler().load_sample(vidid=1, use_native_scale=True, realign_native="smallest")


def test_unknown_channels_are_errors_at_native_scale_too(film):
    with raises(TargetError, key="channels", match="swir"):
        film.sampler().load_sample(gid=10, use_native_scale=True, channels="swir")
    with raises(TargetError, key="channels"):
        film.sampler().load_sample(gid=12, use_native_scale=True, channels="nir")


# -- annotations


def test_visibility_is_the_part_of_the_box_in_the_window_in_the_sampled_space(film):
    sampler = film.sampler()
    window = {"space_slice": (slice(0, 96), slice(0, 55))}  # frame 3: box at 40..70 in image, at 48..78 in video space
    image = sampler.load_sample(gid=13, **window, visible_thresh=0.4)
    assert image.annot_id.values.tolist() == [103]
    for thresh, found in ((0.2, [103]), (0.3, []), (0.0, [103])):
        sample = sampler.load_sample(gids=[13], **window, visible_thresh=thresh)
        assert sample.annot_id.values.tolist() == found


def test_clipping_is_an_option(film):
    window = {"gid": 11, "space_slice": (slice(24, 60), slice(30, 90))}
    assert film.sampler().load_sample(window).bbox.values.tolist() == [[-10, -4, 30, 16]]
    assert film.sampler().load_sample(window, clip=True).bbox.values.tolist() == [[0, 0, 20, 12]]


def test_annot_ids_replace_the_look_up_in_their_order(dataset, tmp_path):
    sampler = ndzarr.CocoSampler(dataset[0], tmp_path / "work")
    window = {"gid": 1, "space_slice": (slice(0, 20), slice(0, 20))}
    assert sampler.load_sample(window).annot_id.values.tolist() == [12]
    sample = sampler.load_sample(window, annot_ids=[14, 11, 13])
    assert sample.annot_id.values.tolist() == [14, 11], "13 belongs to another image"
    assert sampler.load_sample(window, annot_ids=[]).annot_id.size == 0
    with raises(TargetError, key="annot_ids", match="77"):
        sampler.load_sample(window, annot_ids=[77])


@pytest.mark.parametrize("form", ["segmentation", ["boxes", "keypoints"], "boxes+segmentation", True])
def test_with_annots_chooses_the_geometry(dataset, tmp_path, form):
    sampler = ndzarr.CocoSampler(dataset[0], tmp_path / "work")
    [found] = sampler.load_sample(aid=11, with_annots=form).ndzarr.detections
    wanted = form.split("+") if isinstance(form, str) else ["segmentation", "keypoints"] if form is True else form
    assert ("segmentations" in found.data) == ("segmentation" in wanted)
    assert ("keypoints" in found.data) == ("keypoints" in wanted)


def test_without_annotations_there_are_no_annotation_columns(dataset, tmp_path):
    sampler = ndzarr.CocoSampler(dataset[0], tmp_path / "work")
    assert "bbox" not in sampler.load_sample(aid=11, with_annots=False)
    with raises(TargetError, key="with_annots"):
        sampler.load_sample(aid=11, with_annots="masks")


def test_segmentations_may_be_masks(dataset, tmp_path):
    import kwimage

    mask = np.zeros((300, 400), np.uint8)
    mask[50:70, 100:140] = 1
    rle = kwimage.Mask(mask, "c_mask").to_array_rle().to_coco(style="new")
    dataset[0]["annotations"][0]["segmentation"] = rle
    sampler = ndzarr.CocoSampler(kwcoco.CocoDataset(dataset[0]), tmp_path / "work")
    sample = sampler.load_sample(gid=1, space_slice=(slice(40, 140), slice(90, 190)), scale=0.5)
    shape = sample.ndzarr.detections[0].data["segmentations"].data[0]
    np.testing.assert_allclose(shape.box().to_xywh().data, [5, 5, 20, 10], atol=0.6)


def compressed(mask):
    """A mask as pycocotools writes it: run lengths along columns, in text of 6 bits a letter."""
    flat = mask.T.ravel()
    ends = np.r_[0, np.flatnonzero(np.diff(flat)) + 1, flat.size]
    runs = np.diff(ends).tolist() if not flat[0] else [0, *np.diff(ends).tolist()]
    text = ""
    for k, run in enumerate(runs):
        value, more = run - (runs[k - 2] if k > 2 else 0), True
        while more:
            letter, value = value & 31, value >> 5
            more = value != (-1 if letter & 16 else 0)
            text += chr(48 + letter + 32 * more)
    return {"counts": text, "size": list(mask.shape)}


@pytest.mark.parametrize("form", ["text", "bytes", "runs", "without size"])
def test_masks_of_frames_come_in_sample_pixels_in_image_and_in_video_space(film, form):
    mask = np.zeros((96, 120), np.uint8)
    mask[20:36, 40:70] = 1
    rle = compressed(mask)
    runs = np.diff(np.r_[0, np.flatnonzero(np.diff(mask.T.ravel())) + 1, mask.size]).tolist()
    rle = {
        "text": rle, "bytes": {**rle, "counts": rle["counts"].encode()}, "runs": {**rle, "counts": runs},
        "without size": {"counts": runs},
    }[form]  # fmt: skip
    content = copy.deepcopy(film.content)
    content["annotations"][3]["segmentation"] = rle
    content["videos"][0] |= {"width": 300, "height": 200}  # not the size of its frames, nor of their masks
    before = copy.deepcopy(rle)
    sampler = ndzarr.CocoSampler(content, film.workdir)
    for target, corner in (({"gid": 13}, (40, 20)), ({"gids": [13]}, (48, 24))):
        shape = sampler.load_sample(target).ndzarr.detections[0].data["segmentations"].data[0]
        np.testing.assert_allclose(shape.box().to_xywh().data.ravel(), [*corner, 30, 16], atol=1.1)
    assert rle == before
