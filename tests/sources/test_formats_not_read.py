from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

import ndzarr
from helpers.errors import raises
from ndzarr.errors import SourceError, StoreError


def with_pillow(form: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, form)
    return out.getvalue()


FILES = {
    "LIF": ("a.lif", b"\x70\0\0\0\x10\x27\0\0\x2a" + bytes(600)),
    "OIB": ("a.oib", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)),
    "HEIF": ("a.heic", b"\0\0\0\x18ftypheic" + bytes(100)),
    "12-bit JPEG": ("a.jpg", imagecodecs.jpeg8_encode(np.zeros((16, 16), np.uint16), bitspersample=12)),
    "lossless 16-bit JPEG": ("b.jpg", imagecodecs.ljpeg_encode(np.zeros((16, 16), np.uint16))),
    "SGI": ("a.sgi", with_pillow("SGI")),
    "PCX": ("a.pcx", with_pillow("PCX")),
    "TGA": ("a.tga", with_pillow("TGA")),
    "PostScript": ("a.eps", b"\xc5\xd0\xd3\xc6" + bytes(100)),
    "JPEG-LS": ("c.jpg", imagecodecs.jpegls_encode(np.zeros((16, 16), np.uint8))),
}


@pytest.mark.parametrize("name", FILES)
def test_a_format_that_is_not_read_is_named_with_what_to_use(name, save):
    path = save(*FILES[name])
    with raises(SourceError, path=path, match=name) as caught:
        ndzarr.transcode(path, path.with_suffix(".zarr"))
    assert caught.value.hint


@pytest.mark.parametrize("name", [name for name in FILES if "JPEG" not in name])
def test_opening_it_says_the_same(name, save):
    path = save(*FILES[name])
    with raises(SourceError) as refused:
        ndzarr.transcode(path, path.with_suffix(".zarr"))
    with raises(StoreError, path=path, match=name, hint=refused.value.hint):
        ndzarr.open(path)
