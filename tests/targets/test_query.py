"""Queries select images and videos by the keys of the dataset."""

from __future__ import annotations

import pytest

from helpers.coco_datasets import films, targets
from helpers.errors import raises
from ndzarr.errors import TargetError


@pytest.fixture(scope="module")
def choose():
    content = films([(20, 14), (9, 30)], [4, 2], [(1, 1, 0, 0, 5, 5), (6, 1, 0, 0, 5, 5)])
    for image in content["images"]:
        image["sensor_coarse"] = "S2" if image["id"] % 2 else "L8"
        image["date_captured"] = f"2021-0{image['id']}-15"
    content["images"][0] |= {"cloud cover": 0.5, "clouds": 0.2, "tags": ["a"]}
    content["videos"][1]["region"] = "KR"
    content["images"].append({"id": 9, "file_name": "9.png", "width": 3, "height": 3})
    return targets(content)


@pytest.mark.parametrize(
    ("expression", "ids"),
    [
        ("sensor == 'S2' and date > '2021-02-20'", [3, 5]),
        ("sensor_coarse in ['L8'] & n_annots > 0", [6]),
        ("clouds < 0.3", [1]),
        ("`cloud cover` == 0.5", [1]),
        ("vidid == 2 or gid == 9", [5, 6, 9]),
        ("video_region == 'KR' and not (sensor == 'L8')", [5]),
        ("file_name.str.startswith('9')", [9]),
    ],
)
def test_images_are_chosen_by_their_keys(choose, expression, ids):
    assert choose.query(expression) == ids


def test_videos_are_chosen_by_their_keys_and_windows_are_made_of_them(choose):
    assert choose.query("n_frames > 2", space="video") == [1]
    assert choose.query("region == 'KR'", space="video") == [2]
    assert choose.query("start >= '2021-05' and stop < '2021-07'", space="video") == [2]
    assert choose.grid((5, 5), ids=choose.query("sensor == 'S2'")).gid.unique().tolist() == [1, 3, 5]


@pytest.mark.parametrize("wrong", ["sensr == 'S2'", "sensor ==", "n_annots", "@choose", "tags == 'a'", "gid.x()", 1])
def test_what_is_no_condition_is_named(choose, wrong):
    with raises(TargetError, key="expression"):
        choose.query(wrong)
    with raises(TargetError, key="space"):
        choose.query("gid == 1", space="annot")
