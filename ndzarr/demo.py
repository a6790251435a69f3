"""What does ndzarr do, on one page?  `ndzarr demo` makes data, runs the main job on it and shows the result.

1. A small annotated dataset of image files is written: a large JPEG, a tiled 16-bit TIFF of four bands, a PNG, and a
   phone's photograph that lies on its side (EXIF).
2. Its images are transcoded to pyramids, samples are loaded at several scales, and a picture of them is drawn.
3. Random windows are timed, against decoding the files each time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

    from ndzarr.sampler.coco import CocoSampler

CATEGORIES = ("disc", "square", "star")


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of the demo dataset."""

    file: str
    width: int
    height: int
    objects: int
    channels: str = "r|g|b"


PICTURES = (
    Picture("harbour.jpg", 4096, 3072, 40),
    Picture("fields.tif", 3000, 3000, 30, "r|g|b|nir"),
    Picture("yard.png", 2000, 1501, 15),
    Picture("phone.jpg", 1200, 1600, 8),
)


def run(directory: Path | None = None, quiet: bool = False) -> None:
    """
    Run the demo.

    Parameters
    ----------
    directory
        Where to put everything; `ndzarr-demo` in the current directory if left out.  Existing data there are used
        again.
    quiet
        Print only where the results are.
    """
    from ndzarr.sampler.coco import CocoSampler

    root = Path(directory or "ndzarr-demo").absolute()
    say: Callable[..., None] = (lambda *_: None) if quiet else print
    say(f"1. Writing {len(PICTURES)} annotated images to {root / 'images'}")
    dataset = write_dataset(root)
    say("2. Transcoding them to pyramids")
    sampler = CocoSampler(dataset, workdir=root / "pyramids")
    sampler.prepare(progress=not quiet)
    say(sampler)
    say("3. Loading samples at several scales")
    samples = list(_samples(sampler))
    say(samples[0][1])
    sheet = root / "samples.png"
    contact_sheet(
        [(caption, sample.ndzarr.draw(256 / max(sample.image.shape[-2:]))) for caption, sample in samples]
    ).save(sheet)
    say("4. Timing random 256x256 windows of the JPEG (median, this machine)")
    for line in _timings(sampler, root):
        say("  ", line)
    print(f"Dataset   {dataset}\nPyramids  {root / 'pyramids'}\nPicture   {sheet}")
    say(
        f"\nNext:\n  ndzarr info {root / 'images' / PICTURES[0].file}\n"
        f"  ndzarr crop {root / 'pyramids'}/harbour-*.zarr -o crop.png --x 0:512 --y 0:512 --scale 0.5"
    )


def write_dataset(root: Path, pictures: tuple[Picture, ...] = PICTURES, seed: int = 0) -> Path:
    """
    Write image files and their kwcoco dataset; files that exist are kept.

    Returns
    -------
    Path of the dataset, `root/data.kwcoco.json`.
    """
    (root / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for gid, picture in enumerate(pictures, start=1):
        rng = np.random.default_rng([seed, gid])
        objects = [_object(rng, picture) for _ in range(picture.objects)]
        file = root / "images" / picture.file
        if not file.exists():
            _write(file, _paint(rng, picture, objects), picture)
        images.append(
            {"id": gid, "name": file.stem, "file_name": f"images/{picture.file}", "width": picture.width,
             "height": picture.height, "channels": picture.channels}
        )  # fmt: skip
        annotations += [{**annotation, "image_id": gid} for annotation in objects]
    content = {
        "info": [],
        "categories": [{"id": k, "name": name} for k, name in enumerate(CATEGORIES, start=1)],
        "images": images,
        "annotations": [{"id": aid, **annotation} for aid, annotation in enumerate(annotations, start=1)],
    }
    path = root / "data.kwcoco.json"
    path.write_text(json.dumps(content))
    return path


def _object(rng: np.random.Generator, picture: Picture) -> dict[str, Any]:
    category = int(rng.integers(len(CATEGORIES)))
    radius = float(rng.uniform(12, 60))
    cx, cy = rng.uniform(0, picture.width), rng.uniform(0, picture.height)
    points = {0: 24, 1: 4, 2: 10}[category]
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False) + rng.uniform(0, np.pi)
    length = radius * np.where((np.arange(points) % 2 == 1) & (category == 2), 0.45, 1.0)
    outline = np.stack([cx + length * np.cos(angle), cy + length * np.sin(angle)], axis=1).round(1)
    (x0, y0), (x1, y1) = outline.min(axis=0), outline.max(axis=0)
    return {
        "category_id": category + 1,
        "bbox": [round(float(v), 1) for v in (x0, y0, x1 - x0, y1 - y0)],
        "segmentation": [{"exterior": outline.tolist(), "interiors": []}],
    }


