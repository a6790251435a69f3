"""`ndzarr info`, `crop` and `verify` take TIFFs with tiles as they lie."""

import json

import numpy as np
import pytest
import tifffile

from helpers.arrays import photo

PIXELS = photo(300, 400)


@pytest.fixture
def scene(folder):
    path = folder / "scene.tif"
    with tifffile.TiffWriter(path) as tif:
        for k in (0, 1):
            image = np.ascontiguousarray(PIXELS[:: k + 1, :: k + 1])
            tif.write(image, tile=(64, 64), photometric="rgb", compression="zlib", subfiletype=k)
    return path


def test_info_says_that_a_file_is_read_in_place_with_its_own_levels(run, scene):
    text = run("info", scene).out
    assert "engine      tiles of scene.tif (adobe_deflate)" in text
    assert "in place    yes" in text
    [facts] = json.loads(run("info", scene, "--json").out)
    assert (facts["levels"], facts["chunks"]) == ([[3, 300, 400], [3, 150, 200]], [3, 64, 64])


def test_info_tells_that_a_file_has_a_mask(run, scene):
    with tifffile.TiffWriter(scene, append=True) as tif:
        tif.write(PIXELS[..., 0] > 100, tile=(64, 64), compression="zlib", subfiletype=4)
    assert "mask        yes" in run("info", scene).out


def test_info_says_why_a_file_is_not_read_in_place(run, folder):
    tifffile.imwrite(folder / "strips.tif", PIXELS, photometric="rgb", rowsperstrip=8)
    assert "in place    no: it has strips of 8 rows, not tiles" in run("info", "strips.tif").out
    tifffile.imwrite(folder / "small.tif", PIXELS, photometric="rgb", tile=(16, 16))
    text = run("info", "small.tif").out
    assert "in place    by ndzarr.open; samplers transcode it, as its tiles have 16 x 16 pixels" in text


def test_crop_cuts_a_window_out_of_a_file_that_lies(run, scene):
    run("crop", scene, "--x", "30:200", "--y", "10:90", "-o", "crop.npy")
    assert np.array_equal(np.load("crop.npy"), np.moveaxis(PIXELS[10:90, 30:200], -1, 0))
    run("crop", scene, "--level", "1", "-o", "half.npy")
    assert np.array_equal(np.load("half.npy"), np.moveaxis(PIXELS[::2, ::2], -1, 0))
    assert "tiles of scene.tif" in run("crop", scene, "--explain").out


def test_verify_decodes_every_tile(run, scene):
    assert f"{scene}: sound (2 levels, 47 chunks" in run("verify", scene).out
    with tifffile.TiffFile(scene) as tif:
        at = tif.pages[1].dataoffsets[3]
    with scene.open("r+b") as file:
        file.seek(at)
        file.write(bytes(20))
    text = run("verify", scene, code=1).out
    assert f"{scene}: 1 problem (2 levels" in text
    assert "level 1, the tile at row 0, column 192" in text
    scene.write_bytes(scene.read_bytes()[:3000])
    text = run("verify", scene, code=1).out
    assert f"{scene}: 1 problem" in text
    assert "truncated or damaged" in text
