"""How does a kwcoco dataset answer targets?

1. `target.parse` says what is asked; `resolve` fills in what only the dataset knows.
2. `assembly.compose` finds the assets' pyramids (transcoded on first touch) and the crops; `assembly.read` reads them.
3. The table of annotations gives those that touch the window, moved to sample pixels; `sample` puts names on
   everything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndzarr.bulk.of_coco import CocoBulk
from ndzarr.errors import TargetError
from ndzarr.geo.georeference import Georeference
from ndzarr.inplace.open import file_kind
from ndzarr.library import Library, default_root
from ndzarr.plan.explain import counted
from ndzarr.plan.plan import ReadPlan
from ndzarr.pyramid.crops import plan_crops
from ndzarr.pyramid.layout import Encoding
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.pyramid.region import Crop
from ndzarr.request import Request, as_request
from ndzarr.sampler.annotations import AnnotationTable, Lookup, find, tabulate
from ndzarr.sampler.assembly import Composition, compose, read
from ndzarr.sampler.dataset import Dataset, coerce
from ndzarr.sampler.ndsampler_names import NdsamplerNames
from ndzarr.sampler.on_earth import located, place_of
from ndzarr.sampler.resolve import resolve, resolved
from ndzarr.sampler.sample import Context, label
from ndzarr.sampler.scene import Asset, Frame, Scene
from ndzarr.sampler.target import Target, merged, parse
from ndzarr.targets.rows import Rows

if TYPE_CHECKING:
    import xarray

    from ndzarr.targets.choose import Targets
    from ndzarr.targets.rows import Targets as ManyTargets


class CocoSampler(CocoBulk, NdsamplerNames):
    """
    Windows of the images and videos of a kwcoco dataset, with their annotations.

    Parameters
    ----------
    dset
        A `kwcoco.CocoDataset`, the path of one, its dictionary, or the name of a demo that kwcoco makes, such as
        'vidshapes8'.  It is looked at once: after a change to it, make another sampler.
    workdir
        Where pyramids are kept; by default the user's cache directory.  Pyramids are keyed by the source's path,
        size and time of modification, so datasets may share a directory.
    preset
        How sources are encoded; see `ndzarr.transcode`.
    transcode
        'auto': files that are efficiently tiled (COGs) are read where they lie, all others are transcoded; 'always';
        'never'.  See docs/in-place.md.

    Examples
    --------
    >>> import ndzarr, numpy as np, PIL.Image, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> PIL.Image.fromarray(np.zeros((300, 400, 3), "u1")).save(folder + "/a.png")
    >>> dset = {"images": [{"id": 1, "file_name": folder + "/a.png", "width": 400, "height": 300}]}
    >>> sampler = ndzarr.CocoSampler(dset, workdir=folder)
    >>> sample = sampler.load_sample({"gid": 1, "cx": 200, "cy": 200, "width": 100, "height": 100})
    >>> sample.image.shape
    (3, 100, 100)
    """

    def __init__(
        self, dset: Any, workdir: str | os.PathLike[str] | None = None, *, preset: str = "fast", transcode: str = "auto"
    ) -> None:
        self.dset = coerce(dset)
        """The `kwcoco.CocoDataset`."""
        self.library = Library(
            Path(workdir) if workdir is not None else default_root(), Encoding(preset), transcode=transcode
        )
        """Where the pyramids are."""
        self._dataset = Dataset(self.dset)

    def __repr__(self) -> str:
        index = self.dset.index
        numbers = {"image": index.imgs, "video": index.videos, "annotation": index.anns, "category": index.cats}
        content = ", ".join(counted(len(some), noun) for noun, some in numbers.items())
        return f"<ndzarr.CocoSampler {self.dset.tag!r}: {content}>\n  workdir  {self.library.root}"

    @cached_property
    def annotations(self) -> AnnotationTable:
        """All annotations as columns, sorted by image."""
        return tabulate(self.dset.dataset.get("annotations", []))

    @cached_property
    def targets(self) -> Targets:
        """Chooses windows: `sampler.targets.grid(...)`, `.positives(...)`, `.negatives(...)` and more."""
        from ndzarr.targets.choose import Targets

        return Targets(self)

    def prepare(self, progress: bool = False, workers: int | None = None) -> None:
        """
        Transcode every asset that is not transcoded yet.

        Raises
        ------
        SourceError
            Some files could not be used; the message names each.  All others are done.
        """
        assets = [asset for gid in self.dset.index.imgs for asset in self.frame(gid).assets]
        self.library.prepare([_request(a) for a in assets], workers=workers, progress=progress)

    def load_sample(
        self,
        target: Mapping[str, Any] | None = None,
        *,
        with_annots: bool | str | Sequence[str] = True,
        annot_ids: Sequence[Any] | None = None,
        visible_thresh: float = 0.0,
        clip: bool = False,
        **keys: Any,
    ) -> xarray.Dataset:
        """
        Load one window.

        Parameters
        ----------
        target
            What to load; see docs/targets.md.  `gid` for an image, `vidid` or `gids` for a video, `aid` for the
            surroundings of an annotation; a window in space (`cx cy width height`, or `space_slice`) and time
            (`time_slice`), of volumes also `z`; `channels`, `scale` and many more.  Keys may also be given as keyword
            arguments.
        with_annots
            Look up annotations.  Text such as 'boxes+segmentation' restricts the geometry of
            `sample.ndzarr.detections`.
        annot_ids
            Take these annotations instead of those that touch the window.
        visible_thresh
            Leave out annotations of which less than this fraction of the box lies in the window.
        clip
            Clip boxes to the window.

        Returns
        -------
        Dataset with `image` (c, y, x), for video targets (t, c, y, x), of volumes (c, z, y, x) and (t, c, z, y, x);
        `valid` where something is padded or missing;
        and, along `annot`, annot_id, category_id, track_id, frame and bbox (x, y, width, height in sample pixels).
        More under the accessor `sample.ndzarr`.  With `use_native_scale`, a DataTree with one such child per frame
        and asset.

        Raises
        ------
        TargetError
            The target is not understood, or names something that the dataset does not have.
        """
        given = merged(target, keys)
        parsed = parse(given)
        scene = resolve(parsed, self._dataset, self._pixel_size, self._place)
        lookup = Lookup(with_annots, annot_ids, visible_thresh, clip)
        if parsed.native is not None:
            from ndzarr.sampler.native import load_native

            return load_native(self, given, parsed, scene, lookup)  # type: ignore[return-value]
        composition = self.compose(scene)
        if parsed.lazy:
            from ndzarr.sampler.lazy import read_lazily

            image, valid = read_lazily(composition)
        else:
            [(image, valid)] = read([composition])
        context = self.context(given, parsed, composition.scene, lookup)
        return label(context, composition.channels, image, valid, located(composition))

    def plan(self, targets: ManyTargets) -> ReadPlan:
        """What loading targets would read: `plan(targets).explain()`."""
        return plan_crops([crop for target in Rows(targets) for crop in self._crops(parse(target))])

    def _crops(self, target: Target) -> list[Crop]:
        """All that loading a target reads."""
        if target.native is None:
            return self.composition_of(target).crops
        from ndzarr.sampler.native import parts

        scene = resolve(target, self._dataset, self._pixel_size, self._place)
        return [crop for part in parts(self, target, scene) for crop in part.composition.crops]

    def composition(self, target: Mapping[str, Any]) -> Composition:
        """Everything that is read for a target."""
        return self.composition_of(parse(target))

    def composition_of(self, target: Target) -> Composition:
        """Everything that is read for a target that was parsed."""
        return self.compose(resolve(target, self._dataset, self._pixel_size, self._place))

    def compose(self, scene: Scene) -> Composition:
        """Everything that is read for a scene."""
        return compose(scene, self.pyramid, lambda: self._dataset.known()[0])

    def context(self, given: Mapping[str, Any], parsed: Target, scene: Scene, lookup: Lookup) -> Context:
        """What the accessor of a sample knows: where it came from, and its annotations."""
        found = None
        if lookup.wanted:
            if len(self.annotations) != len(self.dset.index.anns):
                raise TargetError("the dataset was changed after annotations were looked up; make another CocoSampler")
            found = find(self.annotations, self.dset.index.anns, scene, lookup)
        target = resolved(given, parsed, scene, self._dataset)
        content = self.dset.dataset
        classes, points = content.get("categories", []), content.get("keypoint_categories", [])
        return Context(target, scene, found, classes, points, lookup.geometry)

    def transcode_video(
        self,
        vidid: Any,
        dest: str | os.PathLike[str],
        *,
        preset: str = "fast",
        access: str = "frames",
        chunks: Mapping[str, int] | None = None,
        overwrite: bool = False,
        progress: bool = False,
        **keys: Any,
    ) -> Pyramid:
        """
        Write a video as one pyramid: its frames and assets aligned on the grid of the video, axes t c y x.

        Parameters
        ----------
        vidid
            The video.
        dest, preset, access, chunks, overwrite, progress
            As for `ndzarr.transcode`.
        **keys
            Keys of a target that say what is read, such as channels, nodata or interpolation.

        Raises
        ------
        TargetError
            There is no such video.
        ExistsError
            `dest` exists.
        """
        from ndzarr.pyramid.layout import chunks_option
        from ndzarr.pyramid.open import open_pyramid
        from ndzarr.pyramid.publish import local, refuse_existing
        from ndzarr.sampler.stack import SampledVideo
        from ndzarr.transcoding import write_pyramid

        target = local(dest)
        refuse_existing(target, overwrite)
        encoding = Encoding(preset, chunks=chunks_option(chunks), access=access)
        with SampledVideo(self, vidid, keys) as source:
            write_pyramid(source, target, encoding, overwrite=overwrite, progress=progress)
        return open_pyramid(target)

    def pyramid(self, asset: Asset) -> Pyramid:
        """The pyramid of an asset, transcoded now if need be."""
        pyramid = self.library.find(_request(asset))
        clock = asset.clock
        if clock is not None and clock.seconds is None:
            clock.seconds = pyramid.times or ()
        return pyramid

    def frame(self, gid: Any) -> Frame:
        """An image with its assets."""
        return self._dataset.frame(gid)

    def _pixel_size(self, frame: Frame) -> tuple[int, int]:
        pyramid = self.pyramid(frame.assets[0])
        return pyramid.shape[-2], pyramid.shape[-1]

    def _place(self, frame: Frame, video: bool) -> Georeference | None:
        return place_of(frame, video, self.pyramid)

    @property
    def hashid(self) -> str:
        """Changes whenever the dataset or an option of this sampler does."""
        content = json.dumps(self.dset.dataset, sort_keys=True, default=str) + json.dumps(
            [self.library.encoding.as_json(), self.library.transcode]
        )
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=1 << 16)
def _request(asset: Asset) -> Request:
    """What the library is asked for: the orientation that fits the stated size, and the stated nodata; of a video
    also its gray, if that is what the dataset has of it.
    """
    gray = asset.position is not None and asset.channels == ("gray",) and file_kind(asset.path) == "video"
    channels = asset.channels if gray else None
    return as_request(asset.path, True if asset.size is None else asset.size, channels=channels, nodata=asset.nodata)
