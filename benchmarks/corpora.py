"""Reads every file of some folders and compares with other libraries: ``python -m benchmarks.corpora DIR ...``.

Folders of test files of other projects (Pillow, GDAL, OpenJPEG, libjxl, exiv2, image-tiff, PyAV, ...) hold the kinds of
files that nobody thinks of.  Each file is tried in a process of its own with limits of memory and time:

1. It is transcoded; if it can be read in place, a window read in place has to equal that of the store.
2. Its pixels are compared with those of other libraries, chosen by its format: tifffile, rasterio, Pillow, imagecodecs,
   PyAV.  They are *exact* if one of them gives the same pixels, *close* if all samples are within a level of 255, as
   conversions of colours are, *different* if those that read the file all differ, and *unchecked* if none reads it.
3. A file that ndzarr refuses is counted by the reason that it gives.  Anything but an `NdzarrError` is a *traceback*; a
   process that dies, hangs or has no memory left is counted as such; a library that writes to stderr is *noise*.
   A file whose format ndzarr does not read (docs/formats.md), or that is no image, is *other*.

The report lists every file that is neither exact nor refused.  Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import imagecodecs
import numpy as np
from tqdm import tqdm

import ndzarr
from ndzarr._formats.registry import HEAD, sniff
from ndzarr.errors import NdzarrError, SourceError

Pixels: TypeAlias = np.ndarray[Any, Any]
SWSCALE = "bilinear+accurate_rnd+full_chroma_int+bitexact"
MATRICES = {1: "bt709", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
"""Codes of ITU-T H.273 to names of FFmpeg."""
PART = 1 << 24
"""Samples compared at a time."""
VIDEO_FRAMES = 5
"""Frames of a video that are compared."""
WINDOW = 300
"""Side of the window that is read in place, in pixels."""
BESIDE = (".aux.xml", ".ovr", ".msk", ".wld", ".tfw", ".jgw", ".pgw")
"""Ends of the names of files that belong to an image, such as world files."""
FAULTS = ("different", "traceback", "hang", "memory", "crash", "noise")
"""Outcomes that a run must not have."""


@dataclass(frozen=True)
class Outcome:
    """What became of a file."""

    path: str
    kind: str
    """Format by its first bytes, or 'unknown'."""
    verdict: str
    """exact, close, unchecked, refused, other, or one of `FAULTS`."""
    detail: str = ""
    folder: str = ""
    """The one of the folders given that holds the file."""


# ------------------------------------------------------------------------------------------------------------- oracles


def with_pillow(path: str, channels: tuple[str, ...]) -> Pixels:
    """Read all frames with Pillow, upright; axes (t, c, y, x)."""
    from PIL import Image, ImageOps, ImageSequence

    mode = {"gray": "L", "gray a": "LA", "r g b": "RGB", "r g b a": "RGBA"}[" ".join(channels)]
    with Image.open(path) as image:
        deep = image.mode.startswith("I")
        skip = 1 if getattr(image, "default_image", False) else 0
        sequence = [image] if image.format == "MPO" else ImageSequence.Iterator(image)  # whose images are no frames
        size = image.size if image.format == "TIFF" else None  # that of levels differs
        frames = [
            np.asarray(turned if deep else turned.convert(mode))
            for turned in (ImageOps.exif_transpose(frame) for frame in sequence if size in (None, frame.size))
        ][skip:]
    height, width = frames[0].shape[:2]  # of a GIF's screen, which frames may exceed
    cut = [f[:height, :width] for f in frames]
    return np.stack([f[None] if f.ndim == 2 else np.moveaxis(f, -1, 0) for f in cut])


def with_ffmpeg(path: str, channels: tuple[str, ...]) -> Pixels:
    """Decode an animated PNG with FFmpeg, which draws translucent frames by the rules; axes (t, c, y, x)."""
    import av

    with av.open(path, format="apng") as container:
        frames = [
            frame.to_ndarray(format="rgba64le" if frame.format.components[0].bits > 8 else "rgba")
            for frame in container.decode(video=0)
        ]
    planes = [0, 3] if channels == ("gray", "a") else list(range(len(channels)))
    return np.stack([np.moveaxis(frame, -1, 0)[planes] for frame in frames])


def with_rasterio(path: str, channels: tuple[str, ...]) -> Pixels:
    """Read all bands with GDAL, as stored, but alpha of fewer bits scaled to the others'; axes (t, c, y, x)."""
    import rasterio

    with rasterio.open(path) as image:
        pixels: Pixels = np.stack([image.read(i) for i in image.indexes])  # whose types may differ
        if image.colorinterp[0] == rasterio.enums.ColorInterp.palette and len(channels) >= 3:
            colours = np.zeros((1 << 8 * pixels.itemsize, 4), np.uint8)
            for index, colour in sorted(image.colormap(1).items()):
                colours[index:] = colour  # the last one is that of indices beyond it, as in OpenJPEG
            expanded = np.moveaxis(colours[pixels[0]], -1, 0)[: len(channels) - len(pixels) + 1]
            return np.concatenate([expanded, pixels[1:].astype(expanded.dtype)])[None]
        depths = [int(image.tags(i, ns="IMAGE_STRUCTURE").get("NBITS", 0)) for i in image.indexes]
        for plane, kind, bits in zip(pixels, image.colorinterp, depths, strict=True):
            if kind == rasterio.enums.ColorInterp.alpha and 0 < bits < depths[0] and plane.max() < 1 << bits:
                plane[...] = np.rint(plane * (((1 << depths[0]) - 1) / ((1 << bits) - 1)))
        return pixels[None]


