"""
Everything that ndzarr does, in a process that may open few files or has little memory.

    python tests/campaigns/limits.py LACK AMOUNTS FOLDER USE...

Each use is tried with no more descriptors or megabytes than it has when it begins, then with more and more of them, at
AMOUNTS steps until it succeeds.  It has to end with the right answer, or with an error that says what to do, and in
time.  Prints a line of JSON for each fault.
"""

import contextlib
import faulthandler
import io
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

import ndzarr
from helpers.video_clips import encode
from ndzarr._files import DESCRIPTORS
from ndzarr._store.sharding import SHARDS
from ndzarr.cli import main as command
from ndzarr.errors import NdzarrError

SECONDS = 30
FILES = 12
SIZE = 300
TARGETS = [{"gid": g, "cx": 150, "cy": 150, "width": 200, "height": 200} for g in range(1, FILES + 1)] * 2


def pixels(seed, shape=(SIZE, SIZE, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, "u1")


def prepare_inputs(folder):
    """Images of three formats, of which one is read in place, a store of many shards and a video."""
    images = []
    for k in range(FILES):
        name = str(folder / f"{k}.{('png', 'tif', 'npy')[k % 3]}")
        if k % 3 == 0:
            Image.fromarray(pixels(k)).save(name)
        elif k % 3 == 1:
            tifffile.imwrite(name, pixels(k), tile=(64, 64), compression="zlib", photometric="rgb")
        else:
            np.save(name, pixels(k))
        images.append({"id": k + 1, "file_name": name, "width": SIZE, "height": SIZE})
    dataset = {"images": images, "annotations": [], "categories": []}
    (folder / "data.kwcoco.json").write_text(json.dumps(dataset))
    ndzarr.CocoSampler(folder / "data.kwcoco.json", folder / "workdir").prepare()
    ndzarr.transcode(pixels(0), folder / "a.zarr", chunks={"y": 64, "x": 64}, overwrite=True)
    encode(folder / "a.mp4", n=4)


def sampler(folder, workdir=None):
    return ndzarr.CocoSampler(folder / "data.kwcoco.json", workdir or folder / "workdir")


def right(image, seed):
    assert np.array_equal(np.moveaxis(np.asarray(image), -3, -1), pixels(seed)[50:250, 50:250]), "wrong pixels"


def read(folder, own):
    assert np.array_equal(np.moveaxis(ndzarr.open(folder / "a.zarr").read(), 0, -1), pixels(0)), "wrong pixels"
    assert ndzarr.verify(folder / "a.zarr").ok


def sample(folder, own):
    made = sampler(folder)
    for target in TARGETS:
        right(made.load_sample(target).image, target["gid"] - 1)


def batch(folder, own):
    image = sampler(folder).load_batch(TARGETS).image
    for k, target in enumerate(TARGETS):
        right(image[k], target["gid"] - 1)


def transcode(folder, own):
    for k in range(3):
        source = next(folder.glob(f"{k}.*"))
        made = ndzarr.transcode(source, own / f"{k}.zarr")
        assert np.array_equal(np.moveaxis(made.read(), 0, -1), pixels(k)), "wrong pixels"


def cog(folder, own):
    ndzarr.export_cog(folder / "a.zarr", own / "a.tif")
    assert np.array_equal(tifffile.imread(own / "a.tif"), pixels(0)), "wrong pixels"


def crop(folder, own):
    with contextlib.redirect_stdout(io.StringIO()):
        command(["crop", str(folder / "a.zarr"), "-o", str(own / "a.png")], standalone_mode=False)
    assert np.array_equal(np.array(Image.open(own / "a.png")), pixels(0)), "wrong pixels"


def prepare(folder, own):
    made = sampler(folder, own)
    made.prepare()
    right(made.load_sample(TARGETS[0]).image, 0)


def video(folder, own):
    os.environ["NDZARR_CACHE"] = str(own)
    assert ndzarr.open(folder / "a.mp4").read().shape[0] == 4


def extract(scheduler, folder, own):
    path = sampler(folder).extract(TARGETS, own / "crops.zarr", shard=4, scheduler=scheduler, workers=2)
    import xarray

    image = xarray.open_zarr(path, chunks=None).image.values
    for k, target in enumerate(TARGETS):
        right(image[k], target["gid"] - 1)


def extract_threads(folder, own):
    extract("threads", folder, own)


def extract_processes(folder, own):
    extract("processes", folder, own)


def loader(folder, own):
    from ndzarr.torch import CropDataset
    from ndzarr.torch import loader as load

    seen = [load(CropDataset(sampler(folder), TARGETS), 4, workers=2, shuffle=False, persistent_workers=False)]
    for found in seen[0]:
        for k, image in zip(found["index"].tolist(), found["image"].numpy(), strict=True):
            right(image, TARGETS[k]["gid"] - 1)


USES = {f.__name__: f for f in (
    read, sample, batch, transcode, cog, crop, prepare, video, extract_threads, extract_processes, loader
)}  # fmt: skip


def descriptors(count):
    """Let this process open so many files more; those that it keeps open are closed."""
    SHARDS.clear()
    DESCRIPTORS.clear()
    taken = {int(name) for name in os.listdir("/proc/self/fd")}
    limit = next(limit for limit in range(1000) if sum(fd not in taken for fd in range(limit)) == count + 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def memory(count):
    """Let this process take so many megabytes more."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (count << 20),) * 2)


LACKS = {"descriptors": (descriptors, 60), "memory": (memory, 100)}


def attempt(use, folder, own, lack, count):
    """Try a use in this forked process, and end it: with 0 if the answer was right, 3 if an error said what to do."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    code = 1
    try:
        lack(count)
        USES[use](folder, own)
        code = 0
    except (NdzarrError, MemoryError) as error:
        code = 3
        if isinstance(error, NdzarrError) and error.hint is None and not isinstance(error, MemoryError):
            code = 4
            print("no hint:", error)
    except BaseException as error:
        if isinstance(error.__cause__, (NdzarrError, MemoryError)):  # click's
            code = 3
        else:
            traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def outcome(use, folder, lack, count):
    """Return (exit status, last lines of what it said) of a use in a forked process."""
    own = Path(tempfile.mkdtemp(dir=folder))
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if not pid:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            attempt(use, folder, own, lack, count)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()
    shutil.rmtree(own, ignore_errors=True)
    return status, lines


def main(name, amounts, folder, *uses):
    warnings.simplefilter("ignore")
    folder = Path(folder)
    multiprocessing.set_start_method("fork")
    lack, most = LACKS[name]
    prepare_inputs(folder)
    for use in uses or USES:
        own = Path(tempfile.mkdtemp(dir=folder))
        USES[use](folder, own)  # everything is imported before it lacks anything
        shutil.rmtree(own)
        fine = 0
        for count in range(0, most, 1 if amounts == "all" else max(1, most // int(amounts))):
            status, lines = outcome(use, folder, lack, count)
            if status not in (0, 3):
                print(json.dumps({"use": use, "count": count, "status": status, "said": lines[-40:]}), flush=True)
            fine = fine + 1 if status == 0 else 0
            if fine == 3:
                break
        print(json.dumps({"use": use, "succeeds": count}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
