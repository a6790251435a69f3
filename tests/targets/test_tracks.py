"""Windows follow tracks: every box of a track is in the window of its frame, or windows are of one size around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.coco_datasets import WARPS, films, targets
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr.errors import TargetError


def tracked(boxes, names=False):
    """Two videos with annotations of (image id, track, x, y); track 0 is none."""
    content = films([(50, 60), (70, 40)], [7, 3], [(g, 1 + t % 2, x, y, 6, 4) for g, t, x, y in boxes], WARPS[:2])
    for annotation, (_, track, *_) in zip(content["annotations"], boxes, strict=True):
        annotation |= {"track_id": f"t{track}" if names else track} if track else {}
    return targets(content)


places = st.tuples(st.integers(1, 10), st.integers(0, 3), st.integers(-8, 50), st.integers(-8, 50))


@examples(40)
@given(st.lists(places, min_size=1, max_size=12), st.sampled_from([None, 1, 2, 4]), st.booleans())
def test_windows_hold_the_boxes_of_their_track(boxes, time_dims, names):
    choose = tracked(boxes, names)
    if not any(track for _, track, *_ in boxes):
        with raises(TargetError, key="track_id"):
            choose.tracks()
        return
    table = choose.tracks(time_dims=time_dims)
    found = choose.overlaps(table)
    whose = {a["id"]: a.get("track_id") for a in choose.source.dset.dataset["annotations"]}
    found["track"] = found.annot_id.map(whose)
    mine = found[found.track == table.track_id.to_numpy()[found.row]]
    assert (mine.of_annotation > 1 - 1e-9).all()  # whole
    assert set(mine.annot_id) == {a for a, track in whose.items() if track is not None}
    assert set(mine.row) == set(range(len(table)))  # no clip without its track
    if time_dims is not None:
        assert (table.time_stop - table.time_start == time_dims).all()
    else:  # one window for each track, no larger than needed
        assert len(table) == len({(a["image_id"] > 7, a["track_id"]) for a in choose.source.dset.dataset["annotations"]
                                  if "track_id" in a})  # fmt: skip
        assert mine.groupby("row").frame.min().tolist() == table.time_start.tolist()
        assert mine.groupby("row").frame.max().tolist() == (table.time_stop - 1).tolist()


def test_clips_have_one_size_and_overlap():
    choose = tracked([(g, 1, 5 * g, 20) for g in range(1, 8)])
    table = choose.tracks((16, 20), time_dims=3, time_overlap=1)
    assert table[["time_start", "time_stop"]].to_numpy().tolist() == [[0, 3], [2, 5], [4, 7]]
    assert (table[["height", "width"]].to_numpy() == [16, 20]).all()
    assert np.diff(table.cx).min() > 5
    assert choose.tracks((16, 20), ids=[1], classes_of_interest="dog").track_id.tolist() == [1]
    late = tracked([(7, 1, 5, 5), (6, 1, 5, 5)]).tracks(time_dims=4, keep_borders="shift")
    assert late[["time_start", "time_stop"]].to_numpy().tolist() == [[3, 7]]
    for wrong in ({"time_dims": 0}, {"time_dims": 2, "time_overlap": 2}, {"window_dims": "no"}):
        with pytest.raises(TargetError):
            choose.tracks(**wrong)
