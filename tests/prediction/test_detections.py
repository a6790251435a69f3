"""Boxes and polygons that were found in windows: each object of the image once."""

from __future__ import annotations

import json

import kwcoco
import kwimage
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from helpers.georeferences import NORTH_UP
from helpers.hypothesis_settings import examples
from ndzarr.errors import ExistsError, OptionError, TargetError

HEIGHT, WIDTH = 300, 420


@pytest.fixture(scope="module")
def like(tmp_path_factory):
    return ndzarr.transcode(np.zeros((HEIGHT, WIDTH), "u1"), tmp_path_factory.mktemp("like") / "like.zarr")


def found_in(objects, y, x, height, width):
    """What a perfect detector finds in a window: ltrb, scores and labels of the parts that it shows."""
    low = np.maximum(objects[:, :2], (x, y)) - (x, y)
    high = np.minimum(objects[:, 2:4], (x + width, y + height)) - (x, y)
    seen = np.flatnonzero((high - low > 0).all(axis=1))
    boxes = np.concatenate([low, high], axis=1)[seen]
    return boxes, 1 - 0.001 * seen, objects[seen, 4].astype(int)


def windows(size, overlap):
    step = size - overlap
    ys = [*range(0, HEIGHT - size, step), HEIGHT - size]
    return [(y, x) for y in ys for x in [*range(0, WIDTH - size, step), WIDTH - size]]


@given(seed=st.integers(0, 10_000), overlap=st.sampled_from([0, 8, 40, 64]), merge=st.sampled_from(["nms", "wbf"]),
       jitter=st.sampled_from([0, 1]))  # fmt: skip
@examples(15)
def test_objects_that_windows_cut_are_there_once_and_whole(like, seed, overlap, merge, jitter):
    rng = np.random.default_rng(seed)
    objects = []
    for y in range(0, HEIGHT - 60, 60):  # none overlaps another, some are larger than windows overlap, or than a window
        for x in range(0, WIDTH - 70, 70):
            width, height = rng.integers(10, 60, 2)
            left, top = x + rng.integers(0, 66 - width), y + rng.integers(0, 59 - min(height, 55))
            objects.append((left, top, left + width, top + min(height, 55), rng.integers(0, 3)))
    objects = np.array([*objects, (0, 245, WIDTH, 290, 2)], float)
    stitcher = ndzarr.DetectionStitcher(like, classes=["a", "b", "c"], merge=merge)
    for y, x in windows(100, overlap):
        boxes, scores, labels = found_in(objects, y, x, 100, 100)
        boxes = boxes + jitter * rng.uniform(-0.7, 0.7, boxes.shape)
        stitcher.add({"y": slice(y, y + 100), "x": slice(x, x + 100)}, boxes, scores, labels)
    have = sorted((d.category, *d.bbox) for d in stitcher.merged())
    want = sorted(("abc"[int(c)], x, y, r - x, b - y) for x, y, r, b, c in objects)
    assert len(have) == len(want)
    # Sorted by position, so that jitter does not change the order.
    have, want = (
        sorted(rows, key=lambda row: (row[0], round(row[2] / 30), round(row[1] / 35))) for rows in (have, want)
    )
    if not jitter:
        np.testing.assert_allclose([row[1:] for row in have], [row[1:] for row in want], atol=1e-9)
        assert [row[0] for row in have] == [row[0] for row in want]


def ltrb(detection):
    x, y, width, height = detection.bbox
    return x, y, x + width, y + height


def random_boxes(rng, n):
    low = rng.uniform(0, 200, (n, 2))
    return np.concatenate([low, low + rng.uniform(5, 80, (n, 2))], axis=1), rng.uniform(0, 1, n), rng.integers(0, 3, n)


