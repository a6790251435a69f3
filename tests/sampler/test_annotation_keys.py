"""Keys of annotations beside their geometry are columns, and crowds may be left out or ignored."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray
from PIL import Image

import ndzarr
from helpers.errors import raises
from ndzarr.errors import NdzarrError

ANNOTATIONS = [
    {"bbox": [0, 0, 60, 40], "iscrowd": 1, "area": 2000.5, "weight": 2, "tag": "big", "x": 7, "flag": True},
    {"bbox": [10, 10, 10, 10], "iscrowd": 0, "score": 0.5, "ignore": 1, "tag": None, "x": 8, "flag": False},
    {"bbox": [30, 10, 10, 10], "area": 100, "weight": 1, "a b/c": [1, {"d": 2}], "x": 9, "flag": True},
    {"bbox": [70, 50, 5, 5], "image_id": 2, "iscrowd": 1, "score": 1, "x": -1, "flag": False},
]
NAN = np.nan
COLUMNS = {
    "iscrowd": [1, 0, 0, 1],
    "ignore": [0, 1, 0, 0],
    "area": [2000.5, NAN, 100, NAN],
    "weight": [2, NAN, 1, NAN],
    "score": [NAN, 0.5, NAN, 1],
    "tag": ["big", "", "", ""],
    "annot_x": [7, 8, 9, -1],
    "flag": [True, False, True, False],
    "a_b_c": ["", "", '[1, {"d": 2}]', ""],
}


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(folder / "a.png")
    content = {
        "images": [{"id": k, "file_name": str(folder / "a.png"), "width": 80, "height": 60} for k in (1, 2)],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": 1, **annotation} for k, annotation in enumerate(ANNOTATIONS, 1)
        ],
    }
    return ndzarr.CocoSampler(content, folder / "work")


def check(dataset, rows=range(4)):
    for name, values in COLUMNS.items():
        assert dataset[name].dims == ("annot",)
        np.testing.assert_array_equal(dataset[name].values, np.array(values, dataset[name].dtype)[list(rows)])
    assert dataset.iscrowd.dtype == dataset["ignore"].dtype == dataset.annot_x.dtype == np.int64
    assert dataset.area.dtype == np.float64


WINDOWS = [{"gid": gid, "cx": 40, "cy": 30, "width": 80, "height": 60} for gid in (1, 2)]


def test_all_other_keys_are_columns_of_samples(sampler):
    sample = sampler.load_sample(WINDOWS[0])
    check(sample, range(3))
    check(pickle.loads(pickle.dumps(sample)), range(3))
    check(sampler.load_sample(gid=1, annot_ids=[1, 2, 3]), range(3))
    found = sample.ndzarr.detections[0]
    assert found.data["iscrowd"].tolist() == [1, 0, 0]
    assert found.take([1]).data["tag"].tolist() == [""]


@pytest.mark.parametrize(
    "targets", [pd.DataFrame(WINDOWS), WINDOWS, [{**w, "scale": 0.5} for w in WINDOWS], [{"gid": 1}, {"gid": 2}]]
)
def test_all_other_keys_are_columns_of_batches_and_extractions(sampler, tmp_path, targets):
    for batch in (sampler.load_batch(targets), sampler.lazy_batch(targets, 1)):
        check(batch)
        assert batch.annot_sample.values.tolist() == [0, 0, 0, 1]
    check(sampler.load_batch(targets).ndzarr.sample(1), [3])
    with xarray.open_zarr(sampler.extract(targets, tmp_path / "crops.zarr", shard=1)) as stored:
        check(stored.load())


def test_datasets_without_such_keys_have_no_further_columns(sampler):
    plain = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}
    content = {**sampler.dset.dataset, "annotations": [plain]}
    sample = ndzarr.CocoSampler(content, sampler.workdir).load_sample(gid=1)
    assert set(sample.data_vars) == {"image", "annot_id", "category_id", "track_id", "frame", "bbox"}


def test_numbers_that_no_column_holds_are_text(sampler):
    large = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "n": 10**400}
    content = {**sampler.dset.dataset, "annotations": [large]}
    assert ndzarr.CocoSampler(content, sampler.workdir).load_sample(gid=1).n.values.tolist() == [str(10**400)]


@pytest.mark.parametrize("targets", [pd.DataFrame(WINDOWS), [{"gid": 1}, {"gid": 2}]])
def test_crowds_are_kept_dropped_or_marked(sampler, tmp_path, targets):
    for crowd, ids, ignore in (("keep", [1, 2, 3, 4], [0, 1, 0, 0]), ("drop", [2, 3], [1, 0]),
                               ("ignore", [1, 2, 3, 4], [1, 1, 0, 1])):  # fmt: skip
        for batch in (
            sampler.load_batch(targets, crowd=crowd),
            sampler.lazy_batch(targets, crowd=crowd),
            xarray.open_zarr(sampler.extract(targets, tmp_path / f"{crowd}.zarr", crowd=crowd)),
        ):
            assert batch.annot_id.values.tolist() == ids
            assert batch["ignore"].values.tolist() == ignore
        sample = sampler.load_sample(gid=1, crowd=crowd)
        assert sample.annot_id.values.tolist() == ids[:-1] if crowd != "drop" else [2, 3]
        assert len(sample.ndzarr.detections[0]) == len(sample.annot_id)


def test_crowds_are_no_positives_unless_kept(sampler):
    choose = sampler.targets
    assert choose.positives((9, 9)).aid.tolist() == [1, 2, 3, 4]
    for cover in (False, True):
        assert set(choose.positives((9, 9), crowd="drop", cover=cover).annot_ids) == {(2,), (3,)}
        assert set(choose.positives((9, 9), crowd="ignore", cover=cover).annot_ids) == {(1, 2), (1, 3)}


def test_crowds_are_regions_that_grids_ignore(sampler):
    kinds = {crowd: sampler.targets.grid((20, 20), crowd=crowd) for crowd in ("keep", "drop", "ignore")}
    assert (kinds["keep"].kind == "positive").sum() == 6 + 1
    assert (kinds["drop"].kind == "positive").sum() == 2
    assert set(kinds["drop"].annot_ids) == {(), (2,), (3,)}
    assert "coverage" not in kinds["drop"]
    ignored = kinds["ignore"]
    assert ignored.coverage.tolist()[:12] == [1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert (ignored.kind == "ignored").sum() == 6
    assert sampler.targets.grid((20, 20), crowd="ignore", ignore_coverage=None).kind.eq("positive").sum() == 2


def test_another_word_for_crowds_is_an_error(sampler):
    for use in (sampler.targets.grid, sampler.targets.positives):
        with raises(NdzarrError, key="crowd"):
            use((9, 9), crowd="skip")
    with raises(NdzarrError, key="crowd"):
        sampler.load_sample(gid=1, crowd="skip")
