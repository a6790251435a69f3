"""Annotations and windows of targets, as they are drawn."""

import pytest

import ndzarr
from helpers.errors import raises
from ndzarr.errors import MissingError


def test_annotations_have_boxes_outlines_and_keypoints_in_pixels_of_the_image(viewer, ask):
    found = ask(viewer, "annotations/1", window="0,601,0,830").body
    assert found["total"] == 2
    box, outline = found["shapes"]
    assert (box["id"], box["category"], box["box"], box["rings"]) == (1, 1, [300, 100, 200, 150], [])
    assert box["further"]["score"] == 0.5
    assert outline["rings"] == [[[10, 400], [70, 400], [40, 460]]]
    assert (outline["track"], outline["points"]) == (7, [[20, 410]])


@pytest.mark.parametrize(("window", "ids"), [("90,110,290,310", [1]), ("0,90,0,830", []), ("50,600,0,320", [1, 2])])
def test_annotations_are_those_of_the_window_in_the_same_pixels(viewer, ask, window, ids):
    whole = {shape["id"]: shape for shape in ask(viewer, "annotations/1", window="0,601,0,830").body["shapes"]}
    assert ask(viewer, "annotations/1", window=window).body["shapes"] == [whole[i] for i in ids]


def test_annotations_of_a_frame_are_in_the_space_of_its_video(viewer, ask):
    assert ask(viewer, "annotations/0", window="0,120,0,120", t=0).body == {"total": 0, "shapes": []}
    [shape] = ask(viewer, "annotations/0", window="0,120,0,120", t=1).body["shapes"]
    assert shape["box"] == [20, 40, 60, 30]


def test_targets_are_told_apart_and_belong_to_their_frames(viewer, ask):
    found = ask(viewer, "targets/1", window="0,601,0,830").body
    assert found["kinds"] == {"negative": 1, "positive": 1}
    assert [(s["kind"], s["box"]) for s in found["shapes"]] == [
        ("positive", [272, 70, 256, 200]), ("negative", [22, 50, 256, 200]),
    ]  # fmt: skip
    assert ask(viewer, "targets/1", window="0,601,600,830").body["total"] == 0
    assert ask(viewer, "targets/0", window="0,120,0,120", t=0).body["total"] == 0
    [shape] = ask(viewer, "targets/0", window="0,120,0,120", t=1).body["shapes"]
    assert (shape["id"], shape["box"]) == (2, [40, 50, 40, 20])


def test_categories_have_names_and_distinct_colours(viewer, ask):
    cat, dog = ask(viewer, "item/1").body["categories"]
    assert (cat["name"], dog["name"]) == ("cat", "dog")
    assert cat["color"] != dog["color"]


def test_annotations_that_are_not_understood_are_told(content, tmp_path, ask):
    wrong = {
        "id": 9,
        "image_id": 1,
        "category_id": 1,
        "bbox": [0, 0, 5, 5],
        "keypoints": ["a", 1, 2],
        "note": "x" * 999,
    }
    bad = content | {"annotations": [wrong]}
    with ndzarr.CocoSampler(bad, tmp_path).view(browser=False) as viewer:
        found = ask(viewer, "annotations/1", window="0,601,0,830")
        assert (found.status, "annotation 9" in found.body) == (500, True)
        wrong["keypoints"] = []
        [shape] = ask(viewer, "annotations/1", window="0,601,0,830").body["shapes"]
        assert len(shape["further"]["note"]) == 200


def test_an_image_that_is_missing_does_not_hide_the_others(content, tmp_path, ask):
    images = [content["images"][0], {"id": 9, "file_name": str(tmp_path / "gone.png"), "height": 5, "width": 5}]
    some = {"images": images[::-1], "categories": [], "annotations": []}
    with ndzarr.CocoSampler(some, tmp_path).view(browser=False) as viewer:
        gone = ask(viewer, "item/0")
        assert (gone.status, str(tmp_path / "gone.png") in gone.body) == (500, True)
        assert ask(viewer, "item/1").status == 200
    with raises(MissingError, path=tmp_path / "gone.png"):
        ndzarr.CocoSampler(some | {"images": images[1:]}, tmp_path).view(browser=False)
