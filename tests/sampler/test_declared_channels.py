"""Channels of a file and the names that a dataset gives them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.errors import raises
from ndzarr.errors import TargetError

SHAPE = (40, 50)


@pytest.fixture(params=["png", "tif"])
def sample(request, tmp_path):
    """Sample a file of some channels under the names that a dataset gives them; also return its pixels."""

    def load(count: int, names: str):
        pixels = np.random.default_rng(0).integers(0, 256, (*SHAPE, count)).astype("u1")
        path = tmp_path / f"a.{request.param}"
        if request.param == "png":
            Image.fromarray(pixels if count > 1 else pixels[..., 0]).save(path)
        else:
            extras = {2: ["unassalpha"], 4: ["unassalpha"]}.get(count)
            colour = "rgb" if count > 2 else "minisblack"
            how = {} if count == 1 else {"planarconfig": "contig", "extrasamples": extras}
            stored = pixels if count > 1 else pixels[..., 0]
            tifffile.imwrite(path, stored, photometric=colour, tile=(16, 16), metadata=None, **how)
        image = {"id": 1, "file_name": str(path), "width": SHAPE[1], "height": SHAPE[0], "channels": names}
        sampler = ndzarr.CocoSampler({"images": [image]}, tmp_path / "w")
        load.path = str(path)
        return sampler.load_sample(gid=1), np.moveaxis(pixels, -1, 0)

    return load


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (3, "gray"),
        (3, "pan"),
        (3, "a"),
        (4, "B1|B2"),
        (4, "a"),
        (4, "B1|B2|B3"),
        (4, "b|g|r"),
        (2, "a"),
        (3, "r|g|b|nir"),
    ],
)
def test_names_that_cannot_be_those_of_the_file_are_an_error_that_says_both(count, names, sample):
    with pytest.raises(TargetError) as caught:
        sample(count, names)
    assert (caught.value.path, caught.value.key) == (sample.path, "channels")
    have = {1: "gray", 2: "gray|a", 3: "r|g|b", 4: "r|g|b|a"}[count]
    assert f"({names})" in str(caught.value)
    assert f"({have})" in str(caught.value)


@pytest.mark.parametrize(
    ("count", "names"),
    [(1, "gray"), (1, "pan"), (2, "pan"), (3, "B4|B3|B2"), (4, "r|g|b"), (4, "red|green|blue"), (4, "B4|B3|B2|B8")],
)
def test_names_by_position_and_names_without_alpha_are_right(count, names, sample):
    found, pixels = sample(count, names)
    assert list(found.c.values) == names.split("|")
    assert np.array_equal(found.image.values, pixels[: len(found.c)])


@pytest.mark.parametrize("transcode", ["always", "auto"])
def test_an_asset_of_labels_is_sampled_if_it_is_asked_for_and_does_not_mix(tmp_path, transcode):
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (3, *SHAPE)).astype("u1"), rng.choice([0, 50, 250], SHAPE).astype("u1")
    ndzarr.transcode(image, tmp_path / "a.zarr", channels=("r", "g", "b"))
    tifffile.imwrite(tmp_path / "mask.tif", mask, tile=(16, 16))
    own = {"id": 1, "file_name": str(tmp_path / "a.zarr"), "width": SHAPE[1], "height": SHAPE[0]}

    def sampler(**asset):
        dataset = {
            "images": [{**own, "assets": [{"file_name": str(tmp_path / "mask.tif"), "channels": "mask", **asset}]}]
        }
        return ndzarr.CocoSampler(dataset, tmp_path / "w", transcode=transcode)

    labels = sampler(kind="labels")
    assert np.array_equal(labels.load_sample(gid=1).image, image)
    assert labels.load_sample(gid=1, use_native_scale=True)["0"]["r|g|b"].image.shape == image.shape
    both = labels.load_sample(gid=1, channels="g|mask")
    assert np.array_equal(both.image, [image[1], mask])
    for scale in (0.5, 0.3, 1.7):
        assert set(np.unique(labels.load_sample(gid=1, channels="mask", scale=scale).image)) <= {0, 50, 250}
    assert sampler().load_sample(gid=1).image.sizes["c"] == 4
    with raises(TargetError, key="kind"):
        sampler(kind="classes").load_sample(gid=1)
