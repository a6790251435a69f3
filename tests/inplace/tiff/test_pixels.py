"""What is read in place is what transcoding, tifffile and GDAL read."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import ndzarr
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr._formats.options import InPlaceOptions as Reading
from ndzarr._formats.registry import open_source
from ndzarr._library.in_place import open_tiff
from ndzarr.errors import StoreError

SHAPE = (83, 117)
DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8"]
LOSSLESS = [None, "zlib", "lzw", "zstd", "lzma", "packbits", "png", "lerc", "jpegxl"]
LOSSY = ["jpeg", "webp", "jpeg2000", "jpegxr"]


def some(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype == "?":
        return rng.random(shape) > 0.5
    pixels = (rng.random(shape) * 200 - (100 if dtype[0] in "ifc" else 0)).astype(dtype)
    return (pixels * (1 - 2j)).astype(dtype) if dtype[0] == "c" else pixels


def check(path, **options) -> ndzarr.Pyramid:
    """Compare with the source; returns the pyramid."""
    pyramid = open_tiff(str(path), 0, Reading(**options)) if options else ndzarr.open(path)
    with open_source(path, **options) as source:
        want = source.read({})
        for name in ("dims", "shape", "dtype", "channels"):
            assert getattr(pyramid, name) == getattr(source, name), name
        assert repr(pyramid.nodata) == repr(source.nodata)
        facts = {k: v for k, v in pyramid.attrs["ndzarr"]["source"].items() if k in source.metadata and k != "notes"}
        assert facts == {k: v for k, v in source.metadata.items() if k != "notes"}
        if source.times is not None:
            assert pyramid.times == tuple(source.times)
    got = pyramid.read()
    assert got.dtype == want.dtype
    assert np.array_equal(got, want, equal_nan=want.dtype.kind in "fc")
    return pyramid


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_byte_order_and_predictor(dtype, predictor, order, rng, tmp_path):
    if predictor and (dtype[0] == "c" or dtype in ("i8", "u8")):
        pytest.skip("tifffile writes none with a predictor")
    path = tmp_path / "a.tif"
    for shape, how in (
        (SHAPE, {"photometric": "minisblack"}),
        ((*SHAPE, 3), {"photometric": "rgb"}),
        ((4, *SHAPE), {"photometric": "minisblack", "planarconfig": "separate"}),
    ):
        pixels = some(rng, shape, dtype)
        for compression in ("zlib", None) if not predictor else ("zlib", "zstd", "lzw"):
            tifffile.imwrite(
                path, pixels, tile=(32, 48), byteorder=order, compression=compression, predictor=predictor, **how
            )
            got = check(path).read()
            want = tifffile.imread(path)
            want = want[None] if want.ndim == 2 else np.moveaxis(want, -1, 0) if shape[-1] == 3 else want
            assert np.array_equal(got, want, equal_nan=True)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(
    ("compression", "bigtiff"), [*[(name, False) for name in (*LOSSLESS, *LOSSY)], (None, True), ("jpeg", True)]
)
def test_every_compression(compression, planar, bigtiff, picture, tmp_path):
    if planar and compression == "webp":
        pytest.skip("WebP has colours")
    path = tmp_path / "a.tif"
    pixels = np.moveaxis(picture, -1, 0) if planar else picture
    config = "separate" if planar else "contig"
    tifffile.imwrite(
        path, pixels, photometric="rgb", planarconfig=config, tile=(64, 80), compression=compression, bigtiff=bigtiff
    )
    pyramid = check(path)
    assert pyramid.levels[0].chunks == ((1, 64, 80) if planar else (3, 64, 80))
    if compression in LOSSLESS:
        assert np.array_equal(pyramid.read(), np.moveaxis(picture, -1, 0))


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_jpeg_with_subsampled_chroma(subsampling, picture, tmp_path):
    path = tmp_path / "a.tif"
    how = {"compression": "jpeg", "compressionargs": {"level": 80, "outcolorspace": "ycbcr"}}
    tifffile.imwrite(path, picture, photometric="ycbcr", tile=(64, 64), subsampling=subsampling, **how)
    assert check(path).channels == ("r", "g", "b")


@pytest.mark.parametrize(
    ("samples", "how", "names"),
    [
        (2, {"photometric": "minisblack", "extrasamples": ["unassalpha"]}, ("gray", "a")),
        (4, {"photometric": "rgb", "extrasamples": ["unassalpha"]}, ("r", "g", "b", "a")),
        (8, {"photometric": "minisblack"}, tuple(f"c{i}" for i in range(8))),
    ],
)
@pytest.mark.parametrize("planar", [False, True])
def test_extra_samples_and_alpha(samples, how, names, planar, rng, tmp_path):
    path = tmp_path / "a.tif"
    shape = (samples, *SHAPE) if planar else (*SHAPE, samples)
    config = "separate" if planar else "contig"
    tifffile.imwrite(path, some(rng, shape, "u2"), planarconfig=config, tile=(32, 32), compression="zlib", **how)
    assert check(path).channels == names


def test_bits_white_zeros_palettes_and_inks_become_channels(rng, tmp_path):
    path = tmp_path / "a.tif"
    for dtype in ("?", "u1", "u2"):
        tifffile.imwrite(path, some(rng, SHAPE, dtype), photometric="miniswhite", tile=(32, 32))
        check(path)
    tifffile.imwrite(path, some(rng, SHAPE, "?"), tile=(32, 32), photometric="minisblack")
    check(path)
    colours = rng.integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(path, some(rng, SHAPE, "u1"), photometric="palette", colormap=colours, tile=(32, 32))
    assert check(path).channels == ("r", "g", "b")
    tifffile.imwrite(path, some(rng, (*SHAPE, 4), "u1"), photometric="separated", tile=(32, 32), compression="zlib")
    assert check(path).channels == ("r", "g", "b")


@pytest.mark.parametrize("axes", ["TYX", "ZCYX", "CTYX", "TZCYX", "TCYXS"])
def test_stacks_of_ome_tiff(axes, rng, tmp_path):
    path = tmp_path / "a.ome.tif"
    lengths = {"T": 3, "Z": 2, "C": 4, "Y": 40, "X": 61, "S": 3}
    pixels = some(rng, tuple(lengths[a] for a in axes), "u2")
    photometric = "rgb" if axes[-1] == "S" else "minisblack"
    tifffile.imwrite(
        path, pixels, metadata={"axes": axes}, ome=True, tile=(16, 32), compression="zlib", photometric=photometric
    )
    pyramid = check(path)
    assert pyramid.levels[0].chunks[-2:] == (16, 32)
    one = {d: slice(n - 1, n) for d, n in pyramid.sizes.items() if d not in "yx"}
    assert np.array_equal(pyramid.read(**one), pyramid.read()[tuple(one.get(d, slice(None)) for d in pyramid.dims)])


def test_options_mean_what_they_mean_for_transcoding(rng, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, some(rng, (5, *SHAPE), "u1"), tile=(32, 32), photometric="minisblack", metadata=None)
    check(path)
    check(path, axes="zyx")
    check(path, axes="cyx", channels=("a", "b", "c", "d", "e"), nodata=7.0)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("nodata", [None, 7, -9999.0, float("nan")])
def test_tiles_that_gdal_left_out_are_nodata_or_zero(nodata, interleave, gdal, through_gdal, tmp_path):
    integer = nodata is None or nodata == 7
    pixels = np.full((3, 200, 300), 0 if nodata is None else nodata, "u1" if integer else "f4")
    pixels[:, 70:90, 100:150] = 3
    path = tmp_path / "a.tif"
    options = {"TILED": "YES", "BLOCKXSIZE": 64, "BLOCKYSIZE": 64, "COMPRESS": "DEFLATE", "SPARSE_OK": "TRUE"}
    gdal(path, pixels, "GTiff", nodata=nodata, INTERLEAVE=interleave, **options)
    pyramid = check(path)
    assert pyramid.plan([{}]).explain().missing > 0
    assert np.array_equal(pyramid.read(), through_gdal(path), equal_nan=True)


GDAL = [
    (compression, predictor, dtype)
    for compression, predictor in [
        ("NONE", "NO"),
        ("DEFLATE", "YES"),
        ("ZSTD", "YES"),
        ("LZW", "YES"),
        ("LERC_ZSTD", "NO"),
    ]
    for dtype in ("u1", "i2", "f4")
]


@pytest.mark.parametrize(("compression", "predictor", "dtype"), [*GDAL, ("DEFLATE", "YES", "f8"), ("WEBP", "NO", "u1")])
def test_cogs_of_gdal_are_read_as_gdal_reads_them_level_by_level(
    compression, predictor, dtype, picture, gdal, through_gdal, tmp_path
):
    path = tmp_path / "a.tif"
    options = {"COMPRESS": compression, "BLOCKSIZE": 128, "PREDICTOR": predictor}
    if compression == "WEBP":
        options["WEBP_LOSSLESS"] = "TRUE"
    gdal(path, np.moveaxis(picture, -1, 0).astype(dtype), **options)
    pyramid = check(path)
    own = [level for level in pyramid.levels if level.array.engine.startswith("tiles of a.tif")]
    assert [level.shape[1:] for level in own] == [(301, 413), (150, 206), (75, 103)]
    assert np.array_equal(pyramid.read(), through_gdal(path))
    for k in (1, 2):
        assert np.array_equal(pyramid.read(k), through_gdal(path, overview=k - 1))


FRAMES = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">
<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="413" SizeY="301" SizeC="3" SizeZ="1" SizeT="2">
<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" FirstT="0" PlaneCount="1"/>
<TiffData IFD="1" FirstT="1" PlaneCount="1"/></Pixels></Image></OME>"""


