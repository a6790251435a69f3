"""Validation of group attributes against the JSON schemas of OME-Zarr 0.5 and the zarr-conventions.

The schemas are the published ones, in `tests/schemas/` (see `PROVENANCE.md` there); nothing is downloaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.jsonschema import DRAFT202012

_FOLDER = Path(__file__).parents[1] / "schemas"
_SCHEMAS = {path.stem: json.loads(path.read_text()) for path in sorted(_FOLDER.glob("*/*")) if path.suffix != ".md"}
# The strict OME schemas name no dialect; they use the one of the schemas that they refer to.
_REGISTRY: Registry[Any] = Registry().with_contents(
    [(schema["$id"], schema) for schema in _SCHEMAS.values()], default_specification=DRAFT202012
)


def validate_ome(attributes: dict[str, Any], *, strict: bool = False) -> None:
    """
    Raise `jsonschema.ValidationError` unless these are the attributes of an OME-Zarr 0.5 image.

    Parameters
    ----------
    attributes
        The `attributes` of the group's zarr.json; those of a label image have `image-label` under `ome`, too.
    strict
        Also ask for what the specification only recommends: name, type and metadata of a multiscale.
    """
    prefix = "strict_" if strict else ""
    _validate(f"{prefix}image", attributes)
    if "image-label" in attributes["ome"]:
        _validate(f"{prefix}label", attributes)


def validate_multiscales(attributes: dict[str, Any]) -> None:
    """
    Raise `jsonschema.ValidationError` unless these are the attributes of a pyramid of the `multiscales` convention.

    Where the pyramid uses `spatial:` or `proj:`, those conventions are checked as well.
    """
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    _validate("zarr-conventions", group)
    _validate("multiscales", group)
    for convention in ("spatial", "proj"):
        if _uses(convention, attributes):
            _validate(convention, group)
            _validate_declared(convention, attributes)


def _validate(name: str, instance: Any) -> None:
    schema = _SCHEMAS[name]
    validator = validator_for(schema, default=Draft202012Validator)
    # Through JSON and back: a tuple is what the file will hold as an array.
    validator(schema, registry=_REGISTRY).validate(json.loads(json.dumps(instance)))


def _uses(convention: str, attributes: dict[str, Any]) -> bool:
    uuid = _SCHEMAS[convention]["$defs"]["conventionMetadata"]["properties"]["uuid"]["const"]
    if any(entry.get("uuid") == uuid for entry in attributes["zarr_conventions"]):
        return True
    places = [attributes, *attributes["multiscales"]["layout"]]
    return any(key.startswith(f"{convention}:") for place in places for key in place)


def _validate_declared(convention: str, attributes: dict[str, Any]) -> None:
    # Draft 7 ignores whatever stands beside a $ref, and these schemas ask for the declaration there.
    reference = {"$ref": f"{_SCHEMAS[convention]['$id']}#/$defs/conventionMetadata"}
    Draft202012Validator({"contains": reference}, registry=_REGISTRY).validate(attributes["zarr_conventions"])
