"""What ndsampler's users know: `preselect` and `new_sample_grid`, with the same meaning and without the defects."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from helpers.coco_datasets import WARPS, films, images, scattered
from helpers.errors import raises
from ndzarr.errors import OptionError, TargetError
from ndzarr.ndsampler_compat import CocoSampler


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Three images of 200x200 with 30 annotations."""
    folder = tmp_path_factory.mktemp("preselect")
    content = scattered(3, 30, size=200, largest=40)
    for image in content["images"]:
        image["file_name"] = str(folder / image["file_name"])
        Image.fromarray(np.full((200, 200, 3), image["id"], np.uint8)).save(image["file_name"])
    return content, folder / "work"


@pytest.fixture
def sampler(content):
    return CocoSampler(*content)


def test_preselect_gives_as_many_positives_as_asked_for(sampler):  # ndsampler's defect 19: n_pos=3 gave 71
    assert len(sampler) == sampler.n_positives == 30
    assert sampler.preselect(n_pos=3, rng=0) == (3, 0)
    assert (sampler.n_positives, sampler.n_negatives, sampler.n_samples, len(sampler)) == (3, 0, 3, 3)
    ids = [sampler.load_item(k).ndzarr.target["aid"] for k in range(3)]
    assert ids == sorted(ids)  # in the order of the dataset
    sampler.preselect(n_pos=3, rng=1)
    assert [sampler.load_item(k).ndzarr.target["aid"] for k in range(3)] != ids
    assert sampler.preselect() == (30, 0)
    assert sampler.preselect(n_pos=1000) == (30, 0)
    with raises(TargetError, key="index", match="there are 30"):
        sampler.load_positive(30)


def test_preselect_reaches_the_selection_by_coverage(sampler):  # ndsampler's defect 19
    n_pos, _ = sampler.preselect(window_dims=(100, 100), cover=True)
    assert n_pos < 20
    samples = [sampler.load_positive(k) for k in range(n_pos)]
    assert {s.image.shape for s in samples} == {(3, 100, 100)}
    assert {a for s in samples for a in s.annot_id.values.tolist()} == set(range(100, 130))


def test_preselected_negatives_have_the_size_and_touch_nothing(sampler):  # ndsampler's defects 6 and 20
    assert sampler.preselect(n_neg=7, window_dims=(24, 16), rng=0) == (30, 7)
    assert len(sampler) == 37
    for k in range(30, 37):
        item = sampler.load_item(k)
        assert item.image.shape == (3, 24, 16)
        assert item.annot_id.size == 0
        assert "valid" not in item
        assert item.identical(sampler.load_negative(k - 30))
    with raises(TargetError, key="index", match="7 were preselected"):
        sampler.load_item(37)
    assert sampler.load_negative(rng=3).identical(sampler.load_negative(rng=3))
    assert sampler.load_negative(2, target={"window_dims": (8, 8)}).image.shape == (3, 8, 8)
    assert sampler.load_negative(2, target={"gid": 2, "window_dims": (8, 8)}).ndzarr.target["gid"] == 2


def test_negatives_are_as_many_for_each_positive_as_asked_for(sampler):
    assert sampler.preselect(n_pos=10, neg_to_pos_ratio=1.5) == (10, 15)
    assert sampler.preselect(n_pos=0, n_neg=2) == (0, 2)
    with raises(TargetError, match="no positives"):
        sampler.load_positive()
    sampler.preselect(n_pos=2)
    with raises(TargetError, hint="Give n_neg or neg_to_pos_ratio"):
        sampler.load_negative(0)


def test_what_was_preselected_follows_the_seed_and_travels_to_other_processes(sampler, content):
    sampler.preselect(n_pos=5, n_neg=5, rng=4)
    again = CocoSampler(*content)
    again.preselect(n_pos=5, n_neg=5, rng=4)
    for other in (again, pickle.loads(pickle.dumps(sampler))):
        assert [other.load_item(k).ndzarr.target for k in range(10)] == [
            sampler.load_item(k).ndzarr.target for k in range(10)
        ]


def test_preselect_says_what_contradicts(sampler):
    with raises(OptionError, key="neg_to_pos_ratio", hint="only one"):
        sampler.preselect(n_neg=1, neg_to_pos_ratio=1)
    for n_pos in (-1, 2.5, "all"):
        with raises(OptionError, key="n_pos"):
            sampler.preselect(n_pos=n_pos)
    with raises(OptionError, key="neg_to_pos_ratio"):
        sampler.preselect(neg_to_pos_ratio="one")
    with raises(TargetError, key="window_dims"):
        sampler.preselect(n_neg=1, window_dims=5)
    with raises(TargetError, key="window_dims", hint="smaller windows"):
        sampler.preselect(n_neg=1, window_dims=(500, 500))
    with raises(OptionError, key="window_dims", hint="Give (height, width)"):
        sampler.preselect(cover=True)
    assert sampler.preselect(n_pos=1) == (1, 0)  # what failed left nothing behind


