"""What ndsampler's users know by name: items, positives, negatives, whole images, look-ups, counts, the hash."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from helpers.errors import raises
from ndzarr.errors import TargetError
from ndzarr.ndsampler_compat import CocoSampler


@pytest.fixture
def sampler(dataset, tmp_path):
    return CocoSampler(dataset[0], tmp_path / "work")


def touches(sample, content):
    """Whether a sample's window shares area with any annotation of its image."""
    y, x = sample.ndzarr.target["space_slice"]
    return any(
        a["image_id"] == sample.ndzarr.target["gid"]
        and max(a["bbox"][0], x.start) < min(a["bbox"][0] + a["bbox"][2], x.stop)
        and max(a["bbox"][1], y.start) < min(a["bbox"][1] + a["bbox"][3], y.stop)
        for a in content["annotations"]
    )


def test_items_are_positives_in_the_order_of_the_dataset_then_negatives(sampler, dataset):
    ids = [sampler.load_item(i).ndzarr.target["aid"] for i in range(4)]
    assert ids == [11, 12, 13, 14]
    assert len(sampler) == sampler.n_positives == sampler.n_samples == 4
    item = sampler.load_item(4, target={"window_dims": (20, 30)})
    assert item.identical(sampler.load_negative(0, target={"window_dims": (20, 30)}))
    assert item.image.shape == (3, 20, 30)


def test_positives_take_keys_options_and_seeds(sampler):
    sample = sampler.load_positive(0, target={"window_dims": (64, 32), "scale": 0.5}, visible_thresh=0.1)
    assert sample.image.shape == (3, 32, 16)
    assert sampler.load_positive(rng=5).identical(sampler.load_positive(rng=5))
    assert len({sampler.load_positive(rng=k).ndzarr.target["aid"] for k in range(30)}) == 4
    assert "bbox" not in sampler.load_positive(0, False)
    for index in (4, -1):
        with raises(TargetError, key="index", match="there are 4"):
            sampler.load_positive(index)


@pytest.mark.parametrize("window_dims", [(20, 30), "square", None])
def test_negatives_touch_no_annotation_and_lie_in_their_image(sampler, dataset, window_dims):  # ndsampler's defect 6
    for index in range(40):
        sample = sampler.load_negative(index, target={"window_dims": window_dims} if window_dims else None)
        assert not touches(sample, dataset[0])
        assert sample.annot_id.size == 0
        assert "valid" not in sample
        assert window_dims != "square" or sample.sizes["y"] == sample.sizes["x"]


def test_negatives_are_seeded(sampler):
    draw = [sampler.load_negative(rng=k, target={"window_dims": (9, 9)}).ndzarr.target for k in (1, 1, 2)]
    assert draw[0] == draw[1] != draw[2]
    assert pickle.loads(pickle.dumps(sampler)).load_negative(3).identical(sampler.load_negative(3))
    generator = np.random.default_rng(0)
    first, second = (sampler.load_negative(rng=generator, target={"window_dims": (9, 9)}) for _ in range(2))
    assert first.ndzarr.target != second.ndzarr.target


def test_negatives_stay_in_the_image_asked_for(sampler):
    targets = [sampler.load_negative(k, target={"gid": 2, "window_dims": (9, 9)}).ndzarr.target for k in range(10)]
    assert {t["gid"] for t in targets} == {2}
    with raises(TargetError, key="gid"):
        sampler.load_negative(0, target={"gid": 77, "window_dims": (9, 9)})


def test_no_room_for_a_negative_is_said(dataset, tmp_path):  # ndsampler's defect 6
    content = copy.deepcopy(dataset[0])
    content["annotations"] = [{"id": k, "image_id": k, "category_id": 5, "bbox": [0, 0, 400, 300]} for k in (1, 2)]
    sampler = CocoSampler(content, tmp_path / "work")
    with raises(TargetError, key="window_dims", hint="a larger max_overlap"):
        sampler.load_negative(0, target={"window_dims": (10, 10)})
    with raises(TargetError, key="window_dims", match="none of 2 images"):
        sampler.load_negative(0, target={"window_dims": (5000, 10)})
    content["annotations"] = []
    empty = CocoSampler(content, tmp_path / "work")
    assert empty.load_negative(0, target={"window_dims": (10, 10)}).image.shape == (3, 10, 10)
    with raises(TargetError, key="window_dims", hint="Give (height, width)"):
        empty.load_negative(0)
    with pytest.raises(TargetError, match="no positives"):
        empty.load_positive(0)


def test_whole_images_and_their_annotations(sampler, dataset):
    image = sampler.load_image(2)
    np.testing.assert_array_equal(image.image.values, dataset[1][2].transpose(2, 0, 1))
    assert "bbox" not in image
    sample, annotations = sampler.load_image_with_annots(1)
    assert [a["id"] for a in annotations] == sorted(sample.annot_id.values.tolist()) == [11, 12, 14]
    assert sampler.load_annotations(2)[0]["bbox"] == [60.5, 100.25, 20, 30]
    with raises(TargetError, key="gid"):
        sampler.load_annotations(5)


def test_a_whole_image_of_several_assets(film):  # ndsampler's defect 21
    sampler = CocoSampler(film.content, film.workdir)
    assert sampler.load_image(11).image.shape == (3, 96, 120)
    assert sampler.load_image(11, channels="nir", scale=0.5).image.shape == (1, 48, 60)


def test_lookups_and_counts(sampler):
    assert (sampler.n_images, sampler.n_annots, sampler.n_categories) == (2, 4, 2)
    assert (sampler.image_ids, sampler.class_ids) == ([1, 2], [5, 9])
    assert sampler.lookup_class_name(9) == "car"
    assert sampler.lookup_class_id("boat") == 5
    with raises(TargetError, key="name", match="did you mean 'boat'"):
        sampler.lookup_class_id("baot")
    with raises(TargetError, key="class_id", match="7"):
        sampler.lookup_class_name(7)
    assert list(sampler.classes) == ["boat", "car"]


def test_the_hash_changes_with_data_and_options_and_with_nothing_else(dataset, tmp_path):
    def hashid(content, **options):
        return CocoSampler(copy.deepcopy(content), tmp_path / "work", **options).hashid

    base = hashid(dataset[0])
    assert base == hashid(dataset[0])
    assert base != hashid(dataset[0], preset="compact")
    for change in (
        lambda d: d["annotations"][0].update(bbox=[1, 2, 3, 4]),
        lambda d: d["images"][0].update(width=401),
        lambda d: d["categories"][0].update(name="ship"),
        lambda d: d["annotations"].pop(),
    ):
        changed = copy.deepcopy(dataset[0])
        change(changed)
        assert hashid(changed) != base


def test_the_hash_of_a_dataset_that_is_changed_in_place_changes(sampler):
    before = sampler.hashid
    sampler.dset.dataset["annotations"][0]["bbox"] = [0, 0, 1, 1]
    assert sampler.hashid != before


@pytest.mark.parametrize("wrong", ["a", None, 0.5, [1]])
def test_items_and_ids_of_another_form_are_errors_in_words(sampler, wrong):
    for ask in (sampler.load_item, sampler.load_image, sampler.load_annotations, sampler.lookup_class_name):
        with pytest.raises(TargetError):
            ask(wrong)
    with pytest.raises(TargetError):
        sampler.load_negative(-1 if wrong is None else wrong)
    with pytest.raises(TargetError):
        sampler.lookup_class_id(wrong)
