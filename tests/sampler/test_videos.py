"""Do frames of a container behave as a video of image files does?"""

import numpy as np
import PIL.Image
import pytest
from numpy.testing import assert_array_equal

import ndzarr
from helpers import video_clips
from helpers.errors import raises
from ndzarr.errors import SourceError, TargetError

FRAMES = 24
HEIGHT, WIDTH = video_clips.SIZE
KINDS = ("video file_name", "video path", "image file_name", "assets")
TARGETS = [
    {"vidid": 1, "time_slice": slice(3, 9), "space_slice": (slice(5, 60), slice(3, 100))},
    {"vidid": 1, "time_slice": slice(-2, 9, 2), "space_slice": (slice(-5, 60), slice(-3, 200))},
    {"vidid": 1, "time_slice": slice(20, 30), "scale": 0.5, "padkw": {"mode": "edge"}},
    {"vidid": 1, "gids": [3, 9, 4]},
    {"gids": [7, 5], "channels": "b|r", "scale": 0.25},
    {"gid": 7, "scale": 0.3},
    {"gid": 7, "space_slice": (slice(-9, 9), slice(150, 180)), "nodata": "float"},
    {"aid": 4, "width": 30, "height": 20},
    {"vidid": 1, "time_slice": slice(0, 6), "lazy": True, "space_slice": (slice(0, 20), slice(0, 20))},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    frames = [video_clips.av.VideoFrame.from_ndarray(video_clips.picture(i), format="rgb24") for i in range(FRAMES)]
    frames = [frame.reformat(format="bgr0") for frame in frames]
    video_clips.encode(folder / "clip.mkv", "ffv1", pix_fmt="bgr0", frames=frames)
    for i in range(FRAMES):
        PIL.Image.fromarray(video_clips.picture(i)).save(folder / f"{i:03d}.png", compress_level=0)
    return folder


def content(folder, kind):
    video = {"id": 1, "name": "clip", "width": WIDTH, "height": HEIGHT}
    video |= {"video file_name": {"file_name": "clip.mkv"}, "video path": {"path": str(folder / "clip.mkv")}}.get(
        kind, {}
    )
    images = []
    for i in range(FRAMES):
        image = {"id": i + 1, "name": f"f{i}", "video_id": 1, "frame_index": i, "width": WIDTH, "height": HEIGHT}
        if kind == "images":
            image["file_name"] = f"{i:03d}.png"
        elif kind == "image file_name":
            image["file_name"] = "clip.mkv"
        elif kind == "assets":
            image["assets"] = [{"file_name": "clip.mkv", "channels": "r|g|b", "width": WIDTH, "height": HEIGHT}]
        images.append(image)
    annots = [
        {"id": i + 1, "image_id": i + 1, "category_id": 1, "track_id": 1, "bbox": [10 + 3 * i, 5, 20, 20]}
        for i in range(FRAMES)
    ]
    return {"videos": [video], "images": images, "annotations": annots, "categories": [{"id": 1, "name": "a"}]}


def sampler_of(folder, data, workdir=None, **options):
    import kwcoco

    dset = kwcoco.CocoDataset(data)
    dset.fpath = str(folder / "data.kwcoco.json")
    return ndzarr.CocoSampler(dset, workdir or folder / "pyramids", **options)


@pytest.fixture(scope="module")
def images(folder):
    return sampler_of(folder, content(folder, "images"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_every_target_gives_what_image_files_give(folder, images, kind, target):
    expected = images.load_sample(target)
    found = sampler_of(folder, content(folder, kind)).load_sample(target)
    assert found.sizes == expected.sizes
    assert set(found.data_vars) == set(expected.data_vars)
    for name, variable in expected.variables.items():
        if name != "t":
            assert_array_equal(found[name].values, variable.values, err_msg=name)
            assert found[name].dtype == variable.dtype


def test_frames_are_those_whose_numbers_are_drawn_in_them_and_t_is_in_seconds(folder):
    sample = sampler_of(folder, content(folder, "video path")).load_sample({"vidid": 1, "time_slice": slice(4, 20, 3)})
    assert video_clips.numbers(sample.image.values) == list(range(4, 20, 3))
    assert sample.t.values.tolist() == pytest.approx([k / 25 for k in range(4, 20, 3)])
    assert sample.frame_index.values.tolist() == list(range(4, 20, 3))


def test_dates_of_frames_win_over_the_clock_of_the_container(folder):
    data = content(folder, "video path")
    for i, image in enumerate(data["images"]):
        image["date_captured"] = f"2024-05-01T12:00:{i:02d}"
        image["timestamp"] = i / 25
    sample = sampler_of(folder, data).load_sample({"vidid": 1, "time_slice": slice(0, 3)})
    assert sample.t.values[2] == np.datetime64("2024-05-01T12:00:02")


def test_a_container_is_transcoded_once_whoever_comes_first(folder, tmp_path):
    for kind in KINDS:
        sampler = sampler_of(folder, content(folder, kind), tmp_path)
        sampler.prepare()
        sampler.load_sample({"gid": 3})
        sampler.load_sample({"vidid": 1})
    assert len(list(tmp_path.glob("*.zarr"))) == 1


def test_a_container_may_be_read_where_it_lies(folder, images):
    sampler = sampler_of(folder, content(folder, "video path"), transcode="never")
    target = {"vidid": 1, "time_slice": slice(7, 12), "space_slice": (slice(5, 60), slice(3, 100))}
    assert_array_equal(sampler.load_sample(target).image.values, images.load_sample(target).image.values)
    assert "video decoder" in str(sampler.plan(target).explain())


def test_frames_need_not_begin_at_0_nor_follow_each_other(folder):
    data = content(folder, "video path")
    data["images"] = data["images"][5::4]
    data["annotations"] = []
    sample = sampler_of(folder, data).load_sample({"vidid": 1, "time_slice": slice(1, 4)})
    assert video_clips.numbers(sample.image.values) == [9, 13, 17]


def test_gray_of_a_colour_video_is_its_luma(folder):
    data = content(folder, "video path")
    for image in data["images"]:
        image["channels"] = "gray"
    sample = sampler_of(folder, data).load_sample({"vidid": 1, "time_slice": slice(2, 5)})
    assert sample.c.values.tolist() == ["gray"]
    assert video_clips.numbers(sample.image.values) == [2, 3, 4]


def test_padded_frames_have_no_time(folder):
    sample = sampler_of(folder, content(folder, "video path")).load_sample({"vidid": 1, "time_slice": slice(22, 26)})
    assert np.isnan(sample.t.values).tolist() == [False, False, True, True]
    assert sample.valid.values.any(axis=(1, 2)).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda image: image.update(frame_index=24), None),
        (lambda image: image.update(frame_index=-1), None),
        (lambda image: (image.pop("frame_index"), image.pop("video_id"), image.update(file_name="clip.mkv")),
         "Give the image its frame_index"),
    ],
    ids=["behind the end", "negative", "missing"],
)  # fmt: skip
def test_frames_that_there_are_not_are_errors(folder, change, hint):
    data = content(folder, "video path")
    change(data["images"][3])
    with raises(TargetError, key="frame_index", hint=hint, match="clip.mkv"):
        sampler_of(folder, data).load_sample({"gid": 4})


def test_a_frame_without_file_and_number_is_an_error(folder):
    from ndzarr._sampling.coco_assets import frame_of

    with raises(TargetError, key="frame_index", hint="Give it one"):
        frame_of({"id": 4}, {"id": 1, "path": "clip.mkv"}, str(folder), {})


def test_sizes_that_the_container_does_not_have_are_errors(folder, tmp_path):
    data = content(folder, "video path")
    for image in data["images"]:
        image["width"] = 200
    with raises(SourceError, path=folder / "clip.mkv", match="200 x 64"):
        sampler_of(folder, data, tmp_path).load_sample({"gid": 4})
