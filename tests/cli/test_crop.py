"""`ndzarr crop`: every format holds the window exactly, or says why it cannot."""

import os
import re
import sys

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image

import ndzarr
from helpers.subprocesses import run_on_small_disk

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

RNG = np.random.default_rng(0)


def noise(shape, dtype="u1"):
    values = RNG.integers(0, 200, shape)
    return (values * (1 + 0.5j)).astype(dtype) if np.dtype(dtype).kind == "c" else values.astype(dtype)


def pixels_of(name):
    """An image as Pillow reads it."""
    with Image.open(name) as image:
        return np.asarray(image)


@pytest.fixture
def rgb(store):
    """Pixels (c, y, x) of the store a.zarr."""
    array = noise((300, 400, 3))
    store(array, axes="yxc", channels=["r", "g", "b"])
    return np.moveaxis(array, -1, 0)


def test_a_png_holds_the_window(run, rgb):
    out = run("crop", "a.zarr", "--x", "10:100", "--y", "20:70", "-o", "a.png").out
    assert out.startswith("wrote a.png (c: 3, y: 50, x: 90) uint8, ")
    assert np.array_equal(pixels_of("a.png"), np.moveaxis(rgb[:, 20:70, 10:100], 0, -1))


def test_without_a_window_all_is_written(run, rgb):
    run("crop", "a.zarr", "-o", "a.npy")
    assert np.array_equal(np.load("a.npy"), rgb)


def test_output_pixels_have_the_size_that_is_asked_for(run, folder):
    about = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    tifffile.imwrite("cells.ome.tif", noise((128, 192)), ome=True, tile=(64, 64), metadata=about)
    expected = ndzarr.open("cells.ome.tif").window(x=slice(0, 64), scale=0.5)
    for size in ("0.5um", "0.5 \u00b5m", "500 nm"):
        run("crop", "cells.ome.tif", "--x", "0:64", "--resolution", size, "-o", "a.npy", "--overwrite")
        assert np.array_equal(np.load("a.npy"), expected)
    for wrong in ("0,5 um", "20x", "1 s"):
        assert "--resolution" in run("crop", "cells.ome.tif", "--resolution", wrong, "-o", "b.npy", code=1).err
    out = run("crop", "cells.ome.tif", "--resolution", "1um", "--scale", "0.5", "-o", "b.npy", code=2)
    assert "--scale and --resolution" in out.err


def test_an_image_of_a_file_and_the_class_numbers_of_a_palette_can_be_chosen(run, folder):
    images = [noise((64, 96)), RNG.integers(0, 4, (80, 64)).astype("u1")]
    table = np.zeros((3, 256), "u2")
    with tifffile.TiffWriter("two.tif") as file:
        file.write(images[0], tile=(32, 32), photometric="minisblack")
        file.write(images[1], tile=(32, 32), photometric="palette", colormap=table)
    run("crop", "two.tif", "--series", "1", "--palette", "indices", "-o", "a.npy")
    assert np.array_equal(np.load("a.npy")[0], images[1])


def test_either_end_of_a_window_may_be_left_out(run, rgb):
    run("crop", "a.zarr", "--x", "350:", "--y", ":9", "-o", "a.npy")
    assert np.array_equal(np.load("a.npy"), rgb[:, :9, 350:])


def test_a_window_may_lie_partly_outside(run, rgb):
    run("crop", "a.zarr", "--x", "-5:10", "--y=295:310", "-o", "a.npy")
    expected = np.zeros((3, 15, 15), "u1")
    expected[:, :5, 5:] = rgb[:, 295:, :10]
    assert np.array_equal(np.load("a.npy"), expected)


@pytest.mark.parametrize(("asked", "picks"), [("b,r", [2, 0]), ("1", [1]), ("2,g", [2, 1])])
def test_channels_are_chosen_by_name_or_position_in_the_order_asked_for(run, rgb, asked, picks):
    run("crop", "a.zarr", "--c", asked, "--y", "0:5", "-o", "a.npy")
    assert np.array_equal(np.load("a.npy"), rgb[picks, :5])


