from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from helpers.errors import raises
from ndzarr._formats.registry import open_source
from ndzarr.errors import OptionError, SourceError

da = pytest.importorskip("dask.array")
xr = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")

WRAPPERS = {
    "numpy": lambda array, folder: array,
    "dask": lambda array, folder: da.from_array(array, chunks=tuple(max(1, n // 2) for n in array.shape)),
    "npy": lambda array, folder: npy(array, folder),
    "Zarr 2": lambda array, folder: as_zarr(array, folder, 2),
    "Zarr 3": lambda array, folder: as_zarr(array, folder, 3),
    "Zarr path": lambda array, folder: (as_zarr(array, folder, 3), folder / "a.zarr")[1],
    "xarray without names": lambda array, folder: xr.DataArray(array),
}


def npy(array, folder):
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


def as_zarr(array, folder, version, **more):
    chunks = tuple(max(1, n // 2) for n in array.shape)
    native = array.astype(array.dtype.newbyteorder("="))
    out = zarr.create_array(
        folder / "a.zarr",
        shape=array.shape,
        chunks=chunks,
        dtype=native.dtype,
        zarr_format=version,
        overwrite=True,
        **more,
    )
    out[...] = native
    return out


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(
    ("shape", "axes", "dims", "order"),
    [
        ((20, 30), None, "cyx", (0, 1)),
        ((20, 30, 1), None, "cyx", (2, 0, 1)),
        ((20, 30, 4), None, "cyx", (2, 0, 1)),
        ((20, 30, 5), None, "cyx", (0, 1, 2)),
        ((3, 20, 30), None, "cyx", (0, 1, 2)),
        ((20, 30, 4), "cyx", "cyx", (0, 1, 2)),
        ((20, 30, 8), "yxc", "cyx", (2, 0, 1)),
        ((6, 20, 30), "tyx", "tcyx", (0, 1, 2)),
        ((6, 20, 30), "zyx", "czyx", (0, 1, 2)),
        ((6, 20, 30, 3), "tyxc", "tcyx", (0, 3, 1, 2)),
        ((20, 30, 2, 3, 4), "xyzct", "tczyx", (4, 3, 2, 1, 0)),
    ],
)
def test_axes_are_put_in_order(wrapper, shape, axes, dims, order, rng, tmp_path, read_all):
    array = rng.integers(0, 1000, shape).astype(np.uint16)
    source = WRAPPERS[wrapper](array, tmp_path)
    want = array.transpose(order)
    if len(order) < len(dims):
        want = np.expand_dims(want, dims.index("c"))
    with open_source(source, axes=axes) as opened:
        assert opened.dims == tuple(dims)
        assert opened.shape == want.shape
        window = {d: slice(n // 3, n) for d, n in zip(opened.dims, opened.shape, strict=True)}
        assert np.array_equal(opened.read(window), want[tuple(window.values())])
    assert np.array_equal(read_all(source, axes=axes), want)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_four_axes_and_more_have_to_be_named(wrapper, tmp_path):
    source = WRAPPERS[wrapper](np.zeros((2, 3, 8, 9), np.uint8), tmp_path)
    with raises(SourceError, hint="axes='tcyx'", match="4 axes"):
        open_source(source)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_one_axis_is_no_image(wrapper, tmp_path):
    with raises(SourceError, hint="Add the missing ones"):
        open_source(WRAPPERS[wrapper](np.zeros(5), tmp_path))


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">u2", ">i4", "u8", "f2", "<f4", ">f8", "c8", ">c16"])
def test_dtypes_are_native_when_read(wrapper, dtype, rng, tmp_path, read_all):
    array = (rng.random((20, 30)) * 100).astype(dtype)
    got = read_all(WRAPPERS[wrapper](array, tmp_path))
    assert got.dtype.isnative
    assert got.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(got[0], array)


@pytest.mark.parametrize(
    "dtype", [object, "U5", "S3", "M8[s]", "m8[s]", "V4", np.longdouble, [("a", "u1"), ("b", "u1")]]
)
def test_what_is_no_number_is_an_error(dtype, tmp_path):
    if np.dtype(dtype) == np.float64:
        pytest.skip("long double is double here")
    array = np.zeros((20, 30), dtype)
    with raises(SourceError, hint=".astype"):
        open_source(array)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 0, 5), (0, 5, 5)])
def test_arrays_without_pixels_are_errors(shape):
    with pytest.raises(SourceError, match=r"nothing to read"):
        open_source(np.zeros(shape))


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (1, ("gray",)),
        (2, ("c0", "c1")),
        (3, ("r", "g", "b")),
        (4, ("r", "g", "b", "a")),
        (5, ("c0", "c1", "c2", "c3", "c4")),
    ],
)
def test_channels_get_usual_names(count, names):
    with open_source(np.zeros((count, 8, 9)), axes="cyx") as source:
        assert source.channels == names
    other = [f"band {i}" for i in range(count)]
    with open_source(np.zeros((count, 8, 9)), axes="cyx", channels=other) as source:
        assert source.channels == tuple(other)


