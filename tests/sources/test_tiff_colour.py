from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from helpers.transcoded import transcoded
from ndzarr._formats.registry import open_source
from ndzarr.errors import OptionError

SHAPE = (40, 53)
TILES = {"tile": (16, 32)}


def write(path, shape, rng, dtype="u1", top=255, **how) -> np.ndarray:
    pixels = rng.integers(0, top + 1, shape).astype(dtype)
    tifffile.imwrite(path, pixels, **how)
    return pixels


class TestNames:
    @pytest.mark.parametrize(
        ("samples", "how", "names"),
        [
            (1, {"photometric": "minisblack"}, ("gray",)),
            (2, {"photometric": "minisblack", "extrasamples": ["unassalpha"]}, ("gray", "a")),
            (2, {"photometric": "minisblack", "extrasamples": ["unspecified"]}, ("c0", "c1")),
            (3, {"photometric": "rgb"}, ("r", "g", "b")),
            (4, {"photometric": "rgb", "extrasamples": ["unassalpha"]}, ("r", "g", "b", "a")),
            (4, {"photometric": "rgb", "extrasamples": ["assocalpha"]}, ("r", "g", "b", "a")),
            (4, {"photometric": "rgb", "extrasamples": ["unspecified"]}, ("r", "g", "b", "c3")),
            (5, {"photometric": "rgb", "extrasamples": ["unspecified", "unassalpha"]}, ("r", "g", "b", "c3", "a")),
            (8, {"photometric": "minisblack"}, tuple(f"c{i}" for i in range(8))),
        ],
    )
    @pytest.mark.parametrize("planar", [False, True])
    def test_channels_are_named_after_what_the_file_says(self, samples, how, names, planar, rng, tmp_path):
        path = tmp_path / "a.tif"
        shape = SHAPE if samples == 1 else (samples, *SHAPE) if planar else (*SHAPE, samples)
        config = None if samples == 1 else "separate" if planar else "contig"
        pixels = write(path, shape, rng, planarconfig=config, **how)
        pyramid = transcoded(path)
        assert pyramid.channels == names
        want = pixels[None] if samples == 1 else pixels if planar else np.moveaxis(pixels, -1, 0)
        assert np.array_equal(pyramid.read(), want)

    def test_four_samples_of_colour_without_a_word_are_colour_and_alpha(self, rng, tmp_path):
        path = tmp_path / "a.tif"
        write(path, (*SHAPE, 4), rng, photometric="rgb")
        with tifffile.TiffFile(path) as tif:
            at = tif.pages[0].tags[338].offset
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\xff\xff")  # a tag that nobody knows
        pyramid = transcoded(path)
        assert pyramid.channels == ("r", "g", "b", "a")

    def test_multiplied_alpha_is_said(self, rng, tmp_path):
        path = tmp_path / "a.tif"
        write(path, (*SHAPE, 4), rng, photometric="rgb", extrasamples=["assocalpha"])
        pyramid = transcoded(path)
        assert pyramid.attrs["ndzarr"]["source"]["alpha"] == "associated"

    def test_the_option_replaces_names(self, rng, tmp_path):
        path = tmp_path / "a.tif"
        write(path, (*SHAPE, 3), rng, photometric="rgb")
        pyramid = transcoded(path, channels=["nir", "red", "green"])
        assert pyramid.channels == ("nir", "red", "green")
        with pytest.raises(OptionError, match="names 2 channels, but there are 3: r, g, b"):
            transcoded(path, channels=["nir", "red"])


