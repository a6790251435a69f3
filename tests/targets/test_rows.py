"""Tables, dictionaries and lists are targets alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from kwcoco import CocoDataset

import ndzarr
from helpers.errors import raises
from ndzarr.errors import TargetError
from ndzarr.targets.table import Rows

TABLE = pd.DataFrame({"gid": [1, 2, None], "vidid": [None, None, 1], "time_start": [None, None, 2], "kind": "x"})


def test_missing_values_of_a_table_are_keys_left_out():
    assert [set(row) for row in Rows(TABLE)] == [{"gid", "kind"}, {"gid", "kind"}, {"vidid", "time_start", "kind"}]


def test_a_row_is_the_same_however_it_is_reached():
    rows = Rows(TABLE)
    assert list(rows) == [rows[k] for k in range(3)] == [rows[-3], rows[-2], rows[-1]]
    assert list(rows[1:]) == [rows[1], rows[2]]
    assert list(rows.take(np.array([2, 0]))) == [rows[2], rows[0]]
    assert list(Rows(TABLE.iloc[1])) == [rows[1]]


def test_dictionaries_are_taken_as_they_are():
    targets = [{"gid": 1}, {"gid": 2, "channels": None}]
    assert list(Rows(targets)) == targets
    assert list(Rows(targets[0])) == targets[:1]
    assert len(Rows(iter(targets))) == 2
    assert list(Rows(targets).take([1])) == targets[1:]


@pytest.mark.parametrize("wrong", [3, "gid", None])
def test_something_else_is_refused(wrong):
    with raises(TargetError, key="targets"):
        Rows(wrong)


def test_a_row_of_a_table_loads_as_it_is(tmp_path):
    sampler = ndzarr.CocoSampler(CocoDataset.demo("vidshapes1-frames3", verbose=0), workdir=tmp_path)
    table = pd.DataFrame(
        {
            "vidid": [1],
            "time_start": [1],
            "time_stop": [3],
            "gid": [None],
            "cx": 30.0,
            "cy": 20.0,
            "width": 8,
            "height": 8,
        }
    )
    sample = sampler.load_sample(table.iloc[0])
    assert sample.frame_index.values.tolist() == [1, 2]
    assert sample.identical(sampler.load_sample(vidid=1, time_slice=slice(1, 3), cx=30, cy=20, width=8, height=8))
    with raises(TargetError, key="time_slice"):
        sampler.load_sample(table.iloc[0], time_slice=slice(0, 1))


def test_a_target_that_is_no_dictionary_is_named_by_its_number():
    with raises(TargetError, key="targets", match=r"\[1\]=None"):
        Rows([{"gid": 1}, None])
    with raises(TargetError, key="targets", match=r"\[0\]=\[1, 2\]"):
        Rows([[1, 2]])


def test_columns_of_one_name_are_refused():
    table = pd.DataFrame([[1, 2, 3]], columns=["gid", "cx", "cx"])
    with raises(TargetError, key="cx", hint="Drop the others"):
        Rows(table)
