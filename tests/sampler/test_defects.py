"""What ndsampler got wrong when it sampled, and no test of its subject says already.

All tests that hold one of its defects off carry its number, here and elsewhere: `grep -rn "ndsampler.s defect" tests`.
"""

from __future__ import annotations

import os
import subprocess
import sys

import kwcoco
import ndsampler
import numpy as np
import pytest
import tifffile

import ndzarr
from helpers.errors import raises
from helpers.subprocesses import environment
from ndzarr.errors import TargetError

pytestmark = [
    pytest.mark.filterwarnings("ignore:DelayedLoad may not be efficient without gdal"),  # ndsampler reads so
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def neighbours(dataset, tmp_path):
    """An annotation of 40 x 20, others that touch the square around it, or its box, and one that reaches into it."""
    content = dataset[0]
    boxes = {
        1: [100, 50, 40, 20],
        2: [100, 80, 10, 10],  # below the square
        3: [140, 50, 10, 10],  # right of both
        4: [90, 50, 10, 10],  # left of both
        5: [110, 30, 10, 10],  # above the square
        6: [110, 79.5, 10, 10],  # half a pixel inside the square
    }
    content["annotations"] = [{"id": k, "image_id": 1, "category_id": 5, "bbox": box} for k, box in boxes.items()]
    return content, ndzarr.CocoSampler(content, tmp_path / "work")


@pytest.mark.parametrize(
    ("keys", "ours"), [({"window_dims": "square"}, [1, 6]), ({"window_dims": (40, 40)}, [1, 6]), ({}, [1])], ids=str
)
def test_annotations_that_only_touch_the_window_around_an_annotation_are_not_in_it(neighbours, keys, ours):
    content, sampler = neighbours
    sample = sampler.load_sample(aid=1, **keys)
    assert sample.annot_id.values.tolist() == ours
    theirs = ndsampler.CocoSampler(kwcoco.CocoDataset(content), backend=None).load_sample({"aid": 1, **keys})
    assert sample.ndzarr.to_ndsampler()["im"].shape == theirs["im"].shape
    # ndsampler returns those that share only a border with the window too: no pixel of the sample shows them.
    assert set(ours) < set(theirs["annots"]["aids"].tolist())


def test_an_annotation_gives_a_video_target_the_window_in_video_space(film):  # ndsampler's defect 8
    sample = film.sampler().load_sample(aid=103, vidid=1)  # its frame is shifted by (8, 4) against the video
    assert (sample.y.values[[0, -1]].tolist(), sample.x.values[[0, -1]].tolist()) == ([24.5, 39.5], [48.5, 77.5])
    assert sample.bbox.values[sample.annot_id.values == 103].tolist() == [[0, 0, 30, 16]]
    alone = film.sampler().load_sample(aid=103)
    assert (alone.y.values[0], alone.x.values[0]) == (20.5, 40.5)
    np.testing.assert_array_equal(sample.image.values[3], alone.image.values)


def test_photographs_are_stored_without_loss_unless_loss_is_asked_for(dataset, tmp_path):  # ndsampler's defect 9
    content, pixels = dataset
    for preset, exact in (("fast", True), ("compact", True), ("jpeg", False)):
        sampler = ndzarr.CocoSampler(content, tmp_path / preset, preset=preset)
        for gid, image in pixels.items():
            same = np.array_equal(sampler.load_sample(gid=gid).image.values, image.transpose(2, 0, 1))
            assert same == exact


def test_an_image_of_a_video_is_not_taken_for_the_whole_video(film):  # ndsampler's defect 11
    with raises(TargetError, key="vidid", hint="Give only one of them"):
        film.sampler().load_sample(gid=11, vidid=1)
    with raises(TargetError, key="vid_id", match="did you mean 'vidid'"):
        film.sampler().load_sample(vid_id=1)


def test_videos_are_read_from_pyramids_as_images_are(film):  # ndsampler's defect 15
    sampler = film.sampler()
    sampler.load_sample(vidid=1)
    plans = [sampler.plan(target) for target in ({"vidid": 1}, {"gid": 10})]
    assert all(array.name.startswith(film.workdir) for plan in plans for array in plan.arrays)
    assert {engine for plan in plans for engine, _ in plan.explain().engines} == {"local files"}


@pytest.mark.parametrize(
    "keys",
    [
        {"scale": 0.5},
        {"scale": (2.0, 0.5), "interpolation": "linear"},
        {"output_dims": (7, 9), "antialias": False},
        {"dtype": "float32", "channels": "nir|r"},
        {"nodata": "float"},
        {"nodata": "ma", "pad": (2, 3)},
        {"padkw": {"mode": "reflect"}},
        {"fill": 5},
        {"lazy": True},
        {"window_dims": (10, 12), "space_slice": None, "cx": 30, "cy": 20},
    ],
    ids=str,
)
def test_images_and_videos_understand_the_same_keys(film, keys):  # ndsampler's defect 17
    keys = {"space_slice": (slice(-4, 40), slice(90, 130)), **keys}
    image, video = film.sampler().load_sample(gid=10, **keys), film.sampler().load_sample(gids=[10], **keys)
    assert image.image.dims == ("c", "y", "x")
    assert video.image.dims == ("t", "c", "y", "x")
    np.testing.assert_array_equal(image.image.values, video.image.values[0])
    assert image.image.dtype == video.image.dtype
    for name in ("c", "y", "x", "annot_id", "bbox"):
        np.testing.assert_array_equal(image[name].values, video[name].values)
    assert ("valid" in image) == ("valid" in video)
    if "valid" in image:
        np.testing.assert_array_equal(image.valid.values, video.valid.values[0])


def test_every_asset_at_its_own_resolution_works_for_images_and_videos(film):  # ndsampler's defect 17
    image = film.sampler().load_sample(gid=10, use_native_scale=True)
    video = film.sampler().load_sample(gids=[10], use_native_scale=True)
    shapes = {name: node.image.shape for name, node in image["0"].children.items()}
    assert shapes == {"r|g": (2, 96, 120), "nir": (1, 48, 60)}
    assert {name: node.image.shape[1:] for name, node in video["0"].children.items()} == shapes


SAMPLES = """
import sys
for name in ("osgeo", "rasterio", "gdal"):
    sys.modules[name] = None
import ndzarr
sampler = ndzarr.CocoSampler(sys.argv[1], sys.argv[2])
sample = sampler.load_sample(gid=1, nodata="ma")
print(int((~sample.valid).sum()), sample.image.dtype, float(sample.image.min()))
print(sorted(sample.ndzarr.to_ndsampler()["im"].shape))
"""


@pytest.mark.slow
def test_nothing_needs_gdal_and_nothing_warns(tmp_path):  # ndsampler's defects 10 and 27
    pixels = np.arange(60 * 50, dtype=np.int16).reshape(60, 50)
    pixels[:6, :5] = -9999
    tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[(42113, "s", 0, "-9999", True)])
    image = {"id": 1, "file_name": "a.tif", "width": 50, "height": 60}
    path = tmp_path / "data.kwcoco.json"
    kwcoco.CocoDataset({"images": [image]}).dump(str(path))
    command = [sys.executable, "-W", "error::UserWarning", "-c", SAMPLES, str(path), str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["30 int16 -9999.0", "[1, 50, 60]"]


def test_nothing_but_stores_lies_in_the_working_directory(dataset, tmp_path):  # ndsampler's defect 26
    sampler = ndzarr.CocoSampler(dataset[0], tmp_path / "work")
    sampler.load_sample(gid=1)
    sampler.prepare()
    left = sorted(os.listdir(tmp_path / "work"))
    assert len(left) == 2
    assert all(name.endswith(".zarr") and not name.startswith(".") for name in left)


def test_a_reduced_view_decodes_its_own_level_and_not_every_pixel(tmp_path):  # ndsampler's defect 28
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2048, 2048), np.uint8) + np.arange(2048, dtype=np.uint8))
    sampler = ndzarr.CocoSampler(
        {"images": [{"id": 1, "file_name": str(tmp_path / "a.tif"), "width": 2048, "height": 2048}]}, tmp_path / "work"
    )
    assert sampler.plan({"gid": 1, "scale": 1 / 8}).explain().decoded_bytes == 256 * 256
    assert sampler.plan({"gid": 1}).explain().decoded_bytes == 2048 * 2048
