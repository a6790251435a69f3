"""The table of annotations finds what touches a window."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ndzarr.sampler.annotations import NO_ID, tabulate

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
