"""How do measurements become tables, and which targets do they meet?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

BEGIN = "<!-- peers: begin; written by python -m benchmarks.peers --out -->"
END = "<!-- peers: end -->"
PACKAGES = (
    "numpy", "numcodecs", "xarray", "zarr", "tensorstore", "rasterio", "ndsampler", "ngff-zarr", "ome-zarr",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One number with a target."""

    item: str
    """Its number in the list of targets."""
    what: str
    measured: float
    limit: float
    at_least: bool = False
    """True where more is better."""
    unit: str = "x"
    aim: bool = False
    """True where missing it is no failure."""

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table of targets."""
        bound = f"{'>=' if self.at_least else '<='} {self.limit:g}{self.unit}" + (" (aim)" if self.aim else "")
        verdict = "met" if self.met else "**not met**"
        return self.item, self.what, bound, f"{number(self.measured)}{self.unit}", verdict


@dataclass(frozen=True)
class Table:
    """Rows under a header."""

    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        cells = [self.header, *self.rows]
        widths = [max(len(row[k]) for row in cells) for k in range(len(self.header))]
        lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
        rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
        return "\n".join([lines[0], rule, *lines[1:]])


@dataclass(frozen=True)
class Section:
    """What one group of measurements found."""

    title: str
    table: Table
    lines: Sequence[Line] = ()
    notes: Sequence[str] = ()
    """Sentences: how it was measured, what was left out."""

    def __str__(self) -> str:
        return "\n\n".join([f"### {self.title}", *self.notes, str(self.table)])


@dataclass
class Report:
    """All sections of a run."""

    settings: str
    """What was asked for, for the reader."""
    sections: list[Section] = field(default_factory=list)
    machine: str = field(default_factory=lambda: machine())
    before: str = field(default_factory=lambda: load())
    started: float = field(default_factory=time.time)

    @property
    def lines(self) -> list[Line]:
        """All numbers with a target."""
        return [line for section in self.sections for line in section.lines]

    def targets(self) -> str:
        """The table of targets, and how many are met."""
        firm = [line for line in self.lines if not line.aim]
        count = f"{sum(line.met for line in firm)} of {len(firm)} targets are met."
        header = ("", "what", "target", "measured", "")
        return f"{count}\n\n{Table(header, [line.cells for line in self.lines])}"

    def markdown(self) -> str:
        """The whole report."""
        minutes = (time.time() - self.started) / 60
        day = time.strftime("%Y-%m-%d", time.gmtime(self.started))
        about = f"{day}, {self.machine}. {self.settings}. Before: {self.before}; after {minutes:.0f} minutes: {load()}."
        return "\n\n".join([about, "### Targets", self.targets(), *map(str, self.sections)])

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "machine": self.machine,
            "settings": self.settings,
            "before": self.before,
            "lines": [{**asdict(line), "met": line.met} for line in self.lines],
            "sections": [asdict(section) for section in self.sections],
        }


def insert(page: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the markers of a page; append both where there are none."""
    old = page.read_text() if page.exists() else ""
    if begin not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n".lstrip()
    head, _, rest = old.partition(begin)
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def milliseconds(seconds: float) -> str:
    """A time of a crop."""
    return f"{seconds * 1e3:.3f}" if seconds < 0.01 else f"{seconds * 1e3:.1f}"


def machine() -> str:
    """Processor, system and versions."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = [f"{p} {v}" for p in PACKAGES if (v := _version(p))]
    return f"{os.cpu_count()} x {name}, Python {platform.python_version()}, {', '.join(versions)}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def load() -> str:
    """How busy the machine is, and what a second thread brings."""
    return f"load {os.getloadavg()[0]:.1f}, two threads do {_two_threads():.2f} times the work of one"


def _two_threads() -> float:
    """Speed-up of work in C that needs no lock and little memory: the best that two threads can do at this moment."""
    data = bytes(64 << 10)

    def work() -> None:
        for _ in range(3000):
            zlib.crc32(data)

    def timed(threads: int) -> float:
        group = [threading.Thread(target=work) for _ in range(threads)]
        start = time.perf_counter()
        for t in group:
            t.start()
        for t in group:
            t.join()
        return time.perf_counter() - start

    one, two = (sorted(timed(n) for _ in range(5))[2] for n in (1, 2))
    return 2 * one / two
