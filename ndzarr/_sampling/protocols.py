"""What sampling needs to know of a dataset."""

from __future__ import annotations

from typing import Any, Protocol

from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.annotations import AnnotationTable
from ndzarr._sampling.coco_dataset import Dataset
from ndzarr._sampling.scene import Asset, Frame


class SampleSource(Protocol):
    """A dataset and its files, as far as sampling needs to know them."""

    @property
    def dset(self) -> Any:
        """The `kwcoco.CocoDataset`."""

    @property
    def dataset(self) -> Dataset:
        """Look-ups of images, videos, annotations and channels."""

    @property
    def annotations(self) -> AnnotationTable:
        """All annotations as columns, sorted by image."""

    def frame(self, gid: Any) -> Frame:
        """Return an image with its assets."""

    def open_asset(self, asset: Asset) -> Pyramid:
        """Return the pyramid of an asset, transcoded now if need be."""

    def pixel_size(self, frame: Frame) -> tuple[int, int]:
        """Return (height, width) of an image whose size the dataset does not state, from its file."""
