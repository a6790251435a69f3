"""Statistics are numpy's of the same pixels, whatever the number of threads, and errors are as large as they say."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr._progress import progress_bar
from ndzarr.errors import ExistsError, MissingError, OptionError, TargetError, WriteError
from ndzarr.targets._quantiles import QuantileSketch, StreamingMoments, moments_of
from ndzarr.targets.statistics import Statistics

Q = (0.0, 0.01, 0.25, 0.5, 0.9, 1.0)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Two photos, 16-bit with nodata, and floats far from 0 with NaN and infinity; (sampler, pixels)."""
    folder = tmp_path_factory.mktemp("statistics")
    rng = np.random.default_rng(0)
    big, small = photo(1100, 1300, 1), photo(90, 70, 2)
    sixteen = rng.integers(5000, 60000, (301, 217), dtype=np.uint16)
    sixteen[40:140] = 77
    floats = (1000 + rng.normal(0, 1, (400, 300))).astype(np.float32)
    floats[:100] = np.nan
    floats[200, 5] = np.inf
    images = []
    for gid, pixels, more in [
        (1, big, {"channels": "r|g|b"}),
        (2, small, {"channels": "r|g|b"}),
        (3, sixteen, {"channels": "nir", "nodata": 77}),
        (4, floats, {"channels": "dem"}),
    ]:
        tifffile.imwrite(folder / f"{gid}.tif", pixels)
        height, width = pixels.shape[:2]
        images.append({"id": gid, "file_name": str(folder / f"{gid}.tif"), "width": width, "height": height} | more)
    sampler = ndzarr.CocoSampler({"images": images}, tmp_path_factory.mktemp("work"))
    rgb = np.concatenate([p.reshape(-1, 3) for p in (big, small)]).T
    return sampler, {**dict(zip("rgb", rgb, strict=True)), "nir": sixteen[sixteen != 77],
                     "dem": floats[np.isfinite(floats)]}  # fmt: skip


def test_whole_images_have_the_statistics_of_their_pixels(scene):
    sampler, pixels = scene
    found = sampler.targets.statistics(quantiles=Q, bins=50)
    assert found.channels == ("r", "g", "b", "nir", "dem")
    for k, name in enumerate(found.channels):
        values = pixels[name].astype(np.float64)
        assert found.count[k] == values.size
        assert found.mean[k] == pytest.approx(values.mean(), rel=1e-12)
        assert found.std[k] == pytest.approx(values.std(), rel=1e-9)
        assert (found.min[k], found.max[k]) == (values.min(), values.max())
        off = np.abs(found.quantiles[k] - np.quantile(values, Q))
        assert (off <= found.quantile_error[k] + 1e-9).all()
        if name != "dem":
            assert off.max() == 0
            assert np.array_equal(found.histogram[k], np.histogram(values, 50)[0])
        assert found.histogram[k].sum() == values.size
        assert found.edges[k] == pytest.approx(np.histogram(values, 50)[1])
    assert found.missing.tolist() == [0, 0, 0, 100 * 217, 100 * 300 + 1]
    assert (found.mean_error == 0).all()
    assert (found.std_native == found.std).all()
    assert found.quantile_error[-1].max() < 2e-4  # of values near 1000: bins are as narrow as the data allow


def test_a_table_has_the_statistics_of_its_windows(scene):
    sampler, _ = scene
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {"gid": rng.choice([1, 2, 3, 4], 80), "cx": rng.uniform(-10, 300, 80), "cy": rng.uniform(-10, 300, 80),
         "width": rng.uniform(3, 60, 80), "height": 33.0, "kind": "positive"}
    )  # fmt: skip
    found = sampler.targets.statistics(table, quantiles=Q)
    seen, outside = {}, {}
    for row in table.to_dict("records"):
        sample = sampler.load_sample(row, nodata="ma", with_annots=False)
        valid = sample.valid.values & np.isfinite(sample.image.values)
        for k, name in enumerate(sample.c.values):
            seen.setdefault(name, []).append(sample.image.values[k][valid[k]])
            outside[name] = outside.get(name, 0) + (~valid[k]).sum()
    assert set(found.channels) == set(seen)
    for k, name in enumerate(found.channels):
        values = np.concatenate(seen[name]).astype(np.float64)
        assert found.count[k] == values.size
        assert found.missing[k] == outside[name]
        assert found.mean[k] == pytest.approx(values.mean(), rel=1e-12)
        assert found.std[k] == pytest.approx(values.std(), rel=1e-9)
        sizes, means = np.array([(v.size, v.mean(dtype=float)) for v in seen[name] if v.size]).T
        m = len(sizes)
        error = np.sqrt(m / (m - 1) * ((sizes * (means - values.mean())) ** 2).sum()) / values.size
        assert found.mean_error[k] == pytest.approx(error, rel=1e-6)


