"""Pyramids that halve planes too."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Event, Thread

import numpy as np
import pytest
import tensorstore
import tifffile
import xarray
import zarr
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from helpers.metadata_schemas import validate_ome
from ndzarr._formats.registry import open_source
from ndzarr._pyramid.transcode import level_shapes, row_count
from ndzarr._store.downsample import reducer
from ndzarr._store.presets import Encoding
from ndzarr._store.validity import Validity
from ndzarr.errors import OptionError


def eighths(volume, level):
    """Exact means of 2x2x2 voxels (z, y, x), rounded as levels are."""
    grown = np.pad(volume, [(0, n % 2) for n in volume.shape], mode="edge").astype(object)
    z, y, x = (n // 2 for n in grown.shape)
    total = grown.reshape(z, 2, y, 2, x, 2).sum((1, 3, 5))
    return ((total + (4 if level % 2 else 3)) // 8).astype(volume.dtype)


@examples(40)
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7)),
    dtype=st.sampled_from(["u1", "i1", "u2", "i4", "u8", "i8"]),
    level=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_integers_are_rounded_once_from_all_eight_voxels(shape, dtype, level, seed):
    info = np.iinfo(dtype)
    volume = np.random.default_rng(seed).integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    halved = reducer(volume.dtype, "intensity", volume=True)(volume, level)
    np.testing.assert_array_equal(halved, eighths(volume, level))


def test_voxels_without_data_are_left_out_of_means():
    volume = np.full((2, 2, 2), -9, "i2")
    volume[0, 0, 0], volume[1, 1, 1] = 3, 6
    halve = reducer(volume.dtype, "intensity", Validity(nodata=-9), volume=True)
    assert halve(volume, 1).item() == 5
    assert halve(np.full((2, 2, 2), -9, "i2"), 1).item() == -9
    floats = np.where(volume == -9, np.nan, volume).astype("f4")
    assert reducer(floats.dtype, "intensity", volume=True)(floats, 1).item() == 4.5


def test_labels_become_the_most_frequent_one_of_eight():
    volume = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 2]]], "u2")
    assert reducer(volume.dtype, "labels", volume=True)(volume, 1).item() == 2
    volume[1, 1, 1] = 8
    assert reducer(volume.dtype, "labels", volume=True)(volume, 1).item() == 1  # all once: the first


@pytest.mark.parametrize("access", ["frames", "mixed", "tubes"])
def test_every_level_of_a_volume_is_the_mean_of_the_one_before(tmp_path, access):
    volume = np.random.default_rng(0).integers(0, 60000, (2, 2, 37, 270, 131), dtype="u2")
    path = tmp_path / "volume.zarr"
    pyramid = ndzarr.transcode(volume, path, axes="tczyx", reduce="zyx", access=access)
    assert [level.shape[2:] for level in pyramid.levels] == [(37, 270, 131), (19, 135, 66)]
    assert pyramid.levels[1].factors == (1, 1, 2, 2, 2)
    expected = np.array([[eighths(one, 1) for one in frame] for frame in volume])
    np.testing.assert_array_equal(pyramid.read(level=1), expected)
    np.testing.assert_array_equal(zarr.open(path)["1/image"][...], expected)
    assert ndzarr.verify(path).ok
    validate_ome(pyramid.attrs)
    scale = pyramid.attrs["ome"]["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert scale[0]["scale"] == [1, 1, 2, 2, 2]
    assert scale[1]["translation"] == [0, 0, 0.5, 0.5, 0.5]


def test_planes_of_coarser_levels_lie_between_those_they_were_made_from(tmp_path):
    pyramid = ndzarr.transcode(np.zeros((5, 260, 260), "u1"), tmp_path / "a.zarr", axes="zyx", reduce="zyx")
    assert pyramid.to_xarray(level=0).z.values.tolist() == [0, 1, 2, 3, 4]
    assert pyramid.to_xarray(level=1).z.values.tolist() == [0.5, 2.5, 4.5]
    with xarray.open_datatree(pyramid.path, engine="zarr", consolidated=True) as tree:
        assert tree["1"].z.values.tolist() == [0.5, 2.5, 4.5]


def test_windows_of_a_volume_are_exact_whatever_was_reduced(tmp_path):
    volume = np.random.default_rng(0).integers(0, 255, (9, 300, 280), dtype="u1")
    for reduce in ("yx", "zyx"):
        pyramid = ndzarr.transcode(volume, tmp_path / f"{reduce}.zarr", axes="zyx", reduce=reduce)
        window = pyramid.window(z=slice(2, 7), y=slice(10, 20), x=slice(-3, 9))
        np.testing.assert_array_equal(window[0, :, :, 3:], volume[2:7, 10:20, :9])
        assert window.z.values.tolist() == [2, 3, 4, 5, 6]


def test_an_image_without_planes_may_be_asked_to_reduce_them(tmp_path):
    pyramid = ndzarr.transcode(np.zeros((300, 300), "u1"), tmp_path / "a.zarr", reduce="zyx")
    assert [level.shape for level in pyramid.levels] == [(1, 300, 300), (1, 150, 150)]


@pytest.mark.parametrize("axes", ["TCZYX", "CZTYX", "ZCTYX", "ZTCYX"])
def test_stacks_in_any_stored_order_are_halved_alike_and_read_by_others(tmp_path, axes):
    stack = np.random.default_rng(0).integers(0, 60000, (2, 3, 5, 261, 130), dtype="u2")
    stored = stack.transpose(["TCZYX".index(a) for a in axes])
    tifffile.imwrite(tmp_path / "a.ome.tif", stored, metadata={"axes": axes}, photometric="minisblack", tile=(64, 64))
    pyramid = ndzarr.transcode(tmp_path / "a.ome.tif", tmp_path / "a.zarr", reduce="zyx", access="mixed")
    np.testing.assert_array_equal(pyramid.read(), stack)
    expected = np.array([[eighths(one, 1) for one in frame] for frame in stack])
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{pyramid.path}/1/image"}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), expected)


def test_planes_without_pixels_are_left_out_of_the_means_of_their_neighbours(tmp_path):
    volume = np.random.default_rng(0).random((5, 300, 20), dtype="f4")
    volume[1::2] = np.nan
    pyramid = ndzarr.transcode(volume, tmp_path / "a.zarr", axes="zyx", reduce="zyx")
    blocks = volume[::2].reshape(3, 150, 2, 10, 2)
    np.testing.assert_allclose(pyramid.read(level=1)[0], blocks.mean((2, 4)), rtol=1e-6)


def test_odd_chunks_make_the_same_levels(tmp_path):
    volume = np.random.default_rng(0).integers(0, 9, (11, 300, 141), dtype="u1")
    for kind in ("intensity", "labels"):
        plain, odd = (
            ndzarr.transcode(volume, tmp_path / f"{kind}{k}.zarr", axes="zyx", reduce="zyx", kind=kind, chunks=chunks)
            for k, chunks in enumerate(({}, {"z": 3, "y": 33, "x": 47}))
        )
        np.testing.assert_array_equal(plain.read(level=1), odd.read(level=1))


def test_the_bar_counts_the_halving_of_planes_too(tmp_path):
    with open_source(np.zeros((6, 600, 300), "u1"), axes="zyx") as source:
        encoding = Encoding(reduce="zyx")
        levels = level_shapes(source, encoding)
        assert len(levels) == 3
        assert row_count(source, levels[:-1]) == 6 * 600 + 6 * 600 + 3 * 300


def _held():
    """Bytes of this process that are no pages of files."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))