def test_indexes_of_the_grid_are_positions_in_its_list(sampler):  # ndsampler's defect 5: off by one
    grid = sampler.new_sample_grid("image_detection", (50, 50), 0.5)
    both = grid["positives_indexes"] + grid["negatives_indexes"]
    assert sorted(both) == list(range(len(grid["targets"])))
    assert all(grid["targets"][k]["aids"] for k in grid["positives_indexes"])
    assert not any(grid["targets"][k]["aids"] for k in grid["negatives_indexes"])
    assert grid["positives"] == [grid["targets"][k] for k in grid["positives_indexes"]]
    assert grid["negatives"] == [grid["targets"][k] for k in grid["negatives_indexes"]]
    target = grid["positives"][0]
    assert sorted(sampler.load_sample(target).annot_id.values.tolist()) == sorted(target["aids"])


def key(target):
    spans = [(s.start, s.stop) for s in (*target.get("slices", ()), *target.get("space_slice", ()))]
    time = target.get("time_slice")
    return target.get("gid"), target.get("vidid"), None if time is None else (time.start, time.stop), *spans


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_the_image_grid_is_that_of_ndsampler(content, sampler, overlap):
    regions = pytest.importorskip("ndsampler.coco_regions")
    theirs = regions.new_image_sample_grid(sampler.dset, (60, 80), overlap, verbose=0)
    ours = sampler.new_sample_grid("image_detection", (60, 80), overlap)
    assert [key(t) for t in ours["targets"]] == [key(t) for t in theirs["targets"]]
    assert [t["aids"] for t in ours["targets"]] == [sorted(t["aids"]) for t in theirs["targets"]]
    assert ours["positives_indexes"] == [k - 1 for k in theirs["positives_indexes"]]


@pytest.mark.filterwarnings("ignore")
def test_the_video_grid_is_that_of_ndsampler():
    regions = pytest.importorskip("ndsampler.coco_regions")
    boxes = [(1 + k % 9, 1 + k % 2, 7 * k % 90, 11 * k % 70, 10.5, 12) for k in range(30)]
    content = films([(80, 100), (60, 60)], [5, 4], boxes, WARPS[:3])
    for image in content["images"]:
        image["warp_img_to_vid"] = {"type": "affine", "matrix": image["warp_img_to_vid"]}
    sampler = CocoSampler(content)
    theirs = regions.new_video_sample_grid(sampler.dset, (2, 32, 40), 0.25, verbose=0)
    ours = sampler.new_sample_grid("video_detection", (2, 32, 40), 0.25)
    assert [key(t) for t in ours["targets"]] == [key(t) for t in theirs["targets"]]
    assert [sorted(t["aids"]) for t in ours["targets"]] == [sorted(t["aids"]) for t in theirs["targets"]]
    assert [t["gids"] for t in ours["targets"]] == [list(t["gids"]) for t in theirs["targets"]]


def test_the_video_grid_knows_classes_of_interest_and_regions_to_ignore():  # ndsampler's defect 22
    boxes = [(1, 1, 0, 0, 5, 5), (2, 2, 10, 0, 5, 5), (1, 3, 20, 0, 10, 10), (2, 3, 20, 0, 10, 10)]
    sampler = CocoSampler(films([(10, 30)], [2], boxes))
    grid = sampler.new_sample_grid("video_detection", ("full", 10, 10), classes_of_interest=["dog"])
    assert len(grid["targets"]) == 2  # the third is ignored
    assert grid["positives_indexes"] == [1]
    kept = sampler.new_sample_grid("video_detection", (2, 10, 10), ignore_coverage_thresh=None)
    assert len(kept["targets"]) == 3


def test_grids_that_are_not_understood_say_what_was_expected():
    sampler = CocoSampler(images([(10, 10)], []))
    with raises(OptionError, key="task", match="did you mean 'video_detection'"):
        sampler.new_sample_grid("video_detektion", (1, 5, 5))
    with raises(OptionError, key="window_dims"):
        sampler.new_sample_grid("video_detection", (5, 5))
    assert len(sampler.new_sample_grid("image_detection", "full")["targets"]) == 1
