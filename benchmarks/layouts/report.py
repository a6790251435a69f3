"""How do measurements become tables, and how do these get into a page of the documentation?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.layouts.codecs import installed

MARKER = "<!-- below: the output of python -m benchmarks.layouts -->"


class Report:
    """Prints as it goes, and keeps what it printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str = "") -> None:
        """Print one line or paragraph."""
        print(text, flush=True)
        self.lines.append(text)

    def table(self, title: str, head: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> None:
        """Print a Markdown table under a heading."""
        self.say(f"\n### {title}\n")
        if note:
            self.say(f"{note}\n")
        self.say("| " + " | ".join(head) + " |")
        self.say("| --- |" + " ---: |" * (len(head) - 1))
        for row in rows:
            self.say("| " + " | ".join(map(str, row)) + " |")


def environment(report: Report) -> None:
    """Say where this was measured."""
    packages = (
        "numpy",
        "numcodecs",
        "imagecodecs",
        "google-crc32c",
        "pcodec",
        "zstandard",
        "opencv-python-headless",
        "rasterio",
    )
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages if installed(name)]
    machine = f"{_processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    report.say(f"\nMeasured on {time.strftime('%Y-%m-%d')}: {machine}.")
    report.say(f"Python {platform.python_version()}, {', '.join(versions)}.")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write(path: Path, text: str) -> None:
    """Put ``text`` below the marker in the page at ``path``, keeping the prose above it."""
    prose = path.read_text().partition(MARKER)[0] if path.exists() else "# Layouts\n\n"
    path.write_text(f"{prose}{MARKER}\n\n## Measurements\n{text}\n")
