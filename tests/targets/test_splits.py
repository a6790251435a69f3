"""No two parts share a pixel, fractions hold, labels are shared out, and a seed decides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.target import merged, parse
from ndzarr.errors import TargetError
from ndzarr.targets import splits
from ndzarr.targets.splits import assign, components, in_shared_spaces, touching_groups
from ndzarr.targets.windows import window_columns

HEIGHT, WIDTH = 60, 80


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """Ten images in no video, and four videos of three frames that are shifted against them; no files."""
    images = [{"id": g, "file_name": f"{g}.png", "width": WIDTH, "height": HEIGHT} for g in range(1, 11)]
    for v in range(1, 5):
        for k in range(3):
            gid = 100 * v + k
            images.append(
                {"id": gid, "file_name": f"{gid}.png", "width": WIDTH, "height": HEIGHT, "video_id": v,
                 "frame_index": k, "warp_img_to_vid": {"offset": [3 * k, -k]}}
            )  # fmt: skip
    videos = [
        {"id": v, "name": f"v{v}", "width": WIDTH, "height": HEIGHT, "site": "north" if v < 3 else "south"}
        for v in range(1, 5)
    ]
    return ndzarr.CocoSampler({"images": images, "videos": videos}, tmp_path_factory.mktemp("work"))


def windows(n, seed, what="mixed"):
    """Windows of images, of frames of videos and of videos, with a label."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        row = {"cx": rng.uniform(-2, WIDTH), "cy": rng.uniform(-2, HEIGHT), "width": rng.uniform(1, 25),
               "height": rng.uniform(1, 25), "label": str(rng.choice(list("aaab")))}  # fmt: skip
        kind = rng.integers(3) if what == "mixed" else {"image": 0, "video": 1}[what]
        v = int(rng.integers(1, 5))
        if kind == 0:
            row["gid"] = int(rng.integers(1, 11))
        elif kind == 1:
            row |= {"vidid": v, "time_start": int(rng.integers(0, 2)), "time_stop": 3}
        else:
            row["gid"] = 100 * v + int(rng.integers(3))
        rows.append(row)
    return pd.DataFrame(rows)


def pixels(sampler, table, across_frames=True):
    """Every pixel of every row, rasterised by `load_sample`'s own scene; part to set of (space, y, x)."""
    seen = {}
    for k, target in enumerate(table.drop(columns=["split", "label"]).to_dict("records")):
        part = table.split.iloc[k]
        if pd.isna(part):
            continue
        scene = _scene(sampler, target)
        for frame in scene.frames:
            video = sampler.targets.source.dataset.video_of(frame.gid)
            dx = dy = 0
            if video is not None and not scene.video:
                dx, dy = frame.to_video[:2, 2].astype(int)
            if not across_frames:
                name = ("gid", frame.gid)
                if scene.video:
                    dx, dy = -frame.to_video[:2, 2].astype(int)
            else:
                name = ("gid", frame.gid) if video is None else ("video", video)
            seen.setdefault(part, set()).update(
                (name, y + dy, x + dx) for y in range(*scene.y) for x in range(*scene.x)
            )
    return seen


def _scene(sampler, target):
    return resolve(parse(merged(pd.Series(target), {})), sampler.targets.source)


def assert_apart(seen):
    parts = list(seen)
    for i, a in enumerate(parts):
        for b in parts[i + 1 :]:
            assert not seen[a] & seen[b], (a, b)


TWO = {"train": 0.6, "test": 0.4}


@examples(20)
@given(st.integers(6, 40), st.integers(0, 10_000), st.sampled_from(["video", "space", "label"]), st.booleans())
def test_no_two_parts_share_a_pixel_even_across_frames(sampler, n, seed, by, stratify):
    table = windows(n, seed)
    try:
        parted = sampler.targets.split(table, TWO, by=by, stratify="label" if stratify else None, seed=seed)
    except TargetError as error:
        assert error.key == "by"  # noqa: PT017
        return
    assert set(parted.split.dropna()) <= {"train", "test"}
    assert by == "space" or parted.split.notna().all()
    assert_apart(pixels(sampler, parted))


@examples(10)
@given(st.integers(6, 40), st.integers(0, 10_000))
def test_parts_by_image_share_no_image(sampler, n, seed):
    table = windows(n, seed, "image")
    if table.gid.nunique() > 1:
        assert_apart(pixels(sampler, sampler.targets.split(table, TWO, by="image", seed=seed), False))
    mixed = windows(n, seed)
    try:
        parted = sampler.targets.split(mixed, TWO, by="image", seed=seed)
    except TargetError as error:
        assert error.key == "by"  # noqa: PT017
        return
    assert_apart(pixels(sampler, parted, False))