def test_memory_is_not_copied(rng):
    array = rng.random((50, 60, 3))
    with open_source(array) as source:
        assert np.shares_memory(source.read({"y": slice(5, 9)}), array)
        assert source.interleaved
        assert source.band == 1
    with open_source(array.transpose(2, 0, 1)) as source:
        assert source.interleaved
    with open_source(np.ascontiguousarray(array.transpose(2, 0, 1))) as source:
        assert not source.interleaved


def test_npy_files_are_mapped_not_loaded(tmp_path):
    np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.uint8, shape=(40000, 50000))  # a sparse file
    with open_source(tmp_path / "a.npy") as source:
        assert source.shape == (1, 40000, 50000)
        assert source.read({"y": slice(39990, 40000), "x": slice(0, 5)}).sum() == 0
        assert source.metadata["format"] == "NPY"


def test_npy_files_in_fortran_order_are_read(rng, tmp_path, read_all):
    array = np.asfortranarray(rng.random((30, 40)))
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(read_all(tmp_path / "a.npy")[0], array)


def test_bands_and_interleaving_follow_chunks(tmp_path):
    array = da.zeros((3, 100, 100), chunks=(1, 20, 100))
    with open_source(array) as source:
        assert (source.band, source.interleaved) == (20, False)
    with open_source(da.zeros((100, 100, 3), chunks=(50, 50, 3))) as source:
        assert (source.band, source.interleaved) == (50, True)
    made = zarr.create_array(tmp_path / "a.zarr", shape=(3, 90, 90), chunks=(3, 30, 30), shards=(3, 90, 90), dtype="u1")
    with open_source(made) as source:
        assert (source.band, source.interleaved) == (30, True)


class TestXarray:
    @pytest.mark.parametrize(
        ("names", "dims", "order"),
        [
            (("y", "x"), "cyx", (0, 1)),
            (("lat", "lon"), "cyx", (0, 1)),
            (("Row", "COLUMN", "Band"), "cyx", (2, 0, 1)),
            (("time", "latitude", "longitude"), "tcyx", (0, 1, 2)),
            (("channel", "time", "y", "x"), "tcyx", (1, 0, 2, 3)),
            (("T", "C", "Z", "Y", "X"), "tczyx", (0, 1, 2, 3, 4)),
        ],
    )
    def test_names_tell_axes(self, names, dims, order, rng, read_all):
        array = rng.random((3, 4, 5, 6, 7)[: len(names)])
        with open_source(xr.DataArray(array, dims=names)) as source:
            assert source.dims == tuple(dims)
        want = array.transpose(order)
        assert np.array_equal(
            read_all(xr.DataArray(array, dims=names)),
            want if len(order) == len(dims) else np.expand_dims(want, dims.index("c")),
        )

    def test_names_that_mean_nothing_need_the_option(self, rng, read_all):
        array = xr.DataArray(rng.random((5, 6, 7)), dims=("station", "y", "x"), name="rain")
        with raises(SourceError, hint="axes=", match="^<xarray DataArray rain>: .*'station'"):
            open_source(array)
        assert read_all(array, axes="tyx").shape == (5, 1, 6, 7)

    def test_an_axis_named_twice_is_an_error(self, rng):
        with pytest.raises(SourceError, match=r"y and x, and each once"):
            open_source(xr.DataArray(rng.random((5, 6, 7)), dims=("row", "y", "x")))

    def test_coordinates_give_channels_and_times(self):
        times = np.array(["2024-01-01T00:00:00", "2024-01-01T00:00:30"], "M8[ns]")
        array = xr.DataArray(
            np.zeros((2, 3, 5, 6)),
            dims=("time", "band", "y", "x"),
            coords={"time": times, "band": ["B02", "B03", "B08"]},
            attrs={"_FillValue": -1},
        )
        with open_source(array) as source:
            assert source.channels == ("B02", "B03", "B08")
            assert source.times.tolist() == [0, 30]
            assert source.metadata["time_origin"].startswith("2024-01-01T00:00:00")
            assert source.nodata == -1

    @pytest.mark.parametrize(
        ("values", "units", "times"),
        [
            ([0.0, 0.5], None, [0, 0.5]),
            ([0, 1], None, None),
            ([0, 2], "s", [0, 2]),
            (np.array([0, 1500], "m8[ms]"), None, [0, 1.5]),
        ],
    )
    def test_only_what_are_seconds_become_times(self, values, units, times):
        coordinate = xr.Variable("t", values, {"units": units} if units else {})
        with open_source(xr.DataArray(np.zeros((2, 5, 6)), dims=("t", "y", "x"), coords={"t": coordinate})) as source:
            assert source.times is None if times is None else source.times.tolist() == times

    def test_dask_inside_stays_lazy(self):
        array = xr.DataArray(da.zeros((4, 1000, 1000), chunks=(1, 250, 1000)), dims=("t", "y", "x"))
        with open_source(array) as source:
            assert source.band == 250
            assert source.read({"t": slice(1, 2), "y": slice(0, 250)}).shape == (1, 1, 250, 1000)

    def test_the_image_of_a_dataset_is_taken_and_one_of_several_is_chosen(self, rng, read_all):
        heights, angles = rng.random((2, 5, 6))
        dataset = xr.Dataset({"heights": (("y", "x"), heights), "bounds": (("y", "nv"), np.zeros((5, 2)))})
        assert np.array_equal(read_all(dataset)[0], heights)
        dataset["angles"] = (("y", "x"), angles)
        with raises(SourceError, key="variable", hint="variable='heights'", match=r"'angles' \(y: 5, x: 6\) float64"):
            open_source(dataset)
        assert np.array_equal(read_all(dataset, variable="angles")[0], angles)
        with raises(OptionError, key="variable", match="'heights'"):
            open_source(dataset, variable="height")


