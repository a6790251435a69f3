"""Targets are checked once, and say what is wrong with them."""

from __future__ import annotations

import copy
from math import ceil

import pytest

from ndzarr.errors import TargetError
from ndzarr.sampler.target import parse
from ndzarr.sampler.values import centred


def test_unknown_keys_are_refused_with_the_nearest_known_one():  # ndsampler's defect 11
    with pytest.raises(TargetError, match=r"'windowdims'.*did you mean 'window_dims'"):
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
    ],
)
def test_contradictions_are_refused(target):
    with pytest.raises(TargetError):
        parse(target)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"gids": []}, "at least one image"),
        ({"gid": 1, "scale": 0}, "above 0"),
        ({"gid": 1, "scale": "big"}, "a number or a pair"),
        ({"gid": 1, "x": slice(0, 9, 2)}, "step 1"),
        ({"gid": 1, "space_slice": (slice(0, 3),)}, "slice along y, slice along x"),
        ({"aid": 1, "window_dims": "huge"}, "'extent', 'square'"),
    ],
)
def test_values_of_the_wrong_form_are_refused_in_words(target, words):
    with pytest.raises(TargetError, match=words):
        parse(target)


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
