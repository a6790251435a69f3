"""Which files does a person mean, and what is the store of each called?

1. Files are themselves; directories are the images in them, by suffix; patterns are what they match.
2. Stores are named after the files, in the subdirectories that the files have below what was named.
3. Two files that would have one store get their suffix into its name (`a.png.zarr`); if that does not tell them apart,
   nothing is written.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import click

from ndzarr._files import is_store
from ndzarr._formats.sequence import natural
from ndzarr.errors import MissingError, SourceError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".svs", ".scn", ".ndpi", ".bif", ".webp", ".bmp"),
    *(".gif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jxl", ".npy"),
    *(
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".m2ts",
        ".mts",
        ".flv",
        ".wmv",
        ".3gp",
        ".ogv",
    ),
    *(".mxf", ".y4m"),
)
"""What the images and videos in a directory are called; a file that is named is taken whatever it is called."""


@dataclass(frozen=True, slots=True)
class Job:
    """A store to be written."""

    source: str | list[str]
    """The file, as it was named; or files that become one store."""
    dest: Path
    """The store."""
    within: bool
    """True if it goes into a directory of stores, which is to be made."""


def jobs(sources: Sequence[str], dest: str, recursive: bool) -> list[Job]:
    """
    What is to be written where.

    Parameters
    ----------
    sources
        Files, directories and patterns.
    dest
        The store, if there is one source that is a file, and `dest` is neither a directory nor ends like one; else the
        directory of the stores.
    recursive
        Look into subdirectories of directories.

    Raises
    ------
    MissingError, SourceError
        A pattern matches nothing, or a directory holds no image.
    click.UsageError
        Two sources would have the same store, or `dest` cannot hold several.
    """
    found = list(dict.fromkeys(pair for source in sources for pair in _expand(source, recursive)))
    folder = dest.endswith(os.sep) or (os.path.isdir(dest) and not is_store(dest))
    if not folder and len(sources) == 1 and [source for source, _ in found] == list(sources):
        return [Job(found[0][0], Path(dest), within=False)]
    like_a_store = dest.endswith(".zarr") and not folder
    if is_store(dest) or os.path.isfile(dest) or like_a_store:
        raise click.UsageError(
            f"{dest} is no directory for several stores; choose one with -o, such as pyramids/ (--stack makes one "
            f"store of all)"
        )
    return _named(found, Path(dest))


def stacked(sources: Sequence[str], dest: str, recursive: bool) -> Job:
    """
    The one store of many images: in the order in which they are named, those of a directory or pattern by their names.

    Raises
    ------
    MissingError, SourceError
        A pattern matches nothing, or a directory holds no image.
    """
    files = [sorted((file for file, _ in _expand(source, recursive)), key=natural) for source in sources]
    return Job([file for some in files for file in some], Path(dest), within=False)


def _expand(source: str, recursive: bool) -> Iterator[tuple[str, PurePath]]:
    """(file, its path below what was named)."""
    if glob.has_magic(source) and not os.path.lexists(source):
        matches = sorted(glob.glob(os.path.expanduser(source), recursive=True))
        if not matches:
            raise MissingError(f"{source}: no file matches this pattern; check its directory, and quote it if need be")
        for match in matches:
            yield from _expand(match, recursive)
    elif os.path.isdir(source) and not is_store(source):
        empty = True
        for path in _images(source, recursive):
            empty = False
            yield os.path.join(source, path), PurePath(path)
        if empty:
            hint = "name its files one by one" if recursive else "--recursive looks into its subdirectories"
            raise SourceError(f"{source}: no file in this directory is called like an image; {hint}")
    else:
        yield source, PurePath(os.path.basename(os.path.abspath(source)))


def _images(folder: str, recursive: bool) -> Iterator[str]:
    """Image files below a directory, by name; neither hidden ones nor what lies in stores."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if recursive and not f.startswith(".") and not is_store(f"{place}/{f}"))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield os.path.relpath(os.path.join(place, name), folder)


def _named(found: Sequence[tuple[str, PurePath]], folder: Path) -> list[Job]:
    """Stores for (file, path below the directory), no two alike, not even where upper and lower case are."""
    short = [path.with_suffix(".zarr") for _, path in found]
    number = Counter(str(path).casefold() for path in short)
    names = [
        path if number[str(path).casefold()] == 1 else full.with_name(full.name + ".zarr")
        for path, (_, full) in zip(short, found, strict=True)
    ]
    taken: dict[str, str] = {}
    for (source, _), name in zip(found, names, strict=True):
        other = taken.setdefault(str(name).casefold(), source)
        if other != source:
            raise click.UsageError(
                f"{other} and {source} would both become {folder / name}; give the directory that holds both, with "
                f"--recursive, or transcode them into different directories"
            )
    return [Job(source, folder / name, within=True) for (source, _), name in zip(found, names, strict=True)]
