"""Datasets that are not as they should be: one clear line that names the thing, or a sensible answer."""

from __future__ import annotations

import copy
import json
import os

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr.errors import MissingError, NdzarrError, TargetError
from ndzarr.ndsampler_compat import CocoSampler


@pytest.fixture
def build(dataset, tmp_path):
    def build(change=lambda content: None):
        content = copy.deepcopy(dataset[0])
        change(content)
        return CocoSampler(content, tmp_path / "work")

    return build


def refusal(function, *args, **keys):
    with pytest.raises(NdzarrError) as caught:
        function(*args, **keys)
    assert "\n" not in str(caught.value)
    return caught.value


def test_dangling_paths_are_named(build, film):
    sampler = build(lambda d: d["images"][0].update(file_name="/nowhere/a.png"))
    assert refusal(sampler.load_sample, gid=1).path == "/nowhere/a.png"
    content = copy.deepcopy(film.content)
    content["images"][0]["assets"][1]["file_name"] = "/nowhere/nir.tif"
    sampler = ndzarr.CocoSampler(content, film.workdir)
    assert refusal(sampler.load_sample, vidid=1).path == "/nowhere/nir.tif"
    assert sampler.load_sample(gids=[11, 12]).sizes["t"] == 2, "frames that do not need it load"


def test_files_that_are_no_images_are_named(build, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    sampler = build(lambda d: d["images"][0].update(file_name=str(tmp_path / "text.png")))
    assert refusal(sampler.load_sample, gid=1).path == str(tmp_path / "text.png")


def boxless(bbox):
    return lambda d: d["annotations"][0].update(bbox=bbox, segmentation=None, keypoints=[])


NOWHERE = "1 of 4 annotations have neither a box nor a shape.* annotation 11$"


@pytest.mark.parametrize("bbox", [None, []])
def test_annotations_without_box_and_shape_touch_nothing_and_can_be_asked_for(build, bbox):
    sampler = build(boxless(bbox))
    with pytest.warns(UserWarning, match=NOWHERE) as caught:
        sample = sampler.load_sample(gid=1)
    assert [w.filename for w in caught] == [__file__]
    assert 11 not in sample.annot_id.values
    assert sampler.n_positives == 3
    assert refusal(sampler.load_sample, aid=11).key == "aid"
    window = {"aid": 11, "cx": 120, "cy": 60, "width": 20, "height": 20}
    assert sampler.load_sample(window).image.shape == (3, 20, 20)
    chosen = sampler.load_sample(window, annot_ids=[11])
    assert np.isnan(chosen.bbox.values).all()
    assert len(chosen.ndzarr.detections[0]) == 1


@pytest.mark.parametrize(
    "bbox",
    [[1, 2, 3], [1, 2, 3, 4, 5, 6], [1, 2, -3, 4, 5], [1, 2, 3, 4, float("nan")],
     ["a", 2, 3, 4], 7, "abcd", [[1, 2], [3, 4]], {"x": 1, "y": 2, "w": 3, "h": 4},
     [5, 5, -3, 4], [0, 0, float("inf"), 4]],
    ids=str,
)  # fmt: skip
def test_boxes_of_another_form_are_named(build, bbox):
    sampler = build(lambda d: d["annotations"][2].update(bbox=bbox))
    assert "annotation 13" in str(refusal(sampler.load_sample, gid=1))
    assert "annotation 13" in str(refusal(build(lambda d: d["annotations"][2].update(bbox=bbox)).load_sample, aid=13))


@pytest.mark.parametrize(
    "bbox", [np.array([60.0, 100, 20, 30]), (60, 100, 20, 30), ["60", "100", "20", "30"]], ids=repr
)
def test_boxes_may_be_arrays_tuples_or_numbers_in_text(build, bbox):
    sample = build(lambda d: d["annotations"][2].update(bbox=bbox)).load_sample(aid=13)
    assert sample.bbox.values.tolist() == [[0, 0, 20, 30]]


@pytest.mark.parametrize("bbox", [[float("nan")] * 4, [1, 2, float("nan"), 4], [None] * 4, np.empty(0)], ids=repr)
def test_a_box_with_nan_is_none(build, bbox):
    sampler = build(boxless(bbox))
    with pytest.warns(UserWarning, match=NOWHERE):
        assert 11 not in sampler.load_sample(gid=1).annot_id.values
    assert refusal(sampler.load_sample, aid=11).key == "aid"


@pytest.mark.parametrize("track", [1.5, 2**70])
def test_tracks_that_would_become_others_are_refused(build, track):
    assert refusal(build(lambda d: d["annotations"][0].update(track_id=track)).load_sample, gid=1).key == "track_id"
    assert build(lambda d: d["annotations"][0].update(track_id=7.0)).load_sample(aid=11).track_id.values[0] == 7


KWCOCO_WARNS = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


@KWCOCO_WARNS
def test_annotations_without_category(build):  # ndsampler's defect 21
    sampler = build(lambda d: d["annotations"][0].pop("category_id"))
    sample = sampler.load_sample(aid=11)
    assert sample.category_id.values.tolist() == [-1]
    assert len(sample.ndzarr.detections[0]) == 1
    legacy = sample.ndzarr.to_ndsampler()
    assert legacy["annots"]["cids"].tolist() == [None]
    sample.ndzarr.draw()


@KWCOCO_WARNS
def test_annotations_of_a_category_that_is_missing(build):
    sampler = build(lambda d: d["annotations"][0].update(category_id=77))
    sample = sampler.load_sample(aid=11)
    assert sample.category_id.values.tolist() == [77]
    assert len(sample.ndzarr.detections[0]) == 1
    sample.ndzarr.draw()


@KWCOCO_WARNS
def test_annotations_of_an_image_that_is_missing_are_an_error_or_left_out(build):
    def change(content):
        content["annotations"].append({"id": 99, "image_id": 88, "category_id": 5, "bbox": [0, 0, 5, 5]})

    try:
        sampler = build(change)
    except NdzarrError as error:  # some versions of kwcoco refuse it
        pytest.skip(str(error))
    assert 99 not in sampler.load_sample(gid=1).annot_id.values
    assert refusal(sampler.load_sample, aid=99).key == "gid"


def test_images_without_width_and_height_take_the_size_of_their_file(build):
    def change(content):
        for key in ("width", "height"):
            content["images"][0].pop(key)

    sampler = build(change)
    assert sampler.load_sample(gid=1).image.shape == (3, 300, 400)
    assert sampler.load_sample(aid=12).image.shape == (3, 10, 10)
    for seed in range(20):
        negative = sampler.load_negative(seed, target={"window_dims": (10, 10), "gid": 1})
        assert negative.image.shape == (3, 10, 10)
        assert "valid" not in negative, "negatives lie in the image, whose size its file tells"
        assert not negative.sizes["annot"]


def test_images_of_warped_assets_need_width_and_height(film):
    content = copy.deepcopy(film.content)
    image = content["images"][0]
    del image["width"], image["height"]
    image["assets"] = image["assets"][1:]
    content["images"], content["videos"], content["annotations"] = [image], [], []
    del image["video_id"]
    sampler = ndzarr.CocoSampler(content, film.workdir)
    assert refusal(sampler.load_sample, gid=10).hint == "Give it width and height"


def test_images_without_any_file(build):
    def change(content):
        content["images"][0] = {"id": 1, "name": "nothing", "width": None, "height": None, "file_name": None}

    assert "nothing" in str(refusal(build(change).load_sample, gid=1))


def test_images_of_a_known_size_without_a_file_are_missing_altogether(film):
    content = copy.deepcopy(film.content)
    content["images"][1]["assets"] = []
    sample = ndzarr.CocoSampler(content, film.workdir).load_sample(vidid=1, channels="r")
    assert sample.valid.any(("y", "x")).values.tolist() == [True, False, True, True]


def test_sizes_that_differ_within_a_video_need_the_size_of_the_video(dataset, tmp_path):
    def build(video):
        content = copy.deepcopy(dataset[0])
        content["videos"] = [{"id": 1, "name": "v", **video}]
        for k, image in enumerate(content["images"]):
            image.update(video_id=1, frame_index=k)
        return ndzarr.CocoSampler(content, tmp_path / "work")

    assert refusal(build({}).load_sample, vidid=1).hint == "Give it width and height"
    sample = build({"width": 400, "height": 300}).load_sample(vidid=1)
    assert sample.image.shape == (2, 3, 300, 400)
    assert sample.valid.sum(("y", "x")).values.tolist() == [300 * 400, 257 * 129]


def test_a_video_without_frames_or_that_is_missing(film):
    content = copy.deepcopy(film.content)
    content["videos"].append({"id": 2, "name": "empty", "width": 4, "height": 4})
    sampler = ndzarr.CocoSampler(content, film.workdir)
    assert refusal(sampler.load_sample, vidid=2).key == "vidid"
    assert refusal(sampler.load_sample, vidid=3).key == "vidid"
    assert refusal(sampler.load_sample, vidid=1, gids=[10, 99]).key == "gids"
    assert refusal(sampler.load_sample, gids=[10, 99]).key == "gid"


def test_frames_of_different_videos_have_no_common_space(film):
    content = copy.deepcopy(film.content)
    content["videos"].append({"id": 2, "name": "other", "width": 120, "height": 96})
    content["images"][3]["video_id"] = 2
    sampler = ndzarr.CocoSampler(content, film.workdir)
    assert refusal(sampler.load_sample, gids=[10, 13]).key == "gids"


def test_an_empty_dataset(tmp_path):
    for content in ({}, {"images": [], "annotations": [], "categories": []}):
        sampler = CocoSampler(content, tmp_path / "work")
        assert (len(sampler), sampler.n_images, sampler.image_ids) == (0, 0, [])
        sampler.prepare()
        assert refusal(sampler.load_sample, gid=1).key == "gid"
        refusal(sampler.load_positive)
        refusal(sampler.load_negative)
        assert "0 images" in repr(sampler)
        assert len(sampler.hashid) == 32
        assert sampler.classes is None


def test_no_target_at_all(build):
    assert refusal(build().load_sample).key == "gid"


def test_assets_without_file_name_are_named(film):
    content = copy.deepcopy(film.content)
    content["images"][0]["assets"][1]["file_name"] = None
    sampler = ndzarr.CocoSampler(content, film.workdir)
    message = str(refusal(sampler.load_sample, gid=10))
    assert "image 10" in message
    assert "nir" in message


def test_fewer_bands_than_the_dataset_names(build):
    message = str(refusal(build(lambda d: d["images"][0].update(channels="a|b|c|d")).load_sample, gid=1))
    assert "names 4 channels" in message
    assert "1.png" in message


@pytest.mark.parametrize(
    "warp",
    [{"scale": 0}, "sideways", [[1, 0], [0, 1]], {"turn": 3}, [], np.eye(4).tolist(),
     [[1, 0, 0], [0, 1, 0], [0.1, 0, 1]]],
)  # fmt: skip
def test_transforms_that_are_none_are_named(film, warp):
    content = copy.deepcopy(film.content)
    content["images"][0]["assets"][1]["warp_aux_to_img"] = warp
    assert "image 10" in str(refusal(ndzarr.CocoSampler(content, film.workdir).load_sample, gid=10))


def test_nodata_that_is_no_number_is_named(build):
    assert refusal(build(lambda d: d["images"][0].update(nodata="none")).load_sample, gid=1).key == "nodata"


def test_categories_in_a_cycle_or_with_missing_parents(build):
    def cycle(content):
        content["categories"] = [
            {"id": 5, "name": "boat", "supercategory": "car"}, {"id": 9, "name": "car", "supercategory": "boat"}
        ]  # fmt: skip

    sample = build(cycle).load_sample(aid=11)
    assert sample.category_id.values.tolist() == [5]
    assert "boat in car, car in boat" in str(refusal(lambda: sample.ndzarr.detections))
    assert "boat in car" in str(refusal(lambda: build(cycle).classes))
    orphan = build(lambda d: d["categories"][0].update(supercategory="ship"))
    assert len(orphan.load_sample(aid=11).ndzarr.detections[0]) == 1


def test_two_images_of_one_name_keep_their_own_pixels(dataset, tmp_path):
    content = copy.deepcopy(dataset[0])
    for image in content["images"]:
        image["name"] = "same"
    sampler = ndzarr.CocoSampler(content, tmp_path / "work")
    for gid in (1, 2):
        np.testing.assert_array_equal(sampler.load_sample(gid=gid).image.values, dataset[1][gid].transpose(2, 0, 1))


def test_two_assets_of_one_channel_name_give_the_first(tmp_path):
    for k in (1, 2):
        tifffile.imwrite(tmp_path / f"{k}.tif", photo(20, 30, k)[..., 0])
    assets = [{"file_name": str(tmp_path / f"{k}.tif"), "channels": "a", "width": 30, "height": 20} for k in (1, 2)]
    content = {"images": [{"id": 1, "width": 30, "height": 20, "assets": assets}]}
    sample = ndzarr.CocoSampler(content, tmp_path / "work").load_sample(gid=1)
    assert sample.c.values.tolist() == ["a"]
    np.testing.assert_array_equal(sample.image.values[0], photo(20, 30, 1)[..., 0])


def test_what_is_no_dataset_is_refused(tmp_path):
    assert refusal(ndzarr.CocoSampler, 7).key == "dset"
    (tmp_path / "broken.json").write_text("{")
    assert refusal(ndzarr.CocoSampler, tmp_path / "broken.json").path == str(tmp_path / "broken.json")


@pytest.mark.parametrize("key", ["cx", "cy", "width", "height"])
@pytest.mark.parametrize("value", ["wide", float("nan"), [1]])
def test_windows_that_are_no_numbers_are_refused(build, key, value):
    window = {"cx": 30, "cy": 30, "width": 5, "height": 5, key: value}
    assert refusal(build().load_sample, gid=1, **window).key == key


def test_windows_without_pixels_are_refused(build):
    sampler = build()
    assert refusal(sampler.load_sample, gid=1, y=slice(5, 5), x=slice(0, 3)).key == "y"
    assert refusal(sampler.load_sample, gid=1, y=slice(5, 6), x=slice(0, 3), scale=0.1).key == "y"
    assert refusal(sampler.load_sample, gid=1, cx=3, cy=3, width=0, height=4).key == "width"


def test_a_picture_stored_without_channel_names_has_those_of_its_file(tmp_path):
    Image.fromarray(photo(20, 30)[..., 0]).save(tmp_path / "grey.png")
    content = {"images": [{"id": 1, "file_name": str(tmp_path / "grey.png"), "width": 30, "height": 20}]}
    sample = ndzarr.CocoSampler(content, tmp_path / "work").load_sample(gid=1)
    assert sample.image.shape == (1, 20, 30)


def test_unknown_keys_conflicts_and_empty_gids_are_target_errors(build):
    sampler = build()
    for target in ({"gid": 1, "windowdims": 3}, {"gid": 1, "vidid": 1}, {"gids": []}, {"gid": 1, "aid": 13}):
        with pytest.raises(TargetError):
            sampler.load_sample(target)


@KWCOCO_WARNS
@pytest.mark.parametrize("table", ["images", "videos", "categories", "annotations"])
def test_two_of_one_id_are_refused_since_only_the_last_would_be_known(film, table):
    content = copy.deepcopy(film.content)
    again = copy.deepcopy(content[table][0])
    content[table].append(again | {"name": "again", "frame_index": 9})
    message = str(refusal(ndzarr.CocoSampler, content, film.workdir))
    assert f"2 {table} have the id {again['id']}" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(images=None), "images is NoneType"),
        (lambda d: d.update(annotations={"a": 1}), "annotations is dict"),
        (lambda d: d["images"].append(1), "images[4] is 1"),
        (lambda d: d["images"][1].pop("id"), "images[1] has no id"),
        (lambda d: d["categories"].append({"id": 7}), "categories[1] has no name"),
        (lambda d: d["annotations"][2].pop("image_id"), "annotations[2] has no image_id"),
        (lambda d: d["images"][1].pop("frame_index"), "image 11 is in video 1, and its frame_index is None"),
        (lambda d: d["images"][1].update(frame_index="1"), "frame_index is '1'"),
    ],
)
def test_what_kwcoco_does_not_take_is_said_by_name(film, tmp_path, change, said):
    content = copy.deepcopy(film.content)
    change(content)
    assert said in str(refusal(ndzarr.CocoSampler, copy.deepcopy(content), film.workdir))
    (tmp_path / "data.json").write_text(json.dumps(content))
    assert said in str(refusal(ndzarr.CocoSampler, tmp_path / "data.json", film.workdir))


