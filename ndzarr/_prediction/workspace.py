"""
Workspaces: hidden directories of what was added to a result, which outlive a killed process.

Each process appends to files of its own, so that nothing is locked and a killed process loses at most the record that
it was writing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Any

from ndzarr._files import cache_root, explained, explained_parent, replacing, trying
from ndzarr._store.destinations import Dest, shown_name
from ndzarr.errors import ExistsError

RECORDS = ".records"
"""How the names of files of records end."""
_ABOUT = "about.json"


class Workspace:
    """
    The directory of a destination, which one process holds at a time: the same for all runs on this machine.

    Raises `ExistsError` if another process holds it, or if it has what was added for another result.
    """

    def __init__(self, dest: Dest, about: Mapping[str, Any], resume: bool) -> None:
        """`about` is what runs have in common that may go on with one another, as JSON; `resume` False clears it."""
        self.path = _folder(dest)
        with explained_parent(dest if isinstance(dest, Path) else self.path):
            self.path.mkdir(mode=0o700, exist_ok=True)
        self._held = ExitStack()
        if not self._held.enter_context(trying(self.path.with_name(self.path.name + ".lock"))):
            name = shown_name(dest)
            hint = "Wait for it, or choose another destination"
            raise ExistsError(f"{name}: another process is stitching it", path=name, hint=hint)
        try:
            self._begin(dict(about), resume)
        except BaseException:
            self.release()
            raise

    def _begin(self, about: dict[str, Any], resume: bool) -> None:
        stated = self.path / _ABOUT
        if resume and stated.is_file():
            earlier = json.loads(stated.read_text("utf-8"))
            other = [key for key in {**about, **earlier} if earlier.get(key) != about.get(key)]
            if other:
                what = f"{self.path}: holds windows that were added with another {', '.join(other)}"
                hint = "Pass resume=False to remove them, or choose another destination"
                raise ExistsError(what, path=str(self.path), key=other[0], hint=hint)
            return
        with explained(self.path):
            shutil.rmtree(self.path)
            self.path.mkdir(mode=0o700, exist_ok=True)
            with replacing(stated) as file:
                file.write_text(json.dumps(about), "utf-8")

    def remove(self) -> None:
        """Remove it, with all that was added."""
        shutil.rmtree(self.path)

    def release(self) -> None:
        """Let another process have it; remove it if nothing was added."""
        if not any(path.stat().st_size for path in self.path.glob(f"*{RECORDS}")):
            shutil.rmtree(self.path, ignore_errors=True)
        self._held.close()


def _folder(dest: Dest) -> Path:
    if isinstance(dest, Path):
        return dest.with_name(f".{dest.name}.stitch")
    folder = cache_root() / "stitching"
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(dest.url.encode()).hexdigest()[:16]
    return folder / f".{dest.name}-{digest}.stitch"


class RecordFile:
    """
    A file of this process in a workspace, to which records are appended from any thread.

    It is closed after each record, so that processes on other machines see it, too.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}{RECORDS}"
        self.pid = os.getpid()
        self._lock = Lock()

    def append(self, *pieces: bytes | memoryview) -> int:
        """Append a record, whole or not at all; return where it begins."""
        with self._lock, explained(self.path, "what was added before is kept"), open(self.path, "ab", 0) as file:
            start = file.tell()
            try:
                for piece in pieces:
                    left = memoryview(piece).cast("B")
                    while left:
                        left = left[file.write(left) :]
            except BaseException:  # also an interrupt: what follows half a record could not be read
                file.truncate(start)
                raise
            return start
