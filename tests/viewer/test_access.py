"""Who may ask the viewer for what."""

import socket
import threading
from urllib.parse import urlsplit

import pytest

import ndzarr
from helpers.arrays import photo
from ndzarr.errors import TargetError


@pytest.fixture
def place(viewer):
    return urlsplit(viewer.url)


def test_it_listens_on_the_loopback_address_only(viewer, place):
    assert place.hostname == "127.0.0.1"
    other = socket.gethostbyname(socket.gethostname())
    if not other.startswith("127."):
        with pytest.raises(OSError):  # noqa: PT011
            socket.create_connection((other, place.port), timeout=5)


@pytest.mark.parametrize("path", ["/", "/items", "/viewer.js", "//items", "/x/items", "/{short}/items", "/{case}/"])
def test_nothing_is_told_without_the_token(viewer, place, ask, path):
    token = place.path.strip("/")
    assert len(token) >= 32
    found = ask(viewer, path.format(short=token[:-1], case=token.swapcase()))
    assert found.status == 403
    assert token not in found.body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "169.254.1.1", "", "localhost.:{port}"]
)
def test_a_foreign_host_name_is_refused(viewer, place, ask, host):
    assert ask(viewer, "items", {"Host": host.format(port=place.port)}).status == 403


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:4321", "[::1]:80", "LOCALHOST"])
def test_names_of_this_machine_are_accepted_through_a_tunnel_too(viewer, place, ask, host):
    assert ask(viewer, "items", {"Host": host.format(port=place.port)}).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://{netloc}"}, 403),
        ({"Origin": "http://{netloc}"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
def test_requests_of_other_pages_are_refused(viewer, place, ask, headers, status):
    given = {name: value.format(netloc=place.netloc) for name, value in headers.items()}
    assert ask(viewer, "items", given).status == status


@pytest.mark.parametrize(
    "path",
    ["../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/{token}//etc/passwd", "static/viewer.js", "viewer.js/..",
     "server.py", "item/9", "item/-1", "item/a", "item/99999999999", "tile/1/0/0", "tile/1/0/2/0", "tile/1/0/0/2",
     "tile/1/40/0/0", "annotations/1", "nothing", "item/1/", "item/%31"],
)  # fmt: skip
def test_only_what_was_opened_can_be_asked_for(viewer, place, ask, path):
    found = ask(viewer, path.format(token=place.path.strip("/")), show="0,0,255,ffffff")
    assert found.status == 404
    assert "root:" not in found.body


@pytest.mark.parametrize(
    "query",
    [{"show": ""}, {"show": "0,0,255"}, {"show": "9,0,1,ffffff"}, {"show": "0,0,1.2.3,ffffff"},
     {"show": "0,nan,1,ffffff"}, {"show": "0,0,1,fffff"}, {"show": "0,0,1,ffffff;0,0,1,ffffff"}, {"t": "1"},
     {"t": "-1"}, {"z": "x"}],
)  # fmt: skip
def test_queries_that_the_page_does_not_send_are_refused(viewer, ask, query):
    assert ask(viewer, "tile/1/0/0/0", **({"show": "0,0,255,ffffff"} | query)).status == 404


@pytest.mark.parametrize("window", ["0,0,0,10", "10,5,0,10", "a", "0,1,0,-5", "0,1,0", "0,1,0,1,2"])
def test_windows_that_the_page_does_not_send_are_refused(viewer, ask, window):
    assert ask(viewer, "annotations/1", window=window).status == 404


def test_pages_may_not_be_framed_kept_or_told_to_others(viewer, ask):
    found = ask(viewer, "")
    policy = found.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert found.headers["Referrer-Policy"] == "no-referrer"
    assert found.headers["Cache-Control"] == "no-store"
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert "http:" not in found.body.replace(viewer.url, "")
    assert "https:" not in found.body
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(viewer, "items", method=method).status == 501


def test_a_closed_viewer_serves_nothing(tmp_path):
    pyramid = ndzarr.transcode(photo(20, 20), tmp_path / "a.zarr")
    viewer = ndzarr.Sampler([pyramid]).view(browser=False)
    port = urlsplit(viewer.url).port
    viewer.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert not [thread for thread in threading.enumerate() if thread.name == "ndzarr-view" and not thread.is_alive()]


def test_nothing_to_show_is_an_error(tmp_path):
    with pytest.raises(TargetError):
        ndzarr.Sampler({}, tmp_path).view(browser=False)


def test_many_requests_at_a_time_get_the_same_tile(viewer, tile):
    first, found = tile(viewer, "1/0/0/0"), []
    threads = [threading.Thread(target=lambda: found.append(tile(viewer, "1/0/0/0"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all((one == first).all() for one in found)