@pytest.mark.parametrize("size", [("abc", 300), (float("nan"), 300), ([400], 300), (0, 300), (-400, 300), (400.5, 300)])
def test_sizes_that_are_none_are_named(build, size):
    sampler = build(lambda d: d["images"][0].update(width=size[0], height=size[1]))
    message = str(refusal(sampler.load_sample, gid=1))
    assert "1.png" in message
    assert "not a size" in message


@pytest.mark.parametrize("assets", [[None], "abc", 5, ["a.tif"]])
def test_assets_of_another_form_are_named(build, assets):
    assert refusal(build(lambda d: d["images"][0].update(assets=assets)).load_sample, gid=1).key == "assets"


@pytest.mark.parametrize(("name", "said"), [(5, "is not a path"), ("https://example.com/a.png", "is a URL")])
def test_file_names_that_are_no_local_files_are_named(build, name, said):
    message = str(refusal(build(lambda d: d["images"][0].update(file_name=name)).load_sample, gid=1))
    assert "image 1: " in message
    assert said in message


@pytest.mark.parametrize("channels", ["r||g", 3, "S2:r|g|b", [1, 2]])
def test_channels_that_are_no_code_are_named(build, channels):
    sampler = build(lambda d: d["images"][0].update(channels=channels))
    assert refusal(sampler.load_sample, gid=1).key == "channels"


