"""A lazy batch is the batch, later: same shape, dtype, labels and values, on every scheduler."""

from __future__ import annotations

import pickle
import time

import dask
import numpy as np
import pandas
import pytest
import xarray
from hypothesis import given

import ndzarr
from helpers.batch_strategies import batches, tables
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr.errors import NdzarrError, OptionError, TargetError

RELAXED = examples(30)


def check_alike(lazy, batch):
    """They agree, but that a lazy batch may have a `valid` that is True everywhere, or everywhere along c."""
    done = lazy.compute()
    if "valid" in done and "valid" not in batch:
        assert done.valid.all()
        done = done.drop_vars("valid")
    elif "valid" in done and "c" in done.valid.dims and "c" not in batch.valid.dims:
        assert (done.valid == done.valid.isel(c=0)).all()
        done["valid"] = done.valid.isel(c=0, drop=True)
    xarray.testing.assert_identical(done, batch)
    assert lazy.sizes == batch.sizes
    assert {k: v.dtype for k, v in lazy.variables.items() if k != "valid"} == {
        k: v.dtype for k, v in batch.variables.items() if k != "valid"
    }


@RELAXED
@given(batches())
def test_any_targets_lazily_are_what_they_are_at_once(mixed, case):
    targets, options = case
    try:
        batch = mixed.load_batch(targets, **options)
    except NdzarrError:
        return
    with dask.config.set(scheduler="sync"):
        check_alike(mixed.lazy_batch(targets, 2, **options), batch)


@RELAXED
@given(tables())
def test_a_uniform_table_is_understood_by_column_as_by_row(mixed, case):
    table, options = case
    try:
        batch = mixed.load_batch(table, **options)
    except NdzarrError:
        return
    lazy = mixed.lazy_batch(table, 3, **options)
    with dask.config.set(scheduler="sync"):
        check_alike(lazy, batch)
    from ndzarr._batches.columnar import uniform_windows as uniform
    from ndzarr._sampling.annotations import Lookup
    from ndzarr.targets.table import Rows

    keys = {k: v for k, v in options.items() if k not in ("clip", "visible_thresh")}
    assert uniform(mixed._source, Rows(table), keys, Lookup()) is not None


@pytest.mark.parametrize("of", ["table", "dictionaries"])
def test_a_size_given_for_all_is_a_column_too(mixed, table, of):
    from ndzarr._batches.columnar import uniform_windows as uniform
    from ndzarr._sampling.annotations import Lookup
    from ndzarr.targets.table import Rows

    places = table[["gid", "cx", "cy"]] if of == "table" else table[["gid", "cx", "cy"]].to_dict("records")
    size = {"width": 32, "height": 24.0}
    assert uniform(mixed._source, Rows(places), size, Lookup()) is not None
    lazy = mixed.lazy_batch(places, 8, **size)
    check_alike(lazy, mixed.load_batch(places, **size))
    for k in (0, 19):
        expected = mixed.load_sample({**table[["gid", "cx", "cy"]].iloc[k], **size})
        xarray.testing.assert_identical(lazy.ndzarr.sample(k), expected)


def test_tables_of_windows_around_annotations_are_understood_by_column_too(mixed):
    from ndzarr._batches.columnar import uniform_windows as uniform
    from ndzarr._sampling.annotations import Lookup
    from ndzarr.targets.table import Rows

    positives = mixed.targets.positives((32, 24))
    positives = positives[positives.gid.isin([1, 2])].reset_index(drop=True)
    assert len(positives) > 4
    assert "aid" in positives
    assert uniform(mixed._source, Rows(positives), {}, Lookup()) is not None
    lazy = mixed.lazy_batch(positives, 3)
    with dask.config.set(scheduler="sync"):
        check_alike(lazy, mixed.load_batch(positives))
    last = len(positives) - 1
    xarray.testing.assert_identical(lazy.ndzarr.sample(last), mixed.load_sample(positives.iloc[last]))

    elsewhere = positives.assign(gid=[3 - gid for gid in positives.gid])
    assert uniform(mixed._source, Rows(positives[["aid", "cx", "cy"]]), {"width": 9, "height": 9}, Lookup()) is None
    with raises(TargetError, key="aid"):
        mixed.lazy_batch(elsewhere, 3)
    with raises(TargetError, key="aid", match="999"):
        mixed.lazy_batch(positives.assign(aid=999), 3)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {"gid": rng.integers(1, 3, 20), "cx": rng.integers(30, 90, 20), "cy": rng.integers(30, 200, 20),
         "width": 32, "height": 24, "label": "x", "annot_ids": [[1]] * 20}
    )  # fmt: skip


def test_building_reads_no_pixels(mixed, table, monkeypatch):
    from ndzarr._store.arrays import ChunkArray

    monkeypatch.setattr("ndzarr._store.core.enabled", False)  # which would not call what is counted here
    monkeypatch.setattr(ChunkArray, "decode", lambda *_: pytest.fail("a chunk was decoded"))
    lazy = mixed.lazy_batch(table, 8)
    assert lazy.image.shape == (20, 3, 24, 32)
    assert lazy.image.chunks[0] == (8, 8, 4)
    assert "valid" not in lazy


