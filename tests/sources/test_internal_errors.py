"""A fault of ndzarr is not called damage of a file."""

import numpy as np
import pytest
import tifffile

import ndzarr
from ndzarr._formats.tiff.metadata import Page
from ndzarr.errors import SourceError, StoreError

PIXELS = np.arange(90 * 80, dtype=np.uint16).reshape(90, 80)


@pytest.fixture
def tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, tile=(32, 32), compression="zlib")
    return tmp_path / "a.tif"


@pytest.mark.parametrize("fault", [TypeError, KeyError, AttributeError, ValueError, IndexError])
@pytest.mark.parametrize("where", ["pixel size", "page"])
def test_a_fault_of_ndzarr_keeps_its_type(tiff, tmp_path, monkeypatch, fault, where):
    def fail(*args):
        raise fault("a fault of ndzarr")

    if where == "page":
        monkeypatch.setattr(Page, "of", fail)
    else:
        monkeypatch.setattr("ndzarr._formats.tiff.series.stated_size", fail)
    for use in (lambda: ndzarr.open(tiff), lambda: ndzarr.transcode(tiff, tmp_path / "a.zarr")):
        with pytest.raises(fault) as caught:
            use()
        assert type(caught.value) is fault


@pytest.mark.parametrize("tag", ["ImageLength", "SamplesPerPixel", "Compression", "TileWidth"])
def test_a_tag_of_another_form_is_damage(tiff, tmp_path, tag):
    data = bytearray(tiff.read_bytes())
    with tifffile.TiffFile(tiff) as tif:
        at = tif.pages[0].tags[tag].offset
    data[at + 2 : at + 12] = b"\x02\0\x04\0\0\0abc\0"  # text in place of a number
    tiff.write_bytes(data)
    for use, error in ((ndzarr.open, StoreError), (lambda p: ndzarr.transcode(p, tmp_path / "a.zarr"), SourceError)):
        with pytest.raises(error) as caught:
            use(tiff)
        assert caught.value.path == str(tiff)
