"""Demo datasets on disk.

Each kind of dataset is a folder of image files beside one kwcoco file.  The kwcoco file is written last, so that it
stands for a complete dataset.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from ndzarr._files import explained, flush, flush_one, holding, lock_of, scratch
from ndzarr._indexing.plan import check_memory
from ndzarr.errors import ExistsError, OptionError, WriteError, did_you_mean
from ndzarr.toydata.world import CATEGORIES, KEYPOINTS, PIXELS_PER_METRE, World, date, drifts, exposed, picture_size

Image: TypeAlias = np.ndarray[Any, Any]
"""Shape (y, x, band)."""

NODATA = 0
"""Value of pixels without data in TIFFs that say so; pixels with data are at least 1."""
RESOLUTION = f"{1 / PIXELS_PER_METRE:g} meter"
"""Size of a pixel of image space."""
_TURN_CLOCKWISE = 6
"""EXIF orientation of a picture that is stored on its side."""


def _write(file: Path, image: Image, nodata: bool = False, on_its_side: bool = False) -> None:
    """
    Write an image file in the format of its suffix.

    `nodata` stores `NODATA` as the value of pixels without data (.tif); `on_its_side` stores the image turned, with an
    EXIF orientation, as phones do (.jpg).
    """
    if file.suffix == ".tif":
        _write_tiff(file, image, nodata)
        return
    from PIL import Image

    photo = Image.fromarray(image)
    if on_its_side:
        exif = Image.Exif()
        exif[274] = _TURN_CLOCKWISE
        photo.transpose(Image.Transpose.ROTATE_90).save(file, quality=92, exif=exif)
    elif file.suffix == ".jpg":
        photo.save(file, quality=92)
    else:
        photo.save(file, compress_level=3)


def _write_tiff(file: Path, image: Image, nodata: bool) -> None:
    import tifffile

    rgb = image.shape[-1] == 3
    options: dict[str, Any] = {
        "tile": (256, 256), "compression": "zlib", "compressionargs": {"level": 3}, "predictor": True, "metadata": None,
        "photometric": "rgb" if rgb else "minisblack", "planarconfig": "contig",
        "extratags": [(42113, "s", 0, str(NODATA), True)] if nodata else [],  # GDAL_NODATA
    }  # fmt: skip
    tifffile.imwrite(file, image if image.shape[-1] > 1 else image[..., 0], **options)


@dataclass(frozen=True)
class Records:
    """The records of a kwcoco dataset that is being made; ids count from 1."""

    about: Mapping[str, Any]
    videos: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add_video(self, world: World, name: str) -> int:
        """Add a video, in whose space the drift of the camera is undone; return its id."""
        self.videos.append({"id": len(self.videos) + 1, "name": name, **_size(world)})
        return len(self.videos)

    def add_image(self, world: World, name: str, **keys: Any) -> int:
        """Add a picture of a world, with its annotations; return its id."""
        return self._add(world, 0, (0.0, 0.0), {"name": name, **keys})

    def add_frame(self, world: World, video: int, frame: int, drift: tuple[float, float], **keys: Any) -> int:
        """Add a frame of a video, with its annotations and their tracks; return its id."""
        name = f"{self.videos[video - 1]['name']}-{frame:03}"
        about = {"video_id": video, "frame_index": frame, "date_captured": date(frame)}
        warp = {"warp_img_to_vid": {"offset": list(drift)}} if any(drift) else {}
        return self._add(world, frame, drift, {"name": name, **about, **warp, **keys}, video)

    def content(self) -> dict[str, Any]:
        """Return the dataset as kwcoco stores it."""
        return {
            "info": [{"type": "ndzarr.toy", "properties": dict(self.about)}],
            "categories": [dict(c) for c in CATEGORIES],
            "keypoint_categories": [dict(k) for k in KEYPOINTS],
            "videos": self.videos,
            "images": self.images,
            "annotations": self.annotations,
        }

    def _add(
        self, world: World, frame: int, drift: tuple[float, float], image: dict[str, Any], video: int | None = None
    ) -> int:
        gid = len(self.images) + 1
        self.images.append({"id": gid, "file_name": None, **_size(world), **image})
        for found in world.annotations(frame, drift):
            track = found.pop("track_id")
            tracked = {} if video is None else {"track_id": 1000 * video + track}
            self.annotations.append({"id": len(self.annotations) + 1, "image_id": gid, **found, **tracked})
        return gid


def _size(world: World) -> dict[str, Any]:
    return {"width": world.width, "height": world.height, "resolution": RESOLUTION}


@dataclass(frozen=True, slots=True)
class Order:
    """Parameters of a dataset; see `write_demo`."""

    kind: str
    n: int
    size: tuple[int, int]
    things: int
    seed: int

    def world(self, number: int, size: tuple[int, int], moving: bool = False) -> World:
        """Return the world of image or video `number`."""
        things = max(3, round(self.things * size[0] * size[1] / 1e6)) if self.things else 0
        return World.make(*size, things, (self.seed, number), moving)

    def noise(self, number: int, frame: int = 0) -> np.random.Generator:
        """Return the generator of the sensor's noise."""
        return np.random.default_rng([self.seed, number, 4, frame])


