"""The choice of one of the images of a TIFF."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import ndzarr
from helpers.errors import raises
from ndzarr.cli import main
from ndzarr.errors import OptionError, StoreError

TILES = {"tile": (32, 32)}


@pytest.fixture
def slide(rng, tmp_path):
    """An Aperio slide, as its description makes tifffile see one; its label and macro have strips, as real ones do."""
    images = [rng.integers(0, 256, (*size, 3)).astype("u1") for size in ((128, 160), (64, 80), (40, 50), (45, 90))]
    path = tmp_path / "slide.svs"
    with tifffile.TiffWriter(path) as tif:
        names = ("", "", "label 50x40", "macro 90x45")
        for k, (image, name) in enumerate(zip(images, names, strict=True)):
            how = TILES if k == 0 else {}
            about = f"Aperio Image Library v1\r\n{name}|AppMag = 20|MPP = 0.5"
            tif.write(image, photometric="rgb", description=about, metadata=None, subfiletype=(0, 0, 1, 9)[k], **how)
    return path, dict(zip(("Baseline", "Thumbnail", "Label", "Macro"), images, strict=True))


@pytest.fixture
def ome(rng, tmp_path):
    """An OME-TIFF of two images."""
    images = {name: rng.integers(0, 256, (2, n, 80)).astype("u2") for name, n in (("first", 64), ("second", 96))}
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for name, image in images.items():
            channels = {"Name": [f"{name} {k}" for k in range(2)]}
            tif.write(image, metadata={"axes": "CYX", "Name": name, "Channel": channels}, **TILES)
    return path, images


def listed(path) -> list[dict]:
    found = CliRunner().invoke(main, ["info", "--json", str(path)], catch_exceptions=False)
    return json.loads(found.stdout)[0]["source"]["series"]


class TestSlides:
    def test_all_images_are_listed(self, slide):
        path, images = slide
        with tifffile.TiffFile(path) as tif:
            want = [(k, s.name, list(s.shape)) for k, s in enumerate(tif.series)]
        found = [(s["number"], s["name"], s["shape"]) for s in listed(path)]
        assert found == want
        assert {name for _, name, _ in found} == set(images)
        text = CliRunner().invoke(main, ["info", str(path)]).stdout
        assert all(name in text for name in images)

    @pytest.mark.parametrize("name", ["Baseline", "Label", "label", "MACRO"])
    def test_an_image_is_chosen_by_name_everywhere(self, name, slide, tmp_path):
        path, images = slide
        want = np.moveaxis(images[name.title()], -1, 0)
        made = ndzarr.transcode(path, tmp_path / "s.zarr", series=name)
        assert np.array_equal(made.read(), want)
        if name == "Baseline":
            assert np.array_equal(ndzarr.open(path, series=name).read(), want)
        else:
            with raises(StoreError, path=path) as caught:
                ndzarr.open(path, series=name)
            assert f"series={name.title()!r}" in caught.value.hint
        image = {"id": 1, "file_name": str(path), "width": want.shape[2], "height": want.shape[1], "series": name}
        for transcode in ("always", "auto"):
            sampler = ndzarr.CocoSampler({"images": [image]}, tmp_path / "w", transcode=transcode)
            assert np.array_equal(sampler.load_sample(gid=1).image.values, want)

    def test_pictures_of_the_label_and_the_glass_are_images_without_the_size_of_the_scan(self, slide, tmp_path):
        path, _ = slide
        opened = ndzarr.open(path)
        assert opened.notes == ("3 other images of the file are not read; series= chooses one: "
                                "1 Thumbnail, 2 Label, 3 Macro",)  # fmt: skip
        assert opened.pixel_size.x.value == 0.5
        for name in ("Thumbnail", "Label", "Macro"):
            made = ndzarr.transcode(path, tmp_path / "s.zarr", series=name, overwrite=True)
            assert made.pixel_size is None

    def test_an_image_is_chosen_by_number(self, slide, tmp_path):
        path, images = slide
        numbers = {s["name"]: s["number"] for s in listed(path)}
        for name, image in images.items():
            store = ndzarr.transcode(path, tmp_path / "s.zarr", series=numbers[name], overwrite=True)
            assert np.array_equal(store.read(), np.moveaxis(image, -1, 0))

    def test_the_command_line_chooses_too(self, slide, tmp_path):
        path, images = slide
        command = ["transcode", str(path), "-o", str(tmp_path / "s.zarr"), "--series", "label", "--quiet"]
        assert CliRunner().invoke(main, command, catch_exceptions=False).exit_code == 0
        assert np.array_equal(ndzarr.open(tmp_path / "s.zarr").read(), np.moveaxis(images["Label"], -1, 0))

    @pytest.mark.parametrize("series", ["lable", 17])
    @pytest.mark.parametrize("how", ["open", "transcode"])
    def test_an_image_that_is_not_there_is_an_error_that_lists_them(self, series, how, slide, tmp_path):
        path, images = slide
        attempt = ndzarr.open if how == "open" else partial(ndzarr.transcode, dest=tmp_path / "s.zarr")
        with pytest.raises(OptionError) as caught:
            attempt(path, series=series)
        assert (caught.value.key, caught.value.path) == ("series", str(path))
        assert all(name in caught.value.hint for name in images)


class TestOme:
    def test_names_of_channels_are_those_of_the_image(self, ome, tmp_path):
        path, images = ome
        for number, (name, image) in enumerate(images.items()):
            for pyramid in (
                ndzarr.open(path, series=name),
                ndzarr.open(path, series=number),
                ndzarr.transcode(path, tmp_path / "s.zarr", series=name, overwrite=True),
            ):
                assert np.array_equal(pyramid.read(), image)
                assert pyramid.channels == (f"{name} 0", f"{name} 1")


@pytest.mark.parametrize("series", [-1, True, "", 1.5, ["label"]])
def test_what_is_no_name_and_no_number_is_refused(series, ome, tmp_path):
    with pytest.raises(OptionError) as caught:
        ndzarr.transcode(ome[0], tmp_path / "s.zarr", series=series)
    assert caught.value.key == "series"


def test_files_of_one_image_take_no_series(rng, tmp_path):
    np.save(tmp_path / "a.npy", rng.integers(0, 9, (8, 8)))
    ndzarr.transcode(tmp_path / "a.npy", tmp_path / "a.zarr")
    for attempt in (
        lambda: ndzarr.transcode(tmp_path / "a.npy", tmp_path / "b.zarr", series="label"),
        lambda: ndzarr.open(tmp_path / "a.zarr", series=1),
        lambda: ndzarr.open(tmp_path / "a.zarr", palette="indices"),
    ):
        with pytest.raises(OptionError):
            attempt()
