"""Stores that are read over HTTP, from servers of this machine."""

from __future__ import annotations

import functools
import http.server
import socket
import threading

import numpy as np
import pytest

import ndzarr
from helpers.errors import raises
from ndzarr.errors import MissingError, OptionError, StoreError

pytest.importorskip("aiohttp")
pytest.importorskip("fsspec")


class Plain(http.server.SimpleHTTPRequestHandler):
    """What `python -m http.server` runs: it sends whole files."""

    def log_message(self, *args):
        pass


class Ranged(Plain):
    """One that sends parts of files."""

    def do_GET(self):
        asked = self.headers.get("Range")
        try:
            with open(self.translate_path(self.path), "rb") as file:
                content = file.read()
        except OSError:
            return self.send_error(404)
        if asked is None:
            self.send_response(200)
        else:
            first, last = asked.removeprefix("bytes=").split("-")
            content = content[-int(last) :] if not first else content[int(first) : int(last) + 1 if last else None]
            self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def serve(tmp_path):
    """Serves the temporary directory; call it with a handler for the address."""
    servers = []

    def begin(handler):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=tmp_path))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    ndzarr.transcode(pixels, tmp_path / "a.zarr")
    return np.moveaxis(pixels, -1, 0)


def test_a_store_is_read_from_a_server_that_sends_parts(serve, image):
    for url in (f"{serve(Ranged)}/a.zarr", f"{serve(Ranged)}/a.zarr/"):
        pyr = ndzarr.open(url)
        assert repr(pyr).startswith("<ndzarr.Pyramid 'a.zarr'")
        assert np.array_equal(pyr.read(y=slice(3, 250), x=slice(100, 300)), image[:, 3:250, 100:300])


def test_a_server_that_sends_whole_files_is_refused_and_not_believed(serve, image):
    with raises(StoreError, hint="Use a server that answers range requests"):
        ndzarr.open(f"{serve(Plain)}/a.zarr")


def test_a_dataset_may_name_stores_by_their_urls(serve, image, tmp_path):
    coco = {"images": [{"id": 1, "file_name": f"{serve(Ranged)}/a.zarr", "width": 400, "height": 300}]}
    sampler = ndzarr.CocoSampler(coco, tmp_path / "w", allow="urls")
    sample = sampler.load_sample(gid=1, y=slice(0, 50), x=slice(0, 60))
    assert np.array_equal(sample.image, image[:, :50, :60])


def test_what_is_not_there_is_said_in_a_line(serve, tmp_path):
    with raises(MissingError, hint="Check the address"):
        ndzarr.open(f"{serve(Ranged)}/nothing.zarr")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with raises(StoreError, hint="Check the address"):
            ndzarr.open(f"http://127.0.0.1:{free.getsockname()[1]}/a.zarr")
    with raises(StoreError, hint="Check the address"):
        ndzarr.open("nonsense://a.zarr")


def test_a_connection_that_is_lost_is_an_error_that_names_the_store_and_the_window(serve, image, tmp_path):
    pyr = ndzarr.open(f"{serve(Ranged)}/a.zarr")
    for shard in (tmp_path / "a.zarr").rglob("c/0/*/*"):
        shard.write_bytes(b"no shard")
    with pytest.raises(StoreError, match=r"a.zarr/0/image: zarr-python cannot read \[0:3, 0:9, 0:400\]"):
        pyr.read(y=slice(0, 9))


def test_stores_and_files_are_not_written_to_urls(tmp_path):
    pyr = ndzarr.transcode(np.zeros((9, 9), np.uint8), tmp_path / "a.zarr")
    for write in (
        lambda: ndzarr.transcode(np.zeros((9, 9), np.uint8), "s3://bucket/a.zarr"),
        lambda: ndzarr.export_cog(pyr, "s3://bucket/a.tif"),
    ):
        with pytest.raises(OptionError, match=r"s3://bucket/.* local disks only"):
            write()
