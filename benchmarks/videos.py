"""Short windows of a video, and transcoding it, beside PyAV, decord, torchcodec and zarr-python.

    python -m benchmarks.videos                     # everything
    python -m benchmarks.videos --frames 900 --tubes 100

The clip, 1280 x 720, is encoded with x264's default settings (B-frames, up to 250 frames from key frame to key frame).
Each reader in turn reads tubes of 16 x 128 x 128 at random:

- ndzarr: a pyramid that was transcoded from it, with chunks for whole frames (default) and for tubes;
- `ndzarr.open` of the clip itself;
- PyAV: a loop that seeks to the key frame, decodes in threads, goes on where the next tube lies ahead, and converts
  only the frames that are wanted;
- decord and torchcodec, where they are installed;
- zarr-python: 16 frames that were transcoded one by one.

Transcoding is compared with decoding the clip, and then encoding all chunks, both with all processors.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr
from benchmarks.data import Window, clip
from benchmarks.harness import (
    Line,
    Report,
    Section,
    Table,
    left_out,
    milliseconds,
    number,
    options,
    race,
    timed,
    workspace,
)  # fmt: skip
from benchmarks.readers import zarr_array
from benchmarks.writers import chunks, encode_all

HEIGHT, WIDTH, RATE = 720, 1280, 30
FRAMES, EDGE = 16, 128
"""Of a tube."""
Read = Callable[[int, int, int], Any]
"""First frame, row and column to pixels (t, y, x, c) or (t, c, y, x)."""


class SeekLoop:
    """What a careful person writes with PyAV."""

    def __init__(self, path: Path) -> None:
        import av

        self.container = av.open(str(path))
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.base = self.stream.time_base
        self.frames: Any = iter(())
        self.next = -1

    def __call__(self, first: int, y: int, x: int) -> Any:
        if not self.next <= first <= self.next + 30:
            self.container.seek(int(first / RATE / self.base), stream=self.stream)
            self.frames = self.container.decode(self.stream)
        out = []
        for frame in self.frames:
            if round(float(frame.pts * self.base) * RATE) >= first:
                out.append(frame.to_ndarray(format="rgb24")[y : y + EDGE, x : x + EDGE])
            if len(out) == FRAMES:
                break
        self.next = first + FRAMES
        return np.stack(out)


def decord(path: Path) -> Read:
    from decord import VideoReader

    reader = VideoReader(str(path))
    return lambda t, y, x: reader.get_batch(range(t, t + FRAMES)).asnumpy()[:, y : y + EDGE, x : x + EDGE]


def torchcodec(path: Path) -> Read:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), seek_mode="exact", num_ffmpeg_threads=0)
    return lambda t, y, x: decoder.get_frames_in_range(t, t + FRAMES).data[..., y : y + EDGE, x : x + EDGE].numpy()


def single_frames(pyramid: ndzarr.Pyramid, folder: Path) -> Read:
    """Frames that were transcoded one by one, through zarr-python."""
    arrays = []
    for t in range(pyramid.shape[0]):
        ndzarr.transcode(pyramid.read(t=slice(t, t + 1))[0], folder / f"{t}.zarr")
        arrays.append(zarr_array(folder / f"{t}.zarr"))
    return lambda t, y, x: np.stack([a[:, y : y + EDGE, x : x + EDGE] for a in arrays[t : t + FRAMES]])


def window(t: int, y: int, x: int) -> Window:
    """A tube as ndzarr takes it."""
    return {"t": slice(t, t + FRAMES), "y": slice(y, y + EDGE), "x": slice(x, x + EDGE)}


def tubes(folder: Path, path: Path, wanted: int, rounds: int) -> Section:
    """Let all readers take turns, after their pixels were compared."""
    opened = {
        "ndzarr": ndzarr.transcode(path, folder / "frames.zarr"),
        "ndzarr, access='tubes'": ndzarr.transcode(path, folder / "tubes.zarr", access="tubes"),
        "ndzarr.open(clip)": ndzarr.open(path),
    }
    readers: dict[str, Read] = {
        name: lambda t, y, x, p=pyramid: p.read(**window(t, y, x))  # type: ignore[misc]
        for name, pyramid in opened.items()
    }
    readers["PyAV seek loop"] = SeekLoop(path)
    missing = []
    for name, make in (("decord", decord), ("torchcodec", torchcodec)):
        try:
            readers[name] = make(path)
        except (ImportError, OSError, RuntimeError) as error:
            missing.append(f"{name} ({str(error).splitlines()[0][:80]})")
    readers["zarr-python, 16 frames"] = single_frames(opened["ndzarr"], folder)
    rng = random.Random(0)
    limits = [
        n - size for n, size in zip((opened["ndzarr"].shape[0], HEIGHT, WIDTH), (FRAMES, EDGE, EDGE), strict=True)
    ]
    places = [[rng.randrange(limit) for limit in limits] for _ in range(wanted)]
    for place in places[:3]:
        truth = readers["ndzarr"](*place).astype(int)
        for name, reader in readers.items():
            found = np.asarray(reader(*place))
            apart = np.abs((found if found.shape[1] == 3 else np.moveaxis(found, -1, 1)) - truth).mean()
            # Other converters interpolate chroma in other ways.
            if apart > (0 if name.startswith(("ndzarr", "zarr")) else 3):
                raise AssertionError(f"{name} gives other pixels at {place}: {apart} on average")
    result = race({n: lambda i, r=r: r(*places[i]) for n, r in readers.items()}, wanted, rounds)  # type: ignore[misc]
    targets = {"PyAV seek loop": 20, "decord": 20, "torchcodec": 20, "zarr-python, 16 frames": 10}
    own = result.ratio("ndzarr.open(clip)", "PyAV seek loop")
    return Section(
        f"Tubes of {FRAMES} x {EDGE} x {EDGE}",
        Table(("reader", "median ms", "95% ms", "/ ndzarr"), [
            (n, milliseconds(result.median(n)), milliseconds(result.slow(n)), number(result.ratio(n, "ndzarr")))
            for n in result.names
        ]),
        [
            *[Line("7", f"tubes against {n}", result.ratio(n, "ndzarr"), limit, at_least=True)
              for n, limit in targets.items() if n in readers],
            Line("7", "ndzarr.open(clip) against PyAV", own, 1),
        ],
        left_out(missing),
    )  # fmt: skip


def transcoding(folder: Path, path: Path, frames: int, rounds: int) -> Section:
    """Frames a second of decoding the clip, of encoding the chunks of all levels, and of transcoding."""
    store = ndzarr.transcode(path, folder / "once.zarr")
    spent = np.array([
        (timed(lambda: _decode(path)), _encode(store),
         timed(lambda: ndzarr.transcode(path, folder / "again.zarr", overwrite=True)))
        for _ in range(rounds)
    ])  # fmt: skip
    decoding, encoding, whole = np.median(spent, axis=0)
    rates = zip(("decode", "encode", "transcode"), (decoding, encoding, whole), strict=True)
    return Section(
        "Transcoding",
        Table(("transcoding", "frames / s"), [(name, f"{frames / s:.0f}") for name, s in rates]),
        [Line("7", "speed of transcoding, of decode + encode", (decoding + encoding) / whole, 0.7, at_least=True)],
    )


def _decode(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            pass


def _encode(store: ndzarr.Pyramid, block: int = 16) -> float:
    """Seconds to encode all chunks of a store again; reading them is not counted."""
    spent = 0.0
    for k in range(len(store.levels)):
        for t in range(0, store.shape[0], block):
            frames = store.read(k, t=slice(t, t + block))
            beyond = [(0, -n % EDGE) for n in frames.shape[-2:]]
            padded = np.pad(frames, [(0, 0), (0, 0), *beyond], mode="edge")
            pieces = [piece for frame in padded for piece in chunks(frame)]
            spent += timed(lambda pieces=pieces: encode_all(pieces))  # type: ignore[misc]
    return spent


def main() -> None:
    """Measure and print."""
    args = options(
        "videos", __doc__,
        frames=(600, "of the clip"),
        tubes=(40, "that each reader reads"),
        rounds=(2, "times that each is read"),
        dir=(None, "keep the files here"),
        out=(None, "put the tables between the markers of this page"),
    )  # fmt: skip
    with workspace(args.dir) as folder:
        path = clip(folder / "clip.mp4", args.frames, (HEIGHT, WIDTH), RATE)
        report = Report(f"{args.frames} frames, {path.stat().st_size / 1e6:.1f} MB of H.264")
        report.add(transcoding(folder, path, args.frames, args.rounds))
        report.add(tubes(folder, path, args.tubes, args.rounds))
    report.write("videos", args.out)


if __name__ == "__main__":
    main()
