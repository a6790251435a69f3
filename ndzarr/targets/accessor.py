"""Which windows are there to choose from?

`sampler.targets` answers with pandas tables whose rows are targets: `load_sample(row)` loads one, `load_batch(table)`
many.  Every method delegates to the module of its name, and every random choice to its seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._sampling.annotations import AnnotationTable
from ndzarr._validation import as_list as several
from ndzarr.targets.grid import NEGATIVE, Classes, lattice
from ndzarr.targets.windows import Spaces, as_columns, boxes_of, column_of_ids, spaces_of

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.named_sources import NamedSource
    from ndzarr._sampling.protocols import SampleSource
    from ndzarr.targets.balance import Distribution, Shares
    from ndzarr.targets.overlaps import Index
    from ndzarr.targets.statistics import Statistics
    from ndzarr.targets.table import Rows
    from ndzarr.targets.table import TargetsLike as arranging_Targets
    from ndzarr.targets.table import TargetsLike as windowing_Targets
    from ndzarr.targets.valid import Judge


# --- What do all ways to choose windows look up?


class Indexed:
    """
    What is known about the windows of a sampler.

    Parameters
    ----------
    source
        Whose images, videos and annotations are meant.
    """

    def __init__(self, source: SampleSource) -> None:
        self.source = source
        """The dataset."""
        self._spaces: dict[str, Spaces] = {}
        self._indexes: dict[str, Index] = {}

    def __repr__(self) -> str:
        return f"<targets of {self.source!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source,)  # trees do not travel: they are built anew where they are needed

    @property
    def annotations(self) -> AnnotationTable:
        """All annotations as columns."""
        return self.source.annotations

    @cached_property
    def classes(self) -> Classes:
        """The categories, by name and id."""
        return Classes(self.source.dset.index.cats)

    def spaces(self, kind: str, ids: Iterable[Any] | None = None) -> Spaces:
        """Images ('image') or videos ('video') with their sizes; all, or those of the given ids."""
        if kind not in self._spaces:
            self._spaces[kind] = spaces_of(self.source, kind)
        return self._spaces[kind] if ids is None else self._spaces[kind].some(ids)

    def index(self, spaces: Spaces) -> Index:
        """The spatial index of the annotations in some spaces; that of all images, or videos, is kept."""
        from ndzarr.targets.overlaps import Index

        if spaces is not self._spaces.get(spaces.kind):
            return Index(spaces, boxes_of(spaces, self.annotations, self.source.dataset))
        if spaces.kind not in self._indexes:
            self._indexes[spaces.kind] = Index(spaces, boxes_of(spaces, self.annotations, self.source.dataset))
        return self._indexes[spaces.kind]


# --- How are windows asked for that slide, hold annotations, or avoid them?


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
        from ndzarr.targets.grid import at_borders
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
        from ndzarr.targets.negatives import Limit, negatives

        chosen = self.spaces(space, ids)
        return negatives(self, n, window_dims, chosen, Limit(max_overlap, criterion), time_dims, avoid, seed)

    def overlaps(self, table: windowing_Targets | Rows) -> pandas.DataFrame:
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
        from ndzarr.targets.overlaps import overlaps
        from ndzarr.targets.windows import as_table, canonical, windows_in

        table = canonical(as_table(table))
        spaces = self.spaces("video" if {"vidid", "gids"} & set(table.columns) else "image")
        return overlaps(self.index(spaces), *windows_in(self, table, spaces), self.annotations)


def _with_data(targets: Indexed, table: pandas.DataFrame, valid_only: bool | float) -> pandas.DataFrame:
    """The rows that hold enough data."""
    if valid_only is False:
        return table
    from ndzarr.targets.valid import valid

    return valid(targets.source, table, ANY if valid_only is True else valid_only)


# --- What can be done with a table of windows


class Arranging(Indexed):
    """Mixed into `Targets`."""

    def balanced(
        self,
        table: arranging_Targets | Rows,
        by: str | Sequence[str] = "category",
        n: int | None = None,
        replace: bool = True,
        shares: Shares | None = None,
        seed: int = 0,
    ) -> pandas.DataFrame:
        """
        Balance windows over attributes: a column `probability`, or n windows drawn; `balance.balanced`.

        Examples
        --------
        >>> import ndzarr, pandas
        >>> targets = ndzarr.CocoSampler({"images": []}).targets
        >>> table = pandas.DataFrame({"gid": [1, 1, 1, 2], "kind": ["a", "a", "a", "b"]})
        >>> sorted(targets.balanced(table, by="kind", n=6).kind)
        ['a', 'a', 'a', 'b', 'b', 'b']
        """
        from ndzarr.targets.balance import balanced

        return balanced(self.source, table, by, n, replace, shares, seed)

    def distribution(
        self, table: arranging_Targets | Rows, by: str | Sequence[str] = "category", shares: Shares | None = None
    ) -> Distribution:
        """How windows are distributed over attributes, to print and plot; `distribution.distribution`."""
        from ndzarr.targets.balance import distribution

        return distribution(self.source, table, by, shares)

    def times(
        self,
        table: arranging_Targets | Rows | None = None,
        n: int | None = None,
        method: str | None = None,
        *,
        step: int | None = None,
        overlap: int = 0,
        kernel: Any = None,
        span: Any = None,
        main: Any = None,
        include: Sequence[Any] | None = None,
        exclude: Sequence[Any] = (),
        always: Sequence[Any] = (),
        min_quality: float | None = None,
        quality_channels: Any = None,
        good: Judge | None = None,
        max_pixels: int | None = 1 << 22,
        seed: int = 0,
        progress: bool = True,
    ) -> pandas.DataFrame:
        """Choose the frames of windows of videos: contiguous, strided, by kernel, spread, around; `times.times`."""
        from ndzarr.targets.time_sampling import times

        return times(
            self,
            table,
            n,
            method,
            step=step,
            overlap=overlap,
            kernel=kernel,
            span=span,
            main=main,
            include=include,
            exclude=exclude,
            always=always,
            min_quality=min_quality,
            quality_channels=quality_channels,
            good=good,
            max_pixels=max_pixels,
            seed=seed,
            progress=progress,
        )

    def valid_fraction(
        self,
        table: arranging_Targets | Rows,
        max_pixels: int | None = 1 << 22,
        channels: Any = None,
        progress: bool = True,
    ) -> np.ndarray[Any, Any]:
        """Fraction of each window that is real data, from coarse levels; `valid.valid_fraction`."""
        from ndzarr.targets.valid import valid_fraction

        return valid_fraction(self.source, table, max_pixels, channels, progress)

    def valid(
        self,
        table: arranging_Targets | Rows,
        min_fraction: float = 0.5,
        max_pixels: int | None = 1 << 22,
        channels: Any = None,
        progress: bool = True,
    ) -> pandas.DataFrame:
        """Keep the windows that hold enough real data; `valid.valid`."""
        from ndzarr.targets.valid import valid

        return valid(self.source, table, min_fraction, max_pixels, channels, progress)

    def observed(
        self,
        n: int,
        window_dims: tuple[int, int],
        min_fraction: float = 0.9,
        channels: Any = None,
        seed: int = 0,
        progress: bool = True,
    ) -> pandas.DataFrame:
        """Draw windows that hold enough real data, from all images; `observed.observed`."""
        from ndzarr.targets.valid import observed

        return observed(self.source, n, window_dims, min_fraction, channels, seed, progress)

    def split(
        self,
        table: arranging_Targets | Rows,
        fractions: Mapping[str, float] | None = None,
        by: str = "video",
        stratify: str | None = None,
        block: int | None = None,
        margin: int = 0,
        seed: int = 0,
    ) -> pandas.DataFrame:
        """Part windows into training, validation and test, no two of which share a pixel; `splits.split`."""
        from ndzarr.targets.splits import split

        return split(self.source, table, fractions, by, stratify, block, margin, seed)

    def statistics(
        self,
        table: arranging_Targets | Rows | None = None,
        level: int | None = None,
        channels: Any = None,
        sample: int | None = None,
        quantiles: Sequence[float] | None = None,
        bins: int = 256,
        range: tuple[float, float] | None = None,
        workers: int | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Statistics:
        """Mean, std, extremes, quantiles and histogram of each channel; `measure.statistics`."""
        from ndzarr.targets.statistics import QUANTILES, statistics

        asked = QUANTILES if quantiles is None else quantiles
        return statistics(self.source, table, level, channels, sample, asked, bins, range, workers, seed, progress)


class Targets(Windowing, Arranging):
    """
    Tables of targets of a sampler: `sampler.targets`.

    Parameters
    ----------
    source
        Whose images, videos and annotations are meant.
    """


# --- Which windows slide over named sources, which have no annotations?


class SourceTargets:
    """
    Tables of targets of an `ndzarr.Sampler`: `sampler.targets`.

    Parameters
    ----------
    source
        Whose sources are meant.
    """

    def __init__(self, source: NamedSource) -> None:
        self.source = source
        """The sources."""

    def __repr__(self) -> str:
        return f"<targets of {self.source!r}>"

    def grid(
        self,
        window_dims: Any,
        overlap: Any = 0,
        *,
        keep_borders: bool | str = True,
        ids: Iterable[Any] | None = None,
    ) -> pandas.DataFrame:
        """
        Sliding windows in space; along other axes, such as t, each has the whole extent.

        Parameters
        ----------
        window_dims, overlap, keep_borders
            As for `CocoSampler.targets.grid`.
        ids
            Names of sources; all if left out.

        Returns
        -------
        One row per window, by source, then y and x: `key`, `cx cy width height`.

        Raises
        ------
        TargetError
            An option is not understood, or there is no such source.

        Examples
        --------
        >>> import ndzarr, numpy as np, tempfile
        >>> pyr = ndzarr.transcode(np.zeros((64, 96), "u1"), tempfile.mkdtemp() + "/a.zarr")
        >>> ndzarr.Sampler({"a": pyr}).targets.grid((64, 64))
          key    cx    cy  width  height
        0   a  32.0  32.0     64      64
        1   a  64.0  32.0     64      64
        """
        import pandas

        names = list(self.source.sources if ids is None else several(ids))
        sizes = [self.source.open(name).sizes for name in names]
        height, width = (np.array([size[axis] for size in sizes], np.int64) for axis in ("y", "x"))
        spaces = Spaces("source", column_of_ids(names), height, width, ((None,),) * len(names))
        windows = lattice(spaces, window_dims, overlap, None, 0, keep_borders).windows()
        return pandas.DataFrame(as_columns(windows, spaces))