def test_the_number_of_threads_changes_nothing(scene):
    sampler, _ = scene
    texts = {sampler.targets.statistics(workers=k).to_json() for k in (1, 2, 4)}
    assert len(texts) == 1
    assert (
        sampler.targets.statistics(sample=3, seed=1).to_json()
        == sampler.targets.statistics(sample=3, seed=1, workers=1).to_json()
    )


def test_levels_keep_the_mean_and_say_what_they_do_to_the_spread(scene):
    sampler, pixels = scene
    for level in (1, 2, 3):
        found = sampler.targets.statistics(level=level, channels="r|g|b")
        for k, name in enumerate(found.channels):
            values = pixels[name].astype(float)
            assert found.mean[k] == pytest.approx(values.mean(), abs=0.5)
            assert found.std[k] < values.std()
            assert found.std_native[k] == pytest.approx(values.std(), rel=0.02)
        assert found.level == level


def test_windows_at_a_level_are_widened_to_its_pixels(scene):
    sampler, _ = scene
    table = pd.DataFrame({"gid": [1], "cx": [101.0], "cy": [67.0], "width": 31, "height": 21, "scale": 0.3})
    found = sampler.targets.statistics(table, level=2)
    pixels = sampler.open(1).read(2, y=slice(14, 20), x=slice(21, 29))
    assert found.count.tolist() == [48] * 3
    assert found.mean == pytest.approx(pixels.mean(axis=(1, 2)))


def test_the_stated_error_is_the_error_of_samples(scene):
    sampler, pixels = scene
    off = []
    for seed in range(30):
        found = sampler.targets.statistics(sample=12, channels="r", seed=seed, workers=1)
        off.append((found.mean[0] - pixels["r"].mean()) / found.mean_error[0])
    # A share of 95% lies within 2 of them; few windows make it a little less.
    assert np.mean(np.abs(off) < 2) > 0.8
    assert np.mean(np.abs(off) < 0.2) < 0.5


def test_a_single_window_has_no_error_to_state(scene):
    found = scene[0].targets.statistics([{"gid": 2}])
    assert np.isnan(found.mean_error).all()
    assert Statistics.from_json(found.to_json()).to_json() == found.to_json()


def test_statistics_survive_json(scene, tmp_path):
    found = scene[0].targets.statistics(quantiles=Q)
    text = found.to_json(tmp_path / "s.json")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    for again in (Statistics.from_json(text), Statistics.from_json(tmp_path / "s.json")):
        assert again.channels == found.channels
        assert again.level == 0
        assert np.array_equal(again.quantiles, found.quantiles)
        assert np.array_equal(again.histogram, found.histogram)
    for wrong in ("{}", '{"channels": 3}', "[]"):
        (tmp_path / "wrong.json").write_text(wrong)
        with raises(OptionError, path=tmp_path / "wrong.json"):
            Statistics.from_json(tmp_path / "wrong.json")
    with raises(MissingError, path=tmp_path / "none.json"):
        Statistics.from_json(tmp_path / "none.json")


def test_a_file_of_statistics_is_replaced_whole_or_not_at_all(scene, tmp_path, monkeypatch):
    found, file = scene[0].targets.statistics([{"gid": 2}]), tmp_path / "s.json"
    file.write_text("before")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, raises(WriteError, path=file, match="full"):
        patched.setattr(os, "fsync", full)
        found.to_json(file)
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]
    found.to_json(file)
    assert json.loads(file.read_text())["windows"] == 1
    os.mkfifo(tmp_path / "pipe")
    with raises(ExistsError, path=tmp_path / "pipe", match="not a file"):
        found.to_json(tmp_path / "pipe")
    with raises(MissingError, path=tmp_path / "none" / "s.json"):
        found.to_json(tmp_path / "none" / "s.json")


