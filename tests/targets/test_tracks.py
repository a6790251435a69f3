"""Windows follow tracks: every box of a track is in the window of its frame, or windows are of one size around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ndzarr
from helpers.coco_datasets import WARPS, films, targets
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr.errors import OptionError, TargetError


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


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A video of eight frames, each its own number; a square of 255 moves, and has no box in frames 2 and 3."""
    folder = tmp_path_factory.mktemp("film")
    for name in ("img1", "gt"):
        (folder / "a" / name).mkdir(parents=True)
    (folder / "a" / "seqinfo.ini").write_text(
        "[Sequence]\nname=a\nframeRate=10\nseqLength=8\nimWidth=90\nimHeight=60\n"
    )
    lines = []
    for t in range(8):
        pixels = np.full((60, 90), t, np.uint8)
        x, y = 10 + 7 * t, 20 + 3 * t
        pixels[y : y + 10, x : x + 12] = 255
        Image.fromarray(pixels).save(folder / "a" / "img1" / f"{t + 1:06d}.png")
        if t not in (2, 3):
            lines.append(f"{t + 1},5,{x + 1},{y + 1},12,10,1,1,1")
        lines.append(f"{t + 1},6,41,1,4,4,1,1,1")
    (folder / "a" / "gt" / "gt.txt").write_text("\n".join(lines))
    return ndzarr.CocoSampler(folder / "a", folder / "work", format="mot")


def test_a_window_that_follows_a_track_shows_it_in_the_same_place_in_every_frame(film):
    table = film.targets.tracks(context=2, follow=True)
    assert table.follow.tolist() == [5, 6]
    assert table.n_annots.tolist() == [6, 8]
    assert table[["width", "height"]].values.tolist() == [[24, 20], [8, 8]]
    tube = film.load_sample(table.iloc[0])
    assert tube.image.shape == (8, 1, 20, 24)
    square = np.zeros((20, 24), bool)
    square[5:15, 6:18] = True
    for t, frame in enumerate(tube.image.values[:, 0]):
        np.testing.assert_array_equal(frame, np.where(square, 255, np.where(frame == 255, 0, t)))
    mine = tube.bbox.values[tube.track_id.values == 5]
    assert mine.tolist() == [[6, 5, 12, 10]] * 6
    assert film.load_sample(tube.ndzarr.target).identical(tube)
    # In parts, without a size, at a scale, in a batch: the same pixels.
    part = film.load_sample(vidid=1, follow=5, time_slice=slice(4, 8), pad=(0, 5, 6))
    np.testing.assert_array_equal(part.image, tube.image[4:])
    assert part.image.shape[-2:] == (20, 24)
    clips = film.targets.tracks((20, 24), time_dims=4, follow=True, ids=[1]).query("track_id == 5")
    batch = film.load_batch(clips)
    np.testing.assert_array_equal(batch.image, np.stack([tube.image[:4], tube.image[4:]]))
    coarse = film.load_sample(table.iloc[0].drop(["time_start", "time_stop", "time_step"]), scale=1 / 2, time_slice=0)
    assert coarse.image.shape == (1, 1, 10, 12)


def test_what_cannot_be_followed_is_named(film):
    for target, key in (({"vidid": 1, "follow": 9}, "follow"), ({"gid": 1, "follow": 5}, "follow"),
                        ({"vidid": 1, "follow": 5, "time_slice": slice(2, 4)}, "follow")):  # fmt: skip
        with raises(TargetError, key=key, hint="Give"):
            film.load_sample(target)
    with raises(OptionError, key="keep_borders"):
        film.targets.tracks(follow=True, keep_borders="shift")