@examples(15)
@given(st.integers(0, 10_000), st.integers(0, 9), st.integers(8, 40))
def test_blocks_keep_their_margin(sampler, seed, margin, block):
    table = windows(60, seed, "image")
    parted = sampler.targets.split(table, TWO, by="space", block=block, margin=margin, seed=seed)
    found = window_columns(parted, sampler.targets.source)
    apart = parted.split.to_numpy()
    for a in np.flatnonzero(parted.split == "train"):
        others = np.flatnonzero((apart == "test") & (found.space == found.space[a]))
        gaps = [
            np.maximum(getattr(found, axis)[others, 0] - getattr(found, axis)[a, 1],
                       getattr(found, axis)[a, 0] - getattr(found, axis)[others, 1])
            for axis in "yx"
        ]  # fmt: skip
        assert (np.maximum(*gaps) >= margin).all()


def many(seed=0):
    """20,000 windows of 200 large images, of five kinds, the rarest 1 in 100."""
    rng = np.random.default_rng(seed)
    n = 20_000
    return pd.DataFrame(
        {"gid": rng.integers(1, 201, n), "cx": rng.uniform(64, 3936, n), "cy": rng.uniform(64, 2936, n), "width": 128,
         "height": 128, "kind": rng.choice(list("abcde"), n, p=[0.5, 0.3, 0.15, 0.04, 0.01])}
    )  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    images = [{"id": g, "file_name": f"{g}.png", "width": 4000, "height": 3000} for g in range(1, 201)]
    return ndzarr.CocoSampler({"images": images}, tmp_path_factory.mktemp("large"))


@pytest.mark.parametrize("options", [{"by": "video"}, {"by": "image"}, {"by": "space"}, {"by": "space", "block": 900}])
def test_every_part_has_its_fraction_of_windows_and_labels(large, options):
    parted = large.targets.split(many(), stratify="kind", **options)
    kept = parted.dropna(subset="split")
    fractions = kept.split.value_counts(normalize=True)
    assert fractions[["train", "validation", "test"]].to_numpy() == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    by_kind = pd.crosstab(kept.kind, kept.split, normalize="index")
    assert np.abs(by_kind[["train", "validation", "test"]] - [0.8, 0.1, 0.1]).to_numpy().max() < 0.05
    assert len(kept) > 0.75 * len(parted)


def test_a_seed_gives_one_result_and_another_gives_another(large):
    first = large.targets.split(many(), by="space", block=1000, seed=1)
    assert first.equals(large.targets.split(many(), by="space", block=1000, seed=1))
    assert not first.equals(large.targets.split(many(), by="space", block=1000, seed=2))


def test_attributes_of_videos_part_too(sampler):
    parted = sampler.targets.split(windows(40, 1, "video"), {"a": 0.5, "b": 0.5}, by="video.site")
    site = parted.vidid.map(lambda v: "north" if v < 3 else "south")
    assert (parted.groupby(site).split.nunique() == 1).all()
    assert parted.split.nunique() == 2


def test_groups_whose_windows_overlap_become_one(sampler):
    table = pd.DataFrame(
        {"gid": [1, 1, 1, 2], "cx": [10, 18, 60, 10], "cy": 10, "width": 10, "height": 10, "who": list("abcd")}
    )
    parted = sampler.targets.split(table, {"one": 0.5, "other": 0.5}, by="who")
    assert parted.split[0] == parted.split[1]
    table["cx"] = [10, 20, 60, 10]  # they only meet
    groups = {tuple(sampler.targets.split(table, {"one": 0.5, "other": 0.5}, by="who", seed=s).split) for s in range(9)}
    assert any(g[0] != g[1] for g in groups)


def test_too_few_groups_are_said(sampler):
    table = windows(20, 0, "image").assign(gid=3)
    with raises(TargetError, key="by", hint="something finer", match="1 group.* 3 parts"):
        sampler.targets.split(table)
    assert sampler.targets.split(table, {"all": 1.0}).split.eq("all").all()


def test_what_is_not_understood_is_refused(sampler):
    table = windows(20, 0)
    for key, arguments in [
        ("fractions", {"fractions": {"train": 0.8, "test": 0.8}}),
        ("fractions", {"fractions": {}}),
        ("fractions", {"fractions": [0.5, 0.5]}),
        ("gidd", {"by": "gidd"}),
        ("margin", {"by": "image", "margin": 3}),
        ("block", {"by": "image", "block": 3}),
        ("margin", {"by": "space", "margin": -3}),
        ("block", {"by": "space", "block": 2.5}),
        ("by", {"by": ["image"]}),
        ("kindd", {"stratify": "kindd"}),
    ]:
        with raises(TargetError, key=key):
            sampler.targets.split(table, **arguments)
    empty = sampler.targets.split(table[:0])
    assert len(empty) == 0
    assert "split" in empty


