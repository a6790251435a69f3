"""Timing, tables, command lines and child processes that all benchmarks share.

How functions are compared on a machine where other programs run, too (`race`):

1. They take turns, each once per step and in random order, so that a disturbance hits all of them alike.
2. At step i, function k of K does job i + k*n/K (of n). All do the same jobs, but none does the job that another has
   just done, whose bytes would still be in the processor's cache.
3. In a *burst*, each function does several jobs in a row and finds its own code and data in the caches, as in a loop
   that does nothing else.
4. A job's time is its median over the rounds. Ratios and differences are taken job by job; their median counts.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import ndzarr

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "numpy", "numcodecs", "imagecodecs", "xarray", "zarr", "tensorstore", "rasterio", "ndsampler", "ngff-zarr",
    "ome-zarr", "torch",
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- timing


@dataclass(frozen=True)
class Race:
    """The times of all jobs of several contestants."""

    names: tuple[str, ...]
    seconds: np.ndarray[Any, Any]
    """(contestant, round, job)."""

    def jobs(self, name: str) -> np.ndarray[Any, Any]:
        """Seconds of each job, the median over rounds."""
        return np.median(self.seconds[self.names.index(name)], axis=0)  # type: ignore[no-any-return]

    def median(self, name: str) -> float:
        """Seconds of the typical job."""
        return float(np.median(self.jobs(name)))

    def slow(self, name: str) -> float:
        """Seconds that 95 of 100 runs stay below."""
        return float(np.percentile(self.seconds[self.names.index(name)], 95))

    def ratio(self, name: str, base: str) -> float:
        """How many times as long as `base` a contestant takes."""
        return float(np.median(self.jobs(name) / self.jobs(base)))

    def difference(self, name: str, base: str) -> float:
        """Seconds that a contestant takes beyond `base`."""
        return float(np.median(self.jobs(name) - self.jobs(base)))


def race(
    contestants: Mapping[str, Callable[[int], Any]],
    jobs: int,
    rounds: int = 3,
    burst: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Race:
    """Let functions of a job's number take turns, `burst` jobs at a time, after each did every job once, untimed."""
    runners = list(contestants.values())
    for runner in runners:
        for i in range(jobs):
            runner(i)
    seconds = np.empty((len(runners), rounds, jobs))
    shift = max(1, jobs // len(runners))
    order, rng = list(range(len(runners))), random.Random(0)
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            for i in range(0, jobs, burst):
                rng.shuffle(order)
                for k in order:
                    runner = runners[k]
                    for j in range(i, min(i + burst, jobs)):
                        job = (j + k * shift) % jobs
                        start = clock()
                        runner(job)
                        seconds[k, turn, job] = clock() - start
            gc.collect()
    finally:
        if enabled:
            gc.enable()
    return Race(tuple(contestants), seconds)


def timed(work: Callable[[], Any], repeat: int = 1) -> float:
    """Median seconds of some calls."""
    spent = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return median(spent)


# ---------------------------------------------------------------------------------------------------- child processes


def fresh(code: str) -> Any:
    """Return what the last line that `code` prints says in JSON, run in a new interpreter.

    Raises
    ------
    ImportError
        A package is missing there.
    """
    # asv installs ndzarr in environments of its own: the child takes ndzarr from where this process has it.
    paths = [str(Path(str(ndzarr.__file__)).parents[1]), str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [""]
        if "ModuleNotFoundError" in last[0] or "ImportError" in last[0]:
            raise ImportError(last[0].partition(": ")[2])
        raise RuntimeError(f"{code}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None


def status(name: str) -> float:
    """MiB in a field of Linux's /proc/self/status: 'VmHWM' (peak resident), 'RssAnon' (now, without mapped files).

    `VmHWM` is of this process alone; `ru_maxrss` of a child starts at the size of its parent.
    """
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(name)).split()[1]) / 1024


def spend(job: Callable[[], Any]) -> dict[str, float]:
    """Seconds of a job, and MiB: `peak` beyond what the process took before, `resident` and `anonymous` at most."""
    before, anonymous, over = status("VmHWM"), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            anonymous.append(status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    seconds = timed(job)
    over.set()
    watcher.join()
    resident = status("VmHWM")
    return {"seconds": seconds, "peak": resident - before, "resident": resident, "anonymous": max(anonymous)}


# ------------------------------------------------------------------------------------------------------------- reports


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
    """True where missing it is not a failure."""

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table of targets."""
        bound = f"{'>=' if self.at_least else '<='} {self.limit:g}{self.unit}" + (" (aim)" if self.aim else "")
        return self.item, self.what, bound, f"{number(self.measured)}{self.unit}", "met" if self.met else "**not met**"


@dataclass(frozen=True)
class Table:
    """Rows under a header, as Markdown."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        cells = [self.header, *self.rows]
        widths = [max(len(row[k]) for row in cells) for k in range(len(self.header))]
        lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
        return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


@dataclass(frozen=True)
class Section:
    """What one group of measurements found."""

    title: str
    table: Table
    lines: Sequence[Line] = ()
    notes: Sequence[str] = ()
    """Paragraphs above the table: how it was measured, what was left out."""

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

    def add(self, section: Section) -> None:
        """Print a section as soon as it is measured."""
        self.sections.append(section)
        print(section, end="\n\n", flush=True)

    def __str__(self) -> str:
        minutes = (time.time() - self.started) / 60
        day = time.strftime("%Y-%m-%d", time.gmtime(self.started))
        about = f"{day}, {self.machine}. {self.settings}. Before: {self.before}; after {minutes:.1f} minutes: {load()}."
        return "\n\n".join([about, *self.targets(), *map(str, self.sections)])

    def targets(self) -> list[str]:
        """The table of targets, and how many are met."""
        lines = [line for section in self.sections for line in section.lines]
        firm = [line for line in lines if not line.aim]
        count = f"{sum(line.met for line in firm)} of {len(firm)} targets are met."
        header = ("", "what", "target", "measured", "")
        return ["### Targets", count, str(Table(header, [line.cells for line in lines]))] if lines else []

    def write(self, name: str, page: Path | None, data: Path | None = None) -> None:
        """Print the targets, put all between the markers `name` of a page, and the numbers into a JSON file."""
        print("\n\n".join(self.targets()))
        if data:
            data.write_text(json.dumps(asdict(self), indent=1))
        if page:
            put(page, name, str(self))


def put(page: Path, name: str, text: str) -> None:
    """Put a text between the markers `name` of a page, which get a place at its end if there are none."""
    begin, end = (f"<!-- benchmarks.{name}: {where} -->" for where in ("begin", "end"))
    old = page.read_text() if page.exists() else ""
    if begin not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n".lstrip()
    head, _, rest = old.partition(begin)
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


def bars(title: str, values: Sequence[tuple[str, float, float]], path: Path, first: str) -> None:
    """Draw (name, value, end of the whisker) as horizontal bars, those of `first` in another colour, as an SVG."""
    left, width, height = 270, 420, 26
    scale = width / max(max(value, end) for _, value, end in values)
    parts = [f'<text x="{left}" y="24" font-weight="600">{title}</text>']
    for k, (name, value, end) in enumerate(values):
        y, x = 40 + k * height, left + value * scale
        colour = "#0d9488" if name.startswith(first) else "#94a3b8"
        parts += [
            f'<text x="{left - 10}" y="{y + 15}" text-anchor="end">{name}</text>',
            f'<rect x="{left}" y="{y + 3}" width="{value * scale:.1f}" height="{height - 8}" rx="2" fill="{colour}"/>',
            f'<path d="M{x:.1f} {y + 12}H{left + end * scale:.1f}" stroke="#475569"/>',
            f'<text x="{left + max(value, end) * scale + 8:.1f}" y="{y + 15}">{number(value)}</text>',
        ]
    style = 'font-family="ui-sans-serif,system-ui,sans-serif" font-size="13" fill="#334155"'
    whole = left + width + 60, len(values) * height + 52
    box = f'width="{whole[0]}" height="{whole[1]}" viewBox="0 0 {whole[0]} {whole[1]}"'
    ground = '<rect width="100%" height="100%" rx="6" fill="#f8fafc"/>'
    path.write_text("\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {box} {style}>', ground, *parts, "</svg>\n"]))


def left_out(missing: Sequence[str]) -> list[str]:
    """A note that names what was not measured."""
    return [f"Left out: {'; '.join(missing)}."] if missing else []


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def milliseconds(seconds: float) -> str:
    """The time of a crop."""
    return f"{seconds * 1e3:.3f}" if seconds < 0.01 else f"{seconds * 1e3:.1f}"


def installed(package: str) -> str | None:
    """The version of a distribution, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> str:
    """Processor, system and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    versions = [f"{p} {v}" for p in PACKAGES if (v := installed(p))]
    return f"{os.cpu_count()} x {name}, Python {platform.python_version()}, {', '.join(versions)}"


def load() -> str:
    """How busy the machine is, and what a second thread brings for work in C that needs no lock and little memory."""
    data = bytes(64 << 10)

    def work() -> None:
        for _ in range(3000):
            zlib.crc32(data)

    def group(threads: int) -> None:
        started = [threading.Thread(target=work) for _ in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    one, two = (timed(lambda n=n: group(n), 5) for n in (1, 2))  # type: ignore[misc]
    return f"load {os.getloadavg()[0]:.1f}, two threads do {2 * one / two:.2f} times the work of one"


# ------------------------------------------------------------------------------------------------------- command lines


def options(name: str, doc: str | None, argv: Sequence[str] | None = None, **known: tuple[Any, str]) -> Any:
    """Parse a command line; `known` maps options to (default, help), and the default tells the type (None: a path)."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option, (default, text) in known.items():
        if default is False:
            parser.add_argument(f"--{option}", action="store_true", help=text)
        else:
            kind = Path if default is None else type(default)
            shown = text if default is None else f"{text} ({default})"
            parser.add_argument(f"--{option}", type=kind, default=default, help=shown)
    return parser.parse_args(argv)


def chosen(text: str, known: Mapping[str, Any]) -> list[str]:
    """The names of a comma-separated list."""
    names = text.split(",")
    for name in names:
        if name not in known:
            sys.exit(f"{name!r} is none of {', '.join(known)}")
    return names


@contextmanager
def workspace(folder: Path | None) -> Iterator[Path]:
    """`folder`, made if needed, or a temporary one."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="ndzarr-benchmarks-") as name:
            yield Path(name)
