"""
Children that are killed, however they were started, and processes that race.

The others never hang and never see wrong pixels; an error says what to do, and the same call goes on from there.
`NDZARR_ROUNDS` sets how often each kind is tried, with all ways to start processes and four racers; `NDZARR_SEED` sets
the moments.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.subprocesses import environment

ROUNDS = os.environ.get("NDZARR_ROUNDS")
SEED = os.environ.get("NDZARR_SEED", "0")
SCRIPT = Path(__file__).with_name("processes.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for children in /proc"),
]


def run(kind, how, folder, *operations):
    command = [sys.executable, str(SCRIPT), kind, how, ROUNDS or "1", SEED, str(folder), *operations]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=7200)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"] if ROUNDS else ["fork"])
def test_a_killed_child_neither_stops_nor_misleads_the_others(method, tmp_path):
    run("kill", method, tmp_path)


@pytest.mark.parametrize("number", ["2", "4"] if ROUNDS else ["2"])
def test_processes_that_write_and_read_the_same_see_the_pixels_of_one_of_them(number, tmp_path):
    run("race", number, tmp_path, *([] if ROUNDS else ["transcode", "cache"]))
