"""What would a plan read, and how much of what it decodes is wanted?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ndzarr.plan.plan import ReadPlan


@dataclass(frozen=True, slots=True)
class Explanation:
    """The cost of a `ReadPlan`, in counts that are the same on every machine."""

    windows: int
    """Windows asked for."""
    chunks: int
    """Chunks that hold wanted pixels, each counted once."""
    missing: int
    """Of these, chunks that are not stored because they hold only the fill value."""
    shared: int
    """Of these, chunks that more than one window wants."""
    encoded_bytes: int | None
    """Bytes read from files; None where an engine cannot tell beforehand."""
    decoded_bytes: int
    """Bytes of pixels that are decoded (missing chunks decode nothing)."""
    wanted_bytes: int
    """Bytes of pixels in all windows."""
    engines: tuple[tuple[str, int], ...]
    """(engine, chunks it reads), most first."""

    @property
    def amplification(self) -> float:
        """Decoded bytes per wanted byte; below 1 where windows share chunks."""
        return self.decoded_bytes / self.wanted_bytes if self.wanted_bytes else 0.0

    def __str__(self) -> str:
        encoded = "unknown" if self.encoded_bytes is None else human_bytes(self.encoded_bytes)
        rows = [
            ("windows", f"{self.windows:,}"),
            ("chunks", f"{self.chunks:,} ({self.missing:,} missing, {self.shared:,} shared between windows)"),
            ("read", f"{encoded} encoded"),
            ("decode", f"{human_bytes(self.decoded_bytes)} for {human_bytes(self.wanted_bytes)} wanted"),
            ("amplification", f"{self.amplification:.2f}"),
        ]
        rows += [("engine", f"{name}: {n:,} chunks") for name, n in self.engines]
        return "\n".join(f"{key:<14}{value}" for key, value in rows)


def explain(plan: ReadPlan) -> Explanation:
    """Count what executing a plan would read and decode; reads shard indexes, never chunks."""
    sizes = [plan.arrays[a].encoded_size(chunk) for a, chunk, _ in plan.reads]
    decoded = sum(
        plan.arrays[a].dtype.itemsize * prod(plan.arrays[a].chunks)
        for (a, _, _), size in zip(plan.reads, sizes, strict=True)
        if size != 0
    )
    wanted = sum(
        prod(shape) * plan.arrays[a].dtype.itemsize for (a, _), shape in zip(plan.windows, plan.shapes, strict=True)
    )
    engines = Counter(plan.arrays[a].engine for a, _, _ in plan.reads)
    return Explanation(
        windows=len(plan.windows),
        chunks=len(plan.reads),
        missing=sum(size == 0 for size in sizes),
        shared=sum(len({window for window, _, _ in parts}) > 1 for _, _, parts in plan.reads),
        encoded_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        decoded_bytes=decoded,
        wanted_bytes=wanted,
        engines=tuple(engines.most_common()),
    )


def counted(n: int, noun: str) -> str:
    """
    How many there are of something, as a person says it.

    Examples
    --------
    >>> counted(1, "image"), counted(2000, "image"), counted(3, "category")
    ('1 image', '2000 images', '3 categories')
    """
    if n == 1:
        return f"1 {noun}"
    return f"{n} {noun[:-1]}ies" if noun.endswith("y") else f"{n} {noun}s"


def human_bytes(n: float) -> str:
    """
    A size as a person reads it.

    Examples
    --------
    >>> human_bytes(1536), human_bytes(12)
    ('1.5 KiB', '12 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"
