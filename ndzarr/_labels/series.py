"""Time series: images with dates that overlap on earth become videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ndzarr._labels.builder import Builder, image_facts
from ndzarr._sampling.coco_assets import time_of
from ndzarr.errors import SourceError


def make_videos(builder: Builder) -> None:
    """
    Put images that overlap into one video each, in the order of their dates, or as they come if none has one.

    The space of a video has the grid of its finest image and covers all of them.
    """
    for image in builder.images:
        if image["id"] not in builder.places and image["file_name"]:
            place = image_facts(image["file_name"]).place
            if place is not None:
                builder.places[image["id"]] = place
    placed = [i for i in builder.images if i["id"] in builder.places and i.get("video_id") is None]
    builder.left_out["images without a georeference, which are in no video"] += len(builder.images) - len(placed)
    dates: dict[int, Any] = {image["id"]: time_of(image, False) for image in placed}
    dated = [image for image in placed if dates[image["id"]] is not None]
    images = dated or placed
    builder.left_out["images without a date, which are in no video"] += len(placed) - len(images)
    systems = {builder.places[i["id"]].crs.name for i in images}
    if len(systems) > 1:
        what = f"{builder.source}: images of one series have {len(systems)} reference systems: {', '.join(systems)}"
        raise SourceError(what, path=builder.source, key="series", hint="Warp them to one, or make a dataset of each")
    for group in _overlapping(builder, images):
        _video(builder, sorted(group, key=lambda image: dates[image["id"]]) if dated else group)


def _overlapping(builder: Builder, images: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return groups of images that are connected by overlaps."""
    import shapely
    from networkx import Graph, connected_components

    if not images:
        return []
    boxes = [shapely.box(*builder.places[i["id"]].bounds(i["height"], i["width"])) for i in images]
    tree = shapely.STRtree(boxes)
    graph = Graph()
    graph.add_nodes_from(range(len(images)))
    for first, second in tree.query(boxes, predicate="intersects").T.tolist():
        if boxes[first].intersection(boxes[second]).area > 0:
            graph.add_edge(first, second)
    return [[images[k] for k in sorted(group)] for group in connected_components(graph)]


def _video(builder: Builder, images: Sequence[dict[str, Any]]) -> None:
    places = [builder.places[i["id"]].matrix for i in images]
    grid = min(places, key=lambda m: abs(np.linalg.det(m[:2, :2])))
    corners = []
    for place, image in zip(places, images, strict=True):
        w, h = image["width"], image["height"]
        corners.append((np.linalg.inv(grid) @ place @ np.array([[0, w, 0, w], [0, 0, h, h], [1, 1, 1, 1]]))[:2])
    low = np.floor(np.min([c.min(axis=1) for c in corners], axis=0) + 1e-6)
    high = np.ceil(np.max([c.max(axis=1) for c in corners], axis=0) - 1e-6)
    shift = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]])
    width, height = (high - low).astype(int).tolist()
    video = builder.video(f"series-{len(builder.videos) + 1}", width, height)
    for k, (image, place) in enumerate(zip(images, places, strict=True)):
        warp = shift @ np.linalg.inv(grid) @ place
        image |= {"video_id": video, "frame_index": k, "warp_img_to_vid": {"type": "affine", "matrix": warp.tolist()}}
