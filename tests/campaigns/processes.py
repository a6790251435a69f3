"""
Processes that are killed, and processes that race, while others do the same work.

    python tests/campaigns/processes.py kill METHOD TIMES SEED FOLDER
    python tests/campaigns/processes.py race NUMBER TIMES SEED FOLDER

`kill` starts children by METHOD (fork, spawn, forkserver) and kills one of them at a random moment.  `race` lets NUMBER
processes write and read the same destinations.  A process that hangs, or sees anything but the pixels of one of the
writers or an error of ndzarr, ends with a traceback.
"""

import contextlib
import faulthandler
import io
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import xarray

import ndzarr
from helpers.write_operations import OPERATIONS, SIDE, found, pixels, prepare_inputs, run
from ndzarr.errors import NdzarrError

SECONDS = 600
"""Most that a round may take."""
TARGETS = [{"gid": 1, "cx": x, "cy": 150, "width": 64, "height": 64} for x in range(50, 250, 10)]


def sampler(inputs, workdir):
    image = {"id": 1, "file_name": str(inputs / "1.png"), "width": SIDE, "height": SIDE}
    return ndzarr.CocoSampler({"images": [image], "annotations": [], "categories": []}, workdir=workdir)


def right(images):
    expected = np.stack([pixels(1)[118:182, target["cx"] - 32 : target["cx"] + 32] for target in TARGETS])
    assert np.array_equal(np.asarray(images)[:, 0], expected), "wrong pixels"


def read(inputs, folder):
    for _ in range(20):
        right(sampler(inputs, folder / "workdir").load_batch(TARGETS).image)


def prepare(inputs, folder):
    sampler(inputs, folder / "workdir").prepare()


def children():
    """Processes that this one, or a server of its children, has started."""
    found, todo = [], [os.getpid()]
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                new = [int(word) for word in (task / "children").read_text().split()]
                found += new
                todo += new
    return found


def kill_a_worker(moment, names=(b"spawn_main", b"forkserver", b"processes.py")):
    """Kill one process that works for this one, after a while."""
    time.sleep(moment)
    workers = []
    for pid in children():
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"resource_tracker" not in line and any(name in line for name in names):
                workers.append(pid)
    if workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers[-1], signal.SIGKILL)  # the youngest: a server is older than its workers


def kill_processes(method, moments, inputs, folder):
    """Kill one of two processes that read and prepare; the other one and this one go on."""
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["helpers.write_operations"])
    for work in (read, prepare):
        both = [context.Process(target=work, args=(inputs, folder)) for _ in range(2)]
        for process in both:
            process.start()
        time.sleep(moments.uniform(0, 2.5 if method == "spawn" else 0.5))
        both[0].kill()
        work(inputs, folder)
        for process in both:
            process.join()
        assert both[1].exitcode == 0, both[1].exitcode
        if work is prepare:
            shutil.rmtree(folder / "workdir")


def kill_workers(method, moments, inputs, folder):
    """Kill a worker of an extraction and of a loader; running it again goes on from there."""
    multiprocessing.set_start_method(method, force=True)
    made = sampler(inputs, folder / "workdir")
    dest = folder / "crops.zarr"
    for use in (extract, load):
        shutil.rmtree(dest, ignore_errors=True)
        killer = threading.Thread(target=kill_a_worker, args=(moments.uniform(0, 4 if method == "spawn" else 1),))
        killer.start()
        hint = ""
        try:
            use(made, dest, method)
        except NdzarrError as error:
            hint = error.hint
        assert hint is not None
        killer.join()
        use(made, dest, method)


def extract(made, dest, method):
    if not dest.exists():
        made.extract(TARGETS, dest, shard=2, scheduler="processes", workers=2)
    with xarray.open_zarr(dest, chunks=None) as stored:
        right(stored.image.values)


def load(made, dest, method):
    try:
        from ndzarr.torch import CropDataset, loader
    except ImportError:
        return
    batches = loader(CropDataset(made, TARGETS), 2, workers=2, shuffle=False, start_method=method)
    right(np.concatenate([batch["image"].numpy() for batch in batches]))


def kill(method, times, seed, folder):
    inputs = folder / "inputs"
    inputs.mkdir()
    prepare_inputs(inputs)
    moments = random.Random(f"{seed} {method}")
    for _ in range(times):
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        for kind in (kill_processes, kill_workers):
            place = folder / kind.__name__
            place.mkdir()
            kind(method, moments, inputs, place)
            shutil.rmtree(place)
    faulthandler.cancel_dump_traceback_later()


RACED = [name for name in OPERATIONS if name not in ("crop to TIFF", "crop to PNG", "toy")]
"""Toy data are a file and pictures, which no reader sees at one moment."""


def racer(name, number, times, seed, inputs, folder):
    """Write and read what others write and read, too."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    choice = random.Random(f"{seed} {name} {number}")
    for _ in range(times):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(NdzarrError):
            run(name, folder, inputs, choice.choice((1, 2)))
        try:
            found(name, folder)
        except (NdzarrError, FileNotFoundError, KeyError, ValueError) as error:
            # Other libraries read several files of what is replaced meanwhile; pixels are compared with assertions.
            if name in ("transcode", "cache", "levels") and not isinstance(error, NdzarrError):
                raise


def race(number, times, seed, folder, *names):
    inputs = folder / "inputs"
    inputs.mkdir()
    prepare_inputs(inputs)
    for name in names or RACED:
        place = folder / "raced"
        place.mkdir()
        all_of_them = [
            multiprocessing.get_context("fork").Process(target=racer, args=(name, k, times, seed, inputs, place))
            for k in range(int(number))
        ]
        for process in all_of_them:
            process.start()
        for process in all_of_them:
            process.join()
        assert [process.exitcode for process in all_of_them] == [0] * int(number), name
        with contextlib.redirect_stdout(io.StringIO()):
            run(name, place, inputs, 1)
        assert 1 in found(name, place), name
        hidden = [path for path in place.rglob(".*") if path.name != ".zattrs"]
        assert not hidden, (name, hidden)
        shutil.rmtree(place)


if __name__ == "__main__":
    campaign, how, times, seed, folder, *names = sys.argv[1:]
    {"kill": kill, "race": race}[campaign](how, int(times), seed, Path(folder), *names)
