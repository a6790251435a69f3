"""Every sample of a batch is what `load_sample` returns."""

from __future__ import annotations

import pickle

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

RELAXED = examples(80)


@RELAXED
@given(batches())
def test_every_sample_of_a_batch_is_what_load_sample_returns(mixed, case):
    targets, options = case
    try:
        alone = [mixed.load_sample(t, **options) for t in targets]
    except NdzarrError:
        with pytest.raises(NdzarrError):
            mixed.load_batch(targets, **options)
        return
    try:
        batch = mixed.load_batch(targets, **options)
    except TargetError:
        if len({(a.image.dtype, tuple(a.c.values)) for a in alone}) == 1:
            raise
        return
    for i, expected in enumerate(alone):
        found = batch.ndzarr.sample(i)
        xarray.testing.assert_identical(found, expected)
        np.testing.assert_array_equal(found.ndzarr.transform, batch.transform[i])
        assert found.ndzarr.target == expected.ndzarr.target
        check_columns(batch, i, expected)


@examples(40)
@given(tables())
def test_every_sample_of_a_table_is_what_load_sample_returns(mixed, case):
    table, options = case
    keys = {k: v for k, v in options.items() if k not in ("clip", "visible_thresh")}
    rows = [{k: v for k, v in row.items() if v is not None} | keys for row in table.to_dict("records")]
    looking = {k: v for k, v in options.items() if k not in keys}
    try:
        alone = [mixed.load_sample(row, **looking) for row in rows]
    except NdzarrError:
        with pytest.raises(NdzarrError):
            mixed.load_batch(table, **options)
        return
    for batch in (mixed.load_batch(table, **options), mixed.load_batch(rows, **looking)):
        for i, expected in enumerate(alone):
            xarray.testing.assert_identical(batch.ndzarr.sample(i), expected)
            check_columns(batch, i, expected)


def test_windows_that_are_copies_take_the_short_way(mixed):
    from ndzarr._batches.columnar import copies
    from ndzarr._sampling.annotations import Lookup
    from ndzarr.targets.table import Rows

    def found(rows, **keys):
        return copies(mixed._source, Rows(rows), keys, Lookup())

    inside, reduced = windows(4), [{**t, "scale": 0.5} for t in windows(4)]
    assert found(inside) is not None
    assert found(pandas.DataFrame(inside)) is not None
    assert found(inside).plan.reads == mixed.plan(inside).reads
    assert found(reduced) is None
    assert found([*inside, {**inside[0], "cx": 2}]) is None  # partly outside
    assert found(inside, dtype="f4") is None
    assert found([{**t, "gid": 4} for t in inside]) is None  # nodata


def check_columns(batch, i, sample):
    """The plain columns of a batch say the same, without the accessor."""
    own = {d: slice(n) for d, n in zip(sample.image.dims, sample.image.shape, strict=True)}
    one = batch.isel(sample=i, **own)
    np.testing.assert_array_equal(one.image, sample.image)
    np.testing.assert_array_equal(one.native_y, sample.y)
    np.testing.assert_array_equal(one.native_x, sample.x)
    valid = sample.valid if "valid" in sample else xarray.ones_like(sample.image, bool)
    if "valid" in batch:
        assert (one.valid == valid).all()
        assert int(batch.valid[i].sum()) == int((one.valid & True).sum())  # nothing beyond its own size is real
    else:
        assert valid.all()
    if "t" in sample.dims:
        np.testing.assert_array_equal(one.gid, sample.gid)
        np.testing.assert_array_equal(one.frame_index, sample.frame_index)
    mine = batch.annot_sample.values == i
    for name in ("annot_id", "category_id", "track_id", "frame", "bbox"):
        np.testing.assert_array_equal(batch[name].values[mine], sample[name].values)


def windows(n, size=32):
    rng = np.random.default_rng(0)
    return [{"gid": 1, "cx": x, "cy": y, "width": size, "height": size} for x, y in rng.uniform(40, 250, (n, 2))]


def test_a_table_and_its_rows_are_the_same_targets(mixed):
    targets = windows(5)
    table = pandas.DataFrame(targets).assign(weight=1.0, note_mine="x")
    xarray.testing.assert_identical(mixed.load_batch(table), mixed.load_batch(targets))


def test_keyword_arguments_hold_for_all_targets(mixed):
    batch = mixed.load_batch(windows(3), channels="b|r", scale=0.5, dtype="float32", with_annots=False)
    assert batch.image.shape == (3, 2, 16, 16)
    assert batch.image.dtype == "float32"
    assert list(batch.c.values) == ["b", "r"]
    assert "annot_id" not in batch


def test_every_chunk_is_decoded_once(mixed, monkeypatch):
    from ndzarr._store.arrays import ChunkArray

    decoded = []
    real = ChunkArray.decode
    monkeypatch.setattr("ndzarr._store.core.enabled", False)  # which would not call what is counted here
    monkeypatch.setattr(
        ChunkArray, "decode", lambda self, chunk, *rest: decoded.append(chunk) or real(self, chunk, *rest)
    )
    targets = windows(30)
    mixed.load_batch(targets)
    assert len(decoded) == len(set(decoded)) == mixed.plan(targets).explain().chunks


def test_samples_of_other_sizes_are_padded_and_marked(mixed):
    targets = [*windows(1, 32), *windows(1, 20)]
    batch = mixed.load_batch(targets)
    assert batch.image.shape == (2, 3, 32, 32)
    assert batch.size_y.values.tolist() == [32, 20]
    assert batch.valid[0].all()
    assert batch.valid[1, :20, :20].all()
    assert int(batch.valid[1].sum()) == 400
    assert not batch.image[1, :, 20:].any()


