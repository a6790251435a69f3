"""What did ndsampler's `new_sample_grid` return?

The windows of `grid` as a dictionary of lists of targets, without those that are ignored, and with the positions of
positives and negatives in the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ndzarr.errors import OptionError, did_you_mean
from ndzarr.targets.rows import Rows

if TYPE_CHECKING:
    from ndzarr.targets.choose import Targets

TASKS = ("image_detection", "video_detection")
"""What windows slide over."""


def sample_grid(targets: Targets, task: str, window_dims: Any, window_overlap: Any, **options: Any) -> dict[str, Any]:
    """See `CocoSampler.new_sample_grid`."""
    if task not in TASKS:
        raise OptionError(f"task={task!r}: no such task{did_you_mean(task, TASKS)}")
    video = task == "video_detection"
    if video:
        time_dims, *dims = _triple("window_dims", window_dims)
        time_overlap, *overlap = _triple("window_overlap", window_overlap)
        table = targets.grid(
            tuple(dims), overlap, space="video", time_dims=time_dims, time_overlap=time_overlap, **options
        )
    else:
        table = targets.grid(window_dims, window_overlap, **options)
    table = table[table["kind"] != "ignored"]
    rows = [_video_target(targets, row) if video else _image_target(row) for row in Rows(table)]
    positive = (table["kind"] == "positive").tolist()
    where = {
        "positives": [k for k, yes in enumerate(positive) if yes],
        "negatives": [k for k, yes in enumerate(positive) if not yes],
    }
    return {
        "targets": rows,
        "positives_indexes": where["positives"],
        "negatives_indexes": where["negatives"],
        "positives": [rows[k] for k in where["positives"]],
        "negatives": [rows[k] for k in where["negatives"]],
    }


def _triple(name: str, value: Any) -> tuple[Any, Any, Any]:
    """(along t, y, x)."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value, value, value
    triple = tuple(value)
    if len(triple) != 3:
        raise OptionError(f"{name}={value!r}: expected (frames, height, width) for videos")
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
        "gids": list(targets.sampler.dset.index.vidid_to_gids[row["vidid"]][time]),
        "aids": list(row["annot_ids"]),
    }
