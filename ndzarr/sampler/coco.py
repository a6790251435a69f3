"""How does a kwcoco dataset answer targets?

1. `target.parse` says what is asked; `_scene` fills in what only the dataset knows: frames, sizes, an annotation's
   window.
2. `assembly.compose` finds the assets' pyramids (transcoded on first touch) and the crops; `assembly.read` reads them.
3. The table of annotations gives those that touch the window, moved to sample pixels; `sample` puts names on
   everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.geometry.affine import scale_offset, warp_boxes
from ndzarr.geometry.region import output_length
from ndzarr.plan.plan import ReadPlan
from ndzarr.pyramid.layout import Encoding
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.pyramid.region import plan_crops
from ndzarr.sampler import dataset as coco
from ndzarr.sampler.annotations import AnnotationTable, tabulate
from ndzarr.sampler.assembly import Composition, compose, read
from ndzarr.sampler.sample import Context, Found, label
from ndzarr.sampler.scene import Asset, Frame, Scene
from ndzarr.sampler.target import Target, interval, parse

if TYPE_CHECKING:
    import xarray


class CocoSampler:
    """
    Windows of the images and videos of a kwcoco dataset, with their annotations.

    Parameters
    ----------
    dset
        A `kwcoco.CocoDataset`, the path of one, or its dictionary.
    workdir
        Where pyramids are kept; by default the user's cache directory.  Pyramids are keyed by the source's path,
        size and time of modification, so datasets may share a directory.
    preset
        How sources are encoded; see `ndzarr.transcode`.

    Examples
    --------
    >>> import ndzarr, kwcoco, tempfile
    >>> sampler = ndzarr.CocoSampler(kwcoco.CocoDataset.demo("shapes2"), workdir=tempfile.mkdtemp())
    >>> sample = sampler.load_sample({"gid": 1, "cx": 200, "cy": 200, "width": 100, "height": 100})
    >>> sample.image.sizes
    Frozen({'c': 3, 'y': 100, 'x': 100})
    """

    def __init__(self, dset: Any, workdir: str | os.PathLike[str] | None = None, *, preset: str = "fast") -> None:
        from ndzarr.library import Library, default_root

        self.dset = coco.coerce(dset)
        """The `kwcoco.CocoDataset`."""
        self.library = Library(Path(workdir) if workdir is not None else default_root(), Encoding(preset))
        """Where the pyramids are."""
        self._frames: dict[Any, Frame] = {}

    def __repr__(self) -> str:
        index = self.dset.index
        return (
            f"<ndzarr.CocoSampler {self.dset.tag!r}: {len(index.imgs)} images, {len(index.videos)} videos, "
            f"{len(index.anns)} annotations, {len(index.cats)} categories>\n  workdir  {self.library.root}"
        )

    @cached_property
    def annotations(self) -> AnnotationTable:
        """All annotations as columns, sorted by image."""
        return tabulate(self.dset.dataset.get("annotations", []))

    def prepare(self, progress: bool = False, workers: int | None = None) -> None:
        """
        Transcode every asset that is not transcoded yet.

        Raises
        ------
        SourceError
            Some files could not be used; the message names each.  All others are done.
        """
        wanted = [(a.path, _orientation(a)) for gid in self.dset.images() for a in self.frame(gid).assets]
        self.library.prepare(list(dict.fromkeys(wanted)), workers=workers, progress=progress)

    def load_sample(
        self, target: Mapping[str, Any] | None = None, *, with_annots: bool = True, **keys: Any
    ) -> xarray.Dataset:
        """
        Load one window.

        Parameters
        ----------
        target
            What to load; see the targets page of the documentation.  Image targets: `gid`, with `cx cy width
            height`, or `space_slice=(slice_y, slice_x)`, or `aid`.  Keys may also be given as keyword arguments.
        with_annots
            Look up the annotations that touch the window.

        Returns
        -------
        Dataset with `image` (c, y, x), for video targets (t, c, y, x); `valid` where something is padded or missing;
        and, along `annot`, annot_id, category_id, track_id, frame and bbox (x, y, width, height in sample pixels).
        More under the accessor `sample.ndzarr`.

        Raises
        ------
        TargetError
            The target is not understood, or names something that the dataset does not have.
        """
        given = {**(target or {}), **keys}
        parsed, scene, composition = self._composition(given)
        [(image, valid)] = read([composition])
        return self._label(given, parsed, scene, composition, image, valid, with_annots)

    def plan(self, targets: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> ReadPlan:
        """What loading targets would read: `plan(targets).explain()`."""
        many = [targets] if isinstance(targets, Mapping) else targets
        return plan_crops([crop for t in many for crop in self._composition(dict(t))[2].crops])

    def pyramid(self, asset: Asset) -> Pyramid:
        """The pyramid of an asset, transcoded now if need be."""
        return self.library.pyramid(asset.path, orient=_orientation(asset))

    def frame(self, gid: Any) -> Frame:
        """
        An image with its assets.

        Raises
        ------
        TargetError
            There is no such image.
        """
        found = self._frames.get(gid)
        if found is None:
            if gid not in self.dset.index.imgs:
                raise TargetError(f"gid={gid!r}: no such image; the dataset has {_some(self.dset.index.imgs)}")
            found = self._frames[gid] = coco.frame(self.dset, gid)
        return found

    def _composition(self, given: dict[str, Any]) -> tuple[Target, Scene, Composition]:
        target = self._with_annotation(parse(given))
        scene = self._scene(target)
        return target, scene, compose(scene, self.pyramid)

    def _with_annotation(self, target: Target) -> Target:
        """Fill in what `aid` says: the image, the centre and the size of the window."""
        if target.aid is None:
            return target
        annotation = self.dset.index.anns.get(target.aid)
        if annotation is None:
            raise TargetError(f"aid={target.aid!r}: no such annotation; the dataset has {_some(self.dset.index.anns)}")
        gid = annotation["image_id"]
        gids = target.gids or (coco.video_frames(self.dset, target.vidid) if target.vidid is not None else (gid,))
        if gid not in gids:
            raise TargetError(f"aid={target.aid!r} is an annotation of image {gid!r}, not of {list(gids)!r}")
        if annotation.get("bbox") is None:
            raise TargetError(f"aid={target.aid!r} has no bbox; give the window with cx, cy, width and height")
        frame = self.frame(gid)
        box = (
            warp_boxes(frame.to_video, annotation["bbox"])[0] if target.video else np.asarray(annotation["bbox"], float)
        )
        height, width = _annotation_window(target, box)
        if target.y is not None or target.x is not None or target.centre != (None, None):
            return replace(target, gids=gids, size=target.size if target.size != (None, None) else (height, width))
        return replace(target, gids=gids, centre=(box[1] + box[3] / 2, box[0] + box[2] / 2), size=(height, width))

    def _scene(self, target: Target) -> Scene:
        if target.key is not None or target.lead:
            raise TargetError("key, t and z name pyramids and their axes; a CocoSampler takes gid, gids, vidid or aid")
        if target.gids is None and target.vidid is None:
            raise TargetError("a target needs one of gid, gids, vidid and aid")
        frames = self._frames_of(target)
        height, width = self.space_size(frames, target.video)
        y = interval(target.y, target.centre[0], target.size[0], height)
        x = interval(target.x, target.centre[1], target.size[1], width)
        sx, sy = target.scale
        return Scene(
            frames=frames,
            video=target.video,
            y=y,
            x=x,
            n=(output_length("y", y, sy), output_length("x", x, sx)),
            channels=coco.channel_names(target.channels),
            sampling=target.sampling,
            fill=target.fill,
        )

    def _frames_of(self, target: Target) -> tuple[Frame, ...]:
        gids = target.gids if target.gids is not None else coco.video_frames(self.dset, target.vidid)
        if target.time is not None:
            if not target.video:
                raise TargetError("time_slice needs a video target: give vidid or gids")
            start, stop, step = target.time.start or 0, target.time.stop, target.time.step or 1
            stop = len(gids) if stop is None else stop
            if start < 0 or stop > len(gids) or step < 1 or start >= stop:
                raise TargetError(
                    f"time_slice={target.time!r}: expected frames between 0 and {len(gids)}, step at least 1"
                )
            gids = gids[start:stop:step]
        return tuple(self.frame(gid) for gid in gids)

    def space_size(self, frames: Sequence[Frame], video: bool) -> tuple[int, int]:
        """(height, width) of the space that is sampled: the first image's, or its video's."""
        if video and (size := coco.video_size(self.dset, frames[0].gid)) is not None:
            return size
        if frames[0].size is not None:
            width, height = frames[0].size
            return height, width
        if not frames[0].assets:
            raise TargetError(f"{frames[0].name} has neither assets nor width and height")
        pyramid = self.pyramid(frames[0].assets[0])
        return pyramid.shape[-2], pyramid.shape[-1]

    def _label(
        self, given: dict[str, Any], target: Target, scene: Scene, composition: Composition,
        image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, with_annots: bool,
    ) -> xarray.Dataset:  # fmt: skip
        found = self._found(scene) if with_annots else None
        resolved = {**given, "space_slice": (slice(*scene.y), slice(*scene.x))}
        classes = self.dset.dataset.get("categories", [])
        context = Context(resolved, scene, found, classes, self.dset.dataset.get("keypoint_categories", []))
        return label(context, composition.channels, image, valid)

    def _found(self, scene: Scene) -> Found:
        """The annotations that touch the window, in sample pixels."""
        table, anns = self.annotations, self.dset.index.anns
        window = (*scene.y, *scene.x)
        hits = [table.touching(f.gid, window, f.to_video if scene.video else None) for f in scene.frames]
        rows = hits[0][0] if len(hits) == 1 else np.concatenate([r for r, _ in hits])
        boxes = hits[0][1] if len(hits) == 1 else np.concatenate([b for _, b in hits])
        py, px = scene.pitch
        boxes = (boxes - (scene.x[0], scene.y[0], 0, 0)) / (px, py, px, py)
        ids = table.annot_id[rows]
        columns = {
            "annot_id": ids,
            "category_id": table.category_id[rows],
            "track_id": table.track_id[rows],
            "frame": np.repeat(np.arange(len(hits)), [len(r) for r, _ in hits]),
            "bbox": boxes,
        }
        inverse = scale_offset((1 / px, 1 / py), (-scene.x[0] / px, -scene.y[0] / py))
        to_sample = tuple(inverse @ f.to_video if scene.video else inverse for f in scene.frames)
        return Found(columns, tuple([anns[i] for i in ids.tolist()]), to_sample)


def _annotation_window(target: Target, box: np.ndarray[Any, Any]) -> tuple[float, float]:
    """(height, width) of the window around an annotation."""
    width, height = float(box[2]), float(box[3])
    if target.size[0] is not None and target.size[1] is not None:
        return target.size[0], target.size[1]
    if target.window_dims == "square":
        return max(width, height), max(width, height)
    if isinstance(target.window_dims, tuple):
        return target.window_dims
    return height, width


def _orientation(asset: Asset) -> bool | tuple[int, int]:
    return True if asset.size is None else asset.size


def _some(ids: Iterable[Any]) -> str:
    known = list(ids)
    if not known:
        return "none"
    return ", ".join(map(repr, known[:5])) + (f" ... {known[-1]!r} ({len(known)})" if len(known) > 5 else "")