def _peak(path, dest):
    """The most that transcoding holds."""
    found, done = [_held()], Event()

    def watch():
        while not done.wait(0.005):
            found.append(_held())

    watcher = Thread(target=watch)
    watcher.start()
    ndzarr.transcode(path, dest, axes="zyx", reduce="zyx", access="tubes")
    done.set()
    watcher.join()
    return max(found)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux' own record of memory")
def test_a_volume_needs_little_memory_whatever_its_size(tmp_path):
    held = []
    for planes in (16, 64):
        volume = np.lib.format.open_memmap(tmp_path / "v.npy", "w+", "u2", (planes, 1024, 1024))
        volume[:] = np.arange(1024, dtype="u2")
        volume.flush()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            held.append(fresh.submit(_peak, tmp_path / "v.npy", tmp_path / f"{planes}.zarr").result())
    assert held[1] < held[0] + (48 << 20)  # the larger one has 96 MiB of pixels more


@pytest.mark.parametrize("option", [{"reduce": "zyxt"}, {"access": "tube"}])
def test_unknown_options_name_the_nearest_known(tmp_path, option):
    with raises(OptionError, key=next(iter(option)), match="did you mean"):
        ndzarr.transcode(np.zeros((4, 4), "u1"), tmp_path / "a.zarr", **option)


def test_a_volume_that_is_written_again_at_its_path_has_its_own_levels(tmp_path):
    for seed in range(4):
        volume = np.random.default_rng(seed).integers(0, 200, (1, 4, 280, 300)).astype("u1")
        how = {"axes": "czyx", "reduce": "zyx", "chunks": {"y": 64, "x": 64}, "overwrite": True}
        pyr = ndzarr.transcode(volume, tmp_path / "a.zarr", **how)
        assert np.array_equal(pyr.read(1), reducer(volume.dtype, "intensity", volume=True)(volume, 1))