def _paint(rng: np.random.Generator, picture: Picture, objects: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """A landscape of clouds at all scales, sensor noise, and the objects; float32 (y, x, c) between 0 and 1."""
    import cv2

    bands = picture.channels.count("|") + 1
    size, cells = (picture.width, picture.height), 3
    image = np.zeros((picture.height, picture.width, bands), np.float32)
    while cells < max(size):
        layer = rng.standard_normal((cells, cells, 1)) + 0.25 * rng.standard_normal((cells, cells, bands))
        layer = layer.astype(np.float32)
        image += cv2.resize(layer, size, interpolation=cv2.INTER_CUBIC).reshape(image.shape) / cells**0.75
        cells *= 3
    image = 0.45 + 0.2 * image / image.std() + rng.normal(0, 0.008, image.shape).astype(np.float32)
    for annotation in objects:
        outline = np.array(annotation["segmentation"][0]["exterior"])
        color = [float(v) for v in rng.uniform(0.1, 1.0, bands)]
        cv2.fillPoly(image, [np.rint(outline * 16).astype(np.int32)], color, lineType=cv2.LINE_AA, shift=4)
    return np.asarray(np.clip(image, 0, 1))


def _write(file: Path, image: np.ndarray[Any, Any], picture: Picture) -> None:
    from PIL import Image

    if file.suffix == ".tif":
        import tifffile

        pixels = np.rint(image * 10000).astype(np.uint16)
        options: Any = {"tile": (256, 256), "compression": "zlib", "predictor": True, "photometric": "minisblack"}
        tifffile.imwrite(file, pixels, planarconfig="contig", **options)
        return
    photo = Image.fromarray(np.rint(image * 255).astype(np.uint8))
    if file.stem == "phone":  # stored on its side, with the note that it has to be turned
        exif = Image.Exif()
        exif[274] = 6
        photo.rotate(90, expand=True).save(file, quality=92, exif=exif)
    else:
        photo.save(file, quality=92)


def _samples(sampler: CocoSampler) -> Any:
    """(caption, sample) of the windows that are shown."""
    largest = PICTURES[0]
    centre = {"gid": 1, "cx": largest.width // 2, "cy": largest.height // 2}
    yield "around an annotation", sampler.load_sample(aid=3, window_dims=(128, 128))
    yield "256x256, native", sampler.load_sample({**centre, "width": 256, "height": 256})
    yield "1024x1024 at 1/4", sampler.load_sample({**centre, "width": 1024, "height": 1024, "scale": 0.25})
    yield "whole image at 1/16", sampler.load_sample({"gid": 1, "scale": 1 / 16})
    yield "over the border (hatched)", sampler.load_sample({"gid": 3, "cx": 0, "cy": 60, "width": 256, "height": 256})
    yield (
        "16-bit, nir|r|g",
        sampler.load_sample({"gid": 2, "cx": 1500, "cy": 1500, "width": 300, "height": 300, "channels": "nir|r|g"}),
    )
    yield "EXIF: upright", sampler.load_sample({"gid": 4, "scale": 0.16})


def contact_sheet(panels: list[tuple[str, Image.Image]], columns: int = 4, side: int = 256) -> Image.Image:
    """Pictures with captions, in rows."""
    from PIL import Image, ImageDraw

    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * (side + 8), rows * (side + 26)), "white")
    pen = ImageDraw.Draw(sheet)
    for k, (caption, panel) in enumerate(panels):
        x, y = k % columns * (side + 8) + 4, k // columns * (side + 26) + 20
        pen.text((x, y - 16), caption, fill="black")
        panel.thumbnail((side, side))
        sheet.paste(panel, (x, y))
    return sheet


def _timings(sampler: CocoSampler, root: Path) -> list[str]:
    """Median times of random windows: a whole sample, its pixels alone, and decoding the file each time."""
    from PIL import Image

    picture = PICTURES[0]
    rng = np.random.default_rng(0)
    corners = [(int(rng.integers(picture.width - 256)), int(rng.integers(picture.height - 256))) for _ in range(300)]
    pyramid = sampler.pyramid(sampler.frame(1).assets[0])

    def window(x: int, y: int) -> dict[str, Any]:
        return {"y": slice(y, y + 256), "x": slice(x, x + 256)}

    def file(x: int, y: int) -> np.ndarray[Any, Any]:
        with Image.open(root / "images" / picture.file) as image:
            return np.asarray(image.crop((x, y, x + 256, y + 256)))

    runs: dict[str, tuple[Callable[[int, int], Any], int]] = {
        "load_sample, labelled, with annotations": (lambda x, y: sampler.load_sample(gid=1, **window(x, y)), 300),
        "pyramid.read, pixels alone": (lambda x, y: pyramid.read(**window(x, y)), 300),
        "decoding the JPEG for each window": (file, 5),
    }
    return [f"{_median(function, corners[:n]) * 1e3:8.3f} ms  {name}" for name, (function, n) in runs.items()]


def _median(function: Callable[[int, int], Any], corners: list[tuple[int, int]]) -> float:
    function(*corners[0])
    times = []
    for x, y in corners:
        start = time.perf_counter()
        function(x, y)
        times.append(time.perf_counter() - start)
    return float(np.median(times))
