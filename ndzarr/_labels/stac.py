"""
STAC items: scenes whose assets are bands, read where they are.

Format: https://github.com/radiantearth/stac-spec/blob/master/item-spec/item-spec.md, with the extensions `eo`, `raster`
and `projection` (1 and 2).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import numpy as np

from ndzarr._formats.registry import IMAGE_SUFFIXES
from ndzarr._geo.crs import Crs
from ndzarr._geo.georeference import Georeference
from ndzarr._labels.builder import Builder, ImageFacts, image_facts, wrong
from ndzarr._remote.urls import is_url

_PIXELS = ("image/tiff", "image/geotiff", "image/jp2", "image/png", "image/jpeg", "application/vnd+zarr", "video/")
_OTHER_ROLES = {"thumbnail", "overview", "metadata", "preview"}


def items_of(path: Path) -> list[Mapping[str, Any]] | None:
    """Return the STAC items of a JSON file; None if it holds none."""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(content, Mapping):
        return None
    found = content.get("features") if content.get("type") == "FeatureCollection" else [content]
    if not isinstance(found, list) or not found:
        return None
    return found if all(isinstance(i, Mapping) and "stac_version" in i and "assets" in i for i in found) else None


def read_stac(builder: Builder, labels: Path, images: Any) -> None:
    """Read items: a file of one or many, or a directory of such files; `images` names the assets that are wanted."""
    wanted = None if images is None else {images} if isinstance(images, str) else set(images)
    for file in sorted(labels.rglob("*.json")) if labels.is_dir() else [labels]:
        items = items_of(file)
        if items is None:
            builder.leave_out("JSON files without STAC items")
            continue
        for item in items:
            _item(builder, file, item, wanted)


def _item(builder: Builder, file: Path, item: Mapping[str, Any], wanted: set[str] | None) -> None:
    held = item["assets"]
    objects = isinstance(held, Mapping) and all(isinstance(asset, Mapping) for asset in held.values())
    if not objects or not isinstance(item.get("properties") or {}, Mapping):
        raise wrong(file, None, f"item {item.get('id')!r}: its properties, or its assets, are not objects")
    found = list(_assets(builder, file, item, wanted))
    if not found:
        builder.leave_out("items without assets that are images")
        return
    finest = min(found, key=lambda pair: abs(np.linalg.det(_matrix(pair[1])[:2, :2])))[1]
    to_image = np.linalg.inv(_matrix(finest))
    assets = []
    for asset, facts in found:
        if (facts.place is None) != (finest.place is None):
            raise wrong(file, None, f"item {item.get('id')!r}: some of its assets state no transform, others do")
        warp = to_image @ _matrix(facts)
        assets.append(asset | {"width": facts.width, "height": facts.height, "warp_aux_to_img": _warp(warp)})
    properties = item.get("properties") or {}
    when = properties.get("datetime") or properties.get("start_datetime")
    sensor = properties.get("platform") or properties.get("constellation")
    image = {
        "id": len(builder.images) + 1,
        "name": str(item.get("id")),
        "file_name": None,
        "width": finest.width,
        "height": finest.height,
        "assets": assets,
        **({"date_captured": when} if when else {}),
        **({"sensor_coarse": str(sensor)} if sensor else {}),
    }
    builder.images.append(image)
    if finest.place is not None:
        builder.places[image["id"]] = finest.place


def _matrix(facts: ImageFacts) -> np.ndarray[Any, Any]:
    return np.eye(3) if facts.place is None else facts.place.matrix


def _warp(matrix: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"type": "affine", "matrix": matrix.tolist()}


def _assets(
    builder: Builder, file: Path, item: Mapping[str, Any], wanted: set[str] | None
) -> Iterator[tuple[dict[str, Any], ImageFacts]]:
    """Yield the assets of an item that are images, as kwcoco has them, and what is known of each."""
    for key, asset in item["assets"].items():
        roles, media = set(asset.get("roles") or ()), str(asset.get("type") or "")
        if wanted is not None and key not in wanted:
            continue
        href = str(asset.get("href"))
        pixels = media.startswith(_PIXELS) if media else href.lower().endswith(IMAGE_SUFFIXES)
        if wanted is None and (roles & _OTHER_ROLES or not pixels):
            continue
        path = _path(file, item, href)
        facts = _stated(item, asset) or image_facts(path)
        bands = asset.get("eo:bands") or asset.get("bands") or ()
        names = [str(name) for band in bands if (name := next((band[k] for k in _NAMES if band.get(k)), None))]
        if len(names) != len(facts.channels) and facts.channels:
            names = [key] if len(facts.channels) == 1 else [f"{key}.{k}" for k in range(len(facts.channels))]
        yield {"file_name": path, "channels": "|".join(names or [key])}, facts


_NAMES = ("name", "eo:common_name", "common_name")
"""Keys of a band that may name it: those of STAC 1.0 and 1.1."""


def _path(file: Path, item: Mapping[str, Any], href: str) -> str:
    """Return what a link means: relative ones begin at the file, or where the item says that it was published."""
    if is_url(href):
        return href
    path = Path(os.path.normpath(file.parent / href.removeprefix("file://")))
    if not path.exists() and (plain := path.with_name(unquote(path.name))).exists():
        return str(plain)
    links = [link for link in item.get("links") or () if isinstance(link, Mapping) and link.get("rel") == "self"]
    if not path.exists() and links and is_url(str(links[0].get("href"))):
        return urljoin(str(links[0]["href"]), href)
    return str(path)


def _stated(item: Mapping[str, Any], asset: Mapping[str, Any]) -> ImageFacts | None:
    """Return what the item says of an asset, so that its file need not be opened; None if that is not enough."""
    both = {**(item.get("properties") or {}), **asset}
    shape, transform = both.get("proj:shape"), both.get("proj:transform")
    code = both.get("proj:code") or (f"EPSG:{both['proj:epsg']}" if both.get("proj:epsg") else None)
    if not (_numbers(shape, (2,)) and _numbers(transform, (6, 9)) and (code or both.get("proj:wkt2"))):
        return None
    assert shape is not None and transform is not None  # noqa: PT018
    a, b, c, d, e, f = (float(v) for v in transform[:6])
    return ImageFacts(
        int(shape[0]), int(shape[1]), (), Georeference(Crs(code, both.get("proj:wkt2")), (a, b, c, d, e, f))
    )


def _numbers(value: Any, lengths: Sequence[int]) -> bool:
    return isinstance(value, list) and len(value) in lengths and all(isinstance(v, (int, float)) for v in value)
