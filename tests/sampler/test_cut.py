"""What the accessor says of a sample that xarray has cut since it was loaded."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import xarray

import ndzarr
from helpers.errors import raises
from ndzarr.errors import TargetError

WINDOW = {"gid": 1, "space_slice": (slice(-20, 80), slice(90, 190))}


@pytest.fixture
def sample(dataset, tmp_path):
    return ndzarr.CocoSampler(dataset[0], workdir=tmp_path / "w").load_sample(WINDOW)


@pytest.fixture
def clip(film):
    return film.sampler().load_sample(vidid=1, y=slice(-4, 60), x=slice(8, 100))


CUTS = {
    "slice": lambda d: d.isel(y=slice(30, 60), x=slice(10, 50)),
    "stride": lambda d: d.isel(y=slice(30, 90, 2), x=slice(1, None, 3)),
    "reversal": lambda d: d.isel(y=slice(None, None, -1), x=slice(50, 10, -2)),
    "one pixel": lambda d: d.isel(y=[33], x=[7]),
    "coordinates": lambda d: d.sel(x=slice(100, 150)),
    "arithmetic": lambda d: (d / 255).isel(x=slice(3, 9)),
    "two cuts": lambda d: d.isel(x=slice(10, None, 2)).isel(x=slice(5, None)),
    "axes exchanged": lambda d: d.isel(x=slice(10, 70)).transpose("x", "c", "y", ...),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_the_transform_of_a_part_leads_to_its_own_coordinates(sample, cut):
    part = cut(sample)
    x, y, _ = part.ndzarr.transform @ [part.sizes["x"] - 0.5, part.sizes["y"] - 0.5, 1]
    assert (x, y) == (part.x[-1], part.y[-1])
    x, y, _ = part.ndzarr.transform @ [0.5, 0.5, 1]
    assert (x, y) == (part.x[0], part.y[0])


@pytest.mark.parametrize("scale", [0.3, 0.5, 3])
def test_the_transform_of_a_part_of_a_scaled_sample_leads_to_its_own_coordinates(dataset, tmp_path, scale):
    sample = ndzarr.CocoSampler(dataset[0], workdir=tmp_path / "w").load_sample(WINDOW, scale=scale)
    part = sample.isel(y=slice(3, 20), x=slice(5, 21, 3))
    np.testing.assert_allclose((part.ndzarr.transform @ [4.5, 7.5, 1])[:2], [part.x[4], part.y[7]], rtol=1e-12)


def test_means_of_blocks_are_placed_as_the_blocks_are(sample):
    part = xarray.Dataset({"image": sample.image.coarsen(y=2, x=4, boundary="trim").mean()})
    part.encoding = sample.encoding
    assert (part.ndzarr.transform @ [1, 1, 1]).tolist() == [90 + 4, -20 + 2, 1]


def test_a_whole_sample_has_the_transform_that_it_was_loaded_with(sample):
    assert sample.ndzarr.transform.tolist() == [[1, 0, 90], [0, 1, -20], [0, 0, 1]]
    assert sample.isel(c=0).ndzarr.transform.tolist() == sample.ndzarr.transform.tolist()


def test_a_part_of_a_georeferenced_sample_is_placed_in_native_pixels(tmp_path):
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
    tags = [(33550, 12, 3, (10, 10, 0)), (33922, 12, 6, (0, 0, 0, 500000, 4600000, 0)), (34735, 3, len(keys), keys)]
    tifffile.imwrite(tmp_path / "s.tif", np.ones((60, 80), np.uint8), extratags=tags, metadata=None)
    coco = {"images": [{"id": 1, "file_name": str(tmp_path / "s.tif"), "width": 80, "height": 60}]}
    window = {"y": slice(-5, 40), "x": slice(8, 60)}
    for sample in (
        ndzarr.Sampler({"s": tmp_path / "s.tif"}, tmp_path / "w").load_sample(window),
        ndzarr.CocoSampler(coco, tmp_path / "w").load_sample(gid=1, **window),
    ):
        assert sample.x[0] > 500000
        part = sample.isel(y=slice(10, 30, 2), x=slice(4, None))
        assert (part.ndzarr.transform @ [0, 0, 1]).tolist() == [12, 4.5, 1]
        assert sample.ndzarr.transform.tolist() == [[1, 0, 8], [0, 1, -5], [0, 0, 1]]


def test_detections_are_in_pixels_of_the_part(sample):
    [whole], [part] = (d.ndzarr.detections for d in (sample, sample.isel(y=slice(40, None), x=slice(5, None, 5))))
    np.testing.assert_allclose(part.boxes.to_xywh().data, [[1.4, 30, 8, 20]])  # its first pixel begins at 3
    assert part.data["aids"].tolist() == whole.data["aids"].tolist() == [11]
    outline = part.data["segmentations"][0].data[0].data["exterior"].data
    np.testing.assert_allclose(outline.min(axis=0), [1.4, 30])


def test_detections_are_those_of_the_frames_that_are_left(clip):
    whole = clip.ndzarr.detections
    for part, left in ((clip.isel(t=slice(1, 3)), [1, 2]), (clip.isel(t=2), [2]), (clip.isel(t=[3, 0]), [3, 0])):
        found = part.ndzarr.detections
        assert [d.data["aids"].tolist() for d in found] == [whole[t].data["aids"].tolist() for t in left]
        assert [d.meta["gid"] for d in found] == [whole[t].meta["gid"] for t in left]


def test_the_picture_of_a_part_is_that_part_of_the_picture(sample, clip):
    whole = np.asarray(sample.ndzarr.draw(scale=1))
    part = np.asarray(sample.isel(y=slice(65, 88), x=slice(2, 61)).ndzarr.draw(scale=1))
    bare = np.asarray(sample.isel(y=slice(65, 88), x=slice(2, 61)).drop_vars("bbox").ndzarr.draw(scale=1))
    assert part.shape == (23, 59, 3)
    assert (part == whole[65:88, 2:61]).mean() > 0.9  # names are written where there is room
    assert np.array_equal(part, bare)  # annotations come from what was found
    turned = sample.transpose("x", "y", "c", ...).ndzarr.draw(scale=1)
    assert np.array_equal(whole, np.asarray(turned))
    assert clip.isel(t=1).ndzarr.draw(scale=1).size == (92, 64)
    assert clip.isel(t=1, c=0).ndzarr.draw(scale=1).size == (92, 64)
    assert clip.isel(t=slice(0, 2)).ndzarr.draw(scale=1).size == (92 * 2 + 4, 64)


def test_what_does_not_tell_where_it_lies_is_refused(sample, clip):
    for part in (
        sample.isel(y=3),
        sample.isel(x=[1, 2, 7]),
        sample.rename(x="lon"),
        sample.drop_vars("x").isel(x=slice(4)),
        clip.assign_coords(gid=("t", [7, 7, 7, 7])),
    ):
        with raises(TargetError, hint="as it was loaded"):
            part.ndzarr.transform  # noqa: B018
    assert sample.drop_vars("x").ndzarr.transform.tolist() == sample.ndzarr.transform.tolist()
    with raises(TargetError, key="image"):
        sample.rename(image="pixels").ndzarr.draw()
    with raises(TargetError, key="many", hint="Choose one"):
        xarray.concat([sample, sample], "many").ndzarr.draw()


def test_ndsamplers_dictionary_is_made_of_whole_samples_only(sample):
    for part in (sample.isel(x=slice(3, None)), sample.transpose("y", "x", "c", ...)):
        with raises(TargetError, hint="Load the window that is wanted"):
            part.ndzarr.to_ndsampler()
    assert (sample / 2).ndzarr.to_ndsampler()["im"].shape == (100, 100, 3)


def test_a_sample_of_a_named_pyramid_has_ndsamplers_dictionary(tmp_path):
    pyramid = ndzarr.transcode(np.ones((60, 80), np.uint8), tmp_path / "a.zarr")
    made = ndzarr.Sampler({"a": pyramid}, tmp_path / "w").load_sample(y=slice(-5, 40)).ndzarr.to_ndsampler()
    assert made["im"].shape == (45, 80, 1)
    assert made["params"]["data_dims"] == (60, 80)
