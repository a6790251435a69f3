"""
Everything that ndzarr writes, on a disk that has too little of something: pages, inodes, or room for a large file.

    python tests/campaigns/full_disk.py LACK SIZES INPUTS FOLDER OPERATION...

FOLDER is a small file system of its own (any directory for the size of files).  Each operation is tried with nothing
of what is lacking, then with more and more of it, until it succeeds; at SIZES amounts at most ('all': one by one).
Prints a line of JSON for each fault.
"""

import contextlib
import ctypes
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from functools import partial
from pathlib import Path

import click

from helpers.write_operations import found, run
from ndzarr.errors import NdzarrError

PAGE = 4096
CACHES = ("cache", "levels", "index", "extract")
"""Operations that make a directory of stores, which stays; each store is looked at by `found`."""


class Pages:
    """Fills the disk but for so many pages."""

    def __init__(self, folder):
        self.filler = folder / "filler"
        self.folder = folder

    def leave(self, count):
        with open(self.filler, "wb") as file:
            free = os.statvfs(self.folder)
            room = free.f_bavail * free.f_frsize - count * PAGE
            if room > 0:
                os.posix_fallocate(file.fileno(), 0, room)

    def restore(self):
        self.filler.unlink()


class Inodes(Pages):
    """Takes all inodes but for so many."""

    def leave(self, count):
        self.filler.mkdir()
        for number in range(os.statvfs(self.folder).f_favail - count):
            (self.filler / str(number)).touch()

    def restore(self):
        shutil.rmtree(self.filler)


class FileSize:
    """Lets no file grow beyond so many pages, as `ulimit -f` does."""

    def __init__(self, folder):
        import resource

        self.limit = lambda value: resource.setrlimit(resource.RLIMIT_FSIZE, (value, resource.RLIM_INFINITY))

    def leave(self, count):
        self.limit(count * PAGE)

    def restore(self):
        self.limit(-1)


class Fault:
    """Lets the system calls that write fail from a number on, as a quota or a broken disk does."""

    def __init__(self, folder, error, calls, ever):
        self.inject = f"inject={calls}:error={error}:when="
        self.ever = ever

    def leave(self, count):
        prctl = getattr(ctypes.CDLL(None), "prctl", None)
        if prctl is not None:
            prctl(PR_SET_PTRACER, ctypes.c_ulong(-1))
        # What it traces must not go through a pipe: this process would stop before it could read that.
        command = [
            "strace",
            "-f",
            "-o",
            os.devnull,
            "-e",
            "signal=none",
            "-e",
            f"{self.inject}{count + 1}{self.ever}",
            "-p",
            str(os.getpid()),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while "attached" not in (line := self.process.stderr.readline()):
            assert line, "strace does not start"
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def restore(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


PR_SET_PTRACER = 0x59616D61
WRITES = "write,pwrite64,writev,?mkdir,mkdirat,ftruncate,fallocate"
FLUSHES = "fsync,fdatasync,syncfs,?rename,renameat,renameat2"
LACKS = {
    "quota": partial(Fault, error="EDQUOT", calls=WRITES, ever="+"),
    "disk": partial(Fault, error="EIO", calls=f"{WRITES},{FLUSHES}", ever=""),
    "pages": Pages,
    "inodes": Inodes,
    "file size": FileSize,
}
MOST = {"quota": 100, "disk": 100, "pages": 400, "inodes": 120, "file size": 100}
"""Amounts with which every operation succeeds."""


def names(folder):
    """Visible files and directories, without what a cache makes when it begins; and hidden ones of finished runs."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    hidden = {name for name in found if any(part.startswith(".") for part in Path(name).parts)}
    return found - hidden, hidden


def write(name, folder, inputs, seed):
    with contextlib.redirect_stdout(io.StringIO()):
        run(name, folder, inputs, seed)


def attempt(name, folder, inputs, lack, count, old):
    """Try an operation with so much; return True if it succeeded, raise if anything is wrong."""
    visible, _ = names(folder)
    lack.leave(count)
    try:
        write(name, folder, inputs, 2)
        done = True
    except (NdzarrError, click.ClickException) as error:
        problem = error if isinstance(error, NdzarrError) else error.__cause__
        done = False
    finally:
        lack.restore()
    now, hidden = names(folder)
    if done:
        assert not hidden, hidden
        # An index is made again by whoever needs it.
        return 2 in found(name, folder) or name != "index"
    assert problem.path is not None, f"no path: {problem}"
    assert problem.hint is not None, f"no hint: {problem}"
    there = found(name, folder)
    if isinstance(lack, Fault) and (there == {2} or (name == "toy" and not there)):
        return False  # flushing the directory failed once the new one was there, or pictures could not be swapped
    assert there == old or there == old | {2}, f"{there} is there, not {old}"
    assert not hidden or name == "extract", hidden  # what is finished of an extraction is kept
    assert now == visible or name in CACHES, now ^ visible
    return False


def campaign(name, folder, inputs, lack, sizes, most, overwrite):
    old = set()
    count = 0
    step = 1 if sizes == "all" else max(1, -(-most // int(sizes)))
    while True:
        if overwrite and old != {1}:
            write(name, folder, inputs, 1)
            old = {1}
        if attempt(name, folder, inputs, lack, count, old):
            return
        count += step
        assert count <= 2 * most, f"still fails with {count}"


def main(lack, sizes, inputs, folder, *operations):
    for name in operations:
        for overwrite in (False, True):
            place = Path(folder, "d")
            place.mkdir()
            made = LACKS[lack](Path(folder))
            try:
                campaign(name, place, Path(inputs), made, sizes, MOST[lack], overwrite)
            except BaseException as error:  # whatever it is, it is a finding
                where = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)][-5:]
                what = f"{type(error).__name__}: {str(error)[:300]} at {' '.join(where)}"
                print(json.dumps({"operation": name, "overwrite": overwrite, "fault": what}), flush=True)
            shutil.rmtree(place)


if __name__ == "__main__":
    main(*sys.argv[1:])