@given(seed=st.integers(0, 10_000), threshold=st.sampled_from([0.2, 0.5, 0.7]))
@examples(10)
def test_boxes_of_one_window_are_suppressed_as_kwimage_does(like, seed, threshold):
    boxes, scores, labels = random_boxes(np.random.default_rng(seed), 60)
    stitcher = ndzarr.DetectionStitcher(like, threshold=threshold)
    stitcher.add({"y": slice(0, HEIGHT), "x": slice(0, WIDTH)}, boxes, scores, labels)
    keep = kwimage.non_max_supression(boxes, scores, threshold, bias=0.0, classes=labels, impl="numpy")
    want = sorted((str(labels[k]), round(scores[k], 9), *np.round(boxes[k], 6)) for k in keep)
    have = sorted((d.category, round(d.score, 9), *np.round(ltrb(d), 6)) for d in stitcher.merged())
    assert have == want


def fused(boxes, scores, threshold):
    """Weighted boxes fusion as its paper states it, for one class and one model."""
    clusters = []
    for k in np.argsort(-scores, kind="stable"):
        best, found = threshold, None
        for cluster in clusters:
            w = np.average(boxes[cluster], axis=0, weights=scores[cluster])
            overlap = kwimage.Boxes(w[None], "ltrb").ious(kwimage.Boxes(boxes[k][None], "ltrb"), bias=0).item()
            if overlap > best:
                best, found = overlap, cluster
        if found is None:
            clusters.append([k])
        else:
            found.append(k)
    return [(*np.average(boxes[c], axis=0, weights=scores[c]), scores[c].mean()) for c in clusters]


@given(seed=st.integers(0, 10_000))
@examples(5)
def test_boxes_of_one_window_are_fused_as_the_paper_says(like, seed):
    boxes, scores, labels = random_boxes(np.random.default_rng(seed), 40)
    stitcher = ndzarr.DetectionStitcher(like, merge="wbf", threshold=0.3)
    stitcher.add({"y": slice(0, HEIGHT), "x": slice(0, WIDTH)}, boxes, scores, labels)
    want = [row for c in range(3) for row in fused(boxes[labels == c], scores[labels == c], 0.3)]
    have = [(*ltrb(d), d.score) for d in stitcher.merged()]
    np.testing.assert_allclose(sorted(have), sorted(want), atol=1e-9)


@pytest.fixture
def found(tmp_path):
    """Two halves of an octagon, and a ring, found in two windows that meet, on an image in UTM."""
    profile = {"driver": "GTiff", "height": 100, "width": 200, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile, crs="EPSG:32633", transform=NORTH_UP) as file:
        file.write(photo(100, 200)[None, ..., 0])
    like = ndzarr.transcode(tmp_path / "a.tif", tmp_path / "a.zarr")
    stitcher = ndzarr.DetectionStitcher(like, classes={7: "boat", 9: "pond"})
    left = np.array([(80, 30), (100, 30), (100, 70), (80, 60)])
    right = np.array([(0, 30), (20, 40), (20, 60), (0, 70)])
    ring = np.zeros((100, 100))
    ring[10:30, 50:80] = 1
    ring[15:25, 60:70] = 0
    stitcher.add({"y": slice(0, 100), "x": slice(0, 100)}, scores=[0.9], labels=[7], segmentations=[left])
    stitcher.add(
        {"y": slice(0, 100), "x": slice(100, 200)}, scores=[0.8, 0.7], labels=[7, 9], segmentations=[right, ring]
    )
    return stitcher, tmp_path / "a.tif"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_polygons_are_joined_and_read_back_from_every_format(found, tmp_path):
    stitcher, image = found
    boat, pond = stitcher.merged()
    assert boat.bbox == (80, 30, 40, 40)
    assert boat.shape.geometry.area == pytest.approx(20 * 35 + 20 * 30)
    assert pond.bbox == (150, 10, 30, 20)
    assert pond.shape.geometry.area == 500
    coco = COCO(stitcher.write(tmp_path / "a.json", image={"id": 3, "file_name": str(image)}))
    assert {coco.cats[a["category_id"]]["name"]: round(a["score"], 6) for a in coco.anns.values()} == {
        "boat": 0.9,
        "pond": 0.7,
    }
    assert coco.annToMask(coco.anns[2]).sum() == 500
    dset = kwcoco.CocoDataset(stitcher.write(tmp_path / "a.kwcoco.json", image={"file_name": str(image)}))
    assert dset.annots().detections.data["segmentations"][1].to_mask((100, 200)).data.sum() >= 500
    for name, options, read in (("a.geojson", {}, "geojson"), ("q.geojson", {"format": "qupath"}, "qupath")):
        path = stitcher.write(tmp_path / name, **options)
        back = ndzarr.dataset(path, image, format=read)
        assert {back.cats[a["category_id"]]["name"] for a in back.anns.values()} == {"boat", "pond"}
        np.testing.assert_allclose([a["bbox"] for a in back.anns.values()], [boat.bbox, pond.bbox], atol=1e-6)
        assert len(json.loads(path.read_text())["features"][1]["geometry"]["coordinates"]) == 2
    with raises(ExistsError, path=tmp_path / "a.json"):
        stitcher.write(tmp_path / "a.json")


