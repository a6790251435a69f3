"""Exported files keep the rules of TIFF that some readers insist on, though libtiff and tifffile do not."""

import numpy as np
import pytest
import tifffile

import ndzarr
from helpers.arrays import photo

CLEAR, END = 256, 257


def lzw_codes(data):
    """
    Decode LZW by TIFF 6.0 (pages 58 to 61), strictly.

    The table holds no more than codes 0 to 4094; a code is one bit longer as soon as the table will need it.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    weights = 1 << np.arange(12)[::-1]
    table, out, at, width, last = [], bytearray(), 0, 9, b""
    while True:
        code = int(bits[at : at + width] @ weights[-width:])
        at += width
        if code == END:
            return bytes(out)
        if code == CLEAR:
            table, width, last = [bytes([k]) for k in range(256)] + [b"", b""], 9, b""
            continue
        assert code <= len(table) <= 4094, "the table was not cleared in time"
        if last:
            table.append(last + (table[code] if code < len(table) else last)[:1])
        out += table[code]
        last = table[code]
        width = 9 + sum(len(table) >= full for full in (511, 1023, 2047))


@pytest.mark.parametrize("kind", ["noise", "photo", "flat"])
def test_lzw_clears_its_table_where_tiff_6_says(tmp_path, kind):
    pixels = {"noise": np.random.default_rng(0).integers(0, 256, (128, 128, 3)), "flat": np.full((128, 128, 3), 7)}
    image = np.ascontiguousarray((pixels[kind] if kind != "photo" else photo(128, 128)).astype("u1"))
    pyr = ndzarr.transcode(image.transpose(2, 0, 1), tmp_path / "a.zarr")
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif", compression="lzw", predictor="none", blocksize=128)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        tif.filehandle.seek(page.dataoffsets[0])
        assert lzw_codes(tif.filehandle.read(page.databytecounts[0])) == image.tobytes()


def test_directories_of_masks_say_that_a_pixel_has_one_bit(tmp_path):
    pyr = ndzarr.transcode(np.arange(600 * 300, dtype="u2").reshape(1, 600, 300), tmp_path / "a.zarr", nodata=7)
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif", mask=True, blocksize=128)
    with tifffile.TiffFile(path) as tif:
        masks = [page for page in tif.pages if page.tags[254].value & 4]
        assert [page.tags[254].value for page in masks] == [4, 5, 5][: len(masks)]
        assert len(masks) == len(pyr.levels)
        for page in masks:
            assert (page.tags[258].value, page.tags[262].value) == (1, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_of_jpeg_share_their_quantization_tables(pyramid, tmp_path, channels):
    path = ndzarr.export_cog(pyramid(channels), tmp_path / "a.tif", compression="jpeg", blocksize=128)
    with tifffile.TiffFile(path) as tif:
        for page in tif.pages:
            tables = page.tags[347].value
            assert tables[:4] == b"\xff\xd8\xff\xdb"
            assert tables[-2:] == b"\xff\xd9"
            tif.filehandle.seek(page.dataoffsets[0])
            head = tif.filehandle.read(24)
            assert head[:2] == b"\xff\xd8"
            assert b"JFIF" not in head
            assert b"\xff\xdb" not in head