def with_tifffile(path: str, channels: tuple[str, ...]) -> Pixels:
    """Read the first series with tifffile, upright and so that 0 is black; axes as the file has them."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        pixels, page, tag = np.asarray(series.asarray()), series.keyframe, series.keyframe.tags.valueof(274, 1)
        if tag in range(2, 9):
            y, x = series.axes.index("Y"), series.axes.index("X")
            pixels = np.swapaxes(pixels, y, x) if tag > 4 else pixels
            pixels = np.flip(pixels, [axis for axis, tags in ((x, (2, 3, 6, 7)), (y, (3, 4, 7, 8))) if tag in tags])
        if page.tags.valueof(262) == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind in "bu":
            return (1 << page.bitspersample) - 1 - pixels
        return pixels


def with_imagecodecs(path: str, channels: tuple[str, ...]) -> Pixels:
    """Decode with imagecodecs, as stored; axes as it gives them."""
    return np.asarray(imagecodecs.imread(path))


def with_pyav(path: str, channels: tuple[str, ...]) -> Pixels:
    """Decode the first frames with PyAV and convert them as docs/videos.md says; axes (t, c, y, x)."""
    import av

    frames: list[Pixels] = []
    with av.open(path) as container:
        stream = container.streams.best("video")
        for frame in container.decode(stream):
            if frame.is_corrupt:
                continue
            for name in ("color_trc", "color_primaries"):
                setattr(frame, name, 2)  # unspecified: no conversion between any of them
            depth = max(component.bits for component in frame.format.components)
            family = {"gray": "gray", "r g b": "gbrp", "r g b a": "gbrap"}[" ".join(channels)]
            graph = av.filter.Graph()
            scale = f"in_color_matrix={MATRICES.get(int(frame.colorspace), 'bt601')}:out_range=pc:flags={SWSCALE}"
            nodes = [graph.add_buffer(template=stream), graph.add("scale", scale)]
            nodes += [graph.add("format", family if depth <= 8 else f"{family}{depth}le"), graph.add("buffersink")]
            graph.link_nodes(*nodes).configure()
            graph.push(frame)
            frames.append(np.rot90(graph.pull().to_ndarray(), frame.rotation // 90))
            if len(frames) == VIDEO_FRAMES:
                break
    return np.stack([f[None] if f.ndim == 2 else np.moveaxis(f, -1, 0) for f in frames])


def with_numpy(path: str, channels: tuple[str, ...]) -> Pixels:
    """Load an array."""
    return np.asarray(np.load(path))


ORACLES: dict[str, tuple[Callable[[str, tuple[str, ...]], Pixels], ...]] = {
    "TIFF": (with_tifffile, with_rasterio, with_pillow),
    "JPEG 2000": (with_rasterio, with_imagecodecs, with_pillow),
    "JPEG XL": (with_imagecodecs,),
    "PNG": (with_pillow, with_imagecodecs, with_rasterio, with_ffmpeg),
    "video": (with_pyav,),
    "NPY": (with_numpy,),
}
"""What is asked about each format; Pillow and GDAL about the others."""


def same(ours: Pixels, theirs: Pixels, within: int = 0) -> bool:
    """Compare values, which may be apart by `within`; an oracle's may be interleaved, or lack axes of length 1."""
    a, b = ours.squeeze(), theirs.squeeze()
    if a.size != b.size:
        return False
    b = b.astype(bool) if a.dtype == bool else b  # 1 bit is 255 in Pillow
    forms = [b] if b.ndim < 3 else [b, np.moveaxis(b, -1, -3), np.moveaxis(b, -1, 0)]
    return any(a.shape == form.shape and equal(a, form, within) for form in forms)