def test_groups_are_shared_out_at_least_as_well_as_by_scikit_learn():
    selection = pytest.importorskip("sklearn.model_selection")
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for seed in range(5):
        group = rng.choice(60, 3000, p=rng.dirichlet(np.ones(60)))
        label = (group % 5 + rng.integers(0, 2, 3000)) % 5
        counts = np.zeros((60, 6))
        counts[:, 0] = np.bincount(group, minlength=60)
        np.add.at(counts, (group, 1 + label), 1)
        mine = assign(counts, np.full(5, 0.2), np.random.default_rng(seed))[group]
        other = np.zeros(3000, int)
        folds = selection.StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(label, label, group)
        for k, (_, test) in enumerate(folds):
            other[test] = k
        for part, out in ((mine, ours), (other, theirs)):
            out.append(np.mean([np.abs(np.bincount(part[label == v], minlength=5) / (label == v).sum() - 0.2)
                                for v in range(5)]))  # fmt: skip
    assert np.mean(ours) <= np.mean(theirs)


def test_groups_that_are_alike_are_shared_out_at_once(monkeypatch):
    steps = []
    change = splits._Assignment.change
    monkeypatch.setattr(splits._Assignment, "change", lambda self, value: steps.append(1) or change(self, value))
    label = np.random.default_rng(0).choice(5, 200_000, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    counts = np.c_[np.ones(200_000), np.eye(5)[label]]
    fractions = np.array([0.8, 0.15, 0.05])
    part = assign(counts, fractions, np.random.default_rng(1))
    assert len(steps) < 1000  # not one for each group
    got = np.stack([np.bincount(part[label == v], minlength=3) for v in range(5)])
    assert np.abs(got - fractions * np.bincount(label)[:, None]).max() < 2
    assert not np.array_equal(part, assign(counts, fractions, np.random.default_rng(2)))


def test_groups_that_are_alike_make_up_for_one_that_is_large():
    counts = np.ones((501, 2))
    counts[0] = 1500  # of 2000
    part = assign(counts, np.array([0.8, 0.1, 0.1]), np.random.default_rng(0))
    assert np.bincount(part, counts[:, 0]).tolist() == [1600, 200, 200]


def test_no_part_stays_empty_while_there_are_groups():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        counts = rng.integers(1, 9, (4, 3)).astype(float)
        part = assign(counts, np.array([0.9, 0.05, 0.03, 0.02]), rng)
        assert sorted(part) == [0, 1, 2, 3]


def test_groups_without_rows_do_not_count_as_something_that_a_part_has():
    counts = np.array([[9, 9], [0, 0], [0, 0], [1, 1], [0, 0]], float)
    part = assign(counts, np.array([0.1, 0.9]), np.random.default_rng(0))
    assert sorted(part[[0, 3]]) == [0, 1]
    assert (part[[1, 2, 4]] == 1).all()


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_components_are_those_of_networkx(n, edges):
    import networkx

    edges = [(a % n, b % n) for a, b in edges]
    graph = networkx.Graph(edges)
    graph.add_nodes_from(range(n))
    a, b = np.array(edges, int).reshape(-1, 2).T
    label = components(n, a, b)
    found = {frozenset(np.flatnonzero(label == k).tolist()) for k in np.unique(label)}
    assert found == {frozenset(c) for c in networkx.connected_components(graph)}


@examples(20)
@given(st.integers(0, 10_000))
def test_groups_that_touch_are_those_of_overlapping_boxes(sampler, seed):
    table = windows(40, seed)
    group = np.random.default_rng(seed).integers(0, 8, 40)
    common = in_shared_spaces(sampler.targets.source, window_columns(table, sampler.targets.source))
    wanted = set()
    for i in range(len(common.row)):
        for j in range(i):
            (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = common.box[i], common.box[j]
            same = common.space[i] == common.space[j]
            a, b = sorted((group[common.row[i]], group[common.row[j]]))
            if same and a != b and ax0 < bx1 and bx0 < ax1 and ay0 < by1 and by0 < ay1:
                wanted.add((a, b))
    assert {tuple(p) for p in touching_groups(common, group).tolist()} == wanted
