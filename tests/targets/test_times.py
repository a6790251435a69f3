"""Frames are those asked for, none twice where possible, and rows load as they are."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.errors import raises
from ndzarr.errors import OptionError, TargetError
from ndzarr.targets.time_sampling import DAY, nearest, parse_kernel
from ndzarr.toydata.sampler import ToySampler

N = 30


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """Videos of 30 and 3 dated frames, every 16 days, one of 5 frames without dates, and a lone image."""
    folder = tmp_path_factory.mktemp("times")
    rng = np.random.default_rng(0)
    images = []

    def frame(gid, video, index, pixels, **more):
        tifffile.imwrite(folder / f"{gid}.tif", pixels)
        images.append(
            {"id": gid, "file_name": str(folder / f"{gid}.tif"), "width": 40, "height": 32, "nodata": 0}
            | ({"video_id": video, "frame_index": index} if video else {})
            | more
        )

    start = np.datetime64("2020-01-01")
    for k in range(N):
        pixels = rng.integers(1, 99, (32, 40), dtype=np.uint8)
        if k in (4, 11, 12):
            pixels[:, :20] = 0  # half of the frame is clouds
        frame(
            k + 1,
            1,
            k,
            pixels,
            date_captured=str(start + np.timedelta64(16 * k, "D")),
            warp_img_to_vid={"offset": [k % 3, 0]},
        )
    for k in range(3):
        frame(101 + k, 2, k, np.ones((32, 40), np.uint8), date_captured=str(start + np.timedelta64(40 * k, "D")))
    for k in range(5):
        frame(201 + k, 3, k, np.ones((32, 40), np.uint8))
    frame(300, None, 0, np.ones((32, 40), np.uint8))
    videos = [{"id": v, "name": f"v{v}", "width": 44, "height": 32} for v in (1, 2, 3)]
    return ndzarr.CocoSampler({"videos": videos, "images": images}, tmp_path_factory.mktemp("work"))


def of(table, vidid=1):
    return table[table.vidid == vidid].gids.tolist()


def test_dates_limit_the_frames(sampler):
    first = pd.DataFrame({"vidid": [1, 2]})
    table = sampler.targets.times(first, start="2020-02", stop=np.datetime64("2020-04-01"))
    assert of(table) == [[3, 4, 5, 6]]  # every 16 days from 1 January on: 2 and 18 February, 5 and 21 March
    assert of(table, 2) == [[102, 103]]  # 10 February, 21 March
    assert of(sampler.targets.times(first, start="2021-03")) == [[28, 29, 30]]
    assert of(sampler.targets.times(first, stop="2020-01-17"))[0] == [1]  # the day of the second
    assert of(sampler.targets.times(first, stop="2020-01-17T02:00+01:00"))[0] == [1, 2]
    assert len(sampler.targets.times(first, start="2022")) == 0
    assert of(sampler.targets.times(first, n=2, start="2020-02", stop="2020-04")) == [[3, 4], [5, 6]]
    around = sampler.targets.times(first, kernel="-1f,0", start="2020-02", stop="2020-04", main="each")
    assert {g for gids in of(around) for g in gids} == {3, 4, 5, 6}
    assert sampler.load_sample(table.iloc[0]).sizes["t"] == 4


def test_all_frames_are_taken_unless_they_show_too_little(sampler):
    assert of(sampler.targets.times()) == [list(range(1, 31))]
    left = pd.DataFrame({"vidid": [1], "cx": [8.0], "cy": [16.0], "width": [12], "height": [20]})
    table = sampler.targets.times(left, min_quality=0.5, exclude=[1], always=[5])
    assert of(table) == [[g for g in range(2, 31) if g not in (12, 13)]]
    assert table.quality.tolist() == [0.0]  # that of frame 5, which is always taken


@pytest.mark.parametrize(
    ("options", "key"),
    [({"start": "May"}, "start"), ({"stop": 2021}, "stop"), ({"start": "2021", "stop": "2020"}, "stop"),
     ({"method": "all", "n": 3}, "n"), ({"start": "2020"}, "start")],
)  # fmt: skip
def test_dates_that_are_not_understood_or_missing_are_named(sampler, options, key):
    with raises(TargetError, key=key):
        sampler.targets.times(**options)  # the last: frames of the third video have no dates


def test_contiguous_frames_slide_along_the_video(sampler):
    table = sampler.targets.times(n=8)
    assert of(table) == [list(range(a, a + 8)) for a in (1, 9, 17, 23)]  # the last one ends with the video
    assert of(sampler.targets.times(n=8, overlap=4))[:3] == [list(range(a, a + 8)) for a in (1, 5, 9)]
    assert of(table, 3) == [[201, 202, 203, 204, 205]]
    for k in range(len(table)):
        sample = sampler.load_sample(table.iloc[k], with_annots=False)
        assert sample.sizes["t"] == 8  # padded where the video is shorter
        assert sample.gid.values[: len(table.gids[k])].tolist() == table.gids[k]


def test_strided_frames_skip_some(sampler):
    table = sampler.targets.times(n=4, step=5)
    assert of(table) == [[1, 6, 11, 16], [15, 20, 25, 30]]
    row = table.iloc[1]
    assert (row.time_start, row.time_stop, row.time_step) == (14, 30, 5)
    assert sampler.load_sample(row).gid.values.tolist() == [15, 20, 25, 30]
    assert of(sampler.targets.times(n=3, method="strided"))[0] == [1, 3, 5]


def test_a_kernel_takes_the_frames_nearest_to_its_moments(sampler):
    table = sampler.targets.times(kernel="-160d,-16d,0,16d,160d", main=[15])
    assert of(table) == [[5, 14, 15, 16, 25]]
    assert table.note_main.tolist() == [15]
    table = sampler.targets.times([{"vidid": 1}], kernel="-1y,-2w,0,2w,1y", main="middle")
    assert of(table) == [[1, 15, 16, 17, 30]]
    assert of(sampler.targets.times(kernel=[timedelta(days=-32), 0, "32d"], main=[10])) == [[8, 10, 12]]
    assert of(sampler.targets.times(kernel="-2f,0,3f", main=[203]), 3) == [[201, 203, 205]]
    assert len(sampler.targets.times(kernel="0,1f")) == N + 3 + 5  # each frame is a main frame in turn


def test_no_frame_comes_twice_while_there_are_others(sampler):
    table = sampler.targets.times([{"vidid": 1}, {"vidid": 2}], kernel="-1d,0,1d,2d,3d")
    of_long = of(table)
    assert all(len(set(g)) == 5 for g in of_long)
    assert all(max(g) - min(g) == 4 for g in of_long)
    short = of(table, 2)
    assert all(set(g) == {101, 102, 103} and len(g) == 5 for g in short)


def test_frames_are_spread_over_a_span(sampler):
    assert of(sampler.targets.times(n=4, method="spread")) == [[1, 11, 20, 30]] or of(
        sampler.targets.times(n=4, method="spread")
    ) == [[1, 10, 20, 30]]
    [gids] = of(sampler.targets.times(n=3, span="64d", main=[15]))
    assert gids == [13, 15, 17]
    [gids] = of(sampler.targets.times(n=3, span="64d", main=[1]))  # moved into the video
    assert gids == [1, 3, 5]
    assert of(sampler.targets.times(n=3, span="4f", main=[15])) == [[13, 15, 17]]
    assert of(sampler.targets.times(n=1, method="spread"), 3) == [[203]]


def test_frames_around_a_main_frame(sampler):
    assert of(sampler.targets.times(n=5, method="around", main=[15])) == [[13, 14, 15, 16, 17]]
    assert of(sampler.targets.times(n=4, method="around", main="first")) == [[1, 2, 3, 4]]
    assert of(sampler.targets.times(n=4, method="around", main="last")) == [[27, 28, 29, 30]]
    assert of(sampler.targets.times(n=5, main=[2])) == [[1, 2, 3, 4, 5]]
    assert of(sampler.targets.times(n=5, main=[20])) == [[18, 19, 20, 21, 22]]
    random = sampler.targets.times(n=5, main="random", seed=1)
    assert random.equals(sampler.targets.times(n=5, main="random", seed=1))
    assert len({tuple(sampler.targets.times(n=5, main="random", seed=k).note_main) for k in range(5)}) > 1


def test_rows_of_images_move_to_video_space_with_their_frame_as_main(sampler):
    rows = pd.DataFrame({"gid": [3, 20, 101], "cx": 12, "cy": 16, "width": 8, "height": 6, "kind": "positive"})
    table = sampler.targets.times(rows, kernel="-16d,0,16d")
    assert table.vidid.tolist() == [1, 1, 2]
    assert table.note_main.tolist() == [3, 20, 101]
    assert table.gids.tolist()[:2] == [[2, 3, 4], [19, 20, 21]]
    assert table.cx.tolist() == [14, 13, 12]  # warp_img_to_vid
    assert table.kind.tolist() == ["positive"] * 3
    for k, gid in enumerate([3, 20]):
        sample = sampler.load_sample(table.iloc[k], with_annots=False)
        alone = sampler.load_sample(rows.iloc[k], with_annots=False)
        assert np.array_equal(sample.image.values[table.gids[k].index(gid)], alone.image.values)


def test_rows_of_videos_are_expanded(sampler):
    rows = pd.DataFrame({"vidid": [3, 1], "cx": [9.0, 20], "cy": 8.5, "width": 5, "height": 5, "note_k": [0, 1]})
    table = sampler.targets.times(rows, n=2, overlap=1)
    assert table.note_k.tolist() == [0] * 4 + [1] * 29
    assert table.gids.tolist()[:4] == [[201, 202], [202, 203], [203, 204], [204, 205]]
    assert sampler.load_sample(table.iloc[0]).image.shape == (2, 1, 5, 5)


def test_rows_name_what_their_frames_hold_and_not_what_one_image_held():
    sampler = ToySampler(n=2, size=(64, 96), frames=5, seed=3)
    for options in ({"kernel": "-1f,0,2f"}, {"n": 3}, {"n": 5, "method": "spread"}):
        table = sampler.targets.times(sampler.targets.grid((32, 32), 0.25), **options)
        assert (table.n_annots > 0).sum() > 10
        for _, row in table.iloc[::7].iterrows():
            sample = sampler.load_sample(row)
            assert row.annot_ids == tuple(dict.fromkeys(sample.annot_id.values.tolist()))
            assert row.n_annots == len(row.annot_ids)


def test_annotations_as_targets_keep_their_id(tmp_path):
    content = {
        "videos": [{"id": 1, "name": "v", "width": 60, "height": 50}],
        "images": [{"id": g, "file_name": f"{g}.png", "width": 60, "height": 50, "video_id": 1, "frame_index": g}
                   for g in (1, 2, 3)],
        "categories": [{"id": 1, "name": "boat"}],
        "annotations": [{"id": 7, "image_id": 2, "category_id": 1, "bbox": [10, 20, 8, 6]}],
    }  # fmt: skip
    table = ndzarr.CocoSampler(content, tmp_path).targets.times([{"aid": 7}], n=3, method="around")
    row = table.iloc[0]
    assert row.gids == [1, 2, 3]
    assert row.annot_ids == [7]
    assert (row.cx, row.cy, row.width, row.height) == (14, 23, 8, 6)


def test_include_exclude_and_always(sampler):
    assert of(sampler.targets.times(n=3, exclude=[2]))[0] == [1, 3, 4]
    first = sampler.targets.times(n=3, exclude=[2]).iloc[0]
    assert pd.isna(first.time_start)
    assert sampler.load_sample(first).gid.values.tolist() == [1, 3, 4]
    assert of(sampler.targets.times(n=3, include=range(5, 9))) == [[5, 6, 7], [6, 7, 8]]
    assert of(sampler.targets.times(n=3, include=[5, 9]), 2) == []
    assert of(sampler.targets.times(kernel="-16d,0,16d", main=[15], exclude=[14])) == [[13, 15, 16]]
    assert of(sampler.targets.times(kernel="-16d,0,16d", main=[15], exclude=[15])) == []
    assert of(sampler.targets.times(kernel="-16d,0,16d", main=[15], always=[1])) == [[1, 15, 16]]
    assert all(30 in g for g in of(sampler.targets.times(n=4, always=[30])))


def test_bad_frames_are_replaced_by_good_ones(sampler):
    kernel = {"kernel": "-16d,0,16d"}
    plain = sampler.targets.times(main=[6, 15, 13], **kernel)
    assert of(plain) == [[5, 6, 7], [12, 13, 14], [14, 15, 16]]
    good = sampler.targets.times(main=[6, 15], min_quality=0.9, **kernel)
    assert of(good) == [[4, 6, 7], [14, 15, 16]]
    assert (good.quality >= 0.9).all()
    # What counts is the window: its right half is clear.
    clear = pd.DataFrame({"vidid": [1], "cx": 34.0, "cy": 16.0, "width": 10, "height": 10})
    table = sampler.targets.times(clear, main=[6], min_quality=0.9, **kernel)
    assert of(table) == [[5, 6, 7]]
    slid = sampler.targets.times(n=5, min_quality=0.9)
    assert not {5, 12, 13} & set(np.ravel(of(slid)))
    assert all(len(set(g)) == 5 for g in of(slid))
    each = sampler.targets.times([{"vidid": 1}], min_quality=0.9, **kernel)
    assert not {5, 12, 13} & set(each[each.vidid == 1].note_main)


def test_where_no_good_frames_are_left_the_others_fill_up_and_it_is_said(sampler):
    table = sampler.targets.times(n=3, include=[4, 5, 12], min_quality=0.9)
    assert of(table) == [[4, 5, 12]]
    assert table.quality[0] == pytest.approx(0.5, abs=0.1)


def test_quality_may_come_from_a_band(tmp_path):
    images = []
    for g in (1, 2, 3):
        band = np.full((20, 24), 4, np.uint8)
        band[: 10 * (g == 2)] = 9
        tifffile.imwrite(tmp_path / f"q{g}.tif", band)
        tifffile.imwrite(tmp_path / f"r{g}.tif", np.full((20, 24), g, np.uint8))
        assets = [{"file_name": str(tmp_path / f"{n}{g}.tif"), "channels": n, "width": 24, "height": 20} for n in "rq"]
        images.append({"id": g, "file_name": None, "width": 24, "height": 20, "video_id": 1, "frame_index": g,
                       "assets": assets})  # fmt: skip
    sampler = ndzarr.CocoSampler({"videos": [{"id": 1, "name": "v", "width": 24, "height": 20}], "images": images},
                                 tmp_path)  # fmt: skip
    for max_pixels in (None, 60):
        table = sampler.targets.times(
            n=2, min_quality=0.8, quality_channels="q", good=lambda values: values == 4, max_pixels=max_pixels
        )
        assert table.gids.tolist()[0] == [1, 3]
        assert table.quality.tolist()[0] == 1.0
    with raises(OptionError, key="good"):
        sampler.targets.times(n=2, quality_channels="q", good=lambda values: True)


def test_kernels_are_read_as_people_write_them():
    assert parse_kernel("-1y,-2w,0,2w,1y").values == (-365.25 * DAY, -14 * DAY, 0, 14 * DAY, 365.25 * DAY)
    assert parse_kernel("1h, 2 min, 3s, 4ms").values == (3600, 120, 3, 0.004)
    assert parse_kernel("6 months").values[0] == pytest.approx(182.625 * DAY)
    assert parse_kernel([np.timedelta64(1, "D"), 0.5, pd.Timedelta("2h")]).values == (DAY, 0.5, 7200)
    assert parse_kernel("-3f,0").in_frames
    for wrong in ("", "next", None, []):
        with raises(TargetError, key="kernel"):
            parse_kernel(wrong)
    for wrong, hint in {"5m": "mo for months", "1f,2d": "one of them"}.items():
        with raises(TargetError, key="kernel", hint=hint):
            parse_kernel(wrong)


def test_what_does_not_fit_is_refused(sampler):
    refused = [
        ("gid", {"table": [{"gid": 300}], "n": 2}),
        ("vidid", {"kernel": "-1d,0", "main": [203]}),
        ("method", {"n": 3, "method": "strode"}),
        ("step", {"n": 3, "method": "around", "step": 2}),
        ("n", {"method": "spread"}),
        ("main", {"main": "first"}),
        ("n", {"kernel": "-1d,0,1d", "n": 4}),
        ("kernel", {"method": "kernel"}),
        ("n", {"n": 3, "overlap": 3}),
        ("span", {"n": 3, "span": "1d,2d"}),
        ("span", {"n": 3, "span": "long"}),
        ("main", {"n": 3, "method": "around", "main": "centre"}),
        ("min_quality", {"n": 3, "min_quality": 40}),
        ("always", {"n": 1, "always": [1, 2]}),
    ]
    for key, arguments in refused:
        with raises(TargetError, key=key):
            sampler.targets.times(**arguments)


def test_images_that_do_not_exist_are_named_and_not_left_out_without_a_word(sampler):
    for option in ("main", "include", "exclude", "always"):
        with raises(TargetError, key=option, match="999"):
            sampler.targets.times(n=3, method="around", **{option: [1, 999]})
    assert of(sampler.targets.times(n=2, method="around", main=5)) == of(
        sampler.targets.times(n=2, method="around", main=[5])
    )
    with raises(TargetError, key="good"):
        sampler.targets.times(n=2, good=3)


def test_empty_tables_stay_empty(sampler):
    rows = pd.DataFrame({"gid": [3], "cx": 12, "cy": 16, "width": 8, "height": 6})[:0]
    table = sampler.targets.times(rows, n=3)
    assert len(table) == 0
    assert {"vidid", "gids", "cx", "cy", "width", "height"} <= set(table)


@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 50), st.booleans(), st.floats(0, 1))
def test_choices_keep_their_promises(frames, slots, seed, with_quality, least):
    rng = np.random.default_rng(seed)
    moments = np.sort(rng.uniform(0, 100, frames))
    allowed = rng.random(frames) < 0.8
    allowed[rng.integers(frames)] = True
    there = np.flatnonzero(allowed)
    rows = 6
    main = np.where(rng.random(rows) < 0.5, there[rng.integers(len(there), size=rows)], -1)
    wanted = rng.uniform(-20, 120, (rows, slots))
    quality = rng.random((rows, frames)) if with_quality else None
    chosen = nearest(moments, wanted, allowed, main, (), quality, least)
    assert chosen.shape == (rows, slots)
    assert (np.diff(chosen, axis=1) >= 0).all()
    assert allowed[chosen].all()
    for k in range(rows):
        assert len(set(chosen[k])) == min(slots, len(there))
        assert main[k] < 0 or main[k] in chosen[k]
        if quality is not None and main[k] < 0:
            good = [f for f in there if quality[k, f] >= least]
            assert len(set(good) & set(chosen[k])) == min(slots, len(good))
    if slots == 1 and quality is None:
        free = main < 0
        gaps = np.abs(moments[there][None] - wanted[free])
        assert np.abs(moments[chosen[free, 0]] - wanted[free, 0]) == pytest.approx(gaps.min(axis=1))


def test_frames_of_a_video_file_have_its_seconds(tmp_path):
    pytest.importorskip("av")
    from helpers.video_clips import encode

    encode(tmp_path / "clip.mkv", "mpeg4", 12, ticks=[0, 40, 80, 500, 540, 580, 1000, 1040, 1080, 1500, 1540, 1580])
    video = {"id": 1, "name": "clip", "file_name": str(tmp_path / "clip.mkv"), "width": 160, "height": 64}
    images = [{"id": k + 1, "name": str(k), "file_name": None, "video_id": 1, "frame_index": k, "width": 160,
               "height": 64} for k in range(12)]  # fmt: skip
    sampler = ndzarr.CocoSampler({"videos": [video], "images": images}, tmp_path)
    table = sampler.targets.times(kernel="-0.5s,0,0.5s", main=[5])
    assert of(table) == [[2, 5, 8]]
    assert sampler.load_sample(table.iloc[0]).t.values == pytest.approx([0.04, 0.54, 1.04])


def test_frames_without_dates_use_the_rate_of_their_video(tmp_path):
    images = [{"id": k + 1, "file_name": f"{k}.png", "video_id": 1, "frame_index": 2 * k, "width": 9, "height": 9}
              for k in range(9)]  # fmt: skip
    content = {"videos": [{"id": 1, "name": "v", "fps": 10, "width": 9, "height": 9}], "images": images}
    table = ndzarr.CocoSampler(content, tmp_path).targets.times(kernel="-400ms,0,200ms", main=[5])
    assert of(table) == [[3, 5, 6]]
