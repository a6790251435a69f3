"""Windows without annotations: the promise, the sizes, the chances, and what is said where there is no room."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.coco_datasets import WARPS, box_lists, films, images, scattered, size_lists, targets
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from helpers.subprocesses import environment
from ndzarr.errors import OptionError, TargetError
from ndzarr.targets.negatives import FreePositions, OverlapLimit, Proposals
from ndzarr.targets.overlaps import BoxIndex, fraction
from ndzarr.targets.windows import boxes_of, spaces_of

SOME = examples(60)
POINT = 1e-9
CRITERIA = ["window", "annotation", "iou"]


def shares(windows, boxes, criterion):
    """Fractions by the textbook: windows (n, 4) and boxes (m, 4), both y0 y1 x0 x1."""
    windows, boxes = np.asarray(windows, float)[:, None], np.asarray(boxes, float)[None]
    height, width = (
        np.maximum(np.minimum(windows[..., k + 1], boxes[..., k + 1]) - np.maximum(windows[..., k], boxes[..., k]), 0)
        for k in (0, 2)
    )
    area = [(a[..., 1] - a[..., 0]) * (a[..., 3] - a[..., 2]) for a in (windows, boxes)]
    shared = height * width
    whole = {"window": area[0], "annotation": area[1], "iou": area[0] + area[1] - shared}[criterion]
    return shared / whole


def edges(table):
    y0, x0 = table.cy - table.height / 2, table.cx - table.width / 2
    return np.stack([y0, y0 + table.height, x0, x0 + table.width], axis=1)


def boxes_in(content, gid):
    """y0 y1 x0 x1 of the annotations of an image; points have a little area."""
    boxes = [a["bbox"] for a in content["annotations"] if a["image_id"] == gid]
    return np.array([[y, y + max(h, POINT), x, x + max(w, POINT)] for x, y, w, h in boxes]).reshape(-1, 4)


def test_none_of_ten_thousand_touches_an_annotation():  # ndsampler's defect 6: it divided by the annotation's area
    content = scattered(6, 100, largest=120)
    choose = targets(content)
    for dims in ((20, 30), "like_annotations", "square"):
        table = choose.negatives(10_000, dims, seed=3)
        assert len(table) == 10_000
        assert (table.n_annots == 0).all()
        windows = edges(table)
        assert windows.min() >= 0
        assert windows.max() <= 400
        for gid in range(1, 7):
            mine = windows[table.gid == gid]
            assert len(mine)
            assert not shares(mine, boxes_in(content, gid), "annotation").any()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_ten_thousand_keep_their_promise_by_every_criterion(criterion):
    content = scattered(4, 100, largest=90)
    choose = targets(content)
    table = choose.negatives(10_000, (40, 25), max_overlap=0.2, criterion=criterion)
    assert (table[["height", "width"]].to_numpy() == [40, 25]).all()
    worst = max(shares(edges(table[table.gid == gid]), boxes_in(content, gid), criterion).max() for gid in range(1, 5))
    assert 0.15 < worst <= 0.2 + 1e-12  # and use the room they are given
    found = choose.overlaps(table)
    assert found["of_" + criterion if criterion != "iou" else "iou"].max() <= 0.2
    assert set(table.kind) == {"negative"}
    assert table.n_annots.sum() == len(found)


def test_no_window_lies_inside_an_annotation_that_fills_its_image():  # ndsampler's defect 6
    content = images([(100, 100), (50, 50)], [(1, 1, 0, 0, 100, 100)])
    choose = targets(content)
    assert set(choose.negatives(50, (10, 10)).gid) == {2}
    assert set(choose.negatives(50, (10, 10), max_overlap=0.5).gid) == {2}
    inside = choose.negatives(200, (10, 10), max_overlap=0.5, criterion="annotation")
    assert set(inside.gid) == {1, 2}  # 1% of the annotation, if that is what is asked for


def test_sizes_are_exact():  # ndsampler's defect 20: 64 x 64 sometimes gave 65 x 65
    choose = targets(scattered(3, 40, seed=5))
    table = choose.negatives(2000, (64, 64))
    assert (table[["height", "width"]].to_numpy() == 64).all()
    assert ((table.cx % 1 == 0) & (table.cy % 1 == 0)).all()


@SOME
@given(
    box_lists(6, most=14),
    st.lists(st.tuples(st.integers(1, 25), st.integers(1, 25)), min_size=1, max_size=4),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(CRITERIA),
    st.sampled_from([3, 1 << 22]),
    st.booleans(),
)
def test_free_positions_are_exactly_what_a_search_of_all_windows_finds(
    boxes, sizes, duration, most, criterion, cells, by_space
):
    source = targets(films([(20, 14), (9, 30)], [4, 2], boxes, WARPS[:2])).source
    spaces = spaces_of(source, "video")
    index = BoxIndex(spaces, boxes_of(source, spaces))
    stated = np.array(sorted(sizes, key=np.prod))[:, None]  # (size, 1, 2), or one size that differs by space
    proposals = Proposals(spaces, stated[[0, -1]].reshape(1, 2, 2) if by_space else stated, duration)
    free = FreePositions(proposals, index.boxes, OverlapLimit(most, criterion), cells)
    rng = np.random.default_rng(0)
    for k, size in enumerate(proposals.sizes.tolist()):
        positions = free.of_size(k)
        every = [
            (s, t, y, x)
            for s in range(2)
            for t in range(1 if duration is None else (4, 2)[s] - duration + 1)
            for y in range((20, 9)[s] - size[s * by_space][0] + 1)
            for x in range((14, 30)[s] - size[s * by_space][1] + 1)
        ]
        windows = proposals.windows(np.full(len(every), k), np.array(every, int).reshape(-1, 4).T)
        pairs = index.touching(windows)
        worst = np.zeros(len(every))
        np.maximum.at(worst, pairs.window, fraction(windows, index.boxes, pairs, criterion))
        near = 1e-9 if most else 0.0  # on the limit, roundings decide
        surely = {one for one, share in zip(every, worst.tolist(), strict=True) if share <= most - near}
        perhaps = {one for one, share in zip(every, worst.tolist(), strict=True) if share <= most + near}
        assert len(surely) <= positions.total <= len(perhaps)
        if positions.total:
            drawn = set(map(tuple, positions.draw(20 * positions.total, rng).T.tolist()))
            assert drawn <= perhaps
            assert len(drawn) > 0.99 * positions.total  # all of them, but for luck


@SOME
@given(size_lists, st.data(), st.tuples(st.integers(1, 12), st.integers(1, 12)), st.sampled_from(CRITERIA))
def test_a_window_is_found_if_there_is_one(sizes, data, size, criterion):
    content = images(sizes, data.draw(box_lists(len(sizes), most=10)))
    most = data.draw(st.sampled_from([0.0, 0.25]))
    room = False
    for gid, (height, width) in enumerate(sizes, 1):
        y, x = (k.ravel() for k in np.indices((max(height - size[0] + 1, 0), max(width - size[1] + 1, 0))))
        windows = np.stack([y, y + size[0], x, x + size[1]], axis=1)
        room |= bool((shares(windows, boxes_in(content, gid), criterion).max(axis=1, initial=0) <= most).any())
    options = {"max_overlap": most, "criterion": criterion, "seed": data.draw(st.integers(0, 3))}
    if room:
        table = targets(content).negatives(5, size, **options)
        for row, window in zip(table.itertuples(), edges(table), strict=True):
            height, width = sizes[row.gid - 1]
            assert window.min() >= 0
            assert window[1] <= height
            assert window[3] <= width
            assert shares(window[None], boxes_in(content, row.gid), criterion).max(initial=0) <= most + 1e-12
    else:
        with raises(TargetError, key="window_dims", hint="Ask for smaller windows"):
            targets(content).negatives(5, size, **options)


def test_crowded_images_have_negatives_of_rare_sizes():
    table = targets(scattered(100, 3000, size=256, largest=110)).negatives(300)
    assert len(table) == 300
    assert (table.n_annots == 0).all()


def test_every_free_window_is_as_likely_as_every_other():
    content = images([(6, 7), (3, 20), (9, 9)], [(1, 1, 2, 2, 2, 2), (2, 1, 5, 0, 9, 3), (3, 1, 0, 0, 9, 6)])
    table = targets(content).negatives(40_000, (2, 3))
    every = [
        (gid, y, x)
        for gid, (h, w) in enumerate([(6, 7), (3, 20), (9, 9)], 1)
        for y in range(h - 1)
        for x in range(w - 2)
        if not shares([[y, y + 2, x, x + 3]], boxes_in(content, gid), "window").any()
    ]
    found = list(zip(table.gid, *edges(table)[:, [0, 2]].astype(int).T.tolist(), strict=True))
    counts = np.array([found.count(one) for one in every]) if len(every) < 80 else None
    assert counts is not None
    assert counts.sum() == 40_000
    expected = 40_000 / len(every)
    assert ((counts - expected) ** 2 / expected).sum() < 1.7 * len(every)  # chi squared


def test_the_only_free_spot_of_a_large_dataset_is_found():
    size, hole = 3000, (1703, 411)
    walls = [(0, 0, size, hole[0]), (0, hole[0], hole[1], 9), (hole[1] + 7, hole[0], size - hole[1] - 7, 9),
             (0, hole[0] + 9, size, size - hole[0] - 9)]  # fmt: skip
    content = images([(size, size)] * 3, [(g, 1, *w) for g in (1, 3) for w in walls] + [(2, 1, 0, 0, size, size)])
    table = targets(content).negatives(300, (9, 7))
    assert edges(table).tolist() == [[hole[0], hole[0] + 9, hole[1], hole[1] + 7]] * 300
    assert set(table.gid) == {1, 3}
    with raises(TargetError, key="window_dims", match=r"3 of 3 images.*26,8\d\d,\d\d\d windows"):
        targets(content).negatives(300, (9, 8))


def test_sizes_like_annotations_are_those_of_annotations_for_which_there_is_room():
    content = images([(100, 100), (40, 40)], [(1, 1, 0, 0, 100, 30), (1, 1, 0, 0, 10.5, 20), (1, 1, 50, 5, 4, 4)])
    choose = targets(content)
    table = choose.negatives(600)
    sizes = table.groupby(["height", "width"]).size()
    assert set(sizes.index) == {(20, 11), (4, 4), (30, 100)}
    assert sizes.min() > 150
    assert set(zip(*choose.negatives(100, "square")[["height", "width"]].to_numpy().T, strict=True)) == {
        (20, 20),
        (4, 4),
    }
    full = images([(10, 10)], [(1, 1, 0, 0, 10, 10)])
    with raises(TargetError, key="window_dims", hint="a larger max_overlap"):
        targets(full).negatives(1)
    with raises(TargetError, key="window_dims", hint="Give (height, width)"):
        targets(images([(10, 10)], [])).negatives(1)


def test_negatives_of_videos_avoid_every_frame_they_have():
    boxes = [(g, 1, 4 * g, 4, 6, 6) for g in range(1, 6)]
    content = films([(30, 30)], [5], boxes, WARPS[:2])
    choose = targets(content)
    for time_dims in (None, 1, 2):
        table = choose.negatives(300, (8, 8), space="video", time_dims=time_dims)
        assert (table.n_annots == 0).all()
        assert (table.time_stop - table.time_start == (time_dims or 5)).all()
        assert table.time_start.min() == 0
        assert table.time_stop.max() == 5
        assert choose.overlaps(table).empty
    with raises(TargetError, key="window_dims", match="6 frames .* 1 videos"):
        choose.negatives(1, (8, 8), space="video", time_dims=6)


def test_only_the_categories_to_avoid_are_avoided():
    content = images([(20, 20)], [(1, 1, 0, 0, 20, 10), (1, 2, 0, 10, 20, 10)])
    choose = targets(content)
    assert edges(choose.negatives(20, (5, 5), avoid=["cat"]))[:, 0].min() >= 10
    assert edges(choose.negatives(20, (5, 5), avoid=["dog"]))[:, 1].max() <= 10
    assert choose.negatives(20, (5, 5), avoid=["dog"]).annot_ids.tolist() == [(100,)] * 20
    with raises(TargetError, key="window_dims", hint="a larger max_overlap"):
        choose.negatives(1, (5, 5))


def test_sizes_are_those_of_all_annotations_whichever_are_avoided():
    choose = targets(images([(40, 40)], [(1, 1, 0, 0, 5, 6), (1, 2, 20, 20, 7, 8)]))
    for avoid in ([], "cat", ["dog"]):
        table = choose.negatives(100, avoid=avoid)
        assert set(zip(table.height, table.width, strict=True)) == {(6, 5), (8, 7)}


def test_images_can_be_chosen():
    table = targets(images([(20, 20), (20, 20), (20, 20)], [])).negatives(200, (5, 5), ids=[3, 1])
    assert set(table.gid) == {1, 3}


def test_none_can_be_asked_for():
    table = targets(images([(20, 20)], [])).negatives(0, (5, 5))
    assert table.empty
    assert "annot_ids" in table


@pytest.mark.parametrize(
    ("error", "key", "wrong", "said"),
    [
        (TargetError, "max_overlap", 2, {}),
        (TargetError, "max_overlap", "none", {}),
        (TargetError, "max_overlap", -0.1, {}),
        (OptionError, "criterion", "iuo", {"match": "did you mean 'iou'"}),
        (TargetError, "n", -1, {}),
        (TargetError, "n", 2.5, {}),
        (TargetError, "window_dims", "like_annotation", {"match": "did you mean 'like_annotations'"}),
        (TargetError, "window_dims", (0, 5), {}),
        (TargetError, "window_dims", 7, {}),
        (TargetError, "window_dims", None, {}),
        (TargetError, "window_dims", (5.5, 5), {}),
        (TargetError, "time_dims", 2, {"hint": "space='video'"}),
    ],
)
def test_options_that_are_not_understood_are_named(error, key, wrong, said):
    choose = targets(films([(20, 20)], [1], []))
    with raises(error, key=key, **said):
        choose.negatives(**{"n": 3, "window_dims": (5, 5), key: wrong})


@pytest.mark.parametrize("size", [(2**40, 2**40), (20, 2**45)])
def test_an_image_of_a_size_that_cannot_be_searched_is_named(size):
    choose = targets(images([(20, 20), size], []))
    with raises(TargetError, key="gid", match=str(size[0]), hint="width and height"):
        choose.negatives(3, (5, 5))
    assert len(choose.negatives(3, (5, 5), ids=[1])) == 3


def test_windows_of_no_frames_are_refused():
    with raises(TargetError, key="time_dims"):
        targets(films([(20, 20)], [1], [])).negatives(3, (5, 5), space="video", time_dims=0)


SCRIPT = """
import hashlib
from helpers.coco_datasets import scattered, targets
choose = targets(scattered(5, 90))
tables = [
    choose.negatives(500, seed=7), choose.negatives(500, (30, 30), max_overlap=0.1, criterion="iou", seed=7),
    choose.positives((64, 64), jitter=1, per_class=20, seed=7),
    choose.positives((64, 64), cover=True, jitter=1, seed=7),
    choose.grid((32, 48), 0.5),
]
print(hashlib.sha256("".join(t.to_csv() for t in tables).encode()).hexdigest())
"""


@pytest.mark.slow
def test_the_same_seed_gives_the_same_tables_in_any_process():
    jobs = [
        subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, env=environment(PYTHONHASHSEED=h))
        for h in ("0", "1")
    ]
    outputs = [job.communicate()[0] for job in jobs]
    assert all(job.returncode == 0 for job in jobs)
    assert len(set(outputs)) == 1
    choose = targets(scattered(5, 90))
    assert choose.negatives(500, seed=7).equals(choose.negatives(500, seed=7))
    assert not choose.negatives(500, seed=7).equals(choose.negatives(500, seed=8))
