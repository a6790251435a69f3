"""Which of the measured candidates become the presets?

1. :func:`pareto` keeps those that nothing else beats in both latency and size, for the reader of the tables.
2. :func:`choose_fast` and :func:`choose_compact` are the stated rules.
3. :func:`recommend` prints both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.layouts.candidates import Kind
from benchmarks.layouts.codecs import Picture, Support
from benchmarks.layouts.cogs import estimated_cog
from benchmarks.layouts.measurement import Result, Settings
from benchmarks.layouts.report import Report

PACKAGES: tuple[tuple[Support, ...], ...] = ((), ("with pcodec",))
"""What a reader may need beside zarr-python: nothing; pcodec."""


@dataclass(frozen=True)
class Chosen:
    """What the rules choose for one kind of data."""

    fast: Result
    compact: Result
    packed: Result
    """``compact`` if pcodec may be used."""

    def presets(self) -> list[tuple[str, Result]]:
        """Return (name, result) of each, the third only where it differs."""
        some = [("fast", self.fast), ("compact", self.compact)]
        return some if self.packed is self.compact else [*some, ("compact, were pcodec allowed", self.packed)]


def pareto(results: Sequence[Result]) -> list[Result]:
    """Return the lossless results that no other beats in both latency and ratio, fastest first."""
    front: list[Result] = []
    for one in sorted((r for r in results if r.layout.codec.lossless), key=lambda r: (r.crop_ms, -r.ratio)):
        if not front or one.ratio > front[-1].ratio:
            front.append(one)
    return front


def choose_fast(results: Sequence[Result], least_ratio: float) -> Result:
    """Return the core candidate for ``fast``: of those within 10 % of the lowest latency and within 2 % of the best
    ratio among these, the one that encodes fastest.
    """
    able = [r for r in results if r.layout.codec.support == "core" and r.ratio >= least_ratio]
    quickest = min(r.crop_ms for r in able)
    near = [r for r in able if r.crop_ms <= 1.1 * quickest]
    smallest = max(r.ratio for r in near)
    return max((r for r in near if r.ratio >= 0.98 * smallest), key=lambda r: r.encode_rate)


def choose_compact(results: Sequence[Result], fast: Result, kind: Kind, cog: float, more: Sequence[Support]) -> Result:
    """Return the candidate for ``compact`` of those that zarr-python reads, given the packages ``more``.

    Of those no larger than the COG, whose ratio is ``cog``: the smallest within 10 % of the lowest latency. Where there
    is none: the quickest within 2 % of the best ratio that costs at most ``kind.compact_slower`` times ``fast``.
    """
    readable = [r for r in results if r.layout.codec.support in ("core", "zarr-python", *more)]
    small = [r for r in readable if r.ratio >= cog]
    if small:
        quickest = min(r.crop_ms for r in small)
        return max((r for r in small if r.crop_ms <= 1.1 * quickest), key=lambda r: r.ratio)
    able = [r for r in readable if r.crop_ms <= kind.compact_slower * fast.crop_ms]
    smallest = max(r.ratio for r in able)
    return min((r for r in able if r.ratio >= 0.98 * smallest), key=lambda r: r.crop_ms)


def recommend(report: Report, kind: Kind, results: Sequence[Result], settings: Settings) -> Chosen:
    """Print the Pareto front of one kind and what the rules choose."""
    ours = [r for r in results if r.layout.grouping == kind.grouping and not isinstance(r.layout.codec, Picture)]
    rows = [[r.layout.codec.name, r.layout.codec.support, f"{r.ratio:.2f}", f"{r.crop_ms:.3f}"] for r in pareto(ours)]
    report.table(f"Pareto front: {kind.name}", ["codec", "read by", "ratio", "256 window, ms"], rows)
    image = kind.make(settings.side)
    cog = image.nbytes / estimated_cog(image)
    fast = choose_fast(ours, cog / kind.fast_size)
    compact, packed = (choose_compact(ours, fast, kind, cog, more) for more in PACKAGES)
    chosen = Chosen(fast, compact, packed)
    report.say(f"\nThe tiles of a COG (estimated) have ratio {cog:.2f}. By rule:\n")
    for name, one in chosen.presets():
        report.say(
            f"- `{name}`: **{one.layout.codec.name}**, ratio {one.ratio:.2f} ({cog / one.ratio:.2f} times the COG), "
            f"{one.crop_ms:.3f} ms ({one.crop_ms / fast.crop_ms:.2f} times `fast`), encodes {one.encode_rate:.0f} MB/s"
        )
    return chosen
