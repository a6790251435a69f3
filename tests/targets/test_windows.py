"""The columnar resolver finds the windows and frames that `resolve` finds for each row."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from helpers.coco_datasets import WARPS, films, images, targets
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.target import centred_interval, centred_intervals, merged, parse
from ndzarr.errors import TargetError
from ndzarr.targets.windows import spaces_of, window_columns, windows_in

CONTENT = films([(30, 31), (20, 40)], [6, 3], [(g, 1, g, 2 * g, 5.5, 4) for g in range(1, 10)], WARPS)
CONTENT["images"] += images([(25, 15)] * 12, [])["images"][10:]  # 11 and 12, in no video
SOURCE = targets(CONTENT).source

numbers = st.one_of(st.integers(-20, 60), st.floats(-20, 60).map(lambda v: round(v, 3)))
lengths = st.one_of(st.integers(1, 40), st.floats(0.001, 40))
windows = st.fixed_dictionaries({"cx": numbers, "cy": numbers, "width": lengths, "height": lengths})
sized = st.fixed_dictionaries({"width": lengths, "height": lengths})
centred = st.fixed_dictionaries({"cx": numbers, "cy": numbers})
sliced = st.builds(
    lambda y, x, h, w: {"space_slice": (slice(y, y + h), slice(x, x + w))},
    *[st.integers(-9, 30)] * 2, *[st.integers(1, 30)] * 2,
)  # fmt: skip
where = st.one_of(st.just({}), windows, sized, centred, sliced, windows.map(lambda w: w | {"pad": (2, 3)}))
of_images = st.sampled_from([{"gid": g} for g in (1, 5, 8, 11)] + [{"image_id": 12}, {"aid": 103}, {"aid": 107}])
of_lists = st.one_of(
    st.lists(st.integers(1, 6), min_size=1, max_size=4), st.lists(st.integers(7, 9), min_size=1), st.just([11])
).map(lambda gids: {"gids": gids})
times = st.builds(
    lambda start, length, step: {"time_start": start, "time_stop": start + length, "time_step": step},
    st.integers(-2, 2), st.integers(3, 6), st.integers(1, 2),
)  # fmt: skip
of_videos = st.builds(lambda v, t: {"vidid": v} | t, st.sampled_from([1, 2]), st.one_of(st.just({}), times))
with_annotation = st.sampled_from([{"gid": 4, "aid": 103}, {"gids": [4, 5], "aid": 104}, {"vidid": 2, "aid": 107}])
rows = st.builds(lambda a, b: a | b, st.one_of(of_images, of_lists, of_videos, with_annotation), where)


@examples(80)
@given(st.lists(rows, min_size=1, max_size=12))
def test_columns_are_resolved_as_single_targets_are(targets):
    table = pd.DataFrame(targets)
    found = window_columns(table, SOURCE)
    for k in range(len(table)):
        scene = resolve(parse(merged(table.iloc[k], {})), SOURCE)
        assert tuple(found.y[k]) == scene.y
        assert tuple(found.x[k]) == scene.x
        assert tuple(found.size[found.space[k]]) == scene.space
        assert bool(found.video[k]) == scene.video
        frames = found.frame[found.row == k]
        assert [None if f < 0 else found.gids[f] for f in frames] == [f.gid for f in scene.frames]
        start, stop, step = found.time[k].tolist()
        if step and scene.video:
            gids = SOURCE.dataset.video_frames(found.spaces[found.space[k]][1])
            positions = range(start, stop, step)
            assert [gids[t] if 0 <= t < len(gids) else None for t in positions] == [f.gid for f in scene.frames]


@given(st.lists(st.tuples(numbers, lengths), min_size=1))
def test_centred_windows_of_columns_are_those_of_numbers(pairs):
    centre, size = np.array(pairs, float).T
    assert centred_intervals(centre, size).tolist() == [list(centred_interval(c, n)) for c, n in pairs]


def test_an_annotation_beside_its_whole_window_costs_no_look_at_the_row():
    table = pd.DataFrame({"gid": [1, 2], "aid": [100, 101], "cx": 5.0, "cy": 5.0, "width": 4, "height": 4})
    assert window_columns(table, SOURCE).time.tolist() == [[0, 1, 1]] * 2
    with raises(TargetError, key="aid", match="101 .* image 2"):
        window_columns(table.assign(aid=101), SOURCE)
    listed = table.drop(columns="gid").assign(gids=[[1, 3], [2]])
    assert window_columns(listed, SOURCE).frame.tolist() == [0, 1, 2]
    with raises(TargetError, key="aid", match="102 .* image 3"):
        window_columns(listed.assign(aid=102), SOURCE)
    with raises(TargetError, key="aid", match="107 .* image 8"):
        window_columns(table.drop(columns="gid").assign(vidid=1, aid=107), SOURCE)


def test_rows_that_contradict_themselves_are_refused_as_load_sample_refuses_them():
    for row, key in [
        ({"gid": 1, "vidid": 1}, "vidid"),
        ({"gid": 1, "time_start": 1}, "time_slice"),
        ({"gid": 1, "cx": 3}, "cx"),
        ({"gids": [1, 7]}, "gids"),
        ({"vidid": 1, "time_start": 3, "time_stop": 3}, "time_stop"),
        ({"gids": []}, "gids"),
        ({"cx": 3, "cy": 3}, "gid"),
        ({"gid": 77}, "gid"),
    ]:
        with raises(TargetError, key=key):
            window_columns([row], SOURCE)


def test_windows_of_one_kind_of_space_are_those_of_their_rows():
    table = [
        {"vidid": 2, "time_start": 1},
        {"gids": [3, 1, 3]},
        {"vidid": 1, "cx": 4, "cy": 5, "width": 3, "height": 2},
    ]
    found, row = windows_in(window_columns(table, SOURCE), spaces_of(SOURCE, "video"))
    assert row.tolist() == [0, 1, 1, 2]
    assert found.space.tolist() == [1, 0, 0, 0]
    assert np.stack([found.t0, found.t1, found.step], axis=1).tolist() == [[1, 3, 1], [0, 1, 1], [2, 3, 1], [0, 6, 1]]
    assert (found.y0[3], found.y1[3], found.x0[3], found.x1[3]) == (4, 6, 2, 5)
    with raises(TargetError, key="gid", match="row 0"):
        windows_in(window_columns([{"gid": 1}], SOURCE), spaces_of(SOURCE, "video"))
