"""Asset, image and video space: the pixels are those that kwcoco's own reader (delayed_image) finds there."""

from __future__ import annotations

import json
import re

import kwimage
import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.arrays import photo

pytestmark = pytest.mark.filterwarnings("ignore:DelayedLoad may not be efficient without gdal")  # our oracle says so


def delayed(dset, gid, channels, space, interpolation, window=None):
    """Pixels (c, y, x) as delayed_image finds them, NaN where it has none."""
    image = dset.coco_image(gid).imdelay(channels=channels, space=space)
    if window is not None:
        image = image.crop(window, clip=False, wrap=False)
    return np.asarray(image.finalize(interpolation=interpolation, antialias=False), float).transpose(2, 0, 1)


def target(gid, space):
    return {"gid": gid} if space == "image" else {"gids": [gid]}


def pixels(sample):
    """(image, valid), both (c, y, x)."""
    image = sample.image.values.reshape(sample.image.shape[-3:])
    if "valid" not in sample:
        return image, np.ones(image.shape, bool)
    valid = sample.valid.values
    return image, np.broadcast_to(valid[0] if "t" in sample.valid.dims else valid, image.shape)


def steps(image):
    """What is one grey level of 255 in an image's type."""
    return np.iinfo(image.dtype).max / 255 if image.dtype.kind in "iu" else 1.0


@pytest.mark.parametrize("space", ["image", "video"])
@pytest.mark.parametrize("gid", [1, 2, 5])
def test_linear_interpolation_is_within_a_grey_level_of_delayed_image(multispectral, gid, space):
    dset, sampler = multispectral
    expected = delayed(dset, gid, "B1|B8|B8a|B10|B11", space, "linear")
    sample = sampler.load_sample(
        target(gid, space), channels="B1|B8|B8a|B10|B11", interpolation="linear", antialias=False
    )
    image, valid = pixels(sample)
    assert image.shape == expected.shape
    assert valid.all()
    for band, wanted in zip(image, expected, strict=True):
        assert np.abs(band - wanted).mean() < steps(image)


@pytest.mark.parametrize("space", ["image", "video"])
@pytest.mark.parametrize("gid", [1, 6])
def test_nearest_interpolation_equals_delayed_image(multispectral, gid, space):
    dset, sampler = multispectral
    expected = delayed(dset, gid, "B11|B1|B8", space, "nearest")
    sample = sampler.load_sample(target(gid, space), channels="B11|B1|B8", interpolation="nearest", antialias=False)
    np.testing.assert_array_equal(pixels(sample)[0], expected)


def test_windows_over_the_border_equal_delayed_image(multispectral):
    dset, sampler = multispectral
    window = slice(-20, 44), slice(570, 634)
    expected = delayed(dset, 2, "B1|B8", "video", "linear", window)
    sample = sampler.load_sample(gids=[2], space_slice=window, channels="B1|B8", interpolation="linear", nodata="float")
    image = sample.image.values[0]
    real = sample.valid.values[0]
    assert real.mean() == (44 * 30) / 64**2
    assert np.isnan(image[:, ~real]).all()
    # Along the border delayed_image mixes with the outside, ndzarr repeats the border; B8 is enlarged 6 times.
    inner = np.zeros_like(real)
    inner[24:, :26] = True
    assert np.abs(image - expected)[:, inner].mean() < 65535 / 255


def all_channels(dset, gid):
    return [name for obj in dset.coco_image(gid).iter_asset_objs() for name in kwimage_channels(obj["channels"])]


def kwimage_channels(spec):
    import delayed_image

    return delayed_image.FusedChannelSpec.coerce(spec).normalize().as_list()


@pytest.mark.parametrize("space", ["image", "video"])
@pytest.mark.parametrize("gid", [1, 2, 3])
def test_rotated_and_sheared_assets_are_within_a_grey_level_of_delayed_image(multisensor, gid, space):
    dset, sampler = multisensor
    names = all_channels(dset, gid)
    expected = delayed(dset, gid, "|".join(names), space, "linear")
    sample = sampler.load_sample(
        target(gid, space), channels=names, interpolation="linear", antialias=False, nodata="float"
    )
    image, valid = pixels(sample)
    assert image.shape == expected.shape
    for band, mask, wanted in zip(image, valid, expected, strict=True):
        wanted = np.where(np.isnan(wanted), 0, wanted)
        scale = max(1.0, (65535 if wanted.max() > 255 else 255) / 255)
        # On the outline of an asset delayed_image mixes with the outside; within it both must agree.
        inner = _eroded(mask)
        assert inner.any()
        assert np.abs(np.nan_to_num(band) - wanted)[inner].mean() < scale
        assert abs(mask.mean() - (wanted != 0).mean()) < 0.1 or not (wanted != 0).all()


def _eroded(mask, by=3):
    import cv2

    return cv2.erode(mask.astype(np.uint8), np.ones((2 * by + 1,) * 2), borderValue=1).astype(bool)


