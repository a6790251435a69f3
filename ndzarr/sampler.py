"""How are images sampled without kwcoco?

Sources are named; a target gives the name as `key` and a window by named axes or by centre and size.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ndzarr._files import cache_root
from ndzarr._indexing.affine import IDENTITY
from ndzarr._indexing.plan import ReadPlan, counted
from ndzarr._library.library import Library
from ndzarr._pyramid.crops import Crop, plan_crops, read_crops
from ndzarr._pyramid.crops import make_crop as crop
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.named_sources import NamedSource
from ndzarr._sampling.named_window import refuse, window_of
from ndzarr._sampling.sample import Context
from ndzarr._sampling.scene import Frame, Scene
from ndzarr._sampling.target import Target, merged, parse
from ndzarr._store.presets import Encoding
from ndzarr.errors import TargetError
from ndzarr.targets.table import Rows

if TYPE_CHECKING:
    import xarray

    from ndzarr._batches.extract import Order
    from ndzarr._batches.form import Sizes
    from ndzarr._batches.load import NamedMember
    from ndzarr.targets.accessor import SourceTargets
    from ndzarr.targets.table import TargetsLike as ManyTargets
    from ndzarr.targets.table import TargetsLike as Targets


# --- What can be asked of a `Sampler` about many targets at once?


class NamedBulk:
    """The part of `Sampler` that works on many targets."""

    if TYPE_CHECKING:  # what `Sampler` has

        @property
        def sources(self) -> dict[Any, Any]: ...  # noqa: D102
        @property
        def library(self) -> Library: ...  # noqa: D102
        def crop(self, target: Target) -> Crop: ...  # noqa: D102

    def load_batch(self, targets: Targets | Rows | None = None, *, sizes: Sizes = "pad", **keys: Any) -> xarray.Dataset:
        """
        Load many windows by one plan: each chunk that they touch is decoded once; see `CocoSampler.load_batch`.

        Raises
        ------
        TargetError
            A target is not understood, or they have different axes, channels or dtypes.
        """
        from ndzarr._batches.load import load_batch

        return load_batch(self, {} if targets is None else targets, Lookup(False), sizes, keys)

    def lazy_batch(
        self, targets: Targets | Rows, batch_size: int = 64, *, sizes: Sizes = "pad", **keys: Any
    ) -> xarray.Dataset:
        """The Dataset of `load_batch`, dask-backed; see `CocoSampler.lazy_batch`."""
        from ndzarr._batches.lazy import lazy_batch

        return lazy_batch(self, targets, batch_size, Lookup(False), sizes, keys)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        from dask.base import normalize_token

        sources = {str(k): v if hasattr(v, "levels") else os.fspath(v) for k, v in self.sources.items()}
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
        from ndzarr._batches.extract import extract

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
        return (s.path if hasattr(s, "levels") else os.fspath(s) for s in self.sources.values())

    def images_of(self, annot_ids: Iterable[Any]) -> None:
        """Pyramids have no annotations."""
        return

    def members(
        self, targets: Iterable[Mapping[str, Any]], lookup: Lookup | None = None, start: int = 0
    ) -> list[NamedMember]:
        """Targets, understood but not read: what everything in `ndzarr.bulk` begins with."""
        from ndzarr._batches.form import batchable, numbered
        from ndzarr._batches.load import NamedMember

        sampler = cast("Sampler", self)

        def member(given: Mapping[str, Any]) -> NamedMember:
            parsed = batchable(parse(given))
            return NamedMember(sampler, given, parsed, self.crop(parsed))

        return numbered(member, targets, start)


class Sampler(NamedBulk):
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
        root = Path(workdir) if workdir is not None else cache_root()
        self._source = NamedSource(sources, Library(root, Encoding(preset), transcode=transcode))

    @property
    def sources(self) -> dict[Any, Any]:
        """Name to what was given for it."""
        return self._source.sources

    @property
    def library(self) -> Library:
        """Where the pyramids are."""
        return self._source.library

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        return f"<ndzarr.Sampler: {counted(len(self), 'source')}>\n  workdir  {self.library.root}"

    @property
    def targets(self) -> SourceTargets:
        """Chooses windows: `sampler.targets.grid(...)`."""
        from ndzarr.targets.accessor import SourceTargets

        return SourceTargets(self._source)

    def prepare(self, progress: bool = False, workers: int | None = None) -> None:
        """Transcode every image file that is not transcoded yet; raises at the end, naming the files that failed."""
        self._source.prepare(progress, workers)

    def pyramid(self, key: Any) -> Pyramid:
        """
        The pyramid of a source.

        Raises
        ------
        TargetError
            There is no such source.
        """
        return self._source.open(key)

    def load_sample(self, target: Mapping[str, Any] | None = None, **keys: Any) -> xarray.Dataset:
        """
        Load one window.

        Parameters
        ----------
        target
            `key`, and a window: `y`, `x` as slices, or `cx cy` with `width height` or `window_dims`; `t`, `z` as slices
            or lists of positions; `channels`, `scale` or `output_dims`, `pad`, `interpolation`, `antialias`, `fill`;
            where the pyramid is georeferenced, `bounds` and `resolution`.  Keys may also be given as keyword arguments.

        Returns
        -------
        Dataset with `image`, with the axes of the pyramid, and `valid` where something is padded or holds no data.

        Raises
        ------
        TargetError
            The target is not understood.
        """
        from ndzarr._pyramid.window import label_window as label

        given = merged(target, keys)
        wanted = parse(given)
        cut = self.crop(wanted)
        [(image, valid)] = read_crops([cut])
        sample = label(cut, image, valid)
        sample.encoding["ndzarr"] = self.context(given, wanted, cut)
        return sample

    def context(self, given: Mapping[str, Any], parsed: Target, cut: Crop) -> Context:
        """What the accessor of a sample knows: where it came from."""
        place, (y, x) = cut.pyramid.georeference, (cut.region.y, cut.region.x)
        earth = None
        if place is not None and place.transform is not None:
            earth = place.window_transform(y.origin, x.origin, y.step, x.step)
        return Context(dict(given), _scene(parsed, cut), None, (), earth=earth)

    def key_of(self, target: Target) -> Any:
        """The name of the source that a target means."""
        return next(iter(self.sources)) if target.key is None else target.key

    def plan(self, targets: ManyTargets) -> ReadPlan:
        """What loading targets would read: `plan(targets).explain()`."""
        return plan_crops([self.crop(parse(t)) for t in Rows(targets)])

    def crop(self, target: Target) -> Crop:
        """What is read for a target that was parsed."""
        refuse(target)
        if target.key is None and len(self.sources) != 1:
            raise TargetError(f"a target needs key, one of {', '.join(map(repr, list(self.sources)[:5]))}")
        pyramid = self.pyramid(self.key_of(target))
        window, scale = window_of(target, pyramid)
        return crop(pyramid, window, scale, target.sampling, target.padding.fill or 0)


def _scene(target: Target, cut: Crop) -> Scene:
    """The window as the accessor knows it."""
    y, x = ((round(s.origin), round(s.origin + s.n * s.step)) for s in (cut.region.y, cut.region.x))
    frame = Frame(target.key, (), None, IDENTITY, 0)
    space = cut.pyramid.shape[-2], cut.pyramid.shape[-1]
    return Scene((frame,), "t" in cut.pyramid.dims, space, y, x, cut.region.shape, None, cut.sampling, target.padding)
