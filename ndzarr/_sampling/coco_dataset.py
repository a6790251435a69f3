"""Kwcoco datasets as sampling sees them: frames, videos, channel codes, resolutions.

Only this module and `coco_assets` know kwcoco's dictionaries.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from io import TextIOWrapper
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ndzarr._executors import Scheduler
from ndzarr._files import open_binary
from ndzarr._formats.registry import file_kind
from ndzarr._geo.pixel_size import PixelSize, Statements
from ndzarr._indexing.affine import IDENTITY
from ndzarr._indexing.plan import counted
from ndzarr._library.keys import SourceRequest, as_source_request, is_opened_in_place
from ndzarr._library.library import Library
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.annotations import AnnotationTable, tabulate
from ndzarr._sampling.coco_assets import (
    Access,
    Allow,
    asset_dicts,
    channels_of,
    frame_of,
    sensor_of,
    size_of,
    without_blanks,
)
from ndzarr._sampling.scene import Asset, Channel, Clock, Frame
from ndzarr._validation import check_choice
from ndzarr.errors import MissingError, SourceError, TargetError, did_you_mean, warn_caller

# --- Datasets that kwcoco does not take, or takes with a warning.


_TABLES = {"images": ("id",), "videos": ("id",), "categories": ("id", "name"), "annotations": ("id", "image_id")}
"""Tables of a dataset, and what each of their dictionaries has."""


def complaint(data: Any) -> str | None:
    """Return one thing that is wrong with a dataset, by name; None if nothing known is wrong."""
    if not isinstance(data, Mapping):
        try:
            with TextIOWrapper(open_binary(data), "utf-8-sig") as file:
                data = json.load(file)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
    return next(iter(_complaints(data)), None) if isinstance(data, Mapping) else "it is no dictionary"


def _complaints(data: Mapping[str, Any]) -> Iterable[str]:
    for table, needed in _TABLES.items():
        rows = data.get(table, [])
        if not isinstance(rows, list):
            yield f"{table} is {type(rows).__name__}, and no list"
            continue
        for k, row in enumerate(rows):
            if not isinstance(row, Mapping):
                yield f"{table}[{k}] is {row!r}, and no dictionary"
            elif lacking := [key for key in needed if row.get(key) is None]:
                yield f"{table}[{k}] has no {lacking[0]}"
            elif table == "images" and row.get("video_id") is not None:
                index = row.get("frame_index")
                if isinstance(index, str) or index is None:
                    yield f"image {row['id']!r} is in video {row['video_id']!r}, and its frame_index is {index!r}"


def tag_of(coco: Any) -> str:
    """Return what messages call a dataset; one that was made of a dictionary has no name."""
    return coco.tag or "the dataset"


def file_of(coco: Any) -> str | None:
    """Return the path of the file that a dataset was read from; None if it was made of a dictionary, or converted."""
    path, default = os.path.abspath(coco.fpath), "data.kwcoco.json"
    # kwcoco calls dictionaries so, too, and tags what it has read by the name, or by "".
    read = os.path.basename(path) != default or coco.tag in (default, "")
    return path if read and os.path.isfile(path) else None


def refuse_repeated_ids(coco: Any) -> None:
    """Check that there are ids: kwcoco keeps the last of several dictionaries, and only warns."""
    index = coco.index
    kinds = {"images": index.imgs, "videos": index.videos, "categories": index.cats, "annotations": index.anns}
    for table, known in kinds.items():
        rows = coco.dataset.get(table, [])
        if None in known:
            raise SourceError(f"{tag_of(coco)}: one of {table} has the id None", key="id", hint="Give it one")
        if len(known) < len(rows):
            [(repeated, times)] = Counter(row["id"] for row in rows).most_common(1)
            raise SourceError(f"{tag_of(coco)}: {times} {table} have the id {repeated!r}; ids have to differ", key="id")


def coerce(dset: Any) -> Any:
    """
    The `kwcoco.CocoDataset` that a person means: a dataset, its path, its dictionary, or a demo of kwcoco.

    Names of demos, such as 'shapes8' or 'vidshapes2-frames5', count if no file has that name.
    """
    if isinstance(dset, (str, os.PathLike)):
        path, name = Path(dset), os.fspath(dset).removeprefix("special:")
        full = str(path.absolute())
        if path.is_dir() and not (path / "data.kwcoco.json").exists():
            what = f"{full} is a directory without data.kwcoco.json"
            raise MissingError(what, path=full, hint="Name the dataset's file")
        if not path.exists():
            if _DEMO.match(name):
                return _demo(name)
            what = f"{full}: no such kwcoco dataset, nor a demo's name such as 'vidshapes8'"
            raise MissingError(what, path=full)
        return _read(os.fspath(path), full)
    if isinstance(dset, Mapping):
        return _read(dict(dset), None)
    if not hasattr(dset, "coco_image"):
        what = f"dset is a {type(dset).__name__}: expected a kwcoco.CocoDataset, a path or a dictionary"
        raise TargetError(what, key="dset")
    return dset


_DEMO = re.compile(r"(vid)?shapes\d*(-[\w.-]+)*$")
"""Names of the demos that kwcoco makes without downloading anything."""


def _demo(name: str) -> Any:
    import kwcoco

    try:
        return kwcoco.CocoDataset.demo(name, verbose=0)
    except (KeyError, ValueError, TypeError) as error:
        raise MissingError(f"{name}: neither a file nor a demo that kwcoco makes ({error})", path=name) from error


def _read(data: Any, path: str | None) -> Any:
    import kwcoco

    if isinstance(data, str):
        _check_zip(data)
    try:
        if isinstance(data, str) and (content := _marked_json(data)) is not None:
            return kwcoco.CocoDataset(content, tag=Path(data).stem, bundle_dpath=os.path.dirname(os.path.abspath(data)))
        return kwcoco.CocoDataset(data)
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError) as error:
        reason = complaint(data) or (str(error).splitlines() or [type(error).__name__])[0]
        what = f"{path or 'the dictionary'} is not a kwcoco dataset ({reason})"
        raise SourceError(what, path=path, hint="See `kwcoco validate`") from error


MOST_GROWTH = 200
"""Most times that the JSON of a zipped dataset may be larger than its archive; kwcoco's own grow tenfold."""


