"""Each preset stores what it promises, and zarr-python reads it."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr.errors import OptionError

KINDS = {
    "rgb": photo(300, 260),
    "gray": photo(300, 260)[..., 0],
    "rgba": np.dstack([photo(300, 260), photo(300, 260)[..., :1]]),
    "16 bit": photo(300, 260)[..., 0].astype("u2") * 37,
    "signed": photo(300, 260)[..., 0].astype("i2") * 99 - 9000,
    "float": photo(300, 260)[..., 0].astype("f4") / 7,
    "bool": photo(300, 260)[..., 0] > 128,
}


def stored(folder) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def channels_first(image: np.ndarray) -> np.ndarray:
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3:UserWarning")
@pytest.mark.parametrize("preset", ["fast", "compact"])
@pytest.mark.parametrize("kind", KINDS)
def test_lossless_presets_give_back_every_pixel_through_ndzarr_and_zarr_python(tmp_path, preset, kind):
    pyramid = ndzarr.transcode(KINDS[kind], tmp_path / "a.zarr", preset=preset)
    assert [e for e, _ in pyramid.plan([{}]).explain().engines] == ["local files"]
    for level in range(len(pyramid.levels)):
        there = zarr.open(tmp_path / "a.zarr", mode="r")[f"{level}/image"][...]
        np.testing.assert_array_equal(pyramid.read(level), there)
    np.testing.assert_array_equal(pyramid.read(), channels_first(KINDS[kind]))


@pytest.mark.parametrize("kind", ["rgb", "gray", "rgba"])
def test_jpeg_is_small_close_and_read_alike_by_zarr_python(tmp_path, kind):
    image = KINDS[kind]
    pyramid = ndzarr.transcode(image, tmp_path / "a.zarr", preset="jpeg")
    assert [e for e, _ in pyramid.plan([{}]).explain().engines] == ["local files"]
    pixels = pyramid.read()
    assert np.abs(pixels.astype(float) - channels_first(image)).mean() < 6
    np.testing.assert_array_equal(pixels, zarr.open(tmp_path / "a.zarr", mode="r")["0/image"][...])
    assert stored(tmp_path / "a.zarr") < 0.8 * image.nbytes


def test_jpeg_stores_leave_no_dark_edge_at_the_border(tmp_path):
    """Chunks reach beyond the image; zeros there would ring into it."""
    image = np.full((130, 130, 3), 200, np.uint8)
    pixels = ndzarr.transcode(image, tmp_path / "a.zarr", preset="jpeg").read()
    assert np.abs(pixels.astype(int) - 200).max() <= 1


def test_jpeg_chunks_that_zarr_python_wrote_are_read_back(tmp_path):
    store = ndzarr.transcode(KINDS["rgb"], tmp_path / "a.zarr", preset="jpeg")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
    group["0/image"][:, :128, :128] = 77
    with raises(ndzarr.errors.DamagedError, path=f"{store.path}/0/image/c/0/0/0"):
        ndzarr.open(store.path).read()
    # Without the digest the store counts as one that others write to.
    group.attrs["ndzarr"] = {key: value for key, value in group.attrs["ndzarr"].items() if key != "digest"}
    again = ndzarr.open(store.path).read(y=slice(0, 128), x=slice(0, 128))
    assert np.abs(again.astype(int) - 77).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (9, 3), (3, 3), (1, 3), (200, 1), (130, 129)])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_holds_images_of_any_size(tmp_path, shape, channels):
    image = photo(*shape)[..., :channels]
    found = ndzarr.transcode(image, tmp_path / "a.zarr", axes="yxc", preset="jpeg").read()
    np.testing.assert_allclose(np.moveaxis(found, 0, -1), image.astype(int), atol=24)


def test_jpeg_holds_frames_one_by_one_whatever_they_are_read_for(tmp_path):
    frames = np.stack([photo(130, 150, seed) for seed in range(3)])
    pyramid = ndzarr.transcode(frames, tmp_path / "a.zarr", axes="tyxc", preset="jpeg", access="tubes")
    assert pyramid.levels[0].chunks == (1, 3, 64, 64)
    np.testing.assert_allclose(np.moveaxis(pyramid.read(), 1, -1), frames.astype(int), atol=40)


@pytest.mark.parametrize("kind", ["16 bit", "float", "bool"])
def test_jpeg_refuses_what_it_would_spoil(tmp_path, kind):
    with raises(OptionError, key="preset", hint="Use 'compact'"):
        ndzarr.transcode(KINDS[kind], tmp_path / "a.zarr", preset="jpeg")
    with raises(OptionError, key="preset", hint="Use 'compact', which is lossless"):
        ndzarr.transcode(KINDS["gray"], tmp_path / "a.zarr", preset="jpeg", kind="labels")
    assert not list(tmp_path.iterdir())


def test_compact_is_smaller_than_fast_and_jpeg_much_smaller(tmp_path):
    sizes = {}
    for preset in ("fast", "compact", "jpeg"):
        ndzarr.transcode(KINDS["rgb"], tmp_path / preset, preset=preset)
        sizes[preset] = stored(tmp_path / preset)
    assert sizes["jpeg"] < sizes["compact"] / 2
    assert sizes["compact"] < sizes["fast"]


def test_labels_keep_their_values_at_every_level(tmp_path):
    classes = np.kron(np.arange(12, dtype="u1").reshape(3, 4) * 20, np.ones((101, 99), "u1"))
    for preset in ("fast", "compact"):
        pyramid = ndzarr.transcode(classes, tmp_path / preset, kind="labels", preset=preset)
        for level in range(len(pyramid.levels)):
            assert set(np.unique(pyramid.read(level))) <= set(np.unique(classes))


def test_an_unknown_preset_suggests_a_known_one(tmp_path):
    with raises(OptionError, key="preset", match="did you mean 'compact'"):
        ndzarr.transcode(KINDS["gray"], tmp_path / "a.zarr", preset="compakt")
