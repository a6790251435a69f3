"""`ndzarr cog` writes and checks cloud optimized GeoTIFFs."""

import signal
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.arrays import photo
from ndzarr._export.validate import validate_cog


@pytest.fixture
def image():
    return photo(600, 700).transpose(2, 0, 1)


def test_one_store_becomes_one_file(run, store, folder, image):
    result = run("cog", store(image), "-o", "a.tif", "--compression", "zstd", "--blocksize", 128)
    assert result.out == "wrote a.tif\n"
    assert validate_cog("a.tif").ok
    assert np.array_equal(np.moveaxis(tifffile.imread("a.tif"), -1, 0), image)


def test_several_stores_become_files_of_a_directory_and_bad_ones_cost_nothing_else(run, store, folder, image):
    paths = [store(image[:, :n], f"{n}.zarr") for n in (100, 200, 300)]
    result = run("cog", *paths, "missing.zarr", "-o", "out/", code=1)
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["100.tif", "200.tif", "300.tif"]
    assert "wrote 3 of 4 files" in result.out
    assert "missing.zarr" in result.err
    again = run("cog", *paths, "-o", "out", "--skip-existing")
    assert again.out == "wrote 0 of 3 files, left 3 as they were\n"


def test_an_image_file_is_transcoded_on_the_way(run, folder, image):
    Image.fromarray(image.transpose(1, 2, 0)).save("scan.png")
    run("cog", "--from-image", "scan.png", "-o", "scan.tif")
    assert np.array_equal(np.moveaxis(tifffile.imread("scan.tif"), -1, 0), image)
    assert sorted(p.name for p in folder.iterdir()) == ["scan.png", "scan.tif"]


def test_files_are_checked_and_the_exit_code_says_so(run, store, folder, image):
    run("cog", store(image), "-o", "good.tif")
    tifffile.imwrite("bad.tif", image.transpose(1, 2, 0))
    assert "a valid cloud optimized GeoTIFF" in run("cog", "--validate", "good.tif").out
    assert run("cog", "--validate", "good.tif", "-q").out == ""
    result = run("cog", "--validate", "bad.tif", "good.tif", "none.tif", code=1)
    assert "not a valid cloud optimized GeoTIFF" in result.out
    assert "has strips, not tiles" in result.out
    assert "none.tif: no such file" in result.err
    assert "leave out" in run("cog", "--validate", "good.tif", "-o", "b.tif", code=2).err


def test_an_existing_file_and_two_of_one_name_are_refused(run, store, folder, image):
    path = store(image)
    (folder / "a.tif").write_text("mine")
    assert "exists already" in run("cog", path, "-o", "a.tif", code=1).err
    (folder / "other").mkdir()
    result = run("cog", path, store(image, "other/a.zarr"), "-o", "out/", code=2)
    assert "would both become" in result.err
    assert "say what to write" in run("cog", path, code=2).err
    assert "name at least one" in run("cog", "-o", "a.tif", code=2).err


def test_options_that_do_not_fit_say_which_do(run, store, folder, image):
    result = run("cog", store(image.astype("u2")), "-o", "a.tif", "--compression", "jpeg", code=1)
    assert "Use --compression zstd" in result.err


@pytest.mark.slow
def test_an_interrupted_export_leaves_nothing(shell, store, folder):
    path = store(np.random.default_rng(0).integers(0, 255, (3, 4000, 4000), np.uint8))
    process = shell("cog", path, "-o", "a.tif", "--compression", "zstd", "--level", 22)
    deadline = time.monotonic() + 60
    while not list(folder.glob(".a.tif.*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert [p.name for p in folder.iterdir()] == ["a.zarr"]


def test_what_is_odd_about_an_image_is_told_where_it_is_converted(run, folder, image):
    rgb = image.transpose(1, 2, 0)
    with tifffile.TiffWriter("two.tif") as file:
        file.write(rgb, photometric="rgb", tile=(256, 256))
        file.write(rgb[:99, :99], photometric="rgb", tile=(256, 256))
    for command in (["cog", "--from-image", "two.tif", "-o", "a.tif"], ["transcode", "two.tif", "-o", "a.zarr"]):
        assert "two.tif: 1 other images of the file" in run(*command).err
        assert run(*command, "--overwrite", "--quiet").err == ""


def test_several_files_are_not_put_into_a_directory_that_looks_like_a_file(run, folder):
    for name in "ab":
        ndzarr.transcode(np.zeros((9, 9), np.uint8), f"{name}.zarr")
    assert "such as cogs/" in run("cog", "a.zarr", "b.zarr", "-o", "c.tif", code=2).err
    assert not (folder / "c.tif").exists()