@pytest.mark.parametrize("channels", ["x | y | z", ["x", "y", "z"]])
def test_channels_may_be_a_list_or_have_blanks(build, channels):
    sampler = build(lambda d: d["images"][0].update(channels=channels))
    assert sampler.load_sample(gid=1).c.values.tolist() == ["x", "y", "z"]
    assert sampler.load_sample(gid=1, channels=" z | x ").c.values.tolist() == ["z", "x"]


def test_a_wrong_channel_code_is_an_error_and_nothing_is_printed(build, capsys):
    for code in ("r||g", "|", "<all>|r", "r,,g", "r|"):
        assert refusal(build().load_sample, gid=1, channels=code).key == "channels"
    assert capsys.readouterr() == ("", "")


def test_an_image_without_any_file_or_channel_is_named_and_no_empty_sample(build):
    sampler = build(lambda d: d["images"][0].update(file_name=""))
    assert refusal(sampler.load_sample, gid=1).hint == "Give channels"


@pytest.mark.parametrize(("resolution", "scale"), [("10 feet", 3.048), ("200 cm", 2), ("0.001 km", 1), (2, 2)])
def test_units_of_resolutions_count(film, resolution, scale):
    sample = film.sampler(resolution=resolution).load_sample(gid=11, channels="r", resolution="1 m")
    assert sample.image.shape == (1, round(96 * scale), round(120 * scale))


