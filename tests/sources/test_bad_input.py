from __future__ import annotations

import io
import json
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.errors import raises
from ndzarr._formats.registry import open_source
from ndzarr.errors import MissingError, NdzarrError, OptionError, SourceError, WindowError

WRITERS = {
    "PNG": lambda pixels: imagecodecs.png_encode(pixels),
    "JPEG": lambda pixels: imagecodecs.jpeg8_encode(pixels),
    "WebP": lambda pixels: imagecodecs.webp_encode(pixels),
    "BMP": lambda pixels: imagecodecs.bmp_encode(pixels),
    "GIF": lambda pixels: with_pillow(pixels, "GIF"),
    "TIFF": lambda pixels: with_tifffile(pixels),
    "JPEG 2000": lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0),
    "JPEG XL": lambda pixels: imagecodecs.jpegxl_encode(pixels, lossless=True),
    "NPY": lambda pixels: with_numpy(pixels),
}


def with_pillow(pixels: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def with_tifffile(pixels: np.ndarray, **how) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb", **how)
    return buffer.getvalue()


def with_numpy(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


def check_message(error: NdzarrError, path: object) -> str:
    """A message is one line that begins with the absolute path."""
    message = str(error)
    assert "\n" not in message
    assert message.startswith(f"{os.path.abspath(path)}: ")
    assert "  " not in message
    assert error.path == os.path.abspath(path)
    return message


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("name", ["a.txt", "a", "a.png", "a.jpg", "a.tif", "ä ö.bmp"])
def test_content_decides_not_the_name(form, name, photo, save):
    path = save(name, WRITERS[form](photo))
    for given in (path, str(path)):
        with open_source(given) as source:
            assert source.metadata["format"] == form
            assert source.name == str(path)
            assert source.read({}).shape == (3, *photo.shape[:2])


@pytest.mark.parametrize("given", ["nowhere.png", "not/a/folder/x.tif"])
def test_a_missing_path_is_a_missing_error(given, tmp_path):
    path = tmp_path / given
    with pytest.raises(MissingError) as caught:
        open_source(path)
    assert "there is no such file" in check_message(caught.value, path)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_path_through_a_file_is_a_missing_error(save):
    path = save("a.txt", b"text") / "x.png"
    with pytest.raises(MissingError):
        open_source(path)


def test_a_relative_path_becomes_absolute(photo, tmp_path, monkeypatch):
    Image.fromarray(photo).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    with open_source("a.png") as source:
        assert source.name == str(tmp_path / "a.png")


OTHERS = {
    b"": "the file is empty",
    bytes(5000): "zero bytes only",
    b"hello, this is a text\nof two lines\n": "looks like text",
    "Grüße aus Köln, und noch viel mehr".encode() * 200: "looks like text",
    b"<!DOCTYPE html><html><body>404 not found</body></html>": "looks like HTML",
    b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="5"/>': "SVG",
    b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41": "video",
    b"\0\0\0\x14ftypqt  \0\0\0\0qt  ": "video",
    b"\x1a\x45\xdf\xa3\x01\0\0\0": "video",
    b"RIFF\x24\0\0\0AVI LIST": "video",
    b"FLV\x01\x05\0\0\0\x09": "video",
    b"\0\0\x01\xba\x44": "video",
    b"\x47" + bytes(187) + b"\x47" + bytes(187) + b"\x47": "video",
    b"\0\0\0\x1cftypavif\0\0\0\0": "AVIF",
    b"\0\0\0\x18ftypheic\0\0\0\0": "HEIF",
    b"\x89HDF\r\n\x1a\n\0\0\0": "HDF5",
    b"CDF\x01\0\0\0\0": "NetCDF",
    b"%PDF-1.7\n%\xe2\xe3": "PDF",
    b"8BPS\0\x01": "Photoshop",
    bytes(128) + b"DICM": "DICOM",
    b"SIMPLE  =                    T": "FITS",
    b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(16) + b"\x05\0\0\0a.txt": "ZIP",
    b"\x1f\x8b\x08\0": "gzip",
    b"P6\n5 5\n255\n": "netpbm",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n": "git lfs pull",
    b"\x01\x02\xfe\xff random": "no image that is known",
}


@pytest.mark.parametrize("content", OTHERS, ids=lambda content: OTHERS[content][:20])
def test_what_is_no_image_is_named(content, save):
    path = save("image.png", content)
    with pytest.raises(SourceError) as caught:
        open_source(path)
    message = check_message(caught.value, path)
    assert OTHERS[content].lower() in message.lower()


def test_a_npz_archive_is_named(photo, tmp_path):
    np.savez(tmp_path / "a.npz", photo)
    with raises(SourceError, hint="To use it, unpack it first"):
        open_source(tmp_path / "a.npz")


def test_a_directory_is_named(tmp_path):
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path)
    assert "directory without a Zarr array" in check_message(caught.value, tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with raises(SourceError, hint="Pass an image file"):
        open_source(tmp_path / "pipe")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error(photo, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    path.chmod(0)
    with raises(SourceError, hint="permissions"):
        open_source(path)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("kept", [9, 20, 40, 70])
def test_a_beginning_of_a_file_is_an_error(form, kept, photo, save):
    path = save("image", WRITERS[form](photo)[:kept])
    with pytest.raises(SourceError) as caught, open_source(path) as source:
        source.read({})
    check_message(caught.value, path)


@pytest.mark.parametrize("form", WRITERS)
def test_damaged_files_never_raise_anything_but_our_errors(form, photo, save, rng):
    """Bytes are flipped all over the file; pixels that come out are fine with us, other errors are not."""
    data = WRITERS[form](photo[:60, :70])
    for i in range(80):
        broken = bytearray(data)
        spread = len(data) if i % 2 else min(len(data), 300)  # half of the damage goes to headers
        for at in rng.integers(0, spread, 1 + i % 4):
            broken[at] ^= int(rng.integers(1, 256))
        path = save("image", bytes(broken))
        try:
            with open_source(path, max_pixels=10**7) as source:
                source.read({"y": slice(0, 1000), "x": slice(0, 1000), "c": slice(0, 10)})
        except NdzarrError as error:
            check_message(error, path)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bmp_header(width: int, height: int) -> bytes:
    return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def jp2_header(width: int, height: int) -> bytes:
    data = imagecodecs.jpeg2k_encode(np.zeros((9, 9), np.uint8), codecformat="j2k")
    return data[:8] + struct.pack(">II", width, height) + data[16:]


def jxl_header(width: int, height: int) -> bytes:
    bits = 0 | 3 << 1 | (height - 1) << 3 | 0 << 33 | 3 << 36 | (width - 1) << 38
    return b"\xff\x0a" + bits.to_bytes(16, "little")


def gif_header(width: int, height: int) -> bytes:
    data = with_pillow(np.zeros((9, 9), np.uint8), "GIF")
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


HEADERS = {"PNG": png_header, "BMP": bmp_header, "JPEG 2000": jp2_header, "JPEG XL": jxl_header, "GIF": gif_header}


@pytest.mark.parametrize("form", HEADERS)
def test_absurd_sizes_are_refused_before_memory_is_asked_for(form, save):
    width = height = 60000
    path = save("image", HEADERS[form](width, height))
    with pytest.raises(SourceError) as caught:
        open_source(path)
    assert f"pass max_pixels={width * height} or more" in check_message(caught.value, path)


def no_memory(*args, **more):
    raise MemoryError


def test_a_decoder_without_memory_is_an_error_that_says_so(photo, save, monkeypatch):
    path = save("a.jp2", imagecodecs.jpeg2k_encode(photo))
    with open_source(path) as source:
        monkeypatch.setattr(imagecodecs, "jpeg2k_decode", no_memory)
        with raises(SourceError, path=path, hint="a TIFF with tiles", match="not enough memory"):
            source.read({})


@pytest.mark.parametrize("form", [form for form in WRITERS if form not in ("JPEG XL",)])
def test_the_limit_of_pixels_can_be_set(form, photo, save):
    height, width = photo.shape[:2]
    path = save("image", WRITERS[form](photo))
    with raises(SourceError, path=path, hint=f"max_pixels={width * height}"):
        open_source(path, max_pixels=width * height - 1)
    with open_source(path, max_pixels=width * height) as source:
        assert source.read({}).shape == (3, height, width)


def test_a_huge_tiff_in_pieces_is_fine_but_not_as_one_compressed_strip(tmp_path):
    path = tmp_path / "a.tif"
    blank = iter([imagecodecs.zlib_encode(bytes(1024**2))] * 59**2)
    how = {"shape": (60000, 60000), "dtype": np.uint8, "compression": "zlib", "tile": (1024, 1024)}
    tifffile.imwrite(path, blank, photometric="minisblack", **how)
    with open_source(path) as source:
        assert source.shape == (1, 60000, 60000)
    strip = iter([imagecodecs.zlib_encode(bytes(10))])
    how = {"shape": (60000, 60000), "dtype": np.uint8, "compression": "zlib", "rowsperstrip": 60000}
    tifffile.imwrite(path, strip, photometric="minisblack", **how)
    with raises(SourceError, hint="max_pixels=3600000000"):
        open_source(path)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("form", ["PNG", "BMP", "JPEG 2000"])
def test_images_without_pixels_are_errors(form, size, save):
    path = save("image", HEADERS[form](*size))
    with pytest.raises(SourceError) as caught:
        open_source(path)
    check_message(caught.value, path)


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_below_one_is_an_error(limit, photo):
    with raises(OptionError, key="max_pixels"):
        open_source(photo, max_pixels=limit)


class TestContract:
    @pytest.fixture(params=[*WRITERS, "array"])
    def source(self, request, photo, save):
        given = photo if request.param == "array" else save("image", WRITERS[request.param](photo))
        with open_source(given) as opened:
            yield opened

    @pytest.mark.parametrize(
        "window",
        [
            {},
            {"y": slice(3, 50)},
            {"x": slice(None, 7), "c": slice(1, 2)},
            {"y": slice(170, 10**6), "x": slice(200, None)},
            {"y": slice(20, 20)},
            {"x": slice(10**6, 10**7)},
            {"y": slice(30, 5)},
            {"c": slice(0, 2, 1), "y": slice(None)},
        ],
    )
    def test_windows_slice_as_numpy_does(self, source, window):
        whole = source.read({})
        want = whole[tuple(window.get(d, slice(None)) for d in source.dims)]
        got = source.read(window)
        assert np.array_equal(got, want)
        assert got.shape == want.shape
        assert got.dtype == source.dtype

    @pytest.mark.parametrize("part", [slice(-5, None), slice(0, -1), slice(0, 10, 2), slice(10, 0, -1)])
    def test_negative_and_stepped_windows_are_errors(self, source, part):
        with raises(WindowError, match=f"^{source.name}: y="):
            source.read({"y": part})

    def test_an_unknown_axis_is_an_error_that_names_the_known(self, source):
        with raises(WindowError, key="z", match="Known: c, y, x"):
            source.read({"z": slice(0, 1)})

    def test_a_closed_source_does_not_read(self, source):
        source.read({"y": slice(0, 5)})
        source.close()
        source.close()
        with raises(SourceError, hint="Open it again"):
            source.read({})

    def test_metadata_are_json(self, source):
        assert json.loads(json.dumps(source.metadata)) == source.metadata

    def test_threads_may_read_at_once(self, source):
        whole = source.read({}).copy()
        with ThreadPoolExecutor(4) as pool:
            bands = list(pool.map(lambda y: source.read({"y": slice(y, y + 10)}), range(0, whole.shape[1], 10)))
        assert np.array_equal(np.concatenate(bands, axis=1), whole)
