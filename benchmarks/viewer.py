"""Tiles that the viewer serves in a second, and its first picture.

`python -m benchmarks.viewer` asks `ndzarr view` for random tiles of 512 x 512 pixels of all levels over six
connections, as a browser does: of a store, a COG, a 16-bit store with seven channels, a video that is read in place,
frame by frame, and of a COG and a store on a web server whose answers take 50 ms, once each, since the viewer keeps
what it has decoded. Where Chromium, its driver and selenium are installed, it also opens the page and says when the
first picture was complete. `--picture FILE` writes the picture of docs/viewer.md.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from threading import local
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import ndzarr
from benchmarks.data import Data, clip, made
from benchmarks.harness import ROOT, Report, Section, Table, options, workspace

sys.path.insert(0, str(ROOT / "tests"))
from helpers.http_server import HttpServer

CONNECTIONS = 6
"""That a browser keeps to one host."""
TILE = 512
LATENCY = 0.05
"""Seconds until the web server answers."""
COLORS = ("ff0000", "00ff00", "0000ff")


@contextmanager
def served(*args: str | Path) -> Iterator[str]:
    """The address of `ndzarr view ARGS`."""
    command = [sys.executable, "-m", "ndzarr", "view", *map(str, args), "--no-browser", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def tiles_per_second(url: str, paths: Sequence[str]) -> float:
    """Ask for all of them over `CONNECTIONS` kept connections."""
    place, own = urlsplit(url), local()

    def ask(path: str) -> None:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection(place.netloc)
        own.connection.request("GET", place.path + path)
        response = own.connection.getresponse()
        body = response.read()
        assert response.status == 200, body

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(ask, paths[:12]))
        begin = time.perf_counter()
        list(pool.map(ask, paths))
        return len(paths) / (time.perf_counter() - begin)


def random_paths(path: Path, n: int, high: float) -> list[str]:
    """Tiles of all levels of a pyramid, each level as often, in random order; of a video, eight of each frame."""
    pyramid, rng = ndzarr.open(path), random.Random(0)
    height, width = pyramid.shape[-2:]
    levels = max(0, (max(height, width) - 1) // TILE).bit_length() + 1
    show = ";".join(f"{k},0,{high},{color}" for k, color in enumerate(COLORS))
    found = []
    for i in range(n):
        k = rng.randrange(levels)
        row, column = (rng.randrange(ceil(ceil(m / 2**k) / TILE)) for m in (height, width))
        t = i // 8 % pyramid.sizes.get("t", 1)
        found.append(f"tile/0/{k}/{row}/{column}?show={show}&t={t}")
    return found


def multispectral(path: Path, size: int) -> None:
    """Seven channels of 16 bits."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    base = 3000 * (np.sin(x / 90) + np.cos(y / 70) + 2)
    bands = [base * (0.5 + k / 7) + rng.normal(0, 60, (size, size)) for k in range(7)]
    ndzarr.transcode(np.stack(bands).clip(0, 65535).astype("u2"), path)


@contextmanager
def chromium(width: int = 1280, height: int = 800) -> Iterator[Any]:
    """Chromium without a screen; None where it is not installed."""
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        program = None
    if program is None or driver is None:
        yield None
        return
    wanted = webdriver.ChromeOptions()
    wanted.binary_location = program
    for option in ("--headless=new", "--force-device-scale-factor=1", "--disable-dev-shm-usage"):
        wanted.add_argument(option)
    if os.geteuid() == 0:
        wanted.add_argument("--no-sandbox")
    browser = webdriver.Chrome(options=wanted, service=webdriver.ChromeService(driver))
    try:
        # The height of the window includes that of its bars.
        browser.set_window_size(width, height)
        inner = browser.execute_script("return innerHeight")
        browser.set_window_size(width, 2 * height - inner)
        yield browser
    finally:
        browser.quit()


def first_picture(browser: Any, url: str) -> float:
    """Milliseconds from the navigation to the first complete picture."""
    browser.get(url)
    while not (found := browser.execute_script(FIRST)):
        time.sleep(0.02)
    return float(found[0])


