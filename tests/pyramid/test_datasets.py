"""Datasets of xarray, on a disk and as objects: what xarray reads of them is what ndzarr reads."""

import pickle
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

import ndzarr
from helpers.errors import raises
from ndzarr.errors import OptionError, SourceError, StoreError

TIMES = np.array(["2024-01-01", "2024-01-02", "2024-01-05"], "M8[ns]")
PACKED = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 5.0, "_FillValue": -32768}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", UserWarning)
        yield


def weather(y="lat", x="lon", north_up=False, **units):
    """A dataset of three days, with a missing pixel."""
    air = np.random.default_rng(0).random((3, 30, 44)).astype("f4") * 100
    air[1, 3, 4] = np.nan
    rows = np.linspace(-10, 4.5, 30)
    coords = {"time": TIMES, y: (y, rows[::-1] if north_up else rows, units), x: (x, np.linspace(0, 21.5, 44), units)}
    return xr.Dataset({"air": (("time", y, x), air)}, coords)


def twin(dataset, folder, packing):
    """Return what xarray reads of a dataset written in format 2: old xarrays do not read their own of format 3."""
    dataset.to_zarr(folder / "twin.zarr", zarr_format=2, encoding={"air": packing})
    return xr.open_zarr(folder / "twin.zarr")


def check(pyramid, want):
    """The pixels, whole and in a window, are those of a DataArray whose last axes are y and x."""
    values = want.values
    assert pyramid.dtype == values.dtype
    assert np.array_equal(pyramid.read(), values, equal_nan=True)
    assert np.array_equal(pyramid.read(y=[5, 5, 2], x=slice(3, 30, 4)), values[..., [5, 5, 2], 3:30:4], equal_nan=True)
    again = pickle.loads(pickle.dumps(pyramid))
    assert np.array_equal(again.read(y=slice(2, 4)), values[..., 2:4, :], equal_nan=True)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("packing", [{}, PACKED], ids=["plain", "packed"])
def test_a_dataset_is_read_as_xarray_reads_it_by_path_and_by_object(tmp_path, zarr_format, packing):
    dataset = weather()
    dataset.to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format, encoding={"air": packing})
    memory = zarr.storage.MemoryStore()
    dataset.to_zarr(memory, zarr_format=zarr_format, encoding={"air": packing})
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    opened = twin(dataset, tmp_path, packing)
    objects = (tmp_path / "a.zarr", tmp_path / "a.zarr" / "air", group, group["air"], group.store, memory)
    for given in (*objects, opened, opened["air"], opened.load()):
        pyramid = ndzarr.open(given)
        check(pyramid, opened["air"])
        assert pyramid.dims == ("t", "y", "x")
        assert pyramid.times == (0, 86400, 4 * 86400)
        assert pyramid.georeference.crs.code == "EPSG:4326"
        assert np.allclose(pyramid.georeference.transform, (0.5, 0, -0.25, 0, 0.5, -10.25)), "rows go north"
    assert isinstance(pyramid.window(y=slice(-2, 5), scale=0.5), xr.DataArray)


def test_a_packed_pixel_that_is_missing_is_not_counted_and_stays_so_when_transcoded(tmp_path):
    weather().to_zarr(tmp_path / "a.zarr", encoding={"air": PACKED})
    want = twin(weather(), tmp_path, PACKED)["air"].load()
    array = zarr.open_group(tmp_path / "a.zarr", mode="r")["air"]  # has its coordinates in the group around it
    for source in (tmp_path / "a.zarr", ndzarr.open(tmp_path / "a.zarr"), array, want):
        made = ndzarr.transcode(source, tmp_path / "b.zarr", overwrite=True)
        assert np.array_equal(made.read()[:, 0], want.values, equal_nan=True)
        assert made.georeference.transform == ndzarr.open(tmp_path / "a.zarr").georeference.transform
        assert made.times == (0, 86400, 4 * 86400)
    window = ndzarr.open(tmp_path / "a.zarr").window(t=slice(1, 2), y=slice(2, 4), x=slice(4, 6), scale=0.5)
    four = want.values[1, 2:4, 4:6]
    assert np.isnan(four).sum() == 1
    assert np.allclose(window.values, np.nanmean(four))