def test_videos_of_other_lengths_are_padded_in_time(mixed):
    batch = mixed.load_batch([{"vidid": 1}, {"vidid": 1, "time_slice": slice(1, 3)}], channels="r")
    assert batch.image.shape == (2, 4, 1, 96, 120)
    assert batch.gid.values.tolist() == [[10, 11, 12, 13], [11, 12, -1, -1]]
    assert np.isnat(batch.time.values).tolist() == [[False] * 4, [False, False, True, True]]
    assert not batch.valid[1, 2:].any()


def test_sizes_that_differ_can_be_refused(mixed):
    targets = [*windows(2, 32), *windows(1, 20)]
    with raises(TargetError, key="sizes", match="0 has 3 x 32 x 32, .* 2 has 3 x 20 x 20"):
        mixed.load_batch(targets, sizes="refuse")
    with raises(OptionError, key="sizes", match="did you mean 'pad'"):
        mixed.load_batch(targets, sizes="padd")


@pytest.mark.parametrize(
    ("targets", "key", "hint", "fact"),
    [
        ([{"gid": 1}, {"gid": 1}, {"gid": 4}], "channels", "channels=", r"0 has r\|g\|b, sample 2 has grey"),
        ([{"gid": 1}, {"vidid": 1}], None, "batches of their own", "0 has c y x, sample 1 has t c y x"),
        ([{"gid": 1}, {"gid": 1, "dtype": "f4"}], "dtype", "dtype=", "0 has uint8, sample 1 has float32"),
        ([], "targets", None, None),
        ([{"gid": 1, "use_native_scale": True}], "use_native_scale", "one by one", "target 0"),
        ([{"gid": 1, "lazy": True}], "lazy", "lazy_batch", "target 0"),
        ([{"gid": 1}, {"gid": 99}], "gid", None, "target 1: gid=99"),
        ([{"gid": 1}] * 4 + [{"gid": 1, "widht": 3}], "widht", None, "target 4: .* did you mean 'width'"),
    ],
)
def test_what_does_not_fit_together_is_an_error_that_names_it(mixed, targets, key, hint, fact):
    with raises(TargetError, key=key, hint=hint, match=fact):
        mixed.load_batch(targets)


def test_selections_of_a_batch_know_their_samples(mixed):
    targets = windows(6)
    batch = mixed.load_batch(targets).isel(sample=[4, 1])
    for i, k in enumerate((4, 1)):
        xarray.testing.assert_identical(batch.ndzarr.sample(i), mixed.load_sample(targets[k]))
    assert [t["cx"] for t in batch.ndzarr.targets] == [targets[4]["cx"], targets[1]["cx"]]
    assert len(batch.ndzarr.detections) == 2
    with raises(TargetError, key="sample", match="2"):
        batch.ndzarr.sample(2)


def test_a_batch_pickles_without_its_sampler(mixed):
    batch = mixed.load_batch([*windows(3), {"gid": 1, "cx": 3, "cy": 3, "width": 9, "height": 9}])
    copied = mixed.load_batch(windows(3))
    xarray.testing.assert_identical(pickle.loads(pickle.dumps(copied)).ndzarr.sample(1), copied.ndzarr.sample(1))
    assert b"Library" not in pickle.dumps(copied)
    stored = pickle.dumps(batch)
    assert b"Library" not in stored
    again = pickle.loads(stored)
    xarray.testing.assert_identical(again, batch)
    xarray.testing.assert_identical(again.ndzarr.sample(2), batch.ndzarr.sample(2))


def test_named_pyramids_make_batches_in_the_same_way(tmp_path):
    rng = np.random.default_rng(0)
    ndzarr.transcode(rng.integers(0, 255, (150, 170, 3), dtype=np.uint8), tmp_path / "a.zarr")
    ndzarr.transcode(rng.integers(0, 255, (90, 80, 3), dtype=np.uint8), tmp_path / "b.zarr", nodata=3)
    sampler = ndzarr.Sampler({"a": tmp_path / "a.zarr", "b": tmp_path / "b.zarr"})
    targets = [
        {"key": "a", "y": slice(10, 50), "x": slice(-4, 40)},
        {"key": "b", "y": slice(60, 100), "x": slice(0, 44), "fill": 9},
        {"key": "a", "cx": 50, "cy": 60, "width": 30, "height": 20, "scale": 0.5},
    ]
    batch = sampler.load_batch(targets)
    assert batch.key.values.tolist() == ["a", "b", "a"]
    again = pickle.loads(pickle.dumps(batch))
    for i, target in enumerate(targets):
        expected = sampler.load_sample(target)
        xarray.testing.assert_identical(batch.ndzarr.sample(i), expected)
        xarray.testing.assert_identical(again.ndzarr.sample(i), expected)
    with raises(TargetError, key="sizes", hint="sizes='pad'"):
        sampler.load_batch(targets, sizes="refuse")


def test_a_window_wholly_outside_may_be_reduced_where_pixels_can_lack_data(mixed):
    target = {"gid": 4, "y": slice(0, 3), "x": slice(-3, 0), "scale": 0.25}
    assert not mixed.load_sample(target).valid.any()
    assert not mixed.load_batch([target]).valid.any()


def test_a_window_at_the_end_of_the_world_is_as_empty_in_a_table_as_alone(mixed):
    table = pandas.DataFrame({"gid": 1, "cx": [50.0, 1e20], "cy": 50, "width": 8, "height": 8})
    for targets in (table, table.to_dict("records")):
        batch = mixed.load_batch(targets)
        xarray.testing.assert_identical(batch.ndzarr.sample(1), mixed.load_sample(table.iloc[1]))
        assert not batch.valid[1].any()
