"""What sampling needs to know of a dataset and its files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Protocol

from ndzarr._geo.pixel_size import PixelSize
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.annotations import AnnotationTable
from ndzarr._sampling.scene import Asset, Channel, Frame


class Lookups(Protocol):
    """Look-ups of images, videos, annotations and channels; those of what does not exist raise `TargetError`."""

    def frame(self, gid: Any) -> Frame:
        """Return an image with its assets."""

    def known(self) -> tuple[Mapping[str, None], Set[str]]:
        """Return the channels that are stated for any image, in their order, and the sensors."""

    def annotation(self, aid: Any) -> Mapping[str, Any]:
        """Return the dictionary of an annotation."""

    def images_of(self, aids: Iterable[Any]) -> list[Any] | None:
        """Return the image of each annotation; None if one does not exist."""

    def video_frames(self, vidid: Any) -> tuple[Any, ...]:
        """Return the image ids of a video, in the order of its frames."""

    def video_of(self, gid: Any) -> Any:
        """Return the id of an image's video; None if it is in none."""

    def video_size(self, gid: Any) -> tuple[int, int] | None:
        """Return (height, width) of the space of an image's video; None if it has none, or none is stated."""

    def resolution(self, gid: Any, video: bool) -> PixelSize:
        """Return the size of a pixel of image space, or of video space, as it is stated."""

    def channels(self, spec: Any) -> tuple[Channel, ...] | None:
        """Return (sensor, name) of the channels that a code or a list of names means; None for all."""


class SampleSource(Protocol):
    """A dataset and its files, as far as sampling needs to know them."""

    @property
    def dset(self) -> Any:
        """The `kwcoco.CocoDataset`; None for named sources."""

    @property
    def dataset(self) -> Lookups:
        """Look-ups of images, videos, annotations and channels."""

    @property
    def annotations(self) -> AnnotationTable:
        """All annotations as columns, sorted by image."""

    def frame(self, gid: Any) -> Frame:
        """Return an image with its assets."""

    def with_labels(self, frame: Frame) -> Frame:
        """Return an image with those label images as assets that are looked for only when a channel is missing."""

    def open_asset(self, asset: Asset) -> Pyramid:
        """Return the pyramid of an asset, transcoded now if need be."""

    @property
    def remote(self) -> bool:
        """True if files may be URLs."""

    def open_together(self, frames: Iterable[Frame]) -> None:
        """Open the URLs among the assets of frames, several at a time, if they are not open."""

    def size_in_file(self, frame: Frame) -> tuple[int, int]:
        """Return (height, width) of an image whose size the dataset does not state, from its file."""

    def covered_size(self, gid: Any) -> tuple[int, int] | None:
        """Return (height, width) of an image if one file without nodata covers it exactly; else None."""

    def files(self, gids: Sequence[Any] | None = None) -> Iterator[str]:
        """Yield the paths of the files of some images, or of all."""
