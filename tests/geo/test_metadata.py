"""Reference system and transform are those that GDAL reads from the source, in stores and in exported files."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.crs import CRS

import ndzarr
from helpers.errors import raises
from helpers.georeferences import GCPS, KINDS, equal_transforms
from helpers.metadata_schemas import validate_multiscales
from ndzarr._geo.crs import Crs, GeoKeys

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pyramid_lies_where_gdal_says_that_its_source_lies(geotiff, tmp_path, kind):
    path = geotiff(kind)
    place = ndzarr.transcode(path, tmp_path / "a.zarr").georeference
    with rasterio.open(path) as file:
        assert equal_transforms(place.transform, file.transform)
        assert place.point == (file.tags().get("AREA_OR_POINT") == "Point")
        if file.crs is None:
            assert not place.crs.defined or place.crs.text() is None
        else:
            pytest.importorskip("pyproj")
            assert CRS.from_wkt(place.crs.text()) == file.crs
            assert place.crs.epsg == file.crs.to_epsg() or place.crs.epsg is None


@pytest.mark.parametrize("kind", [*KINDS, "gcps"])
def test_an_exported_file_lies_where_its_source_lies(geotiff, tmp_path, kind):
    path = geotiff(kind) if kind in KINDS else geotiff(crs="EPSG:4326", transform=None, gcps=GCPS)
    out = ndzarr.export_cog(ndzarr.transcode(path, tmp_path / "a.zarr"), tmp_path / "out.tif")
    with rasterio.open(path) as source, rasterio.open(out) as file:
        assert file.crs == source.crs
        assert equal_transforms(file.transform, source.transform)
        assert file.tags().get("AREA_OR_POINT") == source.tags().get("AREA_OR_POINT")
        assert file.gcps[1] == source.gcps[1]
        assert [g.asdict() | {"id": ""} for g in file.gcps[0]] == [g.asdict() | {"id": ""} for g in source.gcps[0]]


def test_ground_control_points_alone_are_kept_but_give_no_transform(geotiff, tmp_path):
    path = geotiff(crs="EPSG:4326", transform=None, gcps=GCPS)
    pyr = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert pyr.georeference.transform is None
    assert [(g[1], g[0], *g[3:5]) for g in pyr.georeference.gcps] == [(g.row, g.col, g.x, g.y) for g in GCPS]
    assert "spatial_ref" not in pyr.window().coords
    with raises(ndzarr.NdzarrError, hint="Give y= and x= in pixels"):
        pyr.window(bounds=(10, 49, 11, 50))


def test_an_image_without_georeference_has_none(geotiff, tmp_path):
    path = geotiff(transform=None, crs=None)
    pyr = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert pyr.georeference is None or pyr.georeference.transform is None
    assert "spatial_ref" not in pyr.window().coords
    assert not any(key.startswith(("proj:", "spatial:")) for key in pyr.attrs)
    np.testing.assert_array_equal(pyr.window().y, np.arange(300) + 0.5)


def test_a_reference_system_that_is_not_understood_goes_through_unchanged(geotiff, tmp_path):
    path = geotiff(crs='LOCAL_CS["a quarry",UNIT["metre",1]]')
    pyr = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert pyr.georeference.crs.keys.texts.startswith("a quarry")
    with rasterio.open(path) as source, rasterio.open(ndzarr.export_cog(pyr, tmp_path / "out.tif")) as file:
        assert file.crs == source.crs
        assert file.transform == source.transform
    pytest.importorskip("pyproj")
    assert pyr.georeference.crs.text() is None
    assert "proj:wkt2" not in pyr.attrs
    assert "crs_wkt" not in pyr.window().spatial_ref.attrs
    assert pyr.window().x[0] == 500005
    with raises(ndzarr.NdzarrError, key="crs"):
        pyr.window(bounds=(10, 49, 11, 50), crs="EPSG:4326")


@pytest.mark.parametrize(
    "keys",
    [
        (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 60001),  # no such code
        (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32767),  # user-defined, by nothing
        (1, 1, 0, 2, 1024, 0, 1, 1, 3075, 34736, 1, 700),  # a number that is not there
        (1, 1, 0, 200, 1024, 0, 1, 1),  # fewer keys than announced
        (9, 9, 9, 9, 9),
    ],
)
def test_damaged_keys_cost_the_reference_system_and_nothing_else(tmp_path, keys):
    tags = [(33550, 12, 3, (10, 10, 0)), (33922, 12, 6, (0, 0, 0, 5e5, 46e5, 0)), (34735, 3, len(keys), keys)]
    tifffile.imwrite(tmp_path / "a.tif", np.ones((30, 40), "u1"), extratags=tags, metadata=None)
    pyr = ndzarr.transcode(tmp_path / "a.tif", tmp_path / "a.zarr")
    assert pyr.georeference.transform == (10, 0, 5e5, 0, -10, 46e5)
    assert pyr.window().x[0] == 500005
    with rasterio.open(ndzarr.export_cog(pyr, tmp_path / "out.tif")) as file:
        assert tuple(file.transform)[:6] == (10, 0, 5e5, 0, -10, 46e5)


OBLIQUE = "+proj=omerc +lat_0=4 +lonc=115 +alpha=53 +gamma=53 +k=0.99984 +ellps=evrstSS"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    "system",
    [
        "EPSG:7415",  # metres and heights
        "EPSG:9518",  # degrees and heights
        "EPSG:4979",  # the same in one system
        "EPSG:4326",
        "+proj=utm +zone=33 +ellps=intl +towgs84=-87,-98,-121",
        "+proj=lcc +lat_1=50 +lat_2=60 +lat_0=55 +lon_0=10 +ellps=intl +towgs84=-87,-98,-121,0,0,0,0 +units=km",
        "+proj=longlat +ellps=intl +towgs84=-87,-98,-121,1,2,3,4",
        OBLIQUE,
    ],
)
def test_heights_and_shifts_are_part_of_the_reference_system_as_for_gdal(geotiff, tmp_path, system, version):
    pyproj = pytest.importorskip("pyproj")
    path = geotiff(crs=system, transform=rasterio.Affine(10, 0, 5e5, 0, -10, 46e5), geotiff_version=version)
    pyr = ndzarr.transcode(path, tmp_path / "a.zarr")
    with rasterio.open(path) as source, rasterio.open(ndzarr.export_cog(pyr, tmp_path / "out.tif")) as file:
        wanted = pyproj.CRS.from_wkt(source.crs.to_wkt(version="WKT2_2019"))
        assert file.crs == source.crs
    for place in (pyr.georeference, ndzarr.open(pyr.path).georeference):
        found = pyproj.CRS.from_wkt(place.crs.text())
        assert found.is_compound == wanted.is_compound
        assert len(found.axis_info) == len(wanted.axis_info)
        assert CRS.from_wkt(place.crs.text()) == CRS.from_wkt(wanted.to_wkt())
    assert pyr.attrs.get("proj:code") in (None, f"EPSG:{wanted.to_epsg()}")


@pytest.mark.parametrize("code", [3067, 4258, 5514, 27700, 31467])
def test_gdal_finds_the_code_of_a_system_whatever_its_database_calls_it(geotiff, tmp_path, code):
    pytest.importorskip("pyproj")
    path = geotiff(crs=f"EPSG:{code}", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 46e5), height=20, width=30)
    with rasterio.open(path) as file:
        wanted = file.crs
    pyr = ndzarr.transcode(path, tmp_path / "a.zarr")
    written = pyr.attrs["ndzarr"]["grid_mapping"] | pyr.window(scale=0.5)["spatial_ref"].attrs
    # rioxarray reads it so.
    assert CRS.from_user_input(written["spatial_ref"]).to_epsg() == wanted.to_epsg()
    if wanted.to_epsg() == code:
        assert pyr.attrs["proj:code"] == f"EPSG:{code}"


def test_a_geocentric_system_is_not_taken_for_degrees():
    pytest.importorskip("pyproj")
    keys = GeoKeys((1, 1, 0, 2, 1024, 0, 1, 3, 2048, 0, 1, 32767))
    assert Crs(keys=keys).pyproj() is None


def test_heights_that_are_not_known_cost_the_heights():
    pytest.importorskip("pyproj")
    keys = GeoKeys((1, 1, 1, 3, 1024, 0, 1, 1, 3072, 0, 1, 32633, 4096, 0, 1, 60001))
    assert Crs("EPSG:32633", keys=keys).pyproj().to_epsg() == 32633


def test_a_geographic_base_is_not_taken_for_the_projected_system_itself():
    pyproj = pytest.importorskip("pyproj")
    text = f"ESRI PE String = {pyproj.CRS('ESRI:54009').to_wkt('WKT1_ESRI')}|"
    entries = (1024, 0, 1, 32767, 1025, 0, 1, 1, 2048, 0, 1, 4326, 3073, 34737, len(text), 0)  # as GDAL 3.8 has it
    crs = Crs(keys=GeoKeys((1, 1, 0, 4, *entries), (), text))
    assert crs.keys.epsg is None
    assert "Mollweide" in crs.text()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pixels_stay_where_they_are_on_earth(tmp_path, orientation):
    stored = np.arange(12, dtype="u1").reshape(3, 4)
    tags = [(274, 3, 1, orientation), (33550, 12, 3, (10, 20, 0)), (33922, 12, 6, (0, 0, 0, 1000, 500, 0))]
    tifffile.imwrite(tmp_path / "a.tif", stored, extratags=tags, metadata=None)
    pyr = ndzarr.transcode(tmp_path / "a.tif", tmp_path / "a.zarr")
    upright, matrix = pyr.read()[0], pyr.georeference.matrix
    for row, column in np.ndindex(upright.shape):
        x, y, _ = matrix @ (column + 0.5, row + 0.5, 1)
        assert upright[row, column] == stored[round((500 - y) / 20 - 0.5), round((x - 1000) / 10 - 0.5)]


@pytest.mark.parametrize("kind", ["utm", "degrees", "rotated", "point", "own laea", "no crs"])
def test_stores_say_it_by_the_conventions(pyramid, kind):
    pyr = pyramid(kind)
    attrs = pyr.attrs
    validate_multiscales(json.loads(json.dumps(attrs)))
    assert tuple(attrs["spatial:transform"]) == pyr.georeference.transform
    assert attrs["spatial:shape"] == [300, 400]
    for k, item in enumerate(attrs["multiscales"]["layout"]):
        assert tuple(item["spatial:transform"]) == pyr.georeference.window_transform(0, 0, 2**k, 2**k)
    left, bottom, right, top = attrs["spatial:bbox"]
    assert left < right
    assert bottom < top


def test_stores_of_others_are_understood_by_the_conventions(tmp_path):
    import zarr

    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=3)
    group.create_array("0", shape=(30, 40), dtype="u1")
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": ["y", "x"], "datasets": datasets}]}
    group.attrs["spatial:transform"] = [10, 0, 5e5, 0, -10, 46e5]
    group.attrs["proj:code"] = "EPSG:32633"
    pyr = ndzarr.open(tmp_path / "b.zarr")
    assert pyr.window(y=slice(3, 5)).y[0] == 46e5 - 35
    pytest.importorskip("pyproj")
    with rasterio.open(ndzarr.export_cog(pyr, tmp_path / "b.tif")) as file:
        assert file.crs.to_epsg() == 32633
        assert tuple(file.transform)[:6] == (10, 0, 5e5, 0, -10, 46e5)
    group.attrs["spatial:registration"] = "node"
    assert ndzarr.open(tmp_path / "b.zarr").georeference.transform == (10, 0, 5e5 - 5, 0, -10, 46e5 + 5)


@pytest.mark.parametrize(
    "definition", ["+proj=moll +lon_0=10 +datum=WGS84", "EPSG:5514", "ESRI:54030", "+proj=longlat +a=6378000 +rf=300"]
)
def test_well_known_text_of_others_becomes_keys_that_gdal_reads(tmp_path, definition):
    pyproj = pytest.importorskip("pyproj")
    import zarr

    crs = pyproj.CRS.from_user_input(definition)
    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=3)
    group.create_array("0", shape=(30, 40), dtype="u1")
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": ["y", "x"], "datasets": datasets}]}
    group.attrs["spatial:transform"] = [10, 0, 5e5, 0, -10, 46e5]
    group.attrs["proj:wkt2"] = crs.to_wkt()
    with rasterio.open(ndzarr.export_cog(tmp_path / "b.zarr", tmp_path / "b.tif")) as file:
        found = pyproj.CRS.from_wkt(file.crs.to_wkt())
    there, back = (pyproj.Transformer.from_crs("EPSG:4326", c, always_xy=True) for c in (crs, found))
    np.testing.assert_allclose(there.transform(15, 50), back.transform(15, 50), atol=1e-3)


@pytest.mark.slow
def test_without_pyproj_codes_and_transforms_still_go_through(geotiff, tmp_path):
    geotiff("utm", "utm.tif")
    geotiff("own laea", "own.tif")
    script = textwrap.dedent("""
        import sys
        sys.modules["pyproj"] = None
        import ndzarr
        for name in ("utm", "own"):
            pyr = ndzarr.transcode(f"{name}.tif", f"{name}.zarr")
            print(pyr.window(scale=0.5).spatial_ref.attrs)
            ndzarr.export_cog(pyr, f"{name}-out.tif")
            assert pyr.window(bounds=(500010, 4599900, 500110, 4600000), resolution=20).sizes["x"] == 5
            try:
                pyr.window(bounds=(10, 49, 11, 50), crs="EPSG:4326")
            except ndzarr.NdzarrError as error:
                print(error)
    """)
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "'spatial_ref': 'EPSG:32633'" in run.stdout
    assert run.stdout.count("pip install 'ndzarr[geo]'") == 2
    for name in ("utm", "own"):
        with rasterio.open(tmp_path / f"{name}.tif") as source, rasterio.open(tmp_path / f"{name}-out.tif") as file:
            assert file.crs == source.crs


@pytest.mark.slow
def test_reading_plain_images_imports_no_pyproj(tmp_path):
    ndzarr.transcode(np.zeros((3, 300, 300), "u1"), tmp_path / "a.zarr")
    script = (
        f"import sys, ndzarr; ndzarr.open({str(tmp_path / 'a.zarr')!r}).window(); assert 'pyproj' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(tmp_path))