def test_scaled_windows_are_those_of_the_library(run, rgb):
    run("crop", "a.zarr", "--x", "0:200", "--y", "0:100", "--scale", "0.3", "-o", "a.npy")
    expected = ndzarr.open("a.zarr").window(x=slice(0, 200), y=slice(0, 100), scale=0.3)
    assert np.array_equal(np.load("a.npy"), expected)
    assert np.load("a.npy").shape == (3, 30, 60)


def test_a_level_is_read_as_it_is_stored(run, rgb):
    run("crop", "a.zarr", "--level", "1", "--x", "10:50", "-o", "a.npy")
    assert np.array_equal(np.load("a.npy"), ndzarr.open("a.zarr").read(1, x=slice(10, 50)))
    assert "level 9 does not exist" in run("crop", "a.zarr", "--level", "9", "-o", "b.npy", code=1).err


@pytest.mark.parametrize(("asked", "index"), [("2", [2]), ("3,0", [3, 0]), ("1:3", [1, 2]), ("::2", [0, 2])])
def test_frames_are_chosen_by_index_or_interval(run, folder, store, asked, index):
    array = noise((4, 20, 30))
    store(array, axes="tyx")
    run("crop", "a.zarr", "--t", asked, "-o", "a.npy")
    assert np.array_equal(np.load("a.npy"), array[index][:, None])


@pytest.mark.parametrize(
    ("channels", "dtype", "mode"),
    [("r g b", "u1", "RGB"), ("r g b a", "u1", "RGBA"), ("y", "u1", "L"), ("y a", "u1", "LA"), ("y", "u2", "I;16")],
)
def test_png_in_all_its_modes_is_as_pillow_reads_it(run, store, channels, dtype, mode):
    array = noise((20, 30, len(channels.split())), dtype)
    store(array, axes="yxc", channels=channels.split())
    run("crop", "a.zarr", "-o", "a.png")
    with Image.open("a.png") as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image).reshape(array.shape), array)


def test_png_of_sixteen_bit_colour_keeps_all_bits(run, store):
    array = noise((20, 30, 3), "u2") * 300
    store(array, axes="yxc", channels=["r", "g", "b"])
    run("crop", "a.zarr", "-o", "a.png")
    run("transcode", "a.png", "-o", "b.zarr")
    assert np.array_equal(ndzarr.open("b.zarr").read(), np.moveaxis(array, -1, 0))


def test_jpeg_is_near(run, folder, picture):
    pixels = picture("photo.png")
    run("transcode", "photo.png", "-o", "a.zarr")
    for name in ("a.jpg", "b.JPEG"):
        run("crop", "a.zarr", "--x", "0:128", "--y", "0:128", "-o", name)
        with Image.open(name) as image:
            assert np.abs(np.asarray(image).astype(int) - pixels[:128, :128]).mean() < 6


