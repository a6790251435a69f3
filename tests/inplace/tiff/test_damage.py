"""A file that is not what it says is an error that names the file, the level and the tile; never pixels."""

from __future__ import annotations

import os
import shutil
import struct

import numpy as np
import pytest
import tifffile

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr._formats.options import InPlaceOptions as Reading
from ndzarr._formats.tiff.array import TiffArray
from ndzarr._library.in_place import open_tiff
from ndzarr.errors import DamagedError, MissingError, NdzarrError, StoreError

PIXELS = photo(300, 400)


@pytest.fixture
def write(tmp_path):
    def make(compression="zlib", name="a.tif", **how):
        path = tmp_path / name
        with tifffile.TiffWriter(path, bigtiff=how.pop("bigtiff", False)) as tif:
            for k, image in enumerate((PIXELS, np.ascontiguousarray(PIXELS[::2, ::2]))):
                tif.write(
                    image, tile=(64, 64), photometric="rgb", compression=compression, subfiletype=min(k, 1), **how
                )
        return path

    return make


def places(path, page=0):
    with tifffile.TiffFile(path) as tif:
        return list(zip(tif.pages[page].dataoffsets, tif.pages[page].databytecounts, strict=True))


def overwrite(path, at, data):
    """Change bytes without a change of the time of modification that would be noticed as such."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("compression", ["zlib", "zstd", "lzw", "jpeg", "webp", "lerc", "packbits", "jpeg2000"])
@pytest.mark.parametrize("page", [0, 1])
def test_garbage_in_a_tile_is_an_error_that_names_it_and_other_tiles_are_read(compression, page, write):
    path = write(compression)
    at, size = places(path, page)[8 if page == 0 else 5]
    overwrite(path, at, b"\xff" * size)
    pyramid = ndzarr.open(path)
    with raises(DamagedError, path=path, match=f"level {page}, the tile at row 64, column 64 "):
        pyramid.read(page)
    pyramid.read(page, y=slice(0, 64), x=slice(0, 64))
    report = ndzarr.verify(path)
    assert [p.file for p in report.problems] == [str(path)]
    assert f"level {page}, the tile at row 64" in str(report)


def test_the_rest_of_a_plan_is_dropped_once_a_tile_is_damaged(write, monkeypatch):
    pixels, tiles = photo(1024, 1024), []
    path = write()
    tifffile.imwrite(path, pixels, tile=(128, 128), compression="zlib", photometric="rgb")
    at, size = places(path)[0]
    overwrite(path, at, b"\xff" * size)
    pyramid = ndzarr.open(path)
    decode = TiffArray.decode

    def noted(self, chunk, *rest):
        tiles.append(chunk)
        return decode(self, chunk, *rest)

    monkeypatch.setattr(TiffArray, "decode", noted)
    with raises(DamagedError, path=path, match="row 0, column 0"):
        pyramid.read(x=slice(0, 1000))
    assert len(tiles) < 60
    assert np.array_equal(pyramid.read(y=slice(200, 300), x=slice(1, 9)), np.moveaxis(pixels[200:300, 1:9], -1, 0))


@pytest.mark.parametrize("compression", ["zlib", "zstd", "lzw", "packbits"])
def test_a_tile_that_decodes_to_another_size_is_an_error(compression, write, tmp_path):
    path = write(compression)
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, PIXELS[:16, :16], tile=(16, 16), photometric="rgb", compression=compression)
    with tifffile.TiffFile(small) as tif:
        page = tif.pages[0]
        tif.filehandle.seek(page.dataoffsets[0])
        data = tif.filehandle.read(page.databytecounts[0])
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        start, counts = page.dataoffsets[0], page.tags[325]
        width = {3: "H", 4: "I"}[counts.dtype]
        overwrite(path, start, data)
        overwrite(path, counts.valueoffset, struct.pack(f"<{width}", len(data)))
    with raises(DamagedError, path=path, match="level 0, the tile at row 0, column 0 "):
        ndzarr.open(path).read(y=slice(0, 9), x=slice(0, 9))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.999])
def test_a_file_that_ends_too_soon_is_an_error_at_once(compression, kept, write):
    path = write(compression)
    os.truncate(path, int(path.stat().st_size * kept))
    with raises(StoreError, path=path):
        ndzarr.open(path)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("value", [0xFFFFFFF0, 10**9])
def test_a_tile_beyond_the_end_of_the_file_is_named(bigtiff, value, write):
    path = write(bigtiff=bigtiff)
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[1].tags[324]
        width = {4: 4, 16: 8}[tag.dtype]
    overwrite(path, tag.valueoffset + 2 * width, value.to_bytes(width, "little"))
    with raises(DamagedError, path=path, match="level 1, the tile at row 0, column 128 "):
        ndzarr.open(path)


def test_impossible_offsets_are_damage(write):
    path = write(bigtiff=True)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].tags[324].valueoffset
    overwrite(path, at, b"\xff" * 8)
    with raises(DamagedError, path=path, match="level 0, frame 0 "):
        ndzarr.open(path)


def test_plain_tiles_that_are_too_small_are_damage(write):
    path = write(None)
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[0].tags[325]
    overwrite(path, tag.valueoffset, struct.pack({3: "<H", 4: "<I"}[tag.dtype], 100))
    with raises(DamagedError, path=path, match="row 0, column 0 has 100 bytes"):
        ndzarr.open(path)


def test_huge_headers_are_refused(write):
    path = write()
    with tifffile.TiffFile(path) as tif:
        tags = tif.pages[0].tags
        places = [tags[code].valueoffset for code in (256, 257)]
        sides = [tags[code].valueoffset for code in (322, 323)]
        widths = [{3: 2, 4: 4}[tags[256].dtype], {3: 2, 4: 4}[tags[322].dtype]]
    for at in places:
        overwrite(path, at, (60000).to_bytes(widths[0], "little"))
    for at in sides:
        overwrite(path, at, (16).to_bytes(widths[1], "little"))
    with raises(StoreError, path=path, hint="Fetch the file again, or write it again"):
        ndzarr.open(path)


def test_more_pixels_than_are_believed_are_refused(write):
    path = write()
    with raises(StoreError, path=path, match="400 x 300 pixels.* 1000"):
        open_tiff(str(path), 0, Reading(max_pixels=1000))


HEADS = [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*" + bytes(100), b"II+\0\x08\0" + bytes(9)]


@pytest.mark.parametrize("content", HEADS)
def test_a_beginning_of_a_tiff_is_an_error_that_names_the_file(content, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with raises(StoreError, path=path):
        ndzarr.open(path)


def test_what_is_no_tiff_is_told_to_be_transcoded(tmp_path):
    path = tmp_path / "scene.tif"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    with raises(StoreError, path=tmp_path / "scene.tif", hint="Make one with ndzarr.transcode('scene.tif'"):
        ndzarr.open(path)
    with raises(MissingError, path=tmp_path / "nothing.tif"):
        ndzarr.open(tmp_path / "nothing.tif")


@pytest.mark.parametrize("how", ["rewritten", "replaced", "shrunk", "grown", "touched", "removed"])
def test_a_file_that_changes_while_it_is_open_is_never_read_with_old_offsets(how, write, tmp_path):
    path, other = write("lzw"), write(None, "b.tif")
    pyramid = ndzarr.open(path, cache_bytes=1)
    pyramid.read(y=slice(0, 10))
    if how == "rewritten":
        shutil.copyfile(other, path)
    elif how == "replaced":
        os.replace(other, path)
    elif how == "shrunk":
        os.truncate(path, 1000)
    elif how == "grown":
        with path.open("ab") as file:
            file.write(bytes(9))
    elif how == "touched":
        os.utime(path, (1, 1))
    else:
        path.unlink()
    for _ in range(2):
        with raises(StoreError, path=path):
            pyramid.read(y=slice(200, 300))
    if how not in ("removed", "shrunk"):
        assert np.array_equal(ndzarr.open(path).read(), np.moveaxis(PIXELS, -1, 0))


def test_a_file_that_shrinks_ends_no_process(write):
    """A memory map would be a SIGBUS here; the time of modification is put back, so that only the end is noticed."""
    path = write(None)
    pyramid = ndzarr.open(path)
    pyramid.read()
    file = pyramid.levels[0].array.files[0]
    os.truncate(path, 2000)
    out = np.empty(100, np.uint8)
    with pytest.raises(NdzarrError):
        file.read_into(5000, out)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "jpeg"])
def test_damaged_files_never_raise_anything_but_our_errors(compression, write, rng):
    path = write(compression)
    whole = path.read_bytes()
    broken = 0
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, len(data) if rng.random() < 0.3 else 2000, 8):
            data[at] = rng.integers(256)
        with tifffile.TiffFile(path) as tif:
            first = tif.pages[0].offset
        for at in rng.integers(first, min(first + 250, len(data)), 3):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        message = complaint(path)
        assert message is None or (str(path) in message and "\n" not in message)
        broken += message is not None
        path.write_bytes(whole)
    assert broken > 20


def complaint(path):
    """What reading a file raises."""
    try:
        pyramid = ndzarr.open(path)
        if np.prod(pyramid.shape) < 1e7:
            pyramid.read()
    except NdzarrError as error:
        return str(error)
    return None
