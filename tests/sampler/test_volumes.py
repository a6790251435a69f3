"""Volumes: samples of kwcoco datasets whose files have planes."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pandas
import pytest
import tifffile
import xarray
import zarr
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr.errors import TargetError

DEPTH, HEIGHT, WIDTH = 5, 150, 170
FRAMES = 3
HIDDEN = 77
"""The nodata value of n."""


@dataclass
class Stacks:
    """Video 1 of 3 frames (gids 1 to 3), each of a|b (OME-TIFF) and n (Zarr, half the resolution; frame 2 lacks it),
    the third shifted by (8, 4); video 2 (gids 4 to 6) the same, n (multi-page TIFF) rotated and with nodata.  Video
    10 * v + k (gids 10 * gid + k) is made of the planes k alone, as images of their own.
    """

    sampler: ndzarr.CocoSampler
    ab: np.ndarray
    """uint16 (frame, c, z, y, x)."""
    n: np.ndarray
    """uint16 (frame, z, y, x), 75 x 85."""

    def planes(self, target):
        """(image, valid) of each plane alone, all of them along z."""
        key = "vidid" if "vidid" in target else "gid"
        alone = [self.sampler.load_sample({**target, key: 10 * target[key] + k}) for k in range(DEPTH)]
        return (np.stack(parts, -3) for parts in ([s.image.values for s in alone], [real(s) for s in alone]))


def real(sample):
    """Where pixels are real, with the axes of the image."""
    if "valid" not in sample:
        return np.ones(sample.image.shape, bool)
    return sample.valid.variable.set_dims(dict(sample.image.sizes)).transpose(*sample.image.dims).values


@pytest.fixture(scope="session")
def stacks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stacks")
    rng = np.random.default_rng(3)
    ab = rng.integers(100, 4000, (FRAMES, 2, DEPTH, HEIGHT, WIDTH), dtype=np.uint16)
    n = rng.integers(100, 4000, (FRAMES, DEPTH, HEIGHT // 2, WIDTH // 2), dtype=np.uint16)
    n[:, 1:4, 20:40, 30:60] = HIDDEN
    videos, images = [], []
    for t in range(FRAMES):
        tifffile.imwrite(folder / f"ab{t}.ome.tif", ab[t], metadata={"axes": "CZYX"}, ome=True)
        tifffile.imwrite(folder / f"n{t}.tif", n[t], metadata={"axes": "ZYX"})
        array = zarr.create_array(folder / f"n{t}.zarr", shape=n[t].shape, chunks=(2, 32, 32), dtype="u2",
                                  dimension_names=["z", "y", "x"])  # fmt: skip
        array[:] = n[t]
        for k in range(DEPTH):
            contig = {"photometric": "minisblack", "planarconfig": "contig"}
            tifffile.imwrite(folder / f"ab{t}_{k}.tif", ab[t][:, k].transpose(1, 2, 0), **contig)
            tifffile.imwrite(folder / f"n{t}_{k}.tif", n[t][k])
    for video in (1, 2):
        for name, times, end in [
            ("", 1, (".ome.tif", (".zarr", ".tif")[video - 1])),
            *[(f"_{k}", 10, (".tif", ".tif")) for k in range(DEPTH)],
        ]:
            k = int(name[1:] or 0)
            vidid = video * times + k
            videos.append({"id": vidid, "name": f"v{vidid}", "width": WIDTH, "height": HEIGHT})
            for t in range(FRAMES):
                gid = (3 * video - 2 + t) * times + k
                other = {"file_name": str(folder / f"n{t}{name}{end[1]}"), "channels": "n", "width": WIDTH // 2,
                         "height": HEIGHT // 2, "warp_aux_to_img": {"scale": 2.0}}  # fmt: skip
                if video == 2:
                    other |= {"nodata": HIDDEN, "warp_aux_to_img": {"theta": 0.3, "offset": [50, 5], "scale": 1.5}}
                assets = [{"file_name": str(folder / f"ab{t}{name}{end[0]}"), "channels": "a|b", "width": WIDTH,
                           "height": HEIGHT}, other]  # fmt: skip
                image = {"id": gid, "name": f"i{gid}", "file_name": None, "video_id": vidid, "frame_index": t,
                         "width": WIDTH, "height": HEIGHT, "assets": assets[: 1 if t == 1 else 2],
                         "warp_img_to_vid": {"offset": [8, 4] if t == 2 else [0, 0]}}  # fmt: skip
                images.append(image)
    content = {
        "videos": videos,
        "images": images,
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 20 + g, "image_id": g, "category_id": 1, "bbox": [10 * g, 20, 30, 16]} for g in range(1, 7)
        ],
    }
    return Stacks(ndzarr.CocoSampler(content, folder / "work"), ab, n)


@pytest.mark.parametrize("z", [None, slice(1, 4), slice(0, 5, 2), slice(4, None), [3, 0, 0]])
def test_an_image_gives_the_planes_that_numpy_gives(stacks, z):
    sample = stacks.sampler.load_sample(gid=1, y=slice(20, 90), x=slice(100, 140), channels="b|a", z=z)
    assert sample.image.dims == ("c", "z", "y", "x")
    picked = slice(None) if z is None else z
    np.testing.assert_array_equal(sample.image, stacks.ab[0][::-1, picked, 20:90, 100:140])
    np.testing.assert_array_equal(sample.z, np.arange(DEPTH)[picked])
    assert "valid" not in sample
    assert sample.ndzarr.target["gid"] == 1
    assert stacks.sampler.load_sample(sample.ndzarr.target).identical(sample)


@pytest.mark.parametrize("z", [slice(-2, 3), slice(3, 9), slice(-3, 9, 2), slice(-9, -2), slice(7, 9)])
def test_planes_outside_are_padded(stacks, z):
    sample = stacks.sampler.load_sample(gid=1, y=slice(20, 90), x=slice(100, 140), channels="a", z=z, fill=9)
    asked = np.arange(z.start, z.stop, z.step)
    real = (asked >= 0) & (asked < DEPTH)
    np.testing.assert_array_equal(sample.z, asked)
    assert sample.valid.dims == ("z", "y", "x")
    assert (sample.valid.values == real[:, None, None]).all()
    np.testing.assert_array_equal(sample.image[0, real], stacks.ab[0, 0, asked[real], 20:90, 100:140])
    assert (sample.image[:, ~real] == 9).all()


@pytest.mark.parametrize("z", [None, slice(5, 5), slice(-2, 3), slice(-3, 9, 2), slice(7, 9), [2, 2], (4, 1)])
def test_both_samplers_mean_the_same(stacks, z):
    coco = stacks.sampler
    named = ndzarr.Sampler({"a": coco.open(1)})
    window = {"y": slice(-5, 40), "x": slice(140, 180), "z": z}
    one, other = coco.load_sample(window, gid=1, channels="a|b"), named.load_sample(window)
    np.testing.assert_array_equal(one.image, other.image)
    assert one.z.identical(other.z)
    np.testing.assert_array_equal(real(one), real(other))


def test_a_video_gives_the_planes_of_its_frames(stacks):
    window = {"y": slice(10, 60), "x": slice(20, 50), "z": slice(1, 7, 2), "interpolation": "nearest"}
    sample = stacks.sampler.load_sample(window, vidid=1, time_slice=slice(0, 4))
    assert sample.image.dims == ("t", "c", "z", "y", "x")
    assert sample.image.shape == (4, 3, 3, 50, 30)
    assert sample.valid.dims == ("t", "c", "z", "y", "x")
    for t, (dy, dx) in enumerate([(0, 0), (0, 0), (4, 8)]):
        wanted = stacks.ab[t][:, 1:5:2, 10 - dy : 60 - dy, 20 - dx : 50 - dx]
        np.testing.assert_array_equal(sample.image[t, :2, :2], wanted)
    np.testing.assert_array_equal(sample.image[0, 2, :2], stacks.n[0][1:5:2, 5:30, 10:25].repeat(2, 1).repeat(2, 2))
    valid = sample.valid.values
    assert valid[:3, :2, :2].all()
    assert not valid[:, :, 2].any()  # no such plane
    assert not valid[1, 2].any()  # no such channel
    assert not valid[3].any()  # no such frame


CASES = {
    "native": {},
    "half": {"scale": 0.5},
    "odd scale": {"scale": (0.37, 0.61)},
    "enlarged": {"scale": 2, "interpolation": "cubic"},
    "nearest": {"output_dims": (33, 21), "interpolation": "nearest"},
    "ma": {"nodata": "ma"},
    "float": {"nodata": "float", "scale": 0.5},
    "filled": {"nodata": "fill", "fill": 3},
    "type": {"dtype": "uint8"},
    "context": {"pad": 40, "fill": 5},
    "mirrored": {"pad": (3, 30), "padkw": {"mode": "reflect"}},
    "edges": {"pad": 30, "padkw": {"mode": "edge"}, "scale": 0.5},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", [{"gid": 1}, {"gid": 4}, {"vidid": 1}, {"vidid": 2, "time_slice": slice(1, 4)}])
def test_every_plane_is_sampled_as_an_image_of_its_own(stacks, target, case):
    target = target | {"y": slice(5, 110), "x": slice(30, 165), **CASES[case]}
    sample = stacks.sampler.load_sample(target, z=slice(0, DEPTH))
    image, valid = stacks.planes(target)
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(real(sample), valid)
    part = stacks.sampler.load_sample(target, z=slice(2, 9, 2))
    np.testing.assert_array_equal(real(part)[..., :2, :, :], valid[..., 2::2, :, :])
    assert not real(part)[..., 2:, :, :].any()
    np.testing.assert_array_equal(part.image[..., :2, :, :], image[..., 2::2, :, :])


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap", "maximum"])
def test_a_padding_mode_continues_planes_too(stacks, mode):
    sample = stacks.sampler.load_sample(
        gid=1, y=slice(-2, 20), x=slice(0, 30), z=slice(-2, 6), channels="a|b", padkw={"mode": mode}
    )
    wanted = np.pad(stacks.ab[0][:, :, :20, :30], [(0, 0), (2, 1), (2, 0), (0, 0)], mode=mode)
    np.testing.assert_array_equal(sample.image, wanted)
    assert sample.valid.sum() == DEPTH * 20 * 30
    with raises(TargetError, key="padkw"):
        stacks.sampler.load_sample(gid=1, z=slice(6, 9), padkw={"mode": mode})


def test_nan_marks_planes_outside_unless_a_fill_is_given(stacks):
    window = {"gid": 1, "y": slice(0, 10), "x": slice(0, 10), "z": slice(3, 6), "channels": "a", "nodata": "float"}
    assert np.isnan(stacks.sampler.load_sample(window).image[:, 2]).all()
    assert (stacks.sampler.load_sample(window, fill=4).image[:, 2] == 4).all()


@pytest.mark.parametrize("keys", [{}, {"z": slice(-1, 4)}, {"z": [4, 1], "scale": 0.4}, {"z": slice(8, 9)}])
@pytest.mark.parametrize("target", [{"gid": 1}, {"gid": 4, "nodata": "float"}, {"vidid": 1}, {"vidid": 2}])
def test_a_lazy_sample_computes_to_the_same(stacks, target, keys):
    target = target | keys | {"y": slice(30, 100), "x": slice(-9, 50)}
    lazy, sample = stacks.sampler.load_sample(target, lazy=True), stacks.sampler.load_sample(target)
    assert lazy.image.shape == sample.image.shape
    np.testing.assert_array_equal(lazy.image, sample.image)
    assert lazy.z.identical(sample.z)
    np.testing.assert_array_equal(real(lazy), real(sample))


def test_tables_have_the_parts_of_z(stacks):
    table = pandas.DataFrame({"gid": [1, 2], "channels": "a", "z_start": [-1, 2], "z_stop": [3.0, np.nan], "z_step": 2})
    table = table.assign(cx=50.0, cy=40.0, width=8, height=8)
    batch = stacks.sampler.load_batch(table)
    np.testing.assert_array_equal(batch.native_z, [[-1, 1], [2, 4]])
    np.testing.assert_array_equal(batch.image[1, 0], stacks.ab[1][0, 2::2, 36:44, 46:54])
    assert stacks.sampler.lazy_batch(table).compute().image.identical(batch.image)
    with raises(TargetError, key="z", hint="Give only one of them"):
        stacks.sampler.load_sample(gid=1, z=[1], z_start=0, z_stop=2)


windows = st.fixed_dictionaries(
    {
        "y": st.tuples(st.integers(-30, 150), st.integers(4, 60)).map(lambda v: slice(v[0], sum(v))),
        "x": st.tuples(st.integers(-30, 170), st.integers(4, 60)).map(lambda v: slice(v[0], sum(v))),
        "z": st.one_of(
            st.none(),
            st.builds(slice, st.integers(-3, 6), st.integers(7, 9), st.integers(1, 3)),
            st.lists(st.integers(0, DEPTH - 1), min_size=1, max_size=4),
        ),
    },
    optional={"scale": st.sampled_from([0.5, 0.3, 2])},
)
options = st.sampled_from(
    [{}, {"nodata": "ma"}, {"nodata": "float"}, {"fill": 3}, {"padkw": {"mode": "edge"}, "channels": "a"}]
)


@examples(30)
@given(st.booleans(), st.lists(st.tuples(st.integers(1, 2), windows), min_size=1, max_size=4), options)
def test_a_batch_holds_what_load_sample_returns(stacks, video, chosen, keys):
    targets = [{"vidid": k} | w if video else {"gid": 3 * k - 2} | w for k, w in chosen]
    if "padkw" in keys:
        targets = [t for t in targets if t["y"].start < 140 and t["y"].stop > 10]
        targets = [t for t in targets if t["x"].start < 160 and t["x"].stop > 10 and (t["z"] or [0])]
        targets = [t for t in targets if not isinstance(t["z"], slice) or t["z"].start < DEPTH - 2] or [{"gid": 1}]
    batch = stacks.sampler.load_batch(targets, **keys)
    lazy = stacks.sampler.lazy_batch(targets, batch_size=2, **keys).compute()
    assert batch.image.dims[-3:] == ("z", "y", "x")
    for k, target in enumerate(targets):
        sample = stacks.sampler.load_sample(target, **keys)
        assert batch.ndzarr.sample(k).identical(sample)
        planes = sample.sizes["z"]
        assert batch.size_z[k] == planes
        np.testing.assert_array_equal(batch.native_z[k, :planes], sample.z)
        for one in (batch, lazy):
            cut = one.isel(sample=k, **{d: slice(n) for d, n in sample.image.sizes.items() if d != "c"})
            np.testing.assert_array_equal(cut.image, sample.image)
            np.testing.assert_array_equal(real(cut), real(sample))


def test_extraction_keeps_planes(stacks, tmp_path):
    targets = [
        {"gid": 1, "cx": 60, "cy": 20 * k, "width": 48, "height": 32, "z": slice(k - 1, k + 2)} for k in range(5)
    ]
    store = stacks.sampler.extract(targets, tmp_path / "crops.zarr", shard=2, scheduler="threads")
    wanted = stacks.sampler.load_batch(targets)
    with xarray.open_zarr(store) as stored:
        assert stored.image.dims == ("sample", "c", "z", "y", "x")
        for name in ("image", "native_z", "gid", "transform"):
            np.testing.assert_array_equal(stored[name], wanted[name])
        np.testing.assert_array_equal(real(stored), real(wanted))


def test_frames_of_one_file_have_their_planes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 4, 60, 70), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "tz.ome.tif", pixels, metadata={"axes": "TZYX"}, ome=True)
    images = [{"id": 7 + t, "name": f"f{t}", "video_id": 1, "frame_index": t, "width": 70, "height": 60,
               "file_name": None} for t in range(3)]  # fmt: skip
    videos = [{"id": 1, "name": "tz", "file_name": str(tmp_path / "tz.ome.tif"), "width": 70, "height": 60}]
    sampler = ndzarr.CocoSampler({"videos": videos, "images": images}, tmp_path / "work")
    sample = sampler.load_sample(vidid=1, y=slice(0, 30), time_slice=slice(1, 3), z=slice(3, 5))
    np.testing.assert_array_equal(sample.image[:, 0, :1], pixels[1:, 3:, :30])
    np.testing.assert_array_equal(sampler.load_sample(gid=8).image[0], pixels[1])


def test_a_video_of_volumes_becomes_a_pyramid(stacks, tmp_path):
    pyramid = stacks.sampler.transcode_video(1, tmp_path / "video.zarr", channels="n|a")
    assert pyramid.dims == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(pyramid.read(), stacks.sampler.load_sample(vidid=1, channels="n|a").image)
    with raises(TargetError, key="z", match=r"z=slice\(0, 2, None\).*whole"):
        stacks.sampler.transcode_video(1, tmp_path / "other.zarr", z=slice(0, 2))


def test_annotations_hold_for_all_planes_and_a_picture_shows_the_first(stacks):
    window = {"gid": 1, "cx": 30, "cy": 30, "width": 64, "height": 48, "channels": "a|b"}
    flat, sample = stacks.sampler.load_sample(window | {"gid": 10}), stacks.sampler.load_sample(window)
    np.testing.assert_array_equal(sample.bbox, [[12, 14, 30, 16]])
    assert len(sample.ndzarr.detections) == 1
    shown = np.asarray(stacks.sampler.load_sample(window, with_annots=False).ndzarr.draw())
    np.testing.assert_array_equal(shown, np.asarray(flat.ndzarr.draw()))
    outside = stacks.sampler.load_sample(window, with_annots=False, z=slice(-1, 3)).ndzarr.draw()
    assert set(np.unique(np.asarray(outside))) == {48, 96}  # of padding


def test_ndsamplers_dictionary_has_channels_last(stacks):
    for target, order in (({"gid": 1}, (1, 2, 3, 0)), ({"vidid": 1}, (0, 2, 3, 4, 1))):
        sample = stacks.sampler.load_sample(target, y=slice(0, 20), x=slice(0, 30))
        np.testing.assert_array_equal(sample.ndzarr.to_ndsampler()["im"], sample.image.values.transpose(order))


def test_every_asset_at_its_own_resolution_has_its_planes(stacks):
    tree = stacks.sampler.load_sample(gid=1, y=slice(0, 60), x=slice(0, 80), z=slice(2, 6), use_native_scale=True)
    np.testing.assert_array_equal(tree["0/a|b"].image[:, :3], stacks.ab[0][:, 2:, :60, :80])
    np.testing.assert_array_equal(tree["0/n"].image[0, :3], stacks.n[0][2:, :30, :40])
    assert not tree["0/n"].valid[3].any()


def test_a_plan_reads_the_planes_asked_for_only(stacks):
    few = stacks.sampler.plan({"gid": 1, "z": slice(1, 3), "channels": "a"})
    assert stacks.sampler.plan({"gid": 1, "z": slice(1, 9), "channels": "a"}).shapes == ((1, 4, HEIGHT, WIDTH),)
    whole = stacks.sampler.plan({"gid": 1, "channels": "a"})
    assert len(few.reads) * DEPTH == len(whole.reads) * 2
    assert "chunk" in str(few.explain())
    assert not stacks.sampler.plan({"gid": 1, "z": slice(9, 12)}).reads


def test_planes_that_were_halved_are_read_at_the_native_level(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 300, 320), dtype=np.uint8)
    pyramid = ndzarr.transcode(pixels, tmp_path / "v.zarr", axes="zyx", reduce="zyx")
    image = {"id": 1, "file_name": str(tmp_path / "v.zarr"), "width": 320, "height": 300}
    sampler = ndzarr.CocoSampler({"images": [image]}, tmp_path / "work")
    sample = sampler.load_sample(gid=1, scale=0.25, z=slice(2, 7))
    np.testing.assert_allclose(sample.image, pyramid.window(z=slice(2, 7), scale=0.25), atol=1)


def test_statistics_and_valid_regions_take_all_planes(stacks):
    found = stacks.sampler.targets.statistics([{"gid": 1, "channels": "a|b"}])
    np.testing.assert_allclose(found.mean, stacks.ab[0].mean((1, 2, 3)))
    assert found.count.tolist() == [DEPTH * HEIGHT * WIDTH] * 2
    table = stacks.sampler.targets.grid((64, 64), ids=[4], valid_only=True)
    wanted = [real(stacks.sampler.load_sample(row, nodata="ma")).all((0, 1)).mean() for _, row in table.iterrows()]
    assert 0 < min(wanted) < max(wanted)
    np.testing.assert_allclose(table.valid_fraction, wanted)


def test_loaders_hand_out_planes(stacks):
    pytest.importorskip("torch")
    from ndzarr.torch.crops import CropDataset, collate

    target = {"cx": 40, "cy": 30, "width": 32, "height": 24, "channels": "a", "z": slice(-1, 3)}
    crops = CropDataset(stacks.sampler, [{"gid": g, **target} for g in (1, 2)], masks="semantic")
    batch = collate(crops.__getitems__([1, 0]))
    np.testing.assert_array_equal(batch["image"][1], stacks.sampler.load_sample(target, gid=1).image)
    assert batch["valid"].shape == (2, 4, 24, 32)
    assert batch["masks"].shape == (2, 24, 32)


BAD = [
    ({"gid": 1, "z": 3}, "z", "ab0.ome.tif", "has 5 planes"),
    ({"gid": 1, "z": [5]}, "z", "ab0.ome.tif", "has 5 planes"),
    ({"gid": 1, "z": slice(0, 3, 0)}, "z", "ab0.ome.tif", None),
    ({"gid": 1, "z": slice(3, 0, -1)}, "z", "ab0.ome.tif", None),
    ({"gid": 1, "z": slice(0, 0.5)}, "z", "ab0.ome.tif", None),
    ({"gid": 10, "z": slice(0, 1)}, "z", "ab0_0.tif", "no planes"),
    ({"gid": 1, "t": slice(0, 1)}, "t", None, "time_slice"),
    ({"gids": [1, 10]}, "z", "ab0_0.tif", r"1 plane along z, .*ab0.ome.tif has 5"),
]


@pytest.mark.parametrize(("target", "key", "file", "fact"), BAD)
def test_what_cannot_be_done_names_the_file(stacks, target, key, file, fact):
    content = stacks.sampler
    if "gids" in target:  # frames of one video
        dset = content.dset.copy()
        for gid in (1, 10):
            dset.index.imgs[gid]["video_id"] = 1
        content = ndzarr.CocoSampler(dset.dataset, content.workdir)
    with raises(TargetError, key=key, match=fact) as caught:
        content.load_sample(target)
    assert file == (caught.value.path and os.path.basename(caught.value.path))


def test_an_asset_without_planes_is_not_repeated_along_z(tmp_path):
    volume = np.ones((4, 50, 60), np.uint8)
    tifffile.imwrite(tmp_path / "deep.tif", volume, metadata={"axes": "ZYX"}, photometric="minisblack")
    tifffile.imwrite(tmp_path / "flat.tif", volume[0])
    assets = [{"file_name": str(tmp_path / f), "channels": c, "width": 60, "height": 50}
              for f, c in (("deep.tif", "d"), ("flat.tif", "f"))]  # fmt: skip
    image = {"id": 1, "name": "both", "file_name": None, "width": 60, "height": 50, "assets": assets}
    sampler = ndzarr.CocoSampler({"images": [image]}, tmp_path / "work")
    with raises(
        TargetError,
        path=tmp_path / "flat.tif",
        key="z",
        match=r"1 plane along z, .*deep.tif has 4",
    ):
        sampler.load_sample(gid=1)
    assert sampler.load_sample(gid=1, channels="f").image.dims == ("c", "y", "x")
    assert sampler.load_sample(gid=1, channels="d").image.dims == ("c", "z", "y", "x")
    with pytest.raises(TargetError, match=r"axes.*volumes"):
        sampler.load_batch([{"gid": 1, "channels": "f"}, {"gid": 1, "channels": "d"}])


def test_a_zarr_array_whose_channels_are_last_is_read_with_its_axes_in_order(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(60, 70, 2), dtype="u1", dimension_names=("y", "x", "c"))
    array[..., 1] = 1
    image = {"id": 1, "file_name": str(tmp_path / "a.zarr"), "width": 70, "height": 60, "channels": "a|b"}
    sampler = ndzarr.CocoSampler({"images": [image]}, tmp_path / "work")
    sample = sampler.load_sample(gid=1, y=slice(0, 8), x=slice(3, 6))
    assert sample.image.dims == ("c", "y", "x")
    assert sample.image.mean(("y", "x")).values.tolist() == [0, 1]


def test_a_zarr_array_without_channels_is_gray(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(60, 70), dtype="u1", dimension_names=["y", "x"])
    array[:] = np.broadcast_to(np.arange(70, dtype="u1"), (60, 70))
    sampler = ndzarr.CocoSampler({"images": [{"id": 1, "file_name": str(tmp_path / "a.zarr")}]}, tmp_path / "work")
    sample = sampler.load_sample(gid=1, y=slice(0, 8), x=slice(3, 6))
    assert sample.c.values.tolist() == ["gray"]
    np.testing.assert_array_equal(sample.image, np.broadcast_to(np.arange(3, 6), (1, 8, 3)))


def test_one_plane_is_no_axis(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", np.ones((1, 50, 60), np.uint8), metadata={"axes": "ZYX"})
    image = {"id": 1, "file_name": str(tmp_path / "one.tif"), "width": 60, "height": 50}
    sampler = ndzarr.CocoSampler({"images": [image]}, tmp_path / "work")
    assert sampler.load_sample(gid=1).image.dims == ("c", "y", "x")
    with raises(TargetError, key="z", hint="Leave z out"):
        sampler.load_sample(gid=1, z=slice(0, 1))
