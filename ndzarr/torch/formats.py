"""
The forms in which trainers take crops: torchvision's tv_tensors, pairs of image and target, ultralytics' batches.

A crop is a dictionary of tensors. `wrapped` makes tv_tensors of it, which the transforms of torchvision.transforms.v2
understand; the other functions make what a trainer takes of what is left after the transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

from ndzarr._validation import check_choice
from ndzarr.errors import OptionError

Format: TypeAlias = Literal["dict", "tv_tensors", "coco", "yolo", "semantic", "instance"]
FORMATS = ("dict", "tv_tensors", "coco", "yolo", "semantic", "instance")
"""Forms of crops."""
OF_MASKS = {"semantic": "semantic", "instance": "instance"}
"""Format to the masks that it needs."""
OF_BOXES = ("coco", "yolo", "instance")
"""Formats of detection, in which boxes end with the crop."""
MAPS = ("masks", "valid", "ignore_mask", "weight_map")
"""Tensors with axes y and x, besides the image."""

Sample: TypeAlias = Mapping[str, Any]


def check_format(name: Any) -> None:
    """Refuse a format that is unknown, or whose package is not installed."""
    check_choice("format", name, FORMATS)
    if name == "tv_tensors" and find_spec("torchvision") is None:
        raise OptionError("format='tv_tensors' needs torchvision", key="format", hint="pip install torchvision")


class Detection(NamedTuple):
    """An image, and the boxes in it, as torchvision's detection models take them; `collate` makes two lists."""

    image: torch.Tensor
    target: dict[str, torch.Tensor]


class Yolo(dict[str, torch.Tensor]):
    """An image and its boxes as ultralytics has them; `collate` joins the boxes of a batch."""


def wrapped(sample: Sample) -> dict[str, Any]:
    """Return a crop with tv_tensors: Image or Video, BoundingBoxes and Mask."""
    from torchvision import tv_tensors

    image = sample["image"]
    out = dict(sample)
    out["image"] = (tv_tensors.Video if image.ndim > 3 else tv_tensors.Image)(image)
    if "boxes" in out:
        size = tuple(image.shape[-2:])
        out["boxes"] = tv_tensors.BoundingBoxes(out["boxes"], format="XYXY", canvas_size=size)
    for name in MAPS:
        if name in out:
            out[name] = tv_tensors.Mask(out[name])
    return out


def finisher(name: str, transform: Callable[[Any], Any] | None) -> Callable[[dict[str, Any]], Any] | None:
    """Return what makes a crop of a dictionary of tensors: its transform, and its form; None for nothing."""
    if name == "dict":
        return transform
    make = {"coco": detection, "instance": detection, "yolo": yolo, "semantic": semantic}.get(name)
    wrap = name == "tv_tensors" or (transform is not None and find_spec("torchvision") is not None)

    def finish(sample: dict[str, Any]) -> Any:
        made = wrapped(sample) if wrap else sample
        made = made if transform is None else transform(made)
        if make is None:
            return made
        if not isinstance(made, Mapping):
            message = f"format={name!r}: the transform returned {type(made).__name__}"
            raise OptionError(message, key="transform", hint="Return the dictionary, or use format='dict'")
        return make(made)

    return finish


def plain(value: Any) -> Any:
    """Return a tensor of torch's own type."""
    return value.as_subclass(torch.Tensor) if isinstance(value, torch.Tensor) else value


def per_box(sample: Sample) -> tuple[torch.Tensor, ...]:
    """
    Return the tensors of a crop with a value for each box: the `labels_getter` of v2.SanitizeBoundingBoxes.

    By default that transform leaves out boxes and their labels, and none of their other values.
    """
    names = [name for name in sample if name in OF_BOX or name.startswith("annot_")]
    return tuple(sample[name] for name in names if isinstance(sample[name], torch.Tensor))


OF_BOX = ("labels", "annot_ids", "track_ids", "frames", "iscrowd", "ignore", "area", "score", "weight")
"""Names of values of boxes; further ones begin with `annot_`."""


def _boxes(sample: Sample) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return boxes (n, 4), labels (n,), and True for those to train on: with an area, a label, and not to ignore."""
    if plain(sample["image"]).ndim > 3:
        raise OptionError("boxes of videos have no such form", key="format", hint="Use format='dict'")
    boxes, labels = plain(sample["boxes"]), plain(sample["labels"])
    for name in (*OF_BOX, "masks"):
        value = sample.get(name)
        if isinstance(value, torch.Tensor) and len(value) != len(boxes) and not (name == "masks" and _classes(value)):
            message = f"the transform left {len(boxes)} boxes, but {len(value)} of {name!r}"
            hint = "Pass labels_getter=ndzarr.torch.per_box to SanitizeBoundingBoxes"
            raise OptionError(message, key="transform", hint=hint)
    keep = (labels >= 0) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if "ignore" in sample:
        keep &= plain(sample["ignore"]) == 0
    return boxes, labels, keep


def _classes(masks: torch.Tensor) -> bool:
    """Return True for semantic masks, of which there is not one for each box."""
    return bool(masks.dtype != torch.bool)


def detection(sample: Sample) -> Detection:
    """
    Return an image and its target, in the form of torchvision's detection models.

    `boxes` (n, 4) left, top, right, bottom; `labels` (n,) from 1 on, since 0 is their background; `area`, `iscrowd`;
    `image_id`, the position of the crop; and `masks` (n, y, x) uint8 if there are masks of instances.
    """
    boxes, labels, keep = _boxes(sample)
    boxes = boxes[keep]
    target = {"boxes": boxes, "labels": labels[keep] + 1, "image_id": plain(sample["index"])}
    target["area"] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    crowds = plain(sample["iscrowd"])[keep] if "iscrowd" in sample else torch.zeros(len(boxes))
    target["iscrowd"] = crowds.to(torch.int64)
    masks = sample.get("masks")
    if masks is not None and not _classes(masks):
        target["masks"] = plain(masks)[keep].to(torch.uint8)
        target["area"] = target["masks"].sum(dim=(1, 2)).to(torch.float32)
    return Detection(plain(sample["image"]), target)


def yolo(sample: Sample) -> Yolo:
    """
    Return an image and its boxes in the form of ultralytics' batches.

    `img` (c, y, x), `cls` (n, 1) from 0 on, `bboxes` (n, 4) centre x and y, width and height as fractions of the image,
    `batch_idx` (n,), the position of the image in the batch.
    """
    boxes, labels, keep = _boxes(sample)
    if "iscrowd" in sample:  # the form has no crowds
        keep &= plain(sample["iscrowd"]) == 0
    image = plain(sample["image"])
    (x0, y0, x1, y1), (height, width) = boxes[keep].T, image.shape[-2:]
    middle = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
    number = torch.zeros(len(x0))
    return Yolo(img=image, cls=labels[keep, None].to(torch.float32), bboxes=torch.stack(middle, 1), batch_idx=number)


def semantic(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image and the class of each of its pixels (y, x), as losses of torch take it."""
    return plain(sample["image"]), plain(sample["masks"])


def collated_yolo(samples: Sequence[Yolo]) -> Yolo:
    """Return a batch in ultralytics' form: images stacked, boxes one after the other."""
    out = Yolo(img=torch.stack([sample["img"] for sample in samples]))
    out |= {name: torch.cat([sample[name] for sample in samples]) for name in ("cls", "bboxes")}
    number = [len(sample["cls"]) for sample in samples]
    out["batch_idx"] = torch.repeat_interleave(torch.arange(len(samples), dtype=torch.float32), torch.tensor(number))
    return out
