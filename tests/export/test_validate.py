"""`validate_cog` says in words what is wrong with a file, and agrees with the checkers of others."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.shutil import copy

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr._export.validate import Directory, validate_cog
from ndzarr.errors import MissingError, SourceError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    image = photo(900, 1200).transpose(2, 0, 1)
    pyr = ndzarr.transcode(image, folder / "a.zarr", channels=["r", "g", "b"], nodata=0)
    return ndzarr.export_cog(pyr, folder / "a.tif", blocksize=128, mask=True)


@pytest.fixture
def cog(whole, tmp_path):
    return Path(shutil.copy(whole, tmp_path))


def damaged(path, at, data):
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)
    return validate_cog(path)


def only(report):
    """The one error of a report."""
    assert len(report.errors) == 1, str(report)
    return str(report.errors[0])


def offsets(path, page=0):
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[page].tags[324]
        return tag.valueoffset, tif.pages[page].dataoffsets, tif.pages[page].databytecounts


def test_a_leader_that_lies_is_found(cog):
    _, places, _ = offsets(cog)
    report = damaged(cog, places[13] - 4, b"\1\2\3\4")
    assert "tile (1, 3)" in only(report)
    assert "size" in only(report)


def test_a_trailer_that_lies_is_found(cog):
    _, places, sizes = offsets(cog)
    assert "last four bytes" in only(damaged(cog, places[5] + sizes[5], b"\1\2\3\4"))


def test_an_edited_file_is_found(cog):
    at = cog.read_bytes().index(b"EDITION=NO\n ") + 8
    assert "write it again" in only(damaged(cog, at, b"YES\n"))


def test_tiles_out_of_order_are_found(cog):
    at, places, _ = offsets(cog)
    swapped = np.array([places[1], places[0]], "<u4").tobytes()
    assert any("BLOCK_ORDER" in str(e) for e in damaged(cog, at, swapped).errors)


def test_a_truncated_file_is_found(cog):
    content = cog.read_bytes()
    cog.write_bytes(content[: len(content) * 2 // 3])
    assert any("truncated" in str(e) and "more" in str(e) for e in validate_cog(cog).errors)


def test_files_of_other_writers_are_judged_as_gdal_and_rio_cogeo_judge_them(tmp_path, gdal_check):
    cogeo = pytest.importorskip("rio_cogeo.cogeo")
    image = photo(700, 900)
    profile = {"driver": "GTiff", "height": 700, "width": 900, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "strips.tif", "w", **profile) as file:
        file.write(image.transpose(2, 0, 1))
    with rasterio.open(tmp_path / "tiled.tif", "w", **profile, tiled=True, blockxsize=256, blockysize=256) as file:
        file.write(image.transpose(2, 0, 1))
    copy(tmp_path / "tiled.tif", tmp_path / "gdal-cog.tif", driver="COG", compress="deflate", blocksize=256)
    copy(tmp_path / "tiled.tif", tmp_path / "appended.tif", driver="GTiff", tiled=True)
    with rasterio.open(tmp_path / "appended.tif", "r+") as file:
        file.build_overviews([2, 4])
    with tifffile.TiffWriter(tmp_path / "chained.tif") as tif:
        for k in range(3):
            tif.write(image[:: 2**k, :: 2**k], tile=(128, 128), subfiletype=int(k > 0), metadata=None)
    with tifffile.TiffWriter(tmp_path / "below.tif") as tif:
        tif.write(image, tile=(128, 128), subifds=2, metadata=None)
        for k in (1, 2):
            tif.write(image[:: 2**k, :: 2**k], tile=(128, 128), subfiletype=1, metadata=None)
    valid = {}
    paths = sorted(tmp_path.glob("*.tif"))
    for path, said in zip(paths, gdal_check(*paths), strict=True):
        report = validate_cog(path)
        valid[path.stem] = report.ok
        assert report.ok == cogeo.cog_validate(path, quiet=True)[0], str(report)
        if path.stem != "strips":  # GDAL minds strips only from 1024 columns on
            assert report.ok == (said in ("[]", f"{_recommended()!r}")), str(report)
    assert valid == {
        "appended": False,
        "below": False,
        "chained": False,
        "gdal-cog": True,
        "strips": False,
        "tiled": True,
    }


INTERLEAVED = """
import sys
import numpy as np
from osgeo import gdal, gdal_array
gdal.UseExceptions()
source = gdal.GetDriverByName("MEM").Create("", 700, 900, 3, gdal.GDT_Byte)
source.WriteArray(np.random.default_rng(0).integers(0, 9, (3, 900, 700), np.uint8))
source.CreateMaskBand(gdal.GMF_PER_DATASET)
source.GetRasterBand(1).GetMaskBand().WriteArray(np.full((900, 700), 255, np.uint8))
options = ["INTERLEAVE=" + sys.argv[2], "BLOCKSIZE=128", "COMPRESS=DEFLATE"]
gdal.GetDriverByName("COG").CreateCopy(sys.argv[1], source, options=options)
"""


@pytest.mark.parametrize("interleave", ["PIXEL", "BAND", "TILE"])
def test_samples_may_be_interleaved_in_any_way_that_gdal_knows(interleave, tmp_path, gdal_check):
    path = tmp_path / "a.tif"
    subprocess.run([sys.executable, "-c", INTERLEAVED, path, interleave], check=True, capture_output=True)
    assert gdal_check(path) == ["[]"]
    assert validate_cog(path).ok, str(validate_cog(path))
    at, found, _ = offsets(path)
    swapped = damaged(path, at, b"".join(n.to_bytes(4, "little") for n in (found[1], found[0])))
    assert "before the tile that precedes it" in str(swapped)
    assert ("of band 1" in str(swapped)) == (interleave != "PIXEL")


def test_tiles_of_samples_that_are_stored_apart_are_in_one_of_two_orders():
    offsets = np.array([0, 20, 30, 40, 50, 60])
    common = {"name": "", "at": 0, "shape": (16, 48), "tile": (16, 16), "sizes": offsets, "planes": 2}
    assert Directory(**common, offsets=offsets, by_tile=False).in_order.tolist() == [1, 2, 3, 4, 5]
    assert Directory(**common, offsets=offsets, by_tile=True).in_order.tolist() == [3, 1, 4, 2, 5]


def _recommended():
    return ["The file is greater than 512xH or Wx512, it is recommended to include internal overviews"]


def test_errors_come_with_their_reasons(tmp_path):
    image = photo(700, 900)
    with tifffile.TiffWriter(tmp_path / "chained.tif") as tif:
        for k in range(2):
            tif.write(image[:: 2**k, :: 2**k], subfiletype=int(k > 0), metadata=None)
    text = str(validate_cog(tmp_path / "chained.tif"))
    for part in ("not a valid", "has strips, not tiles: a window needs whole rows", "smallest image first"):
        assert part in text


def test_overviews_in_another_file_are_an_error(cog):
    cog.with_name(cog.name + ".ovr").write_bytes(b"")
    assert ".ovr" in only(validate_cog(cog))


@pytest.mark.parametrize("content", [b"", b"II*\0", b"not a TIFF at all", b"II*\0\xff\xff\xff\x7f", b"II+\0\x08\0\0\0"])
def test_what_is_no_tiff_is_named(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with raises(SourceError, path=tmp_path / "a.tif"):
        validate_cog(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("tag", "entry", "says"),
    [
        (256, (4, 1, 0), "has 0 x 900 pixels"),
        (323, (4, 1, 0), "in segments of 128 x 0"),
        (325, (4, 1, 99), "and 1 sizes of"),
    ],
)
def test_a_directory_that_makes_no_sense_is_an_error_that_names_the_file(cog, tag, entry, says):
    with tifffile.TiffFile(cog) as tif:
        at = tif.pages[0].tags[tag].offset
    with raises(SourceError, path=cog, match=says):
        damaged(cog, at + 2, struct.pack("<HII", *entry))


@pytest.mark.parametrize(("tag", "number"), [(324, 2**31), (324, 2**32), (324, 2**63 - 1), (325, 2**32 - 1)])
def test_tiles_that_cannot_be_in_the_file_are_findings(pyramid, tmp_path, tag, number):
    path = ndzarr.export_cog(pyramid(1), tmp_path / "a.tif", blocksize=128, bigtiff=True)
    with tifffile.TiffFile(path) as tif:
        found = tif.pages[0].tags[tag]
        at, size = found.valueoffset, found.valuebytecount // found.count
    assert "(0, 0) (row, column) is beyond the end" in str(damaged(path, at, number.to_bytes(size, "little")))


def test_a_directory_without_end_is_an_error(pyramid, tmp_path):
    path = ndzarr.export_cog(pyramid(1), tmp_path / "a.tif", blocksize=128, bigtiff=True)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[1].offset
    with raises(SourceError, path=tmp_path / "a.tif"):
        damaged(path, at, (2**64 - 1).to_bytes(8, "little"))


def test_an_offset_that_no_file_can_have_is_an_error(pyramid, tmp_path):
    path = ndzarr.export_cog(pyramid(1), tmp_path / "a.tif", blocksize=128, bigtiff=True)
    at, _, _ = offsets(path)
    with raises(SourceError, path=tmp_path / "a.tif"):
        damaged(path, at, (2**64 - 1).to_bytes(8, "little"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with raises(MissingError, path=tmp_path / "a.tif"):
        validate_cog(tmp_path / "a.tif")
    with raises(SourceError, path=tmp_path, hint="ndzarr.export_cog"):
        validate_cog(tmp_path)
