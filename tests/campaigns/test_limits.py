"""
Processes that may open few files, or have little memory.

Everything ends with the right answer or with an error that says what to do; nothing hangs.  `NDZARR_AMOUNTS` sets how
many amounts of what is lacking are tried with each use.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.subprocesses import environment

AMOUNTS = os.environ.get("NDZARR_AMOUNTS")
SCRIPT = Path(__file__).with_name("limits.py")
USES = [] if AMOUNTS else ["read", "transcode"]
"""Those of the short form; none for all."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and limits")]


@pytest.mark.parametrize("lack", ["descriptors", "memory"] if AMOUNTS else ["memory"])
def test_what_lacks_something_ends_with_the_right_answer_or_says_what_to_do(lack, tmp_path):
    command = [sys.executable, str(SCRIPT), lack, AMOUNTS or "3", str(tmp_path), *USES]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=7200)
    assert done.returncode == 0, done.stderr
    faults = [line for line in map(json.loads, done.stdout.splitlines()) if "status" in line]
    assert not faults, "\n".join(map(str, faults[:5]))