def test_the_graph_grows_with_batches_alone(mixed, table):
    def tasks(rows, size):
        return len(mixed.lazy_batch(rows, size).__dask_graph__())

    per_batch = tasks(table, 5) - tasks(table, 10)
    many = pandas.concat([table] * 10)
    assert tasks(many, 100) == tasks(table, 10)
    assert tasks(many, 50) - tasks(many, 100) == per_batch
    assert per_batch <= 2 * 6


def test_names_are_the_same_every_time(mixed, table):
    def names(*args, **options):
        return {v.data.name for v in mixed.lazy_batch(*args, **options).variables.values() if v.chunks}

    again = pickle.loads(pickle.dumps(mixed))
    assert names(table, 8) == names(table.copy(), 8)
    assert names(table, 8) == {v.data.name for v in again.lazy_batch(table, 8).variables.values() if v.chunks}
    images = [mixed.lazy_batch(*a, **o).image.data.name for a, o in
              [((table, 8), {}), ((table, 9), {}), ((table[1:], 8), {}), ((table, 8), {"dtype": "f4"})]]  # fmt: skip
    assert len(set(images)) == 4


def test_samples_and_map_blocks(mixed, table):
    lazy = mixed.lazy_batch(table, 8)
    xarray.testing.assert_identical(lazy.ndzarr.sample(3), mixed.load_sample(table.iloc[3]))
    xarray.testing.assert_identical(lazy.isel(sample=[5, 3]).ndzarr.sample(1), mixed.load_sample(table.iloc[3]))
    brightness = lazy.image.data.map_blocks(lambda a: a.mean((1, 2, 3)), drop_axis=(1, 2, 3), dtype=float)
    expected = mixed.load_batch(table).image.mean(("c", "y", "x")).values
    np.testing.assert_allclose(brightness.compute(scheduler="threads"), expected)
    mean = xarray.map_blocks(lambda ds: ds.image.mean(("c", "y", "x")), lazy)
    np.testing.assert_allclose(mean.compute(scheduler="threads"), expected)


def test_a_million_targets_are_a_dataset_in_seconds(mixed):
    rng = np.random.default_rng(0)
    n = 1_000_000
    many = pandas.DataFrame(
        {"gid": rng.integers(1, 3, n), "cx": rng.integers(16, 100, n), "cy": rng.integers(16, 200, n),
         "width": 32, "height": 32}
    )  # fmt: skip
    start = time.process_time()
    lazy = mixed.lazy_batch(many, 256)
    assert time.process_time() - start < 20  # 1 s on a quiet machine; looking at each row would take minutes
    assert lazy.sizes["sample"] == n
    some = lazy.isel(sample=slice(512, 520)).image.compute(scheduler="sync")
    np.testing.assert_array_equal(some, mixed.load_batch(many[512:520]).image)


def test_an_image_that_breaks_the_promise_of_the_first_is_an_error_when_computed(mixed):
    table = pandas.DataFrame({"gid": [1, 1, 4], "cx": 50, "cy": 50, "width": 8, "height": 8})
    lazy = mixed.lazy_batch(table, 2)
    with raises(TargetError, hint="channels=", match=r"target 2 .*uint16 grey.*target 0 .*uint8 r\|g\|b"):
        lazy.compute(scheduler="sync")


def test_bad_input_is_refused_at_once(mixed, table):
    for wrong in (0, 2.5, "8", None):
        with raises(OptionError, key="batch_size"):
            mixed.lazy_batch(table, wrong)
    with raises(TargetError, key="gid", match="target 20: gid=99"):
        mixed.lazy_batch(pandas.concat([table, table[:1].assign(gid=99)]))
    with raises(TargetError, key="targets"):
        mixed.lazy_batch(table[:0])
    with raises(TargetError, key="sizes"):
        mixed.lazy_batch(pandas.concat([table, table.assign(width=9)]), sizes="refuse")
    with raises(TargetError, key="windowdims"):
        mixed.lazy_batch(table.assign(windowdims=3))
    with raises(OptionError, key="sizes"):
        mixed.lazy_batch(table, sizes="crop")


def test_named_pyramids_are_lazy_in_the_same_way(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (150, 170, 3), dtype=np.uint8)
    for name in "ab":
        ndzarr.transcode(pixels, tmp_path / f"{name}.zarr")
    sampler = ndzarr.Sampler({name: tmp_path / f"{name}.zarr" for name in "ab"})
    table = pandas.DataFrame({"key": ["a", "b", "b"], "cx": [50, 4, 60], "cy": 70, "width": 20, "height": 30})
    for rows in (table, table[::2], [dict(r) for _, r in table.iterrows()]):
        check_alike(sampler.lazy_batch(rows, 2), sampler.load_batch(rows))
    assert sampler.lazy_batch(table, 2).image.data.name == sampler.lazy_batch(table, 2).image.data.name


@pytest.mark.slow
def test_other_processes_compute_it(mixed, table):
    lazy = mixed.lazy_batch(table, 8)
    xarray.testing.assert_identical(lazy.compute(scheduler="processes", num_workers=1), mixed.load_batch(table))
