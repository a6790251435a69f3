"""What a pyramid would take, told before it is made."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import tifffile

import ndzarr
from helpers.arrays import photo
from ndzarr._formats.registry import open_source
from ndzarr._library.inventory import size_on_disk
from ndzarr._pyramid.transcode import WINDOWS, estimate
from ndzarr._store.presets import Encoding


def _check(source, folder, within=0.12, **options):
    encoding = Encoding(**{k: v for k, v in options.items() if k != "axes"})
    with open_source(source, axes=options.get("axes")) as opened:
        found = estimate(opened, encoding)
    for one in found:
        path = folder / f"{one.preset}.zarr"
        ndzarr.transcode(source, path, preset=one.preset, **options)
        taken = sum(size_on_disk(level) for level in path.glob("*/image"))
        assert abs(one.nbytes - taken) < within * taken + 4 * one.error + 4096  # what is said of each level
    return [one.preset for one in found]


def test_photographs_are_estimated_under_each_preset(tmp_path):
    assert _check(photo(1100, 1301), tmp_path) == ["fast", "compact", "jpeg"]


def test_pixels_that_jpeg_cannot_hold_are_estimated_without_it(tmp_path):
    image = photo(600, 700)[..., 0].astype("u2") * 200
    assert _check(image, tmp_path) == ["fast", "compact"]


def test_frames_and_volumes_are_estimated(tmp_path):
    frames = np.stack([np.roll(photo(200, 300), 3 * t, 1) for t in range(9)])
    _check(frames, tmp_path, axes="tyxc", access="mixed", within=0.2)


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (257, 2)])
def test_small_images_are_estimated_too(tmp_path, shape):
    _check(photo(*shape), tmp_path, within=0.3)


def test_labels_and_blank_images_are_estimated(tmp_path):
    labels = np.kron(np.random.default_rng(0).integers(0, 5, (30, 40), dtype=np.uint8), np.ones((20, 20), np.uint8))
    _check(labels, tmp_path, kind="labels", within=0.5)


def test_blank_images_are_estimated_to_take_next_to_nothing(tmp_path):
    _check(np.zeros((900, 900), "u2"), tmp_path, within=0.5)


def test_little_of_a_large_image_is_read(tmp_path):
    path = tmp_path / "large.tif"
    tile = zlib.compress(photo(256, 256).tobytes())  # once for all tiles: tifffile writes bytes as they are
    with tifffile.TiffWriter(path) as file:
        file.write((tile for _ in range(40 * 40)), shape=(10240, 10240, 3), dtype="u1", tile=(256, 256), compression=8)
    done = []
    with open_source(path) as source:
        wanted = []
        read = source.read
        source.read = lambda window: wanted.append(read(window)) or wanted[-1]
        estimate(source, advance=lambda: done.append(1))
    assert len(done) == len(wanted) == WINDOWS
    assert sum(pixels.size for pixels in wanted) < 0.02 * 10240 * 10240 * 3


def test_what_reducing_planes_saves_is_part_of_it(tmp_path):
    volume = np.stack([photo(300, 320)[..., 0]] * 8)
    _check(volume, tmp_path, axes="zyx", access="tubes", reduce="zyx", within=0.2)
