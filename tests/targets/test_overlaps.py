"""The spatial index: which annotations windows touch, and by how much."""

from __future__ import annotations

import pickle

import kwimage
import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from helpers.coco_datasets import WARPS, box_lists, films, images, scattered, size_lists, targets
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr.errors import TargetError
from ndzarr.targets.overlaps import BoxIndex
from ndzarr.targets.windows import boxes_of, spaces_of, window_columns, windows_in

SOME = examples(60)
STARTS = st.integers(-20, 40)


@SOME
@given(size_lists, st.data())
def test_windows_of_images_find_what_load_sample_finds(sizes, data):
    content = images(sizes, data.draw(box_lists(len(sizes), most=12)))
    one = st.tuples(st.integers(1, len(sizes)), STARTS, STARTS, st.integers(1, 30), st.integers(1, 30))
    rows = data.draw(st.lists(one, max_size=12))
    table = pd.DataFrame(
        [{"gid": g, "cx": x + w / 2, "cy": y + h / 2, "width": w, "height": h} for g, y, x, h, w in rows],
        columns=["gid", "cx", "cy", "width", "height"],
    )
    choose = targets(content)
    found = choose.overlaps(table)
    expected = []
    for k, (g, y, x, h, w) in enumerate(rows):
        hits, _ = choose.source.annotations.touching(g, (y, y + h, x, x + w))
        expected += [(k, a) for a in choose.source.annotations.annot_id[hits].tolist()]
    assert list(zip(found.row, found.annot_id, strict=True)) == expected


@SOME
@given(st.data())
def test_windows_of_videos_find_what_lies_in_the_frames_they_have(data):
    content = films([(30, 30), (20, 40)], [6, 3], data.draw(box_lists(9, most=12)), WARPS)
    one = st.tuples(
        st.integers(1, 2), STARTS, st.integers(1, 30), st.integers(-2, 7), st.integers(1, 6), st.integers(1, 3)
    )
    rows = data.draw(st.lists(one, min_size=1, max_size=8))
    columns = ["vidid", "cx", "cy", "width", "height", "time_start", "time_stop", "time_step"]
    table = pd.DataFrame([(v, x + n / 2, n / 2, n, n, t, t + d, s) for v, x, n, t, d, s in rows], columns=columns)
    choose = targets(content)
    found = choose.overlaps(table)
    gids = {1: range(1, 7), 2: range(7, 10)}
    expected = []
    for k, (v, x, n, t, d, s) in enumerate(rows):
        for frame in range(t, t + d, s):
            if 0 <= frame < len(gids[v]):
                warp = np.asarray(WARPS[(gids[v][frame] - 1) % len(WARPS)], float)
                hits, _ = choose.source.annotations.touching(gids[v][frame], (0, n, x, x + n), warp)
                expected += [(k, frame, a) for a in choose.source.annotations.annot_id[hits].tolist()]
    assert list(zip(found.row, found.frame, found.annot_id, strict=True)) == expected


def test_windows_that_list_their_frames_find_what_lies_in_these_only():
    boxes = [(g, 1, 3, 3, 4, 4) for g in range(1, 7)]
    choose = targets(films([(20, 20), (30, 30)], [4, 2], boxes))
    window = {"cx": 5, "cy": 5, "width": 6, "height": 6}
    table = pd.DataFrame([{"gids": [4, 2, 2], "vidid": 1, **window}, {"gids": [6], **window}, {"vidid": 1, **window}])
    found = choose.overlaps(table)
    assert found[["row", "frame", "annot_id"]].to_numpy().tolist() == [
        [0, 1, 101], [0, 3, 103], [1, 1, 105], [2, 0, 100], [2, 1, 101], [2, 2, 102], [2, 3, 103],
    ]  # fmt: skip
    with raises(TargetError, key="gid", match="row 1 .* videos"):
        choose.overlaps([{"gids": [1]}, {"gid": 1}])


def test_a_list_of_targets_is_asked_about_like_a_table():
    choose = targets(images([(20, 20)], [(1, 1, 3, 3, 4, 4)]))
    one = {"image_id": 1, "cx": 5, "cy": 5, "width": 4, "height": 4}
    assert choose.overlaps([one, one]).row.tolist() == [0, 1]
    assert choose.overlaps(one).area.tolist() == [16]


def test_fractions_are_those_of_kwimage():
    content = scattered(1, 60, largest=120)
    choose = targets(content)
    table = choose.grid((64, 96), 0.5)
    found = choose.overlaps(table)
    windows = kwimage.Boxes(table[["cx", "cy", "width", "height"]].to_numpy(float), "cxywh").to_ltrb()
    boxes = kwimage.Boxes(np.array([a["bbox"] for a in content["annotations"]], float), "xywh").to_ltrb()
    at = found.row.to_numpy(), found.annot_id.to_numpy() - 100
    assert len(found) == (windows.isect_area(boxes) > 0).sum()
    np.testing.assert_allclose(found.area, windows.isect_area(boxes)[at])
    np.testing.assert_allclose(found.iou, windows.ious(boxes)[at])
    np.testing.assert_allclose(found.of_window, (windows.isect_area(boxes) / windows.area)[at])
    np.testing.assert_allclose(found.of_annotation, windows.iooas(boxes)[at], rtol=1e-6)  # kwimage adds an epsilon
    assert set(found.category_id) == {1, 2}


def test_many_windows_are_asked_about_in_parts():
    choose = targets(scattered(3, 60))
    spaces = spaces_of(choose.source, "image")
    windows, _ = windows_in(window_columns(choose.grid((64, 64), 0.5), choose.source), spaces)
    boxes = boxes_of(choose.source, spaces)
    whole, parts = (BoxIndex(spaces, boxes, at_once).touching(windows) for at_once in (1000, 7))
    np.testing.assert_array_equal(whole.window, parts.window)
    np.testing.assert_array_equal(whole.box, parts.box)


def test_the_index_is_not_pickled_but_built_anew():
    choose = targets(scattered(3, 60))
    table = choose.grid((64, 64))
    expected = choose.overlaps(table)
    again = pickle.loads(pickle.dumps(choose))
    assert again.overlaps(table).equals(expected)
    assert len(pickle.dumps(choose)) < 1.1 * len(pickle.dumps(choose.source))


def test_a_table_without_the_columns_it_needs_says_which():
    choose = targets(images([(20, 20)], []))
    with raises(TargetError, key="width", match="height"):
        choose.overlaps(pd.DataFrame({"gid": [1], "cx": [1.0], "cy": [1.0]}))
    with raises(TargetError, key="gid", match="4"):
        choose.overlaps(pd.DataFrame({"gid": [4], "cx": [1.0], "cy": [1.0], "width": [2], "height": [2]}))
