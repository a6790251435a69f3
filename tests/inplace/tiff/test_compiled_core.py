"""The compiled core reads tiles as the Python way does, damaged ones too."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.arrays import photo, same
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from helpers.tiff_bytes import gray_tags, tiff_bytes
from ndzarr._store import core
from ndzarr._store.core import FlatPlan
from ndzarr._store.read import execute
from ndzarr.errors import DamagedError

pytestmark = pytest.mark.skipif(not core.is_built(), reason="the compiled core was not built here")

SIZE = 75, 91
DTYPES = "u1", "u2", "u4", "u8", "i1", "i2", "f2", "f4", "f8", "c8"
SUBSAMPLINGS = (1, 1), (2, 1), (2, 2)


@contextmanager
def listening():
    """Yield a list of the chunks that the core leaves to the Python way, of each plan."""
    left, decode = [], FlatPlan.decode

    def noted(self, *args):
        left.append(decode(self, *args))
        return left[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlatPlan, "decode", noted)
        yield left


def told(pyramid, window):
    """Pixels, or what the error says: one thread finds the first of several damaged tiles."""
    try:
        return execute(pyramid.plan([window]), threads=None if core.enabled else 1)[0]
    except DamagedError as error:
        return str(error), error.path, error.hint


def by_both(pyramid, window, early=False):
    """
    Compare the core with the Python way; return the chunks that it left to that.

    If the core decodes `early` as far as a window wants and the Python way does not, only the latter finds all damage.
    """
    with listening() as left:
        first = told(pyramid, window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "enabled", False)
        second = told(pyramid, window)
    if isinstance(second, tuple):
        assert early or (isinstance(first, tuple) and first == second)
    else:
        assert same(first, second)
    [some] = left
    return some


@st.composite
def windows(draw):
    def axis(n):
        start = draw(st.integers(0, n - 1))
        return slice(start, draw(st.integers(start, n)), draw(st.sampled_from((1, 1, 1, 2, 7))))

    return dict(zip("yx", map(axis, SIZE), strict=True))


@st.composite
def writing(draw):
    """Samples of a pixel, their dtype, and options of `tifffile.imwrite`."""
    codec = draw(st.sampled_from(("zlib", "zstd", "lzw", "jpeg", None)))
    dtype = "u1" if codec == "jpeg" else draw(st.sampled_from(DTYPES))
    predictor = codec not in ("jpeg", None) and dtype not in ("u8", "c8") and draw(st.booleans())
    samples = draw(st.sampled_from((1, 2, 3, 4, 5)))
    planar = samples > 1 and draw(st.booleans())
    if codec == "jpeg":
        samples = draw(st.sampled_from((1, 3)))
    rgb = samples == 3 and not (planar and codec == "jpeg")
    options = {
        "compression": codec,
        "predictor": predictor,
        "tile": draw(st.sampled_from(((16, 16), (48, 32), (32, 80)))),
        "byteorder": draw(st.sampled_from("<>")),
        "planarconfig": None if samples == 1 else "separate" if planar else "contig",
        "photometric": "rgb" if rgb else "minisblack",
    }
    if codec == "jpeg" and rgb and not planar:
        options["photometric"] = draw(st.sampled_from(("rgb", "ycbcr")))
        if options["photometric"] == "ycbcr":
            options["subsampling"] = draw(st.sampled_from(SUBSAMPLINGS))
            options["compressionargs"] = {"level": 85, "outcolorspace": "ycbcr"}
    return samples, dtype, options


def write(folder, written):
    samples, dtype, options = written
    pixels = photo(*SIZE)[..., np.arange(samples) % 3]
    if dtype != "u1":
        rng = np.random.default_rng(samples)
        pixels = (pixels * 1.37 + rng.random(pixels.shape)).astype(dtype)
    if samples == 1:
        pixels = pixels[..., 0]
    elif options["planarconfig"] == "separate":
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    tifffile.imwrite(folder / "a.tif", pixels, **options)
    return folder / "a.tif"


@given(st.data(), writing())
@examples(20)
def test_every_codec_dtype_layout_and_window(tmp_path_factory, data, written):
    pyramid = ndzarr.open(write(tmp_path_factory.mktemp("tiff"), written))
    assert "compiled core" in str(pyramid.plan([{}]).explain())
    for window in ({}, *data.draw(st.lists(windows(), min_size=1, max_size=3))):
        assert by_both(pyramid, window) == []


@given(st.data(), writing())
@examples(30)
def test_damage_is_told_as_the_python_way_does(tmp_path_factory, data, written):
    """Bytes are changed, tiles end early, or are those of another one."""
    path = write(tmp_path_factory.mktemp("tiff"), written)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        page = tif.pages[0]
        starts, counts = list(page.dataoffsets), list(page.databytecounts)
        for _ in range(data.draw(st.integers(1, 3))):
            k = data.draw(st.integers(0, len(starts) - 1))
            tif.filehandle.seek(starts[k] + data.draw(st.integers(0, counts[k] - 1)))
            tif.filehandle.write(data.draw(st.binary(min_size=1, max_size=3)))
        if len(counts) > 1 and written[2]["compression"] is not None and data.draw(st.booleans()):
            k = data.draw(st.integers(0, len(starts) - 1))
            counts[k] = data.draw(st.integers(1, counts[k]))
            page.tags["TileByteCounts"].overwrite(counts)
    by_both(ndzarr.open(path), {}, written[2]["byteorder"] == ">" or written[2]["compression"] == "jpeg")


@pytest.mark.parametrize("bands", [1, 3])
def test_jpegs_of_gdal_share_tables(bands, gdal, tmp_path):
    path = gdal(tmp_path / "a.tif", photo(120, 150).transpose(2, 0, 1)[:bands], COMPRESS="JPEG", BLOCKSIZE=128)
    with tifffile.TiffFile(path) as tif:
        assert tif.pages[0].jpegtables is not None
    for window in ({}, {"y": slice(3, 40), "x": slice(100, 140)}):
        assert by_both(ndzarr.open(path), window) == []


def test_jpegs_whose_colours_libtiff_takes_for_others_are_left_to_the_python_way(tmp_path):
    pixels = photo(*SIZE)
    how = {"compression": "jpeg", "compressionargs": {"level": 95, "outcolorspace": "rgb"}, "subsampling": (1, 1)}
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(48, 48), **how)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tif:
        tif.pages[0].tags["PhotometricInterpretation"].overwrite(6)
    pyramid = ndzarr.open(tmp_path / "a.tif")
    assert by_both(pyramid, {}) == [0, 1, 2, 3]
    assert np.abs(pyramid.read() - np.moveaxis(pixels, -1, 0).astype(int)).mean() < 5


def test_lzw_with_a_code_that_its_table_lacks_is_an_error(tmp_path):
    """imagecodecs' own decoder dies of it."""
    codes = "".join(f"{code:09b}" for code in (256, 300, *[258] * 13)).encode()
    tile = np.packbits(np.frombuffer(codes, np.uint8) - ord("0")).tobytes()
    tags = {**gray_tags(16, 16, 16, compression=5), 322: (3, [16]), 323: (3, [16])}
    del tags[278]
    (tmp_path / "a.tif").write_bytes(tiff_bytes(tags, [tile], tiled=True))
    with raises(DamagedError, path=str(tmp_path / "a.tif")):
        ndzarr.open(tmp_path / "a.tif").read()
