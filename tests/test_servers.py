"""The servers that other tests talk to do what they are told to."""

import concurrent.futures
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection, HTTPException, IncompleteRead
from urllib.parse import urlsplit

import pytest

from helpers.http_server import Fault

DATA = bytes(range(256)) * 16


def ask(url, method="GET", data=None, timeout=10, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, b""


@pytest.fixture
def file(http):
    http.folder.joinpath("a.bin").write_bytes(DATA)
    return f"{http.url}/a.bin"


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=5-9", slice(5, 10)), ("bytes=-7", slice(-7, None)), ("bytes=4000-", slice(4000, None))],
)
def test_ranges_are_answered_as_rfc_9110_says(file, asked, part):
    status, headers, body = ask(file, Range=asked)
    start, stop, _ = part.indices(len(DATA))
    assert (status, body) == (206, DATA[part])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"


def test_a_file_is_served_written_and_guarded_by_its_etag(http, file):
    status, headers, body = ask(file)
    assert (status, body) == (200, DATA)
    assert ask(file, "HEAD")[1]["Content-Length"] == str(len(DATA))
    assert ask(file, Range="bytes=0-0", If_Match=headers["ETag"])[2] == DATA[:1]
    assert ask(file, "PUT", b"new", If_None_Match="*")[0] == 412
    assert ask(file, "PUT", b"new")[0] == 201
    assert ask(file, Range="bytes=0-0", If_Match=headers["ETag"])[0] == 412
    assert ask(f"{http.url}/missing")[0] == 404
    assert ask(file, "DELETE")[0] == 204
    assert not list(http.folder.iterdir())


def test_requests_that_are_sent_together_are_one_round_trip(http, file):
    http.server.settings(gather=0.3)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            assert all(part == DATA[:100] for *_, part in pool.map(lambda _: ask(file, Range="bytes=0-99"), range(8)))
    counters = http.server.counters()
    assert (counters.requests, counters.sent, counters.waves) == (16, 1600, 2)


def test_connections_are_kept_and_take_as_long_as_they_are_told_to(http, file):
    http.server.settings(latency=0.02, bandwidth=len(DATA) / 0.05)
    connection = HTTPConnection(urlsplit(file).netloc)
    began = time.monotonic()
    for _ in range(2):
        connection.request("GET", urlsplit(file).path)
        assert connection.getresponse().read() == DATA
    assert time.monotonic() - began > 0.13
    assert http.server.counters().connections == 1
    connection.close()


def test_faults_hit_the_requests_that_they_are_for(http, file):
    def seen(kind, **options):
        http.server.settings(faults=[Fault(kind, path="a.bin", times=1, **options)])
        try:
            found = ask(file, timeout=2 if kind == "stall" else 10, Range="bytes=10-19")
        except (HTTPException, OSError) as error:
            found = error
        assert ask(file, Range="bytes=10-19")[2] == DATA[10:20]
        assert http.server.counters().faults == 1
        return found

    status, headers, _ = seen("503", retry_after=2)
    assert (status, headers["Retry-After"]) == (503, "2")
    assert seen("429")[0] == 429
    assert isinstance(seen("reset"), ConnectionError | HTTPException)
    assert isinstance(seen("short"), IncompleteRead)
    assert isinstance(seen("stall"), TimeoutError)
    assert seen("whole")[::2] == (200, DATA)
    status, headers, body = seen("shifted")
    assert (status, headers["Content-Range"], body) == (206, f"bytes 11-20/{len(DATA)}", DATA[11:21])
    assert seen("unstated")[1]["Content-Range"] is None
    assert seen("changed")[1]["ETag"] != ask(file)[1]["ETag"]


def test_moto_is_an_s3_server(s3):
    assert s3.put(s3.bucket("servers").removeprefix("s3://"), "a/b.bin", DATA) == "s3://servers/a/b.bin"
    headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}
    assert ask(f"{s3.url}/servers/a/b.bin", Range="bytes=5-9", **headers)[2] == DATA[5:10]


def test_nginx_is_an_http_server(nginx):
    url, served = nginx
    served.joinpath("a.bin").write_bytes(DATA)
    status, headers, body = ask(f"{url}/a.bin", Range="bytes=5-9")
    assert (status, body, headers["Content-Range"]) == (206, DATA[5:10], f"bytes 5-9/{len(DATA)}")


def test_azurite_is_an_azure_server(azure):
    assert ask(f"{azure.url}/devstoreaccount1?comp=list")[0] == 403  # without credentials
