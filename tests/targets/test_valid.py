"""Valid fractions are those of the pixels that load_sample returns, and thresholds are kept."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.errors import raises
from ndzarr.errors import TargetError
from ndzarr.targets.valid import Mask


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """A video of two frames, the second shifted, an image of floats with NaN, and one that has no missing pixels."""
    folder = tmp_path_factory.mktemp("valid")
    rng = np.random.default_rng(0)
    images = []
    for gid in (1, 2, 3):
        pixels = rng.integers(1, 255, (301, 260), dtype=np.uint16)
        pixels[:150, : 60 * gid] = 0
        pixels[rng.random(pixels.shape) < 0.01] = 0
        tifffile.imwrite(folder / f"{gid}.tif", pixels)
        images.append({"id": gid, "file_name": str(folder / f"{gid}.tif"), "width": 260, "height": 301, "nodata": 0})
    images[0] |= {"video_id": 1, "frame_index": 0}
    images[1] |= {"video_id": 1, "frame_index": 1, "warp_img_to_vid": {"offset": [30, -20]}}
    floats = rng.random((200, 220)).astype(np.float32)
    floats[50:120, 40:90] = np.nan
    tifffile.imwrite(folder / "4.tif", floats)
    tifffile.imwrite(folder / "5.tif", rng.integers(0, 255, (100, 120), dtype=np.uint8))
    images.append({"id": 4, "file_name": str(folder / "4.tif"), "width": 220, "height": 200})
    images.append({"id": 5, "file_name": str(folder / "5.tif"), "width": 120, "height": 100})
    content = {"images": images, "videos": [{"id": 1, "name": "v", "width": 260, "height": 301}]}
    return ndzarr.CocoSampler(content, tmp_path_factory.mktemp("work"))


def windows(n, seed=0, **columns):
    rng = np.random.default_rng(seed)
    sizes = {"width": rng.uniform(1, 70, n), "height": rng.uniform(1, 70, n)}
    return pd.DataFrame(columns | {"cx": rng.uniform(-20, 280, n), "cy": rng.uniform(-20, 320, n)} | sizes)


def loaded(sampler, table):
    """Fractions as `load_sample` finds them."""
    out = []
    for k in range(len(table)):
        valid = sampler.load_sample(table.iloc[k], nodata="ma", with_annots=False).valid
        out.append(float(valid.mean()))
    return np.array(out)


def test_fractions_are_those_of_loaded_samples(sampler):
    table = windows(60, gid=np.tile([1, 3, 4, 5], 15))
    assert sampler.targets.valid_fraction(table) == pytest.approx(loaded(sampler, table))


def test_windows_of_videos_have_the_mean_of_their_frames(sampler):
    table = windows(20, 1, vidid=1)
    assert sampler.targets.valid_fraction(table) == pytest.approx(loaded(sampler, table))
    table = windows(20, 2, gids=[[2], [1, 2]] * 10)
    assert sampler.targets.valid_fraction(table) == pytest.approx(loaded(sampler, table))
    table = windows(20, 3, vidid=1, time_start=[-1, 0] * 10, time_stop=[1, 4] * 10)
    assert sampler.targets.valid_fraction(table) == pytest.approx(loaded(sampler, table))


def test_windows_are_understood_however_they_are_written(sampler):
    table = pd.DataFrame(
        [
            {"gid": 1},
            {"gid": 1, "cx": 60.5, "cy": 80.0, "width": 33.2, "height": 20},
            {"gid": 3, "width": 100, "height": 90},
            {"gid": 3, "space_slice": (slice(100, 180), slice(-5, 60))},
            {"image_id": 4, "window_dims": (64, 64), "cx": 60, "cy": 70},
            {"vidid": 1, "time_slice": slice(0, 1), "pad": (7, 7), "cx": 40, "cy": 140, "width": 30, "height": 30},
        ]
    )
    assert sampler.targets.valid_fraction(table) == pytest.approx(loaded(sampler, table))


def test_coarse_levels_are_off_by_their_pixels_only(sampler):
    table = windows(300, 5, gid=4)
    table[["width", "height"]] = 64.0
    exact = sampler.targets.valid_fraction(table, max_pixels=None)
    coarse = sampler.targets.valid_fraction(table, max_pixels=200 * 220 // 16)
    # NaN of 70 x 50 pixels, and level 2: its border is known to 4 pixels.
    assert np.abs(coarse - exact).max() < 4 * (64 + 64) / 64**2
    assert np.abs(coarse - exact).mean() < 0.02


def test_images_without_missing_pixels_are_not_read(tmp_path):
    missing = {"id": 1, "file_name": "nowhere.png", "width": 64, "height": 64, "channels": "r"}
    sampler = ndzarr.CocoSampler({"images": [missing]}, tmp_path)
    with pytest.raises(ndzarr.NdzarrError):  # the type of its pixels must be known
        sampler.targets.valid_fraction([{"gid": 1}])


def test_the_threshold_is_kept_and_explained(sampler):
    table = windows(200, 6, gid=1).assign(note_row=range(200))
    kept = sampler.targets.valid(table, 0.6)
    assert 0 < len(kept) < 200
    assert (kept.valid_fraction >= 0.6).all()
    dropped = table[~table.note_row.isin(kept.note_row)]
    assert (sampler.targets.valid_fraction(dropped) < 0.6).all()
    assert len(sampler.targets.valid(table, 0.0)) == 200
    with raises(TargetError, key="min_fraction"):
        sampler.targets.valid(table, 60)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A slide of 0.5 µm pixels with two pieces of tissue on glass, and the same of 1 µm; (sampler, tissue (y, x))."""
    folder = tmp_path_factory.mktemp("slide")
    y, x = np.mgrid[:384, :512]
    tissue = ((y - 120) ** 2 + (x - 150) ** 2 < 90**2) | ((y - 250) ** 2 + (x - 400) ** 2 < 70**2)
    pixels = np.full((384, 512, 3), 235, np.uint8)
    pixels[tissue] = 180, 60, 140
    images = []
    for gid, size in ((1, 0.5), (2, 1.0)):
        path = folder / f"{gid}.ome.tif"
        about = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeY": size}
        tifffile.imwrite(path, pixels, ome=True, tile=(128, 128), photometric="rgb", metadata=about)
        images.append({"id": gid, "file_name": str(path), "width": 512, "height": 384, "channels": "r|g|b"})
    return ndzarr.CocoSampler({"images": images}, folder / "work"), tissue


