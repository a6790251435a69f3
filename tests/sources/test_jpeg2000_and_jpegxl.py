from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest

from helpers.errors import raises
from ndzarr._formats.registry import open_source
from ndzarr.errors import SourceError


@pytest.mark.parametrize("container", ["jp2", "j2k"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
@pytest.mark.parametrize("samples", [1, 3, 5])
def test_jpeg2000_is_as_imagecodecs_decodes_it(container, dtype, samples, rng, save, read_all):
    pixels = rng.integers(0, 120, (37, 51, samples)).astype(dtype)
    encoded = imagecodecs.jpeg2k_encode(pixels if samples > 1 else pixels[..., 0], level=0, codecformat=container)
    path = save("a.dat", encoded)
    assert np.array_equal(read_all(path), pixels.transpose(2, 0, 1))
    with open_source(path) as source:
        assert source.channels[0] == {1: "gray", 3: "r", 5: "c0"}[samples]
        assert source.metadata["format"] == "JPEG 2000"


@pytest.mark.parametrize(("bits", "dtype"), [(1, "u1"), (10, "u2"), (12, "u2")])
def test_jpeg2000_of_odd_depths_keeps_its_values(bits, dtype, rng, save, read_all):
    pixels = rng.integers(0, 1 << bits, (40, 41)).astype(dtype)
    path = save("a.jp2", imagecodecs.jpeg2k_encode(pixels, level=0, bitspersample=bits))
    assert np.array_equal(read_all(path)[0], pixels)


@pytest.mark.parametrize(("samples", "names"), [(2, ("gray", "a")), (4, ("r", "g", "b", "a"))])
def test_jpeg2000_behind_its_colours_has_alpha(samples, names, rng, save):
    pixels = rng.integers(0, 255, (20, 30, samples)).astype(np.uint8)
    with open_source(save("a.jp2", imagecodecs.jpeg2k_encode(pixels, level=0))) as source:
        assert source.channels == names


def test_jpeg2000_channel_definitions_are_believed(rng, save):
    pixels = rng.integers(0, 255, (20, 30, 4)).astype(np.uint8)
    data = imagecodecs.jpeg2k_encode(pixels, level=0)
    # put a box that says component 3 is opacity behind the colour box, and lengthen the header around it
    box = struct.pack(">I4sH", 8 + 2 + 24, b"cdef", 4)
    box += b"".join(struct.pack(">HHH", i, *((1, 0) if i == 3 else (0, i + 1))) for i in range(4))
    at = data.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", data, at)
    data = data[:at] + struct.pack(">I", length + len(box)) + data[at + 4 : at + length] + box + data[at + length :]
    with open_source(save("a.jp2", data)) as source:
        assert source.channels == ("r", "g", "b", "a")
        assert np.array_equal(source.read({}), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_jpegxl_is_as_imagecodecs_decodes_it(boxed, dtype, samples, rng, save, read_all):
    pixels = (rng.random((37, 51, samples)) * (1 if dtype == "f4" else 250)).astype(dtype)
    encoded = imagecodecs.jpegxl_encode(pixels if samples > 1 else pixels[..., 0], lossless=True, usecontainer=boxed)
    path = save("a.dat", encoded)
    assert np.array_equal(read_all(path), pixels.transpose(2, 0, 1))
    with open_source(path) as source:
        assert source.channels == {1: ("gray",), 2: ("gray", "a"), 3: ("r", "g", "b"), 4: ("r", "g", "b", "a")}[samples]


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (64, 128), (9, 1000), (1, 1), (600, 800), (8192, 3)])
def test_jpegxl_headers_of_every_kind_are_understood(size, rng, save, read_all):
    pixels = rng.integers(0, 255, size).astype(np.uint8)
    path = save("a.jxl", imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1))
    assert np.array_equal(read_all(path)[0], pixels)


@pytest.mark.parametrize("shape", [(5, 20, 30), (5, 20, 30, 3)])
def test_animated_jpegxl_has_frames_along_t(shape, rng, save, read_all):
    pixels = rng.integers(0, 255, shape).astype(np.uint8)
    photometric = "rgb" if shape[-1] == 3 else "gray"
    path = save("a.jxl", imagecodecs.jpegxl_encode(pixels, lossless=True, photometric=photometric))
    got = read_all(path)
    assert np.array_equal(got, pixels[:, None] if len(shape) == 3 else pixels.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.95, 0.999])
@pytest.mark.parametrize("form", ["jp2", "j2k", "jxl"])
def test_a_truncated_file_is_an_error(form, kept, photo, save):
    if form == "jxl":
        data = imagecodecs.jpegxl_encode(photo, lossless=True)
    else:
        data = imagecodecs.jpeg2k_encode(photo, level=0, codecformat=form)
        data = data[: data.index(b"\xff\xd9") + 2]  # older encoders leave junk behind the end
    path = save("image", data[: int(len(data) * kept)])
    with raises(SourceError, path=path), open_source(path) as source:
        source.read({})
