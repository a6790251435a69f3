"""Which of several functions is faster on a machine where other programs run too?

1. They take turns, each once per step, so that whatever disturbs one disturbs the others; in random order, so that none
   always follows one that leaves the processor's caches in a bad state.
2. At step i, function k of K does job i + k*n/K (of n): all do the same jobs, but none does the job that another has
   just done, whose bytes would still lie in the cache. Readers of one file would otherwise profit from each other.
3. Where a step is a *burst* of several jobs, each function does them in one go: all but the first of them find its own
   code and data in the caches, as in a loop that does nothing else.
4. A job's time is its median over the rounds; ratios and differences are taken job by job, and their median is what
   counts.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Race:
    """The times of all jobs."""

    names: tuple[str, ...]
    """Contestants."""
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
        """How many times as long as `base` it takes."""
        return float(np.median(self.jobs(name) / self.jobs(base)))

    def difference(self, name: str, base: str) -> float:
        """Seconds longer than `base`."""
        return float(np.median(self.jobs(name) - self.jobs(base)))


def race(contestants: Mapping[str, Callable[[int], Any]], jobs: int, rounds: int = 3, burst: int = 1) -> Race:
    """
    Let functions of a job's number take turns, after doing every job once, untimed.

    Parameters
    ----------
    burst
        Jobs that a function does in a row.
    """
    runners = list(contestants.values())
    for runner in runners:
        for i in range(jobs):
            runner(i)
    seconds = np.empty((len(runners), rounds, jobs))
    shift = max(1, jobs // len(runners))
    order, rng = list(range(len(runners))), random.Random(0)
    clock = time.perf_counter
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