@pytest.mark.parametrize("resolution", ["3 px", "abc", -3, 0])
def test_resolutions_that_are_not_understood_are_errors(film, resolution):
    refused = refusal(film.sampler(resolution=resolution).load_sample, gid=11, resolution="1 m")
    assert (refused.key, refused.hint) == ("resolution", "Use scale")


@pytest.mark.parametrize(
    "outline",
    ["abc", 5, [[1, 2, 3]], [["a", "b"]], {"foo": 1}, {"counts": [3, 4], "size": [300, 400]},
     {"counts": [1, 2], "size": [9]}, {"counts": "zz!!", "size": [300, 400]}],
    ids=str,
)  # fmt: skip
def test_segmentations_of_another_form_are_named(build, outline):
    sampler = build(lambda d: d["annotations"][0].update(segmentation=outline))
    sample = sampler.load_sample(aid=11)
    assert sample.annot_id.values.tolist() == [11], "pixels and boxes are there all the same"
    assert refusal(lambda: sample.ndzarr.detections).key == "segmentation"


@pytest.mark.parametrize("points", ["abc", 5, [1, 2], {"a": 1}, [{"keypoint_category": "x"}]], ids=str)
def test_keypoints_of_another_form_are_named(build, points):
    sample = build(lambda d: d["annotations"][0].update(keypoints=points)).load_sample(aid=11)
    assert refusal(lambda: sample.ndzarr.detections).key == "keypoints"


