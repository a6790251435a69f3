"""Requests: their errors, credentials, secrets, retries, and processes that were forked."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ndzarr
from helpers.errors import raises
from helpers.http_server import Fault
from ndzarr._remote import engine as engines
from ndzarr._remote.engine import engine
from ndzarr._remote.flight import get_ranges, planned
from ndzarr._remote.settings import Remote
from ndzarr._remote.stores import Range, open_url
from ndzarr.errors import DamagedError, ExistsError, MissingError, OptionError, StoreError

DATA = np.random.default_rng(0).bytes(3_000_000)
QUICK = Remote(retries=1, timeout=2)


@pytest.fixture
def file(http):
    """An object, its store and its path."""
    (http.folder / "a b+ü.bin").write_bytes(DATA)
    return open_url(f"{http.url}/a%20b+%C3%BC.bin", remote=QUICK)


def some(store, path, tag=None):
    rng = np.random.default_rng(1)
    ranges = [
        (int(o), int(o + n)) for o, n in zip(rng.integers(0, 2_900_000, 200), rng.integers(1, 9000, 200), strict=True)
    ]
    return [Range(store, path, start, stop, tag) for start, stop in [*ranges, (5, 2_999_995)]]


def check(ranges):
    landed = list(get_ranges(ranges))
    assert sorted(found.number for found in landed) == list(range(len(ranges)))
    for found in landed:
        assert found.data.tobytes() == DATA[ranges[found.number].start : ranges[found.number].stop]


def test_ranges_land_as_they_were_asked_for_merged_and_split(http, file):
    store, path = file
    info = store.head(path)
    assert info.size == len(DATA)
    ranges = some(store, path, info.tag)
    http.server.settings()
    check(ranges)
    counters = http.server.counters()
    assert counters.requests == len(planned(ranges)) < 100
    assert store.get(path, -10)[0].tobytes() == DATA[-10:]
    assert store.get(path)[0].tobytes() == DATA


@pytest.mark.parametrize("kind", ["503", "reset", "short", "shifted", "whole", "unstated"])
def test_a_request_that_keeps_failing_is_an_error_that_says_what_was_tried(http, file, kind):
    store, path = file
    http.server.settings(faults=[Fault(kind)])
    with raises(StoreError, path=f"{http.url}/a b+ü.bin", match="2 attempts"):
        store.get(path, 10, 20)
    assert http.server.counters().requests == 2


def test_a_server_that_does_not_answer_is_given_up(http, file):
    store, path = open_url(f"{http.url}/a%20b+%C3%BC.bin", remote=Remote(retries=0, timeout=0.3))
    http.server.settings(faults=[Fault("stall")])
    began = time.monotonic()
    with raises(StoreError, path=f"{http.url}/a b+ü.bin", match="in time"):
        store.get(path, 10, 20)
    assert time.monotonic() - began < 5


def test_a_request_that_stalls_is_sent_again_without_waiting_for_its_end(http, file):
    engine().least_patience = 0.25
    store, path = open_url(f"{http.url}/a%20b+%C3%BC.bin", remote=Remote(timeout=60))
    ranges = some(store, path)
    check(ranges)  # now it is known how long requests take
    http.server.settings(faults=[Fault("stall", times=3)])
    began = time.monotonic()
    check(ranges)
    assert time.monotonic() - began < 20


def test_what_changed_is_not_mixed_with_what_was(http, file):
    store, path = file
    ranges = some(store, path, store.head(path).tag)
    (http.folder / "a b+ü.bin").write_bytes(DATA[::-1])
    with raises(StoreError, hint="Open it again"):
        check(ranges)


def test_ranges_behind_the_end_are_damage_and_missing_objects_are_missing(http, file):
    store, path = file
    with raises(DamagedError, path=f"{http.url}/a b+ü.bin"):
        store.get(path, 4_000_000, 4_000_010)
    with raises(MissingError, path=f"{http.url}/b"):
        list(get_ranges([Range(store, path.replace("a b+ü.bin", "b"), 0, 5)]))


@pytest.mark.parametrize("url", ["http://me:SECRET@{host}/a.zarr", "http://{host}/a.zarr?X-Amz-Signature=SECRET"])
@pytest.mark.parametrize("fault", ["403", "503", "reset", "whole"])
def test_secrets_stand_in_no_message(http, url, fault):
    (http.folder / "a.zarr").mkdir()
    ndzarr.transcode(np.zeros((9, 9), "u1"), http.folder / "a.zarr", overwrite=True)
    url = url.replace("{host}", http.url.removeprefix("http://"))
    pyr = ndzarr.open(url, remote=QUICK)
    plan = pyr.plan([{}])
    shown = [repr(pyr), pyr.path, repr(plan), str(plan.explain()), pyr._repr_html_(), json.dumps(dict(pyr.attrs))]
    http.server.settings(faults=[Fault(fault)])
    with pytest.raises(StoreError) as caught:
        pickle.loads(pickle.dumps(pyr)).read()
    error = caught.value
    while error is not None:
        shown += [str(error), repr(error), str(vars(error))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not [text for text in shown if "SECRET" in text]


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ({"key": "A", "secret": "SECRET"}, {}, "the access key in storage_options"),
        ({}, {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "SECRET"}, "AWS_ACCESS_KEY_ID of the environment"),
        ({"anon": True}, {}, "no credentials"),
        ({"profile": "p"}, {}, "profile 'p'"),
    ],
)
def test_denied_access_names_the_credentials_that_were_tried(http, monkeypatch, tmp_path, options, environment, said):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text("[p]\naws_access_key_id = A\naws_secret_access_key = SECRET\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    http.server.settings(faults=[Fault("403")])
    with raises(StoreError, path="s3://bucket/a.zarr/zarr.json", key="storage_options", match=said) as caught:
        ndzarr.open("s3://bucket/a.zarr", storage_options={"endpoint_url": http.server.url, **options})
    assert "SECRET" not in str(caught.value)


def test_unknown_options_are_refused():
    with raises(OptionError, key="kye"):
        ndzarr.open("s3://bucket/a.zarr", storage_options={"kye": "a"})
    for wrong in ({"inflight": 0}, {"gap": -1}, {"timeout": "5"}, {"cap": 1.5}):
        with raises(OptionError, key=next(iter(wrong))):
            ndzarr.Remote(**wrong)


def test_objects_in_s3_are_written_listed_guarded_and_removed(s3):
    url = s3.bucket("transport")
    store, path = open_url(f"{url}/a/b.bin", s3.storage_options)
    tag = store.put(path, DATA)
    assert store.get(path, 5, 50)[0].tobytes() == DATA[5:50]
    assert store.get(path, -7)[0].tobytes() == DATA[-7:]
    check(some(store, path, store.head(path).tag))
    with raises(ExistsError):
        store.put(path, b"x", create=True)
    assert store.put(path, b"y", tag=tag) != tag
    with raises(ExistsError):
        store.put(path, b"z", tag=tag)
    assert [info.path for info in store.list("a")] == ["a/b.bin"]
    store.put("big", DATA * 6)  # in parts
    assert store.get("big")[0].tobytes() == DATA * 6
    store.delete(["a/b.bin", "big", "nothing"])
    assert store.list() == []


def test_a_store_in_s3_is_read_with_options_of_fsspec_and_of_the_environment(s3, monkeypatch, tmp_path):
    ndzarr.transcode(np.arange(12, dtype="u1").reshape(3, 4), tmp_path / "a.zarr")
    url = s3.bucket("zarrs")
    store, _ = open_url(url, s3.storage_options)
    for found in (tmp_path / "a.zarr").rglob("*"):
        if found.is_file():
            store.put(found.relative_to(tmp_path).as_posix(), found.read_bytes())
    fsspec = {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": s3.url, "region_name": "us-east-1"}}
    assert ndzarr.open(f"{url}/a.zarr", storage_options=fsspec).read().sum() == 66
    for name, value in s3.storage_options.items():
        monkeypatch.setenv(name.upper(), value)
    assert ndzarr.open(f"{url}/a.zarr").read().sum() == 66


def _read(pyr, queue):
    queue.put(int(pyr.read().sum()))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_reads_what_its_parent_has_opened(http, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this system")
    ndzarr.transcode(np.ones((99, 99), "u1"), http.folder / "a.zarr")
    pyr = ndzarr.open(f"{http.url}/a.zarr")
    assert pyr.read().sum() == 99 * 99
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=_read, args=(pyr, queue)) for _ in range(2)]
    for child in children:
        child.start()
    assert [queue.get(timeout=60) for _ in children] == [99 * 99] * 2
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert pyr.read().sum() == 99 * 99


FOREIGN_USE = """
import os, sys, obstore, numpy as np
from obstore.store import HTTPStore
store = HTTPStore.from_url(sys.argv[1], client_options={"allow_http": True})
obstore.get(store, "a.zarr/zarr.json").bytes()  # its threads run now
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
import ndzarr
os._exit(int(ndzarr.open(sys.argv[1] + "/a.zarr").read().sum() != 25))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_of_a_process_that_used_obstore_by_itself_reads_too(http):
    ndzarr.transcode(np.ones((5, 5), "u1"), http.folder / "a.zarr")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FOREIGN_USE, http.url], timeout=60, check=False)
    assert done.returncode == 0


def test_threads_that_begin_at_once_share_the_engine_of_their_process(monkeypatch):
    def slow():
        time.sleep(0.05)
        return object()

    monkeypatch.setattr(engines, "Engine", slow)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(engines.engine_of, [-1] * 8))) == 1
    engines._ENGINES.pop(-1)
