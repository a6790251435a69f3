"""Files of detections: COCO, kwcoco, GeoJSON in the reference system of an image, and QuPath's GeoJSON in pixels."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ndzarr._geo.georeference import Georeference, from_attributes
from ndzarr._prediction.canvas import Canvas
from ndzarr._sampling.segmentations import Polygons, Runs
from ndzarr.errors import OptionError

DetectionFormat: TypeAlias = Literal["coco", "kwcoco", "geojson", "qupath"]
FORMATS = ("coco", "kwcoco", "geojson", "qupath")


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """An object that was found."""

    bbox: tuple[float, float, float, float]
    """x, y, width, height in native pixels of the image."""
    score: float
    category: str
    shape: Polygons | None
    """Its outline in native pixels; None if only boxes were added."""
    image: Any = None
    """Id of its image; None if there is one alone."""


@dataclass(frozen=True, slots=True)
class ImageDetections:
    """What was found in an image."""

    canvas: Canvas
    about: Mapping[str, Any]
    """Keys of the image in COCO's dictionary that are known: `id`, `name`, `file_name`, ..."""
    found: Sequence[Detection]


def format_of(path: Path) -> DetectionFormat:
    """Return the format that the name of a file means."""
    name = path.name.lower()
    for end, format in ((".kwcoco.json", "kwcoco"), (".geojson", "geojson"), (".json", "coco")):
        if name.endswith(end):
            return format  # type: ignore[return-value]
    raise OptionError(f"{path}: no format has this suffix", path=str(path), key="format", hint="Pass format=")


def content(images: Sequence[ImageDetections], names: Sequence[str], format: DetectionFormat) -> dict[str, Any]:
    """Return what a file of detections holds, as JSON; `names` are those of categories that come first."""
    return coco(images, names, format == "kwcoco") if format in ("coco", "kwcoco") else geojson(images, format)


def coco(images: Sequence[ImageDetections], names: Sequence[str], holes: bool) -> dict[str, Any]:
    """Return a dataset of COCO, with `score`; `holes` allows kwcoco's form of polygons."""
    names = list(dict.fromkeys([*names, *sorted({found.category for image in images for found in image.found})]))
    dicts: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        height, width = image.canvas.native
        about = {"id": number, "file_name": image.canvas.name, "width": width, "height": height, **image.about}
        dicts.append(about)
        for found in image.found:
            annotation = {"id": len(annotations) + 1, "image_id": about["id"], "iscrowd": 0, "score": found.score}
            annotation |= {"category_id": 1 + names.index(found.category), "bbox": list(found.bbox)}
            annotation["area"] = found.bbox[2] * found.bbox[3]
            if found.shape is not None:
                annotation["segmentation"] = _segmentation(found.shape, (height, width), holes)
                annotation["area"] = float(found.shape.geometry.area)
            annotations.append(annotation)
    categories = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    return {"images": dicts, "categories": categories, "annotations": annotations}


def geojson(images: Sequence[ImageDetections], format: DetectionFormat) -> dict[str, Any]:
    """Return a collection of features: in the reference system that all images have, or QuPath's, in pixels of one."""
    several = len(images) > 1
    if format == "qupath":
        if several:
            what = f"format='qupath': a file is of one image, and these are {len(images)}"
            raise OptionError(what, key="format", hint="Write them one by one, or pass format='coco'")
        places: list[Georeference | None] = [None]
    else:
        places = [georeference(image.canvas) for image in images]
    systems = {_crs_name(place): image.canvas.name for place, image in zip(places, images, strict=True) if place}
    if len(systems) > 1:
        what = f"format='geojson': the images have several reference systems ({', '.join(systems)})"
        path = next(reversed(systems.values()))
        raise OptionError(what, path=path, key="format", hint="Write them one by one, or pass format='coco'")
    features = []
    for place, image in zip(places, images, strict=True):
        for found in image.found:
            properties: dict[str, Any] = {"category": found.category, "score": found.score}
            if place is None:
                about = {"classification": {"name": found.category}, "measurements": {"score": found.score}}
                properties = {"objectType": "detection", **about}
            elif several:
                properties["image"] = image.about.get("name", image.about.get("id", image.canvas.name))
            features.append(
                {
                    "type": "Feature",
                    "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{found.image or ''}{found.category} {found.bbox}")),
                    "geometry": _geometry(found.shape or Polygons.around(np.array(found.bbox)), place),
                    "properties": properties,
                }
            )
    out: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    for name in systems:
        out["crs"] = {"type": "name", "properties": {"name": name}}
    return out


def georeference(canvas: Canvas) -> Georeference:
    """Return where an image is on earth; raise `OptionError` if GeoJSON cannot say it."""
    place = from_attributes({"ndzarr": {"source": dict(canvas.place or {})}})
    if place is None or place.transform is None or not place.crs.defined:
        what = f"format='geojson': {canvas.name} has no reference system"
        raise OptionError(what, path=canvas.name, key="format", hint="Pass format='qupath' for pixels, or 'coco'")
    return place


def _segmentation(shape: Polygons, size: tuple[int, int], holes: bool) -> Any:
    """Return COCO's form of an outline; holes have none in lists of COCO, only in those of kwcoco."""
    if all(len(part) == 1 for part in shape.parts):
        return [part[0].ravel().tolist() for part in shape.parts]
    if holes:
        return [
            {"exterior": part[0].tolist(), "interiors": [ring.tolist() for ring in part[1:]]} for part in shape.parts
        ]
    runs = Runs.of(shape.filled(size))
    return {"size": [runs.height, runs.width], "counts": runs.counts}


def _geometry(shape: Polygons, place: Georeference | None) -> dict[str, Any]:
    """Return GeoJSON's geometry: exteriors counter-clockwise on earth, rings closed (RFC 7946)."""
    import shapely
    from shapely.geometry.polygon import orient

    moved = shape if place is None else shape.warped(place.matrix)
    polygons = [orient(shapely.Polygon(e, i)) for e, *i in moved.parts if len(e) > 2]
    whole = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    found: dict[str, Any] = json.loads(shapely.to_geojson(whole))
    return found


def _crs_name(place: Georeference) -> str:
    """Return the name of a reference system for the member `crs` of GeoJSON's draft."""
    epsg = place.crs.epsg
    if epsg is not None:
        return "urn:ogc:def:crs:OGC:1.3:CRS84" if epsg == 4326 else f"urn:ogc:def:crs:EPSG::{epsg}"
    return str(place.crs.text())
