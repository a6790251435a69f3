"""What viewers are told: the values to show, colours that add up to a picture, classes, units and times."""

import warnings

import numpy as np
import pytest

import ndzarr
from helpers.metadata_schemas import validate_ome
from helpers.pyramids import make

RNG = np.random.default_rng(0)


def omero(pyramid):
    return pyramid.attrs["ome"]["omero"]["channels"]


def test_floats_are_shown_between_percentiles_of_their_real_pixels(tmp_path):
    pixels = RNG.normal(500, 10, (2, 400, 300)).astype("f4")
    pixels[1] *= 100
    pixels[:, :50] = -9999
    pixels[0, 60, 60] = 1e9
    pixels[1, 100] = np.nan
    pixels[1, 110] = np.inf
    pyr = ndzarr.transcode(pixels, tmp_path / "a.zarr", nodata=-9999)
    for channel, scale in zip(omero(pyr), (1, 100), strict=True):
        window = channel["window"]
        assert 480 * scale < window["start"] < 500 * scale < window["end"] < 530 * scale
        assert window["min"] <= window["start"]
        assert window["max"] >= window["end"]


def test_integers_of_more_than_8_bits_are_shown_between_percentiles(tmp_path):
    pyr = ndzarr.transcode(RNG.integers(200, 900, (1, 300, 300), dtype="u2"), tmp_path / "a.zarr")
    [channel] = omero(pyr)
    assert channel["window"]["min"] == 0
    assert channel["window"]["max"] == 65535
    assert 200 <= channel["window"]["start"] < 550 < channel["window"]["end"] <= 900


def test_pictures_of_8_bits_are_shown_as_they_are(tmp_path):
    pyr = ndzarr.transcode(RNG.integers(9, 90, (30, 30, 3), dtype="u1"), tmp_path / "a.zarr")
    assert [c["window"] for c in omero(pyr)] == [{"min": 0, "max": 255, "start": 0, "end": 255}] * 3
    assert [c["color"] for c in omero(pyr)] == ["FF0000", "00FF00", "0000FF"]


def test_the_colours_of_a_picture_share_their_window(tmp_path):
    pixels = np.stack([RNG.integers(0, top, (64, 64)) for top in (1000, 2000, 9000)], -1).astype("u2")
    windows = [c["window"] for c in omero(ndzarr.transcode(pixels, tmp_path / "a.zarr", channels=["r", "g", "b"]))]
    assert windows[0] == windows[1] == windows[2]
    assert windows[0]["end"] > 8000


def test_an_image_of_one_value_has_a_window(tmp_path):
    for dtype, value in (("f4", 3), ("u2", 65535), ("i4", -5), ("f4", np.nan)):
        pyr = ndzarr.transcode(np.full((1, 9, 9), value, dtype), tmp_path / "a.zarr", overwrite=True)
        window = omero(pyr)[0]["window"]
        assert np.isfinite(list(window.values())).all()
        assert window["start"] <= window["end"]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 12])
def test_colours_of_shown_channels_add_up_to_white(tmp_path, n):
    pyr = ndzarr.transcode(np.ones((n, 8, 8), "f4"), tmp_path / "a.zarr", channels=[f"band {k}" for k in range(n)])
    shown = [int(c["color"], 16).to_bytes(3, "big") for c in omero(pyr) if c["active"]]
    assert np.array(list(map(list, shown))).sum(0).tolist() == [255] * 3


def test_red_green_and_blue_among_bands_make_the_picture(tmp_path):
    names = ["coastal", "blue", "green", "red", "nir"]
    pyr = ndzarr.transcode(np.ones((5, 8, 8), "u2"), tmp_path / "a.zarr", channels=names)
    assert [(c["color"], c["active"]) for c in omero(pyr)] == [
        ("FFFFFF", False), ("0000FF", True), ("00FF00", True), ("FF0000", True), ("FFFFFF", False),
    ]  # fmt: skip


def test_classes_are_labels_with_the_colours_of_their_palette(tmp_path):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Label, Reader
    from PIL import Image

    image = Image.fromarray(np.arange(64, dtype="u1").reshape(8, 8) % 3, "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png")
    pyr = ndzarr.transcode(tmp_path / "a.png", tmp_path / "a.zarr", kind="labels")
    assert "omero" not in pyr.attrs["ome"]
    assert pyr.attrs["ome"]["image-label"]["colors"][1] == {"label-value": 1, "rgba": [0, 255, 0, 255]}
    validate_ome(pyr.attrs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        [node] = Reader(parse_url(pyr.path))()
    assert any(isinstance(spec, Label) for spec in node.specs)
    plain = ndzarr.transcode(np.ones((1, 8, 8), "i4"), tmp_path / "b.zarr", kind="labels")
    validate_ome(plain.attrs)
    assert plain.attrs["ome"]["image-label"] == {}


def test_even_times_are_the_scale_of_t(tmp_path):
    video = RNG.integers(0, 255, (4, 1, 300, 300), dtype="u1")
    pyr = make(tmp_path, video, tuple("tcyx"), times=np.array([5, 5.5, 6.01, 6.5]))
    image = pyr.attrs["ome"]["multiscales"][0]
    assert image["axes"][0] == {"name": "t", "type": "time", "unit": "second"}
    for dataset in image["datasets"]:
        scale, translation = dataset["coordinateTransformations"]
        assert scale["scale"][0] == pytest.approx(0.5)
        assert translation["translation"][0] == 5
    pyr = make(tmp_path, video, tuple("tcyx"), times=np.array([0, 1, 2, 30]), overwrite=True)
    assert pyr.attrs["ome"]["multiscales"][0]["axes"][0] == {"name": "t", "type": "time"}


def test_metadata_are_as_strict_as_the_specification_recommends(tmp_path):
    validate_ome(ndzarr.transcode(np.ones((1, 8, 8), "f4"), tmp_path / "a.zarr").attrs, strict=True)