def test_an_integer_without_scale_keeps_its_type_and_its_fill_value_is_nodata(tmp_path):
    values = np.arange(30 * 44, dtype="i2").reshape(30, 44)
    array = xr.DataArray(values, dims=("y", "x"), name="a", attrs={"_FillValue": np.int16(-1)})
    array.to_dataset().to_zarr(tmp_path / "a.zarr")
    for given in (tmp_path / "a.zarr", array):
        pyramid = ndzarr.open(given)
        assert (pyramid.dtype, pyramid.nodata) == (np.int16, -1)
        assert pyramid.georeference is None
    array.attrs["missing_value"] = np.int16(7)
    assert np.isnan(ndzarr.open(array).read()[0, 7]), "two values of missing data become NaN"
    array.attrs["scale_factor"] = "a tenth"
    with raises(SourceError, key="scale_factor"):
        ndzarr.open(array)


@pytest.mark.parametrize("north_up", [True, False])
def test_coordinates_of_a_grid_mapping_place_the_pixels(tmp_path, north_up):
    dataset = weather("Northings", "col", north_up)
    mapping = {"grid_mapping_name": "latitude_longitude", "crs_wkt": "EPSG:32633"}
    dataset = dataset.assign_coords(crs=((), 0, mapping))
    dataset["Northings"].attrs["axis"] = "Y"
    dataset["air"].attrs["grid_mapping"] = "crs"
    dataset.to_zarr(tmp_path / "a.zarr")
    pyramid = ndzarr.open(tmp_path / "a.zarr")
    place = pyramid.georeference
    assert place.crs.code == "EPSG:32633"
    labelled = pyramid.to_xarray()
    assert np.allclose(labelled["y"], dataset["Northings"])
    assert np.allclose(labelled["x"], dataset["col"])
    left, bottom, right, top = 1.0, -5.0, 4.0, -2.0
    inside = pyramid.window(bounds=(left, bottom, right, top))
    low, high = sorted(float(v) for v in inside["y"][[0, -1]])
    assert low - 0.25 <= bottom < top <= high + 0.25
    want = dataset["air"].sel(Northings=inside["y"].values, col=inside["x"].values, method="nearest")
    assert np.array_equal(inside.values, want.values, equal_nan=True)


def test_uneven_coordinates_place_nothing_and_a_note_says_so(tmp_path):
    dataset = weather()
    dataset = dataset.assign_coords(lat=np.cumsum(np.arange(30.0)))
    dataset.to_zarr(tmp_path / "a.zarr")
    pyramid = ndzarr.open(tmp_path / "a.zarr")
    assert pyramid.georeference is None
    assert any("lat are not evenly spaced" in note for note in pyramid.notes)


def test_one_of_several_variables_is_chosen_and_all_are_named(tmp_path):
    dataset = weather()
    dataset["sea"] = dataset["air"].isel(time=0) + 1
    tree = xr.DataTree.from_dict({"/": None, "/r10m": dataset, "/r20m": dataset.isel(lat=slice(10))})
    tree.to_zarr(tmp_path / "a.zarr")
    for given, error in (
        (tmp_path / "a.zarr", StoreError),
        (tree, SourceError),
        (tmp_path / "a.zarr" / "r10m", StoreError),
    ):
        with raises(error, key="variable", match=r"air' \(time: 3, lat: 30, lon: 44\) float32"):
            ndzarr.open(given)
    with raises(SourceError, key="variable", match="r20m/sea"):
        ndzarr.transcode(tmp_path / "a.zarr", tmp_path / "b.zarr")
    for given in (tmp_path / "a.zarr", tree):
        pyramid = ndzarr.open(given, variable="r20m/sea")
        assert np.array_equal(pyramid.read(), dataset["sea"][:10], equal_nan=True)
        assert np.array_equal(pickle.loads(pickle.dumps(pyramid)).read(), dataset["sea"][:10], equal_nan=True)
        with raises(OptionError, key="variable", match="r10m/air"):
            ndzarr.open(given, variable="r20m/ear")
    made = ndzarr.transcode(tmp_path / "a.zarr", tmp_path / "b.zarr", variable="r10m/sea")
    assert np.array_equal(made.read()[0], dataset["sea"], equal_nan=True)


def test_objects_of_others_are_refused(tmp_path):
    for other in (object(), np.zeros((4, 5))):
        with raises(OptionError, hint="ndzarr.transcode"):
            ndzarr.open(other)
    with raises(OptionError, key="variable"):
        ndzarr.transcode(np.zeros((4, 5)), tmp_path / "a.zarr", variable="a")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_dataset_on_a_web_server_needs_consolidated_metadata_or_the_path_of_an_array(http, tmp_path, zarr_format):
    weather().to_zarr(http.folder / "a.zarr", zarr_format=zarr_format, encoding={"air": PACKED}, consolidated=True)
    weather().to_zarr(http.folder / "b.zarr", zarr_format=zarr_format, encoding={"air": PACKED}, consolidated=False)
    want = twin(weather(), tmp_path, PACKED)["air"]
    with raises(StoreError, hint="consolidate_metadata"):
        ndzarr.open(f"{http.url}/b.zarr")
    for url in (f"{http.url}/a.zarr", f"{http.url}/a.zarr/air", f"{http.url}/b.zarr/air"):
        pyramid = ndzarr.open(url)
        check(pyramid, want)
        assert pyramid.times == (0, 86400, 4 * 86400)
        assert pyramid.georeference.crs.code == "EPSG:4326"


