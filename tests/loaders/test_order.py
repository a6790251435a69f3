"""The order of an epoch: random, complete, and kind to chunks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
from ndzarr.targets.table import Rows
from ndzarr.torch.order import groups, shuffled


@given(
    group=st.lists(st.integers(0, 20), max_size=200),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 9),
    together=st.integers(1, 30),
    buffer=st.integers(0, 300),
)
def test_an_order_covers_every_target_exactly_once(group, seed, epoch, together, buffer):
    order = shuffled(np.array(group, int), seed, epoch, together, buffer)
    assert sorted(order.tolist()) == list(range(len(group)))
    assert order.tolist() == shuffled(np.array(group, int), seed, epoch, together, buffer).tolist()


def test_epochs_and_seeds_have_orders_of_their_own():
    group = np.arange(300) // 10
    orders = {tuple(shuffled(group, s, e).tolist()) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def test_few_groups_are_open_at_a_time():
    group = np.repeat(np.arange(100), 50)
    order = group[shuffled(group, 0, 0, together=4, buffer=50)]
    open_at_once = [len(np.unique(order[k : k + 100])) for k in range(0, 4900, 100)]
    assert np.median(open_at_once) <= 8
    assert np.median([len(np.unique(order[k : k + 10])) for k in range(0, 4990, 10)]) >= 3  # and they are mixed


def test_targets_of_one_block_of_one_source_are_a_group():
    table = pd.DataFrame(
        {"gid": [1, 1, 1, 2], "cx": [10, 900, 3000, 10], "cy": [10, 900, 10, 10], "width": 8, "height": 8}
    )
    a, b, c, d = groups(Rows(table))
    assert a == b
    assert len({a, c, d}) == 3
    dictionaries = groups(Rows(table.to_dict("records")))
    assert dictionaries[0] == dictionaries[1]
    assert len(set(dictionaries.tolist())) == 3


def test_windows_given_by_slices_and_rows_of_mixed_kinds_have_groups():
    rows = Rows(
        [
            {"gid": 1, "y": slice(0, 9), "x": slice(0, 9)},
            {"gid": 1, "space_slice": (slice(0, 9), slice(5000, 5009))},
            {"vidid": 1, "time_slice": slice(0, 2)},
            {"key": "a"},
            {"aid": 3},
        ]
    )
    assert len(set(groups(rows).tolist())) == 5


def test_groups_do_not_depend_on_how_targets_are_written():
    table = pd.DataFrame({"gid": [10, 9, 10, 2], "cx": [10, 900, 3000, 10], "cy": 10.0})
    expected = groups(Rows(table)).tolist()
    assert groups(Rows(table.to_dict("records"))).tolist() == expected
    assert groups(Rows(table.astype({"gid": "Int64", "cx": "Float64"}))).tolist() == expected
    assert groups(Rows(table.assign(gid=table["gid"].map("image {}".format)))).tolist() == expected


def test_targets_without_a_source_or_a_place_have_groups():
    table = pd.DataFrame({"gid": pd.array([1, pd.NA, 1], "Int64"), "vidid": [None, "a", None], "cx": [1, None, np.inf]})
    assert len(set(groups(Rows(table)).tolist())) == 2
    assert groups(Rows([])).shape == (0,)
    assert groups(Rows(table.iloc[:0])).shape == (0,)
    assert len(set(groups(Rows([{}, {"key": None}, {"gids": [1, 2]}, {"gids": [1, 3]}])).tolist())) == 3


def test_windows_of_a_long_video_are_near_in_time_too():
    table = pd.DataFrame({"vidid": 1, "time_start": [0, 5, 5000], "cx": 10, "cy": 10})
    a, b, c = groups(Rows(table))
    assert a == b != c
    a, b, c = groups(Rows([{"key": "v", "t": slice(k, k + 4)} for k in (0, 5, 5000)]))
    assert a == b != c


def test_a_million_rows_are_ordered_without_a_loop_over_them():
    rng = np.random.default_rng(0)
    gids, places = rng.integers(0, 1000, 10**6), rng.random((2, 10**6)) * 1e4
    table = pd.DataFrame({"gid": gids, "cx": places[0], "cy": places[1]})
    order = shuffled(groups(Rows(table)), 0, 0)
    assert np.array_equal(np.sort(order), np.arange(10**6))
