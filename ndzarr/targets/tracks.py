"""Windows that follow tracks: a tube around each, or one around each clip of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ndzarr._sampling.annotations import NO_ID
from ndzarr._validation import check_flag, check_target_count
from ndzarr.errors import OptionError, TargetError
from ndzarr.targets.grid import sliding_axis
from ndzarr.targets.overlaps import TargetContext, as_tuples, windows_table
from ndzarr.targets.physical import WindowSizes
from ndzarr.targets.positives import Placement, start_around, within_spaces
from ndzarr.targets.windows import Array, Boxes, Windows, ramps

if TYPE_CHECKING:
    import pandas

    from ndzarr.targets.attributes import Names


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """Spans of frames of tracks, and the box around the track in each; arrays have shape (clip,)."""

    boxes: Boxes  # around the track; `frame` is the first frame, `row` an annotation of the track
    stop: Array  # the frame after the last
    whose: Array  # clip of each box of a track; shape (box,)
    rows: Array  # annotation of each such box; shape (box,)

    @classmethod
    def of(cls, boxes: Boxes, track: Array, time_dims: int | None, time_overlap: float, follow: bool) -> Clips:
        """
        Cut tracks into clips; clips in which a track has no box are left out.

        The box of a clip is around all boxes of its track; with `follow`, it is as large as the largest one, and has
        the centre of the first.
        """
        group = np.unique(np.stack([boxes.space, track]), axis=1, return_inverse=True)[1].reshape(-1)
        order = np.lexsort((boxes.frame, group))
        boxes, group = boxes.take(order), group[order]
        begin = np.flatnonzero(np.diff(group, prepend=-1))
        first = boxes.frame[begin]
        last = np.maximum.reduceat(boxes.frame, begin) if len(begin) else first
        sliding = sliding_axis("time_dims", last + 1 - first, time_dims, time_overlap, "shift")
        number = np.repeat(np.arange(len(begin)), sliding.count)
        start = first[number] + sliding.start(number, ramps(sliding.count))
        stop = start + sliding.size[number]
        # The boxes of each clip are neighbours: `boxes` is sorted by track, then by frame.
        far = int(boxes.frame.max(initial=0)) + int(sliding.size.max(initial=0)) + 2
        place = group * far + boxes.frame
        low, high = np.searchsorted(place, number * far + start), np.searchsorted(place, number * far + stop)
        some = low < high
        low, high, start, stop = low[some], high[some], start[some], stop[some]
        edges = np.stack([low, high], axis=1).reshape(-1)

        def reduced(how: np.ufunc, values: Array) -> Array:
            """Reduce the values of each clip."""
            padded = np.append(values, values[-1:])  # an interval may end with the last box
            return np.asarray(how.reduceat(padded, edges)[::2]) if len(edges) else values[:0]

        if follow:
            half = [reduced(np.maximum, size) / 2 for size in (boxes.x1 - boxes.x0, boxes.y1 - boxes.y0)]
            centre = [((near + far) / 2)[low] for near, far in ((boxes.x0, boxes.x1), (boxes.y0, boxes.y1))]
            near, there = ([c + sign * h for c, h in zip(centre, half, strict=True)] for sign in (-1, 1))
        else:
            near = [reduced(np.minimum, corner) for corner in (boxes.x0, boxes.y0)]
            there = [reduced(np.maximum, corner) for corner in (boxes.x1, boxes.y1)]
        whose = np.repeat(np.arange(len(low)), high - low)
        rows = boxes.row[np.arange(len(whose)) + np.repeat(low - np.cumsum(high - low) + (high - low), high - low)]
        return cls(Boxes(boxes.space[low], start, boxes.row[low], *near, *there), stop, whose, rows)


def tracks(
    context: TargetContext,
    sizes: WindowSizes,
    placement: Placement,
    time_overlap: float,
    follow: bool,
    classes_of_interest: Names | None,
    negative_classes: Names,
    crowd: str,
) -> pandas.DataFrame:
    """Return windows along tracks; see `Targets.tracks`."""
    spaces, annotations = sizes.spaces, context.source.annotations
    if placement.time_dims is not None:
        check_target_count("time_dims", placement.time_dims)
    if check_flag("follow", follow) and placement.borders != "pad":
        what = f"keep_borders={placement.borders!r}: windows that follow a track lie beyond borders where it does"
        raise OptionError(what, key="keep_borders", hint="Leave it out")
    boxes = context.index(spaces).boxes.take(~context.crowds(spaces, crowd))
    category = annotations.category_id[boxes.row]
    boxes = boxes.take(context.categories.positive(category, classes_of_interest, negative_classes))
    named = annotations.track_id[boxes.row]
    boxes = boxes.take(named != (NO_ID if named.dtype.kind == "i" else ""))
    if not len(boxes):
        hint = "Annotations need a track_id and an image in a video"
        raise TargetError("no annotation that counts is in a track", key="track_id", hint=hint)
    code = np.unique(annotations.track_id[boxes.row], return_inverse=True)[1].reshape(-1)
    clips = Clips.of(boxes, code, placement.time_dims, time_overlap, follow)
    around = clips.boxes
    height, width = placement.sizes(around, placement.fixed(sizes))
    rng = np.random.default_rng(0)  # nothing is drawn without jitter
    y0 = start_around(around.y0, around.y1, height, 0.0, rng)
    x0 = start_around(around.x0, around.x1, width, 0.0, rng)
    t0, t1 = around.frame, clips.stop
    windows = Windows(around.space, t0, t1, np.ones_like(t0), y0, y0 + height, x0, x0 + width)
    windows, kept = within_spaces(windows, spaces, placement.borders)
    rows = around.row[kept]
    further = sizes.output_dims(windows, placement.dims)
    further |= {"track_id": annotations.track_id[rows], "category_id": annotations.category_id[rows]}
    table = windows_table(context, spaces, windows, "positive", further, crowd)
    if not follow:
        return table
    ids, counts = as_tuples(clips.whose, annotations.annot_id[clips.rows], len(around))
    return table.assign(follow=table["track_id"], annot_ids=ids, n_annots=counts)
