"""A drop-in for ndsampler's `CocoSampler`: its methods, with its order of arguments, on top of `load_sample`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

import ndzarr.coco_sampler
from ndzarr._validation import as_integer, check_choice, check_count
from ndzarr.errors import OptionError, TargetError, did_you_mean
from ndzarr.targets.table import Rows

if TYPE_CHECKING:
    import pandas
    import xarray

    from ndzarr.targets.accessor import Targets

TASKS = ("image_detection", "video_detection")
"""Tasks of `new_sample_grid`."""


class CocoSampler(ndzarr.coco_sampler.CocoSampler):
    """
    `ndzarr.CocoSampler` with the methods and attributes of ndsampler's.

    Parameters are those of `ndzarr.CocoSampler`.  Samples are xarray Datasets; `sample.ndzarr.to_ndsampler()` is the
    dictionary that ndsampler returned.

    Examples
    --------
    >>> from ndzarr.ndsampler_compat import CocoSampler
    >>> dset = {"images": [{"id": 1, "file_name": "a.png", "width": 400, "height": 300}]}
    >>> CocoSampler(dset).image_ids
    [1]
    """

    _positives: pandas.DataFrame | None = None
    """Windows that `preselect` chose; None before."""
    _negatives: pandas.DataFrame | None = None

    def __len__(self) -> int:
        """Return the number of items: one per annotation with a box, or what was preselected."""
        return self.n_positives + self.n_negatives

    @property
    def hashid(self) -> str:
        """Changes whenever the dataset or an option of this sampler does."""
        return self._source.hashid

    @cached_property
    def _boxed_ids(self) -> list[Any]:
        """Ids of the annotations with a box, in the order of the dataset."""
        table = self._source.annotations
        boxed = np.flatnonzero(np.isfinite(table.columns).all(axis=0))
        ids: list[Any] = table.annot_id[boxed[np.argsort(table.position[boxed], kind="stable")]].tolist()
        return ids

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
            Number of positives, drawn by `rng`, in the order of the dataset; all if left out, or if there are fewer.
        n_neg, neg_to_pos_ratio
            Number of negatives, in all or for each positive; none if both are left out.
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
        ratio: Any = neg_to_pos_ratio
        if ratio is not None and n_neg is not None:
            message = f"n_neg={n_neg!r} and neg_to_pos_ratio={ratio!r} both say how many"
            raise OptionError(message, key="neg_to_pos_ratio", hint="Give only one")
        for name, number in (("n_pos", n_pos), ("n_neg", n_neg)):
            if number is not None:
                check_count(name, number, least=0)
        if ratio is not None and not (isinstance(ratio, Real) and float(ratio) >= 0):
            raise OptionError(f"neg_to_pos_ratio={ratio!r}: expected a number of at least 0", key="neg_to_pos_ratio")
        draw = np.random.default_rng(rng)
        found = self.targets.positives(window_dims if cover else None, cover=cover, negative_classes=(), seed=draw)
        if n_pos is not None and n_pos < len(found):
            found = found.iloc[np.sort(draw.choice(len(found), n_pos, replace=False))].reset_index(drop=True)
        many = n_neg if n_neg is not None else int((neg_to_pos_ratio or 0) * len(found))
        dims = "like_annotations" if window_dims is None else window_dims
        avoiding = self.targets.negatives(many, dims, max_overlap=max_overlap, seed=draw)
        self._positives, self._negatives = found, avoiding
        return len(found), len(avoiding)

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
        check_choice("task", task, TASKS)
        options: dict[str, Any] = {
            "classes_of_interest": classes_of_interest,
            "ignore_coverage": ignore_coverage_thresh,
            "negative_classes": negative_classes,
        }
        video = task == "video_detection"
        if video:
            time_dims, *window_dims = _triple("window_dims", window_dims)
            time_overlap, *window_overlap = _triple("window_overlap", window_overlap)
            options |= {"space": "video", "time_dims": time_dims, "time_overlap": time_overlap}
        table = self.targets.grid(tuple(window_dims) if video else window_dims, window_overlap, **options)
        table = table[table["kind"] != "ignored"]
        rows = [_video_target(self.targets, row) if video else _image_target(row) for row in Rows(table)]
        positive = (table["kind"] == "positive").to_numpy()
        positives, negatives = np.flatnonzero(positive).tolist(), np.flatnonzero(~positive).tolist()
        return {
            "targets": rows,
            "positives_indexes": positives,
            "negatives_indexes": negatives,
            "positives": [rows[k] for k in positives],
            "negatives": [rows[k] for k in negatives],
        }

    def load_item(
        self,
        index: int,
        with_annots: bool | str | Sequence[str] = True,
        target: Mapping[str, Any] | None = None,
        rng: Any = None,
        **options: Any,
    ) -> xarray.Dataset:
        """Load a positive or, after those, a negative; see `load_positive` and `load_negative`."""
        if as_integer(index) is None:
            message = f"index={index!r}: there is no such item, of {len(self)} from 0"
            raise TargetError(message, key="index")
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
        Load a window around an annotation, or a positive that was preselected.

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
        n = self.n_positives
        if not n:
            raise TargetError("the dataset has no annotations with boxes, so there are no positives")
        index = _drawn("positive", index, n, "there are {}", rng)
        window = {"aid": self._boxed_ids[index]} if self._positives is None else Rows(self._positives)[index]
        return self.load_sample({**window, **(target or {})}, with_annots=with_annots, **options)

    def load_negative(
        self,
        index: int | None = None,
        with_annots: bool | str | Sequence[str] = True,
        target: Mapping[str, Any] | None = None,
        rng: Any = None,
        **options: Any,
    ) -> xarray.Dataset:
        """
        Load a window that touches no annotation, or a negative that was preselected.

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
        if index is not None and ((number := as_integer(index)) is None or number < 0):
            raise TargetError(f"index={index!r}: expected a whole number of at least 0", key="index")
        further = dict(target or {})
        gid = further.pop("gid", further.pop("image_id", None))
        dims = further.pop("window_dims", None)
        if self._negatives is not None and gid is None:
            if not self.n_negatives:
                hint = "Give n_neg or neg_to_pos_ratio to preselect"
                raise TargetError("no negatives were preselected", hint=hint)
            index = _drawn("negative", index, self.n_negatives, "{} were preselected", rng)
            window = Rows(self._negatives)[index] | ({} if dims is None else {"window_dims": dims})
        else:
            dims = "like_annotations" if dims in (None, "extent") else dims
            ids, seed = None if gid is None else [gid], index if rng is None else rng
            window = Rows(self.targets.negatives(1, dims, seed=seed, ids=ids))[0]
        return self.load_sample({**window, **further}, with_annots=with_annots, **options)

    def load_image(self, gid: Any, **keys: Any) -> xarray.Dataset:
        """Load a whole image, in image space."""
        return self.load_sample({"gid": gid, **keys}, with_annots=False)

    def load_image_with_annots(self, gid: Any, **keys: Any) -> tuple[xarray.Dataset, list[dict[str, Any]]]:
        """Load a whole image, and return kwcoco's dictionaries of its annotations."""
        return self.load_sample({"gid": gid, **keys}), self.load_annotations(gid)

    def load_annotations(self, gid: Any) -> list[dict[str, Any]]:
        """Return kwcoco's dictionaries of the annotations of an image."""
        self._source.frame(gid)  # an unknown image is an error here as everywhere
        return [self.dset.index.anns[aid] for aid in self.dset.index.gid_to_aids[gid]]

    @property
    def n_positives(self) -> int:
        """Number of annotations with a box, or of the positives that were preselected."""
        return len(self._boxed_ids if self._positives is None else self._positives)

    @property
    def n_negatives(self) -> int:
        """Number of negatives that were preselected; any number can be drawn."""
        return 0 if self._negatives is None else len(self._negatives)

    @property
    def n_samples(self) -> int:
        """Number of items; see `load_item`."""
        return len(self)

    @property
    def n_annots(self) -> int:
        """Number of annotations."""
        return len(self.dset.index.anns)

    @property
    def n_images(self) -> int:
        """Number of images, frames of videos included."""
        return len(self.dset.index.imgs)

    @property
    def n_categories(self) -> int:
        """Number of categories."""
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
        """Return the name of a category."""
        if not isinstance(class_id, Hashable) or class_id not in self.dset.index.cats:
            known = did_you_mean(class_id, self.class_ids[:20])
            raise TargetError(f"class_id={class_id!r}: no such category{known}", key="class_id")
        return str(self.dset.index.cats[class_id]["name"])

    def lookup_class_id(self, name: Any) -> Any:
        """Return the id of a category."""
        if not isinstance(name, Hashable) or name not in self.dset.index.name_to_cat:
            known = did_you_mean(name, self.dset.index.name_to_cat)
            raise TargetError(f"name={name!r}: no such category{known}", key="name")
        return self.dset.index.name_to_cat[name]["id"]


