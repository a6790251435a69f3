"""
Servers of other makers on the loopback address: S3 (moto), Azure (azurite) and HTTP (nginx).

Each runs in a process of its own and ends with its context.  `python -m helpers.servers` (in `tests/`) installs azurite
where the tests look for it; that takes minutes, so they never do it themselves.
"""

from __future__ import annotations

import base64
import hmac
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

_MOTO = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""
AZURITE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "ndzarr-tests", "azurite")
"""Where azurite is installed, unless the path of programs has it."""


@dataclass(frozen=True)
class S3:
    """An S3 server; any credentials will do."""

    url: str

    @property
    def storage_options(self) -> dict[str, str]:
        """How clients reach it, in the names of AWS's environment variables."""
        return {
            "aws_endpoint_url": self.url,
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "aws_region": "us-east-1",
        }

    def bucket(self, name: str) -> str:
        """Make a bucket, and return its URL."""
        self._put(name)
        return f"s3://{name}"

    def put(self, bucket: str, key: str, data: bytes) -> str:
        """Store an object, and return its URL."""
        self._put(f"{bucket}/{key}", data)
        return f"s3://{bucket}/{key}"

    def _put(self, path: str, data: bytes = b"") -> None:
        headers = {"Content-Type": "application/octet-stream"}  # moto waits for the rest of what it takes for a form
        request = urllib.request.Request(f"{self.url}/{path}", data, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()


@contextmanager
def moto() -> Iterator[S3]:
    """Run moto's S3 server."""
    command = [sys.executable, "-c", _MOTO]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            host, port = process.stdout.readline().split()
            yield S3(f"http://{host}:{port}")
        finally:
            process.terminate()


@dataclass(frozen=True)
class Azure:
    """An Azure server with the account of the emulator, whose key is public."""

    url: str

    @property
    def storage_options(self) -> dict[str, str]:
        """How clients reach it, in the names of obstore."""
        return {
            "azure_storage_account_name": "devstoreaccount1",
            "azure_storage_account_key": (
                "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
            ),
            "azure_storage_endpoint": f"{self.url}/devstoreaccount1",
            "azure_allow_http": "true",
        }

    def container(self, name: str) -> str:
        """Make a container, and return its URL; obstore cannot."""
        account, key = (self.storage_options[f"azure_storage_account_{part}"] for part in ("name", "key"))
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        named = "\n".join(f"{header}:{value}" for header, value in headers.items())
        signed = "PUT" + 12 * "\n" + f"{named}\n/{account}/{account}/{name}\nrestype:container"
        digest = base64.b64encode(hmac.digest(base64.b64decode(key), signed.encode(), "sha256")).decode()
        headers["Authorization"] = f"SharedKey {account}:{digest}"
        url = f"{self.url}/{account}/{name}?restype=container"
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=60):
            return f"az://{name}"


def find_azurite() -> str | None:
    """Return the program, None if it is not installed."""
    return shutil.which("azurite-blob", path=os.pathsep.join([f"{AZURITE}/node_modules/.bin", os.environ["PATH"]]))


@contextmanager
def azurite(program: str, folder: Path) -> Iterator[Azure]:
    """Run azurite's blob server in memory."""
    port = _free_port()
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck"]
    with _running([program, *options, "--silent", "--disableTelemetry"], folder, port) as url:
        yield Azure(url)


NGINX_ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
"""The module of nginx that waits (Debian: libnginx-mod-http-echo)."""


@contextmanager
def nginx(
    program: str, folder: Path, served: Path, latency: float = 0.0, bandwidth: float | None = None
) -> Iterator[str]:
    """
    Run nginx for the files of a folder, and yield its URL; its own files are in `folder`.

    It answers after `latency` seconds, which needs `NGINX_ECHO`, and sends `bandwidth` bytes a second and connection.
    """
    port = _free_port()
    module = f"load_module {NGINX_ECHO};" if latency else ""
    wait = f"echo_sleep {latency}; echo_exec @file;" if latency else "try_files $uri =404;"
    rate = f"limit_rate {bandwidth:.0f};" if bandwidth else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    Path(folder, "nginx.conf").write_text(f"""
        {module}
        daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 512; }}
        http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000; {temporary}
                server {{ listen 127.0.0.1:{port}; root {served};
                          location / {{ {wait} }}
                          location @file {{ {rate} }} }} }}
    """)
    with _running([program, "-p", str(folder), "-c", f"{folder}/nginx.conf"], folder, port) as url:
        yield url


@contextmanager
def _running(command: list[str], folder: Path, port: int) -> Iterator[str]:
    """Run a server that ends when it is asked to, and yield its URL once it listens."""
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} does not listen: {Path(folder, 'output').read_text()}") from None
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    """Return a port that was free a moment ago, for servers that do not choose one themselves."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    AZURITE.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "azurite"], cwd=AZURITE, check=True)
