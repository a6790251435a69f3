"""How many times faster than ndsampler are samples of videos, and how long do annotations take?

    python -m benchmarks.sampling            # the numbers of docs/targets.md, a few minutes
    python -m benchmarks.sampling --quick    # small data: to see that it works

ndsampler and ndzarr take turns on the same windows in the same process, with everything in the page cache and, for
ndzarr, transcoded; ndsampler runs with backend=None, its path for multispectral videos.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr
from benchmarks import bench_annotations, bench_videos


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small data")
    quick = parser.parse_args(argv).quick
    warnings.simplefilter("ignore")  # ndsampler's
    with tempfile.TemporaryDirectory(prefix="ndzarr-sampling-") as name:
        folder = Path(name)
        small_windows(folder)
        overview(folder, 1024 if quick else 4096)
        annotations(folder, 20_000 if quick else bench_annotations.ANNOTATIONS)


def small_windows(folder: Path) -> None:
    """Print the times of 5 frames x 5 channels of 64 x 64."""
    content = bench_videos.multispectral(folder / "demo")
    _race("5 frames x 5 channels of 64 x 64", content, folder, bench_videos.small_windows(), rounds=7, wanted=10)


def overview(folder: Path, edge: int) -> None:
    """Print the times of the full frame at 1/16."""
    content = bench_videos.frames(folder / "frames", edge)
    _race(f"full frame at 1/16 over 4 of {edge} x {edge}", content, folder, [bench_videos.OVERVIEW], 3, wanted=100)


def annotations(folder: Path, n: int) -> None:
    """Print the times of loading annotations, and of looking some up."""
    import kwcoco

    path = folder / "annotations.kwcoco.json"
    path.write_text(json.dumps(bench_annotations.dictionaries(n, max(1, n // 100))))
    start = time.perf_counter()
    dset = kwcoco.CocoDataset(str(path))
    load = time.perf_counter() - start
    start = time.perf_counter()
    table = ndzarr.CocoSampler(dset, folder / "pyramids").annotations
    took = time.perf_counter() - start
    assert len(table) == n
    whole = (load + took) / load
    print(f"{n} annotations: kwcoco loads {load:.2f} s, the table {took:.2f} s; together {whole:.2f} x kwcoco")
    crowd = bench_annotations.crowd()
    for space, warp in bench_annotations.WARPS.items():
        for edge in (64, 1000):
            window = (0, edge, 0, edge)
            later = _times(lambda window=window, warp=warp: crowd.touching(1, window, warp), 300)
            first = []
            for _ in range(100):
                crowd.kept.clear()
                first += _times(lambda window=window, warp=warp: crowd.touching(1, window, warp), 1)
            found = len(crowd.touching(1, window, warp)[0])
            print(
                f"look-up among {len(crowd)} in {space} space, {found} found: {np.median(later) * 1e6:.0f} us, "
                f"the first {np.median(first) * 1e6:.0f} us"
            )


def _race(name: str, content: dict[str, Any], folder: Path, targets: list[Any], rounds: int, wanted: float) -> None:
    import kwcoco
    import ndsampler

    theirs = ndsampler.CocoSampler(kwcoco.CocoDataset(content), backend=None)
    ours = ndzarr.CocoSampler(content, folder / "pyramids")
    ours.prepare()
    runs: dict[str, Callable[[Any], Any]] = {
        "ndsampler": lambda target: theirs.load_sample(dict(target)),
        "ndzarr": ours.load_sample,
    }
    times = {who: np.full((rounds, len(targets)), np.inf) for who in runs}
    for who in runs:
        runs[who](targets[0])
    for i in range(rounds):
        for k, target in enumerate(targets):
            for who, run in runs.items():
                times[who][i, k] = _times(lambda run=run, target=target: run(target), 1)[0]
    # The best round of each window: others may use the machine.
    median = {who: float(np.median(t.min(axis=0))) * 1e3 for who, t in times.items()}
    ratio = median["ndsampler"] / median["ndzarr"]
    verdict = "reached" if ratio >= wanted else "MISSED"
    print(
        f"{name}: ndsampler {median['ndsampler']:.1f} ms, ndzarr {median['ndzarr']:.2f} ms: "
        f"{ratio:.1f} x (wanted {wanted:g}: {verdict})"
    )


def _times(call: Callable[[], Any], n: int) -> list[float]:
    out = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        out.append(time.perf_counter() - start)
    return out


if __name__ == "__main__":
    main()