class TestGdal:
    @staticmethod
    def bands(*names: str) -> tuple:
        items = "".join(
            f'<Item name="DESCRIPTION" sample="{i}" role="description">{name}</Item>'
            for i, name in enumerate(names)
            if name
        )
        return (42112, "s", 0, f'<GDALMetadata><Item name="AREA_OR_POINT">Area</Item>{items}</GDALMetadata>', True)

    @pytest.mark.parametrize(
        ("written", "names"),
        [
            (("blue", "green", "red"), ("blue", "green", "red")),
            (("blue", "blue", "red"), ("c0", "c1", "c2")),
            (("blue", "", "red"), ("blue", "c1", "red")),
            (("", "", ""), ("c0", "c1", "c2")),
        ],
    )
    def test_descriptions_of_bands_are_names_if_they_tell_bands_apart(self, written, names, rng, tmp_path):
        path = tmp_path / "a.tif"
        how = {"photometric": "minisblack", "planarconfig": "contig", "extratags": [self.bands(*written)]}
        write(path, (*SHAPE, 3), rng, "u2", **how)
        pyramid = transcoded(path)
        assert pyramid.channels == names

    @pytest.mark.parametrize(
        ("text", "dtype", "nodata"),
        [
            ("0", "u1", 0),
            ("255", "u1", 255),
            ("255.0 ", "u1", 255),
            ("-9999", "i2", -9999),
            ("-9999", "f4", -9999),
            ("nan", "f4", np.nan),
            ("-3.4028234663852886e+38", "f4", float(np.finfo(np.float32).min)),
            ("1e+20", "f8", 1e20),
            ("0,5", "f4", 0.5),
            ("-9999", "u1", None),
            ("nan", "u1", None),
            ("0.5", "u1", None),
            ("none", "f4", None),
        ],
    )
    def test_nodata_is_known_if_it_is_a_pixel_value(self, text, dtype, nodata, rng, tmp_path):
        path = tmp_path / "a.tif"
        write(path, SHAPE, rng, dtype, photometric="minisblack", extratags=[(42113, "s", 0, text, True)])
        pyramid = transcoded(path)
        assert (
            pyramid.nodata == pytest.approx(nodata, nan_ok=True, rel=0)
            if nodata is not None
            else pyramid.nodata is None
        )
        assert ("notes" in pyramid.attrs["ndzarr"]["source"]) == (nodata is None)
        pyramid = transcoded(path, nodata=7)
        assert pyramid.nodata == 7

    def test_the_place_on_earth_is_known(self, rng, tmp_path):
        path = tmp_path / "a.tif"
        keys = (1, 1, 0, 2, 1025, 0, 1, 1, 3072, 0, 1, 32633)
        tags = [
            (33550, "d", 3, (10.0, 20.0, 0.0), True),
            (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 4600000.0, 0.0), True),
            (34735, "H", len(keys), keys, True),
        ]
        write(path, SHAPE, rng, photometric="minisblack", extratags=tags)
        pyramid = transcoded(path)
        assert pyramid.attrs["ndzarr"]["source"]["transform"] == [10, 0, 500000, 0, -20, 4600000]
        assert pyramid.attrs["ndzarr"]["source"]["epsg"] == 32633


class TestPalette:
    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_palettes_become_rgb_as_in_pillow(self, bits, photo, tmp_path):
        path = tmp_path / "a.tif"
        image = Image.fromarray(photo).quantize(1 << bits)
        image.save(path)
        want = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        pyramid = transcoded(path)
        assert np.array_equal(pyramid.read(), want)
        assert pyramid.channels == ("r", "g", "b")
        assert "palette" in pyramid.attrs["ndzarr"]["source"]["colour"]
        with open_source(path) as source:
            got = source.read({"c": slice(1, 2), "y": slice(3, 9), "x": slice(10, 50)})
            assert np.array_equal(got, want[1:2, 3:9, 10:50])

    def test_sixteen_bit_indices_work(self, rng, tmp_path):
        path = tmp_path / "a.tif"
        table = rng.integers(0, 256, (3, 65536)).astype(np.uint16) * 257
        pixels = write(path, SHAPE, rng, "u2", 65535, photometric="palette", colormap=table, **TILES)
        assert np.array_equal(transcoded(path).read(), (table >> 8)[:, pixels])

    def test_frames_of_indices_are_frames_of_colour(self, rng, tmp_path):
        path = tmp_path / "a.tif"
        table = rng.integers(0, 256, (3, 256)).astype(np.uint16) * 257
        pixels = write(path, (4, *SHAPE), rng, photometric="palette", colormap=table)
        assert np.array_equal(transcoded(path).read(), np.moveaxis((table >> 8)[:, pixels], 0, 1))

    def test_the_index_for_no_data_becomes_transparent(self, rng, tmp_path):
        path = tmp_path / "a.tif"
        table = rng.integers(0, 256, (3, 256)).astype(np.uint16) * 257
        tags = [(42113, "s", 0, "5", True)]
        pixels = write(path, SHAPE, rng, top=9, photometric="palette", colormap=table, extratags=tags)
        pyramid = transcoded(path)
        got = pyramid.read()
        assert np.array_equal(got[3], np.where(pixels == 5, 0, 255))
        assert pyramid.channels == ("r", "g", "b", "a")
        assert pyramid.nodata is None


