"""The command `ndzarr info`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from math import prod
from typing import Any

import click

from ndzarr._files import is_store
from ndzarr._formats.base import Source
from ndzarr._formats.registry import file_kind
from ndzarr._geo.georeference import Georeference, from_attributes
from ndzarr._geo.pixel_size import PixelSize
from ndzarr._indexing.plan import human_bytes
from ndzarr._indexing.windows import level_count, level_shape
from ndzarr._library.inventory import size_on_disk
from ndzarr._library.keys import is_unchanged
from ndzarr._library.open import open as open_in_place
from ndzarr._library.open import why_inefficient
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import list_images, list_series
from ndzarr._remote.urls import is_url, names_file, shown
from ndzarr._store.archive import archive_of
from ndzarr._store.arrays import ChunkArray
from ndzarr._store.codecs import ChunkCodec
from ndzarr._store.metadata import pixel_size_of
from ndzarr._store.validity import Nodata
from ndzarr.cli.options import plain_warnings
from ndzarr.cli.options import series as as_series
from ndzarr.errors import NdzarrError, StoreError


@click.command(
    epilog="""\b
Examples:
  Describe a pyramid, or image files before they are transcoded:
    ndzarr info huge.zarr
    ndzarr info photo.jpg scene.tif
  Estimate how much disk each preset would take:
    ndzarr info --estimate scans/*.tif
  List the images of a Zarr group, and describe one of them:
    ndzarr info product.zarr
    ndzarr info product.zarr --variable measurements/reflectance/r10m/b02
    ndzarr info plate.zarr --series A/01/0
  Print the sizes of all axes with jq:
    ndzarr info pyramids/*.zarr --json | jq '.[].sizes'
"""
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--estimate", "estimated", is_flag=True, help="Estimate the size of a pyramid under each preset.")
@click.option("--variable", metavar="NAME", help="Image of a Zarr group that holds several.")
@click.option("--series", type=as_series, metavar="NAME | N", help="Image of a TIFF, or a plate, that holds several.")
@click.option("--axes", metavar="LETTERS", help="Axes of an array without names, such as tczyx.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of objects, one per path.")
def command(
    paths: tuple[str, ...],
    estimated: bool,
    variable: str | None,
    series: str | int | None,
    axes: str | None,
    as_json: bool,
) -> None:
    """
    Describe pyramids and how they are stored, or image files and the pyramids that they would become.

    If a Zarr group holds several images, it lists them.
    """
    found, failed = [], False
    how = {"variable": variable, "series": series, "axes": axes}
    for path in paths:
        try:
            with plain_warnings():
                if is_url(path):
                    facts, title = _remote(path, estimated, how)
                else:
                    stored = is_store(path) or archive_of(path) is not None
                    facts, title = _store(path, how) if stored else _image(path, estimated, how)
        except NdzarrError as error:
            click.echo(f"Error: {error}", err=True)
            failed = True
            continue
        found.append(facts)
        if not as_json:
            click.echo(title)
            click.echo(_text(facts))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    if failed:
        sys.exit(1)


def _remote(url: str, estimated: bool, how: dict[str, Any]) -> tuple[dict[str, Any], str]:
    if not names_file(url):
        return _store(url, how)
    try:
        return _pyramid(open_in_place(url, **how), url)
    except StoreError:
        return _image(url, estimated, how)


def _store(path: str, how: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Describe a store, or list the images of a group that holds several."""
    try:
        return _pyramid(open_in_place(path, **how), path)
    except StoreError as error:
        if error.key not in ("variable", "series") or how[error.key] is not None:
            raise
        named = error.key == "series"
    if named:
        told = [{"name": i.name, "path": i.path, **i.about, "text": str(i)} for i in list_series(path) or ()]
    else:
        told = [
            {**i._asdict(), "dims": list(i.dims), "shape": list(i.shape), "text": str(i)} for i in list_images(path)
        ]
    return {"path": path, "images": told}, f"Group {shown(path)} of {len(told)} images"


def _pyramid(pyramid: Pyramid, path: str) -> tuple[dict[str, Any], str]:
    """Return the facts that `--json` prints, and a title."""
    array = pyramid.levels[0].array
    disk = size_on_disk(pyramid.path) if os.path.exists(pyramid.path) else None
    raw = prod(pyramid.shape) * pyramid.dtype.itemsize
    facts = {
        "path": pyramid.path,
        **_what(pyramid.sizes, pyramid.dtype, pyramid.channels),
        "kind": pyramid.kind,
        "nodata": _json_nodata(pyramid.nodata),
        "mask": pyramid.validity.masked,
        "pixel_size": _pixel_size(pyramid.pixel_size),
        "place": _place(pyramid.georeference, pyramid.shape),
        "times": _span(pyramid),
        "notes": list(pyramid.notes),
        "levels": [list(level.shape) for level in pyramid.levels],
        "chunks": list(array.chunks),
        "shards": list(array.shards) if isinstance(array, ChunkArray) else None,
        "codec": _codec(array.codec) if isinstance(array, ChunkArray) else None,
        "readers": array.codec.readers if isinstance(array, ChunkArray) else None,
        "engine": array.engine,
        "raw_bytes": raw,
        "disk_bytes": disk,
        "ratio": None if not disk else round(raw / disk, 3),
        "source": _source(pyramid),
    }
    return facts, f"Pyramid {shown(path)}"


def _source(pyramid: Pyramid) -> dict[str, Any] | None:
    """Return where the pixels came from, and whether that file has changed since."""
    source = pyramid.attrs.get("ndzarr", {}).get("source")
    if not source or "path" not in source:
        return source or None
    try:
        same = is_unchanged(source)
    except OSError:
        return {**source, "state": "gone"}
    return {**source, "state": "unchanged" if same else "changed since"}


def _image(path: str, estimated: bool, how: dict[str, Any]) -> tuple[dict[str, Any], str]:
    from ndzarr._pyramid.sources import open_source

    with open_source(path, **how) as source:
        sizes = dict(zip(source.dims, source.shape, strict=True))
        height, width = source.shape[-2:]
        levels = range(level_count(height, width))
        facts = {
            "path": source.name,
            **_what(sizes, source.dtype, source.channels),
            "nodata": _json_nodata(source.nodata),
            "mask": source.masked,
            "pixel_size": _pixel_size(_stated_size(source)),
            "place": _place(from_attributes({"ndzarr": {"source": source.metadata}}), source.shape),
            "notes": list(source.metadata.get("notes", ())),
            "levels": [list(level_shape(k, source.dims, source.shape)) for k in levels],
            "band": source.band,
            "raw_bytes": prod(source.shape) * source.dtype.itemsize,
            "disk_bytes": os.stat(path).st_size if os.path.isfile(path) else None,
            "source": dict(source.metadata),
            **({"estimates": _estimates(source)} if estimated else {}),
        }
    return facts | _in_place(path, how), f"Image {shown(path)}"


def _stated_size(source: Source) -> PixelSize | None:
    """Return what the store of a source would say."""
    attrs = {"ndzarr": {"pixel_size": source.pixel_size.as_json(), "source": source.metadata}}
    return pixel_size_of(attrs, from_attributes(attrs))[0]


def _in_place(path: str, how: dict[str, Any]) -> dict[str, Any]:
    """Return whether a file is read in place, and its own levels; nothing for files that never are."""
    if file_kind(path) is None:
        return {}
    try:
        pyramid = open_in_place(path, **how)
    except StoreError as error:
        told = str(error).removeprefix(f"{os.path.realpath(path)}: ").removesuffix(f". {error.hint}")
        return {"in_place": f"no: {told}; samplers transcode it, as ndzarr transcode does"}
    why, array = why_inefficient(pyramid), pyramid.levels[0].array
    return {
        "levels": [list(level.shape) for level in pyramid.levels],
        "chunks": list(array.chunks),
        "engine": array.engine,
        "times": _span(pyramid),
        "in_place": "yes" if why is None else f"by ndzarr.open; samplers transcode it, as {why}",
    }


def _estimates(source: Source) -> dict[str, dict[str, Any]]:
    from ndzarr._progress import progress_bar
    from ndzarr._pyramid.transcode import WINDOWS, estimate

    with progress_bar(WINDOWS, os.path.basename(source.name), "window", sys.stderr.isatty()) as advance:
        found = estimate(source, advance=advance)
    return {e.preset: {"bytes": e.nbytes, "error": e.error, "ratio": round(e.ratio, 3)} for e in found}


def _pixel_size(size: PixelSize | None) -> dict[str, Any] | None:
    return None if size is None or not size.known else size.as_json()


def _span(pyramid: Pyramid) -> list[float] | None:
    """Return the times of the first and the last frame, in seconds."""
    return [pyramid.times[0], pyramid.times[-1]] if pyramid.times else None


def _place(georeference: Georeference | None, shape: Sequence[int]) -> dict[str, Any] | None:
    """Return the reference system and the (left, bottom, right, top) of an image that has a place on earth."""
    if georeference is None or georeference.transform is None:
        return None
    crs = georeference.crs
    bounds = georeference.bounds(shape[-2], shape[-1])
    return {"crs": crs.name if crs.defined else None, "transform": list(georeference.transform), "bounds": list(bounds)}


def _place_words(place: dict[str, Any] | None) -> str | None:
    if place is None:
        return None
    left, bottom, right, top = (f"{value:.10g}" for value in place["bounds"])
    return f"{place['crs'] or 'no reference system'}, x {left} to {right}, y {bottom} to {top}"


def _time_words(times: list[float] | None) -> str | None:
    return None if times is None else f"{times[0]:.6g} to {times[1]:.6g} s"


def _words(size: dict[str, Any] | None) -> str | None:
    return None if size is None else str(PixelSize.from_json(size))


def _what(sizes: dict[str, int], dtype: Any, channels: tuple[str, ...]) -> dict[str, Any]:
    return {"sizes": sizes, "dtype": str(dtype), "channels": list(channels)}


def _codec(codec: ChunkCodec) -> str:
    """Return the codec chain in a few words, such as 'blosc lz4 5 bitshuffle + crc32c'."""
    words = []
    for step in codec.metadata():
        options = step.get("configuration", {})
        words.append(" ".join([step["name"], *(str(options[key]) for key in _TOLD if key in options)]))
    return " + ".join(word for word in words if word != "bytes") or "none"


_TOLD = ("cname", "clevel", "level", "shuffle", "quality", "dtype", "order")
"""Options of codecs that are shown."""


def _json_nodata(nodata: Nodata) -> Any:
    return [_json_number(value) for value in nodata] if isinstance(nodata, tuple) else _json_number(nodata)


def _json_number(value: float | None) -> float | str | None:
    return "NaN" if value is not None and value != value else value


def _text(facts: dict[str, Any]) -> str:
    """Return the facts as lines for a person."""
    if "images" in facts:
        return "\n".join(f"  {image['text']}" for image in facts["images"])
    disk, ratio = facts["disk_bytes"], facts.get("ratio")
    on_disk = None if disk is None else human_bytes(disk) + (f", all levels; ratio {ratio:.2f}" if ratio else "")
    rows = [
        ("size", ", ".join(f"{d}: {n}" for d, n in facts["sizes"].items()) + f"  {facts['dtype']}"),
        ("channels", " ".join(facts["channels"])),
        ("kind", facts.get("kind")),
        ("nodata", _nodata_words(facts)),
        ("mask", "yes" if facts["mask"] else None),
        ("pixel size", _words(facts["pixel_size"])),
        ("place", _place_words(facts["place"])),
        ("times", _time_words(facts.get("times"))),
        ("levels", ", ".join(" x ".join(map(str, shape[-2:])) for shape in facts["levels"])),
        ("chunks", " x ".join(map(str, facts.get("chunks", ())))),
        ("shards", " x ".join(map(str, facts.get("shards") or ()))),
        ("codec", facts.get("codec")),
        ("read by", facts.get("readers")),
        ("engine", facts.get("engine")),
        ("in place", facts.get("in_place")),
        ("pixels", human_bytes(facts["raw_bytes"])),
        ("on disk", on_disk),
    ]
    for preset, found in facts.get("estimates", {}).items():
        size, error = human_bytes(found["bytes"]), human_bytes(2 * found["error"])
        rows.append((preset, f"would take about {size} (give or take {error}), ratio {found['ratio']:.2f}"))
    rows += _told(facts["source"] or {})
    rows += [("note", note) for note in facts["notes"]]
    return "\n".join(f"  {key:<12}{value}" for key, value in rows if value not in (None, ""))


def _nodata_words(facts: dict[str, Any]) -> Any:
    found = facts["nodata"]
    if not isinstance(found, list):
        return found if found is None else _number_words(found)
    return ", ".join(f"{c}: {_number_words(v)}" for c, v in zip(facts["channels"], found, strict=True))


def _number_words(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else f"{value:.12g}"


def _told(source: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return rows about the source: its file first, then plain values of its metadata; --json has the nested ones."""
    state = f" ({source['state']})" if "state" in source else ""
    rows: list[tuple[str, Any]] = [("source", f"{source['path']}{state}")] if "path" in source else []
    skip = {"name", "path", "size", "mtime_ns", "inode", "digest", "key", "state"}
    plain = {k: v for k, v in source.items() if k not in skip and isinstance(v, str | int | float | bool)}
    rows += [(k, f"{v:.6g} frames/s" if k == "rate" else v) for k, v in plain.items()]
    for series in source.get("series", ()):
        size = ", ".join(f"{axis}: {n}" for axis, n in zip(series["axes"], series["shape"], strict=True))
        rows.append(("series", f"{series['number']} {series['name']!r}  {size}  {series['dtype']}"))
    return rows