@pytest.mark.parametrize("gid", [1, 2, 3])
def test_nearest_of_a_rotated_asset_is_the_pixel_that_holds_the_centre(multisensor, gid):
    # OpenCV 5 rounds the coordinates of rotated images, so delayed_image is no oracle here.
    dset, sampler = multisensor
    for obj in dset.coco_image(gid).iter_asset_objs():
        names = kwimage_channels(obj["channels"])
        stored = kwimage.imread(f"{dset.bundle_dpath}/{obj['file_name']}")
        stored = stored.reshape(*stored.shape[:2], -1)
        m = np.linalg.inv(kwimage.Affine.coerce(obj["warp_aux_to_img"]).matrix)
        y, x = np.mgrid[:600, :600] + 0.5
        u, v = (row[0] * x + row[1] * y + row[2] for row in m[:2])
        inside = (u >= 0) & (v >= 0) & (u < stored.shape[1]) & (v < stored.shape[0])
        expected = np.zeros((600, 600), stored.dtype)
        expected[inside] = stored[np.floor(v[inside]).astype(int), np.floor(u[inside]).astype(int), 0]
        sample = sampler.load_sample(gid=gid, channels=names[0], interpolation="nearest")
        image, valid = pixels(sample)
        assert (image[0] != expected).mean() < 1e-3, "but for coordinates that are whole up to rounding"
        assert (valid[0] != inside).mean() < 1e-3


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """One image of 1000x1400 with three channels; (sampler, pixels (c, y, x))."""
    folder = tmp_path_factory.mktemp("large")
    image = photo(1000, 1400)
    Image.fromarray(image).save(folder / "a.png")
    content = {"images": [{"id": 1, "file_name": str(folder / "a.png"), "width": 1400, "height": 1000}]}
    return ndzarr.CocoSampler(content, folder / "work"), image.transpose(2, 0, 1)


@pytest.mark.parametrize("level", [1, 2])
def test_power_of_two_scales_on_the_grid_are_exact_copies_of_levels(large, level):
    sampler, _ = large
    f = 2**level
    sample = sampler.load_sample(gid=1, space_slice=(slice(f * 3, f * 103), slice(f * 7, f * 207)), scale=1 / f)
    pyramid = sampler.open(1)
    np.testing.assert_array_equal(sample.image, pyramid.read(level, y=slice(3, 103), x=slice(7, 207)))
    assert sampler.plan(sample.ndzarr.target).shapes == (sample.image.shape,), "what is read is what is returned"


def test_off_the_grid_the_mean_of_native_pixels_is_resampled_once(large):
    sampler, image = large
    sample = sampler.load_sample(gid=1, space_slice=(slice(3, 403), slice(5, 605)), scale=0.25)
    means = image[:, 3:403, 5:605].reshape(3, 100, 4, 150, 4).mean((2, 4))
    assert np.abs(sample.image.values - means).mean() < 1


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ([[-1, 0, 1400], [0, 1, 0], [0, 0, 1]], lambda a: a[:, :, ::-1]),
        ([[1, 0, 0], [0, -1, 1000], [0, 0, 1]], lambda a: a[:, ::-1]),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 1]], lambda a: a.transpose(0, 2, 1)),
        ([[0, -1, 1000], [1, 0, 0], [0, 0, 1]], lambda a: np.rot90(a, -1, (1, 2))),
    ],
)
@pytest.mark.parametrize("interpolation", ["auto", "nearest", "linear"])
def test_flipped_and_turned_assets_keep_every_pixel(large, tmp_path, matrix, turn, interpolation):
    _, image = large
    turned = turn(image)
    height, width = turned.shape[1:]
    source = large[0].dset.index.imgs[1]["file_name"]
    asset = {"file_name": source, "channels": "r|g|b", "width": 1400, "height": 1000, "warp_aux_to_img": matrix}
    content = {"images": [{"id": 1, "width": width, "height": height, "assets": [asset]}]}
    sampler = ndzarr.CocoSampler(content, large[0].workdir)
    sample = sampler.load_sample(gid=1, space_slice=(slice(100, 200), slice(-20, 230)), interpolation=interpolation)
    np.testing.assert_array_equal(sample.image.values[:, :, 20:], turned[:, 100:200, :230])
    assert not sample.valid.values[:, :20].any()
    assert sample.valid.values[:, 20:].all()