def narrower(ours: Pixels, theirs: Pixels) -> bool:
    """Return True if an oracle gives the same values, but clips or shortens them because its type cannot hold them."""
    if ours.dtype.kind not in "iu" or theirs.dtype.kind not in "iu" or theirs.itemsize >= ours.itemsize:
        return False
    limits = np.iinfo(theirs.dtype)
    return same(np.clip(ours, limits.min, limits.max), theirs) or same(ours >> 8, theirs)


def equal(a: Pixels, b: Pixels, within: int = 0) -> bool:
    """Compare arrays of one shape; a part at a time, which needs less memory."""
    if a.ndim > 1 and a.size > PART:
        return all(equal(one, other, within) for one, other in zip(a, b, strict=True))
    if within:
        return bool(np.all(np.maximum(a, b) - np.minimum(a, b) <= within))
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


# ------------------------------------------------------------------------------------------------------------ one file


def kind_of(path: str) -> str:
    """Return the format of a file by its first bytes."""
    try:
        with open(path, "rb") as file:
            return sniff(path, file.read(HEAD))
    except (SourceError, OSError):
        return "unknown"


def try_file(path: str, kind: str, folder: str) -> tuple[str, str]:
    """Return the verdict on a file, and what there is to say."""
    store = os.path.join(folder, "store.zarr")
    options: dict[str, Any] = {"stop": 1e9} if kind == "video" else {}
    try:
        pyramid = ndzarr.transcode(path, store, **options)
    except NdzarrError as error:
        return ("other" if kind == "unknown" else "refused"), why(error, path)
    ours = pyramid.read()
    trouble = compare_in_place(path, pyramid)
    if trouble:
        return "different", trouble
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what others print is not ours
    found = []
    oracles = ORACLES.get(kind, (with_pillow, with_rasterio))
    if kind != "TIFF" and ours.ndim == 4 and len(ours) > 1:  # the others read the first picture
        oracles = tuple(oracle for oracle in oracles if oracle not in (with_rasterio, with_imagecodecs))
    for oracle in oracles:
        try:
            theirs = oracle(path, pyramid.channels)
        except Exception as error:  # it does not read this file, which says nothing about ours
            found.append(f"{oracle.__name__} fails ({type(error).__name__})")
            continue
        frames = slice(0, VIDEO_FRAMES if kind == "video" else None)
        if same(ours[frames], theirs):
            return "exact", oracle.__name__
        if ours.dtype == theirs.dtype == np.uint8 and same(ours[frames], theirs, within=1):
            return "close", oracle.__name__
        if narrower(ours[frames], theirs):
            found.append(f"{oracle.__name__} fails (its {theirs.dtype} cannot hold the values)")
            continue
        if len(found) + 1 == len(oracles) and same(ours[..., : theirs.shape[-1], :, :], theirs):
            return "unchecked", f"{oracle.__name__} gives the same, but only {theirs.shape[-1]} channels"
        found.append(f"{oracle.__name__} {difference(ours[frames], theirs)}")
    about = f"{' '.join(pyramid.channels)} {pyramid.shape} {pyramid.dtype}: {'; '.join(found)}"
    # Inks and logarithms are converted on purpose, and damaged frames left out, which no oracle does by the same rule.
    about_source = pyramid.attrs["ndzarr"]["source"]
    colour, notes = str(about_source.get("colour")), str(about_source.get("notes"))
    converts = "CMYK" in colour or "Log" in colour or (kind == "video" and "left out" in notes)
    return ("unchecked" if converts or all(" fails " in text for text in found) else "different"), about


