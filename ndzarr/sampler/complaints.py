"""What is wrong with a dataset that kwcoco does not take, or takes with a warning?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ndzarr.errors import SourceError

_TABLES = {"images": ("id",), "videos": ("id",), "categories": ("id", "name"), "annotations": ("id", "image_id")}
"""Tables of a dataset, and what each of their dictionaries has."""


def complaint(data: Any) -> str | None:
    """
    One thing that is wrong with a dataset, by name; None if it is none of those that are looked for.

    Parameters
    ----------
    data
        The dictionary, or the path of one.
    """
    if not isinstance(data, Mapping):
        try:
            with open(data, encoding="utf-8") as file:
                data = json.load(file)
        except (OSError, ValueError, TypeError):
            return None
    return next(iter(_complaints(data)), None) if isinstance(data, Mapping) else "it is no dictionary"


def _complaints(data: Mapping[str, Any]) -> Iterable[str]:
    for table, needed in _TABLES.items():
        rows = data.get(table, [])
        if not isinstance(rows, list):
            yield f"{table} is {type(rows).__name__}, and no list"
            continue
        for k, row in enumerate(rows):
            if not isinstance(row, Mapping):
                yield f"{table}[{k}] is {row!r}, and no dictionary"
            elif lacking := [key for key in needed if row.get(key) is None]:
                yield f"{table}[{k}] has no {lacking[0]}"
            elif table == "images" and row.get("video_id") is not None:
                index = row.get("frame_index")
                if isinstance(index, str) or index is None:
                    yield f"image {row['id']!r} is in video {row['video_id']!r}, and its frame_index is {index!r}"


def refuse_repeated_ids(coco: Any) -> None:
    """
    Check that there are ids: kwcoco keeps the last of several dictionaries, and only warns.

    Raises
    ------
    SourceError
        Two of one kind have the same id.
    """
    index = coco.index
    kinds = {"images": index.imgs, "videos": index.videos, "categories": index.cats, "annotations": index.anns}
    for table, known in kinds.items():
        rows = coco.dataset.get(table, [])
        if None in known:
            raise SourceError(f"{coco.tag}: one of {table} has the id None; give it one")
        if len(known) < len(rows):
            [(repeated, times)] = Counter(row["id"] for row in rows).most_common(1)
            raise SourceError(f"{coco.tag}: {times} {table} have the id {repeated!r}; ids have to differ")
