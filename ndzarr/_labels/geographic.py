"""
Labels as features: GeoJSON on georeferenced images, GeoPackage, GeoParquet and shapefiles, and QuPath's GeoJSON in
pixels.

Formats: RFC 7946, with the member `crs` of its draft; https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html.
All coordinates of a file are transformed at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr._formats.sequence import natural
from ndzarr._labels.builder import Builder, ImageFinder, image_facts, list_images, wrong
from ndzarr.errors import OptionError, SourceError

Array = np.ndarray[Any, Any]
TABLES = (".gpkg", ".parquet", ".geoparquet", ".shp", ".fgb")
"""Suffixes of files that geopandas reads."""
QUPATH_KEYS = ("classification", "objectType")
"""Properties by which QuPath's features are known."""
_CATEGORY_KEYS = ("category", "class", "label", "classification", "type", "name", "layer")
"""Properties that may name the category, the likeliest first."""
_TAKEN = {"id", "image_id", "category_id", "bbox", "segmentation", "area", "iscrowd", "keypoints", "track_id", "score"}
_LONLAT = "OGC:CRS84"


@dataclass(frozen=True)
class Features:
    """Polygons with properties, all coordinates in one array."""

    crs: str | None
    """Their reference system; None for pixels."""
    points: Array
    """x and y of all corners, shape (point, 2)."""
    ring_starts: Array
    """First point of each ring, and the number of points."""
    part_starts: Array
    """First ring of each polygon, and the number of rings."""
    first_part: Array
    """First polygon of each feature, and the number of polygons."""
    properties: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.properties)

    def boxes(self) -> Array:
        """Return left, top, right, bottom of each feature; shape (feature, 4)."""
        starts = self.ring_starts[self.part_starts[self.first_part[:-1]]]
        return np.hstack([np.minimum.reduceat(self.points, starts), np.maximum.reduceat(self.points, starts)])

    def take(self, chosen: Array) -> Features:
        """Return some of the features, by position."""
        parts, first = _taken(self.first_part, chosen)
        rings, part_starts = _taken(self.part_starts, parts)
        points, ring_starts = _taken(self.ring_starts, rings)
        properties = [self.properties[k] for k in chosen.tolist()]
        return Features(self.crs, self.points[points], ring_starts, part_starts, first, properties)

    def polygons(self, k: int) -> list[list[Array]]:
        """Return the polygons of a feature, each its exterior and its interiors."""
        out = []
        for part in range(self.first_part[k], self.first_part[k + 1]):
            rings = range(self.part_starts[part], self.part_starts[part + 1])
            out.append([self.points[self.ring_starts[r] : self.ring_starts[r + 1]] for r in rings])
        return out


def _taken(starts: Array, chosen: Array) -> tuple[Array, Array]:
    """Return the items that chosen groups hold, one after the other, and where each group then begins."""
    lengths = starts[chosen + 1] - starts[chosen]
    new = np.concatenate(([0], np.cumsum(lengths)))
    return np.arange(new[-1]) + np.repeat(starts[chosen] - new[:-1], lengths), new


def read_features(path: Path, builder: Builder) -> Features:
    """Read a file of features; those that are not polygons are counted as left out."""
    if path.suffix.lower() in TABLES:
        found, crs = _read_table(path)
    else:
        found, crs = _read_geojson(path)
    rings: list[Sequence[Any]] = []
    parts, first, properties = [0], [0], []
    for number, feature in enumerate(found, 1):
        shape, about = feature.get("geometry") or {}, feature.get("properties") or {}
        if not isinstance(shape, Mapping) or not isinstance(about, Mapping):
            raise wrong(path, None, f"feature {number}: its geometry or its properties are not objects")
        try:
            polygons = _polygons(shape)
        except (TypeError, AttributeError) as error:
            raise wrong(path, None, f"feature {number}: coordinates are not lists of points ({error})") from error
        if not polygons:
            builder.leave_out(f"features whose geometry is {shape.get('type') or 'missing'}")
            continue
        for polygon in polygons:
            rings += polygon
            parts.append(len(rings))
        if feature.get("nucleusGeometry"):  # of QuPath's cells
            builder.leave_out("nuclei of cells")
        first.append(len(parts) - 1)
        properties.append(about)
    try:
        flat = [point[:2] for point in chain.from_iterable(rings)]
        points = np.array(flat, float).reshape(-1, 2)
    except (TypeError, ValueError, IndexError) as error:
        what = f"feature {_first_wrong(found)}: coordinates are not pairs of numbers ({error})"
        raise wrong(path, None, what) from error
    if not np.isfinite(points).all():
        raise wrong(path, None, f"feature {_first_wrong(found)}: some coordinates are not finite")
    starts = np.cumsum([0, *map(len, rings)])
    return Features(crs, points, starts, np.array(parts), np.array(first), properties)


