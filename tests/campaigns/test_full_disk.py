"""
Disks that are full, quotas that are used up and disks that fail, at every step of everything that ndzarr writes.

Nothing visible is left, what was there before is intact, and an error of ndzarr names the destination and says what to
do.  `NDZARR_AMOUNTS` sets how many amounts of what is lacking are tried with each operation, from none to enough ('all'
for every page, inode and system call).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.subprocesses import environment, run_on_small_disk
from helpers.write_operations import OPERATIONS, prepare_inputs

SHORT = "2"
AMOUNTS = os.environ.get("NDZARR_AMOUNTS", SHORT)
SCRIPT = Path(__file__).with_name("full_disk.py")
TIMEOUT = 7200

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    prepare_inputs(folder)
    return folder


def command(lack, inputs, folder):
    return [sys.executable, str(SCRIPT), lack, AMOUNTS, str(inputs), str(folder), *OPERATIONS]


def check(done):
    assert done.returncode == 0, done.stderr
    assert not done.stdout, "\n".join(str(json.loads(line)) for line in done.stdout.splitlines())


@pytest.mark.parametrize(("lack", "options"), [("pages", "size=24m"), ("inodes", "size=32m,nr_inodes=500")])
def test_a_disk_without_room_keeps_what_was_there_and_shows_nothing_else(lack, options, inputs, tmp_path):
    disk = tmp_path / "disk"
    check(run_on_small_disk(disk, *command(lack, inputs, disk), options=options, timeout=TIMEOUT))


@pytest.mark.skipif(AMOUNTS == SHORT, reason="a long run; set NDZARR_AMOUNTS")
@pytest.mark.parametrize("lack", ["file size", "quota", "disk"])
def test_system_calls_that_fail_keep_what_was_there_and_show_nothing_else(lack, inputs, tmp_path):
    if lack != "file size" and (
        shutil.which("strace") is None or run(["strace", "-qqo", os.devnull, "true"]).returncode
    ):
        pytest.skip("needs strace, and the permission to trace")
    check(run(command(lack, inputs, tmp_path)))


def run(command):
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT)
