"""Commands that tests run in processes of their own: their environment, and a disk that is nearly full."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import ndzarr

PACKAGE_ROOT = Path(ndzarr.__file__).parents[1]
"""The folder from which `ndzarr` is imported."""

TESTS_ROOT = Path(__file__).parents[1]
"""The folder from which `helpers` is imported."""


def environment(*first: Path, **variables: str) -> dict[str, str]:
    """The environment of a Python process that imports what this one does; `first` precede the rest of its path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*first, PACKAGE_ROOT, TESTS_ROOT])), **variables}


def run_on_small_disk(
    folder: Path, *command: str, options: str = "size=1m", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command for which a directory is a disk of one megabyte, in a mount namespace that ends with it."""
    folder.mkdir(exist_ok=True)
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    mounted = f'mount -t tmpfs -o {options} tmpfs "$0"; exec "$@"'
    try:
        subprocess.run([*alone, mounted, folder, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the system does not allow mounting a file system")
    return subprocess.run(
        [*alone, mounted, folder, *command], env=environment(), capture_output=True, text=True, timeout=timeout
    )