@pytest.mark.parametrize("empty", ["", [], {}, None, np.empty(0)], ids=repr)
def test_empty_geometry_is_none(build, empty):
    sampler = build(lambda d: d["annotations"][0].update(segmentation=empty, keypoints=empty))
    [found] = sampler.load_sample(aid=11).ndzarr.detections
    assert found.data["segmentations"].data == found.data["keypoints"].data == [None]


@pytest.mark.parametrize(
    "lookup",
    [{"annot_ids": 5}, {"annot_ids": "ab"}, {"annot_ids": [[1]]}, {"visible_thresh": "a"}, {"visible_thresh": None},
     {"visible_thresh": 2}, {"visible_thresh": float("nan")}, {"with_annots": 5}, {"with_annots": ""}, {"clip": "no"}],
    ids=str,
)  # fmt: skip
def test_lookups_of_another_form_are_named(build, lookup):
    assert refusal(build().load_sample, gid=1, **lookup).key == next(iter(lookup))


@pytest.mark.parametrize("none", [None, 0, False, np.False_])
def test_no_annotations_may_be_asked_for_as_ndsamplers_users_do(build, none):
    assert "bbox" not in build().load_sample(gid=1, with_annots=none)


def test_directories_and_lists_are_no_datasets(tmp_path):
    assert refusal(ndzarr.CocoSampler, tmp_path).path == str(tmp_path)
    assert refusal(ndzarr.CocoSampler, [1]).key == "dset"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_names_that_occur_twice_change_nothing_since_ids_count(film):
    content = copy.deepcopy(film.content)
    content["videos"].append({"id": 2, "name": "film", "width": 5, "height": 5})
    content["images"].append(copy.deepcopy(content["images"][0]) | {"id": 99, "video_id": None, "name": "f1"})
    sampler = ndzarr.CocoSampler(content, film.workdir)
    assert sampler.load_sample(vidid=1).identical(film.sampler().load_sample(vidid=1))
    np.testing.assert_array_equal(sampler.load_sample(gid=99).image, sampler.load_sample(gid=10).image)


