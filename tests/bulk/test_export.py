"""An exported dataset holds the pixels of its windows and what they show of the labels, as the formats define it."""

from __future__ import annotations

import io
import json
import tarfile

import av
import imagecodecs
import numpy as np
import pytest
import shapely
import tifffile
import yaml
from PIL import Image
from pycocotools.coco import COCO

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr._batches.crop_files import CropEncoder
from ndzarr._batches.export import Job
from ndzarr.errors import ExistsError, OptionError, TargetError

STAR = [[(20, 10), (70, 30), (60, 80), (15, 60)]]
RING = [
    {
        "exterior": [[100, 20], [170, 20], [170, 90], [100, 90]],
        "interiors": [[[120, 40], [150, 40], [150, 70], [120, 70]]],
    }
]


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """Two images with boxes, a polygon, one with a hole, a crowd and keypoints; a video of four frames with a track."""
    folder = tmp_path_factory.mktemp("export")
    images, frames = [], []
    for gid in (1, 2):
        Image.fromarray(photo(120, 200, gid)).save(folder / f"{gid}.png")
        images.append({"id": gid, "file_name": f"{gid}.png", "width": 200, "height": 120, "channels": "r|g|b"})
    for t in range(4):
        Image.fromarray(photo(64, 96, 10 + t)).save(folder / f"v{t}.png")
        frames.append({"id": 10 + t, "file_name": f"v{t}.png", "width": 96, "height": 64, "channels": "r|g|b",
                       "video_id": 1, "frame_index": t})  # fmt: skip
    boxes = [(1, 1, (10, 20, 30, 40)), (1, 2, (80, 50, 60, 20)), (1, 1, (0, 0, 200, 120)), (2, 2, (90, 40, 20, 40)),
             (2, 1, (150, 100, 50, 20))]  # fmt: skip
    annotations = [{"image_id": g, "category_id": c, "bbox": list(box)} for g, c, box in boxes]
    annotations.append({"image_id": 2, "category_id": 1, "segmentation": [np.ravel(STAR[0]).tolist()], "weight": 0.5})
    annotations.append({"image_id": 2, "category_id": 2, "segmentation": RING, "iscrowd": 1})
    annotations[1]["keypoints"] = [85, 55, 2, 130, 60, 1]
    annotations += [
        {"image_id": 10 + t, "category_id": 2, "track_id": 7, "bbox": [8 * t, 10, 20, 30]} for t in range(4)
    ]
    content = {
        "images": images + frames,
        "videos": [{"id": 1, "name": "film", "width": 96, "height": 64}],
        "annotations": [{"id": k, **a} for k, a in enumerate(annotations, 1)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    for annotation in content["annotations"]:
        if "bbox" not in annotation:
            ring = np.array(STAR[0] if annotation["id"] == 6 else RING[0]["exterior"], float)
            annotation["bbox"] = [*ring.min(0).tolist(), *np.ptp(ring, axis=0).tolist()]
    (folder / "data.kwcoco.json").write_text(json.dumps(content))
    return ndzarr.CocoSampler(folder / "data.kwcoco.json", folder / "work")


@pytest.fixture(scope="module")
def tiles(sampler):
    return sampler.targets.grid((60, 100), ids=[1, 2])


def boxes_of(dset, names=("cat", "dog")):
    """Sorted (name of the crop, category, rounded box) of a dataset that was read back."""
    rows = [(dset.imgs[a["image_id"]]["file_name"].rpartition("_")[2][:6], dset.cats[a["category_id"]]["name"],
             *np.round(a["bbox"], 4).tolist()) for a in dset.anns.values()]  # fmt: skip
    return sorted(rows)


def expected_boxes(sampler, tiles):
    """What windows show: of shapes the box around the part that is seen, by shapely."""
    names = {1: "cat", 2: "dog"}
    rows = []
    for k, target in enumerate(tiles.to_dict("records")):
        sample = sampler.load_sample(target, clip=True)
        (a, _, x0), (_, e, y0) = sample.ndzarr.transform[:2]
        assert a == e == 1
        for aid, category, box in zip(
            sample.annot_id.values, sample.category_id.values, sample.bbox.values, strict=True
        ):
            shape = {6: shapely.Polygon(STAR[0]), 7: shapely.Polygon(RING[0]["exterior"], RING[0]["interiors"])}.get(
                aid
            )
            if shape is not None:
                seen = shapely.intersection(shape, shapely.box(x0, y0, x0 + 100, y0 + 60))
                if seen.is_empty or not seen.area:
                    continue
                left, top, right, bottom = seen.bounds
                box = (left - x0, top - y0, right - left, bottom - top)
            rows.append((f"{k:06d}", names[category], *np.round(box, 4).tolist()))
    return sorted(rows)


@pytest.mark.parametrize(("format", "options", "read"), [
    ("yolo", {}, ""),
    ("yolo", {"labels": "segments", "image": "jpeg"}, ""),
    ("coco", {"image": "tiff"}, "annotations.json"),
    ("coco", {"labels": "boxes"}, "annotations.json"),
    ("voc", {}, ""),
])  # fmt: skip
def test_what_was_exported_reads_back_as_the_same_boxes_and_pixels(sampler, tiles, tmp_path, format, options, read):
    path = sampler.export(tiles, tmp_path / "out", format, **options)
    assert list(tmp_path.iterdir()) == [path]
    found = ndzarr.dataset(path / read)
    expected = expected_boxes(sampler, tiles)
    if format == "voc":  # whole pixels
        expected = [(*row[:2], *np.round(row[2:]).tolist()) for row in expected]
    have, want = boxes_of(found), expected
    assert [row[:2] for row in have] == [row[:2] for row in want]
    np.testing.assert_allclose([row[2:] for row in have], [row[2:] for row in want], atol=1e-3)
    assert [cat["name"] for cat in found.cats.values()] == ["cat", "dog"]
    images = {
        image["file_name"].rpartition("_")[2][:6]: str(found.get_image_fpath(gid)) for gid, image in found.imgs.items()
    }
    for k, target in enumerate(tiles.to_dict("records")):
        have = np.asarray(Image.open(images[f"{k:06d}"]))
        want = np.moveaxis(sampler.load_sample(target).image.values, 0, -1)
        if options.get("image") == "jpeg":
            assert np.abs(have.astype(int) - want).mean() < 8
        else:
            np.testing.assert_array_equal(have, want)
    windows = (path / "windows.csv").read_text().splitlines()
    assert windows[0] == "file,split,gid,x,y,width,height"
    assert windows[2].endswith("_000001.jpg,,1,100,0,100,60".replace("jpg", images["000001"].rpartition(".")[2]))


@pytest.mark.parametrize("form", ["flat", "named"])
def test_poses_and_oriented_boxes_are_those_of_their_objects_within_the_window(tmp_path, form):
    Image.fromarray(photo(80, 80, 0)).save(tmp_path / "a.png")
    points = [(20, 20, 2), (30, 36, 1), (60, 30, 2)]
    named = [{"xy": list(p[:2]), "visible": p[2], "keypoint_category_id": k} for k, p in enumerate(points)]
    diamond = [(50, 10), (70, 30), (50, 50), (30, 30)]  # a square on its corner
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 5, "bbox": [10, 10, 52, 40],
         "keypoints": named[::-1] if form == "named" else np.ravel(points).tolist()},
        {"id": 2, "image_id": 1, "category_id": 5, "bbox": [30, 10, 40, 40],
         "segmentation": [np.ravel(diamond).tolist()]},
    ]  # fmt: skip
    names = ["nose", "left_eye", "right_eye"]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 80}], "annotations": annotations,
        "categories": [{"id": 5, "name": "cat", "keypoints": names}],
        "keypoint_categories": [{"id": k, "name": name} for k, name in enumerate(names)],
    }  # fmt: skip
    sampler = ndzarr.CocoSampler(content, tmp_path / "work", image_root=tmp_path)
    left = {"gid": 1, "cx": 25, "cy": 40, "width": 50, "height": 80}
    pose = sampler.export([{"gid": 1}, left], tmp_path / "pose", labels="pose")
    about = yaml.safe_load((pose / "data.yaml").read_text())
    assert (about["kpt_shape"], about["flip_idx"]) == ([3, 3], [0, 2, 1])
    labels = [np.loadtxt(path) for path in sorted((pose / "labels" / "train").iterdir())]
    assert labels[0][:, 0].tolist() == [0, 0]
    np.testing.assert_allclose(labels[0][0, 5:].reshape(3, 3) * (80, 80, 1), points, atol=1e-6)
    np.testing.assert_allclose(labels[1][0, 5:].reshape(3, 3) * (50, 80, 1), [*points[:2], (0, 0, 0)], atol=1e-6)
    assert not labels[0][1, 5:].any()  # without keypoints
    obb = sampler.export([{"gid": 1}, left], tmp_path / "obb", labels="obb")
    labels = [np.loadtxt(path)[1, 1:].reshape(4, 2) for path in sorted((obb / "labels" / "train").iterdir())]
    np.testing.assert_allclose(labels[0] * 80, diamond, atol=1e-6)
    seen = shapely.intersection(shapely.Polygon(diamond), shapely.box(0, 0, 50, 80))
    around = shapely.intersection(seen.minimum_rotated_rectangle, shapely.box(0, 0, 50, 80))
    assert shapely.Polygon(labels[1] * (50, 80)).buffer(1e-6).contains(around)
    coco = sampler.export([left], tmp_path / "coco", "coco")
    found = json.loads((coco / "annotations.json").read_text())
    assert found["categories"] == content["categories"]
    have = found["annotations"][0]["keypoints"]
    if form == "named":
        assert [(*p["xy"], p["visible"]) for p in have][::-1] == [*points[:2], (0, 0, 0)]
    else:
        assert have == [*np.ravel(points[:2]), 0, 0, 0]
    for path, corners in ((pose, False), (obb, True)):  # and they are read back
        dset = ndzarr.dataset(path)
        assert [len(dset.gid_to_aids[gid]) for gid in dset.imgs] == [2, 2]
        assert any("segmentation" in a for a in dset.anns.values()) == corners


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_polygons_are_cut_at_the_window_with_their_holes_as_pycocotools_fills_them(sampler, tiles, tmp_path):
    tiles = tiles[tiles.gid == 2].assign(scale=2.0)
    path = sampler.export(tiles, tmp_path / "out", "coco")
    coco = COCO(path / "annotations.json")
    masks = sampler.export(tiles, tmp_path / "masks", "mask", labels="instances")
    assert sum(bool(a["iscrowd"]) for a in coco.anns.values()) >= 2
    for gid, image in coco.imgs.items():
        own = coco.loadAnns(coco.getAnnIds(gid))
        values = np.asarray(Image.open(masks / "masks" / image["file_name"].rpartition("/")[2]))
        for k, annotation in enumerate(own, 1):
            if "segmentation" not in annotation:
                continue
            source = image["source"]
            shape = shapely.Polygon(STAR[0]) if "weight" in annotation else shapely.Polygon(*RING[0].values())
            window = shapely.box(
                source["x"], source["y"], source["x"] + source["width"], source["y"] + source["height"]
            )
            area = 4 * shapely.intersection(shape, window).area
            assert coco.annToMask(annotation).sum() == pytest.approx(area, rel=0.05, abs=8)
            assert annotation["area"] == pytest.approx(area, rel=0.05, abs=8)
            later = np.any(
                [coco.annToMask(a) for a in own[k:] if "segmentation" in a] or [np.zeros_like(values)], axis=0
            )
            boxes = [np.round(a["bbox"]).astype(int) for a in own[k:] if "segmentation" not in a]
            free = ~later.astype(bool)
            for x, y, w, h in boxes:
                free[y : y + h, x : x + w] = False
            np.testing.assert_array_equal((values == k)[free], coco.annToMask(annotation).astype(bool)[free])
    names = sampler.export(tiles, tmp_path / "classes", "mask")
    assert (names / "classes.txt").read_text().split() == ["background", "cat", "dog"]
    found = ndzarr.dataset(names / "masks", names / "images", format="masks", names=["background", "cat", "dog"])
    assert {cat["name"] for cat in found.cats.values()} == {"cat", "dog"}