def test_images_are_normalised_by_the_names_of_their_channels(scene):
    sampler, pixels = scene
    found = sampler.targets.statistics()
    sample = sampler.load_sample(gid=1, channels="b|r", with_annots=False)
    done = found.normalise(sample.image)
    assert done.dims == ("c", "y", "x")
    assert done.dtype == np.float32
    wanted = (sample.image.values[1] - pixels["r"].mean()) / pixels["r"].std()
    np.testing.assert_allclose(done.sel(c="r"), wanted, rtol=1e-6, atol=1e-4)
    array = found.select(["b", "r"]).normalise(sample.image.values[None])
    assert np.allclose(array[0], done.values)
    with raises(OptionError, key="image", hint="select()"):
        found.normalise(sample.image.values)
    with raises(OptionError, key="channels", match="did you mean 'nir'"):
        found.select(["nirr"])


def test_tensors_are_normalised():
    torch = pytest.importorskip("torch")
    found = Statistics(
        ("a", "b"), *(np.array([1, 2]) for _ in range(2)), *(np.array([1.0, 3.0]) for _ in range(6)), np.empty(0),
        np.empty((2, 0)), np.empty((2, 0)), np.zeros((2, 2)), np.zeros((2, 1), int), 0, 1,
    )  # fmt: skip
    done = found.normalise(torch.full((5, 2, 3, 3), 7, dtype=torch.uint8))
    assert done.dtype == torch.float32
    assert done[0, :, 0, 0].tolist() == pytest.approx([6, 4 / 3])


def test_a_channel_that_does_not_vary_becomes_zero(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((20, 30), 9, np.uint8))
    sampler = ndzarr.CocoSampler(
        {"images": [{"id": 1, "file_name": str(tmp_path / "a.tif"), "width": 30, "height": 20}]}, tmp_path
    )
    found = sampler.targets.statistics(bins=3)
    assert found.std.tolist() == [0]
    assert found.histogram.sum() == 600
    assert not found.normalise(np.full((1, 4, 4), 9, np.uint8)).any()


def test_channels_without_any_pixel_are_reported_as_such(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30), np.uint8))
    image = {"id": 1, "file_name": str(tmp_path / "a.tif"), "width": 30, "height": 20, "nodata": 0}
    found = ndzarr.CocoSampler({"images": [image]}, tmp_path).targets.statistics()
    assert found.count.tolist() == [0]
    assert found.missing.tolist() == [600]
    assert np.isnan(found.mean[0])
    assert "100.0%" in repr(found)


def test_channels_of_different_types_are_one(tmp_path):
    values = [np.arange(200, dtype=np.uint8), np.arange(200, dtype=np.uint16) * 100,
              np.linspace(-5, 5, 200, dtype=np.float32), np.arange(200, dtype=np.int32) * 10_000_000]  # fmt: skip
    images = []
    for k, v in enumerate(values):
        tifffile.imwrite(tmp_path / f"{k}.tif", v.reshape(10, 20))
        images.append({"id": k + 1, "file_name": str(tmp_path / f"{k}.tif"), "width": 20, "height": 10,
                       "channels": "x"})  # fmt: skip
    found = ndzarr.CocoSampler({"images": images}, tmp_path).targets.statistics(quantiles=Q)
    everything = np.concatenate([v.astype(float) for v in values])
    assert found.mean[0] == pytest.approx(everything.mean())
    assert found.std[0] == pytest.approx(everything.std())
    assert found.quantiles[0] == pytest.approx(np.quantile(everything, Q))


def test_videos_are_measured_frame_by_frame(tmp_path):
    frames = [photo(40, 50, k) for k in range(3)]
    images = []
    for k, pixels in enumerate(frames):
        tifffile.imwrite(tmp_path / f"{k}.tif", pixels)
        images.append({"id": k + 1, "file_name": str(tmp_path / f"{k}.tif"), "width": 50, "height": 40,
                       "video_id": 1, "frame_index": k, "channels": "r|g|b"})  # fmt: skip
    content = {"videos": [{"id": 1, "name": "v", "width": 50, "height": 40}], "images": images}
    sampler = ndzarr.CocoSampler(content, tmp_path)
    table = [{"vidid": 1, "time_start": 0, "time_stop": 5}]  # two of them are padding
    for level in (None, 0):
        found = sampler.targets.statistics(table, level=level)
        assert found.mean == pytest.approx(np.stack(frames).mean(axis=(0, 1, 2)))
    assert len(found.to_frame()) == 3
    assert repr(found).startswith("<Statistics of 1 windows at level 0: 3 channels>")


