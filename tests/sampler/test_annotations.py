"""The table of annotations finds what touches a window."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.hypothesis_settings import examples
from ndzarr._indexing.affine import warp_boxes
from ndzarr._sampling.annotations import NO_ID, tabulate

coordinate = st.floats(-50, 150, width=32).map(lambda v: round(v, 2))
length = st.floats(0.5, 80, width=32).map(lambda v: round(v, 2))
boxes = st.lists(st.tuples(st.integers(1, 4), coordinate, coordinate, length, length), max_size=30)


@given(boxes, coordinate, coordinate, length, length)
def test_look_up_finds_exactly_the_boxes_that_share_area_with_the_window(rows, y0, x0, h, w):
    annotations = [{"id": 100 + i, "image_id": g, "bbox": [x, y, bw, bh]} for i, (g, x, y, bw, bh) in enumerate(rows)]
    table = tabulate(annotations)
    for gid in range(1, 6):
        found, _ = table.touching(gid, (y0, y0 + h, x0, x0 + w))
        expected = {
            a["id"]
            for a in annotations
            if a["image_id"] == gid
            and max(a["bbox"][0], x0) < min(a["bbox"][0] + a["bbox"][2], x0 + w)
            and max(a["bbox"][1], y0) < min(a["bbox"][1] + a["bbox"][3], y0 + h)
        }
        assert set(table.annot_id[found].tolist()) == expected


def test_annotations_without_box_category_or_track_are_kept_as_such():
    table = tabulate([{"id": 1, "image_id": 1}, {"id": 2, "image_id": 1, "bbox": [0, 0, 5, 5], "category_id": 3}])
    assert np.isnan(table.bbox[0]).all()
    assert table.category_id.tolist() == [NO_ID, 3]
    assert table.touching(1, (0, 9, 0, 9))[0].tolist() == [1]


def test_track_ids_may_be_names():
    table = tabulate([{"id": 1, "image_id": 1, "track_id": "a"}, {"id": 2, "image_id": 1}])
    assert table.track_id.tolist() == ["a", ""]


def test_an_empty_dataset_has_an_empty_table():
    table = tabulate([])
    assert len(table) == 0
    assert table.touching(1, (0, 1, 0, 1))[0].size == 0


def test_boxes_are_looked_up_in_the_space_of_the_window():  # ndsampler's defect 7
    table = tabulate([{"id": 1, "image_id": 1, "bbox": [10, 10, 4, 4]}])
    shifted = np.array([[2.0, 0, 100], [0, 2, 0], [0, 0, 1]])
    assert table.touching(1, (0, 50, 0, 50), shifted)[0].size == 0
    found, box = table.touching(1, (0, 50, 100, 150), shifted)
    assert found.tolist() == [0]
    assert box.tolist() == [[120, 20, 8, 8]]


WARPS = {
    "shrunk": np.array([[0.5, 0, 20], [0, 0.25, -3], [0, 0, 1]]),
    "rotated": np.array([[0.9, 0.3, 3.0], [-0.3, 0.9, 2.0], [0, 0, 1]]),
    "mirrored": np.array([[-1.0, 0, 90], [0, 2, 0], [0, 0, 1]]),
}


@examples(100)
@given(boxes, coordinate, coordinate, length, length, st.sampled_from([None, *WARPS]))
def test_in_any_space_look_up_finds_the_upright_boxes_around_the_warped_ones(rows, y0, x0, h, w, space):
    annotations = [{"id": i, "image_id": g, "bbox": box} for i, (g, *box) in enumerate(rows)]
    table, warp = tabulate(annotations), WARPS.get(space)
    for gid in range(1, 5):
        own = np.array([a["bbox"] for a in annotations if a["image_id"] == gid], float).reshape(-1, 4)
        expected = own if warp is None else warp_boxes(warp, own)
        for _ in range(2):  # the second time the boxes are there already
            found, got = table.touching(gid, (y0, y0 + h, x0, x0 + w), warp)
            np.testing.assert_allclose(got, expected[found - table.rows[gid].start if gid in table.rows else found])
        x, y, width, height = expected.T
        common = np.minimum(x + width, x0 + w) - np.maximum(x, x0), np.minimum(y + height, y0 + h) - np.maximum(y, y0)
        sure = (common[0] > 1e-6) & (common[1] > 1e-6), (common[0] < -1e-6) | (common[1] < -1e-6)
        ids = np.array([a["id"] for a in annotations if a["image_id"] == gid])
        assert set(ids[sure[0]].tolist()) <= set(table.annot_id[found].tolist()) <= set(ids[~sure[1]].tolist())


def test_frames_are_looked_up_together_and_say_which_is_which():
    annotations = [{"id": 10 * g + k, "image_id": g, "bbox": [30 * k, 0, 10, 10]} for g in (1, 2, 3) for k in range(3)]
    table = tabulate(annotations)
    shift = np.array([[1.0, 0, 30], [0, 1, 0], [0, 0, 1]])
    rows, frame, box = table.placed([(2, None), (7, None), (1, shift), (2, None)]).touching((0, 5, 25, 45))
    assert table.annot_id[rows].tolist() == [21, 10, 21]
    assert frame.tolist() == [0, 2, 3]
    assert box.tolist() == [[30, 0, 10, 10]] * 3


def test_boxes_that_are_kept_stay_within_their_budget_and_are_not_pickled():
    table = tabulate([{"id": g, "image_id": g, "bbox": [0, 0, 5, 5]} for g in range(100)])
    table.kept.max_bytes = 20_000
    for gid in range(100):
        assert table.touching(gid, (0, 9, 0, 9))[0].tolist() == [gid]
        assert table.kept.nbytes <= 20_000
    assert table.kept.nbytes > 0
    again = pickle.loads(pickle.dumps(table))
    assert again.kept.nbytes == 0
    assert again.touching(3, (0, 9, 0, 9))[0].tolist() == [3]


def test_a_sample_may_be_written_to_without_changing_the_next(film):
    sampler = film.sampler()
    first = sampler.load_sample(vidid=1)
    expected = first.copy(deep=True)
    for name in ("annot_id", "category_id", "track_id", "frame", "bbox", "gid", "frame_index"):
        first[name].values[...] = 0
    assert sampler.load_sample(vidid=1).identical(expected)


def test_a_pickled_sample_holds_its_own_annotations_and_not_the_dataset(dataset, tmp_path):
    content = dataset[0]
    content["annotations"] += [
        {"id": k, "image_id": 2, "category_id": 5, "bbox": [k, 0, 1, 1]} for k in range(100, 5000)
    ]
    sample = ndzarr.CocoSampler(content, tmp_path / "work").load_sample(aid=11)
    stored = pickle.dumps(sample)
    assert len(stored) < 50_000
    again = pickle.loads(stored)
    assert again.ndzarr.detections[0].data["segmentations"][0] is not None
    assert len(again.ndzarr.detections[0]) == len(sample.ndzarr.detections[0])


@pytest.mark.parametrize("space", [None, *WARPS])
def test_a_look_up_gathers_boxes_in_rows_that_are_its_own(space):
    rng = np.random.default_rng(0)
    annotations = [{"id": k, "image_id": 1, "bbox": box} for k, box in enumerate(rng.uniform(0, 90, (500, 4)).tolist())]
    table, warp = tabulate(annotations), WARPS.get(space)
    for window in ((-500, 500, -500, 500), (10, 60, 10, 60)):
        rows, first = table.touching(1, window, warp)
        assert first.flags.c_contiguous
        expected = first.copy()
        first[...] = 0
        again, second = table.touching(1, window, warp)
        np.testing.assert_array_equal(again, rows)
        np.testing.assert_array_equal(second, expected)
