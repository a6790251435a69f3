"""Tiles are the pixels that ndzarr reads, of whatever is opened."""

import numpy as np
import pytest
import tifffile

import ndzarr
from helpers import video_clips
from helpers.arrays import assert_same, photo, random_array
from helpers.errors import raises
from ndzarr.errors import OptionError

from .conftest import HEIGHT, WIDTH

TILE = 512


def reference(pixels, low, high):
    """Values between two limits as 0 to 255."""
    return np.rint(np.clip((pixels.astype(float) - low) * 255 / (high - low), 0, 255)).astype("u1")


@pytest.mark.parametrize("k", [0, 1, 3])
def test_the_tiles_of_a_level_are_its_pixels(sampler, viewer, tile, k):
    level = sampler.open(1).read(k) if k < 2 else None
    rows = [
        np.concatenate([tile(viewer, f"1/{k}/{row}/{column}") for column in range(-(-WIDTH // TILE >> k) or 1)], axis=1)
        for row in range(-(-HEIGHT // TILE >> k) or 1)
    ]
    found = np.moveaxis(np.concatenate(rows), -1, 0)
    height, width = (-(-n >> k) for n in (HEIGHT, WIDTH))
    whole = {"y": slice(0, height << k), "x": slice(0, width << k), "scale": 1 / 2**k}
    assert_same(found, sampler.load_sample(gid=1, **whole).image.values)
    if level is not None:
        assert_same(found, level)


def test_channels_have_contrast_colours_and_sums(sampler, viewer, tile):
    nir = sampler.load_sample(vidid=1, time_slice=slice(1, 2), channels="nir").image.values[0, 0]
    red = sampler.load_sample(vidid=1, time_slice=slice(1, 2), channels="red").image.values[0, 0]
    found = tile(viewer, "0/0/0/0", show="1,1000,50000.5,00ff00", t=1)
    assert_same(found[..., 1], reference(nir, 1000, 50000.5))
    assert not found[..., 0].any()
    assert not found[..., 2].any()
    both = tile(viewer, "0/0/0/0", show="1,0,65535,ff8000;0,0,30000,ff0000", t=1).astype(int)
    a, b = (reference(*given).astype(int) for given in ((red, 0, 30000), (nir, 0, 65535)))
    assert_same(both[..., 0], np.minimum(a + b, 255))
    assert_same(both[..., 1], np.rint(b * 128 / 255))


@pytest.mark.parametrize("form", ["store", "tiled TIFF", "video", "remote TIFF"])
def test_stores_files_in_place_and_remote_ones_are_shown(form, request, tmp_path, ask, tile):
    pixels, folder = photo(150, 130), tmp_path
    if form == "remote TIFF":
        pytest.importorskip("obstore")
        http = request.getfixturevalue("http")
        folder = http.folder
    if form == "store":
        path = ndzarr.transcode(pixels, folder / "a.zarr").path
    elif form == "video":
        path = folder / "a.mp4"
        video_clips.encode(path, n=5)
    else:
        path = folder / "a.tif"
        tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb")
    pyramid = ndzarr.open(f"{http.url}/a.tif" if form == "remote TIFF" else path)
    t = {"t": slice(3, 4)} if form == "video" else {}
    with ndzarr.Sampler({"a": pyramid}).view(browser=False) as viewer:
        found = tile(viewer, "0/0/0/0", **({"t": 3} if t else {}))
        assert_same(np.moveaxis(found, -1, 0), pyramid.read(**t).reshape(3, *pyramid.shape[-2:]))
        about = ask(viewer, "item/0").body
        assert (about["height"], about["width"]) == pyramid.shape[-2:]
        assert about["times"] == [f"{time:.3f} s" for time in pyramid.times or ()]


def test_planes_are_chosen_and_values_are_those_of_the_pixel(tmp_path, ask, tile):
    volume = random_array((2, 3, 40, 50), "f4")
    volume[1, 2, 5, 6] = np.nan
    pyramid = ndzarr.transcode(volume, tmp_path / "a.zarr", axes="czyx", nodata=np.nan)
    with ndzarr.Sampler([pyramid]).view(browser=False) as viewer:
        found = tile(viewer, "0/0/0/0", show="1,-50,50,ffffff", z=2)
        assert_same(found[..., 0], reference(np.nan_to_num(volume[1, 2], nan=-50), -50, 50))
        assert (found[..., 3] == np.where(np.isnan(volume[1, 2]), 0, 255)).all()
        assert ask(viewer, "item/0").body["planes"] == 3
        assert ask(viewer, "values/0", z=1, y=7, x=8).body == [f"{v:.6g}" for v in volume[:, 1, 7, 8].tolist()]
        assert ask(viewer, "values/0", z=2, y=5, x=6).body == [f"{volume[0, 2, 5, 6]:.6g}", "nan"]


def test_labels_have_a_colour_for_each_value(tmp_path, ask, tile):
    labels = np.repeat(np.repeat(np.array([[0, 1, 2], [3, 300, 70000]], "i4"), 8, 0), 8, 1)
    with ndzarr.Sampler([ndzarr.transcode(labels, tmp_path / "a.zarr", kind="labels")]).view(browser=False) as viewer:
        assert ask(viewer, "item/0").body["kind"] == "labels"
        found = tile(viewer, "0/0/0/0", show="0,0,1,ffffff")
    colours = [tuple(found[8 * i + 4, 8 * j + 4].tolist()) for i in (0, 1) for j in (0, 1, 2)]
    assert colours[0] == (0, 0, 0)
    assert len(set(colours)) == 6
    assert all(
        (found[8 * i : 8 * i + 8, 8 * j : 8 * j + 8] == colours[3 * i + j]).all() for i in (0, 1) for j in (0, 1)
    )


def test_contrast_begins_with_what_the_pixels_need(viewer, ask):
    red, nir = ask(viewer, "item/0").body["channels"]
    assert (red["name"], nir["name"]) == ("red", "nir")
    assert 0 <= red["minimum"] <= red["low"] < red["high"] <= red["maximum"] <= 65535
    photograph = ask(viewer, "item/1").body
    assert [(c["color"], c["low"], c["high"], c["visible"]) for c in photograph["channels"]] == [
        ("FF0000", 0, 255, True), ("00FF00", 0, 255, True), ("0000FF", 0, 255, True),
    ]  # fmt: skip
    assert sum(photograph["channels"][0]["histogram"]) > 1000


def test_the_copied_call_loads_the_window(sampler, viewer, ask, tmp_path):
    window, show = "100,300,200,500", "0,0,255,ff0000;2,0,255,0000ff"
    found = ask(viewer, "call/1", window=window, k=1, show=show).body
    sample = eval(found, {"sampler": sampler})
    assert_same(sample.image.values, sampler.open(1).read(1, c=["r", "b"], y=slice(50, 150), x=slice(100, 250)))
    clip = eval(ask(viewer, "call/0", window="0,120,0,60", show="0,0,1,ffffff", t=1).body, {"sampler": sampler})
    assert clip.image.shape == (1, 1, 120, 60)
    assert clip.gid.values.tolist() == [3]

    pyramid = ndzarr.transcode(random_array((4, 3, 400, 70), "u1"), tmp_path / "it's.zarr", axes="tcyx")
    with ndzarr.Sampler([pyramid]).view(browser=False) as other:
        call = ask(other, "call/0", window="0,400,10,70", t=2, k=1, show=show).body
    assert_same(eval(call, {"ndzarr": ndzarr}).values, pyramid.read(1, t=slice(2, 3), c=[0, 2], x=slice(5, 35)))


def test_a_picture_beside_the_image_is_one_more_item(viewer, ask, tile, tmp_path, content):
    heat = ndzarr.transcode(photo(HEIGHT // 2, WIDTH // 2), tmp_path / "heat.zarr")
    with ndzarr.CocoSampler(content, tmp_path).view(beside=heat, browser=False) as both:
        listed = ask(both, "items").body
        assert listed["beside"] == 2
        assert [item["name"] for item in listed["items"]] == ["<b>clip</b>", "photo.png", "heat.zarr"]
        assert_same(np.moveaxis(tile(both, "2/0/0/0"), -1, 0), heat.read())
        assert [item["number"] for item in ask(both, "items", find="PHOTO").body["items"]] == [1]


def test_what_cannot_be_read_is_told_with_its_reason(tmp_path, ask):
    pyramid = ndzarr.transcode(photo(100, 100), tmp_path / "a.zarr")
    with ndzarr.Sampler([pyramid]).view(browser=False) as viewer:
        for file in (tmp_path / "a.zarr/0/image/c").rglob("*"):
            if file.is_file():
                file.write_bytes(bytes(file.stat().st_size))
        found = ask(viewer, "tile/0/0/0/0", show="0,0,255,ffffff")
    assert found.status == 500
    assert pyramid.path in found.body


def test_a_port_that_is_taken_is_an_error(viewer, sampler):
    port = int(viewer.url.split(":")[2].split("/")[0])
    with raises(OptionError, key="port", hint="Choose another"):
        sampler.view(port=port, browser=False)