class TestZarr:
    def test_dimension_names_of_format_3_are_used(self, rng, tmp_path, read_all):
        array = rng.random((5, 6, 7))
        as_zarr(array, tmp_path, 3, dimension_names=("x", "y", "band"))
        assert np.array_equal(read_all(tmp_path / "a.zarr"), array.transpose(2, 1, 0))

    def test_dimension_names_that_xarray_writes_to_format_2_are_used(self, rng, tmp_path, read_all):
        array = rng.random((5, 6, 7))
        as_zarr(array, tmp_path, 2).attrs["_ARRAY_DIMENSIONS"] = ["time", "y", "x"]
        assert np.array_equal(read_all(tmp_path / "a.zarr"), array[:, None])

    def test_a_group_is_not_an_array_and_its_arrays_are_named(self, tmp_path):
        group = zarr.open_group(tmp_path / "g.zarr", mode="w")
        for level in (0, 1):
            group.create_array(f"{level}/image", shape=(4, 4), dtype="u1")
        with raises(SourceError, path=tmp_path / "g.zarr", match="0/image, 1/image"):
            open_source(tmp_path / "g.zarr")
        with raises(SourceError, hint="Pass one of its arrays"):
            open_source(group)

    def test_a_damaged_chunk_is_an_error(self, rng, tmp_path):
        as_zarr(rng.random((40, 40)), tmp_path, 3)
        (tmp_path / "a.zarr" / "c" / "0" / "0").write_bytes(b"not a chunk")
        with (
            open_source(tmp_path / "a.zarr") as source,
            pytest.raises(SourceError, match=r"a.zarr: reading c 0:1, y 0:20"),
        ):
            source.read({"y": slice(0, 20)})

    def test_damaged_metadata_are_an_error(self, rng, tmp_path):
        as_zarr(rng.random((40, 40)), tmp_path, 3)
        (tmp_path / "a.zarr" / "zarr.json").write_text("{")
        with pytest.raises(SourceError, match=r"zarr.json"):
            open_source(tmp_path / "a.zarr")


def test_a_failing_task_is_an_error_that_names_the_window():
    def fail(block):
        raise RuntimeError("no network")

    array = da.zeros((10, 10), chunks=5).map_blocks(fail, dtype=float, meta=np.zeros((0, 0)))
    with (
        open_source(array) as source,
        raises(SourceError, hint="Check where", match="c 0:1, y 2:4, x 0:10 .*no network"),
    ):
        source.read({"y": slice(2, 4)})


def test_unknown_chunk_sizes_are_an_error():
    array = da.from_array(np.arange(20)).reshape(4, 5)
    with raises(SourceError, hint="compute_chunk_sizes"):
        open_source(array[array[:, 0] > 3])


def test_masked_arrays_are_errors():
    with raises(SourceError, hint="filled"):
        open_source(np.ma.masked_equal(np.zeros((5, 6)), 0))


@pytest.mark.parametrize("thing", [[[1, 2], [3, 4]], 5, None, b"bytes".hex, {"a": 1}])
def test_other_objects_are_errors_that_say_what_is_accepted(thing):
    with raises(SourceError, hint="Pass a path, or a numpy, dask, xarray or Zarr array"):
        open_source(thing)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("yxq", "'q'"),
        ("YX", "did you mean 'y'"),
        ("yxx", "every axis once"),
        ("tc", "has to name y and x"),
        (5, "string of axis letters"),
        ("yxc", "names 3 axes, but the array has 2"),
    ],
)
def test_axes_that_make_no_sense_are_errors(axes, message):
    with raises(OptionError, key="axes", match=message):
        open_source(np.zeros((5, 6)), axes=axes)


@pytest.mark.parametrize("channels", ["red", ["r", "r", "b"], ["r", "", "b"], ["r", 1, "b"], ["r", "g"]])
def test_channels_that_make_no_sense_are_errors(channels):
    with raises(OptionError, key="channels"):
        open_source(np.zeros((5, 6, 3)), channels=channels)


@pytest.mark.slow
def test_importing_sources_imports_no_array_library():
    code = (
        "import sys, ndzarr; before = set(sys.modules); import ndzarr._formats.registry; "
        "new = set(sys.modules) - before; "
        "sys.exit(str(new & {'dask', 'xarray', 'zarr', 'tifffile', 'PIL', 'imagecodecs'}).replace('set()', ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
