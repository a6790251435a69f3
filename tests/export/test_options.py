"""What cannot be exported is refused before anything is written, with the option that would do."""

import re
from dataclasses import replace

import numpy as np
import pytest

import ndzarr
from helpers.errors import raises
from ndzarr._export.cog import prepare, write_file
from ndzarr.errors import OptionError, WindowError


@pytest.mark.parametrize(
    ("pixels", "options", "says"),
    [
        ("u2", {"compression": "jpeg"}, "Use compression='zstd' or 'deflate'"),
        ("u1x4", {"compression": "jpeg"}, "choose 1 or 3 with channels="),
        ("u1x4", {"compression": "jpeg"}, "mask='alpha'"),
        ("u1", {"compression": "webp"}, "choose 3 or 4 with channels="),
        ("f4", {"compression": "webp"}, "Use compression='zstd' or 'deflate'"),
        ("u8", {"compression": "lerc"}, "has no uint64"),
        ("f2", {"compression": "lerc"}, "has no float16"),
        ("c8", {"compression": "lerc"}, "has no complex64"),
        ("u1", {"compression": "zsdt"}, "did you mean 'zstd'"),
        ("u1", {"predictor": "float"}, "Use predictor='horizontal' or 'auto'"),
        ("f4", {"predictor": "horizontal"}, "Use predictor='float' or 'auto'"),
        ("c8", {"predictor": "float"}, "Use predictor='none' or 'auto'"),
        ("u1", {"predictor": "horizontal", "compression": "none"}, "Use predictor='none' or 'auto'"),
        ("u1", {"predictor": "2"}, "Known: auto, none, horizontal, float"),
        ("u1", {"blocksize": 100}, "multiple of 16"),
        ("u1", {"quality": 50}, "jpeg or webp only"),
        ("u1", {"quality": 101, "compression": "jpeg"}, "1 to 100"),
        ("u1", {"level": 3, "compression": "lzw"}, "deflate or zstd only"),
        ("u1", {"level": 30}, "levels 1 to 12"),
        ("u1", {"max_error": 1.0}, "lerc only"),
        ("u1", {"nodata": -1}, "not a value of uint8"),
        ("u1", {"nodata": 0.5}, "not a value of uint8"),
        ("u1", {"mask": True}, "states no value of missing pixels"),
        ("u1", {"mask": "alpha"}, "no channel 'a'"),
        ("u1", {"mask": "nodata"}, "expected 'auto', True, False, 'alpha'"),
        ("u1", {"bigtiff": "yes"}, "True, False or 'auto'"),
        ("u1", {"channels": []}, "at least one channel"),
        ("u1", {"t": 0}, "has no axis t"),
        ("u1", {"workers": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(pyramid, tmp_path, pixels, options, says):
    dtype, _, bands = pixels.partition("x")
    pyr = pyramid(np.ones((int(bands or 1), 40, 50), dtype))
    with raises(OptionError, key=next(iter(options)) if len(options) == 1 else None, match=re.escape(says)):
        ndzarr.export_cog(pyr, tmp_path / "a.tif", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_an_unknown_channel_is_named(pyramid, tmp_path):
    with raises(WindowError, key="c", match="'nir'"):
        ndzarr.export_cog(pyramid(3), tmp_path / "a.tif", channels=["nir"])


def test_a_stack_needs_a_choice(tmp_path):
    pyr = ndzarr.transcode(np.zeros((3, 40, 50), "u1"), tmp_path / "a.zarr", axes="tyx")
    with raises(
        OptionError,
        key="t",
        hint="Choose one with t=0 to t=2",
        match="has 3 planes along t",
    ):
        ndzarr.export_cog(pyr, tmp_path / "a.tif")
    with raises(OptionError, key="t", match=r"t=3.*has t=0 to t=2"):
        ndzarr.export_cog(pyr, tmp_path / "a.tif", t=3)


def test_a_mask_of_another_size_is_refused(pyramid, tmp_path):
    mask = pyramid(1, "m.zarr", height=50, width=50)
    with raises(OptionError, key="mask", hint="Transcode one channel of the same size"):
        ndzarr.export_cog(pyramid(1), tmp_path / "a.tif", mask=mask)


def test_a_tiff_that_gets_too_large_says_what_would_help(pyramid, tmp_path):
    writing = replace(prepare(pyramid(3)), largest=20_000)  # instead of 4 GiB
    with raises(OptionError, key="bigtiff", hint="bigtiff=True"):
        write_file(writing, tmp_path / "a.tif", bigtiff=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    for bigtiff in (True, "auto"):
        write_file(writing, tmp_path / "a.tif", bigtiff=bigtiff, overwrite=True)
        assert ndzarr.open(tmp_path / "a.tif").shape == (3, 300, 411)