def test_each_split_has_its_own_place_and_windows_in_none_are_left_out(sampler, tiles, tmp_path):
    table = tiles.assign(split=["train"] * 3 + ["validation"] * 2 + [None] * 3)
    yolo = sampler.export(table, tmp_path / "yolo")
    found = ndzarr.dataset(yolo)
    assert sorted(image["split"] for image in found.imgs.values()) == ["train"] * 3 + ["val"] * 2
    assert len(list((yolo / "labels" / "val").iterdir())) == 2
    voc = ndzarr.dataset(sampler.export(table, tmp_path / "voc", "voc"))
    assert sorted(image["split"] for image in voc.imgs.values()) == ["train"] * 3 + ["val"] * 2
    coco = sampler.export(table, tmp_path / "coco", "coco")
    assert [len(COCO(coco / f"{name}.json").imgs) for name in ("train", "val")] == [3, 2]
    shards = sampler.export(table.to_dict("records"), tmp_path / "tars", "webdataset", shard=2, image="jpeg")
    assert sorted(p.name for p in shards.glob("*.tar")) == [
        "train-000000.tar",
        "train-000001.tar",
        "val-000000.tar",
        "val-000001.tar",
    ]
    with tarfile.open(shards / "train-000000.tar") as tar:
        names = tar.getnames()
        keys = [name.partition(".")[0] for name in names]
        assert keys == sorted(keys)  # files of a sample follow one another
        assert len(set(keys)) == 2
        about = json.load(tar.extractfile(names[1]))
        assert Image.open(tar.extractfile(names[0])).size == (about["width"], about["height"]) == (100, 60)
        assert {a["category"] for a in about["annotations"]} == {"cat", "dog"}


