"""Parsers of option values: windows, names and lengths; and notes on stderr."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from ndzarr.errors import DamagedFileWarning


def lengths(text: str) -> dict[str, int]:
    """
    Parse `y=256,x=256`.

    >>> lengths("y=256,x=128")
    {'y': 256, 'x': 128}
    """
    try:
        return {axis.strip(): int(n) for axis, n in (item.split("=") for item in text.split(","))}
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: expected lengths by axis, such as y=256,x=256") from error


def names(text: str) -> tuple[str, ...]:
    """
    Parse `r,g,b`.

    >>> names("r,g, b")
    ('r', 'g', 'b')
    """
    found = tuple(name.strip() for name in text.split(","))
    if not all(found):
        raise click.BadParameter(f"{text!r}: expected names with commas between them, such as r,g,b")
    return found


def interval(text: str) -> slice:
    """
    Parse `0:512`; either end may be left out.

    >>> interval("-8:512"), interval(":512")
    (slice(-8, 512, None), slice(None, 512, None))
    """
    try:
        start, stop = (int(part) if part.strip() else None for part in text.split(":"))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: expected a half-open interval of pixels, such as 0:512") from error
    return slice(start, stop)


def indices(text: str) -> slice | list[int]:
    """
    Parse `3` or `0,2,5` as a list of indices, `0:10` or `0:10:2` as a slice.

    >>> indices("3"), indices("0:10:2")
    ([3], slice(0, 10, 2))
    """
    try:
        if ":" in text:
            return slice(*(int(part) if part.strip() else None for part in text.split(":")))
        return [int(part) for part in text.split(",")]
    except (ValueError, TypeError) as error:
        message = f"{text!r}: expected an index, several (0,2,5), or a half-open interval (0:10)"
        raise click.BadParameter(message) from error


def series(text: str) -> str | int:
    """
    Parse the number of an image of a file, or its name.

    >>> series("2"), series("label")
    (2, 'label')
    """
    return int(text) if text.isdecimal() else text


def size(text: str) -> float | tuple[int, int]:
    """
    Parse `y=360,x=640` as (height, width), `0.5` as a factor.

    >>> size("x=640,y=360"), size("0.5")
    ((360, 640), 0.5)
    """
    if "=" not in text:
        try:
            return float(text)
        except ValueError as error:
            raise click.BadParameter(f"{text!r}: expected a factor such as 0.5, or y=360,x=640") from error
    found = lengths(text)
    if sorted(found) != ["x", "y"]:
        raise click.BadParameter(f"{text!r}: expected both y and x, such as y=360,x=640")
    return found["y"], found["x"]


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print a `DamagedFileWarning` as one line, without the place in the code."""
    before = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, DamagedFileWarning):
            click.echo(f"Warning: {message}", err=True)
        else:
            before(message, category, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def tell_readers(store: str) -> None:
    """Print who reads the pixels of a store, to stderr, unless everyone does."""
    from ndzarr._pyramid.zarr_store import open_pyramid
    from ndzarr._store.codecs import ANYONE

    array: Any = open_pyramid(store).levels[0].array
    if array.codec.readers != ANYONE:
        click.echo(f"Note: {os.path.basename(store)} is read by {array.codec.readers}", err=True)


def tell_notes(name: str, metadata: Mapping[str, Any], told: Collection[str] = ()) -> None:
    """Print the notes of a source, such as that a mask is not read, to stderr, unless they are among `told`."""
    for note in metadata.get("notes", ()):
        if note not in told:
            click.echo(f"Note: {name}: {note}", err=True)