@pytest.mark.parametrize(("up", "down"), [(3, 2), (7, 6), (3, 10), (5, 14)])
def test_nearest_of_a_turned_asset_is_the_pixel_that_holds_the_centre_where_centres_fall_on_borders(large, up, down):
    _, image = large
    height, width = 1400 * up // down, 1000 * up // down
    source = large[0].dset.index.imgs[1]["file_name"]
    asset = {"file_name": source, "channels": "r|g|b", "width": 1400, "height": 1000,
             "warp_aux_to_img": [[0, up / down, 0], [up / down, 0, 0], [0, 0, 1]]}  # fmt: skip
    content = {"images": [{"id": 1, "width": width, "height": height, "assets": [asset]}]}
    sampler = ndzarr.CocoSampler(content, large[0].workdir)
    x, y = ((2 * np.arange(n - 150, n) + 1) * down // (2 * up) for n in (width, height))
    window = (slice(height - 150, height), slice(width - 150, width))
    sample = sampler.load_sample(gid=1, space_slice=window, interpolation="nearest", antialias=False)
    np.testing.assert_array_equal(sample.image.values, image.transpose(0, 2, 1)[:, y[:, None], x])
    assert sample.valid.values.all()


def test_an_integer_translation_between_image_and_video_is_an_exact_copy(film):
    sampler = film.sampler()
    sample = sampler.load_sample(gids=[13], channels="r|g", space_slice=(slice(0, 60), slice(0, 70)))
    np.testing.assert_array_equal(sample.image.values[0], film.frame(3)[:, :60, :70])
    assert not sample.valid.values[0, :4].any()
    assert not sample.valid.values[0, :, :8].any()
    assert sample.valid.values[0, 4:, 8:].all()


def test_a_sixteenth_view_of_a_video_reads_sixteenth_levels_of_every_asset(tmp_path):
    assets, size = [], 2048
    for name, n in (("a", 2048), ("b", 1024), ("c", 512)):
        Image.fromarray(np.kron(photo(n // 8, n // 8)[..., 0], np.ones((8, 8), np.uint8))).save(
            tmp_path / f"{name}.png"
        )
        assets.append(
            {"file_name": str(tmp_path / f"{name}.png"), "channels": name, "width": n, "height": n,
             "warp_aux_to_img": {"scale": size / n}}
        )  # fmt: skip
    images = [
        {"id": t, "video_id": 1, "frame_index": t, "width": size, "height": size, "assets": assets} for t in (1, 2)
    ]
    content = {"videos": [{"id": 1, "name": "v", "width": size, "height": size}], "images": images}
    sampler = ndzarr.CocoSampler(content, tmp_path / "work")
    plan = sampler.plan({"vidid": 1, "scale": 1 / 16})
    assert {tuple(array.shape[-2:]) for array in plan.arrays} == {(256, 256)}, "the coarsest there are"
    native = 2 * sum(n * n for n in (2048, 1024, 512))
    assert plan.explain().decoded_bytes < native / 50
    sample = sampler.load_sample(vidid=1, scale=1 / 16)
    assert sample.image.shape == (2, 3, 128, 128)
    np.testing.assert_allclose(sample.x.values[:2], [8, 24])


def test_windows_wholly_outside_an_asset_are_padding(film):
    sample = film.sampler().load_sample(vidid=1, space_slice=(slice(500, 510), slice(0, 20)), channels="r|nir")
    assert sample.image.shape == (4, 2, 10, 20)
    assert not sample.image.values.any()
    assert not sample.valid.values.any()


def test_no_level_finer_than_needed_is_read(large):
    sampler, _ = large
    for scale, level in ((1, "0"), (0.5, "1"), (0.25, "2"), (2, "0")):
        names = [array.name for array in sampler.plan({"gid": 1, "scale": scale}).arrays]
        assert len(names) == 1
        assert re.search(rf"(^|/){level}(/|$)", names[0]), names


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
def test_hidden_pixels_of_a_rotated_asset_are_not_real(kind, interpolation, tmp_path):
    pixels = np.dstack([photo(80, 100), np.full((80, 100), 255, "u1")])
    pixels[:, 50:, 3] = 0
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[kind])
    angle = np.pi / 6
    turned = [[np.cos(angle), -np.sin(angle), 50], [np.sin(angle), np.cos(angle), 5], [0, 0, 1]]
    asset = {"file_name": "a.tif", "width": 100, "height": 80, "channels": "r|g|b|a", "warp_aux_to_img": turned}
    dset = {"images": [{"id": 1, "file_name": None, "width": 160, "height": 160, "auxiliary": [asset]}]}
    (tmp_path / "a.json").write_text(json.dumps(dset))
    sampler = ndzarr.CocoSampler(tmp_path / "a.json", workdir=tmp_path)
    sample = sampler.load_sample({"gid": 1}, interpolation=interpolation)
    rows, columns = np.mgrid[:160, :160] + 0.5
    x, y, _ = np.einsum("ij,j...->i...", np.linalg.inv(turned), np.stack([columns, rows, np.ones_like(rows)]))
    shown = (x >= 0) & (x < 50) & (y >= 0) & (y < 80)
    beside = np.abs(x - 50) < 1  # either is right on the border of what is hidden
    assert sample.valid.dims == ("y", "x")
    assert np.array_equal(sample.valid.values[~beside], shown[~beside])
