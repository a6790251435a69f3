"""
The files that the sources of a command name, and the store of each.

1. A directory stands for the images in it, by suffix; a pattern for the files that it matches.
2. Stores are named after the files, in the subdirectories that the files have below the named directory.
3. Two files that would have one store keep their suffix in its name (`a.png.zarr`); if that does not tell them apart,
   nothing is written.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import click

from ndzarr._files import is_store
from ndzarr._formats.registry import IMAGE_SUFFIXES
from ndzarr._formats.sequence import natural
from ndzarr._remote.urls import is_url
from ndzarr.cli.batch import Job
from ndzarr.errors import MissingError, SourceError


def jobs(sources: Sequence[str], dest: str, recursive: bool) -> list[Job]:
    """
    Return the stores to write for files, directories and patterns.

    `dest` is the store if the only source is a file, and `dest` is neither a directory nor ends in a slash; else the
    directory of the stores.
    """
    found = list(dict.fromkeys(pair for source in sources for pair in _expand(source, recursive)))
    folder = dest.endswith(os.sep) or (os.path.isdir(dest) and not is_store(dest))
    if not folder and len(sources) == 1 and [source for source, _ in found] == list(sources):
        return [Job(found[0][0], place(dest), within=False)]
    if is_store(dest) or os.path.isfile(dest) or (dest.endswith(".zarr") and not folder):
        raise click.UsageError(
            f"{dest} is not a directory for several stores; choose one with -o, such as pyramids/ (--stack makes one "
            f"store of all)"
        )
    return _named(found, place(dest))


def stacked(sources: Sequence[str], dest: str, recursive: bool) -> Job:
    """Return the one store of many images, in the order of the sources, and within a directory or pattern by name."""
    files = [sorted((file for file, _ in _expand(source, recursive)), key=natural) for source in sources]
    return Job([file for some in files for file in some], place(dest), within=False)


def _expand(source: str, recursive: bool) -> Iterator[tuple[str, PurePath]]:
    """Yield (file, its path below what was named)."""
    if glob.has_magic(source) and not os.path.lexists(source):
        matches = sorted(glob.glob(os.path.expanduser(source), recursive=True))
        if not matches:
            hint = "Check its directory, and quote it if need be"
            raise MissingError(f"{source}: no file matches this pattern", path=source, hint=hint)
        for match in matches:
            yield from _expand(match, recursive)
    elif os.path.isdir(source) and not is_store(source):
        found = list(_images(source, recursive))
        if not found:
            hint = "Name its files one by one" if recursive else "--recursive searches its subdirectories"
            raise SourceError(f"{source}: no file in this directory has the suffix of an image", path=source, hint=hint)
        yield from ((os.path.join(source, path), PurePath(path)) for path in found)
    else:
        yield source, PurePath(os.path.basename(os.path.abspath(source)))


def _images(folder: str, recursive: bool) -> Iterator[str]:
    """Yield image files below a directory, by name, except hidden ones and what is in stores."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if recursive and not f.startswith(".") and not is_store(f"{place}/{f}"))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.relpath(os.path.join(place, name), folder)


def place(dest: str) -> Path | str:
    """Return a destination as a path, unless it is a URL."""
    return dest if is_url(dest) else Path(dest)


def _named(found: Sequence[tuple[str, PurePath]], folder: Path | str) -> list[Job]:
    """Return the stores for (file, path below the directory), no two alike even where case is ignored."""
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
                f"{other} and {source} would both become {within(folder, name)}; give the directory that holds both, "
                f"with --recursive, or transcode them into different directories"
            )
    return [Job(source, within(folder, name), within=True) for (source, _), name in zip(found, names, strict=True)]


def within(folder: Path | str, name: PurePath) -> Path | str:
    """Return the path or URL of something in a directory."""
    return folder / name if isinstance(folder, Path) else f"{folder.rstrip('/')}/{name.as_posix()}"