def compare_in_place(path: str, pyramid: ndzarr.Pyramid) -> str:
    """Return how a file read in place differs from its store; '' if it does not, or cannot be read so."""
    try:
        placed = ndzarr.open(path)
    except NdzarrError:
        return ""
    for what in ("dims", "channels", "dtype", "nodata"):
        one, other = getattr(placed, what), getattr(pyramid, what)
        if one != other and not (one != one and other != other):  # NaN
            return f"in place, {what} is {one}, in the store {other}"
    window: dict[str, Any] = {"y": slice(0, WINDOW), "x": slice(0, WINDOW)}
    if "t" in placed.dims:
        window["t"] = slice(0, VIDEO_FRAMES)
    one, other = placed.read(**window), pyramid.read(**window)
    return "" if np.array_equal(one, other, equal_nan=one.dtype.kind in "fc") else "in place, pixels differ"


def difference(ours: Pixels, theirs: Pixels) -> str:
    """Say how two arrays differ."""
    a, b = ours.squeeze(), theirs.squeeze()
    b = np.moveaxis(b, -1, -3) if a.shape != b.shape and b.ndim > 2 else b
    if a.shape != b.shape:
        return f"{theirs.dtype} of shape {theirs.shape}"
    apart = np.abs(a.astype(np.float64) - b)
    return f"{theirs.dtype}, {np.mean(apart != 0):.2%} of samples apart by up to {np.nanmax(apart):g}"


def why(error: NdzarrError, path: str) -> str:
    """Return the reason of a refusal, without what is particular to the file."""
    text = str(error).replace(path, "").replace(os.path.basename(path), "")
    return re.sub(r"\d+", "N", text.lstrip(": ").split(". ")[0])[:120]


# ----------------------------------------------------------------------------------------------------------- processes


@dataclass
class Trial:
    """A child process that tries a file."""

    path: str
    kind: str
    folder: str
    pid: int
    descriptor: int
    """Readable once the process has ended."""
    deadline: float


def judge_all(paths: Iterable[str], seconds: float, memory: int, workers: int) -> Iterator[Outcome]:
    """Try each file in a child process with limits; outcomes come as they are known."""
    waiting, running = iter(paths), list[Trial]()
    while True:
        while len(running) < workers and (path := next(waiting, None)) is not None:
            running.append(_start(path, seconds, memory))
        if not running:
            return
        first = min(trial.deadline for trial in running)
        ended, _, _ = select.select([t.descriptor for t in running], [], [], max(0, first - time.monotonic()))
        now = time.monotonic()
        for trial in [t for t in running if t.descriptor in ended or t.deadline <= now]:
            running.remove(trial)
            yield _end(trial, hangs=trial.descriptor not in ended)


def _start(path: str, seconds: float, memory: int) -> Trial:
    kind, folder = kind_of(path), tempfile.mkdtemp(prefix="corpora-")
    pid = os.fork()
    if not pid:
        _child(path, kind, folder, memory)
    return Trial(path, kind, folder, pid, os.pidfd_open(pid), time.monotonic() + seconds)


def _end(trial: Trial, *, hangs: bool) -> Outcome:
    if hangs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(trial.pid, signal.SIGKILL)
    status = os.waitpid(trial.pid, 0)[1]
    os.close(trial.descriptor)
    report, errors = Path(trial.folder, "report"), Path(trial.folder, "stderr")
    said = errors.read_text(errors="replace").strip() if errors.exists() else ""
    told = json.loads(report.read_text()) if report.exists() else None
    shutil.rmtree(trial.folder)
    if hangs:
        told = "hang", ""
    elif told is None:
        name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status}"
        told = "crash", f"{name} {said[-200:]}"
    elif said and told[0] not in FAULTS:
        told = "noise", said[:200]
    return Outcome(trial.path, trial.kind, *told)


