"""Crops in the forms that trainers take, and torchvision's own transforms on them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader  # noqa: E402

import ndzarr  # noqa: E402
import ndzarr.torch  # noqa: E402
from helpers.errors import raises  # noqa: E402
from ndzarr.errors import OptionError  # noqa: E402
from ndzarr.torch import CropDataset, collate, loader, per_box  # noqa: E402

WINDOWS = [
    {"gid": 1, "cx": 40, "cy": 30, "width": 80, "height": 60},
    {"gid": 1, "cx": 60, "cy": 40, "width": 80, "height": 60},
    {"gid": 1, "cx": 150, "cy": 110, "width": 80, "height": 60},  # nothing there
]
BOXES = [[10, 12, 30, 20], [50, 5, 60, 40], [20, 40, 0, 0], [70, 60, 8, 8]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """An image of 200 x 150 with boxes of two categories, filled with the colour of the category; some of them odd."""
    folder = tmp_path_factory.mktemp("drawn")
    picture = Image.new("RGB", (200, 150))
    for k, (x, y, w, h) in enumerate(BOXES):
        ImageDraw.Draw(picture).rectangle((x, y, x + max(w, 1) - 1, y + max(h, 1) - 1), fill=(50 + 50 * (k % 2), 0, 0))
    picture.save(folder / "a.png")
    annotations = [
        {"id": k, "image_id": 1, "category_id": 7 + k % 2, "bbox": box, "iscrowd": 0, "weight": 0.5 + k}
        for k, box in enumerate(BOXES)
    ]
    before = 60 + 70 * 150  # pixels column by column
    counts = [before, 8, 150 * 200 - before - 8]
    annotations[3] |= {"iscrowd": 1, "segmentation": {"counts": counts, "size": [150, 200]}}
    annotations.append({"id": 9, "image_id": 1, "category_id": None, "bbox": [0, 0, 9, 9]})  # without a category
    categories = [{"id": 7, "name": "even"}, {"id": 8, "name": "odd"}, {"id": 9, "name": "Ignore"}]
    annotations.append({"id": 10, "image_id": 1, "category_id": 9, "bbox": [0, 50, 30, 10]})
    image = {"id": 1, "file_name": str(folder / "a.png"), "width": 200, "height": 150}
    return ndzarr.CocoSampler({"images": [image], "annotations": annotations, "categories": categories}, folder / "w")


def test_pairs_for_detection_models(drawn):
    crops = CropDataset(drawn, WINDOWS, format="coco")
    images, targets = collate(crops.__getitems__([0, 1, 2]))
    assert [image.shape for image in images] == [(3, 60, 80)] * 3
    first = targets[0]
    assert first["boxes"].tolist() == [[10, 12, 40, 32], [50, 5, 80, 45], [0, 50, 30, 60]]
    assert first["labels"].tolist() == [1, 2, 3]  # 0 is torchvision's background
    assert first["area"].tolist() == [600, 1200, 300]  # clipped to the crop, the point and the nameless are left out
    assert first["iscrowd"].tolist() == [0, 0, 0]
    assert [int(t["image_id"]) for t in targets] == [0, 1, 2]
    assert targets[1]["iscrowd"].tolist() == [0, 0, 1, 0]
    assert targets[2]["boxes"].shape == (0, 4)
    without = CropDataset(drawn, WINDOWS, format="coco", crowd="ignore")[1].target
    assert without["labels"].tolist() == [1, 2, 3]  # what is to be ignored is not there


@pytest.mark.slow
def test_a_detection_model_of_torchvision_takes_a_batch(drawn):
    detection = pytest.importorskip("torchvision.models.detection")
    images, targets = collate(CropDataset(drawn, WINDOWS, format="coco").__getitems__([0, 1, 2]))
    model = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=4)
    losses = model([image.float() / 255 for image in images], targets)
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_instances_have_a_mask_each(drawn):
    image, target = CropDataset(drawn, WINDOWS, format="instance")[0]
    assert target["masks"].dtype == torch.uint8
    assert target["masks"].shape == (3, *image.shape[-2:])
    for mask, (x0, y0, x1, y1) in zip(target["masks"], target["boxes"].int().tolist(), strict=True):
        assert mask.sum() == mask[y0:y1, x0:x1].sum() == (x1 - x0) * (y1 - y0)
    assert target["area"].tolist() == [600, 1200, 300]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_ultralytics(drawn, workers):
    crops = CropDataset(drawn, WINDOWS, format="yolo")
    [batch] = loader(crops, 3, shuffle=False, workers=workers)
    assert set(batch) == {"img", "cls", "bboxes", "batch_idx"}
    assert batch["img"].shape == (3, 3, 60, 80)
    assert batch["cls"].shape == (6, 1)
    assert batch["batch_idx"].tolist() == [0, 0, 0, 1, 1, 1]  # without the crowd
    np.testing.assert_allclose(batch["bboxes"][0], [25 / 80, 22 / 60, 30 / 80, 20 / 60], rtol=1e-6)
    assert ((batch["bboxes"] > 0) & (batch["bboxes"] <= 1)).all()


def test_pairs_for_segmentation(drawn):
    images, classes = next(iter(DataLoader(CropDataset(drawn, WINDOWS, format="semantic"), 3, collate_fn=collate)))
    assert images.shape == (3, 3, 60, 80)
    assert classes.shape == (3, 60, 80)
    plain = collate(CropDataset(drawn, WINDOWS, masks="semantic").__getitems__([0, 1, 2]))
    assert torch.equal(classes, plain["masks"])
    assert torch.nn.functional.cross_entropy(torch.zeros(3, 4, 60, 80), classes) > 0


def test_rasters_of_what_to_ignore_and_what_counts(drawn):
    crops = CropDataset(drawn, WINDOWS, rasters=["ignore", "weight"], crowd="ignore", masks="semantic")
    crop = crops[0]
    expected = torch.zeros(60, 80, dtype=torch.bool)
    expected[50:60, 0:30] = True  # of the category; the crowd begins below
    assert torch.equal(crop["ignore_mask"], expected)
    weights = torch.ones(60, 80)
    weights[12:32, 10:40] = 0.5
    weights[5:45, 50:80] = 1.5
    weights[50:60, 0:30] = 0
    assert torch.equal(crop["weight_map"], weights)
    assert crops[1]["ignore_mask"][50:58, 50].all()  # the crowd is 8 pixels high, its run length a column
    assert (crops[1]["weight_map"][50:58, 50] == 0).all()
    batch = collate(crops.__getitems__([0, 1, 2]))
    assert batch["ignore_mask"].shape == batch["weight_map"].shape == (3, 60, 80)
    assert torch.equal(CropDataset(drawn, WINDOWS, rasters="weight")[0]["weight_map"], weights)


@pytest.mark.parametrize(
    ("options", "key"),
    [({"format": "voc"}, "format"), ({"format": "semantic", "masks": "instance"}, "masks"),
     ({"rasters": ["depth"]}, "rasters"), ({"on_error": "pass"}, "on_error")],
)  # fmt: skip
def test_what_is_no_option_is_named(drawn, options, key):
    with raises(OptionError, key=key):
        CropDataset(drawn, WINDOWS, **options)


def test_formats_that_make_no_sense_are_refused(sampler, tmp_path):
    with raises(OptionError, key="format"):
        CropDataset(sampler, [{"vidid": 1}], format="yolo")[0]
    bare = ndzarr.Sampler({"a": ndzarr.transcode(np.zeros((9, 9), "u1"), tmp_path / "a.zarr")})
    with raises(OptionError, key="format"):
        CropDataset(bare, [{"key": "a"}], format="coco")
    with raises(OptionError, key="transform"):
        CropDataset(sampler, [{"gid": 1}], format="coco", transform=lambda sample: 1)[0]


def mirror(sample):
    """A transform without torchvision: of a dictionary, with plain tensors or with tv_tensors."""
    width = sample["image"].shape[-1]
    boxes = sample["boxes"].as_subclass(torch.Tensor)[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1])
    boxes = boxes + torch.tensor([width, 0, width, 0])
    return {**sample, "image": sample["image"].flip(-1), "boxes": boxes, "masks": sample["masks"].flip(-1)}


def test_forms_are_made_after_the_transform(drawn):
    image, target = CropDataset(drawn, WINDOWS, format="instance", transform=mirror)[0]
    plain, expected = CropDataset(drawn, WINDOWS, format="instance")[0]
    assert torch.equal(image, plain.flip(-1))
    assert torch.equal(target["masks"], expected["masks"].flip(-1))
    for mask, (x0, y0, x1, y1) in zip(target["masks"], target["boxes"].int().tolist(), strict=True):
        assert mask.sum() == mask[y0:y1, x0:x1].sum()
    assert type(target["boxes"]) is type(image) is torch.Tensor


# With torchvision.


@pytest.fixture
def v2():
    return pytest.importorskip("torchvision.transforms.v2")


def test_transforms_of_torchvision_work_unchanged(drawn, v2):
    from torchvision import tv_tensors

    torch.manual_seed(0)
    augment = v2.Compose(
        [
            v2.RandomHorizontalFlip(1),
            v2.RandomIoUCrop(),
            v2.Resize((64, 64)),
            v2.RandomRotation(20),
            v2.ColorJitter(0.3),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(labels_getter=per_box),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
        ]
    )
    crops = CropDataset(drawn, WINDOWS, format="tv_tensors", masks="instance", rasters=["ignore"], transform=augment)
    for k in range(3):
        crop = crops[k]
        assert isinstance(crop["image"], tv_tensors.Image)
        assert crop["image"].shape == (3, 64, 64)
        assert crop["image"].dtype == torch.float32
        assert isinstance(crop["boxes"], tv_tensors.BoundingBoxes)
        assert len(crop["boxes"]) == len(crop["labels"]) == len(crop["masks"]) == len(crop["annot_ids"])
        assert crop["ignore_mask"].shape == (64, 64)
    batch = collate(crops.__getitems__([0, 1, 2]))
    assert batch["image"].shape == (3, 3, 64, 64)
    as_yolo = CropDataset(drawn, WINDOWS, format="yolo", transform=v2.Compose([v2.RandomHorizontalFlip(1)]))
    np.testing.assert_allclose(as_yolo[0]["bboxes"][0], [1 - 25 / 80, 22 / 60, 30 / 80, 20 / 60], rtol=1e-6)
    semantic = CropDataset(drawn, WINDOWS, format="semantic", transform=v2.RandomHorizontalFlip(1))[0]
    assert torch.equal(semantic[1], CropDataset(drawn, WINDOWS, format="semantic")[0][1].flip(-1))
    forgot = CropDataset(drawn, WINDOWS, format="coco", transform=v2.SanitizeBoundingBoxes())
    with raises(OptionError, key="transform", hint="per_box"):
        forgot[0]


def test_videos_become_tv_tensors(sampler, v2):
    from torchvision import tv_tensors

    crops = CropDataset(sampler, [{"vidid": 1}], format="tv_tensors", masks="semantic", transform=v2.Resize((30, 40)))
    assert isinstance(crops[0]["image"], tv_tensors.Video)
    assert crops[0]["image"].shape == (3, 3, 30, 40)
    assert crops[0]["masks"].shape == (3, 30, 40)
