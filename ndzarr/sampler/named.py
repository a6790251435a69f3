"""How are images sampled without kwcoco?

Sources are named; a target gives the name as `key` and a window by named axes or by centre and size.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.geometry.affine import IDENTITY
from ndzarr.library import Library, default_root
from ndzarr.plan.plan import ReadPlan
from ndzarr.pyramid.layout import Encoding
from ndzarr.pyramid.open import open_pyramid
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.pyramid.region import Crop, crop, plan_crops, read_crops
from ndzarr.sampler.annotations import Lookup
from ndzarr.sampler.sample import Context
from ndzarr.sampler.scene import Frame, Scene
from ndzarr.sampler.target import Target, merged, parse
from ndzarr.sampler.values import interval

if TYPE_CHECKING:
    import xarray

    from ndzarr.bulk.batch import Sizes
    from ndzarr.bulk.extract import Order
    from ndzarr.bulk.member import NamedMember
    from ndzarr.targets.rows import Rows, Targets
    from ndzarr.targets.sources import SourceTargets


class Sampler:
    """
    Windows of named images and pyramids.

    Parameters
    ----------
    sources
        Name to pyramid, path of a pyramid, or path of an image file, which is transcoded when it is first touched; or a
        sequence of them, whose names are then 0, 1, 2, ...
    workdir
        Where pyramids of image files are kept; by default the user's cache directory.
    preset
        How image files are encoded; see `ndzarr.transcode`.
    transcode
        'auto': files that are efficiently tiled (COGs) are read where they lie, all others are transcoded; 'always';
        'never'.  See docs/in-place.md.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile
    >>> pyr = ndzarr.transcode(np.arange(4096, dtype="u1").reshape(64, 64), tempfile.mkdtemp() + "/a.zarr")
    >>> sampler = ndzarr.Sampler({"a": pyr})
    >>> sampler.load_sample({"key": "a", "y": slice(0, 8), "x": slice(-2, 6)}).image.shape
    (1, 8, 8)
    """

    def __init__(
        self,
        sources: Mapping[Any, Any] | Iterable[Any],
        workdir: str | os.PathLike[str] | None = None,
        *,
        preset: str = "fast",
        transcode: str = "auto",
    ) -> None:
        self.sources = dict(sources) if isinstance(sources, Mapping) else dict(enumerate(sources))
        """Name to what was given for it."""
        self.library = Library(
            Path(workdir) if workdir is not None else default_root(), Encoding(preset), transcode=transcode
        )
        self._opened: dict[Any, Pyramid] = {}

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        return f"<ndzarr.Sampler: {len(self)} sources>\n  workdir  {self.library.root}"

    @property
    def targets(self) -> SourceTargets:
        """Chooses windows: `sampler.targets.grid(...)`."""
        from ndzarr.targets.sources import SourceTargets

        return SourceTargets(self)

    def prepare(self, progress: bool = False, workers: int | None = None) -> None:
        """Transcode every image file that is not transcoded yet; raises at the end, naming the files that failed."""
        files = [os.fspath(s) for s in self.sources.values() if not isinstance(s, Pyramid) and not _is_store(s)]
        self.library.prepare([(f, True) for f in dict.fromkeys(files)], workers=workers, progress=progress)

    def pyramid(self, key: Any) -> Pyramid:
        """
        The pyramid of a source.

        Raises
        ------
        TargetError
            There is no such source.
        """
        if key not in self.sources:
            raise TargetError(f"key={key!r}: no such source{did_you_mean(key, list(self.sources)[:20])}")
        source = self.sources[key]
        if isinstance(source, Pyramid):
            return source
        if not _is_store(source):
            return self.library.pyramid(os.fspath(source))
        if key not in self._opened:
            self._opened[key] = open_pyramid(source)
        return self._opened[key]

    def load_sample(self, target: Mapping[str, Any] | None = None, **keys: Any) -> xarray.Dataset:
        """
        Load one window.

        Parameters
        ----------
        target
            `key`, and a window: `y`, `x`, `t`, `z` as slices, or `cx cy width height`; `channels`, `scale`,
            `interpolation`, `fill`.  Keys may also be given as keyword arguments.

        Returns
        -------
        Dataset with `image`, with the axes of the pyramid, and `valid` where something is padded or holds no data.

        Raises
        ------
        TargetError
            The target is not understood.
        """
        from ndzarr.labels.window import label

        given = merged(target, keys)
        wanted = parse(given)
        cut = self._crop(wanted)
        [(image, valid)] = read_crops([cut])
        sample = label(cut, image, valid)
        sample.encoding["ndzarr"] = self.context(given, wanted, cut)
        return sample

    def load_batch(self, targets: Targets | Rows | None = None, *, sizes: Sizes = "pad", **keys: Any) -> xarray.Dataset:
        """
        Load many windows by one plan: each chunk that they touch is decoded once; see `CocoSampler.load_batch`.

        Raises
        ------
        TargetError
            A target is not understood, or they have different axes, channels or dtypes.
        """
        from ndzarr.bulk.batch import load_batch

        return load_batch(self, {} if targets is None else targets, Lookup(False), sizes, keys)

    def lazy_batch(
        self, targets: Targets | Rows, batch_size: int = 64, *, sizes: Sizes = "pad", **keys: Any
    ) -> xarray.Dataset:
        """The Dataset of `load_batch`, dask-backed; see `CocoSampler.lazy_batch`."""
        from ndzarr.bulk.lazy import lazy_batch

        return lazy_batch(self, targets, batch_size, Lookup(False), sizes, keys)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        from dask.base import normalize_token

        sources = {str(k): v if isinstance(v, Pyramid) else os.fspath(v) for k, v in self.sources.items()}
        return type(self).__name__, normalize_token(sources), os.fspath(self.library.root)

    def extract(
        self,
        targets: Targets | Rows,
        dest: str | os.PathLike[str],
        *,
        order: Order = "input",
        sizes: Sizes = "pad",
        preset: str = "fast",
        shard: int | None = None,
        scheduler: Any = "threads",
        workers: int | None = None,
        progress: bool = False,
        overwrite: bool = False,
        **keys: Any,
    ) -> Path:
        """Write the samples of many targets to one Zarr store; see `CocoSampler.extract`."""
        from ndzarr.bulk.extract import extract

        return extract(
            self,
            targets,
            dest,
            order=order,
            lookup=Lookup(False),
            sizes=sizes,
            preset=preset,
            shard=shard,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
            overwrite=overwrite,
            keys=keys,
        )

    def source_files(self, images: Iterable[Any] | None = None) -> Iterator[str]:
        """Paths of all sources."""
        return (s.path if isinstance(s, Pyramid) else os.fspath(s) for s in self.sources.values())

    def members(self, targets: Iterable[Mapping[str, Any]], lookup: Lookup | None = None) -> list[NamedMember]:
        """Targets, understood but not read: what everything in `ndzarr.bulk` begins with."""
        from ndzarr.bulk.member import NamedMember, batchable

        out = []
        for given in targets:
            parsed = batchable(parse(given))
            out.append(NamedMember(self, given, parsed, self._crop(parsed)))
        return out

    def context(self, given: Mapping[str, Any], parsed: Target, cut: Crop) -> Context:
        """What the accessor of a sample knows: where it came from."""
        return Context(dict(given), _scene(parsed, cut), None, ())

    def key_of(self, target: Target) -> Any:
        """The name of the source that a target means."""
        return next(iter(self.sources)) if target.key is None else target.key

    def plan(self, targets: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> ReadPlan:
        """What loading targets would read: `plan(targets).explain()`."""
        many = [targets] if isinstance(targets, Mapping) else targets
        return plan_crops([self._crop(parse(t)) for t in many])

    def _crop(self, target: Target) -> Crop:
        if target.gids or target.vidid is not None or target.aid is not None:
            raise TargetError("gid, gids, vidid and aid need a kwcoco dataset: use ndzarr.CocoSampler, or give key")
        if target.key is None and len(self.sources) != 1:
            raise TargetError(f"a target needs key, one of {', '.join(map(repr, list(self.sources)[:5]))}")
        pyramid = self.pyramid(self.key_of(target))
        window: dict[str, Any] = dict(target.lead)
        for i, axis in enumerate(("y", "x")):
            given = (target.y, target.x)[i]
            window[axis] = slice(*interval(given, target.centre[i], target.size[i], pyramid.sizes[axis]))
        if target.channels is not None:
            names = target.channels
            window["c"] = names.split("|") if isinstance(names, str) else names
        return crop(pyramid, window, target.scale, target.sampling, target.padding.fill or 0)


def _is_store(source: Any) -> bool:
    name = os.fspath(source)
    return "://" in name or os.path.isdir(name)


def _scene(target: Target, cut: Crop) -> Scene:
    """The window as the accessor knows it."""
    y, x = ((round(s.origin), round(s.origin + s.n * s.pitch)) for s in (cut.region.y, cut.region.x))
    frame = Frame(target.key, (), None, IDENTITY, 0)
    space = cut.pyramid.shape[-2], cut.pyramid.shape[-1]
    return Scene((frame,), "t" in cut.pyramid.dims, space, y, x, cut.region.shape, None, cut.sampling, target.padding)
