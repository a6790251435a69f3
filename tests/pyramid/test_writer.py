"""Writing: whatever way the rows come, each is read once and lands where it belongs, in little memory."""

import subprocess
import sys
import tempfile
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import ndzarr
from helpers.arrays import random_array, same
from helpers.hypothesis_settings import examples
from helpers.pyramids import ArraySource, make, read_with_zarr
from helpers.subprocesses import environment
from ndzarr._pyramid.transcode import write_pyramid
from ndzarr._store.presets import Encoding


@st.composite
def sources(draw):
    dims = draw(
        st.sampled_from((("c", "y", "x"), ("t", "c", "y", "x"), ("c", "z", "y", "x"), ("t", "c", "z", "y", "x")))
    )
    lengths = {"t": draw(st.integers(1, 7)), "z": draw(st.integers(1, 4)), "c": draw(st.integers(1, 9))}
    lengths |= {"y": draw(st.integers(1, 60)), "x": draw(st.integers(1, 40))}
    chunks = {d: draw(st.integers(1, 12)) for d in dims if draw(st.booleans())}
    assume(prod(-(-lengths[d] // chunks.get(d, 60 if d in "yx" else 1)) for d in dims) <= 2000)  # chunks take time
    return dims, tuple(lengths[d] for d in dims), chunks, draw(st.booleans()), draw(st.integers(1, 70))


@given(sources(), st.sampled_from((1, 7, 64, 500, 10**6)), st.sampled_from((8, 24, 2048)), st.integers(1, 3))
@examples(20)
def test_every_pixel_of_the_source_is_read_exactly_once(source, band_bytes, shard, workers):
    dims, shape, chunks, interleaved, band = source
    array = random_array(shape, "u2", 1)
    with tempfile.TemporaryDirectory() as folder:
        opened = ArraySource(array, dims, band=band, interleaved=interleaved)
        path = Path(folder, "a.zarr")
        encoding = Encoding(chunks=tuple(chunks.items()), shard=shard)
        write_pyramid(opened, path, encoding, workers=workers, band_bytes=band_bytes)
        count = np.zeros(shape, int)
        for window in opened.windows:
            count[window] += 1
            rows = window[-2]
            assert rows.start % band == 0, "bands of the source are not cut"
            assert rows.stop % band == 0 or rows.stop == shape[-2]
            if interleaved:
                assert window[dims.index("c")] == slice(0, shape[dims.index("c")])
        assert (count == 1).all()
        assert same(ndzarr.open(path).read(), array)
        assert same(read_with_zarr(path, "0/image"), array)


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_the_number_of_workers_changes_no_byte(tmp_path, workers):
    array = random_array((3, 400, 300), "u1", zeros=0.5)
    stores = []
    for name, n in (("one", 1), ("many", workers)):
        (tmp_path / name).mkdir()
        path = Path(make(tmp_path / name, array, workers=n, shard=256).path)
        stores.append({p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()})
    assert stores[0] == stores[1]


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 600), (1, 600, 1), (9, 2, 2), (1, 256, 256), (1, 257, 257), (2, 255, 513)]
)
@pytest.mark.parametrize("preset", ["fast", "compact"])
def test_shapes_at_the_borders(tmp_path, shape, preset):
    array = random_array(shape, "u2")
    pyramid = make(tmp_path, array, preset=preset)
    assert same(pyramid.read(), array)
    assert max(pyramid.levels[-1].shape[-2:]) <= 256
    assert len(pyramid.levels) == 1 or max(pyramid.levels[-2].shape[-2:]) > 256


def test_an_image_of_zeros_takes_next_to_no_space(tmp_path):
    pyramid = make(tmp_path, np.zeros((3, 3000, 3000), "u2"))
    assert not pyramid.read(y=slice(1000, 1200), x=slice(1000, 1200)).any()
    size = sum(p.stat().st_size for p in Path(pyramid.path).rglob("*") if p.is_file())
    assert size < 100_000
    cost = pyramid.plan([{}]).explain()
    assert cost.missing == cost.chunks
    assert cost.encoded_bytes == cost.decoded_bytes == 0


TALL = """
import resource, sys
import numpy as np
from math import prod
from pathlib import Path
from helpers.subprocesses import environment
from helpers.pyramids import ArraySource
from ndzarr._store.presets import Encoding
from ndzarr._pyramid.transcode import write_pyramid
import cv2, imagecodecs, tqdm  # what writing imports is not what it needs for pixels

class Lazy(ArraySource):
    def read(self, window):
        rows = window["y"]
        return bank[:, rows.start % 512 : rows.start % 512 + rows.stop - rows.start]

height, width = int(sys.argv[2]), 1024
bank = np.random.default_rng(0).integers(0, 50, (3, 8192, width), dtype="u1")
source = Lazy(np.broadcast_to(np.uint8(0), (3, height, width)), band=512)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_pyramid(source, Path(sys.argv[1], str(height)), Encoding(sys.argv[3]), workers=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["fast", "compact"])
def test_memory_does_not_grow_with_the_height_of_the_image(tmp_path, preset):
    peaks = []
    for height in (20_000, 80_000):
        done = subprocess.run(
            [sys.executable, "-c", TALL, str(tmp_path), str(height), preset],
            text=True,
            capture_output=True,
            timeout=100,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout) / 1024)
    short, tall = peaks
    assert tall < 150, "MiB above what was there before; the image has 234 MiB"
    assert tall < short + 25