def _check_zip(path: str) -> None:
    """Raise `SourceError` for an archive that kwcoco cannot read, or that would grow without end."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise SourceError(f"{path} is a damaged ZIP archive ({error})", path=path, hint="Fetch it again") from error
    if len(members) != 1:
        message = f"{path}: a zipped dataset is one JSON file, and this archive has {len(members)}"
        raise SourceError(message, path=path, hint="Unpack it")
    if members[0].file_size > MOST_GROWTH * max(members[0].compress_size, 1 << 16):
        message = f"{path}: {members[0].compress_size} bytes would unpack to {members[0].file_size}"
        raise SourceError(message, path=path, hint="If you trust it, unpack it")


def _marked_json(path: str) -> Any:
    """Return the content of a JSON file that begins with a byte order mark, which kwcoco refuses; else None."""
    with open_binary(path) as file:
        marked = file.read(3) == codecs.BOM_UTF8
    return json.loads(Path(path).read_text("utf-8-sig")) if marked else None


class Dataset:
    """A kwcoco dataset, as far as sampling needs to know it; frames are looked at once."""

    def __init__(self, coco: Any, image_root: str | None = None, *, allow: Allow = "files") -> None:
        refuse_repeated_ids(coco)
        self.coco = coco
        """The `kwcoco.CocoDataset`."""
        self.image_root = coco.bundle_dpath if image_root is None else image_root
        """The directory that names of files are relative to."""
        self._access = Access(self.image_root, allow)
        self._frames: dict[Any, Frame] = {}
        self._clocks: dict[str, Clock] = {}
        self._known: tuple[dict[str, None], set[str]] | None = None

    def frame(self, gid: Any) -> Frame:
        """An image with its assets."""
        try:
            found = self._frames.get(gid)
        except TypeError:
            raise TargetError(f"gid={gid!r}: expected one id", key="gid") from None
        if found is None:
            image = self.coco.index.imgs.get(gid)
            if image is None:
                raise TargetError(
                    f"gid={gid!r}: no such image; the dataset has {some(self.coco.index.imgs)}", key="gid"
                )
            video = self.coco.index.videos.get(image.get("video_id"), {})
            found = self._frames[gid] = frame_of(image, video, self._access, self._clocks)
        return found

    def known(self) -> tuple[Mapping[str, None], set[str]]:
        """Channels that the dataset states for any image, in their order, and its sensors; found when first needed."""
        if self._known is None:
            names: dict[str, None] = {}
            sensors = set()
            for image in self.coco.index.imgs.values():
                sensors.add(sensor_of(image))
                video = self.coco.index.videos.get(image.get("video_id"), {})
                for obj in asset_dicts(image, video):
                    names |= dict.fromkeys(channels_of(obj, image) or ())
            self._known = names, sensors
        return self._known

    def annotation(self, aid: Any) -> Mapping[str, Any]:
        """The dictionary of an annotation."""
        found: Mapping[str, Any] | None = self.coco.index.anns.get(aid)
        if found is None:
            raise TargetError(
                f"aid={aid!r}: no such annotation; the dataset has {some(self.coco.index.anns)}", key="aid"
            )
        return found

    def images_of(self, aids: Iterable[Any]) -> list[Any] | None:
        """Return the image of each annotation; None if one does not exist."""
        known = self.coco.index.anns
        try:
            return [known[aid]["image_id"] for aid in aids]
        except (KeyError, TypeError):
            return None

    def video_frames(self, vidid: Any) -> tuple[Any, ...]:
        """Image ids of a video, in the order of its frames."""
        if vidid not in self.coco.index.videos:
            raise TargetError(
                f"vidid={vidid!r}: no such video; the dataset has {some(self.coco.index.videos)}", key="vidid"
            )
        gids = tuple(self.coco.index.vidid_to_gids[vidid])
        if not gids:
            raise TargetError(f"vidid={vidid!r}: the video has no frames", key="vidid")
        return gids

    def video_of(self, gid: Any) -> Any:
        """The id of an image's video; None if it is in none."""
        return self.coco.index.imgs[gid].get("video_id")

    def video_size(self, gid: Any) -> tuple[int, int] | None:
        """(height, width) of the space of an image's video; None if it is in none or that states no size."""
        video = self.coco.index.videos.get(self.video_of(gid))
        size = None if video is None else size_of(video)
        return None if size is None else (size[1], size[0])

    def resolution(self, gid: Any, video: bool) -> PixelSize:
        """Size of a pixel of the sampled space, by `resolution` or `target_gsd` of the image or video."""
        try:
            found = self.coco.coco_image(gid).resolution("video" if video else "image")
            x, y = (float(v) for v in found["mag"])
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise TargetError(
                f"gid={gid!r}: the dataset states no resolution that is understood (`resolution` or `target_gsd`, such "
                "as '10 meters')",
                key="resolution",
                hint="Use scale",
            ) from error
        notes: list[str] = []
        said, unit = Statements("dataset", notes), found["unit"] or "m"
        width, height = (said.quantity("the resolution", v, unit) for v in (x, y))
        if notes:
            what = f"gid={gid!r}: the dataset states a resolution of {x:g} x {y:g} {found['unit']}"
            raise TargetError(what, key="resolution", hint="Use scale")
        return PixelSize(y=height, x=width, source="dataset")

    def channels(self, spec: Any) -> tuple[Channel, ...] | None:
        """(sensor, name) of the channels of a code (`r|g|b`, `S2:red,L8:B.0:3`) or a list of names; None for all."""
        if spec is None:
            return None
        codes = (spec,) if isinstance(spec, str) else spec
        wanted = tuple(dict.fromkeys(pair for code in codes for pair in _sensor_channels(code)))
        for sensor in dict.fromkeys(sensor for sensor, _ in wanted):
            sensors = self.known()[1] if sensor != "*" else {sensor}
            if sensor not in sensors and "*" not in sensors:
                raise TargetError(
                    f"channels={spec!r}: no image has sensor {sensor!r}{did_you_mean(sensor, sensors)}", key="channels"
                )
        return wanted


