from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from helpers.errors import raises
from ndzarr._formats.registry import open_source
from ndzarr.errors import OptionError, SourceError

TAGS = range(1, 9)
FORMS = ("JPEG", "PNG", "WebP", "PNG of 16 bits", "TIFF in tiles", "TIFF in strips", "TIFF compressed", "JPEG XL")


def exif(tag: int) -> Image.Exif:
    block = Image.Exif()
    block[0x010F] = "a camera's name that does not fit into the entry"
    block[274] = tag
    return block


def upright(stored: np.ndarray, tag: int) -> np.ndarray:
    """Turn (c, y, x) pixels as Pillow does."""
    turned = []
    for plane in stored:
        band = Image.fromarray(plane.astype(np.int32))
        band.getexif()[274] = tag
        turned.append(np.asarray(ImageOps.exif_transpose(band)).astype(stored.dtype))
    return np.stack(turned)


def write(path, form: str, tag: int, photo: np.ndarray) -> None:
    image = Image.fromarray(photo)
    if form in ("JPEG", "PNG", "WebP"):
        image.save(path, form, exif=exif(tag))
    elif form == "PNG of 16 bits":
        buffer = io.BytesIO()
        Image.fromarray(photo.astype(np.uint16)[..., 0] * 257).save(buffer, "PNG", exif=exif(tag))
        path.write_bytes(buffer.getvalue())
    elif form == "JPEG XL":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", exif=exif(tag), quality=95)
        path.write_bytes(imagecodecs.jpegxl_encode_jpeg(buffer.getvalue()))
    else:
        how = {"TIFF in tiles": {"tile": (32, 48)}, "TIFF compressed": {"compression": "zlib", "rowsperstrip": 20}}
        tagged = [(274, "H", 1, tag, True)]
        tifffile.imwrite(path, photo, photometric="rgb", extratags=tagged, **how.get(form, {"rowsperstrip": 20}))


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("form", FORMS)
def test_images_are_upright_unless_raw_is_asked_for(form, tag, photo, tmp_path, read_all):
    path = tmp_path / "image"
    write(path, form, tag, photo)
    raw = read_all(path, orient=False)
    assert raw.shape[1:] == photo.shape[:2]
    assert np.array_equal(read_all(path), upright(raw, tag))
    if form == "JPEG XL":
        turned_by_libjxl = imagecodecs.jpegxl_decode(path.read_bytes()).transpose(2, 0, 1)  # dithers by one level
        assert np.abs(read_all(path).astype(int) - turned_by_libjxl).max() <= 1


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("form", FORMS)
def test_windows_of_upright_images_are_upright(form, tag, photo, tmp_path, read_all, rng):
    path = tmp_path / "image"
    write(path, form, tag, photo)
    whole = read_all(path)
    with open_source(path) as source:
        height, width = source.shape[-2:]
        for _ in range(6):
            y, x = np.sort(rng.integers(0, height + 1, 2)), np.sort(rng.integers(0, width + 1, 2))
            window = {"y": slice(*map(int, y)), "x": slice(*map(int, x))}
            assert np.array_equal(source.read(window), whole[:, window["y"], window["x"]])


@pytest.mark.parametrize("tag", TAGS)
def test_a_size_chooses_upright_or_raw(tag, photo, tmp_path, read_all):
    path = tmp_path / "a.jpg"
    write(path, "JPEG", tag, photo)
    height, width = photo.shape[:2]
    raw = read_all(path, orient=False)
    turned = upright(raw, tag)
    if tag < 5:  # the size is the same both ways: upright
        assert np.array_equal(read_all(path, orient=(width, height)), turned)
    else:
        assert np.array_equal(read_all(path, orient=(width, height)), raw)
        assert np.array_equal(read_all(path, orient=(height, width)), turned)


def test_a_size_that_fits_neither_way_is_an_error(photo, tmp_path):
    path = tmp_path / "a.jpg"
    write(path, "JPEG", 6, photo)
    with pytest.raises(SourceError, match=r"expected 640 x 480 .* found 201 x 177 \(177 x 201 upright\)"):
        open_source(path, orient=(640, 480))


@pytest.mark.parametrize("orient", [5, "yes", (1, 2, 3), None])
def test_an_orient_that_makes_no_sense_is_an_error(orient, photo):
    with raises(OptionError, key="orient"):
        open_source(photo, orient=orient)


def test_metadata_say_what_was_applied(photo, tmp_path):
    path = tmp_path / "a.jpg"
    write(path, "JPEG", 6, photo)
    with open_source(path) as source:
        assert source.metadata["orientation"] == {"tag": 6, "applied": True}
    with open_source(path, orient=False) as source:
        assert source.metadata["orientation"] == {"tag": 6, "applied": False}
    write(path, "JPEG", 1, photo)
    with open_source(path) as source:
        assert "orientation" not in source.metadata


@pytest.mark.parametrize("block", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_leaves_an_image_as_it_is(block, photo, tmp_path, read_all):
    plain, odd = tmp_path / "plain.jpg", tmp_path / "odd.jpg"
    Image.fromarray(photo).save(plain)
    Image.fromarray(photo).save(odd, exif=block)
    assert np.array_equal(read_all(odd), read_all(plain))


@pytest.mark.parametrize("value", [0, 9, 4711])
def test_orientations_that_do_not_exist_are_ignored(value, photo, tmp_path, read_all):
    path = tmp_path / "a.jpg"
    write(path, "JPEG", value, photo)
    assert np.array_equal(read_all(path), read_all(path, orient=False))