def test_flags_are_labels_and_what_axes_are_may_be_said_by_coordinates(tmp_path):
    values = np.arange(12, dtype="u1").reshape(3, 4)
    north, east = ("n", [3.0, 2, 1], {"axis": "Y"}), ("e", [1.0, 2, 3, 4], {"standard_name": "projection_x_coordinate"})
    scl = xr.DataArray(values, {"n": north, "e": east}, ("n", "e"), "scl", {"flag_values": [0, 1]})
    scl.to_dataset().to_zarr(tmp_path / "a.zarr")
    for given in (tmp_path / "a.zarr", scl):
        pyramid = ndzarr.open(given)
        assert (pyramid.kind, pyramid.dims) == ("labels", ("y", "x"))
    assert ndzarr.transcode(scl, tmp_path / "b.zarr").kind == "labels"


def test_a_level_that_is_packed_in_another_way_is_left_out_and_a_note_says_so(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    for k in range(3):
        pixels = np.full((32 >> k, 32 >> k), 100, "i2")
        made = group.create_array(f"{k}/a", data=pixels, dimension_names=["y", "x"])
        made.attrs["scale_factor"] = 0.5 if k == 2 else 0.25
    group.attrs["multiscales"] = {"layout": [{"asset": str(k)} for k in range(3)]}
    pyramid = ndzarr.open(tmp_path / "a.zarr")
    assert len(pyramid.levels) == 2
    assert (pyramid.read(1) == 25).all()
    assert any("1 levels are not used" in note for note in pyramid.notes)


def odd(dims=("y", "x"), mapping=None, attrs=None, coords=None, values=None):
    """A dataset of 4 rows and 6 columns whose variable is described in an unusual way."""
    shape = [{"y": 4, "lat": 4, "x": 6, "lon": 6, "longitude": 6}.get(d, 3) for d in dims]
    values = np.arange(np.prod(shape), dtype="i2").reshape(shape) if values is None else values
    more = {} if mapping is None else {"crs": ((), 0, mapping)}
    return xr.Dataset({"a": (dims, values, attrs or {}), **more}, coords or {})


GOES = {"grid_mapping_name": "geostationary", "perspective_point_height": 1e7, "longitude_of_projection_origin": 0.0}
GOES |= {"sweep_angle_axis": "x", "latitude_of_projection_origin": 0.0}
ANGLE = {"units": "rad", "standard_name": "projection_x_coordinate"}
EPSG = {"spatial_ref": "EPSG:32633"}
DOWN, RIGHT = [30.0, 20, 10, 0], np.arange(100.0, 160, 10)
PLANE = {"y": DOWN, "x": RIGHT}
PLACED = (10, 0, 95, 0, -10, 35)
DEGREES = {"lat": [60.0, 59, 58, 57], "lon": np.arange(0.0, 360, 60)}
ALONG = {"lat": ("y", DOWN, {"units": "degrees_north"}), "lon": ("x", RIGHT, {"units": "degrees_east"})}
CURVED = {name: (("y", "x"), np.zeros((4, 6))) for name in ("lat", "lon")}
NAT = {"time": np.array(["2024-01-01", "NaT", "2024-01-03"], "M8[ns]")}
ODD = {
    "mapping is a variable": (odd(attrs={"grid_mapping": "crs"}, mapping=EPSG, coords=PLANE), {"transform": PLACED}),
    "mapping names axes": (odd(attrs={"grid_mapping": "crs: y x"}, mapping=EPSG, coords=PLANE), {"transform": PLACED}),
    "crs of older xarray": (odd(attrs={"crs": "+init=epsg:32633"}, coords=PLANE), {"transform": PLACED}),
    "geostationary": (
        odd(attrs={"grid_mapping": "crs"}, mapping=GOES,
            coords={"y": ("y", np.array(DOWN) / 1e6, ANGLE), "x": ("x", RIGHT / 1e6, ANGLE)}),
        {"transform": (100, 0, 950, 0, -100, 350)},
    ),
    "degrees along other axes": (odd(coords=ALONG), {"transform": PLACED, "notes": ["taken for those of EPSG:4326"]}),
    "longitudes up to 360": (
        odd(("lat", "lon"), coords=DEGREES),
        {"transform": (60, 0, -30, 0, -1, 60.5), "notes": ["EPSG:4326", "up to 300"]},
    ),
    "NaN in a coordinate": (
        odd(("lat", "lon"), coords={**DEGREES, "lat": [60, np.nan, 58, 57]}), {"notes": ["lat are not evenly"]}
    ),
    "curvilinear": (odd(coords=CURVED), {"notes": ["2-D coordinates, 'lat'", "2-D coordinates, 'lon'"]}),
    "missing time": (odd(("time", "y", "x"), coords=NAT), {"notes": ["missing: frames have no times"]}),
    "time as text": (odd(("time", "y", "x"), coords={"time": ["a", "b", "c"]}), {"notes": ["text"]}),
    "wavelengths": (
        odd(("wavelength", "y", "x"), coords={"wavelength": [450.0, 550, 650]}), {"channels": ("450", "550", "650")}
    ),
    "numbered bands": (odd(("band", "y", "x"), coords={"band": [1, 2, 3]}), {"channels": ("r", "g", "b")}),
    "equal names": (
        odd(("band", "y", "x"), coords={"band": ["B", "B", "C"]}), {"notes": ["along c are not used"]}
    ),
    "scale in a list": (odd(attrs={"scale_factor": [0.5]}), {"dtype": np.dtype("f8"), "notes": ["0.5 times"]}),
    "NaN and another value": (
        odd(attrs={"missing_value": 5.0}, values=np.arange(24, dtype="f4").reshape(4, 6)), {"dtype": np.dtype("f4")}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_unusual_dataset_is_understood_or_a_note_says_what_is_not(tmp_path, name):
    dataset, want = ODD[name]
    dataset.to_zarr(tmp_path / "a.zarr", zarr_format=2)
    for given in (tmp_path / "a.zarr", dataset):
        pyramid = ndzarr.open(given)
        notes = want.get("notes", [])
        assert len(pyramid.notes) == len(notes)
        assert all(part in note for part, note in zip(notes, pyramid.notes, strict=True))
        for key in ("channels", "dtype"):
            assert getattr(pyramid, key) == want.get(key, getattr(pyramid, key))
        place = pyramid.georeference
        assert (place is None) == ("transform" not in want)
        assert place is None or np.allclose(place.transform, want["transform"])
    assert np.array_equal(pyramid.read(), dataset["a"] * (0.5 if name == "scale in a list" else 1))


@pytest.mark.parametrize(
    ("dims", "advised"),
    [
        ("member time lat lon", "ctyx"),
        ("time step y x", "tcyx"),
        ("time j i", "tyx"),
        ("year y x", "tyx"),
        ("j i", "yx"),
    ],
)
def test_axes_that_are_not_understood_are_advised_with_those_that_are(tmp_path, dims, advised):
    dataset = odd(tuple(dims.split()))
    dataset.to_zarr(tmp_path / "a.zarr")
    for given, error in ((tmp_path / "a.zarr", StoreError), (dataset, SourceError)):
        with raises(error, key="axes", hint=repr(advised)):
            ndzarr.open(given)
        order = [advised.index(d) for d in "tczyx" if d in advised]
        assert np.array_equal(ndzarr.open(given, axes=advised).read(), dataset["a"].values.transpose(order))
    with raises(SourceError, key="axes", hint="isel"):
        ndzarr.open(odd(("q", "t", "c", "z", "y", "x")))


def test_dates_durations_and_text_are_no_images(tmp_path):
    dates = xr.Dataset({"a": (("y", "x"), np.full((4, 6), np.datetime64("2024-01-01", "ns")))})
    dates["b"] = dates["a"] - np.datetime64("2023-01-01", "ns")
    dates.to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    zarr.open_array(tmp_path / "a.zarr" / "b").attrs["dtype"] = "timedelta64[ns]"  # older xarrays do not say it
    for given, error in ((tmp_path / "a.zarr", StoreError), (dates, SourceError)):
        with raises(error, hint="a group that has images"):
            ndzarr.open(given)


def test_missing_values_that_xarray_decoded_are_nodata(tmp_path):
    weather().to_zarr(tmp_path / "a.zarr", zarr_format=2, encoding={"air": PACKED})
    assert np.isnan(ndzarr.open(xr.open_zarr(tmp_path / "a.zarr")).nodata)
