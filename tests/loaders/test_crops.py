"""Crops by number: what is in them, and one plan for a batch."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from kwcoco import CocoDataset  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

import ndzarr  # noqa: E402
import ndzarr.torch  # noqa: E402
from helpers.errors import raises  # noqa: E402
from ndzarr.errors import OptionError, TargetError  # noqa: E402
from ndzarr.torch import CropDataset, LocalityBatches, collate  # noqa: E402


def test_a_crop_is_what_load_sample_returns(sampler, table):
    crops = CropDataset(sampler, table)
    assert len(crops) == 101
    for k in (0, 17, 100, -1):
        sample, crop = sampler.load_sample(table.iloc[k]), crops[k]
        np.testing.assert_array_equal(crop["image"].numpy(), sample.image)
        assert crop["index"] == k % 101
        np.testing.assert_array_equal(crop["transform"].numpy(), sample.ndzarr.transform)
        if "valid" in sample:
            np.testing.assert_array_equal(crop["valid"].numpy(), sample.valid)
        else:
            assert "valid" not in crop


def test_boxes_are_corners_and_labels_count_categories(sampler, table):
    crops = CropDataset(sampler, [{"gid": 1}, {"gid": 2}])
    sample = sampler.load_sample(gid=1)
    crop = crops[0]
    x, y, w, h = sample.bbox.values.T
    np.testing.assert_allclose(crop["boxes"].numpy(), np.stack([x, y, x + w, y + h], 1).astype("f4"))
    assert [list(sampler.dset.index.cats)[k] for k in crop["labels"]] == sample.category_id.values.tolist()
    assert crop["annot_ids"].tolist() == sample.annot_id.values.tolist()
    assert crop["boxes"].dtype == torch.float32
    assert crop["labels"].dtype == torch.int64
    chosen = CropDataset(sampler, [{"gid": 1}], labels={next(iter(sampler.dset.index.cats)): 5})[0]["labels"].tolist()
    assert set(chosen) <= {5, -1}


def test_a_batch_is_read_by_one_plan_into_one_tensor(sampler, table):
    crops = CropDataset(sampler, table)
    fetched = crops.__getitems__([3, 3, 9])
    batch = collate(fetched)
    assert batch is fetched.batch
    assert batch["image"].shape == (3, 3, 32, 48)
    assert fetched[0]["image"].data_ptr() == batch["image"].data_ptr()  # views, not copies
    for k, sample in zip([3, 3, 9], fetched, strict=True):
        np.testing.assert_array_equal(sample["image"].numpy(), crops[k]["image"].numpy())


def test_samples_that_were_fetched_one_by_one_collate_to_the_same_batch(sampler, table):
    crops = CropDataset(sampler, table, masks="instance")
    numbers = list(range(12))
    together, apart = collate(crops.__getitems__(numbers)), collate([crops[k] for k in numbers])
    assert list(together) == list(apart)
    for name, value in together.items():
        pairs = zip(value, apart[name], strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), name


def test_masks_are_drawn_from_segmentations(sampler):
    semantic = CropDataset(sampler, [{"gid": 1}], masks="semantic")[0]
    instance = CropDataset(sampler, [{"gid": 1}], masks="instance")[0]
    assert instance["masks"].shape == (len(instance["labels"]), *semantic["image"].shape[-2:])
    assert instance["masks"].dtype == torch.bool
    for mask, box, label in zip(instance["masks"], instance["boxes"], instance["labels"], strict=True):
        rows, columns = torch.nonzero(mask, as_tuple=True)
        assert mask.any()
        assert rows.min() >= box[1] - 1
        assert columns.max() <= box[2] + 1
        assert (semantic["masks"][mask] > 0).all()
        assert label + 1 in semantic["masks"][mask]
    assert (semantic["masks"][~instance["masks"].any(0)] == 0).all()


def test_videos_have_masks_per_frame(sampler):
    crop = CropDataset(sampler, [{"vidid": 1}], masks="semantic")[0]
    assert crop["image"].ndim == 4
    assert crop["masks"].shape == (3, *crop["image"].shape[-2:])
    assert set(crop["frames"].tolist()) == {0, 1, 2}


def test_keys_hold_for_all_crops_and_dtype_is_torchs(sampler, table):
    crops = CropDataset(sampler, table, keys={"output_dims": (16, 16), "channels": "g"}, dtype=torch.float32)
    batch = collate(crops.__getitems__(range(5)))
    assert batch["image"].shape == (5, 1, 16, 16)
    assert batch["image"].dtype == torch.float32


def test_a_typo_in_keys_or_targets_is_found_at_once(sampler, table):
    with raises(TargetError, key="chanels", match="did you mean 'channels'"):
        CropDataset(sampler, table, keys={"chanels": "g"})
    assert repr(CropDataset(sampler, table[:5])).startswith("<ndzarr.torch.CropDataset: 5 crops of <ndzarr.CocoSampler")
    assert len(CropDataset(sampler, [])) == 0


def test_transforms_get_samples_and_batches(sampler, table):
    def halve(sample):
        assert sample["image"].ndim == 3
        return {**sample, "image": sample["image"] // 2}

    def invert(batch):
        assert batch["image"].ndim == 4
        return {**batch, "image": 255 - batch["image"]}

    plain = CropDataset(sampler, table)[4]["image"]
    assert torch.equal(CropDataset(sampler, table, transform=halve)[4]["image"], plain // 2)
    assert torch.equal(CropDataset(sampler, table, batch_transform=invert)[4]["image"], 255 - plain)
    both = CropDataset(sampler, table, transform=halve, batch_transform=invert)
    assert torch.equal(collate(both.__getitems__([4, 5]))["image"][0], (255 - plain) // 2)


def test_crops_of_different_sizes_are_padded_or_refused(sampler):
    targets = [{"gid": 1, "cx": 90, "cy": 90, "width": w, "height": 20} for w in (16, 24)]
    crops = CropDataset(sampler, targets)
    batch = collate(crops.__getitems__([0, 1]))
    assert batch["image"].shape == (2, 3, 20, 24)
    assert batch["valid"][0].sum() == 16 * 20
    with raises(OptionError, key="image", hint="output_dims"):
        collate([crops[0], crops[1]])


def test_it_is_without_annotations_where_there_is_no_dataset(tmp_path):
    pyramid = ndzarr.transcode(np.arange(4096, dtype="u1").reshape(64, 64), tmp_path / "a.zarr")
    targets = [{"key": "a", "y": slice(0, 8), "x": slice(k, k + 8)} for k in (0, 9)]
    crops = CropDataset(ndzarr.Sampler({"a": pyramid}), targets)
    batch = collate(crops.__getitems__([1, 0]))
    np.testing.assert_array_equal(batch["image"][0].numpy(), pyramid.read(y=slice(0, 8), x=slice(9, 17)))
    assert "boxes" not in batch
    with raises(OptionError, key="masks"):
        CropDataset(ndzarr.Sampler({"a": pyramid}), [], masks="semantic")


def test_wrong_options_are_refused(sampler, table):
    with raises(OptionError, key="masks", match="did you mean 'semantic'"):
        CropDataset(sampler, table, masks="semantics")
    with raises(OptionError, key="dtype"):
        CropDataset(sampler, table, dtype="float32")
    with raises(OptionError, key="keys", match="annotations="):
        CropDataset(sampler, table, keys={"with_annots": False})
    crops = CropDataset(sampler, table)
    for wrong in (101, -102):
        with pytest.raises(IndexError, match=f"crop {wrong} does not exist; there are 101"):
            crops[wrong]
        with pytest.raises(IndexError, match=f"crop {wrong} does not exist"):
            crops.__getitems__([0, wrong])
    with pytest.raises(TypeError):
        crops[1.5]


def test_a_dataset_pickles_small_and_whole(sampler, table):
    crops = pickle.loads(pickle.dumps(CropDataset(sampler, table)))
    assert torch.equal(crops[7]["image"], CropDataset(sampler, table)[7]["image"])


def test_tracks_may_be_named_and_batches_may_be_empty(tmp_path):
    dset = CocoDataset.demo("vidshapes1-frames2", verbose=0)
    for annotation in dset.dataset["annotations"]:
        annotation["track_id"] = f"car {annotation['track_id']}"
    named = ndzarr.CocoSampler(dset, workdir=tmp_path)
    away = {"gid": 1, "cx": -900, "cy": -900, "width": 20, "height": 20}
    crops = CropDataset(named, [{"gid": 1, "output_dims": (20, 20)}, away], masks="instance")
    batch = collate(crops.__getitems__([0, 1]))
    expected = named.load_sample(gid=1).track_id.values.tolist()
    assert expected
    assert batch["track_ids"] == [expected, []]
    alone = collate(crops.__getitems__([1]))
    assert list(alone) == list(batch)
    assert alone["boxes"][0].shape == (0, 4)
    assert alone["masks"][0].shape == (0, 20, 20)


def test_sixteen_bits_stay_sixteen_bits(tmp_path):
    pixels = np.arange(4096, dtype="u2").reshape(64, 64) * 16
    pyramid = ndzarr.transcode(pixels, tmp_path / "a.zarr")
    targets = [{"key": "a", "y": slice(0, 8), "x": slice(k, k + 8)} for k in (-3, 9)]
    crops = CropDataset(ndzarr.Sampler({"a": pyramid}), targets)
    for batch in (collate(crops.__getitems__([0, 1])), collate([crops[0], crops[1]])):
        assert batch["image"].dtype == torch.uint16
        np.testing.assert_array_equal(batch["image"][1, 0].numpy(), pixels[:8, 9:17])


@pytest.mark.parametrize("choose", [lambda t: t.positives(window_dims=(64, 64)), lambda t: t.grid((200, 200))])
def test_tables_of_targets_are_crops_as_they_are(sampler, choose):
    table = choose(sampler.targets)
    crops = CropDataset(sampler, table)
    seen = [k for batch in ndzarr.torch.loader(crops, 8) for k in batch["index"].tolist()]
    assert sorted(seen) == list(range(len(table)))


def test_transforms_may_leave_out_names_or_return_pairs(sampler, table):
    crops = CropDataset(sampler, table, batch_transform=lambda batch: {"image": batch["image"]})
    assert list(crops[3]) == ["image"]
    pairs = CropDataset(sampler, table, transform=lambda sample: (sample["image"], sample["index"]))
    images, numbers = next(iter(DataLoader(pairs, batch_size=4, collate_fn=collate)))
    assert images.shape == (4, 3, 32, 48)
    assert numbers.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_torchs_own_loader_takes_it_with_any_kind_of_worker(sampler, table, method):
    crops = CropDataset(sampler, table)
    assert crops[0]["image"].shape == (3, 32, 48)  # used before the fork
    batches = LocalityBatches(crops, 16, seed=4)
    loaded = DataLoader(crops, batch_sampler=batches, collate_fn=collate, num_workers=1, multiprocessing_context=method)
    seen = []
    for batch in loaded:
        seen += batch["index"].tolist()
        for k, image in zip(batch["index"].tolist()[:2], batch["image"], strict=False):
            assert torch.equal(image, crops[k]["image"])
    assert sorted(seen) == list(range(101))


def test_locality_batches_differ_by_epoch_and_may_drop_the_last(sampler, table):
    batches = LocalityBatches(CropDataset(sampler, table), 16, seed=1)
    first = list(batches)
    assert len(first) == len(batches) == 7
    batches.set_epoch(1)
    assert list(batches) != first
    batches.set_epoch(0)
    assert list(batches) == first
    assert len(list(LocalityBatches(CropDataset(sampler, table), 16, drop_last=True))) == 6


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """An image of 40 x 60 with a crowd, an annotation within it and one apart."""
    folder = tmp_path_factory.mktemp("crowded")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / "a.png")
    common = {"image_id": 1, "category_id": 7}
    return ndzarr.CocoSampler(
        {
            "images": [{"id": 1, "file_name": str(folder / "a.png"), "width": 60, "height": 40}],
            "categories": [{"id": 7, "name": "a"}],
            "annotations": [
                {"id": 1, **common, "bbox": [0, 0, 30, 40], "iscrowd": 1, "area": 1200, "tag": "many"},
                {"id": 2, **common, "bbox": [10, 10, 10, 10], "iscrowd": 0, "area": 100, "tag": "one"},
                {"id": 3, **common, "bbox": [40, 10, 40, 10], "iscrowd": 0, "area": 400, "tag": "one"},
            ],
        },
        folder / "work",
    )


@pytest.mark.parametrize("crowd", ["keep", "drop", "ignore"])
@pytest.mark.parametrize("apart", [False, True])
def test_crowds_and_other_keys_come_with_the_crops(crowded, crowd, apart):
    targets = [{"gid": 1}, {"gid": 1, "cx": 50, "cy": 20, "width": 20, "height": 40, "output_dims": (40, 60)}]
    semantic, instance = (CropDataset(crowded, targets, masks=m, crowd=crowd) for m in ("semantic", "instance"))
    if apart:
        found, masks = (collate([{**crops[k]} for k in range(2)]) for crops in (semantic, instance))
    else:
        found, masks = (collate(crops.__getitems__([0, 1])) for crops in (semantic, instance))
    first = [2, 3] if crowd == "drop" else [1, 2, 3]
    assert [ids.tolist() for ids in found["annot_ids"]] == [first, [3]]
    assert [v.tolist() for v in found["iscrowd"]] == [[int(i == 1) for i in first], [0]]
    assert [v.tolist() for v in found["area"]] == [[{1: 1200, 2: 100, 3: 400}[i] for i in first], [400]]
    assert [list(v) for v in found["annot_tag"]] == [["many" if i == 1 else "one" for i in first], ["one"]]
    assert [m.sum((1, 2)).tolist() for m in masks["masks"]] == [
        [{1: 1200, 2: 100, 3: 200}[i] for i in first],
        [600],  # 10 of 40 rows, all of 60 columns
    ]
    expected = np.zeros((40, 60), int)
    if crowd != "drop":
        expected[:, :30] = 1 if crowd == "keep" else -100
    expected[10:20, 10:20] = expected[10:20, 40:] = 1
    np.testing.assert_array_equal(found["masks"][0].numpy(), expected)
    assert ("ignore" in found) == (crowd == "ignore")


def test_crops_clip_and_leave_out_as_samples_do(crowded):
    target = {"gid": 1, "cx": 30, "cy": 20, "width": 20, "height": 40}
    for options in ({}, {"clip": True}, {"visible_thresh": 0.5}, {"clip": True, "visible_thresh": 0.3}):
        crop, sample = CropDataset(crowded, [target], **options)[0], crowded.load_sample(target, **options)
        assert crop["annot_ids"].tolist() == sample.annot_id.values.tolist()
        corners = sample.bbox.values.copy()
        corners[:, 2:] += corners[:, :2]
        np.testing.assert_array_equal(crop["boxes"].numpy(), corners.astype(np.float32))
    for name, value in (("crowd", "skip"), ("visible_thresh", 2), ("clip", "no")):
        with raises(ndzarr.NdzarrError, key=name):
            CropDataset(crowded, [target], **{name: value})
