"""Everything that can be asked of a pyramid can be asked of a file that is read where it lies."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading

import numpy as np
import pytest
import tifffile

import ndzarr
from helpers.arrays import photo
from ndzarr import _files as bytefile

PIXELS = photo(600, 700)
WINDOW = {"y": slice(100, 350), "x": slice(60, 500)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "scene.tif"
    with tifffile.TiffWriter(path) as tif:
        for k, image in enumerate((PIXELS, np.ascontiguousarray(PIXELS[::2, ::2]))):
            how = {"tile": (128, 128), "photometric": "rgb", "compression": "zlib", "predictor": True}
            tif.write(image, subfiletype=min(k, 1), **how)
    return path


def cut(window):
    return np.moveaxis(PIXELS[window["y"], window["x"]], -1, 0)


def test_a_plan_says_what_is_read(path):
    pyramid = ndzarr.open(path)
    explained = pyramid.plan([WINDOW, {"y": slice(0, 10), "x": slice(60, 70)}]).explain()
    assert (explained.chunks, explained.shared, explained.missing) == (12, 1, 0)
    assert explained.engines == (("tiles of scene.tif (adobe_deflate)", 12),)
    with tifffile.TiffFile(path) as tif:
        assert explained.encoded_bytes == np.reshape(tif.pages[0].databytecounts, (5, 6))[:3, :4].sum()


def test_it_reads_as_the_store_made_of_it(path, tmp_path):
    pyramid, store = ndzarr.open(path), ndzarr.transcode(path, tmp_path / "a.zarr")
    assert (pyramid.dims, pyramid.shape, pyramid.channels, pyramid.dtype) == (
        store.dims,
        store.shape,
        store.channels,
        store.dtype,
    )
    assert pyramid.window(**WINDOW).identical(store.window(**WINDOW))
    assert pyramid.window(y=slice(-10, 30), x=slice(690, 720), c=["b", "r"]).identical(
        store.window(y=slice(-10, 30), x=slice(690, 720), c=["b", "r"])
    )
    ours, theirs = pyramid.to_xarray(), store.to_xarray()
    assert ours.identical(theirs)
    assert ours.chunks == ((3,), (600,), (700,))
    assert np.array_equal(ours[:, 100:350, 60:500], cut(WINDOW))
    assert set(pyramid.to_datatree().children) == {"0", "1", "2"}
    assert pyramid.attrs["ome"] == {
        **store.attrs["ome"],
        "multiscales": [{**store.attrs["ome"]["multiscales"][0], "name": path.name}],
    }


def test_it_shows_itself(path):
    pyramid = ndzarr.open(path)
    assert repr(pyramid).startswith("<ndzarr.Pyramid 'scene.tif' (c: 3, y: 600, x: 700) uint8>")
    assert "<img" in pyramid._repr_html_()


def test_pickles_are_small_and_open_the_file_again(path):
    data = pickle.dumps(ndzarr.open(path, cache_bytes=1 << 20))
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert copy.cache.max_bytes == 1 << 20
    assert np.array_equal(copy.read(**WINDOW), cut(WINDOW))


def test_a_token_changes_with_the_file(path):
    from dask.base import tokenize

    before = tokenize(ndzarr.open(path))
    assert tokenize(ndzarr.open(path)) == before
    os.utime(path, (1, 1))
    assert tokenize(ndzarr.open(path)) != before


def test_decoded_tiles_are_kept_if_asked(path):
    pyramid = ndzarr.open(path, cache_bytes=1 << 24)
    for _ in range(2):
        assert np.array_equal(pyramid.read(**WINDOW), cut(WINDOW))
    assert (pyramid.cache.hits, pyramid.cache.misses) == (12, 12)


def test_tiles_of_a_file_whose_missing_data_are_nan_are_kept_too(tmp_path):
    pixels = np.full((64, 64), np.nan, "f4")
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(32, 32), extratags=[(42113, 2, 0, "nan", True)])
    pyramid = ndzarr.open(tmp_path / "a.tif", cache_bytes=1 << 20)
    for _ in range(2):
        pyramid.read()
    assert (pyramid.cache.hits, pyramid.cache.misses) == (4, 4)


def test_threads_read_one_pyramid(path):
    pyramid, wrong = ndzarr.open(path), []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(40):
            y, x = (int(rng.integers(n)) for n in (500, 600))
            window = {"y": slice(y, y + 90), "x": slice(x, x + 90)}
            if not np.array_equal(pyramid.read(**window), cut(window)):
                wrong.append(window)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_more_files_than_stay_open_can_be_read(tmp_path):
    bytefile.DESCRIPTORS.clear()
    paths = [tmp_path / f"{k}.tif" for k in range(bytefile.MOST_FILES + 3)]
    for k, path in enumerate(paths):
        tifffile.imwrite(path, np.full((16, 16), k, "u2"), tile=(16, 16))
    pyramids = [ndzarr.open(path) for path in paths]  # afterwards: a file that was just written is waited for
    for _ in range(2):
        for k, pyramid in enumerate(pyramids):
            assert (pyramid.read() == k).all()
        assert len(bytefile.DESCRIPTORS) == bytefile.MOST_FILES


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 12) and sys.platform == "darwin", reason="forks of threads")
def test_a_fork_reads_on(path):
    pyramid = ndzarr.open(path)
    pyramid.read()  # opens the file, starts threads
    reader, writer = multiprocessing.Pipe()
    pid = os.fork() if sys.version_info < (3, 12) else None
    if pid is None:
        pytest.skip("Python 3.12 warns about forks of processes with threads")
    if not pid:
        try:
            writer.send(all(np.array_equal(pyramid.read(**WINDOW), cut(WINDOW)) for _ in range(5)))
        finally:
            os._exit(0)
    for _ in range(20):
        assert np.array_equal(pyramid.read(**WINDOW), cut(WINDOW))
    assert reader.recv() is True
    os.waitpid(pid, 0)


def test_a_link_is_read_as_the_file_that_it_means(path, tmp_path):
    (tmp_path / "inner" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "inner" / "deep")
    os.replace(path, tmp_path / "inner" / "scene.tif")
    pyramid = ndzarr.open(f"{tmp_path}/link/../scene.tif")
    assert pyramid.path == str(tmp_path / "inner" / "scene.tif")
    assert np.array_equal(pyramid.read(**WINDOW), cut(WINDOW))
