"""How fast are short windows of a video read, and how fast is it transcoded?

    python -m benchmarks.videos                     # everything
    python -m benchmarks.videos --frames 900 --tubes 100

It encodes a clip of photograph-like content that moves, 1280 x 720, with x264's default settings (B-frames, up to 250
frames from key frame to key frame), and reads tubes of 16 x 128 x 128 at random, each reader in turn:

- ndzarr: a pyramid that was transcoded from it, with chunks for whole frames (default) and for tubes;
- `ndzarr.open` of the clip itself;
- PyAV: a loop that seeks to the key frame, decodes in threads, goes on where the next tube lies ahead, and converts
  only the frames that are wanted;
- decord and torchcodec, where they are installed;
- zarr-python: 16 frames that were transcoded one by one.

Transcoding is compared with decoding the clip, and then encoding all chunks, both with all processors.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr
from benchmarks.photographs import photograph
from benchmarks.race import Race, race
from benchmarks.report import Line, Table, milliseconds, number

HEIGHT, WIDTH, RATE = 720, 1280, 30
FRAMES, EDGE = 16, 128
"""Of a tube."""

Tube = tuple[int, int, int]
"""First frame, row and column."""


def clip(path: Path, frames: int, seed: int = 0) -> str:
    """Encode a camera that pans over a scene, in which things move, with noise in every frame."""
    import av

    scene = np.ascontiguousarray(np.moveaxis(photograph(HEIGHT + 400, WIDTH + 800, seed=seed), 0, -1))
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 2, (4, HEIGHT, WIDTH, 1)).astype(np.int16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for i in range(frames):
            y, x = int(200 + 180 * np.sin(i / 50)), int(400 + 380 * np.sin(i / 83))
            view = scene[y : y + HEIGHT, x : x + WIDTH].astype(np.int16)
            left = 7 * i % (WIDTH - 96)
            view[300:364, left : left + 96] = 255 - view[300:364, left : left + 96]
            view += np.roll(noise[i % 4], 37 * i, axis=1)
            frame = av.VideoFrame.from_ndarray(np.clip(view, 0, 255).astype(np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return str(path)


class SeekLoop:
    """What a careful person writes with PyAV; gives (t, y, x, c)."""

    def __init__(self, path: str) -> None:
        import av

        self.container = av.open(path)
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.base = self.stream.time_base
        self.frames: Any = iter(())
        self.next = -1

    def __call__(self, first: int, y: int, x: int) -> np.ndarray[Any, Any]:
        if not self.next <= first <= self.next + 30:
            self.container.seek(int(first / RATE / self.base), stream=self.stream)
            self.frames = self.container.decode(self.stream)
        out = []
        for frame in self.frames:
            number = round(float(frame.pts * self.base) * RATE)
            if number >= first:
                out.append(frame.to_ndarray(format="rgb24")[y : y + EDGE, x : x + EDGE])
            if len(out) == FRAMES:
                break
        self.next = first + FRAMES
        return np.stack(out)


def decord(path: str) -> Callable[[int, int, int], Any]:
    """A reader with decord; gives (t, y, x, c)."""
    from decord import VideoReader

    reader = VideoReader(path)
    return lambda t, y, x: reader.get_batch(range(t, t + FRAMES)).asnumpy()[:, y : y + EDGE, x : x + EDGE]


def torchcodec(path: str) -> Callable[[int, int, int], Any]:
    """A reader with torchcodec; gives (t, c, y, x)."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, seek_mode="exact", num_ffmpeg_threads=0)
    return lambda t, y, x: decoder.get_frames_in_range(t, t + FRAMES).data[..., y : y + EDGE, x : x + EDGE].numpy()


def single_frames(pyramid: ndzarr.Pyramid, folder: Path) -> Callable[[int, int, int], Any]:
    """Frames that were transcoded one by one, through zarr-python; gives (t, c, y, x)."""
    import zarr

    arrays = []
    for t in range(pyramid.shape[0]):
        ndzarr.transcode(pyramid.read(t=slice(t, t + 1))[0], folder / f"{t}.zarr")
        arrays.append(zarr.open_array(folder / f"{t}.zarr" / "0/image", mode="r"))
    return lambda t, y, x: np.stack([a[:, y : y + EDGE, x : x + EDGE] for a in arrays[t : t + FRAMES]])


def window(t: int, y: int, x: int) -> dict[str, Any]:
    """A tube as ndzarr takes it."""
    return {"t": slice(t, t + FRAMES), "y": slice(y, y + EDGE), "x": slice(x, x + EDGE)}


