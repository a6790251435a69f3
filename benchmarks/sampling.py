"""Samples beside plain reads and beside ndsampler, and what annotations cost.

    python -m benchmarks.sampling            # a few minutes
    python -m benchmarks.sampling --quick    # small data: to see that it works
    python -m benchmarks.sampling --only one # what `load_sample` adds to `pyr.read`, and the Python calls of it

All take turns on the same windows in one process, with everything in the page cache and, for ndzarr, transcoded.
ndsampler runs with backend=None, its path for multispectral videos.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import ndzarr
from benchmarks.data import Data, coco, large_video, multispectral_video, random_boxes
from benchmarks.harness import chosen, number, options, race, timed, workspace
from benchmarks.readers import ndsampler_peer

OVERVIEW: dict[str, Any] = {"vidid": 1, "scale": 1 / 16}


def small_windows(size: int = 600, edge: int = 64, n: int = 20) -> list[dict[str, Any]]:
    """Windows of the whole multispectral video."""
    corners = np.random.default_rng(0).integers(0, size - edge, (n, 2)).tolist()
    return [{"vidid": 1, "space_slice": (slice(y, y + edge), slice(x, x + edge))} for y, x in corners]


def python_calls(function: Callable[..., Any], *args: Any) -> tuple[int, int]:
    """Python functions entered in a call, whole call tree, and the files of ndzarr in which some of them are."""
    entered: list[str] = []

    def hook(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            entered.append(frame.f_code.co_filename)

    sys.setprofile(hook)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    package = str(Path(str(ndzarr.__file__)).parent)
    return len(entered), len({name for name in entered if name.startswith(package)})


def one_sample(folder: Path, quick: bool) -> None:
    """Print what `load_sample` of 256 x 256 with ten annotations adds to `pyr.read` of the same window."""
    from benchmarks.peers import sample_calls

    calls, _ = sample_calls(Data.within(folder, 2048), 300)
    found = race({name: calls[name] for name in ("pyr.read", "load_sample")}, 300, 1 if quick else 9)
    read, sample, more = (
        found.median("pyr.read"), found.median("load_sample"), found.difference("load_sample", "pyr.read"),
    )  # fmt: skip
    entered, files = python_calls(calls["load_sample"], 0)
    print(f"read {read * 1e6:.0f} us, load_sample {sample * 1e6:.0f} us, difference {more * 1e6:.0f} us; "
          f"{entered - 1} Python calls in {files} files of ndzarr")  # fmt: skip


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


def annotations(folder: Path, quick: bool) -> None:
    """Print the times of loading annotations, and of samples of an image that has ten thousand."""
    import kwcoco

    n = 20_000 if quick else 1_000_000
    gids = np.random.default_rng(0).integers(1, n // 100 + 1, n).tolist()
    content = coco([f"{k}.png" for k in range(n // 100)], 1000, gids, random_boxes(n, 1000))
    path = folder / "annotations.kwcoco.json"
    path.write_text(json.dumps(content))
    load = timed(lambda: kwcoco.CocoDataset(str(path)))
    dset = kwcoco.CocoDataset(str(path))
    took = timed(lambda: len(ndzarr.CocoSampler(dset, folder / "pyramids").annotations))
    print(
        f"{n} annotations: kwcoco loads {load:.2f} s, the table {took:.2f} s; together {1 + took / load:.2f} x kwcoco"
    )
    source = Data.within(folder, 1024).png
    crowd = coco([source], 1024, [1] * 10_000, random_boxes(10_000, 1024))
    alone, among = (ndzarr.CocoSampler(c, folder / "pyramids") for c in (coco([source], 1024), crowd))
    for edge in (64, 1000):
        target = {"gid": 1, "space_slice": (slice(0, edge), slice(0, edge))}
        found = race(
            {"alone": lambda i, t=target: alone.load_sample(t), "among": lambda i, t=target: among.load_sample(t)},
            300,
            1,
        )  # type: ignore[misc]
        more = found.difference("among", "alone") * 1e6
        print(f"finding {among.load_sample(target).sizes['annot']} of 10000 annotations: {number(more)} us")


PARTS = {"one": one_sample, "videos": videos, "annotations": annotations}


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