def test_a_directory_per_class_holds_the_windows_around_its_objects(sampler, tmp_path):
    windows = sampler.targets.positives((40, 40), space="image")
    path = sampler.export(windows, tmp_path / "out", "imagefolder", image="jpeg")
    found = ndzarr.dataset(path, format="classes")
    have = {image["file_name"].rpartition("_")[2][:6]: cat for gid, image in found.imgs.items()
            for cat in [found.cats[found.anns[next(iter(found.gid_to_aids[gid]))]["category_id"]]["name"]]}  # fmt: skip
    assert have == {f"{k:06d}": {1: "cat", 2: "dog"}[c] for k, c in enumerate(windows.category_id)}
    empty = sampler.export({"gid": 2, "cx": 50, "cy": 110, "width": 8, "height": 8}, tmp_path / "empty", "imagefolder")
    assert len(list(empty.glob("background/*.png"))) == 1
    with raises(TargetError, key="targets", match="2 classes", hint="around annotations"):
        sampler.export({"gid": 1}, tmp_path / "mixed", "imagefolder")


@pytest.mark.parametrize("image", ["mp4", "gif"])
def test_a_window_of_a_video_is_a_clip_or_a_file_per_frame(sampler, tmp_path, image):
    target = {"vidid": 1, "space_slice": (slice(10, 50), slice(5, 38))}
    path = sampler.export([target], tmp_path / "out", "webdataset", image=image, fps=5)
    [tar] = path.glob("*.tar")
    with tarfile.open(tar) as opened:
        clip, about, number = (opened.extractfile(name).read() for name in opened.getnames())
    want = np.moveaxis(sampler.load_sample(target).image.values, 1, -1)
    if image == "mp4":
        with av.open(io.BytesIO(clip)) as container:
            assert float(container.streams.video[0].average_rate) == 5
            have = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])[:, :, :33]
    else:
        gif = Image.open(io.BytesIO(clip))
        have = np.stack([(gif.seek(t), np.asarray(gif.convert("RGB")))[1] for t in range(gif.n_frames)])
        assert gif.info["duration"] == 200
    assert have.shape == want.shape
    assert np.abs(have.astype(int) - want).mean() < 12
    labels = json.loads(about)["annotations"]
    assert [a.get("frame", 0) for a in labels] == [0, 1, 2, 3]
    assert {a["track_id"] for a in labels} == {7}
    assert number == b"1"
    with raises(OptionError, key="image", hint="png"):
        sampler.export([target], tmp_path / "no", "yolo", image=image)
    with raises(TargetError, key="image", hint="videos"):
        sampler.export([{"gid": 1}], tmp_path / "no", "webdataset", image=image)
    if image == "gif":  # once is enough
        frames = ndzarr.dataset(sampler.export([target], tmp_path / "frames", "coco") / "annotations.json")
        assert [found["frame_index"] for found in frames.imgs.values()] == [0, 1, 2, 3]
        assert len(frames.videos()) == 1
        assert [a["track_id"] for a in frames.anns.values()] == [7] * 4


