"""What do ndsampler's users know by other names?

Its methods, with its order of arguments, on top of `load_sample`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.sampler.annotations import AnnotationTable
from ndzarr.sampler.forms import whole
from ndzarr.sampler.scene import Frame

if TYPE_CHECKING:
    import xarray

    from ndzarr.targets.choose import Targets
    from ndzarr.targets.preselect import Pool


class NdsamplerNames:
    """Mixed into `CocoSampler`."""

    dset: Any

    if TYPE_CHECKING:  # what `CocoSampler` has

        @property
        def annotations(self) -> AnnotationTable: ...  # noqa: D102
        @property
        def targets(self) -> Targets: ...  # noqa: D102
        def load_sample(self, target: Mapping[str, Any] | None = None, **options: Any) -> xarray.Dataset: ...  # noqa: D102
        def frame(self, gid: Any) -> Frame: ...  # noqa: D102

    def __len__(self) -> int:
        """Number of items: one per annotation with a box, or what was preselected."""
        return self.n_positives + self.n_negatives

    @cached_property
    def pool(self) -> Pool:
        """The windows that `load_positive` and `load_negative` choose from."""
        from ndzarr.targets.preselect import Pool

        return Pool(self.targets)

    def preselect(
        self,
        n_pos: int | None = None,
        n_neg: int | None = None,
        neg_to_pos_ratio: float | None = None,
        window_dims: Any = None,
        rng: Any = None,
        *,
        cover: bool = False,
        max_overlap: float = 0.0,
    ) -> tuple[int, int]:
        """
        Choose what `load_item`, `load_positive` and `load_negative` load, and so the number of items.

        Parameters
        ----------
        n_pos
            So many positives, drawn by `rng`, in the order of the dataset; all if left out, or if there are fewer.
        n_neg, neg_to_pos_ratio
            So many negatives, or so many for each positive; none if both are left out.
        window_dims
            (height, width) of the negatives; left out, they have the sizes of annotations.
        rng
            Seed or `numpy.random.Generator`.
        cover
            Positives are few windows of `window_dims` that together cover all annotations, not one per annotation.
        max_overlap
            Largest fraction of a negative that one annotation may cover.

        Returns
        -------
        Number of positives and of negatives.

        Raises
        ------
        TargetError, OptionError
            An option is not understood, or there is no room for a negative.
        """
        return self.pool.preselect(n_pos, n_neg, neg_to_pos_ratio, window_dims, rng, cover, max_overlap)

    def new_sample_grid(
        self,
        task: str,
        window_dims: Any,
        window_overlap: Any = 0,
        *,
        classes_of_interest: Iterable[Any] | None = None,
        ignore_coverage_thresh: float | None = 0.6,
        negative_classes: Iterable[Any] = ("ignore", "background"),
    ) -> dict[str, Any]:
        """
        Sliding windows as ndsampler returns them; `targets.grid` is the same as a table.

        Parameters
        ----------
        task
            'image_detection' or 'video_detection'.
        window_dims
            (height, width), for videos (frames, height, width); 'full' is the whole extent.
        window_overlap
            A float is a fraction, an integer pixels (and frames); one for all axes or one for each.
        classes_of_interest, ignore_coverage_thresh, negative_classes
            As `classes_of_interest`, `ignore_coverage` and `negative_classes` of `targets.grid`, for images and videos.

        Returns
        -------
        `targets` (list of dictionaries for `load_sample`, which also hold `aids`), without windows to ignore;
        `positives_indexes` and `negatives_indexes`, positions in that list; `positives` and `negatives`, its items
        there.

        Raises
        ------
        TargetError, OptionError
            An option is not understood.
        """
        from ndzarr.targets.sample_grid import sample_grid

        return sample_grid(
            self.targets,
            task,
            window_dims,
            window_overlap,
            classes_of_interest=classes_of_interest,
            ignore_coverage=ignore_coverage_thresh,
            negative_classes=negative_classes,
        )

    def load_item(
        self,
        index: int,
        with_annots: bool | str | Sequence[str] = True,
        target: Mapping[str, Any] | None = None,
        rng: Any = None,
        **options: Any,
    ) -> xarray.Dataset:
        """Positives first, by their index, then negatives; see `load_positive` and `load_negative`."""
        if whole(index) is None:
            raise TargetError(f"item {index!r} does not exist; there are {len(self)}, from 0")
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
        A window around an annotation, or a positive that was preselected.

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
        A window that touches no annotation, or a negative that was preselected.

        Parameters
        ----------
        index
            Which one of those that were preselected.  If none were, it seeds the draw, where there is no `rng`: the
            same index gives the same window.
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
        if index is not None and ((number := whole(index)) is None or number < 0):
            raise TargetError(f"negative {index!r}: expected a whole number of at least 0")
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

    @property
    def n_positives(self) -> int:
        """Annotations with a box, or the positives that were preselected."""
        return self.pool.n_positives

    @property
    def n_negatives(self) -> int:
        """Negatives that were preselected."""
        return self.pool.n_negatives

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
        if not isinstance(class_id, Hashable) or class_id not in self.dset.index.cats:
            raise TargetError(f"category {class_id!r} does not exist{did_you_mean(class_id, self.class_ids[:20])}")
        return str(self.dset.index.cats[class_id]["name"])

    def lookup_class_id(self, name: Any) -> Any:
        """The id of a category."""
        if not isinstance(name, Hashable) or name not in self.dset.index.name_to_cat:
            raise TargetError(f"category {name!r} does not exist{did_you_mean(name, self.dset.index.name_to_cat)}")
        return self.dset.index.name_to_cat[name]["id"]
