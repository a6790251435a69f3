import copy
import pickle

import pytest

import ndzarr
from helpers.errors import raises
from ndzarr import errors

LEAVES = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, errors.NdzarrError)]


@pytest.mark.parametrize("kind", LEAVES)
@pytest.mark.parametrize("again", [lambda e: e, lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_attributes_survive_copies_and_the_hint_ends_the_message(kind, again):
    error = again(kind("/a.zarr: is bad", path="/a.zarr", key="k", window={"y": [0, 3]}, hint="Do that"))
    assert str(error) == "/a.zarr: is bad. Do that"
    assert (error.path, error.key, error.window, error.hint) == ("/a.zarr", "k", {"y": [0, 3]}, "Do that")


@pytest.mark.parametrize("kind", LEAVES)
def test_attributes_that_are_not_given_are_none(kind):
    error = kind("what is wrong")
    assert str(error) == "what is wrong"
    assert error.path is error.key is error.window is error.hint is None


def test_errors_carry_what_they_are_about(tmp_path):
    with raises(errors.MissingError, path=tmp_path / "none.zarr"):
        ndzarr.open(tmp_path / "none.zarr")


def test_the_package_lists_its_public_names_once_and_nothing_else():
    modules = {"adapters", "categories", "errors", "targets", "torch", "toydata", "viz"}
    assert set(dir(ndzarr)) == {*ndzarr.__all__, *modules, "__version__"}
    assert len(dir(ndzarr)) == len(set(dir(ndzarr)))
    assert all(hasattr(ndzarr, name) for name in set(dir(ndzarr)) - {"torch"})
