"""
Processes are killed at random moments of everything that ndzarr writes.

What is at the destination afterwards is whole, the old thing or the new one, and never absent once it was there; the
next run removes what was left.  `NDZARR_KILLS` sets the kills of each operation, `NDZARR_SEED` their moments.
"""

import os
import random
import time

import pytest

from helpers.write_operations import OPERATIONS, found, prepare_inputs, run

KILLS = int(os.environ.get("NDZARR_KILLS", "1"))
NAMES = [name for name in OPERATIONS if KILLS > 1 or name not in ("crop to TIFF", "crop to PNG", "cog of alpha")]
"""The short form leaves out what is much like another."""
SEED = int(os.environ.get("NDZARR_SEED", "0"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    prepare_inputs(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_any_moment_loses_nothing_and_leaves_nothing_for_the_next_run(name, inputs, processes, tmp_path):
    moments = random.Random(f"{SEED} {name}")
    for first in (True, False):  # of the first write, and of overwriting
        begun = time.monotonic()
        if not first:
            start(processes, name, tmp_path, inputs, 1).join()
            assert found(name, tmp_path) >= {1}
        longest = max(0.3, time.monotonic() - begun)
        for _ in range(KILLS):
            process = start(processes, name, tmp_path, inputs, 2)
            time.sleep(moments.uniform(0, longest))
            process.kill()
            process.join()
            there = found(name, tmp_path)
            assert first or there
            if not first and 1 not in there:
                start(processes, name, tmp_path, inputs, 1).join()
    for seed in (1, 2):
        process = start(processes, name, tmp_path, inputs, seed)
        process.join()
        assert process.exitcode == 0
        assert seed in found(name, tmp_path)
    hidden = [path for path in tmp_path.rglob(".*") if path.name != ".zattrs"]
    assert hidden == []


def start(processes, name, folder, inputs, seed):
    process = processes.Process(target=run, args=(name, folder, inputs, seed))
    process.start()
    return process
