"""What does a batch look like as tensors?

Pixels are handed over without a copy.  What differs in number between samples (boxes, labels) is a list with one tensor
per sample, as detection models want it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from ndzarr.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    import xarray

Tensors: TypeAlias = dict[str, Any]
"""Names to tensors, and to lists of tensors."""

Masks: TypeAlias = Literal["semantic", "instance"]
MASKS = ("semantic", "instance")
RAGGED = ("boxes", "labels", "annot_ids", "track_ids", "frames", "masks")
"""What is a list with one tensor per sample, where masks are those of instances."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is made of a batch."""

    dtype: torch.dtype | None = None
    """Of images; None for that of the data."""
    masks: Masks | None = None
    """'semantic': one map of classes per sample; 'instance': one mask per annotation."""
    annotations: bool = True
    """Boxes and labels."""
    labels: dict[Any, int] = field(default_factory=dict)
    """Category id to label."""

    def __post_init__(self) -> None:
        if self.dtype is not None and not isinstance(self.dtype, torch.dtype):
            raise OptionError(f"dtype={self.dtype!r}: expected one of torch's, such as torch.float32")
        if self.masks is not None and self.masks not in MASKS:
            raise OptionError(f"masks={self.masks!r} is not known{did_you_mean(self.masks, MASKS)}")

    def tensors(self, batch: xarray.Dataset, index: np.ndarray[Any, Any]) -> Tensors:
        """
        A batch as tensors.

        Parameters
        ----------
        batch
            As `load_batch` returns it.
        index
            Position of each sample among the targets, shape (sample,).

        Returns
        -------
        image (sample, c, y, x) or (sample, t, c, y, x), of volumes with z before y; valid, bool, where something is
        padded or missing; index (sample,); transform (sample, 3, 3), from sample pixels to native pixels; and, per
        sample, boxes (n, 4) as left, top, right, bottom, labels (n,), annot_ids, track_ids and frames (n,), a list
        where they are names; masks: (sample, y, x), or (sample, t, y, x), of labels + 1, 0 being none, for 'semantic';
        per sample (n, y, x) for 'instance'.
        """
        image = torch.from_numpy(_writable(batch["image"].values))
        out: Tensors = {"image": image if self.dtype is None else image.to(self.dtype)}
        if "valid" in batch:
            out["valid"] = torch.from_numpy(_writable(batch["valid"].values))
        out["index"] = torch.from_numpy(np.asarray(index, np.int64))
        out["transform"] = torch.from_numpy(_writable(batch["transform"].values))
        if self.annotations and "annot_sample" in batch:
            out |= self._annotations(batch)
        if self.masks is not None:
            out["masks"] = self._masks(batch)
        return out

    def _annotations(self, batch: xarray.Dataset) -> Tensors:
        owner = batch["annot_sample"].values
        stops = np.searchsorted(owner, np.arange(1, batch.sizes["sample"]))
        corners = batch["bbox"].values.astype(np.float32)
        corners[:, 2:] += corners[:, :2]
        categories = batch["category_id"].values.tolist()
        columns: dict[str, np.ndarray[Any, Any]] = {
            "boxes": corners,
            "labels": np.array([self.labels.get(c, -1) for c in categories], np.int64),
            "annot_ids": batch["annot_id"].values,
            "track_ids": batch["track_id"].values,
            "frames": batch["frame"].values.astype(np.int64),
        }
        return {name: [_tensor(part) for part in np.split(column, stops)] for name, column in columns.items()}

    def _masks(self, batch: xarray.Dataset) -> Any:
        dims, image = batch["image"].dims, batch["image"].shape
        shape = tuple(n for d, n in zip(dims, image, strict=True) if d in ("t", "y", "x"))
        found = [self._drawn(frames, shape) for frames in batch.ndzarr.detections]
        if self.masks == "instance":
            return [torch.from_numpy(one) for one in found]
        return torch.from_numpy(np.stack(found)) if found else torch.empty((0, *shape), dtype=torch.int64)

    def _drawn(self, frames: list[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """The annotations of one sample: a map of classes ([t,] y, x), or a mask of each (n, y, x)."""
        size = shape[-2], shape[-1]
        classes = np.zeros((max(1, len(frames)), *size), np.int64)
        instances = []
        for t, detections in enumerate(frames):
            for k, category in enumerate(detections.data["cids"].tolist()):
                inside = _inside(detections, k, size)
                instances.append(inside)
                classes[t][inside] = self.labels.get(category, -1) + 1
        if self.masks == "instance":
            return np.stack(instances) if instances else np.zeros((0, *size), bool)
        return classes if len(shape) == 3 else classes[0]


def _inside(detections: Any, k: int, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Pixels (y, x) of an annotation: of its segmentation, else of its box."""
    segmentations = detections.data.get("segmentations")
    shape = None if segmentations is None else segmentations.data[k]
    if shape is None:
        shape = detections.boxes[k : k + 1].to_polygons()[0]
    mask: np.ndarray[Any, Any] = shape.to_mask(dims=size).to_c_mask().data
    return mask.astype(bool)


def _tensor(column: np.ndarray[Any, Any]) -> Any:
    """A column of a sample's own, as a tensor; names, which have none, as a list."""
    return torch.from_numpy(column.copy()) if column.dtype.kind in "iuf" else column.tolist()


def _writable(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array that torch may share: its own, contiguous and writable."""
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy()