def tubes(folder: Path, path: str, number_of: int, rounds: int) -> tuple[Race, list[str]]:
    """Let all readers take turns, after their pixels were compared."""
    pyramid = ndzarr.transcode(path, folder / "frames.zarr")
    tubed = ndzarr.transcode(path, folder / "tubes.zarr", access="tubes")
    opened = ndzarr.open(path)
    readers: dict[str, Callable[[int, int, int], Any]] = {
        "ndzarr": lambda t, y, x: pyramid.read(**window(t, y, x)),
        "ndzarr, access='tubes'": lambda t, y, x: tubed.read(**window(t, y, x)),
        "ndzarr.open(clip)": lambda t, y, x: opened.read(**window(t, y, x)),
        "PyAV seek loop": SeekLoop(path),
    }
    missing = []
    for name, make in (("decord", decord), ("torchcodec", torchcodec)):
        try:
            readers[name] = make(path)
        except (ImportError, OSError, RuntimeError) as error:
            missing.append(f"{name} ({str(error).splitlines()[0][:80]})")
    (folder / "single").mkdir()
    readers["zarr-python, 16 frames"] = single_frames(pyramid, folder / "single")
    rng = random.Random(0)
    places: list[Tube] = [
        (rng.randrange(pyramid.shape[0] - FRAMES), rng.randrange(HEIGHT - EDGE), rng.randrange(WIDTH - EDGE))
        for _ in range(number_of)
    ]
    for place in places[:3]:
        truth = pyramid.read(**window(*place)).astype(int)
        for name, reader in readers.items():
            found = np.asarray(reader(*place))
            found = found if found.shape[1] == 3 else np.moveaxis(found, -1, 1)
            apart = np.abs(found - truth).mean()
            # Other converters interpolate chroma in other ways.
            if apart > (0 if name.startswith(("ndzarr", "zarr")) else 3):
                raise AssertionError(f"{name} gives other pixels at {place}: {apart} on average")
    contestants = {name: (lambda i, reader=reader: reader(*places[i])) for name, reader in readers.items()}
    return race(contestants, len(places), rounds), missing


def transcoding(folder: Path, path: str, rounds: int) -> tuple[float, float, float]:
    """Seconds of decoding the clip, of encoding the chunks of all levels, and of transcoding."""
    store = ndzarr.transcode(path, folder / "once.zarr")
    decoding, encoding, whole = [], [], []
    for k in range(rounds):
        begun = time.perf_counter()
        _decode(path)
        decoding.append(time.perf_counter() - begun)
        encoding.append(_encode(store))
        begun = time.perf_counter()
        ndzarr.transcode(path, folder / f"again{k}.zarr")
        whole.append(time.perf_counter() - begun)
    return statistics.median(decoding), statistics.median(encoding), statistics.median(whole)


def _decode(path: str) -> None:
    import av

    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            pass


def _encode(store: ndzarr.Pyramid, block: int = 16) -> float:
    """Encode all chunks of a store again, by as many threads as there are processors; reading them is not counted."""
    spent = 0.0
    with ThreadPoolExecutor() as pool:
        for k, level in enumerate(store.levels):
            array: Any = level.array
            height, width = array.chunks[-2:]
            for t in range(0, array.shape[0], block):
                frames = store.read(k, t=slice(t, t + block))
                beyond = [(0, -n % edge) for n, edge in zip(frames.shape[-2:], (height, width), strict=True)]
                frames = np.pad(frames, [(0, 0), (0, 0), *beyond], mode="edge")
                chunks = [
                    np.ascontiguousarray(frame[None, :, y : y + height, x : x + width])
                    for frame in frames
                    for y in range(0, frames.shape[2], height)
                    for x in range(0, frames.shape[3], width)
                ]
                begun = time.perf_counter()
                list(pool.map(array.codec.encode, chunks))
                spent += time.perf_counter() - begun
    return spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.videos", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=600, help="of the clip (600)")
    parser.add_argument("--tubes", type=int, default=40, help="that each reader reads (40)")
    parser.add_argument("--rounds", type=int, default=2, help="times that each is read (2)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ndzarr-videos-") as made:
        folder = Path(made)
        path = clip(folder / "clip.mp4", args.frames)
        print(f"{args.frames} frames, {Path(path).stat().st_size / 1e6:.1f} MB of H.264")
        decoding, encoding, whole = transcoding(folder, path, args.rounds)
        found, missing = tubes(folder, path, args.tubes, args.rounds)
    rows = [
        (name, milliseconds(found.median(name)), milliseconds(found.slow(name)), number(found.ratio(name, "ndzarr")))
        for name in found.names
    ]
    print(Table(("reader", "median ms", "95% ms", "/ ndzarr"), rows))
    for name in missing:
        print(f"left out: {name}")
    rates = [
        (n, f"{args.frames / s:.0f}") for n, s in (("decode", decoding), ("encode", encoding), ("transcode", whole))
    ]
    print(Table(("transcoding", "frames / s"), rates))
    lines = [
        Line("7", f"tubes against {name}", found.ratio(name, "ndzarr"), limit, at_least=True)
        for name, limit in (("PyAV seek loop", 20), ("decord", 20), ("torchcodec", 20), ("zarr-python, 16 frames", 10))
        if name in found.names
    ]
    lines.append(
        Line(
            "7", "ndzarr.open(clip) against PyAV", found.ratio("ndzarr.open(clip)", "PyAV seek loop"), 1, at_least=False
        )
    )
    lines.append(
        Line("7", "speed of transcoding, of decode + encode", (decoding + encoding) / whole, 0.7, at_least=True)
    )
    print(Table(("issue", "what", "target", "measured", ""), [line.cells for line in lines]))


if __name__ == "__main__":
    main()
