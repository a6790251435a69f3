"""A pyramid read as a slide of OpenSlide, by code that takes slides."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr.adapters import Slide
from ndzarr.errors import OptionError, WindowError


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A slide of 0.25 µm pixels, and its pixels (y, x, c)."""
    path = tmp_path_factory.mktemp("slide") / "a.ome.tif"
    pixels = photo(700, 900)
    about = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    tifffile.imwrite(path, pixels, ome=True, tile=(128, 128), photometric="rgb", metadata=about)
    return Slide(ndzarr.transcode(path, path.with_name("a.zarr"))), pixels


def test_levels_and_properties_have_the_names_of_openslide(slide):
    slide, _ = slide
    assert slide.dimensions == slide.level_dimensions[0] == (900, 700)
    assert slide.level_count == len(slide.level_dimensions) == len(slide.level_downsamples)
    assert slide.level_dimensions[1:3] == ((450, 350), (225, 175))
    assert slide.level_downsamples[:3] == (1, 2, 4)
    assert float(slide.properties["openslide.mpp-x"]) == float(slide.properties["openslide.mpp-y"]) == 0.25
    assert slide.properties["openslide.level[1].width"] == "450"
    assert [slide.get_best_level_for_downsample(d) for d in (0.5, 1, 2, 3.9, 4)] == [0, 0, 1, 1, 2]
    with slide as same:
        assert same.associated_images == {}


def test_regions_are_transparent_outside(slide):
    slide, pixels = slide
    region = np.asarray(slide.read_region((880, -10), 0, (40, 30)))
    np.testing.assert_array_equal(region[10:, :20, :3], pixels[:20, 880:])
    assert (region[10:, :20, 3] == 255).all()
    assert not region[:10].any()
    assert not region[:, 20:].any()
    assert not np.asarray(slide.read_region((5000, 0), 1, (9, 9))).any()
    coarse = np.asarray(slide.read_region((200, 100), 1, (50, 40)))[..., :3]
    np.testing.assert_array_equal(
        coarse, slide.pyramid.read(level=1, y=slice(50, 90), x=slice(100, 150)).transpose(1, 2, 0)
    )
    assert slide.get_thumbnail((90, 90)).size == (90, 70)


def test_gray_and_alpha_have_colours_and_others_are_refused(tmp_path):
    gray = photo(60, 80)[..., 0]
    region = np.asarray(Slide(ndzarr.transcode(gray, tmp_path / "g.zarr")).read_region((0, 0), 0, (80, 60)))
    assert (region == np.dstack([gray] * 3 + [np.full_like(gray, 255)])).all()
    with raises(OptionError, path=tmp_path / "w.zarr"):
        Slide(ndzarr.transcode(gray.astype("u2"), tmp_path / "w.zarr"))
    whole = Slide(str(tmp_path / "g.zarr"))
    for key, wrong in (
        ("level", ((0, 0), 9, (5, 5))),
        ("size", ((0, 0), 0, (5, 0))),
        ("location", ((0.5, 0), 0, (5, 5))),
    ):
        with raises(WindowError, key=key):
            whole.read_region(*wrong)


def test_monai_reads_patches_of_it(slide):
    reader = pytest.importorskip("monai.data.wsi_reader")
    pytest.importorskip("openslide")
    slide, pixels = slide
    patch, about = reader.OpenSlideWSIReader().get_data(slide, location=(100, 200), size=(64, 48), level=0)
    np.testing.assert_array_equal(patch, pixels[100:164, 200:248].transpose(2, 0, 1))
    assert about["path"].endswith("a.zarr")
    halved, _ = reader.OpenSlideWSIReader().get_data(slide, location=(100, 200), size=(64, 48), mpp=0.5)
    np.testing.assert_array_equal(halved, slide.pyramid.read(level=1, y=slice(50, 114), x=slice(100, 148)))


def test_deep_zoom_tiles_are_made_of_it(slide):
    deepzoom = pytest.importorskip("openslide.deepzoom")
    slide, pixels = slide
    tiles = deepzoom.DeepZoomGenerator(slide, tile_size=128, overlap=0)
    np.testing.assert_array_equal(np.asarray(tiles.get_tile(tiles.level_count - 1, (2, 3))), pixels[384:512, 256:384])
    assert tiles.get_tile(tiles.level_count - 2, (0, 0)).size == (128, 128)
