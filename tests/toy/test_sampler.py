"""Samples that are made on the fly."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import xarray
from dask.base import tokenize

from helpers.errors import raises
from ndzarr.errors import OptionError, TargetError
from ndzarr.toydata import ToySampler


@pytest.fixture(scope="module")
def sampler():
    return ToySampler(n=6, size=(200, 240), things=6, seed=5)


@pytest.fixture(scope="module")
def film():
    return ToySampler(n=2, size=(128, 160), frames=4, things=10, seed=2)


def pixels(recipe, gid):
    options, target = recipe
    return ToySampler(**options).load_sample(gid=gid, **target).image.values


@pytest.mark.slow
def test_the_same_seed_makes_the_same_samples_in_any_process(sampler):
    options = {"n": 6, "size": (200, 240), "things": 6, "seed": 5}
    expected = [sampler.load_sample(gid=g).image.values for g in (1, 4)]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(pixels, [(options, {})] * 2, (1, 4)))
    np.testing.assert_array_equal(found, expected)
    fewer = ToySampler(**{**options, "n": 4})
    np.testing.assert_array_equal(fewer.load_sample(gid=4).image.values, expected[1], "however many there are")
    assert fewer.load_sample(gid=4).bbox.equals(sampler.load_sample(gid=4).bbox)
    other = ToySampler(**{**options, "seed": 6})
    assert not np.array_equal(other.load_sample(gid=1).image.values, expected[0])
    assert tokenize(other) != tokenize(sampler)


def test_order_and_eviction_change_nothing(sampler):
    again = ToySampler(n=40, size=(200, 240), things=6, seed=5)
    for gid in range(40, 0, -1):
        again.load_sample(gid=gid, width=8, height=8)
    np.testing.assert_array_equal(again.load_sample(gid=3).image.values, sampler.load_sample(gid=3).image.values)


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = ToySampler(n=2, size=(64, 64))
    made.prepare()
    made.load_sample(gid=1)
    assert list(tmp_path.iterdir()) == []


def test_samples_have_everything_that_those_of_files_have(sampler):
    sample = sampler.load_sample(gid=2, cx=10, cy=100, width=96, height=64, scale=0.5, channels="b|r")
    assert isinstance(sample, xarray.Dataset)
    assert dict(sample.image.sizes) == {"c": 2, "y": 32, "x": 48}
    assert sample.c.values.tolist() == ["b", "r"]
    assert sample.valid.values.mean() == pytest.approx(58 / 96, abs=0.02)
    assert {"annot_id", "category_id", "track_id", "frame", "bbox"} <= set(sample.variables)
    legacy = sampler.load_sample(gid=2).ndzarr.to_ndsampler()
    assert legacy["im"].shape == (200, 240, 3)
    assert len(legacy["annots"]["rel_boxes"]) == len(sampler.dset.index.gid_to_aids[2]) > 0
    assert sampler.load_sample(gid=2, lazy=True).compute().identical(sampler.load_sample(gid=2))
    assert "made on the fly" in str(sampler.plan({"gid": 1}).explain())


def test_windows_are_slices_of_the_image(sampler):
    whole = sampler.load_sample(gid=5).image.values
    part = sampler.load_sample(gid=5, y=slice(20, 61), x=slice(33, 90)).image.values
    np.testing.assert_array_equal(part, whole[:, 20:61, 33:90])
    np.testing.assert_array_equal(sampler.load_sample(gid=5, channels="g").image.values, whole[1:2])


def test_boxes_outlines_and_keypoints_fit_each_other(sampler):
    for gid in sampler.dset.index.imgs:
        dets = sampler.load_sample(gid=gid).ndzarr.detections[0]
        for k, outline in enumerate(dets.data["segmentations"]):
            np.testing.assert_allclose(outline.box().to_xywh().data, dets.boxes.data[k], atol=0.02)
            points = dets.data["keypoints"][k]
            if points is not None:
                x, y, w, h = dets.boxes.data[k]
                assert np.all((points.xy >= (x - 0.1, y - 0.1)) & (points.xy <= (x + w + 0.1, y + h + 0.1)))


def test_things_are_seen_where_the_boxes_are():
    empty, full = (ToySampler(n=3, size=(256, 256), things=k, seed=1) for k in (0, 8))
    for gid in (1, 2, 3):
        change = np.abs(
            full.load_sample(gid=gid).image.values.astype(int) - empty.load_sample(gid=gid).image.values
        ).max(0)
        inside = np.zeros(change.shape, bool)
        for x, y, w, h in full.load_sample(gid=gid).bbox.values:
            part = slice(max(0, int(y)), int(y + h) + 1), slice(max(0, int(x)), int(x + w) + 1)
            assert change[part].mean() > 15
            inside[part] = True
            shadow = slice(max(0, int(y)), int(y + h) + 30), slice(max(0, int(x)), int(x + w) + 30)
            inside[shadow] = True
        assert change[~inside].mean() < 1


def test_videos_have_drift_dates_and_tracks(film):
    sample = film.load_sample(vidid=2)
    assert dict(sample.image.sizes) == {"t": 4, "c": 3, "y": 128, "x": 160}
    assert np.all(np.diff(sample.t.values) == np.timedelta64(1, "D"))
    assert not sample.valid.values.all(), "the camera drifts"
    tracks = sample.track_id.values
    moved = 0
    for track in set(tracks.tolist()):
        boxes = sample.bbox.values[tracks == track]
        steps = np.linalg.norm(np.diff(boxes[:, :2], axis=0), axis=1)
        assert len(steps) == 0 or steps.max() < 20
        moved += steps.sum() > 4
        standing = film.dset.index.cats[sample.category_id.values[tracks == track][0]]["name"] in ("house", "tank")
        assert not standing or np.all(steps < 0.05), "what stands does not move in video space"
    assert moved


def test_the_ground_stays_where_it_is_in_video_space():
    film = ToySampler(n=1, size=(160, 160), frames=5, things=0, seed=4)
    sample = film.load_sample(vidid=1, nodata="ma")
    both = sample.valid.values.all(0)
    frames = sample.image.values.mean(1)[:, both]
    for frame in frames[1:]:
        assert np.corrcoef(frames[0], frame)[0, 1] > 0.97


def test_samplers_and_their_pyramids_pickle(sampler):
    again = pickle.loads(pickle.dumps(sampler))
    assert tokenize(again) == tokenize(sampler)
    pyramid = sampler.open(2)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pyramid)).read(), pyramid.read())


def test_the_depth_is_that_of_the_pixels():
    deep = ToySampler(n=1, size=(64, 64), depth=16, channels="nir|r").load_sample(gid=1)
    assert deep.image.dtype == np.uint16
    assert 255 < deep.image.values.max() <= 10000
    assert deep.c.values.tolist() == ["nir", "r"]


def test_a_large_image_has_coarser_levels():
    sampler = ToySampler(n=1, size=(600, 700))
    pyramid = sampler.open(1)
    assert [level.shape for level in pyramid.levels] == [(3, 600, 700), (3, 300, 350), (3, 150, 175)]
    whole = pyramid.read().astype(float)
    mean = whole.reshape(3, 300, 2, 350, 2).mean((2, 4))
    assert np.abs(pyramid.read(level=1) - mean).max() <= 0.5


def test_positives_and_negatives_are_those_of_any_sampler(sampler):
    positives = sampler.targets.positives()
    assert len(positives) == len(sampler.dset.index.anns)
    assert sampler.load_sample(positives.iloc[3]).sizes["annot"] >= 1
    negatives = sampler.targets.negatives(4, (16, 16), seed=3)
    assert sampler.load_batch(negatives).sizes["annot"] == 0
    classes = sampler.load_sample(gid=1).ndzarr.to_ndsampler()["classes"]
    assert classes.children("vehicle") == ["car", "truck"]
    assert classes.ancestors("car") == ["vehicle", "mover"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": "r|nri"}, "did you mean 'nir'"),
        ({"depth": 12}, "8 or 16 bits"),
        ({"n": -1}, None),
        ({"frames": 2.5}, None),
        ({"size": (16, 64), "n": 1}, "32 pixels"),
        ({"size": 64}, ".height, width."),
    ],
)
def test_options_without_meaning_are_refused(options, said):
    with raises(OptionError, key=next(iter(options)), match=said):
        ToySampler(**options)


def test_what_does_not_exist_is_refused_and_no_images_are_an_empty_dataset(sampler):
    with raises(TargetError, key="gid"):
        sampler.load_sample(gid=7)
    assert len(ToySampler(n=0).dset.index.imgs) == 0