def saturated(image):
    """True where a colour image (c, y, x) is more saturated than by Otsu's threshold."""
    saturation = image.max(axis=0) - image.min(axis=0)
    threshold, _ = cv2.threshold(saturation, 0, 255, cv2.THRESH_OTSU)
    return saturation > threshold


def test_a_mask_decides_where_windows_are(slide):
    sampler, tissue = slide
    table = sampler.targets.grid((64, 64), overlap=0.5)
    y, x = ((table[c] - 32).astype(int) for c in ("cy", "cx"))
    exact = np.array([tissue[a : a + 64, b : b + 64].mean() for a, b in zip(y, x, strict=True)])
    assert sampler.targets.valid_fraction(table, mask=saturated) == pytest.approx(exact)
    coarse = sampler.targets.valid_fraction(table, 384 * 512 // 16, mask=saturated)
    assert 0 < np.abs(coarse - exact).max() < 0.1
    labels = {1: tissue[::4, ::4] * 7, 2: tissue.astype("u1")}  # of any size, as arrays, files or pyramids
    by_labels = sampler.targets.valid_fraction(table, mask=labels)
    assert by_labels[table.gid == 2] == pytest.approx(exact[table.gid == 2])
    assert np.abs(by_labels - exact).max() < 0.1
    kept = sampler.targets.valid(table, 0.5, mask=saturated)
    assert len(kept) == (exact >= 0.5).sum()


def test_grids_positives_and_negatives_keep_to_a_mask(slide):
    sampler, tissue = slide
    annotations = [{"id": k, "image_id": 1, "category_id": 1, "bbox": [x, y, 20, 20]}
                   for k, (x, y) in enumerate([(140, 110), (470, 10), (390, 240)], 1)]  # fmt: skip
    content = {**sampler.dset.dataset, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    choose = ndzarr.CocoSampler(content, sampler.workdir).targets
    by_label = {1: tissue, 2: tissue}
    grid = choose.grid((64, 64), mask=by_label, valid_only=0.5)
    assert grid.index.tolist() == list(range(len(grid)))
    assert len(grid) == len(choose.valid(choose.grid((64, 64)), 0.5, mask=by_label)) > 0
    assert choose.positives((32, 32), mask=saturated).aid.tolist() == [1, 3]
    drawn = choose.negatives(60, (32, 32), mask=by_label, valid_only=0.5, seed=3)
    assert len(drawn) == 60
    assert (choose.valid_fraction(drawn, mask=by_label) >= 0.5).all()
    assert set(drawn.gid) == {1, 2}
    assert (drawn.n_annots == 0).all()
    assert drawn.equals(choose.negatives(60, (32, 32), mask=by_label, valid_only=0.5, seed=3))
    with raises(TargetError, key="mask", hint="smaller"):
        choose.negatives(1, (32, 32), mask={1: tissue & False, 2: tissue & False})


def test_label_images_are_files_too_and_lie_in_the_space_of_a_video(slide, tmp_path):
    sampler, tissue = slide
    tifffile.imwrite(tmp_path / "tissue.tif", tissue.astype("u1"))
    files = {1: tmp_path / "tissue.tif", 2: ndzarr.transcode(tissue.astype("u1"), tmp_path / "t.zarr", kind="labels")}
    table = windows(40, gid=np.tile([1, 2], 20))
    expected = sampler.targets.valid_fraction(table, mask=dict.fromkeys((1, 2), tissue))
    assert sampler.targets.valid_fraction(table, mask=files) == pytest.approx(expected)
    images = [{**sampler.dset.index.imgs[1], "video_id": 1, "frame_index": 0, "warp_img_to_vid": {"scale": 0.5}}]
    film = ndzarr.CocoSampler(
        {"images": images, "videos": [{"id": 1, "name": "v", "width": 256, "height": 192}]}, tmp_path
    )
    mine = table[table.gid == 1]
    halved = mine[["cx", "cy", "width", "height"]].apply(np.rint).astype(int) * 2
    whole = sampler.targets.valid_fraction(halved.assign(gid=1), mask={1: tissue})
    inside = film.targets.valid_fraction((halved // 2).assign(vidid=1), mask={1: tissue})
    assert np.abs(inside - whole).max() < 0.1


def test_windows_of_a_physical_size_are_drawn_in_a_mask(slide):
    sampler, tissue = slide
    table = sampler.targets.observed(40, "32 um", 0.8, mask=saturated, resolution="1 um")
    assert table.groupby("gid").width.unique().map(list).to_dict() == {1: [64], 2: [32]}
    assert set(table.output_dims) == {(32, 32)}
    assert (sampler.targets.valid_fraction(table, mask={1: tissue, 2: tissue}) >= 0.75).all()
    assert sampler.load_batch(table).image.shape == (40, 3, 32, 32)


@pytest.mark.parametrize("wrong", [1, "tissue", {1: np.zeros(3)}, lambda image: image[:, 0], {2: np.zeros((3, 3))}])
def test_masks_that_are_none_are_named(slide, wrong):
    with raises(ndzarr.NdzarrError, key="mask"):
        slide[0].targets.valid([{"gid": 1}], mask=wrong)


def test_rows_may_ask_for_channels(tmp_path):
    for name in "ab":
        pixels = np.ones((40, 50), np.uint8)
        pixels[:20] = 0 if name == "a" else 1
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
    assets = [{"file_name": str(tmp_path / f"{c}.tif"), "channels": c, "nodata": 0, "width": 50, "height": 40}
              for c in "ab"]  # fmt: skip
    sampler = ndzarr.CocoSampler(
        {"images": [{"id": 1, "file_name": None, "width": 50, "height": 40, "assets": assets}]}, tmp_path
    )
    table = pd.DataFrame({"gid": 1, "channels": ["a", "b", None, "a|b"]})
    assert sampler.targets.valid_fraction(table).tolist() == [0.5, 1.0, 0.5, 0.5]
    assert sampler.targets.valid_fraction(table, channels="b").tolist() == [1.0] * 4


def test_an_empty_table_has_no_fractions(sampler):
    assert sampler.targets.valid_fraction(windows(0, gid=1)).shape == (0,)


def test_rows_that_name_nothing_are_refused(sampler):
    with raises(TargetError, key="gid", match="99"):
        sampler.targets.valid_fraction([{"gid": 99}])
    with raises(TargetError, key="gid", match="one of"):
        sampler.targets.valid_fraction([{"cx": 3, "cy": 3, "width": 2, "height": 2}])


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_summed_areas_are_means_of_the_mask(height, width, factor, seed):
    rng = np.random.default_rng(seed)
    shape = -(-height // factor), -(-width // factor)
    real = rng.random(shape) < 0.6
    fine = np.kron(real, np.ones((factor, factor)))[:height, :width]
    mask = Mask.of(real, (height, width), factor)
    y, x = (np.sort(rng.integers(-9, n + 9, (30, 2)), axis=1) + np.array([0, 1]) for n in (height, width))
    padded = np.pad(fine, 60)
    wanted = [padded[a + 60 : b + 60, c + 60 : d + 60].mean() for (a, b), (c, d) in zip(y, x, strict=True)]
    assert mask.fraction(y, x) == pytest.approx(wanted)


def test_windows_are_drawn_where_data_are(sampler):
    drawn = sampler.targets.observed(200, (32, 40), min_fraction=0.9, seed=1)
    assert len(drawn) == 200
    assert set(drawn.gid) == {1, 2, 3, 4, 5}
    assert drawn.valid_fraction.min() >= 0.9
    assert drawn.valid_fraction.to_numpy() == pytest.approx(sampler.targets.valid_fraction(drawn))
    assert not drawn.duplicated().any()
    sizes = {1: (301, 260), 2: (301, 260), 3: (301, 260), 4: (200, 220), 5: (100, 120)}
    for row in drawn.itertuples():
        height, width = sizes[row.gid]
        assert 16 <= row.cy <= height - 16
        assert 20 <= row.cx <= width - 20
    pd.testing.assert_frame_equal(drawn, sampler.targets.observed(200, (32, 40), min_fraction=0.9, seed=1))
    assert not drawn.equals(sampler.targets.observed(200, (32, 40), min_fraction=0.9, seed=2))


def test_every_allowed_position_may_be_drawn(sampler):
    drawn = sampler.targets.observed(5000, (301, 259), min_fraction=0.0)
    assert set(drawn.gid) == {1, 2, 3}
    assert set(zip(drawn.gid, drawn.cx, strict=True)) == {(g, c) for g in (1, 2, 3) for c in (129.5, 130.5)}
    assert drawn.groupby(["gid", "cx"]).size().max() - drawn.groupby(["gid", "cx"]).size().min() <= 1


def test_no_room_is_said(sampler):
    with raises(TargetError, key="min_fraction", match="500 x 500"):
        sampler.targets.observed(3, (500, 500))
    assert len(sampler.targets.observed(0, (500, 500))) == 0


def test_options_that_are_not_understood_say_what_was_expected(sampler):
    for key, wrong in [
        ("n", 2.5),
        ("window_dims", 64),
        ("window_dims", "square"),
        ("window_dims", (8.5, 8)),
        ("min_fraction", 2),
    ]:
        with raises(TargetError, key=key):
            sampler.targets.observed(**{"n": 3, "window_dims": (8, 8), key: wrong})