_CODE = re.compile(r"[\w*()]([\w *.:()-]|[|,](?![|,]|$))*")
"""Text that may be a channel code; kwcoco's parser prints other text before it raises."""

FUSED = ("rgb", "rgba", "dxdy", "fxfy")
"""Names that stand for several channels."""


@cache
def _sensor_channels(spec: str) -> tuple[Channel, ...]:
    if spec.replace("_", "").isalnum() and spec not in FUSED:  # a plain name needs no parser
        return (("*", spec),)
    import delayed_image

    try:
        spec = without_blanks(spec)
        if not _CODE.fullmatch(spec):
            raise ValueError("names are letters, digits, _, - and *, separated by |")
        streams = delayed_image.SensorChanSpec.coerce(spec).normalize().streams()
        pairs = [(stream.sensor.spec or "*", name) for stream in streams for name in stream.chans.normalize().as_list()]
    except Exception as error:  # its parser raises whatever its grammar library does
        raise TargetError(
            f"channels={spec!r} is not a channel code ({str(error).splitlines()[0]})",
            key="channels",
            hint="Write 'r|g|b' or 'S2:red|nir'",
        ) from error
    return tuple(dict.fromkeys(pairs))


def some(ids: Iterable[Any]) -> str:
    """A few ids of many, as messages name them."""
    known = list(ids)
    if not known:
        return "none"
    return ", ".join(map(repr, known[:5])) + (f" ... {known[-1]!r} ({len(known)})" if len(known) > 5 else "")