FIRST = "return performance.getEntriesByName('first-picture').map(mark => mark.startTime)"
BUSY = "return document.getElementById('panes').ariaBusy === 'true'"


def picture(browser: Any, folder: Path, dest: Path) -> None:
    """The toy data in the viewer: annotations and targets, and a prediction beside the image."""
    import pandas
    from PIL import Image

    from ndzarr.toydata import write_demo

    file = write_demo(folder / "demo", "images", size=(2304, 3072), things=40)
    sampler = ndzarr.CocoSampler(json.loads(file.read_text()), folder / "pyramids", image_root=file.parent)
    chosen = sampler.targets.positives((160, 160), cover=True), sampler.targets.negatives(120, (160, 160), seed=0)
    heat = _edges(sampler, folder / "edges.zarr")
    with sampler.view(pandas.concat(chosen), beside=heat, browser=False) as viewer:
        first_picture(browser, viewer.url)
        for step in SCENE:
            browser.execute_script(step)
            time.sleep(0.5)
            while browser.execute_script(BUSY):
                time.sleep(0.05)
        shown = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        dest.parent.mkdir(parents=True, exist_ok=True)
        shown.save(dest, quality=74, method=6)


SCENE = (
    "const { viewport } = panes[0].osd; viewport.zoomTo(3.6, null, true);"
    "viewport.panTo(new OpenSeadragon.Point(0.58, 0.26), true)",
    "const boats = panes[0].shapes.annotations.filter((shape) => shape.category === 5 && shape.box[0] > 1500);"
    "panes[0].selected = boats[0]; panes[0].draw(); listSelected()",
)
"""What is done before the picture is taken: the harbour is shown, and a boat is selected."""


def _edges(sampler: ndzarr.CocoSampler, path: Path) -> ndzarr.Pyramid:
    """A prediction: the edges of the first image, at half its size."""
    rows, columns = np.gradient(sampler.open(1).read(1).mean(axis=0))
    edges = np.hypot(rows, columns).clip(0, 40).astype("f4")
    return ndzarr.transcode(edges, path, channels=["edges"], overwrite=True)


def main() -> None:
    """Measure, and print a table."""
    args = options(
        "viewer", __doc__,
        size=(8192, "pixels along each side"),
        tiles=(400, "of each"),
        rounds=(3, "of each"),
        dir=(None, "keep the files here"),
        out=(None, "put the table between the markers of this page"),
        picture=(None, "write the picture of the page instead"),
    )  # fmt: skip
    with workspace(args.dir) as folder:
        if args.picture is not None:
            with chromium() as browser:
                assert browser is not None, "the picture needs chromium, chromedriver and selenium"
                picture(browser, folder, args.picture)
            return
        report = Report(f"{args.size} x {args.size} pixels, {CONNECTIONS} connections, medians of {args.rounds} rounds")
        data = Data.within(folder, args.size)
        bands = made(folder / "bands.zarr", lambda path: multispectral(path, args.size // 2))
        film = made(folder / "clip.mp4", lambda path: clip(path, 120))
        kinds = {
            "store, 3 x uint8": (data.pyramid(), 255.0),
            "COG in place, deflate": (data.cog("deflate"), 255.0),
            "store, 7 x uint16, 3 shown": (bands, 16000.0),
            "video in place, 720p": (film, 255.0),
            "COG, 50 ms away": (data.cog("deflate"), 255.0),
            "store, 50 ms away": (data.pyramid(), 255.0),
        }
        rows = []
        with HttpServer(folder) as server, chromium() as browser:
            server.settings(latency=LATENCY)
            for name, (path, high) in kinds.items():
                paths = random_paths(path, args.tiles, high)
                away = name.endswith("away")
                with served(f"{server.url}/{path.relative_to(folder)}" if away else path) as url:
                    rounds = 1 if away else args.rounds
                    rate = float(np.median([tiles_per_second(url, paths) for _ in range(rounds)]))
                    seen = None if browser is None else f"{first_picture(browser, url):.0f}"
                rows.append((name, f"{rate:.0f}", seen or "not measured"))
        report.add(Section("Viewer", Table(("what", "tiles/s", "first picture ms"), rows)))
        report.write("viewer", args.out)


if __name__ == "__main__":
    main()
