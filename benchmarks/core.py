"""The compiled core beside the Python way, tensorstore, and itself without Python around it.

    python -m benchmarks.core            # a minute or two
    python -m benchmarks.core --quick    # a small image: to see that it works

All take turns on the same crops of one store (preset `fast`) in one process, in bursts of 10, with everything in the
page cache. CPU is the time of all threads of the process, which in turns of their own includes what a thread of the
core spends waiting for more work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorstore

import ndzarr
from benchmarks.data import Data, windows
from benchmarks.harness import Report, Section, Table, milliseconds, options, race, timed, workspace
from ndzarr._store import core
from ndzarr._store.read import flatten

EDGE = 256
BURST = 10
PEER = "tensorstore"


def python_way(work: Callable[..., Any], *args: Any) -> Any:
    """Call a function with the core switched off."""
    core.enabled = False
    try:
        return work(*args)
    finally:
        core.enabled = True


def alone(pyramid: Any, wanted: Sequence[Any], threads: int | None = None) -> Callable[[], Any]:
    """Return the call of the core that reads windows, planned beforehand, into the same memory each time."""
    plan = pyramid.plan(wanted)
    flat, held = flatten(plan, [np.empty(shape, pyramid.dtype) for shape in plan.shapes])
    return lambda held=held: flat.decode(threads)


def compare(title: str, runs: dict[str, Callable[[int], Any]], jobs: int, rounds: int, each: int, base: str) -> Section:
    """Measure wall and processor time of each contestant, for one of `each` crops of a job."""
    wall = race(runs, jobs, rounds, BURST)
    spent = {}
    for name, run in runs.items():
        start = time.process_time()
        timed(lambda run=run: [run(i) for i in range(jobs)], 3)
        spent[name] = (time.process_time() - start) / 3 / jobs
    rows = []
    for name in runs:
        times = (milliseconds(wall.median(name) / each), milliseconds(spent[name] / each))
        rows.append((name, *times, f"{wall.ratio(name, base):.2f}"))
    return Section(title, Table(("call", "ms a crop", "CPU, ms", f"/ {base}"), rows))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure one crop, and many together."""
    args = options(
        "core", __doc__, argv,
        quick=(False, "a small image, few crops: numbers mean little"),
        size=(4096, "edge of the image in pixels, a multiple of 2048"),
        crops=(300, "read one by one"),
        many=(1000, "read together"),
        rounds=(3, "times that each is read"),
        dir=(None, "keep the data here"),
    )  # fmt: skip
    if args.quick:
        args.size, args.crops, args.many, args.rounds = 2048, 20, 50, 1
    report = Report(f"{args.size} x {args.size} x 3 uint8, crops of {EDGE}; {core.status()}")
    with workspace(args.dir) as folder:
        pyramid = ndzarr.open(Data.within(folder, args.size).pyramid())
        spec = {"driver": "zarr3", "kvstore": f"file://{pyramid.path}/0/image", "context": {"cache_pool": {}}}
        store = tensorstore.open(spec).result()
        one = windows(args.size, EDGE, args.crops, 0)
        calls = {threads: [alone(pyramid, [w], threads) for w in one] for threads in (None, 1)}
        runs: dict[str, Callable[[int], Any]] = {
            "pyr.read": lambda i: pyramid.read(**one[i]),
            "pyr.read, Python way": lambda i: python_way(lambda: pyramid.read(**one[i])),
            "core alone": lambda i: calls[None][i](),
            "core alone, one thread": lambda i: calls[1][i](),
            PEER: lambda i: store[:, one[i]["y"], one[i]["x"]].read().result(),
        }
        report.add(compare("One crop", runs, len(one), args.rounds, 1, "pyr.read"))
        all_of = windows(args.size, EDGE, args.many, 1)
        together = {threads: alone(pyramid, all_of, threads) for threads in (None, 1)}

        def futures(_: int) -> Any:
            pending = [store[:, w["y"], w["x"]].read() for w in all_of]
            return [future.result() for future in pending]

        place = np.empty((3, EDGE, EDGE), pyramid.dtype)
        runs = {
            "read_many": lambda _: pyramid.read_many(all_of),
            "read_many, Python way": lambda _: python_way(partial(pyramid.read_many, all_of)),
            "planning alone": lambda _: flatten(plan := pyramid.plan(all_of), [place] * len(plan)),
            "core alone": lambda _: together[None](),
            "core alone, one thread": lambda _: together[1](),
            f"{PEER}, futures together": futures,
        }
        report.add(compare(f"{args.many} crops together", runs, 1, 2 * args.rounds + 1, args.many, "read_many"))
    report.write("core", None)


if __name__ == "__main__":
    main()
