"""Files of the less usual formats in samples: the pixels are those that `transcode` stores."""

from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr

SHAPE = (40, 56)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def animated_png(frames) -> bytes:
    """An animated PNG of 16-bit gray, (t, y, x), as the APNG specification lays it out."""
    height, width = SHAPE
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
    out += chunk(b"acTL", struct.pack(">II", len(frames), 0))
    number = 0
    for k, frame in enumerate(frames):
        out += chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0))
        number += 1
        rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in frame))
        out += chunk(b"fdAT", struct.pack(">I", number) + rows) if k else chunk(b"IDAT", rows)
        number += k > 0
    return out + chunk(b"IEND", b"")


def write(kind: str, path, rng) -> np.ndarray:
    """Write a file; return its pixels, (c, y, x)."""
    deep = rng.integers(0, 1 << 12, (*SHAPE, 3)).astype("u2")
    index = rng.integers(0, 4, SHAPE).astype("u1")
    table = rng.integers(0, 256, (256, 3)).astype("u1")
    if kind == "16-bit APNG":
        frames = rng.integers(0, 1 << 16, (2, *SHAPE)).astype("u2")
        path.write_bytes(animated_png(frames))
        return frames[:, None]
    if kind == "12-bit JPEG 2000":
        path.write_bytes(imagecodecs.jpeg2k_encode(deep, level=0, reversible=True, bitspersample=12))
    elif kind == "12-bit JPEG XL":
        path.write_bytes(imagecodecs.jpegxl_encode(deep, lossless=True, bitspersample=12))
    elif kind == "tiled TIFF with a palette":
        colours = np.zeros((3, 256), "u2") + table.T.astype("u2") * 257
        tifffile.imwrite(path, index, photometric="palette", colormap=colours, tile=(16, 16))
        return table[index].transpose(2, 0, 1)
    else:
        image = Image.fromarray(index, "P")
        image.putpalette(table.reshape(-1).tolist())
        image.save(path, kind.split()[0])
        return table[index].transpose(2, 0, 1)
    return deep.transpose(2, 0, 1)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "kind",
    ["12-bit JPEG 2000", "12-bit JPEG XL", "16-bit APNG", "tiled TIFF with a palette"]
    + [f"{name} with a palette" for name in ("PNG", "GIF", "BMP")],
)
def test_samples_have_the_pixels_that_transcode_stores(kind, tmp_path):
    path = tmp_path / "image"
    expected = write(kind, path, np.random.default_rng(5))
    store = ndzarr.transcode(path, tmp_path / "own.zarr")
    np.testing.assert_array_equal(store.read(), expected)
    image = {"file_name": str(path), "width": SHAPE[1], "height": SHAPE[0]}
    if expected.ndim == 4:  # frames of one file
        frames = [{**image, "id": k, "video_id": 1, "frame_index": k} for k in range(len(expected))]
        dset = {"images": frames, "videos": [{"id": 1, "name": "film", "width": SHAPE[1], "height": SHAPE[0]}]}
        target = {"vidid": 1}
    else:
        dset, target = {"images": [{**image, "id": 1}]}, {"gid": 1}
    sampler = ndzarr.CocoSampler(dset, workdir=tmp_path / "work")
    sample = sampler.load_sample(target)
    assert sample.image.dtype == store.dtype
    assert tuple(sample.c.values) == store.channels
    np.testing.assert_array_equal(sample.image, expected)
    np.testing.assert_array_equal(sampler.load_batch([target]).image[0], expected)
    np.testing.assert_array_equal(sampler.load_sample(target, lazy=True).image, expected)
    half = sampler.load_sample(target, scale=0.5).image
    np.testing.assert_array_equal(half, store.window(scale=0.5))