def test_what_is_not_understood_is_refused(scene):
    sampler, _ = scene
    for key, wrong in [
        ("quantiles", [50]),
        ("bins", 0),
        ("level", -1),
        ("level", 1.5),
        ("sample", 0),
        ("workers", 0),
        ("range", (5, 1)),
    ]:
        with raises(TargetError, key=key):
            sampler.targets.statistics(**{key: wrong})
    with raises(TargetError, key="level", match="at most 30"):
        sampler.targets.statistics(level=99)
    assert sampler.targets.statistics(quantiles=0.5).quantiles.shape[1] == 1
    with raises(TargetError, key="targets"):
        sampler.targets.statistics([])


ARRAYS = st.one_of(
    [
        hnp.arrays(d, hnp.array_shapes(max_dims=1, max_side=200), elements=e)
        for d, e in [
            (np.uint8, None), (np.int8, None), (np.int16, None), (np.bool_, None), (np.int32, None), (np.uint32, None),
            (np.float32, st.floats(-1e6, 1e6, width=32)), (np.float64, st.floats(-1e6, 1e6)),
        ]
    ]
)  # fmt: skip


@given(ARRAYS, st.lists(st.floats(0, 1), min_size=1, max_size=5), st.sampled_from([8, 64, 1 << 16]))
def test_quantiles_are_as_near_as_stated(values, probabilities, capacity):
    whole = QuantileSketch.of(values, capacity)
    merged = QuantileSketch(capacity=capacity)
    for part in np.array_split(values, 3)[::-1]:
        merged.merge(QuantileSketch.of(part, capacity))
    real = values.astype(np.float64)
    for found in (whole, merged):
        assert len(found.codes) <= capacity
        assert found.total == values.size
        low, high = found.bounds()
        high = np.where(np.signbit(high) & (high == 0), -5e-324, high)  # a bin that ends with -0.0 does not hold 0.0
        inside = (real[:, None] >= low) & (real[:, None] <= high)
        assert np.array_equal(inside.sum(axis=0), found.counts)  # every bin holds what it counts
        got, error = found.quantiles(np.array(probabilities), real.min(), real.max())
        wanted = np.quantile(real, probabilities)
        assert (np.abs(got - wanted) <= error + 1e-9 * (1 + np.abs(wanted))).all()
        assert found.shift or (np.abs(got - wanted) <= 1e-9 * (1 + np.abs(wanted))).all()
    assert np.array_equal(whole.codes, merged.codes)
    assert np.array_equal(whole.counts, merged.counts)


@given(st.lists(hnp.arrays(np.float64, st.integers(0, 30), elements=st.floats(-1e3, 1e3)), min_size=1, max_size=12))
def test_merged_moments_are_those_of_the_whole(parts):
    run = StreamingMoments()
    for k in range(0, len(parts), 2):
        run.merge(moments_of([p + 1e6 for p in parts[k : k + 2]], missing=k))
    values = np.concatenate(parts) + 1e6
    assert run.count == values.size
    assert run.missing == sum(range(0, len(parts), 2))
    if values.size:
        mean, variance = run.moments
        assert mean == pytest.approx(values.mean(), rel=1e-12)
        assert variance == pytest.approx(values.var(), rel=1e-6, abs=1e-6)
        assert run.mean == pytest.approx(values.mean(), rel=1e-12)
        assert run.squares / run.count == pytest.approx(values.var(), rel=1e-6, abs=1e-6)
        assert (run.least, run.greatest) == (values.min(), values.max())


def test_a_bar_is_shown_only_for_what_takes_long(capsys):
    for delay, progress, shown in [(60.0, True, False), (-1.0, True, True), (-1.0, False, False)]:
        with progress_bar(3, "counting", "sheep", progress, delay=delay) as advance:
            advance()
            advance(2)
        assert ("counting" in capsys.readouterr().err) == shown
