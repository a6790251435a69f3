"""
What a disk holds when the power goes.

The disk is an ext4 file system on a loop device; its backing file is copied without a sync.

Needs root and a loop device.  `NDZARR_POWER_CUTS` sets the copies that are made at random moments of each operation.
"""

import os
import random
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

from helpers.write_operations import OPERATIONS, found, prepare_inputs, run

CUTS = int(os.environ.get("NDZARR_POWER_CUTS", "1"))

pytestmark = pytest.mark.slow


def _command(*words):
    subprocess.run(list(map(str, words)), check=True, capture_output=True)


@contextmanager
def mounted(disk, folder):
    folder.mkdir(exist_ok=True)
    _command("mount", "-o", "loop", disk, folder)
    try:
        yield folder
    finally:
        _command("umount", "-l", folder)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    disk = folder / "disk"
    try:
        _command("truncate", "-s", "48M", disk)
        _command("mkfs.ext4", "-q", disk)
        with mounted(disk, folder / "try"):
            pass
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs root and a loop device")
    return disk


def after_power_loss(disk, name):
    """What is found on a copy of the disk as it is now."""
    copy = disk.with_name("copy")
    copy.unlink(missing_ok=True)  # a loop device of the last one may still be there, with its pages
    _command("cp", "--sparse=always", disk, copy)
    with mounted(copy, disk.with_name("copied")) as folder:
        return found(name, folder / "d")


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_was_written_survives_a_loss_of_power(name, disk, processes, tmp_path):
    prepare_inputs(tmp_path)
    moments = random.Random(name)
    with mounted(disk, disk.with_name("mounted")) as folder:
        shutil.rmtree(folder / "d", ignore_errors=True)
        (folder / "d").mkdir()
        _command("sync", "-f", folder)
        begun = time.monotonic()
        run(name, folder / "d", tmp_path, 1)
        assert 1 in after_power_loss(disk, name), "it was written, so it is there"
        longest = time.monotonic() - begun
        for number in range(CUTS):
            process = processes.Process(target=run, args=(name, folder / "d", tmp_path, 2 - number % 2))
            process.start()
            time.sleep(moments.uniform(0, 2 + longest))
            assert after_power_loss(disk, name), "the old one or the new one, whole"
            process.join()
            assert process.exitcode == 0
            assert 2 - number % 2 in after_power_loss(disk, name)
