from __future__ import annotations

import pickle
import struct
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.errors import raises
from ndzarr._formats.registry import open_source
from ndzarr.errors import DamagedFileWarning, SourceError

HEIGHT, WIDTH = 70, 83
SEGMENTS = {
    "one strip": {"rowsperstrip": HEIGHT},
    "strips": {"rowsperstrip": 16},
    "rows": {"rowsperstrip": 1},
    "tiles": {"tile": (32, 48)},
    "one tile": {"tile": (80, 96)},
}
KINDS = {
    "gray": ((HEIGHT, WIDTH), {"photometric": "minisblack"}),
    "interleaved": ((HEIGHT, WIDTH, 3), {"photometric": "rgb"}),
    "planar": ((4, HEIGHT, WIDTH), {"photometric": "minisblack", "planarconfig": "separate"}),
}
DTYPES = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"]
LOSSLESS = ["zlib", "lzw", "zstd", "lzma", "packbits", "png", "lerc", "jpegxl"]
LOSSY = ["jpeg", "webp", "jpeg2000", "jpegxr"]


def some(rng: np.random.Generator, shape, dtype: str) -> np.ndarray:
    if dtype == "?":
        return rng.random(shape) > 0.5
    with np.errstate(all="ignore"):
        pixels = (rng.random(shape) * 200 - (100 if dtype[0] in "ifc" else 0)).astype(dtype)
        return (pixels * (1 - 2j)).astype(dtype) if dtype[0] == "c" else pixels


def in_order(pixels: np.ndarray, kind: str) -> np.ndarray:
    return {"gray": pixels[None], "interleaved": np.moveaxis(pixels, -1, 0), "planar": pixels}[kind]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_byte_order_is_as_tifffile_reads_it(dtype, kind, order, rng, tmp_path, read_all):
    shape, how = KINDS[kind]
    if dtype == "?" and kind != "gray":
        pytest.skip("bits are not written interleaved")
    pixels = some(rng, shape, dtype)
    path = tmp_path / "a.tif"
    for segments in ({"rowsperstrip": 16}, {"tile": (32, 48)}, {"compression": "zlib", "tile": (16, 16)}):
        tifffile.imwrite(path, pixels, byteorder=order, **how, **segments)
        got = read_all(path)
        assert got.dtype.isnative
        assert np.array_equal(got, in_order(tifffile.imread(path), kind), equal_nan=dtype[0] in "fc")
        assert np.array_equal(got, in_order(pixels, kind), equal_nan=dtype[0] in "fc")


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compression", [None, *LOSSLESS])
def test_lossless_compressions_keep_every_pixel(compression, kind, segments, rng, tmp_path, read_all):
    shape, how = KINDS[kind]
    pixels = some(rng, shape, "u1")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, compression=compression, **how, **SEGMENTS[segments])
    assert np.array_equal(read_all(path), in_order(pixels, kind))


@pytest.mark.parametrize("segments", ["strips", "tiles"])
@pytest.mark.parametrize("compression", LOSSY)
def test_lossy_compressions_are_as_tifffile_decodes_them(compression, segments, photo, tmp_path, read_all):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, photo, photometric="rgb", compression=compression, **SEGMENTS[segments])
    assert np.array_equal(read_all(path), tifffile.imread(path).transpose(2, 0, 1))
    with open_source(path) as source:
        assert source.channels == ("r", "g", "b")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "f2", "f4", "f8"])
def test_predictors_are_undone(dtype, kind, rng, tmp_path, read_all):
    shape, how = KINDS[kind]
    pixels = some(rng, shape, dtype)
    predictor = "floatingpoint" if dtype[0] == "f" else "horizontal"
    path = tmp_path / "a.tif"
    for order in "<>":
        tifffile.imwrite(path, pixels, byteorder=order, compression="zlib", predictor=predictor, tile=(32, 48), **how)
        assert np.array_equal(read_all(path), in_order(pixels, kind))


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 7, 10, 12, 14])
def test_packed_integers_keep_their_values(bits, rng, tmp_path, read_all):
    pixels = rng.integers(0, 1 << bits, (HEIGHT, WIDTH)).astype(np.uint8 if bits <= 8 else np.uint16)
    split = pixels[..., None] >> np.arange(bits - 1, -1, -1, dtype=pixels.dtype) & 1
    rows = [np.packbits(row.reshape(-1)).tobytes() for row in split]
    path = tmp_path / "a.tif"
    write_strips(path, rows, WIDTH, bits)
    assert np.array_equal(read_all(path)[0], pixels)
    assert np.array_equal(tifffile.imread(path), pixels)