@pytest.mark.parametrize(("dtype", "top"), [("u1", 255), ("u2", 65535), ("?", 1)])
@pytest.mark.parametrize("how", [{}, {**TILES, "compression": "zlib"}])
def test_gray_with_zero_as_white_is_inverted(dtype, top, how, rng, tmp_path):
    if dtype == "?" and "compression" in how:
        pytest.skip("tifffile does not write compressed bits")
    path = tmp_path / "a.tif"
    tags = [(42113, "s", 0, "0", True)]
    pixels = write(path, SHAPE, rng, dtype, top, photometric="miniswhite", extratags=tags, **how)
    pyramid = transcoded(path)
    assert np.array_equal(pyramid.read()[0], ~pixels if dtype == "?" else top - pixels)
    assert pyramid.channels == ("gray",)
    assert pyramid.nodata == top
    assert "inverted" in pyramid.attrs["ndzarr"]["source"]["colour"]


class TestCmyk:
    @pytest.mark.parametrize("planar", [False, True])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_inks_become_rgb_as_in_pillow(self, planar, compression, photo, tmp_path):
        path = tmp_path / "a.tif"
        image = Image.fromarray(photo).convert("CMYK")
        inks = np.asarray(image)
        stored = np.ascontiguousarray(np.moveaxis(inks, -1, 0)) if planar else inks
        config = "separate" if planar else "contig"
        tifffile.imwrite(path, stored, photometric="separated", planarconfig=config, compression=compression, **TILES)
        want = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        pyramid = transcoded(path)
        assert np.array_equal(pyramid.read(), want)
        assert pyramid.channels == ("r", "g", "b")
        with open_source(path) as source:
            assert source.interleaved
            assert np.array_equal(source.read({"c": slice(2, 3), "y": slice(5, 9)}), want[2:, 5:9])

    def test_sixteen_bit_inks_keep_sixteen_bits(self, photo, rng, tmp_path):
        path = tmp_path / "a.tif"
        inks = np.asarray(Image.fromarray(photo).convert("CMYK"))
        tifffile.imwrite(path, inks.astype(np.uint16) * 257, photometric="separated")
        got = transcoded(path).read()
        assert got.dtype == np.uint16
        want = np.asarray(Image.fromarray(photo).convert("CMYK").convert("RGB")).transpose(2, 0, 1)
        assert np.abs(got / 257 - want).max() < 1

    def test_alpha_behind_inks_is_kept(self, rng, tmp_path):
        path = tmp_path / "a.tif"
        pixels = write(path, (*SHAPE, 5), rng, photometric="separated", extrasamples=["unassalpha"])
        pyramid = transcoded(path)
        assert pyramid.channels == ("r", "g", "b", "a")
        assert np.array_equal(pyramid.read()[3], pixels[..., 4])

    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    def test_an_embedded_profile_is_used(self, dtype, photo, tmp_path, cmyk_profile):
        path = tmp_path / "a.tif"
        image = Image.fromarray(photo).convert("CMYK")
        inks = np.asarray(image).astype(dtype) * (257 if dtype == "u2" else 1)
        tifffile.imwrite(path, inks.astype(dtype), photometric="separated", iccprofile=cmyk_profile)
        profile = ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile))
        want = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        pyramid = transcoded(path)
        got = pyramid.read() / (257 if dtype == "u2" else 1)
        assert np.abs(got - np.asarray(want).transpose(2, 0, 1)).max() <= 1
        assert pyramid.attrs["ndzarr"]["source"]["icc_profile"] == "test inks"


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_jpeg_with_luma_and_chroma_decodes_to_rgb(subsampling, photo, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, photo, photometric="rgb", compression="jpeg", subsampling=subsampling, tile=(64, 64))
    with tifffile.TiffFile(path) as tif:
        assert tif.pages[0].photometric == tifffile.PHOTOMETRIC.YCBCR
    pyramid = transcoded(path)
    got = pyramid.read()
    assert np.array_equal(got, tifffile.imread(path).transpose(2, 0, 1))
    assert np.abs(got.astype(int) - photo.transpose(2, 0, 1)).mean() < 4
    assert pyramid.channels == ("r", "g", "b")


def test_luma_and_chroma_that_are_no_jpeg_become_rgb(photo, tmp_path):
    path = tmp_path / "a.tif"
    image = Image.fromarray(photo).convert("YCbCr")
    tags = [(530, "H", 2, (1, 1), True)]
    tifffile.imwrite(path, np.asarray(image), photometric="ycbcr", extratags=tags, metadata=None)
    want = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.abs(transcoded(path).read().astype(int) - want).max() <= 1
