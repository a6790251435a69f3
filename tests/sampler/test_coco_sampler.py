"""Image targets of a kwcoco dataset: the right pixels, labels and annotations."""

from __future__ import annotations

import pickle

import kwcoco
import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr.errors import MissingError, NdzarrError, TargetError


@pytest.fixture
def sampler(dataset, tmp_path):
    return ndzarr.CocoSampler(dataset[0], tmp_path / "work")


def cut(image, y0, y1, x0, x1):
    """Pixels (c, y, x) of a window of (y, x, c), zeros outside; and which are real."""
    height, width = image.shape[:2]
    out = np.zeros((3, y1 - y0, x1 - x0), np.uint8)
    real = np.zeros((y1 - y0, x1 - x0), bool)
    a, b, c, d = max(y0, 0), min(y1, height), max(x0, 0), min(x1, width)
    if a < b and c < d:
        out[:, a - y0 : b - y0, c - x0 : d - x0] = image[a:b, c:d].transpose(2, 0, 1)
        real[a - y0 : b - y0, c - x0 : d - x0] = True
    return out, real


@pytest.mark.parametrize(
    "window",
    [(0, 300, 0, 400), (10, 60, 20, 90), (-5, 20, -7, 8), (290, 310, 390, 420), (-10, 320, -10, 420), (500, 510, 0, 9)],
)
def test_windows_equal_slices_with_zeros_outside_and_valid_says_where(sampler, dataset, window):
    y0, y1, x0, x1 = window
    sample = sampler.load_sample({"gid": 1, "space_slice": (slice(y0, y1), slice(x0, x1))})
    pixels, real = cut(dataset[1][1], *window)
    assert sample.image.dims == ("c", "y", "x")
    np.testing.assert_array_equal(sample.image.values, pixels)
    assert sample.c.values.tolist() == ["r", "g", "b"]
    np.testing.assert_array_equal(sample.y.values, np.arange(y0, y1) + 0.5)
    np.testing.assert_array_equal(sample.x.values, np.arange(x0, x1) + 0.5)
    if real.all():
        assert "valid" not in sample
    else:
        np.testing.assert_array_equal(sample.valid.values, real)


def test_centre_and_size_give_exactly_that_window(sampler, dataset):
    sample = sampler.load_sample({"gid": 1, "cx": 100, "cy": 80, "width": 31, "height": 64})
    assert sample.image.shape == (3, 64, 31)
    np.testing.assert_array_equal(sample.image.values, cut(dataset[1][1], 48, 112, 84, 115)[0])


def test_an_annotation_gives_the_window_around_it(sampler):
    sample = sampler.load_sample(aid=11)
    assert sample.image.shape == (3, 20, 40)
    assert sample.annot_id.values.tolist() == [11]
    assert sample.bbox.values.tolist() == [[0, 0, 40, 20]]
    assert sampler.load_sample(aid=11, window_dims="square").image.shape == (3, 40, 40)
    assert sampler.load_sample(aid=11, window_dims=(64, 32)).image.shape == (3, 64, 32)
    assert sampler.load_sample(aid=11, width=10, height=12).image.shape == (3, 12, 10)


def test_annotations_that_touch_the_window_come_in_sample_pixels_unclipped(sampler):
    sample = sampler.load_sample({"gid": 1, "space_slice": (slice(60, 260), slice(120, 400)), "scale": 0.5})
    assert sample.annot_id.values.tolist() == [11]
    assert sample.bbox.values.tolist() == [[-10, -5, 20, 10]]
    assert sample.category_id.values.tolist() == [5]
    assert sample.track_id.values.tolist() == [3]
    [found] = sample.ndzarr.detections
    np.testing.assert_allclose(found.boxes.to_xywh().data, [[-10, -5, 20, 10]])
    np.testing.assert_allclose(found.data["keypoints"].data[0].xy, [[-5, 0]])
    np.testing.assert_allclose(
        found.data["segmentations"].data[0].to_multi_polygon().box().to_xywh().data, [-10, -5, 20, 10]
    )


def test_a_null_category_is_kept(sampler):  # ndsampler's defect 21
    sample = sampler.load_sample(aid=13)
    assert sample.category_id.values.tolist() == [-1]
    assert len(sample.ndzarr.detections[0]) == 1


def test_the_transform_maps_sample_pixels_to_native_ones(sampler):
    sample = sampler.load_sample({"gid": 1, "space_slice": (slice(40, 140), slice(60, 160)), "scale": 0.25})
    assert (sample.ndzarr.transform @ [1, 2, 1]).tolist() == [64, 48, 1]
    assert sample.ndzarr.target["gid"] == 1


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.3, 1.7])
def test_scaled_samples_have_the_promised_size_and_look_like_the_means_of_the_original(sampler, dataset, scale):
    window = {"gid": 1, "space_slice": (slice(8, 264), slice(16, 272)), "scale": scale}
    sample = sampler.load_sample(window)
    n = round(256 * scale)
    assert sample.image.shape == (3, n, n)
    if scale < 1:
        native = dataset[1][1][8:264, 16:272].astype(float)
        reduced = np.asarray(Image.fromarray(native[..., 0]).resize((n, n), Image.Resampling.BOX))
        assert np.abs(sample.image.values[0] - reduced).mean() < 1.0


