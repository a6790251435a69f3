"""The command `ndzarr demo`: make data, sample it, and show the results on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ndzarr.errors import OptionError

if TYPE_CHECKING:
    import xarray

    from ndzarr.coco_sampler import CocoSampler

_EPILOG = """\b
Examples:
  Run the whole tour in ./ndzarr-demo:
    ndzarr demo
  Run it, and show the photographs in the browser at the end:
    ndzarr demo --view
  Write only a dataset, toys/video.kwcoco.json and its frames:
    ndzarr demo --data video -o toys
  Write a huge image, which takes 12 bytes of memory per pixel:
    ndzarr demo --data huge --size 12000x16000 -o big
"""

KINDS = ("images", "multispectral", "video", "huge")
"""Kinds of datasets of `ndzarr.toydata.write_demo`."""


@click.command(epilog=_EPILOG)
@click.option(
    "-o", "--output", "directory", type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the results; default: ./ndzarr-demo.",
)  # fmt: skip
@click.option("--data", "kind", type=click.Choice(KINDS), help="Only write a dataset of this kind.")
@click.option("-n", "n", type=click.IntRange(1), help="With --data: number of images, or of frames.")
@click.option("--size", metavar="HxW", help="With --data: height and width of the largest image, in pixels.")
@click.option("--seed", type=click.IntRange(0), default=0, help="With --data: seed; each gives other data.")
@click.option("--view", "viewed", is_flag=True, help="At the end, show the photographs in the browser.")
@click.option("-q", "--quiet", is_flag=True, help="Print only where the results are.")
def command(
    directory: Path | None, kind: str | None, n: int | None, size: str | None, seed: int, viewed: bool, quiet: bool
) -> None:
    """
    Make a small dataset, transcode it, load samples, draw them, and time random windows.

    Takes about ten seconds, downloads nothing, and writes a picture (samples.png) and two kwcoco datasets to play with.
    The data show a made-up country from the air. Its vehicles, boats and buildings have boxes, outlines, keypoints and
    tracks.
    """
    if kind is not None:
        from ndzarr.toydata.dataset import write_demo

        click.echo(write_demo(directory or "ndzarr-demo", kind, n=n, size=_size(size), seed=seed))
        return
    options: dict[str, Any] = {"-n": n, "--size": size, "--seed": seed}
    if given := [name for name, value in options.items() if value]:
        raise click.UsageError(f"{given[0]} needs --data, which says what to write")
    photos = run(directory, quiet)
    if viewed:
        from ndzarr.cli.view import show
        from ndzarr.coco_sampler import CocoSampler

        show(CocoSampler(photos, workdir=photos.parent / "pyramids").view(), quiet)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise OptionError(f"--size {text}: expected height and width, such as 600x800", key="--size")
    return int(height), int(width)


SIZE = (2880, 2800)
"""(height, width) of the largest image."""
WINDOW = 256
"""Height and width of the timed windows, in pixels."""
COLUMNS = 4
"""Small panels in a row of the picture; the first panel is twice as wide and high."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A sample of the picture."""

    caption: str
    sample: xarray.Dataset
    seconds: float
    """Time that loading took."""
    cells: int = 1
    """Its width and height, in small panels."""
    window: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1 in the large image, marked in the first panel."""


def run(directory: Path | None = None, quiet: bool = False) -> Path:
    """
    Run the demo in a directory (default: ./ndzarr-demo), whose data are reused; return the dataset of photographs.

    `quiet` prints only the results.
    """
    from ndzarr._files import publishing_file
    from ndzarr.coco_sampler import CocoSampler
    from ndzarr.toydata.dataset import write_demo

    begin = time.perf_counter()
    root = Path(directory or "ndzarr-demo").absolute()
    say: Callable[..., None] = (lambda *_: None) if quiet else print
    say(f"1. Writing annotated images (JPEG, 16-bit TIFF, PNG) and a video to {root}")
    photos, film = (write_demo(root, "images", size=SIZE, things=16), write_demo(root, "video"))
    say("2. Transcoding to pyramids the files that cannot be read in place")
    samplers = [CocoSampler(path, workdir=root / "pyramids") for path in (photos, film)]
    for sampler in samplers:
        sampler.prepare(progress=not quiet)
        say(f"   {str(sampler).splitlines()[0]}")
    say("3. Loading samples; each is an xarray.Dataset:\n")
    samplers[0].load_sample(gid=1, width=8, height=8)  # imports must not count
    panels = list(_panels(*samplers))
    say(panels[1].sample, "\n")
    for panel in panels:
        say(f"   {panel.seconds * 1e3:7.1f} ms  {panel.caption}")
    sheet = root / "samples.png"
    with publishing_file(sheet, overwrite=True) as work:
        draw(panels).save(work, "PNG")
    say(f"4. Timing random {WINDOW}x{WINDOW} windows of the {SIZE[1]}x{SIZE[0]} JPEG (median, this machine)")
    for line in _timings(samplers[0], photos):
        say("  ", line)
    say(f"Done in {time.perf_counter() - begin:.0f} s.\n")
    print(f"Picture   {sheet}\nDatasets  {photos}\n          {film}\nPyramids  {root / 'pyramids'}")
    say(_next(photos, root))
    return photos


def _next(dataset: Path, root: Path) -> str:
    return f"""
