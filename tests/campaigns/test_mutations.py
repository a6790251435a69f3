"""
Files of strangers end in one of ndzarr's errors, or in a right answer, within limits of memory and time.

`NDZARR_MUTATIONS=20000 pytest tests/campaigns/test_mutations.py` is the long form; the seeds are the same.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NUMBER = int(os.environ.get("NDZARR_MUTATIONS", "200"))
"""Changes to try, of all kinds together."""
KINDS = ("store", "shard", "coco", "image")
BATCH = 500
"""Changes that one process tries."""
SCRIPT = Path(__file__).with_name("mutations.py")


def faults_of(kind, first, last, folder):
    """Run a range of seeds; return (seed, change, fault) of those that were neither refused nor right."""
    found = []
    while first < last:
        folder.mkdir(parents=True)
        command = [sys.executable, str(SCRIPT), kind, str(first), str(last), str(folder)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60 + 10 * (last - first))
        lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        ends = {line["end"]: line for line in lines if "end" in line}
        found += [(seed, line["change"], line["fault"]) for seed, line in ends.items() if line["fault"]]
        done = first + len(ends)
        if done < last:
            assert any(line.get("begin") == done for line in lines), run.stderr
            found.append((done, [], f"the process ended with {run.returncode}: {run.stderr[-300:]}"))
        first, folder = done + 1, folder.with_name(f"{folder.name}x")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_changed_files_are_refused_by_name_or_read_right(kind, tmp_path):
    number = NUMBER // len(KINDS)
    faults = []
    for first in range(0, number, BATCH):
        faults += faults_of(kind, first, min(number, first + BATCH), tmp_path / f"{first}" / "a")
    assert not faults, "\n".join(map(str, faults[:20]))