def _drawn(kind: str, index: int | None, n: int, found: str, rng: Any) -> int:
    """Return the index of one of n windows, drawn if it is left out."""
    if index is None:
        index = int(np.random.default_rng(rng).integers(n))
    if not 0 <= index < n:
        raise TargetError(f"index={index}: no such {kind}; {found.format(n)}", key="index")
    return index


def _triple(name: str, value: Any) -> tuple[Any, Any, Any]:
    """(along t, y, x)."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value, value, value
    triple = tuple(value)
    if len(triple) != 3:
        raise OptionError(f"{name}={value!r}: expected (frames, height, width) for videos", key=name)
    return triple


def _space_slice(row: Mapping[str, Any]) -> tuple[slice, slice]:
    y, x = int(row["cy"] - row["height"] / 2), int(row["cx"] - row["width"] / 2)
    return slice(y, y + row["height"]), slice(x, x + row["width"])


def _image_target(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"gid": row["gid"], "slices": _space_slice(row), "aids": list(row["annot_ids"])}


def _video_target(targets: Targets, row: Mapping[str, Any]) -> dict[str, Any]:
    time = slice(row["time_start"], row["time_stop"])
    return {
        "vidid": row["vidid"],
        "time_slice": time,
        "space_slice": _space_slice(row),
        "gids": list(targets.source.dset.index.vidid_to_gids[row["vidid"]][time]),
        "aids": list(row["annot_ids"]),
    }
