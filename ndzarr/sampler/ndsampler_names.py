"""What do ndsampler's users know by other names?

Its methods, with its order of arguments, on top of `load_sample`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.sampler.annotations import AnnotationTable
from ndzarr.sampler.dataset import Dataset
from ndzarr.sampler.pool import Pool
from ndzarr.sampler.scene import Frame

if TYPE_CHECKING:
    import xarray


class NdsamplerNames:
    """Mixed into `CocoSampler`."""

    dset: Any
    _dataset: Dataset

    if TYPE_CHECKING:  # what `CocoSampler` has

        @property
        def annotations(self) -> AnnotationTable: ...  # noqa: D102
        def load_sample(self, target: Mapping[str, Any] | None = None, **options: Any) -> xarray.Dataset: ...  # noqa: D102
        def frame(self, gid: Any) -> Frame: ...  # noqa: D102

    def __len__(self) -> int:
        """Number of items: one per annotation with a box."""
        return self.n_positives

    @cached_property
    def pool(self) -> Pool:
        """The windows that `load_positive` and `load_negative` choose from."""
        return Pool(self._dataset, self.annotations)

    def load_item(
        self,
        index: int,
        with_annots: bool | str | Sequence[str] = True,
        target: Mapping[str, Any] | None = None,
        rng: Any = None,
        **options: Any,
    ) -> xarray.Dataset:
        """Positives first, by their index, then negatives; see `load_positive` and `load_negative`."""
        if index < self.n_positives:
            return self.load_positive(index, with_annots, target, rng, **options)
        return self.load_negative(index - self.n_positives, with_annots, target, rng, **options)

    def load_positive(
        self,
        index: int | None = None,
        with_annots: bool | str | Sequence[str] = True,
        target: Mapping[str, Any] | None = None,
        rng: Any = None,
        **options: Any,
    ) -> xarray.Dataset:
        """
        A window around an annotation.

        Parameters
        ----------
        index
            Which one, in the order of the dataset; drawn by `rng` if left out.
        with_annots
            As for `load_sample`.
        target
            Further keys, such as window_dims.
        rng
            Seed or `numpy.random.Generator`.
        """
        window = {**self.pool.positive(index, rng), **(target or {})}
        return self.load_sample(window, with_annots=with_annots, **options)

    def load_negative(
        self,
        index: int | None = None,
        with_annots: bool | str | Sequence[str] = True,
        target: Mapping[str, Any] | None = None,
        rng: Any = None,
        **options: Any,
    ) -> xarray.Dataset:
        """
        A window that touches no annotation.

        Parameters
        ----------
        index
            Seeds the draw, where there is no `rng`: the same index gives the same window.
        with_annots
            As for `load_sample`.
        target
            Further keys; `window_dims=(height, width)` gives the size, else it is that of a random annotation, and
            `gid` the image.
        rng
            Seed or `numpy.random.Generator`.

        Raises
        ------
        TargetError
            The dataset has no room for such a window.
        """
        further = dict(target or {})
        gid = further.pop("gid", further.pop("image_id", None))
        window = self.pool.negative(index, further.pop("window_dims", None), rng, gid)
        return self.load_sample({**window, **further}, with_annots=with_annots, **options)

    def load_image(self, gid: Any, **keys: Any) -> xarray.Dataset:
        """A whole image, in image space."""
        return self.load_sample({"gid": gid, **keys}, with_annots=False)

    def load_image_with_annots(self, gid: Any, **keys: Any) -> tuple[xarray.Dataset, list[dict[str, Any]]]:
        """A whole image, and kwcoco's dictionaries of its annotations."""
        return self.load_sample({"gid": gid, **keys}), self.load_annotations(gid)

    def load_annotations(self, gid: Any) -> list[dict[str, Any]]:
        """Kwcoco's dictionaries of the annotations of an image."""
        self.frame(gid)  # an unknown image is an error here as everywhere
        return [self.dset.index.anns[aid] for aid in self.dset.index.gid_to_aids[gid]]

    @property
    def classes(self) -> Any:
        """The `ndzarr.categories.CategoryTree` of the dataset; None if it has no categories."""
        from ndzarr.sampler.detections import category_tree

        return category_tree(self.dset.dataset.get("categories"))

    @cached_property
    def n_positives(self) -> int:
        """Annotations with a box."""
        return int(np.isfinite(self.annotations.columns).all(axis=0).sum())

    @property
    def n_samples(self) -> int:
        """Number of items; see `load_item`."""
        return len(self)

    @property
    def n_annots(self) -> int:
        """Annotations."""
        return len(self.dset.index.anns)

    @property
    def n_images(self) -> int:
        """Images, frames of videos included."""
        return len(self.dset.index.imgs)

    @property
    def n_categories(self) -> int:
        """Categories."""
        return len(self.dset.index.cats)

    @property
    def image_ids(self) -> list[Any]:
        """Ids of all images."""
        return list(self.dset.index.imgs)

    @property
    def class_ids(self) -> list[Any]:
        """Ids of all categories."""
        return list(self.dset.index.cats)

    def lookup_class_name(self, class_id: Any) -> str:
        """The name of a category."""
        if class_id not in self.dset.index.cats:
            raise TargetError(f"category {class_id!r} does not exist{did_you_mean(class_id, self.class_ids[:20])}")
        return str(self.dset.index.cats[class_id]["name"])

    def lookup_class_id(self, name: str) -> Any:
        """The id of a category."""
        if name not in self.dset.index.name_to_cat:
            raise TargetError(f"category {name!r} does not exist{did_you_mean(name, self.dset.index.name_to_cat)}")
        return self.dset.index.name_to_cat[name]["id"]