def write_demo(
    folder: str | os.PathLike[str] = "ndzarr-demo",
    kind: str = "images",
    *,
    n: int | None = None,
    size: tuple[int, int] | None = None,
    things: int = 40,
    seed: int = 0,
) -> Path:
    """
    Write annotated image files and their kwcoco dataset; nothing is downloaded.

    Parameters
    ----------
    folder
        Directory to write to.  A dataset that the same call has written is not written again.
    kind
        'images': 8-bit JPEG, 16-bit TIFF of four bands, PNG, and a JPEG stored on its side (EXIF), in turn.
        'multispectral': 16-bit TIFFs at three resolutions (r|g|b|nir, swir at half, thermal at a quarter) with a border
        without data.
        'video': frames of a drifting camera (`warp_img_to_vid`), with dates, tracks and two sensors: 'day' with
        r|g|b|nir and swir at half the resolution, and 'wide' with r|g|b at half the resolution and a smaller view.
        'huge': one image.
    n
        Number of images, or of frames.
    size
        (height, width) of the largest image, in pixels.
    things
        Maximum number of annotations per megapixel; fewer if there is no room.
    seed
        The same seed makes the same data.

    Returns
    -------
    Absolute path of the dataset, `folder/<kind>.kwcoco.json`.

    Raises
    ------
    OptionError
        An option is not understood.
    ExistsError
        A file of that name exists and was not written by this function.
    WriteError
        The folder cannot be written.

    Examples
    --------
    >>> import ndzarr, tempfile
    >>> from ndzarr.toydata import write_demo
    >>> folder = tempfile.mkdtemp()
    >>> path = write_demo(folder, "multispectral", n=1, size=(128, 160))
    >>> sample = ndzarr.CocoSampler(path, workdir=folder).load_sample(gid=1)
    >>> sample.image.shape, sample.c.values.tolist()
    ((6, 128, 160), ['r', 'g', 'b', 'nir', 'swir', 'thermal'])
    """
    if kind not in KINDS:
        raise OptionError(f"kind={kind!r}{did_you_mean(kind, KINDS)}", key="kind")
    make, default = KINDS[kind]
    n, size = default.n if n is None else n, default.size if size is None else picture_size(size)
    given: tuple[tuple[str, Any, int], ...] = (("n", n, 1), ("things", things, 0), ("seed", seed, 0))
    for name, value, least in given:
        if not isinstance(value, Integral) or value < least:
            raise OptionError(f"{name}={value!r}: expected a whole number of at least {least}", key=name)
    order = replace(default, n=int(n), size=size, things=int(things), seed=int(seed))
    path = Path(folder).absolute() / f"{kind}.kwcoco.json"
    about = json.loads(json.dumps({f: getattr(order, f) for f in Order.__slots__}))
    if path.exists() and _about(path) == about:
        return path
    smaller = "Make smaller pictures, or raise the limit"
    check_memory(prod(size) * _PIXEL_BYTES, OptionError, what=f"size={size}", key="size", hint=smaller)
    records = Records(about)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (path.parent / kind).exists():
            (path.parent / kind).mkdir(exist_ok=True)  # raises if it is a file
    except (OSError, ValueError) as error:
        message = f"{path.parent}: this directory cannot be made ({error})"
        raise WriteError(message, path=str(path.parent), hint="Choose another directory") from error
    with explained(path), scratch(path) as work:
        (work / kind).mkdir()
        try:
            make(order, records, work, f"{kind}/")
        except (MemoryError, cv2.error) as error:
            if isinstance(error, cv2.error) and error.code != _CV2_NO_MEMORY:
                raise
            message = f"size={size}: the memory that this process may use is too small to paint a picture of it"
            raise OptionError(message, key="size", hint=smaller) from error
        (work / path.name).write_text(json.dumps(records.content()))
        flush([work])
        with holding(lock_of(path)):
            _place(work, path, kind)
    return path


def _place(work: Path, path: Path, kind: str) -> None:
    """Move pictures and the dataset to where they belong; no dataset is there while its pictures may be others."""
    path.unlink(missing_ok=True)
    flush_one(path.parent)
    folder = path.parent / kind
    if not folder.exists():
        os.rename(work / kind, folder)
    else:  # which may hold files of the user
        for picture in sorted((work / kind).iterdir()):
            os.replace(picture, folder / picture.name)
        flush_one(folder)
    os.replace(work / path.name, path)
    flush_one(path.parent)


_CV2_NO_MEMORY = -4
_PIXEL_BYTES = 16
"""Bytes that painting takes for each pixel, at the very least."""