def test_channels_come_in_the_order_asked_for(sampler, dataset):  # ndsampler's defects 4 and 13
    sample = sampler.load_sample({"gid": 1, "x": slice(0, 50), "y": slice(0, 50), "channels": "b|r"})
    assert sample.c.values.tolist() == ["b", "r"]
    np.testing.assert_array_equal(sample.image.values, dataset[1][1][:50, :50, [2, 0]].transpose(2, 0, 1))
    with raises(TargetError, key="channels", match=r"'nir'.*Known: r, g, b"):
        sampler.load_sample({"gid": 1, "channels": ["nir"]})


def test_a_target_without_window_is_the_whole_image(sampler):
    assert sampler.load_sample(gid=2).image.shape == (3, 257, 129)


def test_unknown_ids_are_errors_that_say_what_there_is(sampler):
    with raises(TargetError, key="gid", match="the dataset has 1, 2"):
        sampler.load_sample(gid=7)
    with raises(TargetError, key="aid"):
        sampler.load_sample(aid=99)
    with raises(TargetError, key="aid"):
        sampler.load_sample(aid=11, gid=2)
    with raises(TargetError, key="gid"):
        sampler.load_sample(cx=3, cy=3)


def test_a_dataset_is_given_as_object_path_or_dictionary(dataset, tmp_path):
    dset = kwcoco.CocoDataset(dataset[0])
    dset.fpath = str(tmp_path / "data.kwcoco.json")
    dset.dump(dset.fpath)
    for given in (dset, dset.fpath, dataset[0]):
        assert ndzarr.CocoSampler(given, tmp_path / "work").load_sample(aid=11).image.shape == (3, 20, 40)
    with raises(MissingError, path=tmp_path / "nothing.json"):
        ndzarr.CocoSampler(tmp_path / "nothing.json")


def test_prepare_transcodes_everything_then_samples_need_no_source(sampler, dataset, tmp_path):
    sampler.prepare()
    assert len(list((tmp_path / "work").glob("*.zarr"))) == 2
    assert sampler.load_sample(gid=1, x=slice(0, 9), y=slice(0, 9)).image.shape == (3, 9, 9)


def test_a_missing_source_is_named_once(dataset, tmp_path):  # ndsampler's defect 25
    dataset[0]["images"][0]["file_name"] = str(tmp_path / "gone.png")
    sampler = ndzarr.CocoSampler(dataset[0], tmp_path / "work")
    with raises(NdzarrError, path=tmp_path / "gone.png") as caught:
        sampler.load_sample(gid=1)
    assert str(caught.value).count("\n") == 0
    with pytest.raises(NdzarrError, match=r"gone\.png"):
        sampler.prepare()
    assert sampler.load_sample(gid=2).image.shape == (3, 257, 129), "the good one is done all the same"


def test_two_datasets_with_the_same_file_names_do_not_share_pixels(tmp_path):  # ndsampler's defect 1
    samplers = []
    for k in (1, 2):
        (tmp_path / f"d{k}" / "images").mkdir(parents=True)
        Image.fromarray(photo(40, 50, seed=k)).save(tmp_path / f"d{k}" / "images" / "img0.png")
        dset = kwcoco.CocoDataset({"images": [{"id": 1, "file_name": "images/img0.png", "width": 50, "height": 40}]})
        dset.fpath = str(tmp_path / f"d{k}" / "data.json")
        samplers.append(ndzarr.CocoSampler(dset, tmp_path / "shared"))
    for k, sampler in enumerate(samplers, start=1):
        np.testing.assert_array_equal(sampler.load_sample(gid=1).image.values, photo(40, 50, seed=k).transpose(2, 0, 1))


def test_a_source_rewritten_in_place_is_served_anew(sampler, dataset):  # ndsampler's defect 2
    before = sampler.load_sample(gid=1).image.values
    Image.fromarray(255 - dataset[1][1]).save(dataset[0]["images"][0]["file_name"])
    np.testing.assert_array_equal(sampler.load_sample(gid=1).image.values, 255 - before)


def test_damaged_stores_never_come_back_as_pixels(sampler, dataset, tmp_path):  # ndsampler's defect 3
    before = sampler.load_sample(gid=1).image.values
    [store] = (tmp_path / "work").glob("*.zarr")
    [shard] = (store / "0" / "image" / "c").rglob("0/0/0")
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    fresh = ndzarr.CocoSampler(dataset[0], tmp_path / "work")
    from ndzarr._store.sharding import SHARDS

    SHARDS.clear()
    with pytest.warns(ndzarr.errors.DamagedStoreWarning, match=store.name):
        assert np.array_equal(fresh.load_sample(gid=1).image.values, before)


