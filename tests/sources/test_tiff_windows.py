from __future__ import annotations

import os
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from helpers.hypothesis_settings import examples
from ndzarr._formats.registry import open_source
from ndzarr._store.core import FlatPlan

HEIGHT, WIDTH, TILE, ROWS = 150, 170, 64, 32
EDGES_Y = [0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 149, 150]
EDGES_X = [0, 1, 63, 64, 65, 127, 128, 129, 169, 170]
FILES = {
    "plain tiles": {"tile": (TILE, TILE)},
    "plain tiles of the other byte order": {"tile": (TILE, TILE), "byteorder": ">"},
    "plain strips": {"rowsperstrip": ROWS},
    "plain rows": {"rowsperstrip": 1, "byteorder": ">"},
    "one plain strip": {"rowsperstrip": HEIGHT},
    "compressed tiles": {"tile": (TILE, TILE), "compression": "zlib", "predictor": True},
    "compressed strips": {"rowsperstrip": ROWS, "compression": "lzw"},
    "one compressed strip": {"rowsperstrip": HEIGHT, "compression": "zlib"},
}
LAYOUTS = {
    "gray": ((HEIGHT, WIDTH), {"photometric": "minisblack"}),
    "interleaved": ((HEIGHT, WIDTH, 3), {"photometric": "rgb"}),
    "planar": ((3, HEIGHT, WIDTH), {"photometric": "rgb", "planarconfig": "separate"}),
}


@pytest.fixture(scope="module", params=list(product(FILES, LAYOUTS)), ids=" ".join)
def file(request, tmp_path_factory):
    """(path, pixels with axes c y x)"""
    how, layout = request.param
    shape, options = LAYOUTS[layout]
    pixels = np.random.default_rng(1).integers(0, 60000, shape).astype(np.uint16)
    path = tmp_path_factory.mktemp("windows") / "a.tif"
    tifffile.imwrite(path, pixels, **FILES[how], **options)
    return path, {"gray": pixels[None], "interleaved": np.moveaxis(pixels, -1, 0), "planar": pixels}[layout]


def test_windows_at_the_edges_of_tiles_and_strips_equal_slices(file):
    path, pixels = file
    rows = [(a, b) for a, b in product(EDGES_Y, EDGES_Y) if a < b]
    columns = [(a, b) for a, b in product(EDGES_X, EDGES_X) if a < b]
    with open_source(path) as source:
        for i, (top, bottom) in enumerate(rows):
            left, right = columns[(7 * i) % len(columns)]
            window = {"y": slice(top, bottom), "x": slice(left, right)}
            assert np.array_equal(source.read(window), pixels[:, top:bottom, left:right]), window


def test_any_channels_can_be_read_alone(file):
    path, pixels = file
    with open_source(path) as source:
        for a, b in product(range(4), range(4)):
            if a < b <= len(pixels):
                got = source.read({"c": slice(a, b), "y": slice(20, 140), "x": slice(50, 130)})
                assert np.array_equal(got, pixels[a:b, 20:140, 50:130])


def test_bands_put_together_are_the_image(file):
    path, pixels = file
    with open_source(path) as source:
        assert 1 <= source.band <= HEIGHT
        step = max(source.band, 8)
        bands = [source.read({"y": slice(y, y + step)}) for y in range(0, HEIGHT, step)]
    assert np.array_equal(np.concatenate(bands, axis=1), pixels)


def test_several_threads_read_one_source(file):
    path, pixels = file
    windows = [(y, x) for y in range(0, HEIGHT - 40, 13) for x in range(0, WIDTH - 40, 17)]
    gate = threading.Barrier(4)
    with open_source(path) as source, ThreadPoolExecutor(4) as pool:

        def check(part):
            gate.wait()
            for y, x in windows[part::4]:
                got = source.read({"y": slice(y, y + 40), "x": slice(x, x + 40)})
                assert np.array_equal(got, pixels[:, y : y + 40, x : x + 40])

        list(pool.map(check, range(4)))


@examples(60, HealthCheck.function_scoped_fixture)
@given(data=st.data())
def test_any_tile_strip_and_window_size_equals_a_slice(data, tmp_path):
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    samples = data.draw(st.integers(1, 5))
    planar = data.draw(st.booleans()) and samples > 1
    shape = (samples, height, width) if planar else (height, width, samples)
    pixels = (
        np.random.default_rng(height).integers(0, 255, shape).astype(data.draw(st.sampled_from(["u1", "u2", "f4"])))
    )
    how = data.draw(
        st.one_of(
            st.builds(lambda r: {"rowsperstrip": r}, st.integers(1, height)),
            st.builds(lambda h, w: {"tile": (16 * h, 16 * w)}, st.integers(1, 4), st.integers(1, 4)),
        )
    )
    how["compression"] = data.draw(st.sampled_from([None, "zlib"]))
    how["byteorder"] = data.draw(st.sampled_from("<>"))
    path = tmp_path / "a.tif"
    config = "separate" if planar else "contig" if samples > 1 else None
    stored = pixels if samples > 1 else pixels[..., 0]
    tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=config, **how)
    want = pixels if planar else np.moveaxis(pixels, -1, 0)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    with open_source(path) as source:
        got = source.read({"y": slice(top, bottom), "x": slice(left, right)})
    assert np.array_equal(got, want[:, top:bottom, left:right])


