"""`to_xarray` and `to_datatree`: lazy, in blocks worth a task, labelled, and the same pixels."""

import pickle

import cloudpickle
import dask
import numpy as np
import pytest
import xarray

import ndzarr
from helpers.arrays import random_array
from helpers.errors import raises
from helpers.pyramids import make
from ndzarr.errors import OptionError, WindowError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    array = random_array((2, 3, 300, 420), "u2")
    return array, make(
        tmp_path_factory.mktemp("lazy"), array, ("t", "c", "y", "x"), chunks={"y": 32, "x": 32}, shard=96
    )


def test_a_level_has_the_pixels_and_coordinates_of_windows(store):
    array, pyramid = store
    for k, level in enumerate(pyramid.levels):
        lazy = pyramid.to_xarray(level=k)
        assert lazy.dims == ("t", "c", "y", "x")
        assert lazy.dtype == array.dtype
        assert np.array_equal(lazy.values, pyramid.read(level=k))
        f = 2**k
        window = pyramid.window(y=slice(0, level.shape[-2] * f), x=slice(0, level.shape[-1] * f), scale=1 / f)
        xarray.testing.assert_equal(lazy.compute(), window.drop_vars("valid", errors="ignore"))


def test_blocks_are_whole_shards(store):
    _, pyramid = store
    for k, level in enumerate(pyramid.levels):
        lazy = pyramid.to_xarray(level=k)
        shard = level.array.shards
        for lengths, n in zip(lazy.chunks, shard, strict=True):
            assert set(lengths[:-1]) <= {n}
            assert lengths[-1] <= n
        assert lazy.data.npartitions == np.prod([-(-m // n) for m, n in zip(level.shape, shard, strict=True)])


def test_blocks_may_be_chosen_by_axis(store):
    array, pyramid = store
    lazy = pyramid.to_xarray(chunks={"y": 100, "t": 1})
    assert lazy.chunksizes["y"] == (100, 100, 100)
    assert lazy.chunksizes["t"] == (1, 1)
    assert lazy.chunksizes["x"][0] == 96
    assert np.array_equal(lazy.values, array)


@pytest.mark.parametrize("chunks", ["chunks", 64, None, {"w": 3}, {"y": 0}, {"y": -5}])
def test_blocks_that_make_no_sense_are_refused(store, chunks):
    with raises(OptionError, key="chunks"):
        store[1].to_xarray(chunks=chunks)


def test_a_level_that_does_not_exist_is_refused(store):
    for level in (9, -1):
        with raises(WindowError, key="level", match=f"level {level} does not exist"):
            store[1].to_xarray(level=level)


INDICES = [
    np.s_[0],
    np.s_[..., 5],
    np.s_[1, 2, 3, 4],
    np.s_[:, ::-1],
    np.s_[..., ::-3],
    np.s_[:, :, 10:200:7, -50:],
    np.s_[:, [2, 0]],
    np.s_[:, :, [5, 299, 7]],
    np.s_[..., 419:],
    np.s_[0, :, 5:5],
    np.s_[:, :, -1],
    np.s_[:, :, 290:9999],
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_slices_of_a_lazy_level_are_numpys(store, index):
    array, pyramid = store
    assert np.array_equal(pyramid.to_xarray().data[index].compute(), array[index])


def test_selections_by_label_read_only_the_blocks_they_touch(store, monkeypatch):
    array, pyramid = store
    lazy = pyramid.to_xarray()
    reads = []
    read = ndzarr._pyramid.lazy.read_window
    monkeypatch.setattr(ndzarr._pyramid.lazy, "read_window", lambda *args: (reads.append(args), read(*args))[1])
    part = lazy.sel(t=1, c="c2", y=slice(100, 150), x=slice(0, 90)).compute(scheduler="synchronous")
    assert np.array_equal(part, array[1, 2, 100:150, :90])
    assert len(reads) == 1


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_reductions_over_blocks_are_those_of_the_array(store, scheduler):
    array, pyramid = store
    with dask.config.set(scheduler=scheduler):
        assert pyramid.to_xarray().astype("f8").mean().values == pytest.approx(array.mean(dtype="f8"))
        assert np.array_equal(pyramid.to_xarray().max(("y", "x")), array.max(axis=(2, 3)))


def test_a_lazy_level_pickles_to_little_more_than_a_path(store):
    array, pyramid = store
    lazy = pyramid.to_xarray()
    content = pickle.dumps(lazy.data)
    assert len(content) < 40_000
    assert np.array_equal(pickle.loads(content).compute(), array)
    assert len(cloudpickle.dumps(lazy.data[0, 0, :10, :10])) < 40_000
    assert np.array_equal(pickle.loads(cloudpickle.dumps(lazy)).values, array)


def test_names_of_tasks_are_those_of_the_store_and_change_with_it(tmp_path):
    first = make(tmp_path, random_array((1, 300, 300), "u1", 1))
    name = first.to_xarray().data.name
    assert ndzarr.open(first.path).to_xarray().data.name == name
    assert pickle.loads(pickle.dumps(first)).to_xarray().data.name == name
    assert first.to_xarray(chunks={"y": 50}).data.name != name
    assert first.to_xarray(level=1).data.name != name
    second = make(tmp_path, random_array((1, 300, 300), "u1", 2), overwrite=True)
    assert second.to_xarray().data.name != name


def test_a_tree_has_every_level_as_a_child(store):
    array, pyramid = store
    tree = pyramid.to_datatree()
    assert isinstance(tree, xarray.DataTree)
    assert list(tree.children) == [str(k) for k in range(len(pyramid.levels))]
    assert tree.attrs == pyramid.attrs
    for k, level in enumerate(pyramid.levels):
        image = tree[f"{k}/image"]
        assert image.shape == level.shape
        assert image.chunks is not None
        assert np.array_equal(image[0, 0, 5:9].values, pyramid.read(level=k)[0, 0, 5:9])
    assert np.array_equal(tree["0/image"].sel(c="c1", t=0), array[0, 1])


def test_nodata_stands_in_the_attributes(tmp_path):
    pyramid = make(tmp_path, random_array((1, 30, 30), "u1"), nodata=3.0)
    assert pyramid.to_xarray().attrs["_FillValue"] == 3


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_stores_of_other_writers_are_lazy_too(tmp_path, sharded, zarr_format):
    import zarr

    if sharded and zarr_format == 2:
        sharded = False
    array = random_array((40, 50), "i2")
    written = zarr.create_array(
        tmp_path / "a",
        shape=(40, 50),
        chunks=(8, 8),
        shards=(16, 16) if sharded else None,
        dtype="i2",
        zarr_format=zarr_format,
    )
    written[...] = array
    lazy = ndzarr.open(tmp_path / "a").to_xarray()
    assert lazy.chunks[0][0] == (16 if sharded else 8)
    assert np.array_equal(lazy.values, array)
    assert np.array_equal(lazy[::-1, 3].values, array[::-1, 3])
    assert np.array_equal(pickle.loads(pickle.dumps(lazy.data)).compute(), array)
