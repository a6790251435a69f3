"""Which chunks along t, y and x, for whole frames, for short tubes, and for both?

The frames are those of a clip that was encoded as H.264 and decoded again, as nearly all videos are; noise that a
camera adds to each frame is mostly gone then, and what moves is blurred.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

import ndzarr
from benchmarks.layouts.codecs import Array
from benchmarks.layouts.measurement import Runner, Settings, race
from benchmarks.layouts.report import Report
from benchmarks.photographs import photograph
from ndzarr._store.presets import ACCESS

CHUNKS = (
    (1, 64),
    (1, 128),
    (1, 256),
    (2, 64),
    (2, 96),
    (2, 128),
    (4, 64),
    (4, 96),
    (4, 128),
    (8, 64),
    (8, 128),
    (16, 64),
)
"""(t, edge) of the chunks that are compared."""
TUBE = (16, 128)
"""Frames, and pixels along y and x, of a tube."""


def moving(frames: int, height: int, width: int, seed: int = 0) -> Array:
    """Return (t, y, x, c) uint8: a camera that pans over a scene, an object that crosses it, noise in every frame."""
    scene = photograph(height + 2 * frames, width + 3 * frames, seed=seed).transpose(1, 2, 0)
    rng = np.random.default_rng(seed)
    out = np.empty((frames, height, width, 3), np.uint8)
    for t in range(frames):
        shift = np.float32([[1, 0, -1.3 * t], [0, 1, -0.7 * t]])
        view = cv2.warpAffine(scene, shift, (width, height), flags=cv2.INTER_LINEAR).astype(np.int16)
        y, x = height // 3, (width // 8 + 5 * t) % (width - 96)
        view[y : y + 64, x : x + 96] = 255 - view[y : y + 64, x : x + 96]
        out[t] = np.clip(view + rng.normal(0, 2, view.shape), 0, 255)
    return out


def through_h264(frames: Array) -> Array:
    """Return the frames (t, y, x, c) after H.264 with x264's default settings."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _frame(pyramid: ndzarr.Pyramid, frames: Sequence[int]) -> Runner:
    return lambda turn: pyramid.read(t=slice(t := frames[turn % len(frames)], t + 1))


def _tube(pyramid: ndzarr.Pyramid, corners: Array, length: int, edge: int) -> Runner:
    def run(turn: int) -> Array:
        t, y, x = corners[turn % len(corners)].tolist()
        return pyramid.read(t=slice(t, t + length), y=slice(y, y + edge), x=slice(x, x + edge))

    return run


def study_space_time(report: Report, settings: Settings) -> None:
    """Which chunks along t, y and x?"""
    count, height, width = (32, 360, 640) if settings.quick else (96, 720, 1280)
    frames = np.ascontiguousarray(through_h264(moving(count, height, width)).transpose(0, 3, 1, 2))
    rng = np.random.default_rng(0)
    length, edge = TUBE
    corners = rng.integers(0, (count - length + 1, height - edge + 1, width - edge + 1), (97, 3))
    numbers = rng.permutation(count).tolist()
    folder = Path(tempfile.mkdtemp(prefix="ndzarr-space-time-"))
    try:
        for preset in ("fast", "compact"):
            made = [
                ndzarr.transcode(
                    frames,
                    folder / f"{preset}-{t}-{side}.zarr",
                    axes="tcyx",
                    preset=preset,
                    chunks={"t": t, "y": side, "x": side},
                )
                for t, side in CHUNKS
            ]
            wholes = race([_frame(one, numbers) for one in made], settings.seconds)
            tubes = race([_tube(one, corners, length, edge) for one in made], settings.seconds)
            crops = race([_tube(one, corners, 1, edge) for one in made], settings.seconds)
            names = {chunk: name for name, chunk in ACCESS.items()}
            rows = [
                [
                    f"{t} x {side} x {side}",
                    names.get((t, side), ""),
                    f"{frames.nbytes / _native_bytes(one):.2f}",
                    *(f"{seconds * 1e3:.2f}" for seconds in times),
                ]
                for (t, side), one, *times in zip(CHUNKS, made, wholes, tubes, crops, strict=True)
            ]
            head = [
                "chunk (t, y, x), all channels",
                "access",
                "ratio",
                "frame, ms",
                "16 x 128 x 128, ms",
                "1 x 128 x 128, ms",
            ]
            note = f"{frames.shape} uint8 (t, c, y, x), decoded H.264; random windows; levels left out of the ratio."
            report.table(f"Space and time: {preset}", head, rows, note)
    finally:
        shutil.rmtree(folder)


def _native_bytes(pyramid: ndzarr.Pyramid) -> int:
    return sum(file.stat().st_size for file in Path(pyramid.path, "0", "image").rglob("*") if file.is_file())
