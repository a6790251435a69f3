"""How are windows asked for that slide, hold annotations, or avoid them?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ndzarr.targets.classes import NEGATIVE
from ndzarr.targets.indexed import Indexed

if TYPE_CHECKING:
    import pandas

    from ndzarr.targets.rows import Rows, Targets

ANY = 1e-9
"""The fraction that is some data at all."""


class Windowing(Indexed):
    """Mixed into `Targets`."""

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
            Frames of a window of a video (all if left out), and by how many, or which fraction, neighbours overlap.
        keep_borders
            What becomes of windows that would reach beyond the end: True or 'shift' moves them inward, 'pad' leaves
            them (what lies outside is padded), False or 'drop' leaves them out.  A space that is smaller than the
            window is padded, or left out by 'drop'.
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

        chosen = self.spaces(space, ids)
        over = lattice(chosen, window_dims, overlap, time_dims, time_overlap, keep_borders)
        table = annotated(self, chosen, over, classes_of_interest, negative_classes, ignore_coverage)
        return _with_data(self, table, valid_only)

    def positives(
        self,
        window_dims: Any = None,
        *,
        context: float = 1.0,
        jitter: float = 0.0,
        cover: bool = False,
        space: str = "image",
        time_dims: int | None = None,
        keep_borders: bool | str = "pad",
        classes_of_interest: Iterable[Any] | None = None,
        negative_classes: Iterable[Any] = NEGATIVE,
        per_class: int | None = None,
        per_image: int | None = None,
        valid_only: bool | float = False,
        seed: Any = 0,
        ids: Iterable[Any] | None = None,
    ) -> pandas.DataFrame:
        """
        Windows that hold annotations: one around each, or few that cover all.

        Parameters
        ----------
        window_dims
            (height, width) in pixels of the space, the same for all; left out, each has the size of its annotation's
            box, 'square' the square around it.  Of an annotation that is larger than the window, a window around it
            shows the middle; with `cover`, several windows cover it together.
        context
            Factor on the size of the box, where the window has it from there.
        jitter
            How far windows may lie off centre, drawn by the seed: 0 is centred, 1 as far as the annotation stays within
            the window (or the window within the annotation, if that is larger); with `cover`, all that it covers.
        cover
            Choose few windows, all of `window_dims`, so that every pixel of every annotation's box, as far as it lies
            in the space, is in one; annotations that fit into a window are whole in one.
        space, time_dims
            'image', or 'video' with that many frames around the annotation's (all frames if left out).
        keep_borders
            As for `grid`; by default windows keep their place and what lies outside is padded.
        classes_of_interest, negative_classes
            Categories, by name or id, that count; if none are of interest, all but the negative ones.
        per_class
            At most so many annotations of each category, drawn by the seed.
        per_image
            At most so many windows of each image (or video): drawn by the seed or, with `cover`, those that add most.
        valid_only, ids
            As for `grid`.
        seed
            Number or `numpy.random.Generator`.

        Returns
        -------
        Columns as for `grid`.  Windows around annotations also have `aid` and `category_id`, and `img_width` and
        `img_height` for images; they are in the order of the dataset, covering ones by image, y and x.

        Raises
        ------
        TargetError, OptionError
            An option is not understood, or names what the dataset does not have.
        """
        from ndzarr.targets.lattice import at_borders
        from ndzarr.targets.positives import Around, positives

        how = Around(window_dims, context, jitter, time_dims, at_borders(keep_borders), cover)
        classes, caps = (classes_of_interest, negative_classes), (per_class, per_image)
        table = positives(self, self.spaces(space, ids), how, classes, caps, seed)
        return _with_data(self, table, valid_only)

    def negatives(
        self,
        n: int,
        window_dims: Any = "like_annotations",
        *,
        max_overlap: float = 0.0,
        criterion: str = "window",
        space: str = "image",
        time_dims: int | None = None,
        avoid: Iterable[Any] | None = None,
        seed: Any = 0,
        ids: Iterable[Any] | None = None,
    ) -> pandas.DataFrame:
        """
        Random windows, wholly inside, that hold no annotation, or little of any.

        They are drawn independently, each with equal chance from all windows of its size that keep the promise, so that
        images count by their free area.

        Parameters
        ----------
        n
            Exactly so many rows.
        window_dims
            (height, width) in pixels of the space; 'like_annotations' draws sizes from those of the annotations' boxes,
            'square' the squares around these (sizes for which there is no room are drawn again).
        max_overlap
            Largest fraction that a window may share with any one annotation's box; 0 for none at all.
        criterion
            Fraction of what: 'window' its area, 'annotation' the box's, 'iou' of their union.
        space, time_dims
            'image', or 'video' with that many frames (all if left out), none of which may have the annotation there.
        avoid
            Categories that windows avoid, by name or id; all if left out.
        seed, ids
            As for `positives`.

        Returns
        -------
        Columns as for `grid`; `kind` is 'negative', `annot_ids` what the windows touch although they may.

        Raises
        ------
        TargetError, OptionError
            There is no such window; the message says what was found.
        """
        from ndzarr.targets.negatives import negatives
        from ndzarr.targets.room import Limit

        chosen = self.spaces(space, ids)
        return negatives(self, n, window_dims, chosen, Limit(max_overlap, criterion), time_dims, avoid, seed)

    def overlaps(self, table: Targets | Rows) -> pandas.DataFrame:
        """
        Which annotations the windows of a table touch, and how much of each other they cover.

        Parameters
        ----------
        table
            Targets with `gid` or `vidid`, `cx cy width height`, and for videos `time_start time_stop time_step`, or
            `gids`, whose frames may be any of their video's.

        Returns
        -------
        One row per window, frame and annotation that share area, sorted by window: `row` (position in the table),
        `frame` (position along t), `annot_id`, `category_id`, `area` that is shared (square pixels of the space), and
        that as a fraction: `of_window`, `of_annotation` (visibility), `iou`.

        Raises
        ------
        TargetError
            The table lacks a column.
        """
        from ndzarr.targets.footprint import as_table, canonical
        from ndzarr.targets.overlap import overlaps
        from ndzarr.targets.tables import windows_in

        table = canonical(as_table(table))
        spaces = self.spaces("video" if {"vidid", "gids"} & set(table.columns) else "image")
        return overlaps(self.index(spaces), *windows_in(self, table, spaces), self.annotations)


def _with_data(targets: Indexed, table: pandas.DataFrame, valid_only: bool | float) -> pandas.DataFrame:
    """The rows that hold enough data."""
    if valid_only is False:
        return table
    from ndzarr.targets.valid import valid

    return valid(targets.sampler, table, ANY if valid_only is True else valid_only)
