"""Targets are checked once, and say what is wrong with them."""

from __future__ import annotations

import copy
from math import ceil

import numpy as np
import pytest

from helpers.errors import raises
from ndzarr._sampling.target import centred_interval as centred
from ndzarr._sampling.target import parse
from ndzarr.errors import TargetError


def test_unknown_keys_are_refused_with_the_nearest_known_one():  # ndsampler's defect 11
    with raises(TargetError, key="windowdims", match="did you mean 'window_dims'"):
        parse({"gid": 1, "windowdims": (64, 64)})


@pytest.mark.parametrize(
    "target",
    [
        {"gid": 1, "vidid": 1},
        {"gid": 1, "gids": [1, 2]},
        {"gid": 1, "image_id": 2},
        {"gid": 1, "space_slice": (slice(0, 3), slice(0, 3)), "cx": 3, "cy": 3},
        {"gid": 1, "cx": 3},
        {"gid": 1, "cx": 3, "cy": 3, "width": 5},
        {"gid": 1, "x": slice(0, 3), "cx": 2, "cy": 2},
        {"key": "a", "gid": 1},
        {"gid": 1, "use_native_scale": True, "output_dims": (3, 4)},
        {"gid": 1, "use_native_scale": True, "resolution": 10},
        {"gid": 1, "lazy": True, "finalize": True},
        {"gid": 1, "fill": 3, "padkw": {"constant_values": 4}},
        {"vidid": 1, "time_slice": slice(0, 2), "slices": (slice(0, 1), slice(0, 3), slice(0, 3))},
    ],
)
def test_contradictions_are_refused(target):
    with pytest.raises(TargetError):
        parse(target)


@pytest.mark.parametrize(
    "target",
    [
        {"gids": []},
        {"gid": 1, "scale": 0},
        {"gid": 1, "scale": "big"},
        {"gid": 1, "x": slice(0, 9, 2)},
        {"gid": 1, "space_slice": (slice(0, 3),)},
        {"aid": 1, "window_dims": "huge"},
    ],
)
def test_values_of_the_wrong_form_are_refused_by_their_key(target):
    with raises(TargetError, key=list(target)[-1]):
        parse(target)


NAN, INF = float("nan"), float("inf")
FORMS = {
    "gid": [[1, 2], np.array([1]), {}],
    "gids": [[[1, 2]], {1, 2}],
    "space_slice": [5, "ab", slice(0, 3), (), (slice("a", "b"), slice(0, 3)), (slice(NAN, 4), None), [[0, 3], [0, 3]]],
    "slices": [5, (slice(0, 3),), (slice(0, 3),) * 4],
    "x": [5, "5", (0, 5), slice(0, INF), slice(0, 2.5)],
    "time_slice": ["x", [0, 1], 1.0, slice("a", 2), slice(0, 1.5), slice(NAN, 2)],
    "time_start": ["a", 0.5],
    "window_dims": [5, "Square", (NAN, 3), ("a", "b"), (INF, 3), {3, 4}, (2, 3, 4)],
    "channels": [5, "", b"r", [None], [1], {"r": 1}, [["r"]], ("r", "")],
    "scale": [NAN, INF, 1j, (1, 2, 3), [0.5], {"x": 1, "y": 1}],
    "output_dims": [5, ("a", "b"), (NAN, 4), (INF, 4), (5.5, 4)],
    "interpolation": [5, "Linear", ["linear"]],
    "antialias": ["off", 2, [True]],
    "dtype": ["U3", object, str, "M8[s]", [("a", "u1")]],
    "nodata": [-9999, True, NAN, ["float"]],
    "padkw": [
        "reflect",
        5,
        {"mod": "reflect"},
        {"mode": len},
        {"mode": "reflect", "reflect_type": "x"},
        {"mode": "edge", "end_values": 3},
        {"bogus": 1},
    ],
    "fill": ["a", 1j, [1, 2]],
    "pad": [NAN, "ab", {3, 4}, (3.5, 4), (None, None)],
    "lazy": ["no", 2],
    "use_native_scale": ["no"],
    "bounds": [5, (0, 0, 1), "abcd"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, wrong in FORMS.items() for value in wrong], ids=repr)
def test_whatever_is_written_under_a_key_is_understood_or_a_target_error_that_names_it(key, value):
    named = ("space_slice", "y") if key == "space_slice" else ({"time_start": "time_slice"}.get(key, key),)
    video = key in ("time_slice", "time_start")
    with raises(TargetError) as caught:
        parse({**({} if key in ("gid", "gids") else {"vidid": 1} if video else {"gid": 1}), key: value})
    assert caught.value.key in named
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", [5, [1], "gid", {1: 2}, [("gid", 1)]])
def test_what_is_no_dictionary_of_keys_is_no_target(target):
    with pytest.raises(TargetError):
        parse(target)


@pytest.mark.parametrize("name", ["with_annots", "visible_thresh", "clip"])
def test_arguments_among_the_keys_of_a_target_are_told_apart_from_unknown_keys(name):
    with raises(TargetError, key=name, match="argument of load_sample"):
        parse({"gid": 1, name: True})
    with raises(TargetError, key=name[:-2] + name[-1], match=f"did you mean {name!r}"):
        parse({"gid": 1, name[:-2] + name[-1]: True})


def test_numbers_of_numpy_mean_what_pythons_do():
    ours = parse(
        {"gid": np.int64(1), "scale": np.array(0.5), "pad": np.array(2), "fill": np.array(3), "lazy": np.True_,
         "window_dims": np.array([4, 5]), "output_dims": None, "antialias": np.False_}
    )  # fmt: skip
    assert ours == parse(
        {"gid": 1, "scale": 0.5, "pad": 2, "fill": 3, "lazy": 1, "window_dims": (4, 5), "antialias": 0}
    )
    assert type(ours.gids[0]) is int


def test_the_callers_dictionary_is_never_changed():
    target = {"image_id": 1, "space_slice": (slice(0, 5), slice(0, 5)), "channels": ["r"], "scale": [1, 2]}
    before = copy.deepcopy(target)
    parse(target)
    assert target == before


def test_aliases_mean_the_same():
    assert parse({"image_id": 4, "annot_id": 2}) == parse({"gid": 4, "aid": 2})
    assert parse({"video_id": 4}) == parse({"vidid": 4})


@pytest.mark.parametrize("size", [1, 2, 3, 64, 65, 64.4])
@pytest.mark.parametrize("centre", [0, 0.25, 0.5, 10, 31.75, -3.5])
def test_a_window_has_exactly_the_size_asked_for(centre, size):  # ndsampler's defect 20
    start, stop = centred(centre, size)
    assert stop - start == ceil(size)
    assert -1 < (start + stop) / 2 - centre <= 0
