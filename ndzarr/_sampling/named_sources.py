"""Images and pyramids that are named by their user, without a kwcoco dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, NoReturn, TypeAlias

from ndzarr._executors import Scheduler
from ndzarr._geo.pixel_size import USE_SCALE
from ndzarr._indexing.affine import IDENTITY
from ndzarr._indexing.plan import counted
from ndzarr._library.keys import as_source_request, is_opened_in_place
from ndzarr._library.library import Library
from ndzarr._pyramid.label_images import open_labels
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import list_series, open_pyramid
from ndzarr._remote.urls import is_url
from ndzarr._sampling.annotations import AnnotationTable, tabulate
from ndzarr._sampling.scene import Asset, Channel, Frame
from ndzarr.errors import SourceError, TargetError, did_you_mean

Named: TypeAlias = Pyramid | str | os.PathLike[str]
"""A pyramid, the path or URL of one, or the path of an image file."""


class NamedSource:
    """
    Named images and pyramids: a `SampleSource` whose frames have one asset each, and perhaps label images, and its own
    `Lookups`.

    Parameters
    ----------
    sources
        Name to pyramid or path, or a sequence of them, whose names are then 0, 1, 2, ...  Or the path or URL of an
        OME-Zarr group that holds several images, such as a plate, whose names are then those of its fields.
    library
        Transcodes image files.
    about
        What is known of sources, by their names: columns of tables of targets, without their `note_`.
    """

    dset = None
    """There is no kwcoco dataset."""

    def __init__(
        self,
        sources: Mapping[Any, Named] | Iterable[Named],
        library: Library,
        about: Mapping[Any, Mapping[str, Any]] | None = None,
    ) -> None:
        if isinstance(sources, str | os.PathLike | Pyramid):
            sources, about = _collection(sources, library)
        self.about = about or {}
        self.sources: dict[Any, Any] = dict(sources) if isinstance(sources, Mapping) else dict(enumerate(sources))
        """Name to what was given for it."""
        self.library = library
        self.annotations: AnnotationTable = tabulate([])
        """None."""
        for key, source in self.sources.items():
            if not isinstance(source, Pyramid | str | os.PathLike):
                raise SourceError(
                    f"source {key!r} is of type {type(source).__name__}: expected a pyramid or a path",
                    key=str(key),
                    hint="Make a pyramid of arrays, or of a list of frames, with ndzarr.transcode",
                )
        self._frames = {
            key: Frame(key, (Asset(_path(source), None, IDENTITY, None),), None, IDENTITY, k, name=f"source {key!r}")
            for k, (key, source) in enumerate(self.sources.items())
        }
        self._keys = {id(frame.assets[0]): key for key, frame in self._frames.items()}
        self._opened: dict[Any, Pyramid] = {}
        self._labels: dict[str, Pyramid] = {}
        """Label images by path."""
        self.remote = any(not isinstance(source, Pyramid) and is_url(source) for source in self.sources.values())

    def __repr__(self) -> str:
        return f"<{counted(len(self.sources), 'source')}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sources, self.library, self.about)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        from dask.base import normalize_token

        sources = {str(k): v if isinstance(v, Pyramid) else os.fspath(v) for k, v in self.sources.items()}
        return type(self).__name__, normalize_token(sources), str(self.library.workdir)

    def open(self, key: Any) -> Pyramid:
        """
        Return the pyramid of a source; raises what `frame` does.

        Image files are looked up again each time, so that a changed one is noticed.
        """
        key = self.frame(key).gid
        source = self.sources[key]
        if isinstance(source, Pyramid):
            return source
        if not _is_store(source):
            return self.library.pyramid(os.fspath(source))
        if key not in self._opened:
            found = self.library.find(as_source_request(source)) if is_url(source) else open_pyramid(source)
            self._opened[key] = found
        return self._opened[key]

    def prepare(self, progress: bool = False, workers: int | None = None, scheduler: Scheduler = "threads") -> None:
        """Transcode every image file that is not transcoded yet."""
        files = [os.fspath(s) for s in self.sources.values() if not isinstance(s, Pyramid) and not _is_store(s)]
        self.library.prepare(
            [(f, True) for f in dict.fromkeys(files)], workers=workers, progress=progress, scheduler=scheduler
        )

    # What sampling asks of any source.

    @property
    def dataset(self) -> NamedSource:
        """Itself: it is its own `Lookups`."""
        return self

    def frame(self, gid: Any) -> Frame:
        """Return a source as a frame; None names the only one."""
        if gid is None and len(self._frames) == 1:
            return next(iter(self._frames.values()))
        if gid is None:
            known = ", ".join(map(repr, list(self.sources)[:5]))
            raise TargetError(f"a target needs key, one of {known}", key="key")
        try:
            return self._frames[gid]
        except (KeyError, TypeError):
            raise TargetError(
                f"key={gid!r}: no such source{did_you_mean(gid, list(self.sources)[:20])}", key="key"
            ) from None

    def with_labels(self, frame: Frame) -> Frame:
        """Return a source with the label images of an OME-Zarr image, once a channel is asked for that this lacks."""
        given, path = self.sources[frame.gid], frame.assets[0].path
        if len(frame.assets) > 1 or not _is_store(path) or (isinstance(given, Pyramid) and is_url(path)):
            return frame
        found = open_labels(path, self.open(frame.gid), self.library.storage_options, self.library.remote)
        self._labels |= {label.path: label.pyramid for label in found}
        labels = [Asset(label.path, label.channels, label.to_image, None, kind="labels") for label in found]
        self._frames[frame.gid] = replace(frame, assets=(*frame.assets, *labels)) if labels else frame
        return self._frames[frame.gid]

    def open_asset(self, asset: Asset) -> Pyramid:
        """Return the pyramid of an asset of a frame."""
        return self._labels[asset.path] if asset.kind == "labels" else self.open(self._keys[id(asset)])

    def opened(self, asset: Asset) -> Pyramid | None:
        """Return the pyramid of an asset if it is local, and open or transcoded already; else None."""
        source = self.sources[self._keys[id(asset)]]
        if isinstance(source, Pyramid):
            return None if is_url(source.path) else source
        return self.library.opened(as_source_request(source))

    def open_together(self, frames: Iterable[Frame]) -> None:
        """Open the URLs among frames, several at a time, if they are not open."""
        paths = [frame.assets[0].path for frame in frames if frame.gid not in self._opened]
        self.library.open_together(as_source_request(path) for path in paths if is_url(path))

    def size_in_file(self, frame: Frame) -> tuple[int, int]:
        """Return (height, width) of a source."""
        pyramid = self.open(frame.gid)
        return pyramid.shape[-2], pyramid.shape[-1]

    def covered_size(self, gid: Any) -> tuple[int, int] | None:
        """Return (height, width) of a source without nodata."""
        pyramid = self.open(gid)
        return None if pyramid.nodata is not None else (pyramid.shape[-2], pyramid.shape[-1])

    def files(self, gids: Sequence[Any] | None = None) -> Iterator[str]:
        """Yield the paths of all sources."""
        return (frame.assets[0].path for frame in self._frames.values())

    def known(self) -> tuple[Mapping[str, None], Set[str]]:
        """Return no channels: pyramids state them."""
        return {}, {"*"}

    def annotation(self, aid: Any) -> NoReturn:
        """Refuse: there are no annotations."""
        raise _needs_kwcoco("aid")

    def images_of(self, aids: Iterable[Any]) -> None:
        """Return None: there are no annotations."""
        return

    def video_frames(self, vidid: Any) -> NoReturn:
        """Refuse: there are no videos of several files."""
        raise _needs_kwcoco("vidid")

    def video_of(self, gid: Any) -> None:
        """Return None: there are no videos of several files."""
        return

    def video_size(self, gid: Any) -> None:
        """Return None: there are no videos of several files."""
        return

    def resolution(self, gid: Any, video: bool) -> NoReturn:
        """Refuse: only the file says how large a pixel is."""
        path = self._frames[gid].assets[0].path
        what = f"{path}: a resolution or a length needs the size of a pixel, which it does not state"
        raise TargetError(what, path=path, key="resolution", hint=USE_SCALE)

    def channels(self, spec: Any) -> tuple[Channel, ...] | None:
        """Return the channels that names, or names separated by |, mean."""
        if spec is None:
            return None
        names = [name.strip() for code in ((spec,) if isinstance(spec, str) else spec) for name in code.split("|")]
        return tuple([("*", name) for name in names])


def _collection(given: Named, library: Library) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
    """Return the images of an OME-Zarr group by their names, and what is known of each."""
    path = _path(given)
    images = None
    if not isinstance(given, Pyramid) and _is_store(given):
        images = list_series(path, library.storage_options, library.remote)
    if images is None:
        hint = "Give a list of it, or a name: {'name': ...}"
        raise SourceError(f"{path}: a single source, and no collection of them", path=path, hint=hint)
    unique = len({image.name for image in images}) == len(images)
    named = {image.name if unique else image.path: image for image in images}
    places = {name: f"{path.rstrip('/')}/{image.path}" for name, image in named.items()}
    return places, {name: image.about for name, image in named.items()}


def _needs_kwcoco(key: str) -> TargetError:
    what = "gid, gids, vidid and aid need a kwcoco dataset"
    return TargetError(what, key=key, hint="Use ndzarr.CocoSampler, or give key")


def _path(source: Named) -> str:
    return source.path if isinstance(source, Pyramid) else os.fspath(source)


def _is_store(source: str | os.PathLike[str]) -> bool:
    """True for what is opened in place: a directory, or a URL that can only name a store."""
    return is_opened_in_place(os.fspath(source))