@pytest.mark.parametrize(
    ("shape", "axes", "dtype", "options", "name", "words"),
    [
        ((9, 9), "yx", "f4", [], "a.png", "PNG holds uint8 and uint16, not float32. Write a.tif or a.npy"),
        ((9, 9), "yx", "u2", [], "a.jpg", "JPEG holds uint8, not uint16. Write a.tif or a.npy"),
        ((9, 9), "yx", "?", [], "a.png", "not bool"),
        ((3, 9, 9), "tyx", "u1", [], "a.png", "holds one image, not 3 along t. Choose one with --t"),
        ((5, 9, 9), "cyx", "u1", [], "a.png", "not the 5 channels c0 c1 c2 c3 c4. Choose one or three with --c"),
        ((5, 9, 9), "cyx", "u1", ["--c", "0,1,2,3"], "a.png", "not the 4 channels c0 c1 c2 c3"),
        ((9, 9), "yx", "u1", ["--z", "0"], "a.png", "--z: .*a.zarr has no axis z, only c y x"),
        ((9, 9), "yx", "u1", ["--c", "red"], "a.png", "channel 'red' is not in"),
        ((9, 9), "yx", "u1", ["--x", "5:5"], "a.png", "--x 5:5 is empty"),
        ((9, 9), "yx", "u1", [], "a.pgn", "a.pgn: its suffix does not say which format; did you mean '.png'"),
        ((9, 9), "yx", "u1", [], "a", "its suffix does not say which format"),
        ((9, 9), "yx", "u1", [], "nowhere/a.png", "the directory .* does not exist"),
    ],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_an_error_and_leaves_nothing(
    run, folder, store, shape, axes, dtype, options, name, words
):
    store(noise(shape, dtype), axes=axes)
    err = run("crop", "a.zarr", *options, "-o", name, code=1).err
    assert re.search(words, err), err
    assert sorted(os.listdir(folder)) == ["a.zarr"]


def test_one_frame_of_a_video_fits_a_png(run, store):
    array = noise((3, 9, 8))
    store(array, axes="tyx")
    run("crop", "a.zarr", "--t", "1", "-o", "a.png")
    assert np.array_equal(pixels_of("a.png"), array[1])


def test_a_file_that_exists_is_kept_unless_told_to_overwrite(run, rgb, folder):
    (folder / "a.png").write_text("keep me")
    (folder / "folder.png").mkdir()
    assert "exists already" in run("crop", "a.zarr", "-o", "a.png", code=1).err
    assert (folder / "a.png").read_text() == "keep me"
    assert "is a directory" in run("crop", "a.zarr", "-o", "folder.png", "--overwrite", code=1).err
    run("crop", "a.zarr", "-o", "a.png", "--overwrite")
    assert pixels_of("a.png").shape == (300, 400, 3)
    assert sorted(os.listdir(folder)) == ["a.png", "a.zarr", "folder.png"]


def test_a_damaged_store_leaves_no_file_and_keeps_the_old_one(run, rgb, folder):
    (folder / "a.png").write_text("keep me")
    [shard] = [p for p in (folder / "a.zarr/0/image/c").rglob("*") if p.is_file()]
    data = bytearray(shard.read_bytes())
    data[1000] ^= 255
    shard.unlink()
    shard.write_bytes(data)
    assert str(shard) in run("crop", "a.zarr", "-o", "a.png", "--overwrite", code=1).err
    assert (folder / "a.png").read_text() == "keep me"
    assert sorted(os.listdir(folder)) == ["a.png", "a.zarr"]


def test_explain_says_what_is_read_with_or_without_writing(run, rgb, folder):
    out = run("crop", "a.zarr", "--x", "0:64", "--y", "0:64", "--explain").out
    assert "windows       1\nchunks        1 (" in out
    assert "engine        local files: 1 chunks" in out
    out = run("crop", "a.zarr", "--level", "1", "--explain", "-o", "a.png").out
    assert "amplification" in out
    assert "wrote a.png" in out


# TIFF


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16"])
def test_tiff_holds_every_type(run, store, dtype):
    array = noise((20, 30), dtype)
    store(array)
    run("crop", "a.zarr", "-o", "a.tif")
    found = tifffile.imread("a.tif")
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


TIFFS = {
    "grey": ("yx", (20, 30), ["y"], "YX", "MINISBLACK", 1),
    "colour": ("yxc", (20, 30, 3), ["r", "g", "b"], "YXS", "RGB", 3),
    "colour and alpha": ("yxc", (20, 30, 4), ["red", "green", "blue", "alpha"], "YXS", "RGB", 4),
    "false colour": ("cyx", (3, 20, 30), ["nir", "r", "g"], "CYX", "MINISBLACK", 3),
    "five bands": ("cyx", (5, 20, 30), list("abcde"), "CYX", "MINISBLACK", 5),
    "video": ("tyx", (4, 20, 30), ["y"], "TYX", "MINISBLACK", 1),
    "colour video": ("tyxc", (4, 20, 30, 3), ["r", "g", "b"], "TYXS", "RGB", 3),
    "bands in time": ("tcyx", (4, 2, 20, 30), ["a", "b"], "TCYX", "MINISBLACK", 1),
    "volume": ("zyx", (4, 20, 30), ["y"], "ZYX", "MINISBLACK", 1),
    "everything": ("tczyx", (2, 2, 3, 20, 30), ["a", "b"], "TCZYX", "MINISBLACK", 1),
}


@pytest.mark.parametrize("name", TIFFS)
def test_tiff_has_the_axes_and_colours_of_the_store(run, store, name):
    axes, shape, channels, expected_axes, photometric, samples = TIFFS[name]
    array = noise(shape)
    store(array, axes=axes, channels=channels)
    run("crop", "a.zarr", "-o", "a.tif")
    with tifffile.TiffFile("a.tif") as tiff:
        [series] = tiff.series
        assert series.axes.replace("S", "C" if expected_axes[0] == "C" else "S") == expected_axes
        assert tiff.pages[0].photometric.name == photometric
        assert tiff.pages[0].samplesperpixel == samples
        assert tiff.pages[0].dtype == "uint8"
    run("transcode", "a.tif", "-o", "b.zarr")
    a, b = ndzarr.open("a.zarr"), ndzarr.open("b.zarr")
    assert b.dims == a.dims
    assert np.array_equal(b.read(), a.read())


@pytest.mark.parametrize("name", ["grey", "colour", "colour and alpha", "false colour", "five bands"])
def test_tiff_is_as_gdal_reads_it(run, store, name):
    axes, shape, channels, _, _, samples = TIFFS[name]
    store(noise(shape, "u2"), axes=axes, channels=channels, nodata=7)
    run("crop", "a.zarr", "-o", "a.tif")
    with rasterio.open("a.tif") as image:
        assert image.count == samples
        assert image.nodata == 7
        assert np.array_equal(image.read(), ndzarr.open("a.zarr").read())
        names = [c.name for c in image.colorinterp]
    assert names[:3] == (
        ["red", "green", "blue"] if "colour" in name and "false" not in name else ["gray", *["undefined"] * 2][:samples]
    )


def test_tiff_states_nan_as_nodata(run, store):
    store(np.full((9, 9), np.nan, "f4"), nodata=np.nan)
    run("crop", "a.zarr", "-o", "a.tif")
    with rasterio.open("a.tif") as image:
        assert np.isnan(image.nodata)


def test_ome_tiff_names_axes_and_channels(run, store):
    array = noise((2, 3, 20, 30))
    store(array, axes="tcyx", channels=["dapi", "gfp", "rfp"])
    run("crop", "a.zarr", "-o", "a.ome.tif")
    with tifffile.TiffFile("a.ome.tif") as tiff:
        assert tiff.is_ome
        assert tiff.series[0].axes == "TCYX"
        assert np.array_equal(tiff.asarray(), array)
        assert all(f'Name="{c}"' in tiff.ome_metadata for c in ("dapi", "gfp", "rfp"))


@pytest.mark.slow
def test_an_array_on_a_full_disk_leaves_nothing(folder):
    ndzarr.transcode(np.random.default_rng(0).integers(0, 255, (2000, 1000), "u1"), "a.zarr")
    command = f"{sys.executable} -m ndzarr crop a.zarr -o disk/a.npy || echo $? && ls -A disk"
    done = run_on_small_disk(folder / "disk", "sh", "-c", command)
    assert done.stdout == "1\n"
    assert "the disk is full; nothing was kept" in done.stderr
    assert done.stderr.count("\n") == 1
