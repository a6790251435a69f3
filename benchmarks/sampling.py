"""Samples beside plain reads, and samples of videos beside ndsampler's.

    python -m benchmarks.sampling            # a few minutes
    python -m benchmarks.sampling --quick    # small data: to see that it works
    python -m benchmarks.sampling --only one # what `load_sample` adds to `pyr.read`, and the Python calls of it

All take turns on the same windows in one process, with everything in the page cache and, for ndzarr, transcoded.
ndsampler runs with backend=None, its path for multispectral videos.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import ndzarr
from benchmarks.data import Data, large_video, multispectral_video
from benchmarks.harness import chosen, options, race, workspace
from benchmarks.readers import ndsampler_peer

OVERVIEW: dict[str, Any] = {"vidid": 1, "scale": 1 / 16}


def small_windows(size: int = 600, edge: int = 64, n: int = 20) -> list[dict[str, Any]]:
    """Windows of the whole multispectral video."""
    corners = np.random.default_rng(0).integers(0, size - edge, (n, 2)).tolist()
    return [{"vidid": 1, "space_slice": (slice(y, y + edge), slice(x, x + edge))} for y, x in corners]


INLINED = ("<listcomp>", "<dictcomp>", "<setcomp>")
"""Frames that Python 3.12 and later do not make."""


def python_calls(function: Callable[..., Any], *args: Any) -> tuple[int, int, int]:
    """How often functions of ndzarr are entered in a call, in how many of its files, and how often any function is.

    The whole call tree is counted; comprehensions, which newer versions of Python inline, are not.
    """
    entered: list[str] = []

    def hook(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_name not in INLINED:
            entered.append(frame.f_code.co_filename)

    sys.setprofile(hook)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    package = str(Path(str(ndzarr.__file__)).parent)
    own = [name for name in entered if name.startswith(package)]
    return len(own), len(set(own)), len(entered)


def one_sample(folder: Path, quick: bool) -> None:
    """Print what `load_sample` of 256 x 256 with ten annotations adds to `pyr.read` of the same window."""
    from benchmarks.peers import sample_calls

    calls, _ = sample_calls(Data.within(folder, 2048), 300)
    found = race({name: calls[name] for name in ("pyr.read", "load_sample")}, 300, 1 if quick else 9)
    read, sample = found.median("pyr.read"), found.median("load_sample")
    more = found.difference("load_sample", "pyr.read")
    own, files, every = python_calls(calls["load_sample"], 0)
    print(f"read {read * 1e6:.0f} us, load_sample {sample * 1e6:.0f} us, difference {more * 1e6:.0f} us (at most 80)")
    print(f"load_sample: {own} Python calls (at most 100) in {files} files of ndzarr (at most 15), {every - 1} in all")


def videos(folder: Path, quick: bool) -> None:
    """Print how much faster than ndsampler samples of videos are."""
    edge = 1024 if quick else 4096
    cases = {
        "5 frames x 5 channels of 64 x 64": (multispectral_video(folder / "demo"), small_windows(), 7, 10),
        f"full frame at 1/16 over 4 of {edge} x {edge}": (large_video(folder / "frames", edge), [OVERVIEW], 3, 100),
    }
    for name, (content, targets, rounds, wanted) in cases.items():
        theirs = ndsampler_peer(content, folder / "ndsampler", None)
        ours = ndzarr.CocoSampler(content, folder / "pyramids")
        ours.prepare()
        runs: dict[str, Callable[[int], Any]] = {
            "ndsampler": lambda i, s=theirs, t=targets: s.load_sample(dict(t[i])),  # type: ignore[misc]
            "ndzarr": lambda i, s=ours, t=targets: s.load_sample(t[i]),  # type: ignore[misc]
        }
        found = race(runs, len(targets), rounds)
        ratio = found.ratio("ndsampler", "ndzarr")
        print(f"{name}: ndsampler {found.median('ndsampler') * 1e3:.1f} ms, ndzarr {found.median('ndzarr') * 1e3:.2f} "
              f"ms: {ratio:.1f} x (wanted {wanted}: {'reached' if ratio >= wanted else 'MISSED'})")  # fmt: skip


PARTS = {"one": one_sample, "videos": videos}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print one line each."""
    args = options(
        "sampling", __doc__, argv,
        quick=(False, "small data"),
        only=(",".join(PARTS), "some of the parts"),
        dir=(None, "keep the data here"),
    )  # fmt: skip
    warnings.simplefilter("ignore")  # ndsampler's
    with workspace(args.dir) as folder:
        for name in chosen(args.only, PARTS):
            PARTS[name](folder, args.quick)


if __name__ == "__main__":
    main()