def _child(path: str, kind: str, folder: str, memory: int) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        for number in (1, 2):
            os.dup2(os.open(os.path.join(folder, "stderr"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ["NDZARR_CACHE"] = os.path.join(folder, "cache")
        warnings.simplefilter("ignore")
        try:
            result = try_file(path, kind, folder)
        except MemoryError as error:
            result = "memory", str(error)
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            result = "traceback", f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
        Path(folder, "report").write_text(json.dumps(result))
        code = 0
    finally:
        os._exit(code)


def files_in(folders: Iterable[str]) -> Iterator[str]:
    """Yield every file below some folders, in order of its name."""
    for folder in folders:
        for parent, names, files in os.walk(folder):
            names.sort()
            wanted = sorted(name for name in files if not name.lower().endswith(BESIDE))
            yield from (os.path.abspath(os.path.join(parent, name)) for name in wanted)


def import_all() -> None:
    """Import what children need, once: it takes longer than to read most files."""
    from PIL import Image

    Image.init()
    for name in ("tifffile", "rasterio.enums", "pyproj", "cv2", "av.filter"):
        importlib.import_module(name)
    for package in (ndzarr, imagecodecs):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            with contextlib.suppress(ImportError):  # of an optional dependency
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
    gc.freeze()


VERDICTS = ("exact", "close", "unchecked", "refused", "other", *FAULTS)


def print_report(outcomes: list[Outcome]) -> None:
    """Print the counts per folder, format and verdict, the reasons of refusals, and each file at fault."""
    for what, of in (("folder", lambda o: os.path.basename(o.folder)), ("format", lambda o: o.kind)):
        print(f"| {what} | files | {' | '.join(VERDICTS)} |")
        print("|---" * (len(VERDICTS) + 2) + "|")
        for group in (*sorted({of(o) for o in outcomes}), "all"):
            counts = Counter(o.verdict for o in outcomes if group in (of(o), "all"))
            print(f"| {group} | {counts.total()} | {' | '.join(str(counts[v]) for v in VERDICTS)} |")
        print()
    for verdict in ("refused", "other"):
        print(f"{verdict.capitalize()}:")
        for (kind, reason), n in Counter((o.kind, o.detail) for o in outcomes if o.verdict == verdict).most_common():
            print(f"{n:6} {kind}: {reason}")
    print("\nTo be looked at:")
    for outcome in outcomes:
        if outcome.verdict not in ("exact", "close", "refused", "other"):
            print(f"{outcome.verdict:10} {outcome.kind:9} {outcome.path}: {outcome.detail}")


def main() -> int:
    """Try all files of the folders given; exit with 1 if one of them is at fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="folders of files")
    parser.add_argument("--seconds", type=float, default=60, help="limit of time per file")
    parser.add_argument("--memory", type=float, default=4, help="limit of memory per file, in GiB")
    parser.add_argument("--known", action="store_true", help="leave out files whose format is not recognised")
    parser.add_argument("--lines", help="write outcomes to this file as they come, as lines of JSON")
    given = parser.parse_args()
    import_all()
    folders = [os.path.abspath(folder) for folder in given.folders]
    paths = [p for p in files_in(folders) if not given.known or kind_of(p) != "unknown"]
    start = time.monotonic()
    workers = len(os.sched_getaffinity(0))
    trials = judge_all(paths, given.seconds, int(given.memory * 2**30), workers)
    outcomes = []
    with open(given.lines or os.devnull, "w") as lines:
        for outcome in tqdm(trials, total=len(paths), disable=None):
            outcome = replace(outcome, folder=next(f for f in folders if outcome.path.startswith(f + os.sep)))
            outcomes.append(outcome)
            print(json.dumps(vars(outcome)), file=lines, flush=True)
    outcomes.sort(key=lambda outcome: outcome.path)
    print_report(outcomes)
    print(f"\n{len(outcomes)} files in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return int(any(o.verdict in FAULTS for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