def _first_wrong(features: Sequence[Mapping[str, Any]]) -> int:
    """Return the number, from 1 on, of the first feature with a corner that is not two finite numbers."""
    for number, feature in enumerate(features, 1):
        try:
            rings = chain.from_iterable(_polygons(feature.get("geometry") or {}))
            if not all(isfinite(v) for ring in rings for point in ring for v in (point[0], point[1])):
                return number
        except (TypeError, ValueError, IndexError):
            return number
    return len(features)


def _polygons(shape: Mapping[str, Any]) -> list[list[Sequence[Any]]]:
    """Return the polygons of a geometry, each a list of rings."""
    kind, coordinates = shape.get("type"), shape.get("coordinates") or []
    if kind == "GeometryCollection":
        return [p for one in shape.get("geometries") or [] for p in _polygons(one)]
    found = [coordinates] if kind == "Polygon" else list(coordinates) if kind == "MultiPolygon" else []
    return [rings for rings in found if rings and all(len(ring) >= 3 for ring in rings)]


def _read_geojson(path: Path) -> tuple[Sequence[Mapping[str, Any]], str | None]:
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise wrong(path, None, f"is not text ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise wrong(path, error.lineno, f"is not JSON ({error.msg})") from error
    features = content if isinstance(content, list) else _features_of(content)  # QuPath writes a list, too
    if features is None or not all(isinstance(f, Mapping) and f.get("type") == "Feature" for f in features):
        raise wrong(path, None, "holds no GeoJSON features", "It has to be a FeatureCollection or a list of features")
    about = [f["properties"] for f in features[:100] if isinstance(f.get("properties"), Mapping)]
    if any(key in properties for properties in about for key in QUPATH_KEYS):
        return features, None
    stated = content.get("crs") if isinstance(content, Mapping) else None
    name = (stated.get("properties") or {}).get("name") if isinstance(stated, Mapping) else None
    return features, str(name) if name else _LONLAT


def _features_of(content: Any) -> Sequence[Any] | None:
    if not isinstance(content, Mapping):
        return None
    features = content.get("features") if content.get("type") == "FeatureCollection" else [content]
    return features if isinstance(features, list) else None


def _read_table(path: Path) -> tuple[Sequence[Mapping[str, Any]], str | None]:
    try:
        import geopandas
    except ImportError:
        hint = "Run pip install ndzarr[tables], or convert it to GeoJSON"
        raise OptionError(f"{path}: reading it needs geopandas", path=str(path), hint=hint) from None
    try:
        if "parquet" in path.suffix:
            tables = {"": geopandas.read_parquet(path)}
        else:
            names = [str(name) for name in geopandas.list_layers(path)["name"]]
            tables = {name: geopandas.read_file(path, layer=name) for name in names}
    except (ValueError, OSError, RuntimeError) as error:
        raise wrong(path, None, f"cannot be read ({' '.join(str(error).split())})") from error
    tables = {name: table for name, table in tables.items() if isinstance(table, geopandas.GeoDataFrame)}
    bare = [name for name, table in tables.items() if table.crs is None]
    if bare or not tables:
        what = f"layer {bare[0]!r} states no reference system" if bare else "has no layer with geometries"
        raise wrong(path, None, what, "Set one with geopandas, set_crs" if bare else None)
    system = next(iter(tables.values())).crs
    found: list[Mapping[str, Any]] = []
    for name, table in tables.items():
        about = {"layer": name} if len(tables) > 1 else {}
        features = table.to_crs(system).iterfeatures(na="drop")
        found += [{**one, "properties": {**about, **one["properties"]}} for one in features]
    return found, system.to_wkt()


def read_geographic(builder: Builder, labels: Path, images: Any, category: str | None) -> None:
    """Read features onto the georeferenced images that they overlap; they keep what lies beyond an image."""
    import shapely

    paths = list_images(images, labels.parent)
    facts = {path: image_facts(path) for path in paths}
    bare = [path for path, found in facts.items() if found.place is None]
    if len(bare) == len(paths):
        what = f"none of {len(paths)} images is georeferenced, such as {bare[0]}"
        hint = "Pass format='qupath' if coordinates are pixels"
        raise SourceError(f"{labels}: {what}", path=str(labels), key="images", hint=hint)
    features = read_features(labels, builder)
    placed = np.zeros(len(features), bool)
    moved: dict[Any, tuple[Features, Any]] = {}
    for path, found in facts.items():
        image = builder.image(path, width=found.width, height=found.height, channels="|".join(found.channels))
        if found.place is None or not len(features):
            builder.leave_out("images without a georeference") if found.place is None else None
            continue
        builder.places[image["id"]] = found.place
        system = found.place.crs.require_pyproj(f"placing {labels.name} on {path}")
        left, bottom, right, top = found.place.bounds(found.height, found.width)
        # Longitudes of an image that goes on beyond the antimeridian, or counts from 0 to 360, are those near its own.
        turn = (left + right) / 2 if system.is_geographic and not -180 <= left < right <= 180 else None
        key = found.place.crs, turn
        if key not in moved:
            here = _near(_transformed(features, system, labels), turn)
            moved[key] = here, shapely.STRtree(shapely.box(*here.boxes().T))
        here, tree = moved[key]
        near = np.sort(tree.query(shapely.box(left, bottom, right, top)))
        matrix = np.linalg.inv(found.place.matrix)
        pixels = here.take(near)
        pixels = replace(pixels, points=pixels.points @ matrix[:2, :2].T + matrix[:2, 2])
        boxes = pixels.boxes() if len(near) else np.empty((0, 4))
        inside = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < (found.width, found.height)).all(axis=1)
        placed[near[inside]] = True
        _add_features(builder, image, pixels.take(np.flatnonzero(inside)), category)
    builder.left_out["features outside of all images"] += int((~placed).sum())