def test_categories_of_one_name_are_named_and_samples_load(build):
    sampler = build(lambda d: d["categories"].append({"id": 77, "name": "car"}))
    assert sampler.load_sample(aid=12).category_id.values.tolist() == [9]
    assert "'car' occur more than once" in str(refusal(lambda: sampler.classes))


@pytest.mark.parametrize(
    ("pixels", "said"),
    [(photo(30, 40), "400 x 300"), (b"", "empty"), (b"no image", "a.png"), (None, "a.png")],
    ids=["another size", "empty", "no image", "missing"],
)
def test_files_that_are_not_what_the_dataset_says_are_named(build, tmp_path, pixels, said):
    if isinstance(pixels, bytes):
        (tmp_path / "a.png").write_bytes(pixels)
    elif pixels is not None:
        Image.fromarray(pixels).save(tmp_path / "a.png")
    sampler = build(lambda d: d["images"][0].update(file_name=str(tmp_path / "a.png")))
    message = str(refusal(sampler.load_sample, gid=1))
    assert "a.png" in message
    assert said in message
    assert sampler.load_sample(gid=2).image.shape == (3, 257, 129), "the other image is as it was"


def test_an_image_of_a_video_that_is_missing_is_in_none(build):
    sampler = build(lambda d: d["images"][0].update(video_id=99, frame_index=0))
    assert sampler.load_sample(gid=1).image.shape == (3, 300, 400)
    assert refusal(sampler.load_sample, vidid=99).key == "vidid"