def test_files_hold_the_type_and_channels_that_they_can_and_say_what_they_cannot():
    rng = np.random.default_rng(0)
    for dtype, channels in (("u1", 3), ("u2", 3), ("u2", 1), ("u1", 4), ("u1", 2)):
        pixels = rng.integers(0, 200, (channels, 20, 30)).astype(dtype)
        png = CropEncoder("png", 95, 10).encode(pixels, [])
        np.testing.assert_array_equal(imagecodecs.png_decode(png).reshape(20, 30, channels), np.moveaxis(pixels, 0, -1))
    for dtype, names in (("f4", "abcdefg"), ("u2", "rgb"), ("i2", "a"), ("u1", "rgba"), ("f8", "ab"), ("?", "a")):
        pixels = rng.integers(0, 2, (len(names), 20, 30)).astype(dtype)
        tiff = tifffile.imread(io.BytesIO(CropEncoder("tiff", 95, 10).encode(pixels, list(names))))
        np.testing.assert_array_equal(tiff.reshape(20, 30, len(names)), np.moveaxis(pixels, 0, -1))
    for kind, dtype, channels in (
        ("jpeg", "u2", 3),
        ("jpeg", "u1", 4),
        ("png", "f4", 1),
        ("png", "u1", 5),
        ("gif", "u1", 2),
    ):
        with pytest.raises(OptionError) as caught:
            CropEncoder(kind, 95, 10).check(np.dtype(dtype), channels)
        assert (caught.value.key, "image='tiff'" in caught.value.hint) == ("image", True)


