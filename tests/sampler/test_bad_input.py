"""Datasets that are not as they should be: one clear line that names the thing, or a sensible answer."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from ndzarr.errors import NdzarrError, TargetError
from pictures import photo


@pytest.fixture
def build(dataset, tmp_path):
    def build(change=lambda content: None):
        content = copy.deepcopy(dataset[0])
        change(content)
        return ndzarr.CocoSampler(content, tmp_path / "work")

    return build


def refusal(function, *args, **keys):
    with pytest.raises(NdzarrError) as caught:
        function(*args, **keys)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_dangling_paths_are_named(build, film):
    sampler = build(lambda d: d["images"][0].update(file_name="/nowhere/a.png"))
    assert "/nowhere/a.png" in refusal(sampler.load_sample, gid=1)
    content = copy.deepcopy(film.content)
    content["images"][0]["assets"][1]["file_name"] = "/nowhere/nir.tif"
    sampler = ndzarr.CocoSampler(content, film.workdir)
    assert "/nowhere/nir.tif" in refusal(sampler.load_sample, vidid=1)
    assert sampler.load_sample(gids=[11, 12]).sizes["t"] == 2, "frames that do not need it load"


def test_files_that_are_no_images_are_named(build, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    sampler = build(lambda d: d["images"][0].update(file_name=str(tmp_path / "text.png")))
    assert "text.png" in refusal(sampler.load_sample, gid=1)


@pytest.mark.parametrize("bbox", [None, []])
def test_annotations_without_boxes_touch_nothing_and_can_be_asked_for(build, bbox):
    sampler = build(lambda d: d["annotations"][0].update(bbox=bbox))
    sample = sampler.load_sample(gid=1)
    assert 11 not in sample.annot_id.values
    assert sampler.n_positives == 3
    assert "aid=11 has no bbox" in refusal(sampler.load_sample, aid=11)
    window = {"aid": 11, "cx": 120, "cy": 60, "width": 20, "height": 20}
    assert sampler.load_sample(window).image.shape == (3, 20, 20)
    chosen = sampler.load_sample(window, annot_ids=[11])
    assert np.isnan(chosen.bbox.values).all()
    assert len(chosen.ndzarr.detections[0]) == 1


@pytest.mark.parametrize("bbox", [[1, 2, 3], [1, 2, 3, 4, 5], ["a", 2, 3, 4], 7])
def test_boxes_of_another_form_are_named(build, bbox):
    sampler = build(lambda d: d["annotations"][2].update(bbox=bbox))
    assert "annotation 13" in refusal(sampler.load_sample, gid=1)


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
    assert "gid=88" in refusal(sampler.load_sample, aid=99)


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
    assert "width and height" in refusal(sampler.load_sample, gid=10)


def test_images_without_any_file(build):
    def change(content):
        content["images"][0] = {"id": 1, "name": "nothing", "width": None, "height": None, "file_name": None}

    assert "nothing" in refusal(build(change).load_sample, gid=1)


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

    assert "different sizes" in refusal(build({}).load_sample, vidid=1)
    sample = build({"width": 400, "height": 300}).load_sample(vidid=1)
    assert sample.image.shape == (2, 3, 300, 400)
    assert sample.valid.sum(("y", "x")).values.tolist() == [300 * 400, 257 * 129]


def test_a_video_without_frames_or_that_is_missing(film):
    content = copy.deepcopy(film.content)
    content["videos"].append({"id": 2, "name": "empty", "width": 4, "height": 4})
    sampler = ndzarr.CocoSampler(content, film.workdir)
    assert "has no frames" in refusal(sampler.load_sample, vidid=2)
    assert "vidid=3: no such video" in refusal(sampler.load_sample, vidid=3)
    assert "no frames of vidid" in refusal(sampler.load_sample, vidid=1, gids=[10, 99])
    assert "gid=99" in refusal(sampler.load_sample, gids=[10, 99])


def test_frames_of_different_videos_have_no_common_space(film):
    content = copy.deepcopy(film.content)
    content["videos"].append({"id": 2, "name": "other", "width": 120, "height": 96})
    content["images"][3]["video_id"] = 2
    sampler = ndzarr.CocoSampler(content, film.workdir)
    assert "different videos" in refusal(sampler.load_sample, gids=[10, 13])


def test_an_empty_dataset(tmp_path):
    for content in ({}, {"images": [], "annotations": [], "categories": []}):
        sampler = ndzarr.CocoSampler(content, tmp_path / "work")
        assert (len(sampler), sampler.n_images, sampler.image_ids) == (0, 0, [])
        sampler.prepare()
        assert "the dataset has none" in refusal(sampler.load_sample, gid=1)
        refusal(sampler.load_positive)
        refusal(sampler.load_negative)
        assert "0 images" in repr(sampler)
        assert len(sampler.hashid) == 32
        assert sampler.classes is None


def test_no_target_at_all(build):
    assert "needs one of gid, gids, vidid and aid" in refusal(build().load_sample)


def test_assets_without_file_name_are_named(film):
    content = copy.deepcopy(film.content)
    content["images"][0]["assets"][1]["file_name"] = None
    sampler = ndzarr.CocoSampler(content, film.workdir)
    message = refusal(sampler.load_sample, gid=10)
    assert "image 10" in message
    assert "nir" in message


def test_fewer_bands_than_the_dataset_names(build):
    message = refusal(build(lambda d: d["images"][0].update(channels="a|b|c|d")).load_sample, gid=1)
    assert "names 4 channels" in message
    assert "1.png" in message


@pytest.mark.parametrize("warp", [{"scale": 0}, "sideways", [[1, 0], [0, 1]], {"turn": 3}])
def test_transforms_that_are_none_are_named(film, warp):
    content = copy.deepcopy(film.content)
    content["images"][0]["assets"][1]["warp_aux_to_img"] = warp
    assert "image 10" in refusal(ndzarr.CocoSampler(content, film.workdir).load_sample, gid=10)


def test_nodata_that_is_no_number_is_named(build):
    assert "nodata='none'" in refusal(build(lambda d: d["images"][0].update(nodata="none")).load_sample, gid=1)


def test_categories_in_a_cycle_or_with_missing_parents(build):
    def cycle(content):
        content["categories"] = [
            {"id": 5, "name": "boat", "supercategory": "car"}, {"id": 9, "name": "car", "supercategory": "boat"}
        ]  # fmt: skip

    sample = build(cycle).load_sample(aid=11)
    assert sample.category_id.values.tolist() == [5]
    assert "boat in car, car in boat" in refusal(lambda: sample.ndzarr.detections)
    assert "boat in car" in refusal(lambda: build(cycle).classes)
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
    assert "kwcoco.CocoDataset, a path or a dictionary" in refusal(ndzarr.CocoSampler, 7)
    (tmp_path / "broken.json").write_text("{")
    assert "broken.json" in refusal(ndzarr.CocoSampler, tmp_path / "broken.json")


@pytest.mark.parametrize("key", ["cx", "cy", "width", "height"])
@pytest.mark.parametrize("value", ["wide", float("nan"), [1]])
def test_windows_that_are_no_numbers_are_refused(build, key, value):
    window = {"cx": 30, "cy": 30, "width": 5, "height": 5, key: value}
    assert f"{key}=" in refusal(build().load_sample, gid=1, **window)


def test_windows_without_pixels_are_refused(build):
    sampler = build()
    assert "is empty" in refusal(sampler.load_sample, gid=1, y=slice(5, 5), x=slice(0, 3))
    assert "leaves no pixel" in refusal(sampler.load_sample, gid=1, y=slice(5, 6), x=slice(0, 3), scale=0.1)
    assert "above 0" in refusal(sampler.load_sample, gid=1, cx=3, cy=3, width=0, height=4)


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


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"channels": 0}, "channels=0: expected a code"),
        ({"space_slice": slice(0, 5)}, "space_slice=slice(0, 5, None): expected (slice along y"),
        ({"visible_thresh": 3}, "visible_thresh=3: expected a fraction from 0 to 1"),
        ({"visible_thresh": "most"}, "visible_thresh='most': expected a fraction"),
    ],
)
def test_values_of_another_kind_are_named(build, keys, words):
    assert words in refusal(build().load_sample, gid=1, **keys)


@pytest.mark.parametrize("target", [1, [{"gid": 1}], "gid"])
def test_what_is_no_target_is_said(build, target):
    assert "expected a target such as" in refusal(build().load_sample, target)
    assert "target 1 is 7: expected a dictionary" in refusal(build().load_batch, [{"gid": 1}, 7])


def test_a_single_source_is_not_taken_for_a_list_of_its_letters(tmp_path):
    pyramid = ndzarr.transcode(np.zeros((9, 9), np.uint8), tmp_path / "a.zarr")
    for source in (str(tmp_path / "a.zarr"), tmp_path / "a.zarr", pyramid):
        assert "a.zarr: a single source is given as a list" in refusal(ndzarr.Sampler, source)
    assert len(ndzarr.Sampler([pyramid], tmp_path / "w")) == 1
