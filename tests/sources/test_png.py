from __future__ import annotations

import io
import logging
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import imagecodecs
import numpy as np
import pytest
from packaging.version import Version
from PIL import Image, ImageOps, PngImagePlugin

from helpers.errors import raises
from ndzarr._formats.registry import open_source
from ndzarr.errors import SourceError

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, rows: list[bytes], depth: int, colour: int, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_gray_of_any_depth_is_read_with_all_its_bits(depth, rng, save, read_all):
    width, height = 21, 5
    samples = rng.integers(0, 1 << depth, (height, width))
    bits = samples[..., None] >> np.arange(depth - 1, -1, -1) & 1
    rows = [np.packbits(row.reshape(-1)).tobytes() for row in bits]
    path = save("a.png", png(width, rows, depth, 0))
    scaled = samples if depth >= 8 else samples * (255 // ((1 << depth) - 1))
    got = read_all(path)
    assert got.dtype == (np.uint16 if depth == 16 else np.uint8)
    assert np.array_equal(got[0], scaled)


@pytest.mark.parametrize(
    ("mode", "names"),
    [("L", ("gray",)), ("LA", ("gray", "a")), ("RGB", ("r", "g", "b")), ("RGBA", ("r", "g", "b", "a"))],
)
def test_eight_bits_are_as_pillow_reads_them(mode, names, photo, tmp_path, read_all):
    image = Image.fromarray(photo).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(photo[..., 0]))
    image.save(tmp_path / "a.png")
    with open_source(tmp_path / "a.png") as source:
        assert source.channels == names
        assert source.dims == ("c", "y", "x")
    want = np.asarray(image).reshape(*photo.shape[:2], -1).transpose(2, 0, 1)
    assert np.array_equal(read_all(tmp_path / "a.png"), want)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_sixteen_bits_stay_sixteen_bits(samples, rng, save, read_all):
    pixels = rng.integers(0, 1 << 16, (33, 45, samples)).astype(np.uint16)
    path = save("a.png", imagecodecs.png_encode(pixels if samples > 1 else pixels[..., 0]))
    assert np.array_equal(read_all(path), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_become_rgb_and_their_transparency_alpha(depth, transparent, rng, save, read_all):
    width, height = 19, 7
    rows = [rng.bytes((width * depth + 7) // 8) for _ in range(height)]
    extra = [chunk(b"PLTE", rng.bytes(3 << depth))] + [chunk(b"tRNS", b"\0\x80")] * transparent
    data = png(width, rows, depth, 3, *extra)
    want = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA" if transparent else "RGB"))
    path = save("a.png", data)
    assert np.array_equal(read_all(path), want.transpose(2, 0, 1))
    with open_source(path) as source:
        assert source.channels == (("r", "g", "b", "a") if transparent else ("r", "g", "b"))
        assert "palette" in source.metadata["colour"]


def test_a_transparent_colour_becomes_alpha(save, read_all):
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    key = chunk(b"tRNS", struct.pack(">HHH", 4, 5, 6))
    got = read_all(save("a.png", png(2, [pixels.tobytes()], 8, 2, key)))
    assert got[3].tolist() == [[255, 0]]


def test_interlaced_files_are_read(photo, save, read_all):
    import cv2  # Pillow and imagecodecs do not write interlaced files

    done, data = cv2.imencode(".png", photo[..., ::-1])
    assert done
    assert np.array_equal(read_all(save("a.png", data.tobytes())), photo.transpose(2, 0, 1))


@pytest.mark.parametrize("lost", [1, 4, 11, 12, 13, 100, 5000])
def test_a_truncated_file_is_an_error(lost, photo, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    path.write_bytes(path.read_bytes()[:-lost])
    with raises(SourceError, path=path, hint="truncated"):
        open_source(path)


def test_a_damaged_file_is_an_error_when_it_is_read(photo, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with open_source(path) as source, raises(SourceError, hint="damaged"):
        source.read({})


def test_chunks_that_do_not_matter_are_not_complained_about(save, read_all, capfd):
    junk = chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"not a profile")) + chunk(b"gAMA", b"\0\0\0\0")
    path = save("a.png", png(2, [b"\1\2"], 8, 0, junk))
    assert read_all(path).tolist() == [[[1, 2]]]
    assert capfd.readouterr().err == ""


def raw_profile(exif: bytes) -> str:
    """Write EXIF as ImageMagick does into texts."""
    return f"\nexif\n{len(exif):8d}\n{exif.hex()}\n"


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {} xmlns:tiff="http://ns.adobe.com/tiff/1.0/">{}</rdf:Description>'


@pytest.mark.parametrize("tag", [1, 3, 6, 8])
@pytest.mark.parametrize("place", ["exif", "raw profile", "raw profile APP1", "XMP attribute", "XMP element"])
def test_an_orientation_is_applied_wherever_pillow_finds_it(place, tag, photo, tmp_path, read_all):
    exif = Image.Exif()
    exif[274] = tag
    info = PngImagePlugin.PngInfo()
    options = {"pnginfo": info}
    if place == "exif":
        options["exif"] = exif
    elif place.startswith("raw"):
        kind = "APP1" if place.endswith("APP1") else "exif"
        info.add_text(
            f"Raw profile type {kind}", raw_profile(b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")), zip=True
        )
    elif place.endswith("attribute"):
        info.add_itxt("XML:com.adobe.xmp", XMP.format(f'tiff:Orientation="{tag}"', ""))
    else:
        info.add_itxt("XML:com.adobe.xmp", XMP.format("", f"<tiff:Orientation>{tag}</tiff:Orientation>"))
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path, **options)
    want = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    if place == "raw profile APP1":  # which Pillow does not look at
        exif_there = Image.fromarray(photo)
        exif_there.getexif()[274] = tag
        want = np.asarray(ImageOps.exif_transpose(exif_there))
    assert np.array_equal(read_all(path), want.transpose(2, 0, 1))
    assert np.array_equal(read_all(path, orient=False), photo.transpose(2, 0, 1))


def test_exif_comes_before_xmp(photo, tmp_path, read_all):
    exif, info = Image.Exif(), PngImagePlugin.PngInfo()
    exif[274] = 1
    info.add_itxt("XML:com.adobe.xmp", XMP.format('tiff:Orientation="6"', ""))
    Image.fromarray(photo).save(tmp_path / "a.png", exif=exif, pnginfo=info)
    assert np.array_equal(read_all(tmp_path / "a.png"), photo.transpose(2, 0, 1))


@pytest.mark.parametrize("form", ["JPEG", "WebP"])
@pytest.mark.skipif(
    Version(version("pillow")) < Version("11.3"), reason="older releases do not write XMP to JPEG, nor turn WebP by it"
)
def test_xmp_orients_other_formats_too(form, photo, tmp_path):
    path = tmp_path / "image"
    Image.fromarray(photo).save(path, form, xmp=XMP.format('tiff:Orientation="6"', "").encode())
    with open_source(path) as source, Image.open(path) as image:
        assert source.shape[1:] == ImageOps.exif_transpose(image).size[::-1] == photo.shape[1::-1]


@pytest.mark.parametrize("logging_is_set_up", [False, True])
def test_valid_and_odd_files_print_nothing(logging_is_set_up, photo, tmp_path, read_all, capfd):
    import cv2

    done, data = cv2.imencode(".png", photo)  # interlaced: libpng would like to be told
    assert done
    (tmp_path / "a.png").write_bytes(data.tobytes())
    handler = logging.StreamHandler()
    if logging_is_set_up:
        logging.getLogger().addHandler(handler)
    try:
        with ThreadPoolExecutor(2) as pool:
            for pixels in pool.map(read_all, [tmp_path / "a.png"] * 4):
                assert pixels.shape == (3, *photo.shape[:2])
        logging.getLogger("imagecodecs").warning("of the program itself")
    finally:
        logging.getLogger().removeHandler(handler)
    said = capfd.readouterr().err
    assert "PNG" not in said
    assert not logging_is_set_up or "of the program itself" in said
