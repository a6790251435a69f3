"""Tables of targets: `sampler.targets`.

Rows are targets: `load_sample(row)` loads one, `load_batch(table)` loads many.  The same seed gives the same table.
Methods only delegate to the module of their name.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ndzarr._sampling.coco_dataset import file_of
from ndzarr.targets import (
    balance,
    grid,
    negatives,
    overlaps,
    positives,
    query,
    splits,
    statistics,
    time_sampling,
    tracks,
    valid,
)
from ndzarr.targets.attributes import NEGATIVE
from ndzarr.targets.physical import WindowSizes
from ndzarr.targets.valid import MAX_PIXELS

if TYPE_CHECKING:
    import numpy as np
    import pandas

    from ndzarr._sampling.annotations import Crowd
    from ndzarr._sampling.named_sources import NamedSource
    from ndzarr._sampling.protocols import SampleSource
    from ndzarr.targets.attributes import Names
    from ndzarr.targets.balance import Distribution, Shares
    from ndzarr.targets.grid import Length, Overlap, WindowDims
    from ndzarr.targets.negatives import NegativeDims
    from ndzarr.targets.positives import PositiveDims
    from ndzarr.targets.statistics import Statistics
    from ndzarr.targets.table import Rows, TargetsLike
    from ndzarr.targets.time_sampling import Kernel, Main
    from ndzarr.targets.valid import Channels, Judge, MaskLike, ObservedDims


class Targets:
    """
    Tables of targets of an `ndzarr.CocoSampler`.

    Parameters
    ----------
    source
        The images, videos and annotations.
    """

    def __init__(self, source: SampleSource) -> None:
        self.source = source
        self._context = overlaps.TargetContext(source)

    def __repr__(self) -> str:
        return f"<targets of {self.source!r}>"

    def _named(self, table: pandas.DataFrame) -> pandas.DataFrame:
        """Return a table that says which file its dataset is in; Parquet keeps it."""
        path = file_of(self.source.dset)
        if path is not None:
            table.attrs["dataset"] = path
        return table

    def grid(
        self,
        window_dims: WindowDims,
        overlap: Overlap = 0,
        *,
        space: str = "image",
        time_dims: Length | None = None,
        time_overlap: float = 0,
        resolution: float | str | None = None,
        keep_borders: bool | str = True,
        classes_of_interest: Names | None = None,
        negative_classes: Names = NEGATIVE,
        ignore_coverage: float | None = 0.6,
        crowd: Crowd = "keep",
        valid_only: bool | float = False,
        mask: MaskLike = None,
        ids: Iterable[Hashable] | None = None,
    ) -> pandas.DataFrame:
        """
        Slide windows over space, and for videos over time.

        Parameters
        ----------
        window_dims
            (height, width): pixels of the space, lengths such as '512 m' or '100 um', or 'full' for the extent; one
            length, or 'full', for both.
        overlap
            Overlap of neighbouring windows: a float is a fraction of the window, an integer is pixels, text a length; a
            pair is (along y, along x).  Below 0, such as -64 or '-10 m', it is a gap between them.
        space
            'image' slides over each image; 'video' over each video, in the space that its frames share.
        time_dims, time_overlap
            Frames of a window of a video (all by default), and the overlap of neighbours as frames or a fraction.
        resolution
            Size of the pixels that samples shall have, as `resolution` of targets.  Numbers of pixels in `window_dims`
            and `overlap` then count these, and rows have the column `output_dims`.
        keep_borders
            What becomes of windows that would reach beyond the end: True or 'shift' moves them inward, 'pad' leaves
            them in place (what lies outside is padded), False or 'drop' leaves them out.  A space smaller than the
            window is padded, or left out by 'drop'.
        classes_of_interest
            Categories, by name or id, that make a window positive; by default all but `negative_classes`.
        negative_classes
            Categories that do not make a window positive.  Those other than 'background' are regions to ignore.
        ignore_coverage
            A window is ignored if regions to ignore cover more than this fraction of it.  Regions are segmentations, or
            boxes of annotations that have none, united; windows of several frames have the mean.  None for never.
        crowd
            What becomes of annotations whose `iscrowd` is 1: 'keep' takes them as all others, 'drop' leaves them out,
            'ignore' makes them regions to ignore.
        valid_only
            Leave out windows with too little data: True for those without any, a number for the least fraction.
        mask
            What windows may show, such as tissue, as for `valid_fraction`: windows without any of it, or with less than
            `valid_only`, are left out.
        ids
            Images or videos; all by default.

        Returns
        -------
        One row per window, sorted by space, t, y and x: `gid` or `vidid`; `cx cy width height` in pixels; for videos
        `time_start time_stop time_step`; `annot_ids` (tuple of all annotations whose boxes share area with the window,
        the ones that `load_sample` returns), `n_annots`, `kind` ('positive', 'negative', 'ignored'); and `coverage` if
        there are regions to ignore.

        Raises
        ------
        TargetError
            An option is not understood, or the dataset does not have what it names.

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
        spaces = self._context.spaces(space, ids)
        sizes = WindowSizes(self.source, spaces, resolution)
        windows = grid.sliding_windows(sizes, window_dims, overlap, time_dims, time_overlap, keep_borders)
        table = grid.grid_table(
            self._context, spaces, windows, classes_of_interest, negative_classes, ignore_coverage, crowd
        )
        return self._named(valid.with_data(self.source, table, valid_only, mask))

    def positives(
        self,
        window_dims: PositiveDims = None,
        *,
        context: float = 1.0,
        jitter: float = 0.0,
        cover: bool = False,
        space: str = "image",
        time_dims: int | None = None,
        resolution: float | str | None = None,
        keep_borders: bool | str = "pad",
        classes_of_interest: Names | None = None,
        negative_classes: Names = NEGATIVE,
        crowd: Crowd = "keep",
        per_class: int | None = None,
        per_image: int | None = None,
        valid_only: bool | float = False,
        mask: MaskLike = None,
        seed: int | np.random.Generator | None = 0,
        ids: Iterable[Hashable] | None = None,
    ) -> pandas.DataFrame:
        """
        Choose windows that hold annotations: one around each, or few that cover all.

        Parameters
        ----------
        window_dims
            (height, width), the same for all: pixels of the space, or lengths such as '512 m' or '100 um' (or one for
            both); 'square' is the square around each box, None its size.  A window smaller than its annotation shows
            the middle of it; with `cover`, several windows cover it.
        context
            Factor on the size of the box, if the size comes from there.
        jitter
            How far windows may lie off centre, drawn by the seed: 0 is centred, 1 as far as the annotation stays within
            the window (or the window within a larger annotation); with `cover`, all annotations that it covers.
        cover
            Choose few windows, all of `window_dims`, so that every pixel of every annotation's box that lies in the
            space is in one of them; annotations that fit into a window are whole in one (a greedy set cover).
        space, time_dims
            'image', or 'video' with that many frames around the annotation's (all frames by default).
        resolution
            As for `grid`.
        keep_borders
            As for `grid`; by default windows keep their place, and what lies outside is padded.
        classes_of_interest, negative_classes
            Categories, by name or id, that count; by default all but the negative ones.
        crowd
            As for `grid`; only 'keep' makes positives of crowds.
        per_class
            Most annotations of each category, drawn by the seed.
        per_image
            Most windows of each image (or video), drawn by the seed; with `cover`, those that add most.
        valid_only, mask, ids
            As for `grid`.
        seed
            A number or a `numpy.random.Generator`.

        Returns
        -------
        Columns as for `grid`.  Windows around annotations also have `aid` and `category_id`, and for images `img_width`
        and `img_height` in pixels; they are in the order of the dataset.  Covering windows are sorted by image, y, x.

        Raises
        ------
        TargetError, OptionError
            An option is not understood, or the dataset does not have what it names.
        """
        borders = grid.parse_borders(keep_borders)
        placement = positives.Placement(window_dims, context, jitter, time_dims, borders, cover)
        spaces, classes = self._context.spaces(space, ids), (classes_of_interest, negative_classes)
        sizes = WindowSizes(self.source, spaces, resolution)
        table = positives.positives(self._context, sizes, placement, *classes, crowd, per_class, per_image, seed)
        return self._named(valid.with_data(self.source, table, valid_only, mask))

    def negatives(
        self,
        n: int,
        window_dims: NegativeDims = "like_annotations",
        *,
        max_overlap: float = 0.0,
        criterion: str = "window",
        space: str = "image",
        time_dims: int | None = None,
        resolution: float | str | None = None,
        avoid: Names | None = None,
        valid_only: bool | float = False,
        mask: MaskLike = None,
        seed: int | np.random.Generator | None = 0,
        ids: Iterable[Hashable] | None = None,
    ) -> pandas.DataFrame:
        """
        Draw windows, wholly inside, that hold no annotation, or little of any.

        Each is drawn independently, with equal chance, from all windows of its size that keep to the limit; so images
        count by their free area.

        Parameters
        ----------
        n
            Number of rows, exactly.
        window_dims
            (height, width) as pixels of the space or lengths such as '100 um', or one length for both;
            'like_annotations' draws sizes from those of the annotations' boxes, 'square' the squares around these
            (sizes without a free window are drawn again).
        max_overlap
            Largest fraction that a window may share with any one annotation's box; 0 for none at all.
        criterion
            The fraction's whole: 'window' its area, 'annotation' the box's, 'iou' their union's.
        space, time_dims
            'image', or 'video' with that many frames (all by default); none may have an annotation there.
        resolution
            As for `grid`.
        avoid
            Categories that windows avoid, by name or id; all by default.
        valid_only, mask
            As for `grid`: windows are drawn again until `n` hold enough.
        seed, ids
            As for `positives`.

        Returns
        -------
        Columns as for `grid`; `kind` is 'negative', `annot_ids` are the annotations that the limit lets windows touch.

        Raises
        ------
        TargetError, OptionError
            There is no such window (the message says how many windows fit, and where), or an option is not understood.
        """
        limit = negatives.OverlapLimit(max_overlap, criterion)
        sizes = WindowSizes(self.source, self._context.spaces(space, ids), resolution)

        def draw(count: int, rng: np.random.Generator) -> pandas.DataFrame:
            return negatives.negatives(self._context, count, window_dims, sizes, limit, time_dims, avoid, rng)

        return self._named(valid.drawn_with_data(self.source, n, draw, valid_only, mask, seed))

    def tracks(
        self,
        window_dims: PositiveDims = None,
        *,
        context: float = 1.0,
        time_dims: int | None = None,
        time_overlap: float = 0,
        follow: bool = False,
        resolution: float | str | None = None,
        keep_borders: bool | str = "pad",
        classes_of_interest: Names | None = None,
        negative_classes: Names = NEGATIVE,
        crowd: Crowd = "keep",
        ids: Iterable[Hashable] | None = None,
    ) -> pandas.DataFrame:
        """
        Follow the tracks of videos: a window around each track from its first to its last frame, or around each clip.

        Parameters
        ----------
        window_dims, context
            As for `positives`, around all boxes that the track has in the frames of the window.
        time_dims, time_overlap
            Frames of a clip, and the overlap of neighbours as frames or a fraction; the last clip ends with the track,
            and clips in which the track has no box are left out.  By default a track is one window.
        follow
            Move the window from frame to frame, so that the track stays in its middle: the column `follow`, which
            `load_sample` understands.  Sizes are then those of the largest box in the frames of a window, its place is
            that in its first frame, and `annot_ids` are those of the track alone.
        resolution, keep_borders, classes_of_interest, negative_classes, crowd
            As for `positives`.
        ids
            Videos; all by default.

        Returns
        -------
        Columns as for `grid`, and `track_id` and `category_id`; sorted by video, track and frame.

        Raises
        ------
        TargetError, OptionError
            No annotation is in a track, or an option is not understood.

        Examples
        --------
        >>> import ndzarr
        >>> frames = [
        ...     {"id": t, "file_name": f"{t}.png", "width": 90, "height": 60, "video_id": 1, "frame_index": t}
        ...     for t in range(1, 5)
        ... ]
        >>> boxes = [
        ...     {"id": t, "image_id": t, "category_id": 1, "track_id": 7, "bbox": [10 * t, 20, 10, 10]}
        ...     for t in (2, 3, 4)
        ... ]
        >>> dset = {"images": frames, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
        >>> dset |= {"videos": [{"id": 1, "name": "v", "width": 90, "height": 60}]}
        >>> table = ndzarr.CocoSampler(dset).targets.tracks(context=1.5)
        >>> table[["track_id", "time_start", "time_stop", "cx", "cy", "width", "height"]].values.tolist()
        [[7.0, 1.0, 4.0, 34.5, 24.5, 45.0, 15.0]]
        """
        borders = grid.parse_borders(keep_borders)
        placement = positives.Placement(window_dims, context, 0.0, time_dims, borders)
        sizes = WindowSizes(self.source, self._context.spaces("video", ids), resolution)
        classes = classes_of_interest, negative_classes
        return self._named(tracks.tracks(self._context, sizes, placement, time_overlap, follow, *classes, crowd))

    def query(self, expression: str, space: str = "image") -> list[Any]:
        """
        Return the ids of the images or videos for which a condition is true.

        Parameters
        ----------
        expression
            A condition as for `pandas.DataFrame.query`.  It may name any key of the dataset's dictionaries that holds
            text or a number; of images also `gid`, `vidid`, `date` (of `date_captured`), `sensor` (of
            `sensor_coarse`), `n_annots` and keys of their video as `video_name` and so on; of videos `vidid`,
            `n_frames`, and the dates `start` and `stop` of the first and last frame.
        space
            'image' or 'video'.

        Raises
        ------
        TargetError
            The expression is not a condition, or names something that there is not.

        Examples
        --------
        >>> import ndzarr
        >>> images = [
        ...     {"id": 1, "file_name": "a.png", "sensor_coarse": "S2", "date_captured": "2021-05-01"},
        ...     {"id": 2, "file_name": "b.png", "sensor_coarse": "L8", "date_captured": "2021-06-01"},
        ... ]
        >>> targets = ndzarr.CocoSampler({"images": images}).targets
        >>> targets.query("sensor == 'L8' and date > '2021-05-15'")
        [2]
        """
        return query.query(self.source, expression, space)

    def overlaps(self, table: TargetsLike | Rows) -> pandas.DataFrame:
        """
        Find the annotations that windows touch, and how much of each other they cover.

        Parameters
        ----------
        table
            Targets with `cx cy width height`, in images or in videos; listed frames (`gids`) may be any of the video's.

        Returns
        -------
        One row per window, frame and annotation that share area, sorted by window: `row` (position in the table),
        `frame` (position along t), `annot_id`, `category_id`, `area` that is shared (square pixels of the space), and
        that as a fraction: `of_window`, `of_annotation` (visibility), `iou`.

        Raises
        ------
        TargetError
            The table lacks a column, or a row is not a target of this dataset.
        """
        return overlaps.overlaps(self._context, table)

    def balanced(
        self,
        table: TargetsLike | Rows,
        by: str | Sequence[str] = "category",
        n: int | None = None,
        replace: bool = True,
        shares: Shares | None = None,
        seed: int | np.random.Generator | None = 0,
    ) -> pandas.DataFrame:
        """
        Balance a table over any attributes.

        Parameters
        ----------
        table
            Targets.
        by
            Attributes; the first divides first.  Each is a column of the table (whose cells may be lists), 'category',
            or a key of kwcoco's dictionaries: 'image.sensor_coarse', 'video.name', 'annot.weight',
            'category.supercategory'; 'image' and 'video' alone are their ids.  Windows without a value make a group of
            their own, None.
        n
            Number of windows to draw; None keeps the table, with a column `probability`.
        replace
            Whether a window may be drawn more than once.  Windows of a group come in turn: none is drawn a second time
            before all others of the group.
        shares
            Attribute to value to its share among its siblings: {'category': {'boat': 2, None: 0.5}}.  Others have 1; 0
            leaves a value out.
        seed
            As for `positives`.

        Returns
        -------
        The table with a column `probability`, which sums to 1; or the windows drawn, shuffled, with a column `group`:
        the group that each was drawn for.

        Raises
        ------
        TargetError
            An attribute is unknown, or fewer windows exist than are to be drawn without replacement.

        Examples
        --------
        >>> import ndzarr, pandas
        >>> targets = ndzarr.CocoSampler({"images": []}).targets
        >>> table = pandas.DataFrame({"gid": [1, 1, 1, 2], "kind": ["a", "a", "a", "b"]})
        >>> sorted(targets.balanced(table, by="kind", n=6).kind)
        ['a', 'a', 'a', 'b', 'b', 'b']
        >>> targets.balanced(table, by="kind").probability.round(3).tolist()
        [0.167, 0.167, 0.167, 0.5]
        """
        return balance.balanced(self.source, table, by, n, replace, shares, seed)

    def distribution(
        self, table: TargetsLike | Rows, by: str | Sequence[str] = "category", shares: Shares | None = None
    ) -> Distribution:
        """
        Count windows per group of attribute values, to print and to plot.

        Parameters
        ----------
        table
            Targets; a column `probability` weighs them.
        by, shares
            As for `balanced`.

        Raises
        ------
        TargetError
            An attribute is unknown.
        """
        return balance.distribution(self.source, table, by, shares)

    def times(
        self,
        table: TargetsLike | Rows | None = None,
        n: int | None = None,
        method: str | None = None,
        *,
        step: int | None = None,
        overlap: int = 0,
        kernel: Kernel | None = None,
        span: Kernel | None = None,
        main: Main = None,
        start: Any = None,
        stop: Any = None,
        include: Iterable[Hashable] | None = None,
        exclude: Iterable[Hashable] = (),
        always: Iterable[Hashable] = (),
        min_quality: float | None = None,
        quality_channels: Channels = None,
        good: Judge | None = None,
        max_pixels: int | None = MAX_PIXELS,
        seed: int = 0,
        progress: bool = True,
    ) -> pandas.DataFrame:
        """
        Choose the frames of windows of videos.

        Parameters
        ----------
        table
            Windows of videos, or of images that are frames of videos (which are moved to video space); None for the
            whole of every video.
        n
            Frames of each row; a kernel has its own number.
        method
            'contiguous': frames that follow each other; 'strided': every `step`-th; 'kernel': the nearest to moments
            around a main frame; 'spread': as evenly as possible over `span`; 'around': the nearest to a main frame;
            'all': every frame, in one row for each window.  By default it follows from the other arguments: 'all'
            without any.
        step, overlap
            For 'contiguous' and 'strided': frames from one to the next, and frames that neighbouring rows share.
        kernel
            Offsets such as '-1y,-2w,0,2w,1y' or '-2f,0,2f', or a sequence of numbers (seconds), texts or timedeltas.
        span
            Length of time that 'spread' covers, such as '1y' or '30f'; all of the video by default.
        main
            'each', 'first', 'middle', 'last' or 'random' frame of a video, or image ids.  By default the image of rows
            that have one; else 'each' for methods that need a main frame, and none for the others: 'contiguous' and
            'strided' slide along the video.
        start, stop
            Take frames from one date on, and before another: '2021-05' is the first moment of that month, so that
            start='2021-05', stop='2021-09' are May to August.  Text, datetime or numpy.datetime64, in UTC.
        include, exclude, always
            Image ids: take no others; never take these; take these in every row of their video.
        min_quality
            Take frames of which the window shows at least this fraction, from 0 to 1, as long as there are any.  Main
            frames that were not named by id are held to it, too.
        quality_channels, good
            Channels that must be real (not nodata, not NaN) for a pixel to count as shown; and, for a quality band, a
            function from its values to True where they are good.
        max_pixels
            As for `valid_fraction`.
        seed
            Seed of main='random'.
        progress
            Show a bar if it takes longer than a second.

        Returns
        -------
        A table with `vidid`; `gids`, ascending in time; the window in video space; `note_main` (the main frame) if
        there is one; `quality` (the least of the frames') if it was asked for; and `time_start time_stop time_step`
        with 'contiguous' and 'strided' wherever frames are evenly spaced.  Other columns are kept; `annot_ids` and
        `n_annots`, if both are there, become those of the frames chosen.  For videos with too few frames, 'contiguous'
        and 'strided' pad in time, and all other methods repeat frames.

        Raises
        ------
        TargetError
            A row is of no video, an argument is not understood, an image does not exist, or a video has no dates where
            they are needed.
        """
        sampling = time_sampling.TimeSampling.parse(method, n, step, overlap, kernel, span)
        quality = time_sampling.Quality.parse(min_quality, quality_channels, good, max_pixels)
        lists = time_sampling.FrameLists.parse(self.source, include, exclude, always, start, stop)
        return time_sampling.times(self._context, table, sampling, main, lists, quality, seed, progress)

    def valid_fraction(
        self,
        table: TargetsLike | Rows,
        max_pixels: int | None = MAX_PIXELS,
        channels: Channels = None,
        progress: bool = True,
        *,
        mask: MaskLike = None,
    ) -> np.ndarray[Any, Any]:
        """
        Measure the fraction of each window that is real data: inside the image, not nodata, not NaN.

        Parameters
        ----------
        table
            Targets.
        max_pixels
            Masks are read from the finest level with at most so many pixels; None reads native pixels.
        channels
            Channels that must all be real; by default those that the row asks for, else all of the image.
        progress
            Show a bar if it takes longer than a second.
        mask
            What windows may show, such as tissue: only pixels where it is True count.  A function that takes the image
            at that level, (c, y, x) in `channels`, and returns a mask (y, x).  Or image ids to label images, which are
            not 0 there: arrays (y, x), pyramids or paths of files, which cover their image with pixels of any size.

        Returns
        -------
        Fractions from 0 to 1, the mean over the frames of a row; shape (row,).

        Raises
        ------
        TargetError
            A row is not a target of this dataset.
        """
        return valid.valid_fraction(self.source, table, max_pixels, channels, mask, progress)

    def valid(
        self,
        table: TargetsLike | Rows,
        min_fraction: float = 0.5,
        max_pixels: int | None = MAX_PIXELS,
        channels: Channels = None,
        progress: bool = True,
        *,
        mask: MaskLike = None,
    ) -> pandas.DataFrame:
        """
        Keep the windows that hold enough real data, or enough of what a mask shows.

        Parameters
        ----------
        table
            Targets.
        min_fraction
            Least fraction, from 0 (keep all) to 1.
        max_pixels, channels, progress, mask
            As for `valid_fraction`.

        Returns
        -------
        Those rows of the table, with a column `valid_fraction`.

        Raises
        ------
        TargetError
            A row is not a target of this dataset, or the fraction is not from 0 to 1.
        """
        return valid.valid(self.source, table, min_fraction, max_pixels, channels, mask, progress)

    def observed(
        self,
        n: int,
        window_dims: ObservedDims,
        min_fraction: float = 0.9,
        channels: Channels = None,
        seed: int | np.random.Generator | None = 0,
        progress: bool = True,
        *,
        resolution: float | str | None = None,
        mask: MaskLike = None,
    ) -> pandas.DataFrame:
        """
        Draw windows that hold enough real data, or enough of what a mask shows, from all images.

        Parameters
        ----------
        n
            Number of windows; none is drawn a second time before all others.
        window_dims
            (height, width) as pixels of the image or lengths such as '100 um', or one length for both; windows lie
            wholly in their image.
        min_fraction
            Least fraction of real data, from 0 to 1.
        channels
            Channels that must all be real; all of the image by default.
        seed, progress
            As for `positives` and `valid_fraction`.
        resolution, mask
            As for `grid` and `valid_fraction`.

        Returns
        -------
        A table with `gid`, `cx cy width height` and `valid_fraction`.

        Raises
        ------
        TargetError
            No image has such a window.
        """
        table = valid.observed(self.source, n, window_dims, resolution, min_fraction, channels, mask, seed, progress)
        return self._named(table)

    def split(
        self,
        table: TargetsLike | Rows,
        fractions: Mapping[str, float] | None = None,
        by: str = "video",
        stratify: str | None = None,
        block: int | None = None,
        margin: int = 0,
        seed: int | np.random.Generator | None = 0,
    ) -> pandas.DataFrame:
        """
        Split windows into training, validation and test; no two parts share a pixel.

        Parameters
        ----------
        table
            Targets.
        fractions
            Part to its fraction of the windows; by default 'train' 0.8, 'validation' 0.1 and 'test' 0.1.
        by
            What stays together: 'video' (each image in no video by itself), 'image' (frames of a video may go to
            different parts), 'space' (blocks of one image or video), or an attribute as for `balanced`, such as a
            column or 'video.region'.  Groups whose windows overlap become one.
        stratify
            An attribute, such as 'category', of which every value is divided by the same fractions.
        block
            Edge of a block in pixels, with by='space'; by default it follows from the size of windows and spaces.
        margin
            Pixels between windows of different parts, with by='space'.
        seed
            As for `positives`.

        Returns
        -------
        The table with a column `split`; with by='space', missing for windows on a border between two parts.

        Raises
        ------
        TargetError
            There are fewer groups than parts, or an argument is not understood.
        """
        return splits.split(self.source, table, fractions, by, stratify, block, margin, seed)

    def statistics(
        self,
        table: TargetsLike | Rows | None = None,
        level: int | None = None,
        channels: Channels = None,
        sample: int | None = None,
        quantiles: Sequence[float] | None = None,
        bins: int = 256,
        range: tuple[float, float] | None = None,
        workers: int | None = None,
        seed: int | np.random.Generator | None = 0,
        progress: bool = True,
    ) -> Statistics:
        """
        Measure mean, standard deviation, extremes, quantiles and histogram of each channel, in bounded memory.

        Parameters
        ----------
        table
            Targets; None for all of all images.
        level
            Level to read, 0 being native; windows of a table are widened to whole pixels of it.  None means 0 for whole
            images, and for a table the scale that each row asks for.
        channels
            A channel code; by default the channels of the row, else all.
        sample
            Number of windows (tiles of whole images) to read, drawn by the seed; all by default.
        quantiles
            Probabilities from 0 to 1; by default `statistics.QUANTILES`.
        bins, range
            Bins of the histogram, as for `numpy.histogram`.
        workers
            Threads; the number of available CPUs by default.  The result does not depend on it.
        seed
            Seed of the sample.
        progress
            Show a bar if it takes longer than a second.

        Raises
        ------
        TargetError
            There is nothing to read, or an argument is not understood.
        """
        return statistics.statistics(
            self.source, table, level, channels, sample, quantiles, bins, range, workers, seed, progress
        )


class SourceTargets:
    """
    Tables of targets of an `ndzarr.Sampler`, whose sources have no annotations.

    Parameters
    ----------
    source
        The named images and pyramids.
    """

    def __init__(self, source: NamedSource) -> None:
        self.source = source

    def __repr__(self) -> str:
        return f"<targets of {self.source!r}>"

    def grid(
        self,
        window_dims: WindowDims,
        overlap: Overlap = 0,
        *,
        resolution: float | str | None = None,
        keep_borders: bool | str = True,
        ids: Iterable[Hashable] | None = None,
    ) -> pandas.DataFrame:
        """
        Slide windows over space; along other axes, such as t, each has the whole extent.

        Parameters
        ----------
        window_dims, overlap, resolution, keep_borders
            As for `Targets.grid`.
        ids
            Names of sources; all by default.

        Returns
        -------
        One row per window, sorted by source, y and x: `key`, and `cx cy width height` in pixels.  Those of a plate
        have `note_well`, `note_row`, `note_column`, `note_field` and `note_acquisition`, too.

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
        return grid.source_grid(self.source, window_dims, overlap, keep_borders, resolution, ids)