def _near(features: Features, longitude: float | None) -> Features:
    """Return features moved by whole turns to where they are nearest to a longitude; None leaves them."""
    if longitude is None:
        return features
    boxes = features.boxes()
    shift = 360 * np.round((longitude - (boxes[:, 0] + boxes[:, 2]) / 2) / 360)
    starts = features.ring_starts[features.part_starts[features.first_part]]
    points = features.points + np.stack([np.repeat(shift, np.diff(starts)), np.zeros(len(features.points))], 1)
    return replace(features, points=points)


def _transformed(features: Features, system: Any, labels: Path) -> Features:
    import pyproj

    try:
        given = pyproj.CRS.from_user_input(features.crs)
    except pyproj.exceptions.CRSError as error:
        raise wrong(labels, None, f"its reference system {features.crs!r} is not known") from error
    if given.equals(system, ignore_axis_order=True):
        return features
    transformer = pyproj.Transformer.from_crs(given, system, always_xy=True)
    x, y = transformer.transform(features.points[:, 0], features.points[:, 1])
    out = np.stack([x, y], 1)
    out[~np.isfinite(out).all(axis=1)] = np.finfo(float).max / 4  # beyond what the system covers: far from any image
    return replace(features, points=out)


def read_qupath(builder: Builder, labels: Path, images: Any, category: str | None) -> None:
    """Read QuPath's GeoJSON: a file for an image, or a directory of files with the names of images."""
    files = sorted(labels.rglob("*.*json"), key=lambda file: natural(str(file))) if labels.is_dir() else [labels]
    finder = ImageFinder(list_images(images, labels if labels.is_dir() else labels.parent))
    for file in files:
        path = finder.paths[0] if len(finder.paths) == len(files) == 1 else finder.require(file, file.name)
        image = builder.image(path)
        _add_features(builder, image, read_features(file, builder), category)


def _add_features(builder: Builder, image: Mapping[str, Any], features: Features, category: str | None) -> None:
    """Add features in pixels as annotations; properties that are numbers or text become keys of them."""
    if not len(features):
        return
    boxes = features.boxes()
    boxes[:, 2:] -= boxes[:, :2]
    for k, (box, properties) in enumerate(zip(boxes.tolist(), features.properties, strict=True)):
        polygons = features.polygons(k)
        shape: list[Any]
        if all(len(rings) == 1 for rings in polygons):
            shape = [rings[0].ravel().tolist() for rings in polygons]
        else:  # COCO's own lists have no holes
            shape = [{"exterior": r[0].tolist(), "interiors": [hole.tolist() for hole in r[1:]]} for r in polygons]
        more = {key: value for key, value in properties.items() if key not in _TAKEN and _is_plain(value)}
        builder.add(image, category_of(properties, category), box, segmentation=shape, **more)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and isfinite(value))


def category_of(properties: Mapping[str, Any], key: str | None) -> str:
    """Return the category of a feature: that of a property, or QuPath's classification."""
    for name in _CATEGORY_KEYS if key is None else (key,):
        value = properties.get(name)
        if isinstance(value, Mapping):  # QuPath, whose derived classes have several names
            value = value.get("name") or ": ".join(map(str, value.get("names") or ()))
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            return str(value)
    return "object" if key is None else "unclassified"
