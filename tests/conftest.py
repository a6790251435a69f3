"""Profiles of hypothesis, parameters of repeated tests, the cache of kwcoco's demo data, servers, and SIGINT."""

import gc
import os
import shutil
import signal
from collections import defaultdict
from math import ceil, inf

import pytest
from hypothesis import settings

from helpers import servers
from helpers.http_server import HttpServer, Served
from helpers.hypothesis_settings import SHARE, examples
from ndzarr._remote.engine import engine

plain = examples(100)  # without a deadline: what else this machine does is no fault of the code
settings.register_profile("ci", plain, derandomize=True, print_blob=True)
settings.register_profile("local", plain)
settings.load_profile("ci" if os.environ.get("CI") else "local")

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # kwcoco writes its demo data into the user's cache; two processes that make the same ones spoil each other's.
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ["XDG_CACHE_HOME"] = os.path.join(cache, "ndzarr-tests", worker)


FEWEST = 1
"""Parameter sets of a test that run at least."""


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


def pytest_collection_finish(session):
    """Leave the modules and the tests to themselves: the garbage collector would look through all of them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def sigint_interrupts():
    """Let SIGINT raise KeyboardInterrupt here and in child processes, as it does in a foreground process.

    A non-interactive shell starts background commands with SIGINT ignored.  Children inherit that, Python keeps it, and
    tests that interrupt a process then wait forever.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def http_process(tmp_path_factory):
    with HttpServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def http(http_process, tmp_path_factory):
    """
    A server of an empty folder, without latency and faults; see `helpers.http_server`.

    Requests are not sent again because they are late, since tests count them.
    """
    patience, engine().least_patience = engine().least_patience, inf
    folder = tmp_path_factory.mktemp("files")
    http_process.settings()
    link = http_process.folder / folder.name
    link.symlink_to(folder)
    yield Served(http_process, f"{http_process.url}/{folder.name}", folder)
    http_process.settings()
    link.unlink()
    engine().least_patience = patience


@pytest.fixture(scope="session")
def s3():
    """An S3 server of this session; each test makes a bucket of its own."""
    pytest.importorskip("moto")
    with servers.moto() as server:
        yield server


@pytest.fixture(scope="session")
def azure(tmp_path_factory):
    """An Azure server, where azurite is installed."""
    if (program := servers.find_azurite()) is None:
        pytest.skip("azurite is not installed (`python -m helpers.servers` in tests/ installs it)")
    with servers.azurite(program, tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def nginx(tmp_path_factory):
    """The URL of nginx, where it is installed, and the folder whose files it serves."""
    program = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))
    if program is None:
        pytest.skip("nginx is not installed")
    served = tmp_path_factory.mktemp("nginx-served")
    with servers.nginx(program, tmp_path_factory.mktemp("nginx"), served) as url:
        yield url, served