@pytest.mark.parametrize("compression", ["group4", "group3", "tiff_ccitt"])
def test_fax_compressions_are_as_tifffile_decodes_them(compression, photo, tmp_path, read_all):
    path = tmp_path / "a.tif"
    Image.fromarray(photo).convert("1").save(path, compression=compression)
    try:
        want = tifffile.imread(path)
    except ValueError:
        pytest.skip("this tifffile does not decode fax")
    assert want.any()
    got = read_all(path)[0]
    assert got.dtype == bool
    with Image.open(path) as image:  # Pillow also undoes the inversion of fax
        assert np.array_equal(got, np.asarray(image))


def write_strips(path, strips: list[bytes], width: int, bits: int, photometric: int = 1) -> None:
    """A TIFF of one row per strip, put together by hand, as tifffile does not write packed integers compressed."""
    height = len(strips)
    offsets, data = [], b""
    for strip in strips:
        offsets.append(8 + len(data))
        data += bytes(strip)
    data += bytes(len(data) % 2)
    table = 8 + len(data)
    data += struct.pack(f"<{2 * height}I", *offsets, *(len(s) for s in strips))
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, height, table),
        (277, 3, 1, 1),
        (278, 4, 1, 1),
        (279, 4, height, table + 4 * height),
    ]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + ifd)


@pytest.mark.parametrize("bigtiff", [False, True])
def test_big_and_small_tiff_are_read_alike(bigtiff, photo, tmp_path, read_all):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, photo, photometric="rgb", bigtiff=bigtiff, tile=(64, 64))
    assert np.array_equal(read_all(path), photo.transpose(2, 0, 1))
    with open_source(path) as source:
        assert source.metadata["format"] == ("BigTIFF" if bigtiff else "TIFF")
        assert source.metadata["compression"] == "none"
        assert source.metadata["segments"] == "tiles of 64 x 64"


@pytest.mark.parametrize("name", ["multipage.tif", "multipage_rgb.tif"])
def test_bundled_stacks_are_as_tifffile_reads_them(name, bundled, read_all):
    path = bundled(name)
    want = tifffile.imread(path)
    assert np.array_equal(read_all(path), want[:, None] if want.ndim == 3 else want)


def test_tiles_that_are_not_stored_are_nodata(tmp_path, read_all):
    path = tmp_path / "a.tif"
    tile = np.full((32, 32), 7, np.int16)

    def write(**more):
        tiles = iter([tile, None, None, tile])
        tifffile.imwrite(path, tiles, shape=(64, 64), dtype=np.int16, tile=(32, 32), photometric="minisblack", **more)

    for compression in (None, "zlib"):
        write(compression=compression)
        got = read_all(path)
        assert (got[0, :32, :32] == 7).all()
        assert (got[0, 32:, 32:] == 7).all()
        assert (got[0, 32:, :32] == 0).all()
        write(compression=compression, extratags=[(42113, "s", 0, "-9999", True)])
        assert (read_all(path)[0, :32, 32:] == -9999).all()
        assert (read_all(path, nodata=-5)[0, :32, 32:] == -9999).all()
        write(compression=compression)
        assert (read_all(path, nodata=-5)[0, :32, 32:] == -5).all()


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "jpeg"])
@pytest.mark.parametrize("segments", ["strips", "tiles", "one strip"])
def test_a_truncated_file_is_an_error(segments, compression, kept, photo, tmp_path):
    path = tmp_path / "a.tif"
    how = {"one strip": {"rowsperstrip": photo.shape[0]}}.get(segments, SEGMENTS[segments])
    tifffile.imwrite(path, photo, photometric="rgb", compression=compression, **how)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with raises(SourceError, path=path), open_source(path) as source:
        source.read({})


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("more", [{}, {"ome": True}, {"imagej": True}])
def test_a_truncated_stack_that_announces_its_frames_is_an_error(more, kept, rng, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, some(rng, (9, 64, 64), "u1"), photometric="minisblack", **more)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with raises(SourceError, path=path, hint="Fetch the file again, or write it again"), open_source(path) as source:
        source.read({"t": slice(8, 9)})