def test_samples_place_their_boxes_at_any_scale_and_batches_in_order(tmp_path):
    sampler = ndzarr.Sampler({"a": ndzarr.transcode(photo(120, 160), tmp_path / "a.zarr")})
    target = {"key": "a", "cx": 80, "cy": 60, "width": 80, "height": 40, "scale": 0.5}
    stitcher = ndzarr.DetectionStitcher(sampler.open("a"), box_format="xywh", min_score=0.2, border=0)
    stitcher.add(sampler.load_sample(target), [[1, 2, 10, 5], [3, 3, 1, 1]], [0.5, 0.1])
    assert [d.bbox for d in stitcher.merged()] == [(42, 44, 20, 10)]
    batch = sampler.load_batch([target, {**target, "cy": 20}])
    centred = ndzarr.DetectionStitcher(sampler.open("a"), box_format="cxcywh", border=0)
    centred.add(batch, [[[6, 4.5, 10, 5]], [[6, 4.5, 10, 5]]])
    assert sorted(d.bbox for d in centred.merged()) == [(42, 4, 20, 10), (42, 44, 20, 10)]
    assert len(centred) == 2


def test_what_does_not_fit_is_named(like, tmp_path):
    stitcher = ndzarr.DetectionStitcher(like)
    where = {"y": slice(0, 50), "x": slice(0, 50)}
    for values, key in (
        ({}, "boxes"), ({"boxes": [[1, 2, 3]]}, "boxes"), ({"boxes": [[0, 0, 9, np.nan]]}, "boxes"),
        ({"boxes": [[0, 0, 9, 9]], "scores": [1, 2]}, "scores"),
        ({"boxes": [[0, 0, 9, 9]], "labels": [1, 2]}, "labels"),
    ):  # fmt: skip
        with raises(OptionError, key=key):
            stitcher.add(where, **values)
    with raises(TargetError, key="scale", hint="sample"):
        stitcher.add({**where, "scale": 2}, [[0, 0, 9, 9]])
    assert stitcher.merged() == []
    stitcher.add(where, [], [], [])
    with raises(OptionError, key="format", hint="qupath"):
        stitcher.write(tmp_path / "a.geojson")
    with raises(OptionError, key="format", hint="format="):
        stitcher.write(tmp_path / "a.txt")
    for options, key in (
        ({"merge": "sum"}, "merge"),
        ({"box_format": "yxyx"}, "box_format"),
        ({"border": -1}, "border"),
    ):
        with raises(OptionError, key=key):
            ndzarr.DetectionStitcher(like, **options)
    assert json.loads(stitcher.write(tmp_path / "a.json").read_text())["annotations"] == []
