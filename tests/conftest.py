"""Profiles of hypothesis, the parameters of repeated tests, the cache of kwcoco's demo data, the handler of SIGINT."""

import os
import signal
from collections import defaultdict
from math import ceil

import pytest
from hypothesis import settings

from helpers.hypothesis_settings import SHARE, examples

plain = examples(100)  # without a deadline: what else this machine does is no fault of the code
settings.register_profile("ci", plain, derandomize=True, print_blob=True)
settings.register_profile("local", plain)
settings.load_profile("ci" if os.environ.get("CI") else "local")

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # kwcoco writes its demo data into the user's cache; two processes that make the same ones spoil each other's.
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ["XDG_CACHE_HOME"] = os.path.join(cache, "ndzarr-tests", worker)


FEWEST = 4
"""Parameter sets of a test that always run."""


def pytest_collection_modifyitems(config, items):
    """Where tests run a second time (`SHARE` < 1), take a share of the parameter sets of each, spread evenly."""
    if SHARE >= 1:
        return
    tests = defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    kept = set()
    for same in tests.values():
        n = max(min(FEWEST, len(same)), ceil(len(same) * SHARE))
        kept |= {id(same[i * len(same) // n]) for i in range(n)}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


@pytest.fixture(scope="session", autouse=True)
def sigint_interrupts():
    """Let SIGINT raise KeyboardInterrupt here and in child processes, as it does in a foreground process.

    A non-interactive shell starts background commands with SIGINT ignored.  Children inherit that, Python keeps it, and
    tests that interrupt a process then wait forever.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
