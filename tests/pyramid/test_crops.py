"""Crops that are read together, in as many threads as pay, are what each is by itself."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import ndzarr
from ndzarr._pyramid import crops
from ndzarr._pyramid.crops import make_crop as crop
from ndzarr.errors import DamagedError


@pytest.fixture
def pyramids(tmp_path):
    rng = np.random.default_rng(0)
    out = []
    for k in range(3):
        image = rng.integers(0, 255, (3, 900, 1000), dtype=np.uint8)
        out.append(ndzarr.transcode(image, tmp_path / f"{k}.zarr", nodata=0 if k == 2 else None))
    return out


@pytest.fixture
def large(pyramids):
    """Large windows, resampled and copied, inside and over borders."""
    return [
        crop(pyramids[k % 3], {"y": slice(7 * k, 600 + 9 * k), "x": slice(10 * k - 40, 11 * k + 700)}, scale)
        for k, scale in enumerate([0.37, 0.37, 0.3, 1.0, 0.45, 0.3, 0.25, 0.41] * 2)
    ]


@pytest.fixture
def turns(monkeypatch):
    """What was decoded in one go."""
    seen = []
    real = crops._decode
    monkeypatch.setattr(crops, "_decode", lambda some, images: seen.append(some) or real(some, images))
    return seen


def test_large_crops_of_several_arrays_are_each_what_it_is_alone(large, turns):
    alone = [crops.read_crops([c])[0] for c in large]
    turns.clear()
    together = crops.read_crops(large)
    assert len(turns) == len({id(c.request[0]) for c in large}) > 3
    for (image, valid), (wanted, mask) in zip(together, alone, strict=True):
        assert np.array_equal(image, wanted)
        assert (valid is None) == (mask is None)
        assert mask is None or np.array_equal(valid, mask)


def test_what_was_returned_is_not_overwritten_by_what_is_read_next(large):
    first = crops.read_crops(large)
    kept = [(image.copy(), None if valid is None else valid.copy()) for image, valid in first]
    for _ in range(2):
        crops.read_crops(large[::-1])
        for c in large:
            crops.read_crops([c])
    for (image, valid), (wanted, mask) in zip(first, kept, strict=True):
        assert np.array_equal(image, wanted)
        assert mask is None or np.array_equal(valid, mask)


def test_memory_in_which_pixels_land_is_used_again_and_bounded():
    taken = [crops.take_buffer((3, 300, 301), np.dtype("u2")) for _ in range(20)]
    assert len({array.ctypes.data for array in taken}) == 20
    for array in taken:
        crops.return_buffer(array)
    again = [crops.take_buffer((3, 300, 300), np.dtype("u2")) for _ in range(20)]
    owned = {array.ctypes.data for array in taken}
    assert 0 < sum(array.ctypes.data in owned for array in again) <= crops._free.maxlen
    assert crops.take_buffer((1, 10), np.dtype("f4")).base is None  # small ones are left to malloc
    assert crops.take_buffer((3, 2000, 2000), np.dtype("u1")).base is None  # large ones to the system


def test_small_crops_make_one_plan(pyramids, turns):
    some = [crop(p, {"y": slice(0, 100), "x": slice(0, 100)}, 0.37) for p in pyramids]
    crops.read_crops(some)
    assert len(turns) == 1


def test_damage_is_reported_while_other_crops_are_resampled(pyramids, large):
    for path in sorted(Path(pyramids[1].path).rglob("c/*/*/*")):
        content = bytearray(path.read_bytes())
        content[: len(content) // 2] = bytes(len(content) // 2)
        path.write_bytes(content)
    damaged = ndzarr.open(pyramids[1].path)
    wanted = [crop(damaged, {"y": slice(0, 800), "x": slice(0, 800)}, 0.37)]
    with pytest.raises(DamagedError) as caught:
        crops.read_crops([*[c for c in large if c.pyramid is not pyramids[1]], *wanted])
    assert Path(caught.value.path).is_relative_to(pyramids[1].path)


def test_crops_that_are_enlarged_take_the_memory_of_few_at_a_time(pyramids):
    small = [crop(pyramids[0], {"y": slice(0, 60), "x": slice(0, 60)}, 12) for _ in range(12)]
    crops.read_crops(small[:1])
    tracemalloc.start()
    try:
        images = crops.read_crops(small)
        made = sum(image.nbytes for image, _ in images)
        assert tracemalloc.get_traced_memory()[1] < 3 * made  # floats of all of them: 9 times
    finally:
        tracemalloc.stop()
