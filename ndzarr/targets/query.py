"""Images and videos that a query selects, in the terms of pandas and kwcoco."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._sampling.scene import dates
from ndzarr._validation import check_choice
from ndzarr.errors import TargetError, did_you_mean

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


KINDS = ("image", "video")


def query(source: SampleSource, expression: str, space: str) -> list[Any]:
    """Return the ids of images or videos; see `Targets.query`."""
    check_choice("space", space, KINDS, TargetError)
    if not isinstance(expression, str):
        raise TargetError(f"expression={expression!r}: expected text, such as \"sensor == 'S2'\"", key="expression")
    names = {*re.findall(r"\w+", expression), *re.findall(r"`(.+?)`", expression)}
    table = _table(source, space, names)
    try:
        # Without names of this module: @ would find them.
        chosen = table.eval(expression, engine="python", local_dict={}, global_dict={})
    except (NameError, SyntaxError, TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        unknown = re.search(r"name '(.+?)' is not defined", str(error))
        known = did_you_mean(unknown.group(1), list(table.columns)) if unknown else ""
        raise TargetError(f"expression={expression!r}: {error}{known}", key="expression") from error
    if str(getattr(chosen, "dtype", "")) not in ("bool", "boolean") or len(chosen) != len(table):
        message = f"expression={expression!r}: expected a condition, which is true or false for each {space}"
        raise TargetError(message, key="expression")
    return [i for i, keep in zip(table.index.tolist(), chosen.tolist(), strict=True) if keep]


def _table(source: SampleSource, space: str, names: set[str]) -> pandas.DataFrame:
    """Return the keys of images or videos that hold one value as columns, and those that are worked out."""
    import pandas

    index = source.dset.index
    records: Mapping[Any, Mapping[str, Any]] = index.imgs if space == "image" else index.videos
    ids = list(records)
    columns = _columns([records[i] for i in ids], names)
    further = _of_images(source, ids) if space == "image" else _of_videos(source, ids)
    columns |= {name: make() for name, make in further.items() if name in names}
    if space == "image" and any(name.startswith("video_") for name in names):
        videos = [index.videos.get(source.dataset.video_of(i), {}) for i in ids]
        wanted = {name.removeprefix("video_") for name in names if name.startswith("video_")} - {"id"}
        columns |= {f"video_{name}": column for name, column in _columns(videos, wanted).items()}
    return pandas.DataFrame(columns, index=pandas.Index(ids, dtype=object))


def _columns(records: Sequence[Mapping[str, Any]], names: set[str]) -> dict[str, Any]:
    """Return the named keys of dictionaries as columns; lists and dictionaries in them are left out."""
    found = {}
    for name in names:
        values = [record.get(name) for record in records]
        values = [v if isinstance(v, str | bool | Number) else None for v in values]
        if any(v is not None for v in values):
            found[name] = values
    return found


def _of_images(source: SampleSource, ids: list[Any]) -> dict[str, Callable[[], Any]]:
    return {
        "gid": lambda: ids,
        "vidid": lambda: [source.dataset.video_of(i) for i in ids],
        "date": lambda: dates([source.frame(i).time for i in ids]),
        "sensor": lambda: [None if (s := source.frame(i).sensor) == "*" else s for i in ids],
        "n_annots": lambda: [len(source.dset.index.gid_to_aids[i]) for i in ids],
    }


def _of_videos(source: SampleSource, ids: list[Any]) -> dict[str, Callable[[], Any]]:
    frames = source.dset.index.vidid_to_gids

    def edge(choose: Callable[[Any], Any]) -> Any:
        times = [[t for g in frames[i] if (t := source.frame(g).time) is not None] for i in ids]
        return dates([choose(t) if t else np.datetime64("NaT", "us") for t in times])

    return {
        "vidid": lambda: ids,
        "n_frames": lambda: [len(frames[i]) for i in ids],
        "start": lambda: edge(min),
        "stop": lambda: edge(max),
    }