def test_jpegs_with_tables_of_their_own_in_each_frame(picture, gdal, tmp_path):
    tiles, tables = [], []
    for quality in (30, 95):
        path = gdal(tmp_path / f"{quality}.tif", np.moveaxis(picture, -1, 0), COMPRESS="JPEG", QUALITY=quality)
        assert check(path).channels == ("r", "g", "b")
        with tifffile.TiffFile(path) as tif:
            page = tif.pages[0]
            tiles.append(_encoded(tif, page))
            tables.append(page.jpegtables)
    assert tables[0] != tables[1]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=False) as tif:
        for encoded, table in zip(tiles, tables, strict=True):
            tif.write(
                iter(encoded),
                shape=picture.shape,
                dtype="u1",
                tile=(512, 512),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                extratags=[(347, 7, len(table), table, True)],
                description=FRAMES,
                metadata=None,
            )
    pyramid = check(tmp_path / "a.ome.tif")
    assert pyramid.shape == (2, 3, 301, 413)
    for frame, quality in enumerate((30, 95)):
        assert np.array_equal(pyramid.read(t=[frame])[0], ndzarr.open(tmp_path / f"{quality}.tif").read())


def _encoded(tif, page) -> list[bytes]:
    """Bytes of each tile."""
    found = []
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        tif.filehandle.seek(offset)
        found.append(tif.filehandle.read(count))
    return found


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("compress", ["LERC", "LERC_ZSTD"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("missing", ["all", "some", "alpha", "opaque"])
def test_what_lerc_keeps_in_a_mask_is_read_as_gdal_reads_it(missing, interleave, compress, picture, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    if missing == "all" and tuple(map(int, rasterio.__gdal_version__.split(".")[:2])) < (3, 9):
        pytest.skip("GDAL 3.8 fails to read such tiles, also its own")
    pixels = np.moveaxis(picture, -1, 0)
    if missing in ("alpha", "opaque"):
        alpha = np.where(pixels[:1] > 100, 255, 0 if missing == "alpha" else 255).astype("u1")
        pixels = np.concatenate([pixels, alpha])
    else:
        pixels = pixels.astype("f4")
        pixels[slice(None) if missing == "all" else 1, 20:90, 30:300] = np.nan
    how = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype}
    how |= {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": interleave, "compress": compress}
    if len(pixels) == 4:
        how |= {"photometric": "RGB", "alpha": "unspecified" if interleave == "band" else "yes"}
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", **how) as file:
        file.write(pixels)
    with rasterio.open(path) as file:
        wanted = file.read()  # colours below an alpha of 0 are lost
    assert np.array_equal(wanted[-1], pixels[-1], equal_nan=True)
    np.testing.assert_array_equal(ndzarr.open(path).read(), wanted)
    np.testing.assert_array_equal(ndzarr.transcode(path, tmp_path / "a.zarr").read(), wanted)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_jpegs_of_one_colour_each_are_read_as_gdal_reads_them(picture, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    how = {"count": 3, "height": 301, "width": 413, "dtype": "uint8", "interleave": "band", "photometric": "RGB"}
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "JPEG"}
    with rasterio.open(path, "w", driver="GTiff", **how, **tiles) as file:
        file.write(np.moveaxis(picture, -1, 0))
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(ndzarr.open(path).read(), file.read())
    assert ndzarr.transcode(path, tmp_path / "a.zarr").channels == ("r", "g", "b")


CONTENT = np.random.default_rng(0).integers(0, 60000, (90, 110, 3)).astype(np.uint16)


@examples(25, HealthCheck.function_scoped_fixture)
@given(data=st.data())
def test_any_tile_window_and_channels_equal_a_slice(data, tmp_path):
    sides = st.integers(1, 4).map(lambda n: 16 * n)
    tile = data.draw(sides), data.draw(sides)
    compression = data.draw(st.sampled_from([None, "zlib", "zstd", "lzw", "packbits"]))
    planar = data.draw(st.booleans())
    predictor = compression in ("zlib", "zstd", "lzw") and data.draw(st.booleans())
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.moveaxis(CONTENT, -1, 0) if planar else CONTENT,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        tile=tile,
        compression=compression,
        predictor=predictor,
    )
    pyramid = ndzarr.open(path, cache_bytes=data.draw(st.sampled_from([0, 1 << 20])))
    windows = []
    for _ in range(data.draw(st.integers(1, 4))):
        y0, x0 = data.draw(st.integers(0, 89)), data.draw(st.integers(0, 109))
        y1, x1 = data.draw(st.integers(y0, 95)), data.draw(st.integers(x0, 120))
        step = data.draw(st.sampled_from([1, 1, 3]))
        channels = data.draw(st.sampled_from([[0, 1, 2], [2], [2, 0], [1, 2]]))
        windows.append({"y": slice(y0, y1, step), "x": slice(x0, x1), "c": channels})
    for got, window in zip(pyramid.read_many(windows), windows, strict=True):
        assert np.array_equal(got, np.moveaxis(CONTENT[window["y"], window["x"]], -1, 0)[window["c"]])
        assert np.array_equal(got, pyramid.read(**window))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"rowsperstrip": 16}, "it has strips of 16 rows, not tiles"),
        ({"tile": (32, 32), "extratags": [(274, 3, 1, 6, True)]}, "its orientation tag asks for it to be turned"),
        ({"tile": (16, 32, 32), "volumetric": True}, "its tiles are deep"),
    ],
)
def test_what_is_not_read_in_place_says_why_and_what_to_do(how, why, rng, tmp_path):
    path = tmp_path / "scene.tif"
    shape = (20, 60, 70) if "volumetric" in how else (60, 70)
    tifffile.imwrite(path, some(rng, shape, "u1"), photometric="minisblack", **how)
    with raises(
        StoreError,
        path=path,
        hint="ndzarr.transcode('scene.tif', ...)",
        match=why,
    ):
        ndzarr.open(path)


OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="40" SizeY="40" SizeC="1" SizeZ="1"
SizeT="2"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>
<TiffData IFD="0" FirstT="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:a</UUID></TiffData>
<TiffData IFD="0" FirstT="1" PlaneCount="1"><UUID FileName="b.ome.tif">urn:uuid:b</UUID></TiffData>
</Pixels></Image></OME>"""
"""What each of two files says of both."""


@pytest.mark.parametrize(("opened", "frames"), [("a", "ab"), ("b", "aa")])
def test_frames_in_other_files_are_not_read_in_place(opened, frames, rng, tmp_path):
    for name in "ab":
        second = OME.replace("b.ome.tif", f"{frames[1]}.ome.tif").replace("uuid:b", f"uuid:{frames[1]}")
        text = second.format(own=name)
        how = {"description": text, "metadata": None, "photometric": "minisblack", "tile": (16, 16)}
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", some(rng, (40, 40), "u1"), **how)
    path = tmp_path / f"{opened}.ome.tif"
    with open_source(path) as source:
        assert source.shape == (2, 1, 40, 40)
    with raises(StoreError, hint="ndzarr.transcode", match="several files"):
        ndzarr.open(path)