Next, in a shell:
  ndzarr info {dataset.parent / "images" / "harbour.jpg"}
  ndzarr crop {root / "pyramids"}/harbour-*.zarr -o crop.png --x 0:1024 --y 0:1024 --scale 0.5
  ndzarr view {dataset} --workdir {root / "pyramids"}
or in Python:
  import ndzarr
  sampler = ndzarr.CocoSampler("{dataset}", workdir="{root / "pyramids"}")
  sampler.load_sample(aid=1, window_dims=(128, 128)).ndzarr.draw().show()"""


def _panels(photos: CocoSampler, film: CocoSampler) -> Iterator[Panel]:
    height, width = SIZE
    boxes = {a["id"]: a["bbox"] for a in photos.dset.annots(gid=1).objs}
    aid = min(boxes, key=lambda a: abs(boxes[a][0] - width * 0.6) + abs(boxes[a][1] - height * 0.5))
    cx, cy = boxes[aid][0] + boxes[aid][2] / 2, boxes[aid][1] + boxes[aid][3] / 2

    def panel(caption: str, sampler: CocoSampler, target: dict[str, Any], cells: int = 1) -> Panel:
        begin = time.perf_counter()
        sample = sampler.load_sample(target)
        seconds = time.perf_counter() - begin
        wide = target.get("width", target.get("window_dims", (None,))[-1])
        marked = cells == 1 and sampler is photos and wide and target.get("gid", 1) == 1
        x, y = target.get("cx", cx), target.get("cy", cy)
        window = (x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2) if marked else None
        return Panel(caption, sample, seconds, cells, window)

    square = {"gid": 1, "cx": cx, "cy": cy}
    yield panel("a whole image at 1/4", photos, {"gid": 1, "scale": 0.25}, 2)
    yield panel("128x128 around an annotation", photos, {"aid": aid, "window_dims": (128, 128)})
    yield panel("320x320, native", photos, {**square, "width": 320, "height": 320})
    yield panel("1280x1280 at 1/4", photos, {**square, "width": 1280, "height": 1280, "scale": 0.25})
    x, y, w, h = min(boxes.values())  # the leftmost
    corner = {"gid": 1, "cx": x + w / 2 + 40, "cy": y + h / 2, "width": 320, "height": 320}
    yield panel("over the border (hatched)", photos, corner)
    fields = {"gid": 2, "width": 320, "height": 320, "channels": "nir|r|g"}
    yield panel("16-bit TIFF, nir|r|g", photos, fields)
    yield panel("a phone's EXIF, upright", photos, {"gid": 4, "scale": 320 / (height * 2 / 5)})
    moving = {"vidid": 1, "width": 320, "height": 320, "channels": "r|g|b", "nodata": "ma"}
    for t, sensor in ((0, "day"), (8, "wide")):
        yield panel(f"video, frame {t} (sensor {sensor!r})", film, {**moving, "time_slice": slice(t, t + 1)})


def draw(panels: list[Panel], side: int = 320) -> Any:
    """Draw samples with their captions; the first one has the windows of the others marked in it."""
    from PIL import Image, ImageDraw, ImageFont

    gap, line, ink, paper = 10, 24, (228, 232, 236), (24, 28, 32)
    step_x, step_y = side + gap, side + line + gap
    places = list(_places(panels))
    rows = 1 + max(row + p.cells - 1 for p, (_, row) in zip(panels, places, strict=True))
    sheet = Image.new("RGB", (COLUMNS * step_x + gap, rows * step_y + gap), paper)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for panel, (column, row) in zip(panels, places, strict=True):
        x, y = gap + column * step_x, gap + row * step_y
        wide, high = panel.cells * step_x - gap, panel.cells * step_y - gap - line
        picture = panel.sample.ndzarr.draw(1.0)
        factor = min(wide / picture.width, high / picture.height)
        if picture.width < wide:
            picture = panel.sample.ndzarr.draw(factor)
        picture.thumbnail((wide, high), Image.Resampling.LANCZOS)
        left, top = x + (wide - picture.width) // 2, y + (high - picture.height) // 2
        sheet.paste(picture, (left, top))
        pen.text((x, y + high + 3), f"{panel.caption}  ({panel.seconds * 1e3:.1f} ms)", fill=ink, font=font)
        if panel.cells > 1:
            scale = picture.width / SIZE[1]
            for other in panels:
                if other.window is not None:
                    x0, y0, x1, y1 = (v * scale for v in other.window)
                    frame = (left + max(x0, 0), top + max(y0, 0), left + x1, top + y1)
                    pen.rectangle(frame, outline=(255, 255, 255), width=2)
    return sheet


def _places(panels: list[Panel]) -> Iterator[tuple[int, int]]:
    """Yield (column, row) of each panel: the first free one, row by row."""
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        spots = ((c, r) for r in range(len(panels)) for c in range(COLUMNS + 1 - panel.cells))
        column, row = next(s for s in spots if s not in taken)
        taken |= {(column + i, row + j) for i in range(panel.cells) for j in range(panel.cells)}
        yield column, row


def _timings(sampler: CocoSampler, dataset: Path) -> list[str]:
    """Return median times of random windows: a whole sample, its pixels alone, and decoding the file each time."""
    from PIL import Image

    rng = np.random.default_rng(0)
    corners = rng.integers(0, np.subtract(SIZE, WINDOW), (300, 2)).tolist()
    pyramid = sampler.open(1)
    file = dataset.parent / "images" / "harbour.jpg"

    def window(y: int, x: int) -> dict[str, Any]:
        return {"y": slice(y, y + WINDOW), "x": slice(x, x + WINDOW)}

    def decode(y: int, x: int) -> np.ndarray[Any, Any]:
        with Image.open(file) as image:
            return np.asarray(image.crop((x, y, x + WINDOW, y + WINDOW)))

    runs: dict[str, tuple[Callable[[int, int], Any], int]] = {
        "load_sample: labelled, with annotations": (lambda y, x: sampler.load_sample(gid=1, **window(y, x)), 300),
        "pyramid.read: pixels alone": (lambda y, x: pyramid.read(**window(y, x)), 300),
        "decoding the JPEG for each window": (decode, 5),
    }
    lines = [f"{_median(function, corners[:n]) * 1e3:8.3f} ms  {name}" for name, (function, n) in runs.items()]
    many = [window(*corner) for corner in corners]
    each = _median(lambda *_: pyramid.read_many(many), corners[:3]) / len(corners)
    return [*lines, f"{each * 1e3:8.3f} ms  pyramid.read_many: {len(corners)} windows planned together"]


def _median(function: Callable[[int, int], Any], corners: list[list[int]]) -> float:
    function(*corners[0])
    times = []
    for y, x in corners:
        start = time.perf_counter()
        function(y, x)
        times.append(time.perf_counter() - start)
    return float(np.median(times))
