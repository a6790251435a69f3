"""Which frames of a video go with a window?

1. Every row of a table becomes a window in the space of its video; a row of one image has that as its main frame.
2. The method says which moments are wanted around each main frame, or all along the video (`moments`).
3. The frames nearest to them are taken, without those excluded and, where others are left, without those of which the
   window shows too little (`nearest`): what is observable is read from coarse levels (`valid`).

Rows of the same video are handled together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.bar import bar
from ndzarr.targets.footprint import UNUSUAL, as_table, footprints
from ndzarr.targets.moments import Way, way
from ndzarr.targets.options import portion, several
from ndzarr.targets.picks import Lists, Picked, Picker, Windows
from ndzarr.targets.rows import Rows, Targets
from ndzarr.targets.sharing import in_common
from ndzarr.targets.tables import held, windows_in
from ndzarr.targets.valid import MAX_PIXELS, Judge, Observable

if TYPE_CHECKING:
    import pandas

    from ndzarr.sampler.coco import CocoSampler

Array: TypeAlias = "np.ndarray[Any, Any]"


def times(
    sampler: CocoSampler,
    table: Targets | Rows | None = None,
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
    max_pixels: int | None = MAX_PIXELS,
    seed: int = 0,
    progress: bool = True,
) -> pandas.DataFrame:
    """
    Choose frames for windows of videos.

    Parameters
    ----------
    table
        Windows of videos, or of images that are frames of videos (which are moved to video space); None for the whole
        of every video.
    n
        Frames of each row; a kernel has its own number.
    method
        'contiguous': frames that follow each other; 'strided': every `step`-th; 'kernel': the nearest to moments around
        a main frame; 'spread': as evenly as can be over `span`; 'around': the nearest to a main frame.  If left out, it
        follows from the other arguments.
    step, overlap
        For 'contiguous' and 'strided': frames from one to the next, and how many frames neighbouring rows share.
    kernel
        Such as '-1y,-2w,0,2w,1y' or '-2f,0,2f'; see `kernel.offsets`.
    span
        How much time 'spread' covers, such as '1y'; all of the video if left out.
    main
        'each', 'first', 'middle', 'last' or 'random' of the frames of a video, or image ids, or None: the image of rows
        that have one; else 'each' for methods that need one, and for the others no main frame: 'contiguous' and
        'strided' slide along the video.
    include, exclude, always
        Image ids: take no others; never take these; have these in every row of their video.
    min_quality
        Take frames of which the window shows at least this fraction, from 0 to 1, as long as there are any.  Main
        frames that were not asked for by name are held to it, too.
    quality_channels, good
        What must be real (not nodata, not NaN) for a pixel to count as shown; and, for a quality band, a function
        from its values to True where they are good.
    max_pixels
        See `valid_fraction`.
    seed
        For main='random'.

    Returns
    -------
    A table with vidid, gids (ascending in time), the window in video space, `note_main` (the main frame) where
    there is one, `quality` (the least of the frames') where it was asked for, and `time_start time_stop time_step` with
    'contiguous' and 'strided' wherever frames are evenly spaced.  Other columns are kept; `annot_ids` and
    `n_annots`, where both are there, become those of the frames chosen.  Videos with too few frames: 'contiguous' and
    'strided' are padded in time, all other methods repeat frames.

    Raises
    ------
    TargetError
        A row is of no video, an argument is not understood or names no image, or a video has no dates where they are
        needed.
    """
    plan = way(method, n, step, overlap, kernel, span)
    judged = min_quality is not None or good is not None or quality_channels is not None
    least = 0.0 if min_quality is None else portion("min_quality", min_quality)
    if good is not None and not callable(good):
        raise TargetError(f"good={good!r}: expected a function from values of a band to True where they are good")
    taken = None if include is None else _known(sampler, "include", include)
    lists = Lists(taken, _known(sampler, "exclude", exclude), _known(sampler, "always", always))
    if main is not None and not isinstance(main, str):
        _known(sampler, "main", main)
    what = Observable(quality_channels, good, max_pixels) if judged else None
    windows = _windows(sampler, table)
    picker = Picker(sampler, plan, lists, what, least, main, seed)
    order = np.argsort(windows.video, kind="stable")
    edges = np.searchsorted(windows.video[order], np.arange(len(windows.vidids) + 1))
    parts = []
    with bar(len(windows.vidids), "frames", "video", progress) as advance:
        for k, vidid in enumerate(windows.vidids):
            parts.append(picker.pick(vidid, windows, order[edges[k] : edges[k + 1]]))
            advance()
    return _holding(sampler, _result(windows, plan, judged, [p for p in parts if len(p.row)]))


def _known(sampler: CocoSampler, name: str, gids: Any) -> frozenset[Any]:
    """Images by their ids, all of which exist."""
    images = sampler.dset.index.imgs
    for gid in several(gids):
        if gid not in images:
            raise TargetError(f"{name}={gid!r}: no such image{did_you_mean(gid, list(images)[:20])}")
    return frozenset(several(gids))


def _holding(sampler: CocoSampler, table: pandas.DataFrame) -> pandas.DataFrame:
    """The table with what its windows hold in the frames chosen, if it says what they hold."""
    if not {"annot_ids", "n_annots"} <= set(table.columns):
        return table
    targets = sampler.targets
    spaces = targets.spaces("video")
    index = targets.index(spaces)
    windows, row = windows_in(targets, table, spaces)
    pairs = index.touching(windows)
    ids, counts = held(row[pairs.window], targets.annotations.annot_id[index.boxes.row[pairs.box]], len(table))
    return table.assign(annot_ids=ids, n_annots=counts)


def _windows(sampler: CocoSampler, table: Targets | Rows | None) -> Windows:
    import pandas

    if table is None:
        frames = sampler.dset.index.vidid_to_gids
        vidids = tuple(v for v in sampler.dset.index.videos if len(frames[v]))
        bare = as_table(pandas.DataFrame({"vidid": list(vidids)}))
        found = footprints(sampler, bare)
        return Windows(bare[[]], vidids, np.arange(len(vidids)), None, found.size, None, {})
    given = as_table(table)
    found = footprints(sampler, given)
    common = in_common(sampler, found)
    for kind, ident in common.spaces:
        if kind != "video":
            raise TargetError(f"gid={ident!r} is in no video; frames are chosen for windows of videos")
    if len(common.row) != len(found):
        raise TargetError("a row has frames of several videos; a window is of one")
    own = np.full(len(found), -1, np.int64)
    own[found.row] = found.frame
    images = ~found.video
    main = np.where(images, own, -1) if images.any() else None
    places = {"gid", "gids", "vidid", "image_id", "image_ids", "video_id", "annot_id", "cx", "cy", "width", "height"}
    kept = given.drop(columns=[c for c in given if c in {*places, *UNUSUAL} or str(c).startswith("time_")])
    if "aid" in given and "annot_ids" not in given:
        kept = kept.assign(annot_ids=[[a] if a == a and a is not None else None for a in given["aid"].tolist()])
    size, codes = common.sizes(sampler), {gid: k for k, gid in enumerate(found.gids)}
    vidids = tuple(ident for _, ident in common.spaces)
    return Windows(kept, vidids, common.space, common.box, size, main, codes)


def _result(windows: Windows, plan: Way, judged: bool, parts: Sequence[Picked]) -> pandas.DataFrame:
    row = np.concatenate([p.row for p in parts]) if parts else np.empty(0, np.int64)
    order = np.argsort(row, kind="stable")
    row = row[order]
    columns: dict[str, Any] = {"vidid": np.array(windows.vidids, object)[windows.video[row]]}
    columns["gids"] = _pick_lists(parts, order)
    if plan.follow:
        frames = np.concatenate([p.frames for p in parts]) if parts else np.empty((0, plan.n), np.int64)
        columns |= _time_columns(frames[order], plan)
    if windows.box is not None:
        x0, y0, x1, y1 = windows.box[row].T
        columns |= {"cx": (x0 + x1) / 2, "cy": (y0 + y1) / 2, "width": x1 - x0, "height": y1 - y0}
    if any((p.main >= 0).any() for p in parts):
        columns["note_main"] = np.concatenate([_named(p.main, p.gids) for p in parts])[order]
    if judged:
        columns["quality"] = np.concatenate([p.quality for p in parts])[order] if parts else np.empty(0)
    kept = windows.table.iloc[row].reset_index(drop=True)
    return kept.drop(columns=[c for c in columns if c in kept]).assign(**columns).infer_objects()


def _named(positions: Array, gids: Array) -> Array:
    """Image ids; None for -1."""
    out = gids[np.maximum(positions, 0)]
    out[positions < 0] = None
    return out


def _objects(values: Sequence[Any]) -> Array:
    out = np.empty(len(values), object)
    out[:] = values
    return out


def _pick_lists(parts: Sequence[Picked], order: Array) -> Array:
    lists: list[list[Any]] = []
    for p in parts:
        if (p.frames >= 0).all():
            lists += p.gids[p.frames].tolist()
        else:
            lists += [p.gids[f[f >= 0]].tolist() for f in p.frames]
    return _objects(lists)[order]


def _time_columns(frames: Array, plan: Way) -> dict[str, Any]:
    """Start, stop and step of rows that are evenly spaced; missing for others."""
    import pandas

    padded = (frames < 0).any(axis=1)
    step = np.diff(frames, axis=1)[:, 0] if plan.n > 1 else np.ones(len(frames), np.int64)
    step = np.where(padded | (plan.n == 1), plan.step, step)
    even = (np.diff(frames, axis=1) == step[:, None]).all(axis=1) & (step > 0)
    with_gap = padded & ((np.diff(frames, axis=1) == step[:, None]) | (frames[:, 1:] < 0)).all(axis=1)
    missing = ~(even | with_gap)
    stop = frames[:, 0] + (plan.n - 1) * step + 1
    return {
        f"time_{name}": pandas.arrays.IntegerArray(np.asarray(values, np.int64), missing)
        for name, values in (("start", frames[:, 0]), ("stop", stop), ("step", step))
    }