def _images(order: Order, records: Records, root: Path, folder: str) -> None:
    height, width = order.size
    for k in range(order.n):
        name, size = (
            ("harbour.jpg", (height, width)), ("fields.tif", (width * 3 // 4, width * 3 // 4)),
            ("yard.png", (height // 2, width // 2 + 1)), ("phone.jpg", (width * 2 // 5, height * 2 // 5)),
        )[k % 4]  # fmt: skip
        file = name if k < 4 else name.replace(".", f"-{k // 4 + 1}.")
        world = order.world(k, size)
        tiff = name.endswith(".tif")
        seen = world.picture(world.land.paint())[..., : 4 if tiff else 3]
        _write(root / folder / file, exposed(seen, order.noise(k), 16 if tiff else 8), on_its_side=name == "phone.jpg")
        channels = "r|g|b|nir" if tiff else "r|g|b"
        records.add_image(world, Path(file).stem, file_name=folder + file, channels=channels)


def _huge(order: Order, records: Records, root: Path, folder: str) -> None:
    for k in range(order.n):
        world, file = order.world(k, order.size), f"{folder}huge-{k + 1}.tif"
        _write(root / file, exposed(world.picture(world.land.paint())[..., :3], order.noise(k)))
        records.add_image(world, f"huge-{k + 1}", file_name=file, channels="r|g|b")


def _multispectral(order: Order, records: Records, root: Path, folder: str) -> None:
    for k in range(order.n):
        world = order.world(k, order.size)
        picture = exposed(world.picture(world.land.paint()), order.noise(k), 16)
        seen = _swath(*order.size, np.random.default_rng([order.seed, k, 5]))
        bands = {"r|g|b|nir": (picture, 1), "swir": (_swir(picture), 2), "thermal": (_thermal(picture), 4)}
        name = f"scene-{k + 1}"
        assets = [_asset(root, f"{folder}{name}-{channels.replace('|', '')}.tif", channels, image, factor, seen)
                  for channels, (image, factor) in bands.items()]  # fmt: skip
        records.add_image(world, name, assets=assets, sensor_coarse="satellite")


def _video(order: Order, records: Records, root: Path, folder: str) -> None:
    world = order.world(0, order.size, moving=True)
    ground, video = world.land.paint(), records.add_video(world, "traffic")
    everywhere = np.ones(order.size, bool)
    for t, drift in enumerate(drifts(world.seed, order.n)):
        picture = exposed(world.picture(ground, t, drift), order.noise(0, t), 16)
        stem = f"{folder}frame-{t:03}"
        if wide := t % 3 == 2:
            seen = _swath(*order.size, np.random.default_rng([order.seed, t, 5]))
            assets = [_asset(root, f"{stem}-wide.tif", "r|g|b", picture[..., :3], 2, seen)]
        else:
            assets = [
                _asset(root, f"{stem}-rgbn.tif", "r|g|b|nir", picture, 1, everywhere),
                _asset(root, f"{stem}-swir.tif", "swir", _swir(picture), 2, everywhere),
            ]
        records.add_frame(world, video, t, drift, assets=assets, sensor_coarse="wide" if wide else "day")


def _asset(root: Path, file: str, channels: str, image: Image, factor: int, seen: Image) -> dict[str, Any]:
    """Write bands at a fraction of the resolution; return kwcoco's dictionary of the file."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
    mask = cv2.resize(seen.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    missing = not mask.all()
    small[mask == 0] = NODATA
    _write(root / file, small, nodata=missing)
    scale = [image.shape[1] / width, image.shape[0] / height]
    warp = {"warp_aux_to_img": {"scale": scale}} if factor > 1 else {}
    about = {"nodata": NODATA} if missing else {}
    return {"file_name": file, "channels": channels, "width": width, "height": height, **warp, **about}


def _swir(picture: Image) -> Image:
    """Make short-wave infrared of red and near infrared: soil is bright, water black."""
    return np.asarray(picture[..., 0] * 0.6 + picture[..., 3] * 0.35 + 1).astype(np.uint16)


def _thermal(picture: Image) -> Image:
    """Make temperatures in hundredths of a degree Celsius: roads are warm, plants and water cool."""
    return np.asarray(1500 + picture[..., 0] * 0.12 - picture[..., 3] * 0.08).astype(np.uint16)


def _swath(height: int, width: int, rng: np.random.Generator) -> Image:
    """Return True where a sensor that flies over at an angle saw something; shape (y, x)."""
    slope, part = rng.uniform(-0.25, 0.25), rng.uniform(0.08, 0.2)
    x, y = np.arange(width), np.arange(height)[:, None]
    seen = x > part * width + slope * (y - height / 2)
    return seen if rng.random() < 0.5 else seen[:, ::-1]


def _about(path: Path) -> Any:
    """Return the parameters of an existing dataset."""
    try:
        info = json.loads(path.read_text()).get("info", [{}])
        if info[0]["type"] == "ndzarr.toy":
            return info[0]["properties"]
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        pass
    message = f"{path}: the file exists and was not written by ndzarr.toydata"
    raise ExistsError(message, path=str(path), hint="Choose another folder")


KINDS: dict[str, tuple[Callable[[Order, Records, Path, str], None], Order]] = {
    "images": (_images, Order("images", 4, (768, 1024), 40, 0)),
    "multispectral": (_multispectral, Order("multispectral", 3, (512, 640), 40, 0)),
    "video": (_video, Order("video", 9, (384, 512), 60, 0)),
    "huge": (_huge, Order("huge", 1, (6000, 8000), 40, 0)),
}
"""Function and default parameters of each kind of dataset."""