def test_exif_orientation_follows_the_size_that_the_dataset_states(tmp_path):
    upright = photo(60, 90)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "a.png", exif=exif)
    for width, height, expected in ((90, 60, upright), (60, 90, np.rot90(upright))):
        content = {"images": [{"id": 1, "file_name": str(tmp_path / "a.png"), "width": width, "height": height}]}
        sample = ndzarr.CocoSampler(content, tmp_path / "work").load_sample(gid=1)
        np.testing.assert_array_equal(sample.image.values, expected.transpose(2, 0, 1))


def test_images_of_several_assets_give_each_channel_from_its_file(tmp_path):  # ndsampler's defect 14
    rgb, nir = photo(64, 80), photo(64, 80, 5)[..., :1].astype(np.uint16) * 200
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    tifffile.imwrite(tmp_path / "nir.tif", nir[..., 0])
    content = {
        "images": [
            {"id": 1, "file_name": None, "width": 80, "height": 64, "assets": [
                {"file_name": str(tmp_path / "rgb.png"), "width": 80, "height": 64, "channels": "r|g|b"},
                {"file_name": str(tmp_path / "nir.tif"), "width": 80, "height": 64, "channels": "nir"},
            ]}
        ]
    }  # fmt: skip
    sampler = ndzarr.CocoSampler(content, tmp_path / "work")
    sample = sampler.load_sample(gid=1, channels="nir|b|g")
    assert sample.image.dtype == np.uint16
    np.testing.assert_array_equal(sample.image.values[0], nir[..., 0])
    np.testing.assert_array_equal(sample.image.values[1:], rgb[..., [2, 1]].transpose(2, 0, 1))
    assert sampler.load_sample(gid=1).c.values.tolist() == ["r", "g", "b", "nir"]


def test_a_plan_says_what_a_sample_reads(sampler):
    explained = sampler.plan({"gid": 1, "x": slice(0, 130), "y": slice(0, 100)}).explain()
    assert (explained.windows, explained.chunks, explained.decoded_bytes) == (1, 2, 2 * 128 * 128 * 3)
    many = sampler.plan([{"gid": 1, "x": slice(0, 130), "y": slice(0, 100)}] * 5).explain()
    assert (many.windows, many.chunks, many.shared) == (5, 2, 2)


def test_a_sample_is_drawn_with_its_annotations(sampler):
    sample = sampler.load_sample({"gid": 1, "space_slice": (slice(-20, 80), slice(90, 190))})
    picture = np.asarray(sample.ndzarr.draw(scale=2))
    assert picture.shape == (200, 200, 3)
    plain = sampler.load_sample({"gid": 1, "space_slice": (slice(-20, 80), slice(90, 190))}, with_annots=False)
    assert (picture != np.asarray(plain.ndzarr.draw(scale=2))).any()


def test_samples_and_samplers_survive_pickling(sampler):
    again = pickle.loads(pickle.dumps(sampler))
    sample = again.load_sample(aid=11)
    assert sample.identical(sampler.load_sample(aid=11))
    assert pickle.loads(pickle.dumps(sample)).ndzarr.transform.shape == (3, 3)


def test_the_repr_says_what_there_is(sampler):
    assert "2 images, 0 videos, 4 annotations, 2 categories" in repr(sampler)


@pytest.mark.parametrize("name", ["vidshapes1-frames3", "special:vidshapes1-frames3"])
def test_a_sampler_is_made_of_a_demos_name(tmp_path, name):
    sampler = ndzarr.CocoSampler(name, workdir=tmp_path)
    assert sampler.load_sample(vidid=1, output_dims=(8, 8)).image.shape == (3, 3, 8, 8)


@pytest.mark.parametrize("name", ["vidshapes1-nonsense9", "no/such/file.json"])
def test_what_is_neither_a_file_nor_a_demo_is_said(tmp_path, name):
    with raises(MissingError, match="demo"):
        ndzarr.CocoSampler(name, workdir=tmp_path)


def test_annotations_that_were_added_or_removed_since_are_not_passed_over_in_silence(sampler):
    sampler.load_sample(gid=1)
    sampler.dset.add_annotation(1, bbox=[5, 5, 9, 9], category_id=5)
    with raises(TargetError, hint="Make another CocoSampler"):
        sampler.load_sample(gid=1)
    assert len(ndzarr.CocoSampler(sampler.dset, sampler.workdir).load_sample(gid=1).annot_id) == 4


@pytest.mark.parametrize("asset", [1, -1, "r"])
def test_opening_a_file_that_an_image_does_not_have_is_an_error_that_counts_its_files(tmp_path, asset):
    Image.fromarray(np.zeros((20, 30), "u1")).save(tmp_path / "a.png")
    sampler = ndzarr.CocoSampler({"images": [{"id": 1, "file_name": str(tmp_path / "a.png")}]}, tmp_path)
    assert sampler.open(1).shape == (1, 20, 30)
    with raises(TargetError, key="asset", match="has 1 file"):
        sampler.open(1, asset)
