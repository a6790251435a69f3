"""Which windows are there to choose from?

`sampler.targets` answers with pandas tables whose rows are targets: `load_sample(row)` loads one, `load_batch(table)`
many.  Every method delegates to the module of its name, and every random choice to its seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ndzarr.sampler.annotations import AnnotationTable
from ndzarr.targets.classes import NEGATIVE, Classes
from ndzarr.targets.spaces import Boxes, Spaces, boxes_of, spaces_of

if TYPE_CHECKING:
    import pandas

    from ndzarr.sampler.coco import CocoSampler
    from ndzarr.targets.overlap import Index


class Targets:
    """
    Tables of targets of a sampler.

    Parameters
    ----------
    sampler
        Whose images, videos and annotations are meant.
    """

    def __init__(self, sampler: CocoSampler) -> None:
        self.sampler = sampler
        """The `ndzarr.CocoSampler`."""

        self._spaces: dict[str, Spaces] = {}
        self._indexes: dict[str, Index] = {}

    def __repr__(self) -> str:
        return f"<targets of {self.sampler!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"sampler": self.sampler, "_spaces": {}, "_indexes": {}}  # built anew where they are needed

    def grid(
        self,
        window_dims: Any,
        overlap: Any = 0,
        *,
        space: str = "image",
        time_dims: Any = None,
        time_overlap: Any = 0,
        keep_borders: bool | str = True,
        classes_of_interest: Iterable[Any] | None = None,
        negative_classes: Iterable[Any] = NEGATIVE,
        ignore_coverage: float | None = 0.6,
        valid_only: bool | float = False,
        ids: Iterable[Any] | None = None,
    ) -> pandas.DataFrame:
        """
        Sliding windows in space, and for videos in time.

        Parameters
        ----------
        window_dims
            (height, width) in pixels of the space; 'full' for the extent, of one axis or both.
        overlap
            Of neighbouring windows: a float is the fraction of the window, an integer is pixels; a pair is (along y,
            along x).
        space
            'image' slides over each image; 'video' over each video, in the space that its frames share.
        time_dims, time_overlap
            Frames of a window of a video (all of them if left out), and by how many, or which fraction, neighbours overlap.
        keep_borders
            What becomes of windows that would reach beyond the end: True or 'shift' moves them inward, 'pad' leaves
            them (what lies outside is padded), False or 'drop' leaves them out.  A space that is smaller than the window
            is padded, or left out by 'drop'.
        classes_of_interest
            Categories, by name or id, that make a window positive; if left out, all but `negative_classes`.
        negative_classes
            Categories that make no window positive.  Those other than 'background' are regions to ignore.
        ignore_coverage
            A window is ignored when regions to ignore cover more than this fraction of it.  Regions are segmentations,
            or boxes of annotations that have none, united; windows of several frames have the mean.  None for never.
        valid_only
            Leave out windows that hold too little data: True for those that hold none, a number for the least fraction.
        ids
            Images or videos; all if left out.

        Returns
        -------
        One row per window, by space, then t, y, x: `gid` or `vidid`, `cx cy width height`, for videos `time_start
        time_stop time_step`; `annot_ids` (tuple of all annotations whose boxes share area with the window, those that
        `load_sample` returns), `n_annots`, `kind` ('positive', 'negative', 'ignored'), and `coverage` where there are
        regions to ignore.

        Raises
        ------
        TargetError
            An option is not understood, or names what the dataset does not have.

        Examples
        --------
        >>> import ndzarr
        >>> annotation = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [250, 10, 20, 20]}
        >>> dset = {"images": [{"id": 1, "file_name": "a.png", "width": 400, "height": 200}]}
        >>> dset |= {"categories": [{"id": 1, "name": "cat"}], "annotations": [annotation]}
        >>> ndzarr.CocoSampler(dset).targets.grid((200, 256))[["cx", "cy", "annot_ids", "kind"]]
              cx     cy annot_ids      kind
        0  128.0  100.0      (7,)  positive
        1  272.0  100.0      (7,)  positive
        """
        from ndzarr.targets.grid import annotated, lattice

        chosen = self.spaces(space).some(ids)
        over = lattice(chosen, window_dims, overlap, time_dims, time_overlap, keep_borders)
        table = annotated(self, chosen, over, classes_of_interest, negative_classes, ignore_coverage)
        return self._valid(table, valid_only)

    def overlaps(self, table: pandas.DataFrame) -> pandas.DataFrame:
        """
        Which annotations the windows of a table touch, and how much of each other they cover.

        Parameters
        ----------
        table
            Targets with `gid` or `vidid`, `cx cy width height`, and for videos `time_start time_stop time_step`.

        Returns
        -------
        One row per window, frame and annotation that share area, sorted by window: `row` (position in the table),
        `frame` (position along t), `annot_id`, `category_id`, `area` (square pixels of the space), and it as a fraction:
        `of_window`, `of_annotation` (visibility), `iou`.

        Raises
        ------
        TargetError
            The table lacks a column.
        """
        from ndzarr.targets.overlap import as_table
        from ndzarr.targets.windows import windows_in

        kind = "video" if "vidid" in table.columns else "image"
        return as_table(self.index(kind), windows_in(table, self.spaces(kind)), self.annotations)

    @property
    def annotations(self) -> AnnotationTable:
        """All annotations as columns."""
        return self.sampler.annotations

    @cached_property
    def classes(self) -> Classes:
        """The categories, by name and id."""
        return Classes(self.sampler.dset.index.cats)

    def spaces(self, kind: str) -> Spaces:
        """All images ('image') or videos ('video'), with their sizes."""
        if kind not in self._spaces:
            self._spaces[kind] = spaces_of(self.sampler, kind)
        return self._spaces[kind]

    def boxes(self, spaces: Spaces) -> Boxes:
        """The boxes of all annotations in some spaces."""
        if spaces is self._spaces.get(spaces.kind):
            return self.index(spaces.kind).boxes
        return boxes_of(spaces, self.annotations, self.sampler._dataset)

    def index(self, kind: str) -> Index:
        """The spatial index of all images or videos; built when first needed."""
        from ndzarr.targets.overlap import Index

        if kind not in self._indexes:
            spaces = self.spaces(kind)
            self._indexes[kind] = Index(spaces, boxes_of(spaces, self.annotations, self.sampler._dataset))
        return self._indexes[kind]

    def _valid(self, table: pandas.DataFrame, valid_only: bool | float) -> pandas.DataFrame:
        """The rows that hold enough data."""
        return table
