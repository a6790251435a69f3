"""Sliding windows: where they lie, what they hold, what they are called."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ndzarr
from helpers.coco_datasets import WARPS, box_lists, films, images, size_lists, targets
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr.errors import TargetError

BORDERS = st.sampled_from(["shift", "pad", "drop"])


def intervals(table, axis):
    centre, size = ("cx", "width") if axis == "x" else ("cy", "height")
    start = (table[centre] - table[size] / 2).to_numpy()
    assert (start == np.round(start)).all()
    return start.astype(int), (start + table[size]).to_numpy().astype(int)


@examples(60)
@given(st.integers(1, 50), st.integers(1, 20), st.data(), BORDERS)
def test_windows_tile_the_extent_with_the_overlap_asked_for(length, size, data, borders):
    overlap = data.draw(st.integers(-size, size - 1))  # below 0 a gap
    table = targets(images([(length, 1)], [])).grid((size, 1), (overlap, 0), keep_borders=borders)
    start, stop = intervals(table, "y")
    assert ((stop - start) == size).all()
    if len(start):
        assert start[0] == 0
        steps = np.diff(start)
        assert (steps[:-1] == size - overlap).all()
        assert (steps <= size - overlap).all()
        assert (steps > 0).all()
    if borders == "drop":
        assert (stop <= length).all()
        assert len(start) == max(0, (length - size) // (size - overlap) + 1 if length >= size else 0)
    else:
        assert stop[-1] >= length + min(overlap, 0)
        assert len(start) == 1 or start[-1] < length
        assert len(start) == 1 or stop[-2] < length  # no window too many
    if borders == "shift":
        assert stop[-1] <= max(length, size)
    if borders == "pad":
        assert (steps == size - overlap).all()


def test_overlap_is_a_fraction_or_pixels_for_one_axis_or_both():
    choose = targets(images([(100, 200)], []))
    for overlap in (-0.5, -20, (-0.5, -20)):
        assert sorted(set(intervals(choose.grid((40, 40), overlap), "y")[0])) == [0, 60]
    for overlap in (0.5, 20, (0.5, 0.5), (20, 0.5)):
        table = choose.grid((40, 40), overlap)
        assert sorted(set(intervals(table, "y")[0])) == [0, 20, 40, 60]
        assert sorted(set(intervals(table, "x")[0])) == [0, 20, 40, 60, 80, 100, 120, 140, 160]
    assert sorted(set(intervals(choose.grid((40, 40), (0, 0.25)), "x")[0])) == [0, 30, 60, 90, 120, 150, 160]
    assert len(choose.grid((3, 3), 0.99)) == 98 * 198  # a step of at least one pixel


def test_full_is_the_extent_of_each_image():
    choose = targets(images([(100, 200), (30, 50)], []))
    whole = choose.grid("full")
    assert whole[["gid", "height", "width", "cx", "cy"]].to_numpy().tolist() == [
        [1, 100, 200, 100, 50],
        [2, 30, 50, 25, 15],
    ]
    strips = choose.grid((10, "full"))
    assert strips.groupby("gid").size().to_dict() == {1: 10, 2: 3}
    assert set(strips.width[strips.gid == 1]) == {200}
    assert choose.grid(("full", "full")).equals(whole)


@examples(60)
@given(size_lists, st.data(), st.tuples(st.integers(1, 20), st.integers(1, 20)), BORDERS)
def test_annotations_of_windows_are_those_that_load_sample_would_find(sizes, data, dims, borders):
    content = images(sizes, data.draw(box_lists(len(sizes))))
    overlap = data.draw(st.integers(0, min(dims) - 1))
    choose = targets(content)
    table = choose.grid(dims, overlap, keep_borders=borders)
    for row in table.itertuples():
        y, x = row.cy - row.height / 2, row.cx - row.width / 2
        rows, _ = choose.source.annotations.touching(row.gid, (y, y + row.height, x, x + row.width))
        assert row.annot_ids == tuple(choose.source.annotations.annot_id[rows].tolist())
        assert row.n_annots == len(row.annot_ids)
        assert row.kind == ("positive" if row.annot_ids else "negative")


@examples(60)
@given(st.data(), st.integers(1, 4), st.tuples(st.integers(6, 20), st.integers(6, 20)), BORDERS)
def test_annotations_of_videos_are_found_where_each_frame_lies(data, time_dims, dims, borders):  # defects 7 and 22
    content = films([(30, 30), (20, 40)], [5, 2], data.draw(box_lists(7)), WARPS)
    choose = targets(content)
    time_overlap = data.draw(st.integers(0, time_dims - 1))
    table = choose.grid(dims, space="video", time_dims=time_dims, time_overlap=time_overlap, keep_borders=borders)
    gids = {1: range(1, 6), 2: range(6, 8)}
    for row in table.itertuples():
        y, x = row.cy - row.height / 2, row.cx - row.width / 2
        found = []
        for t in range(row.time_start, row.time_stop, row.time_step):
            if t < len(gids[row.vidid]):
                warp = np.asarray(WARPS[(gids[row.vidid][t] - 1) % len(WARPS)], float)
                window = (y, y + row.height, x, x + row.width)
                rows, _ = choose.source.annotations.touching(gids[row.vidid][t], window, warp)
                found += choose.source.annotations.annot_id[rows].tolist()
        assert row.annot_ids == tuple(found)
    if borders != "drop":
        for v, n in ((1, 5), (2, 2)):
            mine = table[table.vidid == v]
            frames = {t for a, b in zip(mine.time_start, mine.time_stop, strict=True) for t in range(a, b)}
            assert frames >= set(range(n))


def test_every_annotation_inside_is_in_some_window():
    content = images([(90, 110)], [(1, 1, x, y, 7, 9) for x in range(0, 100, 11) for y in range(0, 80, 13)])
    table = targets(content).grid((32, 32), 0.25)
    assert {a for ids in table.annot_ids for a in ids} == {a["id"] for a in content["annotations"]}


def test_classes_decide_which_windows_are_positive():
    content = images([(10, 40)], [(1, 1, 2, 2, 3, 3), (1, 2, 12, 2, 3, 3), (1, 3, 22, 2, 1, 1), (1, 4, 30, 0, 10, 10)])
    choose = targets(content)

    def kinds(**options):
        return choose.grid((10, 10), **options).kind.tolist()

    assert kinds() == ["positive", "positive", "negative", "negative"]  # 'ignore' and 'background' do not count
    assert kinds(classes_of_interest=["dog"]) == ["negative", "positive", "negative", "negative"]
    assert kinds(classes_of_interest=["DOG", 1]) == ["positive", "positive", "negative", "negative"]
    assert kinds(negative_classes=()) == ["positive"] * 4
    assert kinds(negative_classes=["cat"], ignore_coverage=None) == ["negative", *["positive"] * 3]
    assert choose.grid((10, 10)).annot_ids.tolist() == [(100,), (101,), (102,), (103,)]  # but are named
    with raises(TargetError, key="classes_of_interest", match="did you mean 'dog'"):
        kinds(classes_of_interest=["dg"])


def test_windows_are_ignored_by_what_regions_cover_together():  # ndsampler's defect 22: a shapely function was gone
    regions = [(1, 3, 0, 0, 5, 10), (1, 3, 4, 0, 3, 10), (1, 3, 10, 0, 5, 10), (1, 3, 10, 0, 5, 10), (1, 1, 0, 0, 1, 1)]
    choose = targets(images([(10, 30)], regions))
    table = choose.grid((10, 10), ignore_coverage=0.6)
    np.testing.assert_allclose(table.coverage, [0.7, 0.5, 0])  # the same pixels count once
    assert table.kind.tolist() == ["ignored", "negative", "negative"]
    assert choose.grid((10, 10), ignore_coverage=0.7).kind.tolist() == ["positive", "negative", "negative"]
    assert "coverage" not in choose.grid((10, 10), ignore_coverage=None)
    others = choose.grid((10, 10), negative_classes=["cat"])
    np.testing.assert_allclose(others.coverage, [0.01, 0, 0])


def test_segmentations_of_regions_count_instead_of_their_boxes():
    triangle = [{"exterior": [[0, 0], [10, 0], [0, 10]], "interiors": []}]
    content = images([(10, 10)], [(1, 3, 0, 0, 10, 10)], segmentation=triangle)
    assert targets(content).grid("full").coverage.tolist() == pytest.approx([0.5])
    crossed = images([(10, 10)], [(1, 3, 0, 0, 10, 10)], segmentation=[[0, 0, 10, 10, 10, 0, 0, 10]])
    assert targets(crossed).grid("full").coverage.tolist() == pytest.approx([0.5])  # repaired


def test_coverage_of_a_video_is_the_mean_of_its_frames_in_its_space():
    half = [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]
    content = films([(10, 10)], [2], [(1, 3, 0, 0, 10, 10)], [half])
    content["annotations"][0]["segmentation"] = [[0, 0, 20, 0, 20, 10, 0, 10]]
    assert targets(content).grid("full", space="video").coverage.tolist() == pytest.approx([0.25])


def test_some_images_or_videos_can_be_chosen():
    choose = targets(films([(10, 10), (20, 20)], [1, 1], [(1, 1, 0, 0, 4, 4), (2, 1, 0, 0, 4, 4)]))
    assert choose.grid("full", ids=[2]).annot_ids.tolist() == [(101,)]
    assert choose.grid("full", space="video", ids=[2, 1]).vidid.tolist() == [2, 1]
    with raises(TargetError, key="gid", match="9"):
        choose.grid("full", ids=[9])
    assert targets(images([(5, 5)], [])).grid("full", ids=[]).empty


def test_one_id_or_class_need_not_be_in_a_list():
    choose = targets(images([(10, 10), (20, 20)], [(1, 1, 0, 0, 4, 4), (2, 2, 0, 0, 4, 4)]))
    assert choose.grid("full", ids=2).gid.tolist() == [2]
    for dog in ("dog", 2):
        assert choose.grid("full", classes_of_interest=dog).kind.tolist() == ["negative", "positive"]
        assert choose.positives(classes_of_interest=dog).gid.tolist() == [2]


def test_names_as_image_ids_come_back_as_they_are():  # kwcoco has them for images without annotations
    content = images([(5, 5), (6, 6)], [])
    for image, name in zip(content["images"], ("a", "b"), strict=True):
        image["id"] = name
    table = targets(content).grid("full")
    assert table.gid.tolist() == ["a", "b"]
    assert table.annot_ids.tolist() == [(), ()]


@pytest.mark.parametrize(
    ("key", "option", "wrong"),
    [
        ("window_dims", "window_dims", 5),
        ("window_dims", "window_dims", "half"),
        ("window_dims[1]", "window_dims", (5, 0)),
        ("window_dims[1]", "window_dims", (5, 2.5)),
        ("window_dims[0]", "window_dims", ("half", 5)),
        ("window_dims", "window_dims", (1, 2, 3)),
        ("overlap", "overlap", 1.0),
        ("overlap", "overlap", 8),
        ("overlap", "overlap", -(1 << 40)),
        ("keep_borders", "keep_borders", "clip"),
        ("keep_borders", "keep_borders", None),
        ("ignore_coverage", "ignore_coverage", 2),
        ("ignore_coverage", "ignore_coverage", "half"),
        ("min_fraction", "valid_only", "some"),
        ("time_dims", "time_dims", 2),
        ("space", "space", "film"),
        ("space", "space", "video"),
    ],
)
def test_options_that_are_not_understood_are_named(key, option, wrong):
    with raises(TargetError, key=key):
        targets(images([(20, 20)], [])).grid(**{"window_dims": (8, 8), option: wrong})


@pytest.mark.parametrize("side", [10**7, 2**40])
def test_windows_that_do_not_fit_memory_are_counted_and_refused(side):
    choose = targets(images([(side, side)], []))
    with raises(TargetError, key="window_dims", match=f"{(side // 64) ** 2:,} windows", hint="larger windows"):
        choose.grid((64, 64))


def test_a_dataset_without_images_says_so():
    with raises(TargetError, key="space"):
        targets(images([], [])).grid("full")


def test_the_size_of_an_image_that_does_not_state_it_is_that_of_its_file(tmp_path):
    Image.fromarray(np.zeros((30, 50), np.uint8)).save(tmp_path / "a.png")
    content = images([(1, 1)], [])
    content["images"] = [{"id": 1, "file_name": str(tmp_path / "a.png")}]
    table = ndzarr.CocoSampler(content, tmp_path / "work").targets.grid("full")
    assert table[["height", "width"]].to_numpy().tolist() == [[30, 50]]


def test_windows_that_hold_too_little_data_can_be_left_out(tmp_path):
    pixels = np.ones((20, 60), np.float32)
    pixels[:, :20] = np.nan
    pixels[:15, 20:40] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    content = images([(20, 60)], [(1, 1, 22, 16, 2, 2)])
    content["images"][0]["file_name"] = str(tmp_path / "a.tif")
    choose = ndzarr.CocoSampler(content, tmp_path / "work").targets
    assert choose.grid((20, 20)).cx.tolist() == [10, 30, 50]
    assert choose.grid((20, 20), valid_only=True).cx.tolist() == [30, 50]
    assert choose.grid((20, 20), valid_only=0.5).cx.tolist() == [50]
    assert choose.grid((20, 20), valid_only=True).valid_fraction.tolist() == [0.25, 1]
    assert choose.positives((20, 20), valid_only=0.5, keep_borders="shift").empty


def test_rows_of_videos_load_as_they_are(tmp_path):
    boxes = [(g, 1, 3 * g, 5, 6, 6) for g in range(1, 5)]
    content = films([(24, 32)], [4], boxes, [np.eye(3), [[1, 0, 2], [0, 1, 1], [0, 0, 1]]])
    for image in content["images"]:
        image["file_name"] = str(tmp_path / image["file_name"])
        Image.fromarray(np.full((24, 32), image["id"], np.uint8)).save(image["file_name"])
    sampler = ndzarr.CocoSampler(content, tmp_path / "work")
    options = {"space": "video", "time_dims": 2}
    for table in (
        sampler.targets.grid((10, 12), time_overlap=1, keep_borders="pad", **options),
        sampler.targets.positives(context=2, **options),
        sampler.targets.positives((12, 12), cover=True, **options),
        sampler.targets.negatives(5, (8, 6), **options),
    ):
        for _, row in table.iterrows():
            sample = sampler.load_sample(row)
            assert sample.image.shape == (2, 1, row.height, row.width)
            assert sample.annot_id.values.tolist() == list(row.annot_ids)
            assert sample.x.values[0] == row.cx - row.width / 2 + 0.5
            assert sample.y.values[0] == row.cy - row.height / 2 + 0.5