# A kwcoco dataset as a `SampleSource`.


class CocoSource:
    """A kwcoco dataset, which is looked at once, and the library that opens and transcodes its files."""

    def __init__(
        self,
        dset: Any,
        library: Library,
        image_root: str | os.PathLike[str] | None = None,
        allow: Allow = "files",
    ) -> None:
        self.remote = allow == "urls"
        if image_root is not None and not os.path.isdir(image_root):
            raise MissingError(f"image_root={os.fspath(image_root)!r}: no such directory", key="image_root")
        self.dset = dset
        self.library = library
        self._elsewhere = [] if image_root is None else [os.path.abspath(image_root)]
        check_choice("allow", allow, get_args(Allow))
        self.dataset = Dataset(dset, *self._elsewhere, allow=allow)

    def __repr__(self) -> str:
        return f"<kwcoco dataset {self.summary}>"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return type(self).__name__, self.hashid, str(self.library.workdir)

    @property
    def summary(self) -> str:
        """Its name, and how much it has of what."""
        index = self.dset.index
        numbers = {"image": index.imgs, "video": index.videos, "annotation": index.anns, "category": index.cats}
        content = ", ".join(counted(len(some), noun) for noun, some in numbers.items())
        return f"{self.dset.tag!r}: {content}"

    @cached_property
    def annotations(self) -> AnnotationTable:
        """All annotations as columns, sorted by image."""
        images, listed = self.dset.index.imgs, self.dset.dataset.get("annotations", [])
        table = tabulate(listed, lambda annotation: size_of(images.get(annotation["image_id"], {})))
        nowhere = np.flatnonzero(np.isnan(table.columns[0]))
        if len(nowhere):
            first = table.annot_id[nowhere[table.position[nowhere].argmin()]].item()
            warn_caller(
                f"{tag_of(self.dset)}: {len(nowhere)} of {counted(len(listed), 'annotation')} have neither a box nor a "
                f"shape, so that no window holds them; the first is annotation {first!r}",
                UserWarning,
            )
        return table

    @property
    def hashid(self) -> str:
        """A digest of the dataset and of the library's options."""
        content = json.dumps(self.dset.dataset, sort_keys=True, default=str) + json.dumps(
            [self.library.encoding.as_json(), self.library.transcode, *self._elsewhere]
        )
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def frame(self, gid: Any) -> Frame:
        """Return an image with its assets."""
        return self.dataset.frame(gid)

    def with_labels(self, frame: Frame) -> Frame:
        """Return the image: its label images are assets that the dataset states."""
        return frame

    def open_asset(self, asset: Asset) -> Pyramid:
        """Return the pyramid of an asset, transcoded now if need be."""
        pyramid = self.library.find(_request(asset))
        if pyramid.validity.alpha is not None and _is_other_than_alpha(asset, pyramid):
            pyramid = self.library.find(_request(asset)._replace(channels=asset.channels))
        clock = asset.clock
        if clock is not None and clock.seconds is None:
            clock.seconds = pyramid.times or ()
        return pyramid

    def opened(self, asset: Asset) -> Pyramid | None:
        """Return the pyramid of an asset if it is local, and open or transcoded already; else None."""
        ready = self.library.opened(_request(asset)) is not None
        return self.open_asset(asset) if ready else None

    def open_together(self, frames: Iterable[Frame]) -> None:
        """Open the URLs among the assets of frames, several at a time, if they are not open."""
        self.library.open_together(_request(asset) for frame in frames for asset in frame.assets)

    def size_in_file(self, frame: Frame) -> tuple[int, int]:
        """Return (height, width) of an image whose size the dataset does not state, from its file."""
        pyramid = self.open_asset(frame.assets[0])
        return pyramid.shape[-2], pyramid.shape[-1]

    def covered_size(self, gid: Any) -> tuple[int, int] | None:
        """Return (height, width) of an image if one file without nodata covers it exactly; else None."""
        frame = self.frame(gid)
        assets = [asset for asset in frame.assets if asset.kind != "labels"]
        if len(assets) != 1 or assets[0].nodata is not None:
            return None
        [asset] = assets
        if asset.size is None or asset.size != frame.size or not np.array_equal(asset.to_image, IDENTITY):
            return None
        return asset.size[1], asset.size[0]

    def files(self, gids: Sequence[Any] | None = None) -> Iterator[str]:
        """Yield the paths of the files of some images, or of all."""
        chosen = self.dset.index.imgs if gids is None else gids
        return (asset.path for gid in chosen for asset in self.frame(gid).assets)

    def prepare(self, progress: bool = False, workers: int | None = None, scheduler: Scheduler = "threads") -> None:
        """Transcode every asset that is not transcoded yet."""
        assets = [asset for gid in self.dset.index.imgs for asset in self.frame(gid).assets]
        self.library.prepare([_request(a) for a in assets], workers=workers, progress=progress, scheduler=scheduler)


def _is_other_than_alpha(asset: Asset, pyramid: Pyramid) -> bool:
    """Return True if the dataset gives alpha of a file another name, such as infrared: then it hides nothing."""
    names, at = asset.channels, pyramid.validity.alpha
    if names is None or at is None or len(names) != len(pyramid.channels) or is_opened_in_place(asset.path):
        return False
    return names[at].lower() not in ("a", "alpha")


@lru_cache(maxsize=1 << 16)
def _request(asset: Asset) -> SourceRequest:
    """How a file is read: what the dataset states of it, and the orientation that fits the stated size."""
    gray = asset.position is not None and asset.channels == ("gray",) and file_kind(asset.path) == "video"
    channels = asset.channels if gray else None
    size = True if asset.size is None else asset.size
    return as_source_request(
        asset.path,
        size,
        channels=channels,
        nodata=asset.nodata,
        palette=asset.palette,
        series=asset.series,
        kind=asset.kind,
    )
