"""
A process that writes, reads, loads and extracts for minutes keeps its memory, its open files and its maps.

`NDZARR_SOAK` sets the seconds; 240 is the long form.
"""

import gc
import os
import shutil
import statistics
import time
from pathlib import Path

import pytest

import ndzarr
from helpers.write_operations import SIDE, prepare_inputs

SECONDS = float(os.environ.get("NDZARR_SOAK", "1"))
LONG = 60
"""Seconds from which on memory is compared: the allocator takes a while to settle."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc"),
]


def taken():
    """Return (MB of memory, open descriptors, maps, threads) of this process."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    maps = Path("/proc/self/maps").read_text().count("\n")
    return int(status["VmRSS"].split()[0]) / 1024, len(os.listdir("/proc/self/fd")), maps, int(status["Threads"])


def use_everything(inputs, folder, turn):
    """Write, overwrite, read, load, extract and remove."""
    seed = 1 + turn % 2
    store, crops = folder / "a.zarr", folder / f"{turn}.zarr"
    made = ndzarr.transcode(inputs / f"{seed}.png", store, overwrite=True)
    made.read()
    ndzarr.open(store).window(y=slice(-10, SIDE), scale=0.3)
    ndzarr.export_cog(store, folder / "a.tif", overwrite=True)
    ndzarr.open(folder / "a.tif").read(level=1)
    ndzarr.open(inputs / f"{seed}.mp4").read()
    images = [
        {"id": k, "file_name": str(inputs / name), "width": SIDE, "height": SIDE}
        for k, name in enumerate((f"{seed}.png", f"{seed}.tif"))
    ]
    sampler = ndzarr.CocoSampler(
        {"images": images, "annotations": [], "categories": []}, workdir=folder / f"w{turn % 3}"
    )
    targets = [{"gid": k % 2, "cx": 100 + k, "cy": 150, "width": 64, "height": 64} for k in range(8)]
    sampler.load_batch(targets)
    sampler.load_sample(targets[0])
    sampler.extract(targets, crops, shard=4, workers=2)
    shutil.rmtree(crops)
    if turn % 3 == 2:
        shutil.rmtree(folder / f"w{turn % 3}")


def test_memory_descriptors_maps_and_threads_stay_flat(tmp_path):
    inputs, folder = tmp_path / "inputs", tmp_path / "work"
    inputs.mkdir()
    folder.mkdir()
    prepare_inputs(inputs)
    seen, begun, turn = [], time.monotonic(), 0
    while time.monotonic() - begun < SECONDS or turn < 6:
        use_everything(inputs, folder, turn)
        seen.append(taken())
        turn += 1
    quarter = max(2, len(seen) // 4)
    first, last = seen[quarter : 2 * quarter], seen[-quarter:]
    before, after = ([statistics.median(column) for column in zip(*part, strict=True)] for part in (first, last))
    most = [max(column) for column in zip(*seen, strict=True)]
    print(f"{turn} turns: MB, descriptors, maps, threads {before} -> {after}, most {most}")
    if SECONDS >= LONG:
        assert after[0] <= before[0] * 1.05 + 5
    assert after[1] <= before[1] + 70  # shards of replaced stores are closed when 64 others were opened
    assert after[2] <= before[2] + 30
    assert after[3] <= before[3] + 4