def test_a_file_that_shrinks_while_it_is_open_is_an_error(photo, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, photo, photometric="rgb")
    with open_source(path) as source:
        path.write_bytes(path.read_bytes()[:20000])
        with raises(SourceError, path=path, hint="Open it again"):
            source.read({})


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("sizes", ["too few", "none", "zero"])
@pytest.mark.parametrize("dtype", ["?", "u1", "f4"])
def test_sizes_of_plain_segments_that_the_file_lacks_are_those_of_their_pixels(sizes, segments, dtype, rng, tmp_path):
    path = tmp_path / "a.tif"
    pixels = some(rng, (HEIGHT, WIDTH), dtype)
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None, **SEGMENTS[segments])
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        tag, number = page.tags[325 if page.is_tiled else 279], len(page.dataoffsets)
    if sizes != "none" and (sizes == "zero") != (number == 1):
        pytest.skip("a size of 0 among others is of a segment that is not stored")
    if (sizes, segments) == ("none", "one tile"):
        pytest.skip("tifffile takes a tile for as large as the image")
    data = bytearray(path.read_bytes())
    if sizes == "too few":
        struct.pack_into("<I", data, tag.offset + 4, number - 1)
    elif sizes == "none":
        struct.pack_into("<H", data, tag.offset, 65000)
    else:
        struct.pack_into("<I", data, tag.offset + 8, 0)
    path.write_bytes(data)
    with open_source(path) as source:
        np.testing.assert_array_equal(source.read({})[0], pixels)


LOOPS = [(1, 0, False), (4, 0, False), (4, 3, True), (200, 150, False)]  # tifffile looks for them at page 100 only


@pytest.mark.parametrize(("pages", "to", "big"), [*LOOPS, (3, None, False), (3, None, True), (1, None, False)])
def test_pages_are_read_up_to_a_reference_that_leads_to_none(pages, to, big, rng, tmp_path):
    path = tmp_path / "a.tif"
    stack = some(rng, (pages, 48, 48), "u1")
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for page in stack:
            writer.write(page, photometric="minisblack", metadata=None, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offsets, tags = [page.offset for page in tif.pages], len(tif.pages[pages - 1].aspage().tags)
    data = bytearray(path.read_bytes())
    link = offsets[-1] + (8 + 20 * tags if big else 2 + 12 * tags)
    assert data[link : link + 4] == bytes(4)
    struct.pack_into("<I", data, link, len(data) + 50 if to is None else offsets[to])
    path.write_bytes(data)
    with pytest.warns(DamagedFileWarning, match=path.name) as told:
        stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    with pytest.warns(DamagedFileWarning, match=path.name) as also:
        placed = ndzarr.open(path)
    for pyramid in (stored, placed):
        np.testing.assert_array_equal(pyramid.read().squeeze(), stack.squeeze())
        assert any(note in str(told[0].message) for note in pyramid.attrs["ndzarr"]["source"]["notes"])
    assert {warning.filename for warning in (*told, *also)} == {__file__}
    with warnings.catch_warnings(action="error"):
        pickle.loads(pickle.dumps(placed)).read()


def test_a_plain_stack_that_is_cut_off_has_the_pages_before(rng, tmp_path):
    path = tmp_path / "a.tif"
    stack = some(rng, (9, 64, 64), "u1")
    with tifffile.TiffWriter(path) as writer:
        for page in stack:
            writer.write(page, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tif:
        starts = [page.offset for page in tif.pages]
    path.write_bytes(path.read_bytes()[: starts[5] + 40])  # within the directory of page 5
    with pytest.warns(DamagedFileWarning, match="page 5"):
        stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    np.testing.assert_array_equal(stored.read()[:, 0], stack[:5])


def test_damaged_segments_are_named(photo, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, photo, photometric="rgb", compression="zlib", tile=(64, 64))
    with tifffile.TiffFile(path) as tif:
        start, size = tif.pages[0].dataoffsets[5], tif.pages[0].databytecounts[5]
    data = bytearray(path.read_bytes())
    data[start : start + size] = b"\xa5" * size
    path.write_bytes(data)
    with open_source(path) as source:
        assert source.read({"y": slice(0, 64)}).shape == (3, 64, photo.shape[1])
        with raises(SourceError, path=path, match="level 0, the tile at row 64, column 64 "):
            source.read({})


def test_what_tifffile_logs_is_a_note_not_noise(rng, tmp_path, caplog, capfd):
    path = tmp_path / "a.tif"
    tags = [(42113, "s", 0, "no number", True)]
    tifffile.imwrite(path, some(rng, (20, 20), "u1"), photometric="minisblack", extratags=tags)
    with open_source(path) as source:
        source.read({})
        assert any("nodata" in note for note in source.metadata["notes"])
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
