"""Pixels that do not count, frames that are replaced, crops that fail, and scaling by statistics."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile

torch = pytest.importorskip("torch")

import ndzarr  # noqa: E402
from helpers.errors import raises  # noqa: E402
from ndzarr.errors import OptionError, SourceError  # noqa: E402
from ndzarr.torch import Blend, CropDataset, Normalisation, Screening, collate, loader  # noqa: E402

FRAMES = 6


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """
    Six frames of two bands, of two sensors in turn, and an image of which the file is missing.

    Half of frame 2 (id) is of one value, frame 3 nearly all NaN in the second band, frame 5 in both.
    """
    folder = tmp_path_factory.mktemp("film")
    rng = np.random.default_rng(0)
    images = []
    for gid in range(1, FRAMES + 1):
        pixels = rng.normal(100 * gid, 10 + gid, (2, 48, 64)).astype(np.float32)
        if gid == 2:
            pixels[0, :, :32] = 7
        if gid in (3, 5):
            pixels[1 if gid == 3 else slice(None), :40] = np.nan
        tifffile.imwrite(folder / f"{gid}.tif", pixels, photometric="minisblack", planarconfig="separate")
        images.append({"id": gid, "video_id": 1, "frame_index": gid, "file_name": str(folder / f"{gid}.tif"),
                       "width": 64, "height": 48, "channels": "a|b", "sensor_coarse": "LS"[gid % 2]})  # fmt: skip
    gone = {"id": 9, "file_name": str(folder / "gone.tif"), "width": 64, "height": 48, "channels": "a|b"}
    videos = [{"id": 1, "name": "v", "width": 64, "height": 48}]
    return ndzarr.CocoSampler({"images": [*images, gone], "videos": videos}, folder / "work")


def test_one_colour_and_missing_bands_are_left_out(film):
    crops = CropDataset(film, [{"gid": 2}, {"gid": 3}], screening=Screening(same_colour=0.2, required=["b"]))
    first, second = crops[0], crops[1]
    assert not first["valid"][:, :32].any()
    assert first["valid"][:, 32:].all()
    assert torch.isnan(first["image"][:, :, :32]).all()
    assert torch.isnan(second["image"][:, :40]).all()  # band a as well, which is there
    assert second["valid"][40:].all()
    other = CropDataset(film, [{"gid": 2}], screening=Screening(same_colour=0.2, colour_channels=["b"]))
    assert other[0]["valid"].all()
    bare = CropDataset(film, [{"gid": 3}], screening=Screening())[0]
    assert bare["valid"].shape == (2, 48, 64)  # the bands differ
    with raises(OptionError, key="required"):
        CropDataset(film, [{"gid": 2}], screening=Screening(required="nir"))[0]
    with raises(OptionError, key="same_colour"):
        Screening(same_colour=2)


def test_a_frame_is_replaced_by_the_nearest_one(film):
    rows = [{"vidid": 1, "time_slice": slice(1, 4)}, {"gids": [5, 6]}]
    crops = CropDataset(film, rows, screening=Screening(min_valid=0.5))
    level = [[round(float(torch.nanmedian(frame[1])) / 100) for frame in crops[k]["image"]] for k in (0, 1)]
    assert level == [[1, 2, 4], [4, 6]]  # 2 3 4 without 3, and 5 6 without 5
    small = CropDataset(film, rows, screening=Screening(min_valid=0.5), keys={"output_dims": (24, 32), "channels": "b"})
    assert small[1]["image"].shape == (2, 1, 24, 32)
    only = [{"vidid": 1}]  # all frames: there is none in place of 3 and 5
    with raises(SourceError, key="min_valid", hint="on_error"):
        CropDataset(film, only, screening=Screening(min_valid=0.5))[0]
    with raises(SourceError, key="min_valid"):
        CropDataset(film, [{"gid": 5}], screening=Screening(min_valid=0.5))[0]
    padded = CropDataset(film, [{"vidid": 1, "time_slice": slice(-1, 2)}], screening=Screening(min_valid=0.5))
    assert padded[0]["image"].shape[0] == 3  # a frame that pads shows nothing, and stays


@pytest.mark.filterwarnings("ignore:crop .* fails:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_crops_that_fail_are_left_out_or_replaced(film, workers):
    rows = pd.DataFrame({"gid": [1, 9, 3, 4, 9, 6]})
    whole = CropDataset(film, rows)
    with raises(ndzarr.NdzarrError, match="gone"):
        collate(whole.__getitems__([0, 1]))
    skipping = CropDataset(film, rows, on_error="skip")
    found = [b["index"].tolist() for b in loader(skipping, 3, shuffle=False, workers=workers)]
    assert found == [[0, 2], [3, 5]]
    assert skipping.failures == 2
    replacing = CropDataset(film, rows, on_error="replace")
    first = [b["index"].tolist() for b in loader(replacing, 3, shuffle=False, workers=workers)]
    assert first == [b["index"].tolist() for b in loader(CropDataset(film, rows, on_error="replace"), 3, shuffle=False)]
    assert [len(batch) for batch in first] == [3, 3]
    assert not {1, 4} & {k for batch in first for k in batch}
    assert replacing.failures >= 2
    mixed = loader(Blend([skipping, CropDataset(film, [{"gid": 2}] * 2)]), 4, shuffle=False, epoch_size=8)
    assert sorted(len(b["index"]) for b in mixed) == [3, 3]


@pytest.mark.filterwarnings("ignore:crop .* fails:UserWarning")
def test_a_batch_of_which_nothing_loads_is_an_error(film):
    for policy in ("skip", "replace"):
        with raises(SourceError, key="on_error"):
            CropDataset(film, [{"gid": 9}] * 2, on_error=policy)[0]
    with raises(OptionError, key="required"):  # not a failure of the data
        CropDataset(film, [{"gid": 1}], on_error="skip", screening=Screening(required="nir"))[0]


def by_sensor(film):
    targets = film.targets
    return {
        sensor: targets.statistics(pd.DataFrame({"gid": targets.query(f"sensor == '{sensor}'")}))
        for sensor in ("S", "L")
    }


def test_channels_are_scaled_by_their_statistics(film):
    stats = film.targets.statistics(pd.DataFrame({"gid": [1, 2, 4, 6]}))
    sample = film.load_sample(gid=4)
    crop = CropDataset(film, [{"gid": 4}], normalise=stats)[0]
    np.testing.assert_allclose(crop["image"], stats.normalise(sample.image).values, rtol=1e-4, atol=1e-5)
    one = CropDataset(film, [{"gid": 4}], normalise=stats, keys={"channels": "b"}, dtype=torch.float16)[0]["image"]
    assert one.dtype == torch.float16
    np.testing.assert_allclose(one[0], crop["image"][1], atol=1e-2)
    outside = {"gid": 4, "cx": 0, "cy": 20, "width": 20, "height": 10}
    padded = CropDataset(film, [outside], normalise=Normalisation(stats, clip=(-1, 1)))[0]["image"]
    assert (padded[:, :, :10] == 0).all()  # missing
    assert padded.abs().max() <= 1


def test_each_sensor_has_its_own_statistics_and_outliers_do_not_count(film):
    stats = by_sensor(film)
    crop = CropDataset(film, [{"vidid": 1}], normalise=Normalisation(stats), keys={"nodata": "float"})[0]
    for t in range(FRAMES):
        mine = stats["L" if t % 2 else "S"]
        raw = film.load_sample(gid=t + 1).image.values
        expected = np.nan_to_num((raw - mine.mean[:, None, None]) / mine.std[:, None, None])
        np.testing.assert_allclose(crop["image"][t], expected, rtol=1e-3, atol=1e-4)
    robust = CropDataset(film, [{"gid": 1}], normalise=Normalisation(stats, robust=True))[0]["image"]
    of_sensor = np.concatenate([film.load_sample(gid=g).image.values[0].ravel() for g in (1, 3, 5)])
    low, middle, high = np.nanquantile(of_sensor, [0.25, 0.5, 0.75])
    raw = film.load_sample(gid=1).image.values[0]
    np.testing.assert_allclose(robust[0], (raw - middle) / ((high - low) / 1.3489795), rtol=0.01, atol=0.01)
    with raises(OptionError, key="normalise", hint="'*'"):
        CropDataset(film, [{"gid": 2}], normalise=Normalisation({"S": stats["S"]}))[0]
    CropDataset(film, [{"gid": 2}], normalise=Normalisation({"S": stats["S"], "*": stats["L"]}))[0]
    few = film.targets.statistics(pd.DataFrame({"gid": [1]}), quantiles=(0.5,))
    with raises(OptionError, key="normalise", hint="quantiles"):
        CropDataset(film, [{"gid": 1}], normalise=Normalisation(few, robust=True))[0]
