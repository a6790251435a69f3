"""Do the vendored schemas, and the way we call them, tell a good pyramid from a broken one?"""

from __future__ import annotations

import copy
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import ValidationError

from helpers.metadata_schemas import validate_multiscales, validate_ome

SCHEMAS = Path(__file__).parent / "schemas"

OME: dict[str, Any] = {
    "ome": {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [
                    {"name": "c", "type": "channel"},
                    {"name": "y", "type": "space"},
                    {"name": "x", "type": "space"},
                ],
                "datasets": [
                    {
                        "path": f"{level}/image",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [1.0, 2.0**level, 2.0**level]},
                            {"type": "translation", "translation": [0.0, (2**level - 1) / 2, (2**level - 1) / 2]},
                        ],
                    }
                    for level in range(3)
                ],
            }
        ],
    }
}


def _declaration(name: str, uuid: str, description: str) -> dict[str, str]:
    return {
        "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{name}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
        "uuid": uuid,
        "name": name,
        "description": description,
    }


MULTISCALES: dict[str, Any] = {
    "zarr_conventions": [
        _declaration("multiscales", "d35379db-88df-4056-af3a-620245f8e347", "Multiscale layout of zarr datasets")
    ],
    "multiscales": {
        "layout": [
            {"asset": "0", "transform": {"scale": [1.0, 1.0, 1.0], "translation": [0.0, 0.0, 0.0]}},
            {
                "asset": "1",
                "derived_from": "0",
                "transform": {"scale": [1.0, 2.0, 2.0], "translation": [0.0, 0.0, 0.0]},
                "resampling_method": "average",
            },
            {
                "asset": "2",
                "derived_from": "1",
                "transform": {"scale": [1.0, 2.0, 2.0], "translation": [0.0, 0.0, 0.0]},
                "resampling_method": "average",
            },
        ],
        "resampling_method": "average",
    },
}

_SIZES = [(300, 401), (150, 201), (75, 101)]

GEO: dict[str, Any] = {
    "zarr_conventions": [
        *MULTISCALES["zarr_conventions"],
        _declaration("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
        _declaration(
            "proj",
            "f17cb550-5864-4468-aeb7-f3180cfb622f",
            "Coordinate reference system information for geospatial data",
        ),
    ],
    "multiscales": {
        **MULTISCALES["multiscales"],
        "layout": [
            {
                **item,
                "spatial:shape": list(size),
                "spatial:transform": [10.0 * 2**level, 0.0, 500000.0, 0.0, -10.0 * 2**level, 5000000.0],
            }
            for level, (item, size) in enumerate(zip(MULTISCALES["multiscales"]["layout"], _SIZES, strict=True))
        ],
    },
    "spatial:dimensions": ["y", "x"],
    "spatial:bbox": [500000.0, 4997000.0, 504010.0, 5000000.0],
    "spatial:registration": "pixel",
    "proj:code": "EPSG:32633",
}


def _set(attributes: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a copy with the value at a dotted path replaced, or removed if it is `...`."""
    changed = copy.deepcopy(attributes)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = changed
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


def test_every_schema_is_the_file_that_the_provenance_names() -> None:
    provenance = (SCHEMAS / "PROVENANCE.md").read_text()
    stated = dict(re.findall(r"`([\w./-]+)` *\|[^|]*\|[^|]*\| *`([0-9a-f]{64})`", provenance))
    found = {
        path.relative_to(SCHEMAS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in SCHEMAS.glob("*/*")
    }
    assert stated == found


def test_a_good_ome_image_is_accepted() -> None:
    validate_ome(OME)


def test_a_good_ome_label_image_is_accepted() -> None:
    validate_ome(_set(OME, "ome.image-label", {"colors": [{"label-value": 1, "rgba": [255, 0, 0, 255]}]}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("ome.version", "0.4"),
        ("ome.version", ...),
        ("ome.multiscales.0.axes", ...),
        ("ome.multiscales.0.axes.1.type", "channel"),  # one space axis only
        ("ome.multiscales.0.datasets.0.path", ...),
        ("ome.multiscales.0.datasets.1.coordinateTransformations", []),
        ("ome.multiscales.0.datasets.1.coordinateTransformations.0.scale", ["1", "2", "2"]),
        ("ome.omero", {}),
        ("ome.image-label", {"colors": [{"rgba": [1, 2, 3, 4]}]}),
    ],
)
def test_a_broken_ome_image_is_rejected(path: str, value: object) -> None:
    with pytest.raises(ValidationError):
        validate_ome(_set(OME, path, value))


def test_strict_asks_for_what_ome_recommends() -> None:
    with pytest.raises(ValidationError, match="metadata"):
        validate_ome(OME, strict=True)
    image = OME["ome"]["multiscales"][0] | {"name": "image", "type": "mean", "metadata": {"method": "ndzarr"}}
    validate_ome(_set(OME, "ome.multiscales.0", image), strict=True)


@pytest.mark.parametrize("attributes", [MULTISCALES, GEO], ids=["plain", "georeferenced"])
def test_a_good_pyramid_is_accepted(attributes: dict[str, Any]) -> None:
    validate_multiscales(attributes)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("zarr_conventions", []),
        ("zarr_conventions", ...),
        ("zarr_conventions.0.uuid", "D35379DB"),
        ("zarr_conventions.0.name", "Multiscales"),
        (
            "zarr_conventions.0.schema_url",
            "https://raw.githubusercontent.com/zarr-conventions/multiscales/refs/tags/v1/schema.json",
        ),
        ("zarr_conventions.0.version", "0.1"),
        ("multiscales.layout", []),
        ("multiscales.layout.0.asset", ...),
        ("multiscales.layout.0.asset", "/0"),
        ("multiscales.layout.1.transform", ...),  # required beside derived_from
        ("multiscales.layout.1.transform.scale", [1.0, "2", "2"]),
        ("multiscales.layout.1.derived_from", "../0"),
        ("spatial:transform", [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),  # not declared
        ("multiscales.layout.0.spatial:shape", [300, 401]),  # not declared
        ("proj:code", "EPSG:32633"),  # not declared
    ],
)
def test_a_broken_pyramid_is_rejected(path: str, value: object) -> None:
    with pytest.raises(ValidationError):
        validate_multiscales(_set(MULTISCALES, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spatial:dimensions", ["z", "y", "x"]),
        ("spatial:bbox", [0.0, 0.0, 1.0]),
        ("spatial:registration", "corner"),
        ("multiscales.layout.1.spatial:transform", [1.0, 0.0, 0.0]),
        ("multiscales.layout.2.spatial:shape", [0, 101]),
        ("zarr_conventions.1", ...),  # spatial is not declared
        ("zarr_conventions.2.name", "proj:"),
        ("proj:code", "32633"),
        ("proj:code", ...),  # declared, but no reference system
    ],
)
def test_broken_georeferencing_is_rejected(path: str, value: object) -> None:
    with pytest.raises(ValidationError):
        validate_multiscales(_set(GEO, path, value))
