"""The command `ndzarr crop`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from ndzarr._formats.options import PALETTES
from ndzarr._geo.bounds import pixel_window
from ndzarr._indexing.plan import human_bytes
from ndzarr._library.open import open as open_pyramid
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._store.validity import nodata_of
from ndzarr.cli.options import indices, interval, names, series
from ndzarr.errors import OptionError


@click.command(
    epilog="""\b
Examples:
  Write a window at full resolution as PNG:
    ndzarr crop huge.zarr --x 4000:4512 --y 1000:1512 -o crop.png
  Write two channels at a quarter of the resolution as an array:
    ndzarr crop huge.zarr --x 0:4096 --y 0:4096 --scale 0.25 --c red,nir -o crop.npy
  Read from a COG, or another tiled TIFF, in place:
    ndzarr crop scene.tif --x 4000:4512 --y 1000:1512 -o crop.png
  Read a slide at half a micrometre per pixel:
    ndzarr crop slide.ome.tif --resolution 0.5um -o crop.png
  Print what reading would cost:
    ndzarr crop huge.zarr --x 4000:4512 --y 1000:1512 --explain
"""
)
@click.argument("store")
@click.option("-o", "--output", "dest", metavar="FILE", help="File to write: .png, .jpg, .tif, .ome.tif or .npy.")
@click.option(
    "--x", type=interval, metavar="START:STOP", help="Columns in native pixels, half-open; 0 outside the image."
)
@click.option("--y", type=interval, metavar="START:STOP", help="Rows in native pixels.")
@click.option("--c", type=names, metavar="NAME,...", help="Channels by name or position, in this order.")
@click.option("--t", type=indices, metavar="INDEX|START:STOP", help="Frames.")
@click.option("--z", type=indices, metavar="INDEX|START:STOP", help="Planes.")
@click.option("--scale", type=float, help="Output pixels per native pixel, such as 0.25.")
@click.option("--resolution", metavar="SIZE", help="Size of an output pixel, such as 0.5um, 10GSD or 20x.")
@click.option("--level", type=int, help="Level to read as it is stored; x and y count its pixels.")
@click.option("--palette", type=click.Choice(PALETTES), help="Colours or class numbers of a TIFF with a palette.")
@click.option(
    "--series", type=series, metavar="NAME | N", help="Image of a TIFF or plate that holds several; see info."
)
@click.option("--variable", metavar="NAME", help="Image of a Zarr group that holds several; see info.")
@click.option("--axes", "letters", metavar="LETTERS", help="Axes of an array without names, such as tczyx.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.option("--explain", is_flag=True, help="Print how many chunks and bytes are read.")
@click.option("--json", "as_json", is_flag=True, help="With --explain: print JSON.")
def command(
    store: str,
    dest: str | None,
    scale: float | None,
    resolution: str | None,
    level: int | None,
    palette: str | None,
    series: str | int | None,
    variable: str | None,
    letters: str | None,
    overwrite: bool,
    explain: bool,
    as_json: bool,
    **axes: Any,
) -> None:
    """
    Write a window of the pyramid STORE, or of a tiled TIFF, as an image file.

    Reads the whole of each axis that is left out. PNG holds uint8 and uint16, JPEG uint8, TIFF every type. NPY holds
    the array as it is, with axes t c z y x.
    """
    from ndzarr._files import local_path, publishing_file, refuse_existing_file
    from ndzarr._pyramid.crops import make_crop, plan_crops, read_crops
    from ndzarr.cli.images import check_suffix, save

    if dest is None and not explain:
        raise click.UsageError("say where to write with -o FILE, or use --explain")
    given = {"--scale": scale, "--resolution": resolution, "--level": level}
    if len(several := [name for name, value in given.items() if value is not None]) > 1:
        raise click.UsageError(f"each chooses the level itself; give one of {' and '.join(several)}")
    if dest is not None:
        target = local_path(dest)
        check_suffix(target)
        refuse_existing_file(target, overwrite)
    pyramid = open_pyramid(store, palette=palette, series=series, variable=variable, axes=letters)
    window = _window(pyramid, axes)
    _, factor = pixel_window(
        pyramid.georeference, pyramid.pixel_size, pyramid.path, pyramid.sizes, window, 1.0 if scale is None else scale,
        resolution, None, None,
    )  # fmt: skip
    crops = [make_crop(pyramid, window, factor)] if level is None else []
    if explain:
        plan = plan_crops(crops) if level is None else pyramid.plan([window], level)
        found = plan.explain()
        click.echo(json.dumps(asdict(found), indent=2) if as_json else found)
    if dest is None:
        return
    if level is None:
        [(image, _)] = read_crops(crops)
    else:
        image = pyramid.read(level, **window)
    positions = window.get("c", range(len(pyramid.channels)))
    channels, nodata = [pyramid.channels[i] for i in positions], nodata_of(pyramid.nodata, positions)
    if isinstance(nodata, tuple):
        click.echo(f"{dest}: nodata differs among its channels, so the file states none", err=True)
        nodata = None
    with publishing_file(target, overwrite) as work:
        save(work, target.name, image, pyramid.dims, channels, nodata)
    sizes = ", ".join(f"{d}: {n}" for d, n in zip(pyramid.dims, image.shape, strict=True))
    click.echo(f"wrote {dest} ({sizes}) {image.dtype}, {human_bytes(target.stat().st_size)}")


def _window(pyramid: Pyramid, axes: dict[str, Any]) -> dict[str, Any]:
    """Return the window asked for; a channel that is a number, and not a name, is a position."""
    window = {axis: want for axis, want in axes.items() if want is not None}
    for axis in window:
        if axis not in pyramid.dims:
            message = f"--{axis}: {pyramid.path} has no axis {axis}, only {' '.join(pyramid.dims)}"
            raise OptionError(message, path=pyramid.path, key=axis)
    if "c" in window:
        named = [int(c) if c.isdecimal() and c not in pyramid.channels else c for c in window["c"]]
        window["c"] = pyramid.channel_indices(named)
    return window
