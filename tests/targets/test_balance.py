"""Balance: groups get the shares wanted, windows with several labels count for each, and no window is favoured."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import kwcoco
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr._sampling.target import merged, parse
from ndzarr.errors import TargetError
from ndzarr.targets.accessor import Targets

BARE = Targets(None)
"""Tables that need no dataset."""


def skewed(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    kinds = rng.choice(list("abc"), n, p=[0.9, 0.08, 0.02])
    return pd.DataFrame({"gid": rng.integers(1, 9, n), "kind": kinds, "site": rng.integers(0, 4, n)})


def labelled(n=2000, seed=0):
    """Windows with none to three labels, 'person' in most of them."""
    draws = np.random.default_rng(seed).random((n, 3))
    lists = [[name for name, p, u in zip(("boat", "car", "person"), (0.1, 0.03, 0.8), d, strict=True) if u < p]
             for d in draws]  # fmt: skip
    return pd.DataFrame({"gid": 1, "labels": lists})


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """Two videos and an image, annotated, without files."""
    content = {
        "videos": [{"id": 1, "name": "one", "width": 100, "height": 80}, {"id": 2, "name": "two"}],
        "images": [
            {"id": g, "file_name": f"{g}.png", "width": 100, "height": 80, "sensor_coarse": "S2" if g % 2 else "L8"}
            | ({"video_id": 1 + g // 4, "frame_index": g} if g < 7 else {})
            for g in range(1, 9)
        ],
        "categories": [{"id": 1, "name": "boat"}, {"id": 2, "name": "car"}],
        "annotations": [
            {"id": 10 + g, "image_id": g, "category_id": 1 + g % 2, "bbox": [5, 5, 9, 9], "weight": g // 4}
            for g in range(1, 9)
        ],
    }
    return ndzarr.CocoSampler(content, tmp_path_factory.mktemp("work"))


def test_probabilities_give_every_group_the_same_share():
    table = skewed()
    p = BARE.balanced(table, by="kind").probability
    assert p.sum() == pytest.approx(1)
    assert p.groupby(table.kind).sum().to_numpy() == pytest.approx(1 / 3)
    assert (p.groupby(table.kind).nunique() == 1).all()


def test_levels_are_balanced_one_within_the_other():
    table = skewed()
    table = table[(table.kind != "c") | (table.site < 2)]
    p = BARE.balanced(table, by=["kind", "site"]).probability
    shares = p.groupby([table.kind, table.site]).sum()
    assert shares["a"].to_numpy() == pytest.approx(1 / 12)
    assert shares["c"].to_numpy() == pytest.approx(1 / 6)


def test_a_draw_is_exact():
    drawn = BARE.balanced(skewed(), by=["kind", "site"], n=240)
    assert set(drawn.groupby(["kind", "site"]).size()) == {20}
    assert len(BARE.balanced(skewed(), by="kind", n=100)) == 100
    assert set(BARE.balanced(skewed(), by="kind", n=100).kind.value_counts()) == {33, 34}


def test_windows_of_a_group_come_in_turn():
    table = skewed().assign(number=range(3000))
    rare = BARE.balanced(table, by="kind", n=900, seed=4)
    often = rare.number[rare.kind == "c"].value_counts()
    assert len(often) == (table.kind == "c").sum()
    assert often.max() - often.min() <= 1
    assert rare.number[rare.kind == "a"].is_unique


def test_without_replacement_no_window_comes_twice_and_exhausted_groups_leave_the_rest_to_others():
    table = skewed().assign(number=range(3000))
    drawn = BARE.balanced(table, by="kind", n=1000, replace=False)
    assert drawn.number.is_unique
    there, got = table.kind.value_counts(), drawn.kind.value_counts()
    assert got["c"] == there["c"]
    assert got["b"] == there["b"]
    assert got["a"] == 1000 - there["b"] - there["c"]
    assert sorted(BARE.balanced(table, by="kind", n=3000, replace=False).number) == list(range(3000))
    with raises(TargetError, key="n", hint="replace=True", match="3000"):
        BARE.balanced(table, by="kind", n=3001, replace=False)


@pytest.mark.parametrize("replace", [True, False])
def test_a_window_with_several_labels_counts_for_each_of_them(replace):
    table = labelled()
    drawn = BARE.balanced(table, by="labels", n=180, replace=replace)
    counts = drawn.labels.explode().fillna("none").value_counts()
    assert counts.drop("person").max() - counts.drop("person").min() <= 4
    # 'person' comes along with the others, and is given no more besides.
    alone = drawn.labels.map(lambda labels: labels == ["person"]).sum()
    assert alone <= 10
    before = table.labels.explode().value_counts()
    assert counts["person"] / counts["car"] < 0.1 * before["person"] / before["car"]


def test_probabilities_count_several_labels_too():
    table = labelled()
    p = BARE.balanced(table, by="labels").probability
    share = {name: p[[name in labels for labels in table.labels]].sum() for name in ("boat", "car")}
    assert share["boat"] == pytest.approx(share["car"], rel=0.05)
    assert p[[not labels for labels in table.labels]].sum() == pytest.approx(share["car"], rel=0.05)


def test_shares_change_what_is_wanted_and_zero_leaves_out():
    table = skewed()
    p = BARE.balanced(table, by="kind", shares={"kind": {"a": 2, "b": 0}}).probability
    sums = p.groupby(table.kind).sum()
    assert sums.to_dict() == pytest.approx({"a": 2 / 3, "b": 0, "c": 1 / 3})
    drawn = BARE.balanced(table, by=["site", "kind"], n=30, shares={"kind": {"b": 0}, "site": {3: 0}})
    assert not (drawn.kind == "b").any()
    assert not (drawn.site == 3).any()
    nothing = table[table.kind == "b"]
    with raises(TargetError, key="by"):
        BARE.balanced(nothing, by="kind", shares={"kind": {"b": 0}})


def test_a_group_of_which_all_windows_are_left_out_gets_nothing():
    table = pd.DataFrame({"gid": 1, "site": [1, 1, 2, 2], "kind": ["a", "b", "b", "b"]})
    p = BARE.balanced(table, by=["site", "kind"], shares={"kind": {"b": 0}}).probability
    assert p.tolist() == [1, 0, 0, 0]


@given(
    st.lists(st.tuples(st.sets(st.sampled_from("abcd"), max_size=3), st.integers(0, 2)), min_size=1, max_size=30),
    st.integers(0, 40),
    st.booleans(),
    st.integers(0, 3),
)
@examples(40)
def test_any_table_is_drawn_from_as_asked(rows, n, replace, seed):
    table = pd.DataFrame({"gid": range(len(rows)), "labels": [sorted(r[0]) for r in rows], "k": [r[1] for r in rows]})
    p = BARE.balanced(table, by=["k", "labels"]).probability.to_numpy()
    assert p.sum() == pytest.approx(1)
    assert pd.Series(p).groupby(table.k).sum().to_numpy() == pytest.approx(1 / table.k.nunique())
    n = n if replace else min(n, len(rows))
    drawn = BARE.balanced(table, by=["k", "labels"], n=n, replace=replace, seed=seed)
    assert len(drawn) == n
    assert replace or drawn.gid.is_unique
    again = BARE.balanced(table, by=["k", "labels"], n=n, replace=replace, seed=seed)
    pd.testing.assert_frame_equal(drawn, again)
    if replace and n:
        counts = drawn.k.value_counts().reindex(table.k.unique(), fill_value=0)
        assert counts.max() - counts.min() <= 1


def test_attributes_of_images_videos_annotations_and_categories_are_looked_up(sampler):
    table = pd.DataFrame({"gid": range(1, 9), "annot_ids": [(10 + g,) for g in range(1, 9)]})

    def groups(by):
        found = sampler.targets.distribution(table, by)
        return {g[0]: int(w) for g, w in zip(found.groups, found.windows, strict=True)}

    assert groups("image.sensor_coarse") == {"L8": 4, "S2": 4}
    assert groups("video.name") == {"one": 3, "two": 3, None: 2}
    assert groups("category") == {"boat": 4, "car": 4}
    assert groups("annot.weight") == {0: 3, 1: 4, 2: 1}
    assert groups("image") == dict.fromkeys(range(1, 9), 1)


def test_windows_of_videos_have_the_values_of_all_their_frames(sampler):
    table = pd.DataFrame({"vidid": [1, 2], "time_start": [0, 0], "time_stop": [1, 3]})
    found = sampler.targets.distribution(table, "image.sensor_coarse")
    assert dict(zip(found.groups, found.windows.tolist(), strict=True)) == {("L8",): 1, ("S2",): 2}


def test_categories_are_found_however_the_table_says_them(sampler):
    ways = {"category_id": [1, 2, None], "category_ids": [[1], [2], []], "aid": [12, 11, None]}
    for name, column in ways.items():
        found = sampler.targets.distribution(pd.DataFrame({"gid": [1, 2, 3], name: column}))
        assert [g[0] for g in found.groups] == ["boat", "car", None], name


def test_what_is_not_understood_is_named(sampler):
    table = skewed(10)
    for by, message in {
        "knid": "did you mean 'kind'",
        "image.sensor_coarsee": "did you mean",
    }.items():
        with raises(TargetError, key=by, match=message):
            sampler.targets.balanced(table, by=by)
    with raises(TargetError, key="annot_ids", match="category_ids, category_id, annot_ids or aid"):
        sampler.targets.balanced(table, by="category")
    for by in ([], None, ["kind", 5]):
        with raises(TargetError, key="by"):
            sampler.targets.balanced(table, by=by)
    with raises(TargetError, key="shares", match="kind='z'"):
        sampler.targets.balanced(table, by="kind", shares={"kind": {"z": 1}})
    for n in (-1, 2.5, "all"):
        with raises(TargetError, key="n"):
            sampler.targets.balanced(table, by="kind", n=n)


def test_rows_stay_targets_and_the_table_stays_as_it_was(sampler):
    table = pd.DataFrame({"gid": [1, 2, 3], "aid": [11, 12, 13], "cx": 9.5, "cy": 9.5, "width": 4, "height": 4})
    before = table.copy()
    drawn = sampler.targets.balanced(table, n=4)
    assert sorted(drawn.group.unique()) == ["boat", "car"]
    pd.testing.assert_frame_equal(table, before)
    for k in range(len(drawn)):
        assert parse(merged(drawn.iloc[k], {})).gids == (drawn.gid[k],)
    assert len(sampler.targets.balanced(drawn[:0], n=0)) == 0


def test_a_distribution_is_printed_and_tabulated():
    found = BARE.distribution(skewed(), by=["kind", "site"])
    assert found.share.sum() == pytest.approx(1)
    assert found.wanted == pytest.approx(1 / 12)
    text = repr(found)
    assert text.startswith("<Distribution of 3000 windows by kind, site: 12 groups")
    assert len(text.splitlines()) == 14
    assert list(found.to_frame().columns) == ["kind", "site", "windows", "share", "wanted"]
    weighted = BARE.distribution(BARE.balanced(skewed(), by="kind"), by="kind")
    assert weighted.share == pytest.approx(1 / 3)
    assert "1000 windows by number: 1000 groups" in repr(
        BARE.distribution(pd.DataFrame({"number": range(1000)}), "number")
    )


def test_a_distribution_is_plotted():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    import matplotlib

    matplotlib.use("Agg")
    ax = BARE.distribution(skewed(), by="kind").plot()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    assert len(ax.patches) == 3
    pyplot.close(ax.figure)


@pytest.mark.slow
def test_any_process_draws_the_same():
    code = (
        "import numpy as np, pandas as pd; from ndzarr.targets.accessor import Targets; BARE = Targets(None);"
        "t = pd.DataFrame({'gid': range(500), 'kind': ['abc'[k % 7 % 3] for k in range(500)]});"
        "print(BARE.balanced(t, by='kind', n=50, seed=3).gid.tolist())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1


def test_a_demo_dataset_is_balanced(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that draw it
        dset = kwcoco.CocoDataset.demo("vidshapes2-frames3", verbose=0)
    sampler = ndzarr.CocoSampler(dset, tmp_path)
    grid = sampler.targets.grid((150, 150), space="video")
    drawn = sampler.targets.balanced(grid, n=40)
    found = sampler.targets.distribution(drawn)
    assert np.abs(found.share - found.wanted).max() < 0.1
