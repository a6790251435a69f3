"""What do windows of videos cost, of several assets or in one container, in time and in chunks?"""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

import ndzarr

WINDOWS = 20


def multispectral(folder: Path) -> dict[str, Any]:
    """Kwcoco's demo video of 5 frames of 5 bands, of three resolutions."""
    import kwcoco

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dset = kwcoco.CocoDataset.demo("vidshapes1-frames5-multispectral", verbose=0, dpath=str(folder))
    dset.reroot(absolute=True)
    return dict(dset.dataset)


def frames(folder: Path, edge: int = 4096, n: int = 4) -> dict[str, Any]:
    """A video of n RGB frames of edge x edge, as PNG files."""
    from PIL import Image

    from benchmarks.photographs import photograph

    folder.mkdir(parents=True, exist_ok=True)
    first = np.moveaxis(photograph(edge, edge), 0, -1)
    images = []
    for t in range(n):
        path = folder / f"{t}.png"
        Image.fromarray(np.ascontiguousarray(np.roll(first, 17 * t, axis=1))).save(path, compress_level=1)
        images.append(
            {"id": t + 1, "file_name": str(path), "video_id": 1, "frame_index": t, "width": edge, "height": edge,
             "channels": "r|g|b"}
        )  # fmt: skip
    video = {"id": 1, "name": "large", "width": edge, "height": edge}
    return {"videos": [video], "images": images, "annotations": [], "categories": []}


def small_windows(size: int = 600, edge: int = 64) -> list[dict[str, Any]]:
    """Windows of the whole multispectral video."""
    corners = np.random.default_rng(0).integers(0, size - edge, (WINDOWS, 2)).tolist()
    return [{"vidid": 1, "space_slice": (slice(y, y + edge), slice(x, x + edge))} for y, x in corners]


OVERVIEW: dict[str, Any] = {"vidid": 1, "scale": 1 / 16}


class Multispectral:
    """5 frames x 5 bands of 64 x 64 pixels."""

    timeout = 300

    def setup_cache(self) -> tuple[dict[str, Any], Path]:
        folder = Path(mkdtemp(prefix="ndzarr-videos-"))
        content = multispectral(folder / "demo")
        ndzarr.CocoSampler(content, folder / "pyramids").prepare()
        return content, folder

    def setup(self, made: tuple[dict[str, Any], Path]) -> None:
        self.sampler = ndzarr.CocoSampler(made[0], made[1] / "pyramids")
        self.sampler.load_sample(small_windows()[0])

    def time_load_sample(self, made: tuple[dict[str, Any], Path]) -> None:
        for target in small_windows():
            self.sampler.load_sample(target)

    def track_chunks_decoded(self, made: tuple[dict[str, Any], Path]) -> int:
        return sum(self.sampler.plan(target).explain().chunks for target in small_windows())


class Overview:
    """The full frame at 1/16 over 4 frames of 2048 x 2048."""

    timeout = 300

    def setup_cache(self) -> tuple[dict[str, Any], Path]:
        folder = Path(mkdtemp(prefix="ndzarr-overview-"))
        content = frames(folder / "images", 2048)
        ndzarr.CocoSampler(content, folder / "pyramids").prepare()
        return content, folder

    def setup(self, made: tuple[dict[str, Any], Path]) -> None:
        self.sampler = ndzarr.CocoSampler(made[0], made[1] / "pyramids")
        self.sampler.load_sample(OVERVIEW)

    def time_load_sample(self, made: tuple[dict[str, Any], Path]) -> None:
        self.sampler.load_sample(OVERVIEW)

    def track_decoded_bytes(self, made: tuple[dict[str, Any], Path]) -> int:
        return self.sampler.plan(OVERVIEW).explain().decoded_bytes


class Container:
    """Tubes of 16 x 128 x 128 pixels of a clip of H.264: transcoded, and where it lies."""

    timeout = 600
    params = ("store", "in place")
    param_names = ("reader",)

    def setup_cache(self) -> Path:
        from benchmarks.videos import clip

        folder = Path(mkdtemp(prefix="ndzarr-clip-"))
        ndzarr.transcode(clip(folder / "clip.mp4", 300), folder / "clip.zarr")
        return folder

    def setup(self, folder: Path, reader: str) -> None:
        from benchmarks.videos import window

        self.pyramid = ndzarr.open(folder / ("clip.zarr" if reader == "store" else "clip.mp4"))
        rng = np.random.default_rng(0)
        self.windows = [window(*map(int, rng.integers((284, 592, 1152)))) for _ in range(5)]

    def time_tubes(self, folder: Path, reader: str) -> None:
        for one in self.windows:
            self.pyramid.read(**one)

    def track_decoded_bytes(self, folder: Path, reader: str) -> int:
        return sum(self.pyramid.plan([one]).explain().decoded_bytes for one in self.windows)


class Transcoding:
    """A clip of H.264, 1280 x 720."""

    timeout = 600

    def setup_cache(self) -> Path:
        from benchmarks.videos import clip

        folder = Path(mkdtemp(prefix="ndzarr-clip-"))
        clip(folder / "clip.mp4", 100)
        return folder

    def time_transcode(self, folder: Path) -> None:
        ndzarr.transcode(folder / "clip.mp4", folder / "clip.zarr", overwrite=True)