def test_a_source_says_whether_channels_are_stored_together(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    with open_source(path) as source:
        assert source.interleaved
    tifffile.imwrite(path, np.zeros((3, 64, 64), np.uint8), photometric="rgb", planarconfig="separate")
    with open_source(path) as source:
        assert not source.interleaved
        assert source.read({}).flags.c_contiguous


@pytest.mark.parametrize(
    ("how", "band"),
    [
        ({"tile": (64, 32)}, 64),
        ({"rowsperstrip": 25, "compression": "zlib"}, 25),
        ({"rowsperstrip": 150, "compression": "zlib"}, 150),
        ({"rowsperstrip": 25}, 1),
    ],
)
def test_the_band_is_what_is_decoded_together(how, band, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((HEIGHT, WIDTH), np.uint8), photometric="minisblack", **how)
    with open_source(path) as source:
        assert source.band == band


@pytest.fixture
def reads(monkeypatch):
    """(bytes, offset) of each read of a file's range; of the compiled core, of each chunk."""
    found, preadv, decode = [], os.preadv, FlatPlan.decode

    def noted(fd, buffers, offset):
        got = preadv(fd, buffers, offset)
        found.append((got, offset))
        return got

    def noted_of_core(self, *args):
        found.extend(np.frombuffer(self.chunks, np.int64).reshape(-1, 6)[:, [2, 1]].tolist())
        return decode(self, *args)

    monkeypatch.setattr(os, "preadv", noted)
    monkeypatch.setattr(FlatPlan, "decode", noted_of_core)
    return found


@pytest.mark.parametrize(
    ("how", "most"),
    [
        ({"tile": (64, 64)}, 2 * 64 * 64),
        ({"rowsperstrip": 64}, 64 * 1000),
        ({"rowsperstrip": 1000}, 64 * 1000),
        ({"tile": (64, 64), "compression": "zlib"}, 3 * 64 * 64),
        ({"rowsperstrip": 64, "compression": "zlib"}, 3 * 64 * 1000),
    ],
)
def test_only_the_tiles_and_strips_of_a_window_are_read(how, most, rng, tmp_path, reads):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rng.integers(0, 255, (1000, 1000)).astype(np.uint8), photometric="minisblack", **how)
    with open_source(path) as source:
        assert not reads
        source.read({"y": slice(512, 576), "x": slice(512, 600)})
    assert 0 < sum(got for got, _ in reads) <= most


@pytest.mark.parametrize("how", [{"tile": (512, 512)}, {"rowsperstrip": 64}, {"rowsperstrip": 30000}])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_huge_images_are_read_in_little_memory(how, compression, tmp_path):
    if compression and how.get("rowsperstrip") == 30000:
        pytest.skip("a single compressed strip can only be decoded as a whole")
    path, size = tmp_path / "a.tif", 30000
    if compression is None:
        tifffile.imwrite(path, shape=(size, size), dtype=np.uint8, photometric="minisblack", **how)  # a sparse file
    else:
        step, width = how.get("tile", (how.get("rowsperstrip"), size))
        count = -(-size // step) * (-(-size // width))
        last = np.zeros((size % step or step, width), np.uint8)
        blank = np.zeros((step, width), np.uint8)
        whole, rest = (tifffile.tifffile.imagecodecs.zlib_encode(b.tobytes()) for b in (blank, last))
        segments = (rest if "tile" not in how and i == count - 1 else whole for i in range(count))
        tifffile.imwrite(
            path, segments, shape=(size, size), dtype=np.uint8, photometric="minisblack", compression=compression, **how
        )
    tracemalloc.start()
    try:
        with open_source(path) as source:
            assert source.shape == (1, size, size)
            rows = max(source.band, 100)
            for top in (0, 15000 // rows * rows, size - rows):
                assert source.read({"y": slice(top, top + rows)}).shape == (1, rows, size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_a_large_strip_that_is_read_in_parts_is_decoded_once(rng, tmp_path, reads):
    path = tmp_path / "a.tif"
    pixels = rng.integers(0, 50, (3000, 3000)).astype(np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack", compression="zlib", rowsperstrip=3000)
    with open_source(path) as source:
        for y in range(0, 3000, 500):
            assert np.array_equal(source.read({"y": slice(y, y + 500)})[0], pixels[y : y + 500])
    assert sum(got for got, _ in reads) < path.stat().st_size


def test_thousands_of_files_can_be_open_at_once(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((20, 20), np.uint8), photometric="minisblack")
    sources = [open_source(path) for _ in range(1500)]
    for source in sources:
        source.close()
