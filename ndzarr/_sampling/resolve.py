"""What does a target mean for a given dataset?

`resolve` fills in what only the dataset knows: which frames there are, how large the sampled space is, where an
annotation lies, how many metres a pixel covers.  The result is a `Scene`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ndzarr._geo.bounds import covering_pixels, metres_per_pixel
from ndzarr._geo.georeference import Georeference
from ndzarr._indexing.affine import IDENTITY, warp_boxes
from ndzarr._indexing.windows import output_length
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.annotations import box_of
from ndzarr._sampling.coco_dataset import Dataset, some
from ndzarr._sampling.compose import Composition
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.sample import Located
from ndzarr._sampling.scene import Asset, Frame, Scene
from ndzarr._sampling.target import Target, parse_resolution, window_interval, window_size
from ndzarr.errors import TargetError

# --- Where on earth does a sample lie, and which window is meant by a box in coordinates?


Places: TypeAlias = "Callable[[Frame, bool], Georeference | None]"
"""The georeference of the space of a frame: of its video where True."""


def locate(composition: Composition) -> Located | None:
    """Where a sample lies by the first of its pieces that knows; None where none does."""
    for piece in composition.pieces:
        place = piece.crop.pyramid.georeference
        if place is None or place.transform is None:
            continue
        if piece.warp is not None:
            a, b, c, d, e, f = (place.matrix @ piece.warp.to_native)[:2].ravel().tolist()
            return Located(place, (a, b, c, d, e, f))
        y, x = piece.crop.region.y, piece.crop.region.x
        return Located(place, place.window_transform(y.origin, x.origin, y.step, x.step))
    return None


def place_of(frame: Frame, video: bool, open_asset: Callable[[Asset], Pyramid]) -> Georeference | None:
    """The georeference of image space, or of video space, by the first asset that has one."""
    for asset in frame.assets:
        place = open_asset(asset).georeference
        if place is not None and place.transform is not None:
            return place.transformed(frame.to_video @ asset.to_image if video else asset.to_image)
    return None


def window_from_bounds(target: Target, frames: Sequence[Frame], places: Places | None) -> Target:
    """
    A target whose box in coordinates has become a window of the space that is sampled.

    Raises
    ------
    TargetError
        No frame is georeferenced.
    """
    if target.bounds is None:
        return target
    place = _first(target, frames, places)
    if place is None:
        raise TargetError(f"bounds={target.bounds[0]!r}: none of the images is georeferenced; give a window in pixels")
    y, x = covering_pixels(place, *target.bounds)
    return replace(target, y=y, x=x, centre=(None, None), size=(None, None), window_dims=None)


def metres_per_pixel_of(
    target: Target, frames: Sequence[Frame], places: Places | None, y: tuple[int, int], x: tuple[int, int]
) -> tuple[float, float] | None:
    """Metres per pixel of the sampled space along (x, y) in the middle of a window; None where it has no place."""
    place = _first(target, frames, places)
    return None if place is None else metres_per_pixel(place, (y[0] + y[1]) / 2, (x[0] + x[1]) / 2)


def _first(target: Target, frames: Sequence[Frame], places: Places | None) -> Georeference | None:
    if places is None:
        return None
    found = (places(frame, target.video) for frame in frames if frame.gid is not None)
    return next((place for place in found if place is not None), None)


def resolve(target: Target, source: SampleSource) -> Scene:
    """
    The scene of a target.

    Raises
    ------
    TargetError
        The target names something that the dataset does not have, or leaves open what it must say.
    """
    dataset, lead = source.dataset, dict(target.lead)
    if target.key is not None or "t" in lead:
        raise TargetError(
            "key and t name pyramids and their frames; a CocoSampler takes gid, gids, vidid or aid, and time_slice"
        )
    target = _with_annotation(target, dataset)
    if target.gids is None and target.vidid is None:
        raise TargetError("a target needs one of gid, gids, vidid and aid")
    frames = _frames(target, dataset)

    def places(frame: Frame, video: bool) -> Georeference | None:
        return place_of(frame, video, source.open_asset)

    target = window_from_bounds(target, frames, places)
    space = _space(frames, target, dataset, source.pixel_size)
    height, width = window_size(target.window_dims, target.size)
    y = _padded(window_interval(target.y, target.centre[0], height, space[0]), target.pad[1])
    x = _padded(window_interval(target.x, target.centre[1], width, space[1]), target.pad[2])
    sx, sy = _scale(target, dataset, frames, lambda: metres_per_pixel_of(target, frames, places, y, x))
    n = target.output_dims or (output_length("y", y, sy), output_length("x", x, sx))
    return Scene(
        frames=frames,
        video=target.video,
        space=space,
        y=y,
        x=x,
        n=n,
        channels=dataset.channels(target.channels),
        sampling=target.sampling,
        padding=target.padding,
        nodata=target.nodata,
        dtype=target.dtype,
        z=lead.get("z"),
    )


def resolved(given: Mapping[str, Any], target: Target, scene: Scene, dataset: Dataset) -> dict[str, Any]:
    """
    What a target came to mean, under the keys of targets: what `sample.ndzarr.target` says.

    It is a target itself, of the same window.
    """
    out: dict[str, Any] = {key: value for key, value in given.items() if key not in ("bounds", "crs")}
    if target.aid is None and target.centre == (None, None):  # the size was that around the centre of the image
        out = {key: value for key, value in out.items() if key not in ("window_dims", "width", "height")}
    (y0, y1), (x0, x1) = (
        (start + before, stop - after)
        for (start, stop), (before, after) in zip((scene.y, scene.x), target.pad[1:], strict=True)
    )
    if not {"y", "x"} & out.keys():
        out["space_slice"] = slice(y0, y1), slice(x0, x1)
    out["space_dims"] = scene.space
    return out | _around(target, scene, dataset, out) | _images(target, scene, dataset)


def _around(target: Target, scene: Scene, dataset: Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
    """What `aid` says."""
    out: dict[str, Any] = {}
    if target.aid is not None:
        annotation = dataset.annotation(target.aid)
        out["category_id"] = annotation.get("category_id")
        box = box_of(annotation)
        if box is not None:
            frame = dataset.frame(annotation["image_id"])
            box = warp_boxes(frame.to_video if scene.video else IDENTITY, box)[0]
            x, y, width, height = box.tolist()
            around = {"cx": x + width / 2, "cy": y + height / 2, "width": width, "height": height}
            out |= {key: value for key, value in around.items() if given.get(key) is None}
    return out


def _images(target: Target, scene: Scene, dataset: Dataset) -> dict[str, Any]:
    """The image, or the frames and their video; without those that `pad` added."""
    if not scene.video:
        return {"gid": scene.frames[0].gid, "data_dims": scene.space}
    before, after = target.pad[0]
    gids = [f.gid for f in scene.frames[before : len(scene.frames) - after] if f.gid is not None]
    vidid = target.vidid if target.vidid is not None else dataset.video_of(gids[0]) if gids else None
    length = len(gids) if vidid is None else len(dataset.video_frames(vidid))
    return {"gids": gids, "vidid": vidid, "data_dims": (length, *scene.space)}


def _with_annotation(target: Target, dataset: Dataset) -> Target:
    """Fill in what `aid` says: the image, the centre and the size of the window."""
    if target.aid is None:
        return target
    annotation = dataset.annotation(target.aid)
    gid = annotation["image_id"]
    gids = target.gids or (dataset.video_frames(target.vidid) if target.vidid is not None else (gid,))
    if gid not in gids:
        raise TargetError(f"aid={target.aid!r} is an annotation of image {gid!r}, not of {list(gids)!r}")
    target = target if target.vidid is not None else replace(target, gids=gids)
    if target.y is not None or target.x is not None:
        return target
    sized = isinstance(target.window_dims, tuple) or None not in target.size
    if sized and None not in target.centre:
        return target
    box = box_of(annotation)
    if box is None:
        raise TargetError(f"aid={target.aid!r} has no bbox; give the window with cx, cy, width and height")
    if target.video:
        box = warp_boxes(dataset.frame(gid).to_video, box)[0]
    x, y, width, height = box.tolist()
    return replace(
        target,
        centre=(y + height / 2, x + width / 2) if target.centre == (None, None) else target.centre,
        size=(height, width) if target.size == (None, None) else target.size,
    )


def _padded(window: tuple[int, int], pad: tuple[int, int]) -> tuple[int, int]:
    return window[0] - pad[0], window[1] + pad[1]


def _frames(target: Target, dataset: Dataset) -> tuple[Frame, ...]:
    wanted, gids = _positions(target, dataset)
    before, after = target.pad[0]
    step = wanted.step
    head = [wanted[0] - step * k for k in range(before, 0, -1)]
    tail = [wanted[-1] + step * k for k in range(1, after + 1)]
    return tuple(_frame_at(i, gids, dataset) for i in (*head, *wanted, *tail))


def _positions(target: Target, dataset: Dataset) -> tuple[range, tuple[Any, ...]]:
    """Which frames, by their position among images; positions outside are padding."""
    whole = dataset.video_frames(target.vidid) if target.vidid is not None else ()
    if target.vidid is not None and target.gids is not None and (strangers := set(target.gids) - set(whole)):
        raise TargetError(f"gids={list(target.gids)!r}: {strangers!r} are no frames of vidid={target.vidid!r}")
    if target.time is None:
        gids = target.gids if target.gids is not None else whole
        return range(len(gids)), gids
    if target.vidid is None:
        raise TargetError(f"time_slice={target.time!r} needs a video; give vidid, and not gid or gids")
    wanted = _time_range(target.time, len(whole))
    inside = tuple(whole[i] for i in wanted if 0 <= i < len(whole))
    if target.gids is not None and target.gids != inside:  # a target that was resolved holds both
        raise TargetError(
            f"a target has both gids={list(target.gids)!r} and time_slice={target.time!r}, which is {list(inside)!r}; "
            "give only one of them"
        )
    return wanted, whole


def _time_range(time: slice | int, length: int) -> range:
    """Positions of frames; those outside [0, length) are padding."""
    if isinstance(time, int):
        time = slice(time, time + 1)
    start, step = 0 if time.start is None else time.start, 1 if time.step is None else time.step
    stop = length if time.stop is None else time.stop
    if step < 1 or start >= stop:
        raise TargetError(f"time_slice={time!r}: expected start < stop and a step of at least 1")
    return range(start, stop, step)


def _frame_at(position: int, gids: Sequence[Any], dataset: Dataset) -> Frame:
    if 0 <= position < len(gids):
        return dataset.frame(gids[position])
    edge = dataset.frame(gids[0 if position < 0 else -1])
    beyond = position if position < 0 else position - len(gids) + 1
    return Frame(None, (), edge.size, IDENTITY, edge.index + beyond, None, "padding")


def _space(
    frames: Sequence[Frame], target: Target, dataset: Dataset, pixel_size: Callable[[Frame], tuple[int, int]]
) -> tuple[int, int]:
    """(height, width) of the sampled space: the video's, or the image's."""
    real = [f for f in frames if f.gid is not None]
    if not real:
        raise TargetError(f"time_slice={target.time!r} lies wholly outside the video")
    videos = {dataset.video_of(f.gid) for f in real}
    if len(videos) > 1:
        raise TargetError(f"gids={[f.gid for f in real]!r} are frames of different videos, {some(videos)}")
    if target.video and (size := dataset.video_size(real[0].gid)) is not None:
        return size
    if target.video and len({f.size for f in real}) > 1:
        sizes = sorted({str(f.size) for f in real})
        raise TargetError(
            f"frames have different sizes, {', '.join(sizes)}, and their video states none; give it width and height"
        )
    if real[0].size is not None:
        return real[0].size[1], real[0].size[0]
    if not real[0].assets:
        raise TargetError(f"{real[0].name} has neither a file nor width and height")
    if not np.array_equal(real[0].assets[0].to_image, IDENTITY):
        raise TargetError(f"{real[0].name} is made of warped assets; give it width and height")
    return pixel_size(real[0])


def _scale(
    target: Target,
    dataset: Dataset,
    frames: Sequence[Frame],
    on_earth: Callable[[], tuple[float, float] | None],
) -> tuple[float, float]:
    """(along x, along y), from `scale` and `resolution`; the dataset's own statement counts before the files'."""
    if target.resolution is None:
        return target.scale
    wanted = parse_resolution(target.resolution)
    gid = next(f.gid for f in frames if f.gid is not None)
    try:
        have = dataset.resolution(gid, target.video)
    except TargetError:
        found = on_earth()
        if found is None:
            raise
        have = found
    return have[0] / wanted * target.scale[0], have[1] / wanted * target.scale[1]