@pytest.mark.parametrize(
    ("key", "value"),
    [("channels", 0), ("space_slice", slice(0, 5)), ("visible_thresh", 3), ("visible_thresh", "most")],
)
def test_values_of_another_kind_are_named(build, key, value):
    refused = refusal(build().load_sample, gid=1, **{key: value})
    assert refused.key == key
    assert f"{key}={value!r}" in str(refused)


@pytest.mark.parametrize("target", [1, [{"gid": 1}], "gid"])
def test_what_is_no_target_is_said(build, target):
    assert refusal(build().load_sample, target).key == "target"
    assert "targets[1]=7" in str(refusal(build().load_batch, [{"gid": 1}, 7]))


def test_a_single_source_is_not_taken_for_a_list_of_its_letters(tmp_path):
    pyramid = ndzarr.transcode(np.zeros((9, 9), np.uint8), tmp_path / "a.zarr")
    for source in (str(tmp_path / "a.zarr"), tmp_path / "a.zarr", pyramid):
        assert refusal(ndzarr.Sampler, source).path == str(tmp_path / "a.zarr")
    assert len(ndzarr.Sampler([pyramid], tmp_path / "w")) == 1


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ({"gid": 1, "windowdims": (4, 4)}, "windowdims"),
        ({"gid": 1, "dtype": "text"}, "dtype"),
        ({"gid": 1, "scale": -1}, "scale"),
        ({"gid": 1, "gids": [1]}, "gids"),
        ({"gid": 99}, "gid"),
        ({"aid": 99}, "aid"),
        ({"gid": 1, "time_slice": slice(0, 2)}, "time_slice"),
    ],
)
def test_errors_carry_the_key_that_they_are_about(build, target, key):
    sampler = build()
    with raises(TargetError, key=key):
        sampler.load_sample(target)
    with raises(TargetError, key=key, match="target 0"):
        sampler.load_batch([target])


def test_a_dataset_may_begin_with_a_byte_order_mark(dataset, tmp_path):
    plain = copy.deepcopy(dataset[0])
    for image in plain["images"]:
        image["file_name"] = os.path.relpath(image["file_name"], tmp_path)
    (tmp_path / "marked.kwcoco.json").write_text(json.dumps(plain), "utf-8-sig")
    sampler = ndzarr.CocoSampler(tmp_path / "marked.kwcoco.json", tmp_path / "work")
    np.testing.assert_array_equal(sampler.load_sample(gid=1).image.values, dataset[1][1].transpose(2, 0, 1))


def test_images_may_lie_in_another_directory_than_the_dataset(dataset, tmp_path):
    plain = copy.deepcopy(dataset[0])
    for image in plain["images"]:
        image["file_name"] = os.path.basename(image["file_name"])
    (tmp_path / "elsewhere.json").write_text(json.dumps(plain))
    for given in (tmp_path / "elsewhere.json", plain):
        sampler = ndzarr.CocoSampler(given, tmp_path / "work", image_root=tmp_path / "images")
        np.testing.assert_array_equal(sampler.load_sample(gid=2).image.values, dataset[1][2].transpose(2, 0, 1))
    with raises(MissingError, key="image_root"):
        ndzarr.CocoSampler(plain, image_root=tmp_path / "nowhere")