def test_an_export_that_failed_goes_on_where_it_was(sampler, tiles, tmp_path, monkeypatch):
    real, done = Job.do, []

    def failing(self, shared, number):
        if number == 2:
            raise OSError("the disk went away")
        return real(self, shared, number)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "do", failing)
        with pytest.raises(OSError, match="went away"):
            sampler.export(tiles, tmp_path / "out", shard=2, workers=1)
    assert not (tmp_path / "out").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Job, "do", lambda self, shared, number: done.append(number) or real(self, shared, number))
        path = sampler.export(tiles, tmp_path / "out", shard=2, workers=1)
    assert done == [2, 3]
    assert len(list(path.rglob("*.png"))) == len(tiles)
    assert list(tmp_path.iterdir()) == [path]
    with raises(ExistsError, path=path):
        sampler.export(tiles, path)


def test_options_that_make_no_sense_are_named(sampler, tiles, tmp_path):
    for options, key in (
        ({"format": "yolo8"}, "format"), ({"image": "bmp"}, "image"), ({"labels": "masks"}, "labels"),
        ({"format": "voc", "labels": "segments"}, "labels"), ({"quality": 0}, "quality"), ({"fps": 0}, "fps"),
        ({"image": "jpeg", "dtype": "uint16"}, "image"),
    ):  # fmt: skip
        with raises(OptionError, key=key):
            sampler.export(tiles, tmp_path / "out", **options)
    with raises(TargetError, key="targets"):
        sampler.export([], tmp_path / "out")
    content = {
        "images": sampler.dset.dataset["images"][:1],
        "categories": [{"id": 1, "name": "a/b"}, {"id": 2, "name": "a_b"}],
    }
    with raises(OptionError, key="format", hint="Rename"):
        twice = ndzarr.CocoSampler(content, tmp_path.parent / "work", image_root=sampler.dset.bundle_dpath)
        twice.export({"gid": 1}, tmp_path / "out", "imagefolder")
    with raises(OptionError, key="dest", hint="local"):
        sampler.export(tiles, "s3://bucket/out", "coco")
    assert not list(tmp_path.iterdir())
