"""World files, `.aux.xml` and `.ovr` beside an image."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio.enums import Resampling

import ndzarr
from ndzarr._formats.registry import open_source
from ndzarr._library.library import Library
from ndzarr._store.presets import Encoding

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
WORLD = "2\n0.25\n-0.5\n-3\n101\n499\n"
PAM = """<PAMDataset>
  <SRS dataAxisToSRSAxisMapping="1,2">{srs}</SRS>
  <GeoTransform> 10, 3, 0.5, 20, 0.25, -3</GeoTransform>
  <PAMRasterBand band="1"><Description>nir</Description><NoDataValue>7</NoDataValue></PAMRasterBand>
</PAMDataset>"""


@pytest.fixture
def pixels(rng) -> np.ndarray:
    return rng.integers(0, 256, (300, 400)).astype("u1")


@pytest.fixture
def path(pixels, tmp_path):
    tifffile.imwrite(tmp_path / "scene.tif", pixels, tile=(64, 64), metadata=None)
    return tmp_path / "scene.tif"


def opened(path, tmp_path):
    """The file in place, as a store, and as a sampler sees it."""
    yield ndzarr.open(path)
    yield ndzarr.transcode(path, tmp_path / "s.zarr", overwrite=True)
    yield ndzarr.Sampler({"a": path}, tmp_path / "w").open("a")
    yield ndzarr.Sampler({"a": path}, tmp_path / "w", transcode="always").open("a")


class TestWorldFiles:
    @pytest.mark.parametrize("ending", ["tfw", "tifw", "wld", "TFW"])
    def test_the_transform_is_rasterio_s(self, ending, path, tmp_path):
        path.with_suffix(f".{ending}").write_text(WORLD)
        with rasterio.open(path) as dataset:
            want = tuple(dataset.transform)[:6]
        for pyramid in opened(path, tmp_path):
            assert pyramid.georeference.transform == pytest.approx(want)

    @pytest.mark.parametrize(("form", "ending"), [("png", "pgw"), ("jpg", "jgw"), ("png", "wld"), ("jpg", "jpgw")])
    def test_other_images_have_them_too(self, form, ending, pixels, tmp_path):
        path = tmp_path / f"scene.{form}"
        Image.fromarray(pixels).save(path)
        path.with_suffix(f".{ending}").write_text(WORLD)
        with rasterio.open(path) as dataset:
            want = tuple(dataset.transform)[:6]
        store = ndzarr.transcode(path, tmp_path / "s.zarr")
        assert store.georeference.transform == pytest.approx(want)

    def test_the_image_s_own_transform_comes_first(self, pixels, tmp_path):
        path = tmp_path / "g.tif"
        own = rasterio.Affine(5, 0, 1000, 0, -5, 2000)
        how = {"driver": "GTiff", "width": 400, "height": 300, "count": 1, "dtype": "uint8", "transform": own}
        with rasterio.open(path, "w", **how, tiled=True, blockxsize=64, blockysize=64) as dataset:
            dataset.write(pixels, 1)
        path.with_suffix(".tfw").write_text(WORLD)
        assert ndzarr.open(path).georeference.transform == pytest.approx(tuple(own)[:6])

    @pytest.mark.parametrize("text", ["", "1 2 3", "a b c d e f", "0 0 0 0 0 0", "nan 0 0 1 0 0"])
    def test_one_that_makes_no_sense_is_noted(self, text, path):
        path.with_suffix(".tfw").write_text(text)
        pyramid = ndzarr.open(path)
        assert pyramid.georeference is None
        assert any("scene.tfw" in note for note in pyramid.attrs["ndzarr"]["source"]["notes"])

    def test_an_image_that_was_turned_does_not_use_it(self, pixels, tmp_path):
        tifffile.imwrite(tmp_path / "t.tif", pixels, metadata=None, extratags=[(274, 3, 1, 6, True)])
        (tmp_path / "t.tfw").write_text(WORLD)
        store = ndzarr.transcode(tmp_path / "t.tif", tmp_path / "t.zarr")
        assert store.georeference is None
        assert store.attrs["ndzarr"]["source"]["notes"]


class TestAuxXml:
    @pytest.mark.parametrize("srs", ["EPSG:32633", "wkt1", "wkt2"])
    def test_georeference_nodata_and_names_are_rasterio_s(self, srs, path, tmp_path):
        crs = rasterio.CRS.from_epsg(32633)
        text = {"wkt1": crs.to_wkt(version="WKT1"), "wkt2": crs.to_wkt(version="WKT2_2018")}.get(srs, srs)
        path.with_name("scene.tif.aux.xml").write_text(PAM.format(srs=text.replace('"', "&quot;")))
        with rasterio.open(path) as dataset:
            transform, nodata, names, code = dataset.transform, dataset.nodata, dataset.descriptions, dataset.crs
        for pyramid in opened(path, tmp_path):
            assert pyramid.georeference.transform == pytest.approx(tuple(transform)[:6])
            assert (pyramid.nodata, pyramid.channels) == (nodata, names)
            assert pyramid.georeference.crs.epsg == code.to_epsg() == 32633

    def test_other_images_have_it_too(self, pixels, tmp_path):
        Image.fromarray(pixels).save(tmp_path / "scene.png")
        (tmp_path / "scene.png.aux.xml").write_text(PAM.format(srs="EPSG:32633"))
        store = ndzarr.transcode(tmp_path / "scene.png", tmp_path / "s.zarr")
        assert (store.nodata, store.channels, store.georeference.crs.epsg) == (7, ("nir",), 32633)

    def test_damaged_xml_is_noted(self, path):
        path.with_name("scene.tif.aux.xml").write_text("<PAMDataset>")
        with open_source(path) as source:
            assert any("aux.xml" in note for note in source.metadata["notes"])

    def test_nodata_of_bands_that_are_not_channels_is_noted(self, rng, tmp_path):
        path = tmp_path / "pages.tif"  # each page an image of its own to GDAL
        tifffile.imwrite(path, rng.integers(0, 9, (2, 100, 100)).astype("u1"), metadata={"axes": "CYX"}, tile=(64, 64))
        bands = "".join(f'<PAMRasterBand band="{k}"><NoDataValue>{k}</NoDataValue></PAMRasterBand>' for k in (1, 2))
        path.with_name("pages.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
        with open_source(path) as source:
            assert source.channels == ("c0", "c1")
            assert source.nodata is None
            assert source.metadata["notes"]

    def test_a_value_that_no_pixel_has_is_noted(self, pixels, tmp_path):
        for name in ("scene.png", "scene.tif"):
            Image.fromarray(pixels).save(tmp_path / name)
            text = '<PAMDataset><PAMRasterBand band="1"><NoDataValue>-9999</NoDataValue></PAMRasterBand></PAMDataset>'
            (tmp_path / f"{name}.aux.xml").write_text(text)
            with open_source(tmp_path / name) as source:
                assert source.nodata is None
                assert any("-9999" in note for note in source.metadata["notes"])

    def test_a_sidecar_that_changes_makes_another_store(self, path, tmp_path):
        names = []
        for name in ("nir", "swir"):
            text = PAM.format(srs="EPSG:32633").replace("nir", name)
            path.with_name("scene.tif.aux.xml").write_text(text)
            sampler = ndzarr.Sampler({"a": path}, tmp_path / "w", transcode="always")
            names += sampler.open("a").channels
        assert names == ["nir", "swir"]


class TestOverviews:
    @pytest.fixture
    def beside(self, path):
        """Overviews that differ from what averages would be."""
        with rasterio.Env(TIFF_USE_OVR="YES", GDAL_TIFF_OVR_BLOCKSIZE="64"), rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2, 4], Resampling.nearest)
        assert path.with_name("scene.tif.ovr").exists()
        return path

    def test_they_are_levels_in_place(self, beside):
        pyramid = ndzarr.open(beside)
        assert [level.shape[-2:] for level in pyramid.levels[:3]] == [(300, 400), (150, 200), (75, 100)]
        for k in (0, 1):
            with rasterio.open(beside, overview_level=k) as dataset:
                assert np.array_equal(pyramid.read(k + 1), dataset.read())

    def test_a_sampler_uses_them(self, beside, tmp_path):
        sampler = ndzarr.Sampler({"a": beside}, tmp_path / "w")
        sample = sampler.load_sample({"key": "a", "y": slice(0, 300), "x": slice(0, 400), "scale": 0.5})
        with rasterio.open(beside, overview_level=0) as dataset:
            assert np.array_equal(sample.image.values, dataset.read())

    def test_labels_do_not_use_them(self, beside, tmp_path, pixels):
        pyramid = Library(tmp_path / "w", Encoding(kind="labels")).pyramid(beside)
        with rasterio.open(beside, overview_level=0) as dataset:
            assert not np.array_equal(pyramid.read(1), dataset.read())
        assert np.array_equal(pyramid.read(), pixels[None])

    def test_a_file_that_is_no_tiff_is_an_error(self, path):
        path.with_name("scene.tif.ovr").write_bytes(b"II*\0 this is not one")
        with pytest.raises(ndzarr.errors.NdzarrError) as caught:
            ndzarr.open(path)
        assert caught.value.path
