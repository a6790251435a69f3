"""A model is run over whole images, and one store comes back."""

import os
import signal
import subprocess
import sys

import kwcoco
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr.errors import ExistsError, MissingError, OptionError, TargetError


def darkness(images):
    """A model with one channel and the pixels of its input."""
    return 255.0 - images.mean(axis=1)


@pytest.fixture(scope="module")
def original():
    return photo(300, 350)


@pytest.fixture(scope="module")
def sampler(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    return ndzarr.Sampler({"a": ndzarr.transcode(original, folder / "a.zarr")}, folder)


def test_a_model_of_pixels_gives_the_same_pixels_as_on_the_whole_image(sampler, original, tmp_path):
    found = sampler.predict(darkness, tmp_path / "out.zarr", window=(128, 96), overlap=32, batch_size=3)
    assert found.channels == ("prediction",)
    np.testing.assert_allclose(found.read()[0], 255.0 - original.mean(axis=-1), atol=1e-4)


def test_the_scale_of_the_result_is_that_of_the_model(sampler, original, tmp_path):
    def coarse(images):
        n, c, h, w = images.shape
        return images.reshape(n, c, h // 4, 4, w // 4, 4).mean(axis=(3, 5))

    found = sampler.predict(coarse, tmp_path / "out.zarr", window=(100, 100), overlap=20, channels=["r", "g", "b"])
    assert found.sizes == {"c": 3, "y": 75, "x": 88}
    expected = original[:, :348].reshape(75, 4, 87, 4, 3).mean(axis=(1, 3))
    close = np.isclose(np.moveaxis(found.read(), 0, -1)[:, :87], expected, atol=1e-4).all(axis=-1)
    assert close.all()


@pytest.mark.parametrize("scheduler", [None, pytest.param("processes", marks=pytest.mark.slow)])
@pytest.mark.parametrize("window", [(64, 64), (64, 95)])
def test_windows_of_any_resolution_lie_where_they_are(tmp_path, scheduler, window):
    y, x = np.mgrid[:300, :350]
    slope = (y * 40 + x * 20).astype(np.uint16)
    about = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    tifffile.imwrite(tmp_path / "a.ome.tif", slope, ome=True, tile=(64, 64), metadata=about)
    sampler = ndzarr.Sampler([tmp_path / "a.ome.tif"], tmp_path)
    options = {"window": window, "overlap": 0.25, "resolution": "0.7 um", "dtype": "float32"}
    found = sampler.predict(np.asarray, tmp_path / "out.zarr", scheduler=scheduler, **options)
    assert found.pixel_size.x.value == pytest.approx(0.7, rel=0.002)
    step = found.pixel_size.x.value / 0.25
    values = found.read()[0]
    assert np.isfinite(values).all()
    y, x = (((np.arange(n) + 0.5) * step - 0.5) for n in values.shape)
    off = np.abs(values - (y[:, None] * 40 + x * 20))[1:-1, 1:-1]
    assert off.max() < 60  # a pixel is worth 168
    assert np.median(off) < 2


def test_images_and_videos_of_a_dataset(original, tmp_path):
    frames = [original[:120, :140], original[60:180, 30:170]]
    images = []
    for k, frame in enumerate(frames):
        np.save(tmp_path / f"{k}.npy", frame)
        file = {"file_name": str(tmp_path / f"{k}.npy"), "width": 140, "height": 120}
        images.append({"id": k + 1, "video_id": 1, "frame_index": 10 * k, "name": f"f{k}", **file})
    dset = {"images": images, "videos": [{"id": 1, "name": "v", "width": 140, "height": 120}]}
    sampler = ndzarr.CocoSampler(dset, tmp_path / "work")
    with raises(TargetError, key="gid"):
        sampler.predict(darkness, tmp_path / "no.zarr")
    image = sampler.predict(darkness, tmp_path / "image.zarr", gid=2, window=(64, 64), overlap=8)
    np.testing.assert_allclose(image.read()[0], 255.0 - frames[1].mean(axis=-1), atol=1e-4)
    video = sampler.predict(
        lambda images: 255.0 - images.mean(axis=2, keepdims=True), tmp_path / "video.zarr", vidid=1, window=(64, 64)
    )
    assert video.dims == ("t", "c", "y", "x")
    np.testing.assert_allclose(video.read()[:, 0], [255.0 - f.mean(axis=-1) for f in frames], atol=1e-4)


KILLED = """
import os, signal, sys
import ndzarr

calls = []
def model(images):
    calls.append(len(images))
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return 255.0 - images.mean(axis=1)

ndzarr.Sampler({"a": sys.argv[1]}).predict(model, sys.argv[2], window=(128, 96), overlap=32, batch_size=3)
"""


def test_a_killed_run_predicts_only_what_is_missing(sampler, original, tmp_path):
    dest = tmp_path / "out.zarr"
    subprocess.run([sys.executable, "-c", KILLED, sampler.open().path, str(dest)], check=False)
    assert not dest.exists()
    seen = []

    def model(images):
        seen.append(len(images))
        return darkness(images)

    found = sampler.predict(model, dest, window=(128, 96), overlap=32, batch_size=3)
    missing = len(sampler.targets.grid((128, 96), 32)) - 6
    assert sum(seen) == 2 + missing  # one tells what the model gives, and one whether it is the model of before
    np.testing.assert_allclose(found.read()[0], 255.0 - original.mean(axis=-1), atol=1e-4)


def failing(model, after):
    """The model, which raises after so many calls."""
    calls = []

    def run(images):
        calls.append(1)
        if len(calls) > after:
            raise RuntimeError("no more")
        return model(images)

    return run


def test_what_another_model_or_other_windows_gave_is_never_taken_up(sampler, original, tmp_path):
    dest, options = tmp_path / "out.zarr", {"window": (128, 96), "overlap": 32, "batch_size": 3}
    with pytest.raises(RuntimeError, match="no more"):
        sampler.predict(failing(darkness, 3), dest, **options)
    with raises(ExistsError, key="model", hint="resume=False"):
        sampler.predict(lambda images: images.mean(axis=1), dest, **options)
    for changed in ({"window": (96, 96)}, {"input_channels": "b|g|r"}, {"kind": "labels"}):
        with raises(ExistsError, path=tmp_path / ".out.zarr.stitch", hint="resume=False"):
            sampler.predict(darkness, dest, **{**options, **changed})
    found = sampler.predict(lambda images: images.mean(axis=1), dest, resume=False, **options)
    np.testing.assert_allclose(found.read()[0], original.mean(axis=-1), atol=1e-4)
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_threads_give_the_same_bits(sampler, tmp_path):
    options = {"window": (24, 24), "overlap": 4, "batch_size": 2}
    stores = [
        sampler.predict(darkness, tmp_path / f"{scheduler}.zarr", scheduler=scheduler, workers=4, **options)
        for scheduler in ("threads", None)
    ]
    assert stores[0].read().tobytes() == stores[1].read().tobytes()


@pytest.mark.slow
def test_workers_give_the_same_bits_though_one_is_killed(sampler, tmp_path):
    distributed = pytest.importorskip("distributed")
    rng = np.random.default_rng(0).normal(size=(128, 96)).astype("f4")
    killed, own = str(tmp_path / "killed"), os.getpid()

    def model(images):
        if os.getpid() != own and images[0, 0, 0, 0] % 2:  # some window, once
            try:
                os.close(os.open(killed, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return images.mean(axis=1) * rng

    options = {"window": (128, 96), "batch_size": 2}
    stores = [sampler.predict(model, tmp_path / "here.zarr", **options)]
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        stores.append(sampler.predict(model, tmp_path / "cluster.zarr", scheduler=client, **options))
    assert os.path.exists(killed)
    assert stores[0].read().tobytes() == stores[1].read().tobytes()


@pytest.mark.parametrize(
    ("model", "options", "error", "key"),
    [
        (lambda images: images[:0], {}, OptionError, "model"),
        (lambda images: None, {}, OptionError, "model"),
        (lambda images: images.mean(axis=(1, 2, 3)), {}, OptionError, "model"),
        (lambda images: images[..., :0, :0], {}, OptionError, "model"),
        (lambda images: images[..., :77], {}, OptionError, "model"),
        (lambda images: [None] * len(images), {}, OptionError, "model"),
        (lambda images: images * 1j, {}, OptionError, "array"),
        (darkness, {"channels": ["a", "b"]}, OptionError, "channels"),
        (np.asarray, {"channels": ["a", "b", "a"]}, OptionError, "channels"),
        (darkness, {"pad": 8}, OptionError, "pad"),
        (darkness, {"overlap": 128}, TargetError, "overlap"),
        (darkness, {"window": (0, 9)}, TargetError, "window_dims[0]"),
        (darkness, {"preset": "jpeg"}, OptionError, "preset"),
        (darkness, {"weights": np.zeros}, OptionError, "weights"),
        (lambda images: [{"boxes": []} for _ in images], {}, OptionError, "format"),
    ],
)
def test_what_cannot_become_a_result_is_an_error_and_leaves_nothing(sampler, tmp_path, model, options, error, key):
    with raises(error, key=key):
        sampler.predict(model, tmp_path / "out.zarr", **{"window": (128, 128), "overlap": 0, **options})
    assert not os.listdir(tmp_path)
    with raises(MissingError, path=tmp_path / "no" / "out.zarr"):
        sampler.predict(darkness, tmp_path / "no" / "out.zarr")


def bright(images):
    """A detector of bright objects, in torchvision's form."""
    found = []
    for image in images:
        inside = image[0] > 100
        labels, _ = ndimage.label(inside)
        boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
        n = len(boxes)
        masks = np.array([labels == k for k in range(1, n + 1)]).reshape(n, 1, *inside.shape)
        found.append({"boxes": np.array(boxes, float).reshape(-1, 4), "labels": np.ones(n, int), "masks": masks * 0.9,
                      "scores": np.full(n, 0.8)})  # fmt: skip
    return found


def scene(boxes, path):
    """A file with bright rectangles (x, y, width, height), as an image of a dataset."""
    pixels = np.zeros((300, 400), np.uint8)
    for x, y, w, h in boxes:
        pixels[y : y + h, x : x + w] = 200
    Image.fromarray(pixels).save(path)
    return {"file_name": str(path), "name": path.stem, "width": 400, "height": 300}


def test_a_detector_sees_all_images_of_a_dataset_and_goes_on_after_a_failure(tmp_path):
    boxes = {3: [(10, 10, 50, 30), (120, 40, 60, 100)], 5: [], 7: [(170, 200, 200, 20)]}
    images = [{"id": gid, **scene(own, tmp_path / f"{gid}.png")} for gid, own in boxes.items()]
    sampler = ndzarr.CocoSampler({"images": images}, tmp_path / "work")
    options = {"window": (128, 128), "overlap": 20, "classes": {1: "lamp"}, "batch_size": 5}
    dest = tmp_path / "found.json"
    with pytest.raises(RuntimeError, match="no more"):
        sampler.predict(failing(bright, 6), dest, **options)
    [kept] = (tmp_path / ".found.json.stitch").glob("*.records")
    os.truncate(kept, kept.stat().st_size - 9)  # as a kill leaves the last window
    with raises(ExistsError, key="model"):
        sampler.predict(lambda images: [{"boxes": np.empty((0, 4))} for _ in images], dest, **options)
    with raises(ExistsError, key="classes", path=tmp_path / ".found.json.stitch"):
        sampler.predict(bright, dest, **{**options, "classes": {1: "tree"}})
    seen = []

    def model(images):
        seen.append(len(images))
        return bright(images)

    dset = kwcoco.CocoDataset(sampler.predict(model, dest, **options))
    assert sum(seen) == 2 + len(sampler.targets.grid((128, 128), 20)) - 21
    assert {gid: sorted(tuple(dset.anns[a]["bbox"]) for a in dset.index.gid_to_aids[gid]) for gid in dset.imgs} == boxes
    assert not (tmp_path / ".found.json.stitch").exists()
    again = sampler.predict(bright, tmp_path / "two.json", gid=[7, 5], **options)
    assert {a["image_id"] for a in kwcoco.CocoDataset(again).anns.values()} == {7}
    with raises(TargetError, key="gid"):
        sampler.predict(lambda images: images[:, 0], tmp_path / "map.zarr", window=(128, 128))


@pytest.mark.parametrize("scheduler", [None, pytest.param("processes", marks=pytest.mark.slow)])
def test_a_detector_gives_each_object_once_in_a_file(tmp_path, scheduler):
    boxes = [(10, 10, 50, 30), (120, 40, 60, 100), (170, 200, 200, 20), (300, 90, 8, 8)]
    sampler = ndzarr.CocoSampler({"images": [{"id": 7, **scene(boxes, tmp_path / "a.png")}]}, tmp_path / "work")
    options = {"window": (128, 128), "overlap": 20, "classes": {1: "lamp"}, "scheduler": scheduler, "dtype": "float32"}
    path = sampler.predict(bright, tmp_path / "found.kwcoco.json", **options)
    dset = kwcoco.CocoDataset(path)
    found = sorted(dset.anns.values(), key=lambda a: a["bbox"])
    assert [tuple(a["bbox"]) for a in found] == boxes
    assert [round(a["area"]) for a in found] == [w * h for _, _, w, h in boxes]
    assert {a["score"] for a in dset.anns.values()} == {0.8}
    assert [cat["name"] for cat in dset.cats.values()] == ["lamp"]
    assert dset.imgs[7]["file_name"] == str(tmp_path / "a.png")
    with raises(ExistsError, path=path):
        sampler.predict(bright, path, **options)
    with raises(OptionError, key="model"):
        sampler.predict(lambda images: bright(images)[:1] * 2, tmp_path / "b.json", **options)
