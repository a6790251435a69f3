"""Windows that were predicted become one pyramid."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from helpers.georeferences import NORTH_UP, chain
from helpers.hypothesis_settings import examples
from ndzarr.errors import ExistsError, OptionError, WindowError


def gaussian(n):
    """As documented: eight standard deviations across."""
    return np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) * 8) ** 2)


def window(y, x, height, width):
    return {"y": slice(y, y + height), "x": slice(x, x + width)}


@pytest.fixture
def image(tmp_path):
    return ndzarr.transcode(photo(90, 120)[..., :1], tmp_path / "image.zarr")


@pytest.fixture(scope="module")
def like(tmp_path_factory):
    return ndzarr.transcode(np.zeros((90, 120), "u1"), tmp_path_factory.mktemp("like") / "like.zarr")


places = st.lists(
    st.tuples(st.integers(-20, 85), st.integers(-20, 115), st.integers(1, 70), st.integers(1, 70)),
    min_size=1,
    max_size=9,
)


@given(
    places=places,
    seed=st.integers(0, 99),
    gaussian_weights=st.booleans(),
    dtype=st.sampled_from(["u1", "i2", "f4", "f8"]),
)
@examples(15)
def test_a_pixel_is_the_weighted_mean_of_the_windows_that_cover_it(like, places, seed, gaussian_weights, dtype):
    dest = Path(like.path).with_name("stitched.zarr")
    rng = np.random.default_rng(seed)
    total, weights = np.zeros((90, 120)), np.zeros((90, 120))
    weighting = "gaussian" if gaussian_weights else "uniform"
    with ndzarr.Stitcher(like, dest, weights=weighting, overwrite=True) as stitcher:
        for y, x, h, w in dict.fromkeys(places):
            array = rng.integers(0, 200, (h, w)).astype(dtype)
            stitcher.add(window(y, x, h, w), array)
            weight = np.outer(gaussian(h), gaussian(w)) if gaussian_weights else np.ones((h, w))
            if min(y + h, x + w) <= 0:
                continue
            there = np.s_[max(y, 0) : min(y + h, 90), max(x, 0) : min(x + w, 120)]
            part = np.s_[there[0].start - y : there[0].stop - y, there[1].start - x : there[1].stop - x]
            total[there] += (array * weight)[part]
            weights[there] += weight[part]
    covered = weights > 0
    out = ndzarr.open(dest)
    found = out.read()[0]
    tolerance = 0.502 if np.dtype(dtype).kind in "iu" else 2e-4
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found[covered], (total / np.where(covered, weights, 1))[covered], rtol=1e-5, atol=tolerance
    )
    if np.dtype(dtype).kind == "f":
        assert np.isnan(found[~covered]).all()
    else:
        shown = out.window().coords.get("valid")
        assert covered.all() if shown is None else np.array_equal(np.broadcast_to(shown, covered.shape), covered)


def test_what_one_window_or_all_windows_say_stays_exactly_that(image, tmp_path):
    values = np.random.default_rng(0).normal(size=(90, 120)).astype("f4")
    with ndzarr.Stitcher(image, tmp_path / "out.zarr") as stitcher:
        for y, x in [(0, 0), (30, 40), (50, 70), (0, 70), (50, 0), (13, 31)]:
            stitcher.add(window(y, x, 40, 50), values[y : y + 40, x : x + 50])
    found = ndzarr.open(tmp_path / "out.zarr").read()[0]
    shown = ~np.isnan(found)
    assert 0 < shown.sum() < shown.size
    assert np.array_equal(found[shown], values[shown])


def test_numbers_that_are_not_finite_go_through_means(image, tmp_path):
    whole = window(0, 0, 90, 120)
    with ndzarr.Stitcher(image, tmp_path / "out.zarr") as stitcher:
        stitcher.add(whole, np.broadcast_to([np.inf, -np.inf, np.inf, 1, np.nan, 3] * 20, (90, 120)))
        stitcher.add(whole, np.broadcast_to([np.inf, 5, -np.inf, -np.inf, 2, 3] * 20, (90, 120)))
    found = ndzarr.open(tmp_path / "out.zarr").read()[0]
    assert np.array_equal(found[7, :6], [np.inf, -np.inf, np.nan, -np.inf, np.nan, 3], equal_nan=True)


def test_the_bits_do_not_depend_on_the_order(image, tmp_path):
    rng = np.random.default_rng(1)
    added = [(window(y, x, 60, 60), rng.normal(size=(60, 60)).astype("f4")) for y in (0, 20, 30) for x in (0, 25, 60)]
    found = []
    for k, order in enumerate([added, added[::-1], added + added[:3]]):  # the last: what is added again counts once
        with ndzarr.Stitcher(image, tmp_path / f"{k}.zarr") as stitcher:
            for where, array in order:
                stitcher.add(where, array)
        found.append(ndzarr.open(tmp_path / f"{k}.zarr").read())
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_labels_are_those_of_the_window_that_counts_most(image, tmp_path):
    with ndzarr.Stitcher(image, tmp_path / "out.zarr", kind="labels") as stitcher:
        stitcher.add(window(0, 0, 90, 80), np.full((90, 80), 3, "u1"))
        stitcher.add(window(0, 40, 90, 80), np.full((90, 80), 7, "u1"))
    out = ndzarr.open(tmp_path / "out.zarr")
    assert out.kind == "labels"
    assert np.array_equal(out.read()[0], np.where(np.arange(120) < 60, 3, 7) * np.ones((90, 1)))


def test_samples_and_batches_know_their_places(tmp_path):
    original = photo(200, 260)
    image = ndzarr.transcode(original, tmp_path / "image.zarr")
    sampler = ndzarr.Sampler({"a": image})
    grid = sampler.targets.grid((64, 64), overlap=16)
    with ndzarr.Stitcher(image, tmp_path / "samples.zarr", channels=["r", "g", "b"]) as stitcher:
        for target in grid.to_dict("records"):
            sample = sampler.load_sample(target)
            assert sample not in stitcher
            stitcher.add(sample, sample.image)
            assert target in stitcher
    with ndzarr.Stitcher(image, tmp_path / "batches.zarr", channels=["r", "g", "b"]) as stitcher:
        batch = sampler.load_batch(grid)
        stitcher.add(batch, batch.image.values)
        assert len(stitcher) == len(grid)
    for name in ("samples", "batches"):
        assert np.array_equal(ndzarr.open(tmp_path / f"{name}.zarr").read(), np.moveaxis(original, -1, 0))


def test_volumes_and_videos_keep_their_axes(tmp_path):
    video = np.random.default_rng(0).integers(0, 255, (4, 3, 50, 40), "u1")
    like = ndzarr.transcode(video, tmp_path / "video.zarr", axes="tcyx")
    with ndzarr.Stitcher(like, tmp_path / "out.zarr", channels=["a", "b", "c"]) as stitcher:
        for t in (slice(0, 2), slice(1, 4)):
            for y in (0, 18):
                stitcher.add({**window(y, 0, 32, 40), "t": t}, video[t, :, y : y + 32])
    out = ndzarr.open(tmp_path / "out.zarr")
    assert out.dims == ("t", "c", "y", "x")
    assert np.array_equal(out.read(), video)


def test_the_result_lies_where_the_image_does(tmp_path):
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "height": 256, "width": 320, "count": 1, "dtype": "uint8", "tiled": True}
    with rasterio.open(
        path, "w", **profile, blockxsize=128, blockysize=128, crs="EPSG:32633", transform=NORTH_UP
    ) as out:
        out.write(photo(256, 320)[..., 0], 1)
    with ndzarr.Stitcher(path, tmp_path / "out.zarr", scale=0.25) as stitcher:
        for x in (0, 128, 192):
            stitcher.add(window(0, x, 256, 128), np.full((64, 32), x, "f4"))
    ndzarr.export_cog(tmp_path / "out.zarr", tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as found:
        assert found.shape == (64, 80)
        assert found.crs == "EPSG:32633"
        assert found.transform.almost_equals(chain(NORTH_UP, NORTH_UP.scale(4)))


def test_an_image_of_a_dataset_stands_for_itself(tmp_path):
    photo_path = tmp_path / "a.npy"
    np.save(photo_path, photo(100, 140))
    dset = {"images": [{"id": 1, "name": "a", "file_name": str(photo_path), "height": 100, "width": 140}]}
    sampler = ndzarr.CocoSampler(dset, tmp_path / "work")
    sample = sampler.load_sample({"gid": 1, "cx": 20, "cy": 30, "width": 40, "height": 60})
    with ndzarr.Stitcher(sample, tmp_path / "out.zarr", nodata=0) as stitcher:
        stitcher.add(sample, np.full((60, 40), 9, "u1"))
    found = ndzarr.open(tmp_path / "out.zarr").read()[0]
    expected = np.zeros((100, 140), "u1")
    expected[0:60, 0:40] = 9
    assert np.array_equal(found, expected)


KILLED = """
import os, signal, sys
import numpy as np, ndzarr
stitcher = ndzarr.Stitcher(sys.argv[1], sys.argv[2])
for k in range(3):
    stitcher.add({"y": slice(0, 90), "x": slice(30 * k, 30 * k + 60)}, np.full((90, 60), k, "f4"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_goes_on_where_it_was(image, tmp_path):
    dest = tmp_path / "out.zarr"
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), image.path, str(dest)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not dest.exists()
    file = next((tmp_path / ".out.zarr.stitch").glob("*.records"))
    os.truncate(file, file.stat().st_size - 7)  # the last window was not complete
    with ndzarr.Stitcher(image, dest) as stitcher:
        assert [window(0, 30 * k, 90, 60) in stitcher for k in range(3)] == [True, True, False]
        stitcher.add(window(0, 60, 90, 60), np.full((90, 60), 2, "f4"))
    found = ndzarr.open(dest).read()[0, 0]
    assert (found[0], found[-1]) == (0, 2)
    assert not (tmp_path / ".out.zarr.stitch").exists()


def test_an_error_keeps_what_was_added(image, tmp_path):
    stitcher = ndzarr.Stitcher(image, tmp_path / "out.zarr")
    stitcher.add(window(0, 0, 90, 60), np.zeros((90, 60), "u1"))
    stitcher.__exit__(RuntimeError, RuntimeError(), None)
    assert not (tmp_path / "out.zarr").exists()
    for resume, kept in ((True, 1), (False, 0)):
        stitcher = ndzarr.Stitcher(image, tmp_path / "out.zarr", resume=resume)
        assert len(stitcher) == kept
        stitcher.__exit__(RuntimeError, RuntimeError(), None)


def test_another_image_does_not_take_up_what_was_added(image, tmp_path):
    stitcher = ndzarr.Stitcher(image, tmp_path / "out.zarr", run="a")
    stitcher.add(window(0, 0, 9, 9), np.zeros((9, 9), "u1"))
    stitcher.__exit__(RuntimeError, RuntimeError(), None)
    for key, options in (("scale", {"scale": 0.5}), ("run", {"run": "b"}), ("kind", {"kind": "labels"})):
        with raises(ExistsError, path=tmp_path / ".out.zarr.stitch", hint="resume=False") as caught:
            ndzarr.Stitcher(image, tmp_path / "out.zarr", **{"run": "a", **options})
        assert key in str(caught.value)


def test_one_process_stitches_a_destination_at_a_time(image, tmp_path):
    with ndzarr.Stitcher(image, tmp_path / "out.zarr") as stitcher:
        with raises(ExistsError, path=tmp_path / "out.zarr"):
            ndzarr.Stitcher(image, tmp_path / "out.zarr")
        stitcher.add(window(0, 0, 9, 9), np.zeros((9, 9), "u1"))


@pytest.mark.parametrize(
    ("where", "array", "error", "key", "hint"),
    [
        (window(0, 0, 10, 10), np.zeros((5, 5)), WindowError, "y", "scale=0.5"),
        (window(0, 0, 10, 10), np.zeros((2, 10, 10)), OptionError, "array", "1 channels"),
        (window(0, 0, 10, 10), np.zeros((10, 10), "c8"), OptionError, "array", "numbers"),
        (window(0, 0, 10, 10), np.full((10, 10), 2**53 + 1), OptionError, "array", "labels"),
    ],
)
def test_what_does_not_fit_is_an_error(image, tmp_path, where, array, error, key, hint):
    with raises(error, key=key, hint=hint), ndzarr.Stitcher(image, tmp_path / "out.zarr") as stitcher:
        stitcher.add(where, array)


@pytest.mark.parametrize("kind", ["intensity", "labels"])
def test_windows_between_pixels_of_the_result_lie_where_they_are(image, tmp_path, kind):
    plane = np.add.outer(3.0 * np.arange(30) + 1, np.arange(40.0))  # of the result: linear, so that it interpolates
    with ndzarr.Stitcher(image, tmp_path / "out.zarr", scale=1 / 3, weights="uniform", kind=kind) as stitcher:
        for y in (0, 20, 44, 60):
            for x in (0, 31, 59, 90):
                values = np.add.outer(3 * (y / 3 + np.arange(10)) + 1, x / 3 + np.arange(10.0))
                if kind == "labels":
                    values = np.floor(values).astype("i4")
                stitcher.add(window(y, x, 30, 30), values)
    found = ndzarr.open(tmp_path / "out.zarr").read()[0]
    off = np.abs(found - plane)
    assert off.max() < (3 if kind == "labels" else 2)  # at the border of a window there is nothing to interpolate with
    assert np.median(off) < (2.5 if kind == "labels" else 1e-4)
    with raises(WindowError, key="x", hint="scale=0.4"), ndzarr.Stitcher(image, tmp_path / "b.zarr", scale=1 / 3) as s:
        s.add(window(1, 0, 29, 30), np.zeros((10, 12)))


@pytest.mark.parametrize("nodata", [-1, 256, np.nan, 0.5])
def test_nodata_that_no_pixel_has_is_an_error_and_keeps_what_was_added(image, tmp_path, nodata):
    with raises(OptionError, key="nodata"), ndzarr.Stitcher(image, tmp_path / "out.zarr", nodata=nodata) as stitcher:
        stitcher.add(window(0, 0, 9, 9), np.zeros((9, 9), "u1"))
    with ndzarr.Stitcher(image, tmp_path / "out.zarr", nodata=7) as stitcher:
        assert len(stitcher) == 1
    assert ndzarr.open(tmp_path / "out.zarr").read()[0, 8:10, 8].tolist() == [0, 7]


def test_nothing_added_is_an_error(image, tmp_path):
    with raises(OptionError, path=tmp_path / "out.zarr"), ndzarr.Stitcher(image, tmp_path / "out.zarr"):
        pass


@pytest.mark.parametrize(("array", "dtype"), [("u2", "u1"), ("i2", "u1"), ("i1", "u1"), ("f4", "u1"), ("i4", "i2")])
def test_a_type_that_cannot_hold_the_values_is_an_error(image, tmp_path, array, dtype):
    with raises(OptionError, key="dtype"), ndzarr.Stitcher(image, tmp_path / "out.zarr", dtype=dtype) as stitcher:
        stitcher.add(window(0, 0, 9, 9), np.zeros((9, 9), array))


def test_the_type_holds_what_was_added_before_and_after_a_kill(image, tmp_path):
    stitcher = ndzarr.Stitcher(image, tmp_path / "out.zarr", nodata=0)
    stitcher.add(window(0, 0, 9, 9), np.full((9, 9), -300, "i2"))
    stitcher.__exit__(RuntimeError, RuntimeError(), None)
    with ndzarr.Stitcher(image, tmp_path / "out.zarr", nodata=0) as stitcher:
        stitcher.add(window(9, 0, 9, 9), np.full((9, 9), 200, "u1"))
    found = ndzarr.open(tmp_path / "out.zarr").read()[0]
    assert (found[0, 0], found[9, 0], found.dtype) == (-300, 200, np.int16)
