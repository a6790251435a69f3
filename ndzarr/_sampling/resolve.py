"""From a target to a scene: everything that the target leaves to the dataset, filled in.

`resolve` finds the frames, the size of the sampled space, the place of an annotation and the size of a pixel on earth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import index
from typing import Any

import numpy as np

from ndzarr._geo.bounds import covering_pixels, pixel_size_at
from ndzarr._geo.georeference import Georeference
from ndzarr._geo.pixel_size import MAGNIFICATION, NOT_KNOWN, PixelSize, Quantity
from ndzarr._indexing.affine import IDENTITY, scale_offset, warp_boxes
from ndzarr._indexing.selection import check_padding
from ndzarr._indexing.windows import output_length
from ndzarr._sampling.annotations import box_of
from ndzarr._sampling.coco_dataset import some
from ndzarr._sampling.protocols import Lookups, SampleSource
from ndzarr._sampling.scene import Frame, Scene
from ndzarr._sampling.target import Target, both, centred_interval, window_interval, window_size
from ndzarr.errors import TargetError


def resolve(target: Target, source: SampleSource) -> Scene:
    """Return the scene of a target."""
    dataset = source.dataset
    if target.plain and source.dset is not None:
        # An image and a window of it: nearly all targets, and the rest of this function finds the same.
        frame = dataset.frame(target.gids[0])  # type: ignore[index]
        frames: tuple[Frame, ...] = (frame,)
        lead: tuple[tuple[str, Any], ...] = ()
        y: Any = target.y or centred_interval(target.centre[0], target.size[0])  # type: ignore[arg-type]
        x: Any = target.x or centred_interval(target.centre[1], target.size[1])  # type: ignore[arg-type]
        size = frame.size
        space = _space(frames, target, source) if size is None else (size[1], size[0])
        n = y[1] - y[0], x[1] - x[0]
    else:
        if source.dset is None:
            frames, lead = _named_frame(target, source)
        else:
            target = _with_annotation(target, dataset)
            frames, lead = _frames(target, dataset), target.lead
            if target.follow is not None:
                target, frames = _following(target, frames, source)
        target = _window_from_bounds(target, frames, source)
        space = _space(frames, target, source)
        height, width = window_size(_window_dims(target, source, frames, space), target.size)
        y = _padded(window_interval(target.y, target.centre[0], height, space[0]), target.pad[1])
        x = _padded(window_interval(target.x, target.centre[1], width, space[1]), target.pad[2])
        sx, sy = _scale(target, source, frames, y, x)
        n = target.output_dims or (output_length("y", y, sy), output_length("x", x, sx))
    return Scene(
        frames,
        target.video,
        space,
        y,
        x,
        n,
        None if target.channels is None else dataset.channels(target.channels),
        target.sampling,
        target.padding,
        target.nodata,
        target.dtype,
        lead,
        source.dset is None,
    )


def _padded(window: tuple[int, int], pad: tuple[int, int]) -> tuple[int, int]:
    return window[0] - pad[0], window[1] + pad[1]


# Frames.


def _named_frame(target: Target, source: SampleSource) -> tuple[tuple[Frame, ...], tuple[tuple[str, Any], ...]]:
    """The frame of a named source, and what is asked for along t and z of its file."""
    if target.gids or target.vidid is not None or target.aid is not None:
        source.dataset.video_frames(None)  # says that these need a kwcoco dataset
    frame = source.frame(target.key)
    lead = dict(target.lead)
    if target.time is not None:
        if "t" in lead:
            raise both("t", lead["t"], "time_slice", target.time)
        lead["t"] = target.time
    if any(target.pad[0]):
        lead["t"] = _padded_in_time(lead.get("t"), target.pad[0], frame, source)
    return (frame,), tuple(lead.items())


def _padded_in_time(want: Any, pad: tuple[int, int], frame: Frame, source: SampleSource) -> slice:
    """The frames wanted, with more of the same step around them."""
    pyramid = source.open_asset(frame.assets[0])
    if "t" not in pyramid.dims:
        what = f"pad={pad} along t: {pyramid.path} has axes {' '.join(pyramid.dims)}"
        raise TargetError(what, path=pyramid.path, key="pad", hint="Give pad=(y, x)")
    want = slice(None) if want is None else want
    if not isinstance(want, slice):
        what = f"pad={pad} along t: frames that are listed, t={want!r}, have no neighbours"
        raise TargetError(what, key="pad", hint="Give a slice")
    try:
        frames = range(index(want.start or 0), index(pyramid.sizes["t"] if want.stop is None else want.stop))
        frames = frames[:: 1 if want.step is None else index(want.step)]
    except (TypeError, ValueError) as error:
        raise TargetError(f"t={want!r}: expected integers, and a step of at least 1", key="t") from error
    if frames.step < 1 or not frames:
        raise TargetError(f"t={want!r}: expected start < stop, and a step of at least 1", key="t")
    return slice(frames[0] - frames.step * pad[0], frames[-1] + frames.step * pad[1] + 1, frames.step)


def _with_annotation(target: Target, dataset: Lookups) -> Target:
    """Fill in what `aid` says: the image, the centre and the size of the window."""
    if target.key is not None or dict(target.lead).get("t") is not None:
        raise TargetError(
            "key and t name pyramids and their frames",
            key="key" if target.key is not None else "t",
            hint="Give gid, gids, vidid or aid, and time_slice, which a CocoSampler takes",
        )
    if target.aid is None:
        return target
    annotation = dataset.annotation(target.aid)
    gid = annotation["image_id"]
    gids = target.gids or (dataset.video_frames(target.vidid) if target.vidid is not None else (gid,))
    if gid not in gids:
        raise TargetError(f"aid={target.aid!r} is an annotation of image {gid!r}, not of {list(gids)!r}", key="aid")
    target = target if target.vidid is not None else target._replace(gids=gids)
    if target.y is not None or target.x is not None:
        return target
    sized = isinstance(target.window_dims, tuple) or None not in target.size
    if sized and None not in target.centre:
        return target
    box = box_of(annotation, dataset.frame(gid).size)
    if box is None:
        hint = "Give the window with cx, cy, width and height"
        raise TargetError(f"aid={target.aid!r} has neither a box nor a shape", key="aid", hint=hint)
    if target.video:
        box = warp_boxes(dataset.frame(gid).to_video, box)[0]
    x, y, width, height = box.tolist()
    return target._replace(
        centre=(y + height / 2, x + width / 2) if target.centre == (None, None) else target.centre,
        size=(height, width) if target.size == (None, None) else target.size,
    )


def _frames(target: Target, dataset: Lookups) -> tuple[Frame, ...]:
    if target.gids is None and target.vidid is None:
        raise TargetError("a target needs one of gid, gids, vidid and aid", key="gid")
    wanted, gids = _positions(target, dataset)
    before, after = target.pad[0]
    step = wanted.step
    head = [wanted[0] - step * k for k in range(before, 0, -1)]
    tail = [wanted[-1] + step * k for k in range(1, after + 1)]
    return tuple([_frame_at(i, gids, dataset) for i in (*head, *wanted, *tail)])


def _positions(target: Target, dataset: Lookups) -> tuple[range, tuple[Any, ...]]:
    """The frames wanted, by their position among images; positions outside are padding."""
    whole = dataset.video_frames(target.vidid) if target.vidid is not None else ()
    if target.vidid is not None and target.gids is not None and (strangers := set(target.gids) - set(whole)):
        raise TargetError(
            f"gids={list(target.gids)!r}: {strangers!r} are not frames of vidid={target.vidid!r}", key="gids"
        )
    if target.time is None:
        gids = target.gids if target.gids is not None else whole
        return range(len(gids)), gids
    if target.vidid is None:
        hint = "Give vidid, and not gid or gids"
        raise TargetError(f"time_slice={target.time!r} needs a video", key="time_slice", hint=hint)
    wanted = _time_range(target.time, len(whole))
    inside = tuple(whole[i] for i in wanted if 0 <= i < len(whole))
    if target.gids is not None and target.gids != inside:  # a target that was resolved holds both
        raise both("gids", list(target.gids), "time_slice", target.time, f", which is {list(inside)!r}")
    return wanted, whole


def _time_range(time: slice | int, length: int) -> range:
    """Positions of frames; those outside [0, length) are padding."""
    if isinstance(time, int):
        time = slice(time, time + 1)
    start, step = 0 if time.start is None else time.start, 1 if time.step is None else time.step
    stop = length if time.stop is None else time.stop
    if step < 1 or start >= stop:
        raise TargetError(f"time_slice={time!r}: expected start < stop and a step of at least 1", key="time_slice")
    wanted = range(start, stop, step)
    check_padding("time_slice", wanted, length, time, TargetError)
    return wanted


def _frame_at(position: int, gids: Sequence[Any], dataset: Lookups) -> Frame:
    if 0 <= position < len(gids):
        return dataset.frame(gids[position])
    edge = dataset.frame(gids[0 if position < 0 else -1])
    beyond = position if position < 0 else position - len(gids) + 1
    return Frame(None, (), edge.size, IDENTITY, edge.index + beyond, None, "padding")


def _following(target: Target, frames: Sequence[Frame], source: SampleSource) -> tuple[Target, tuple[Frame, ...]]:
    """
    Return frames that are moved, by whole pixels, so that a track stays where it is in the first one.

    Where it has no box, its centre is interpolated between those before and after.  A window that is not given lies
    around it, as large as its largest box in these frames.
    """
    dataset, table = source.dataset, source.annotations
    gids = target.gids if target.vidid is None else dataset.video_frames(target.vidid)
    order = {gid: t for t, gid in enumerate(gids or ())}
    boxes = {}
    for row in np.flatnonzero(table.track_id == target.follow).tolist():
        gid, box = table.gids[row].item(), table.bbox[row]
        if gid in order and not np.isnan(box).any():
            boxes[order[gid]] = warp_boxes(dataset.frame(gid).to_video, box)[0]
    at = [order.get(frame.gid, 0) for frame in frames]  # padding has no pixels that would move
    shown = [boxes[t] for t in at if t in boxes]
    if not shown:
        what = f"follow={target.follow!r}: this track has no box in these frames"
        raise TargetError(what, key="follow", hint="Give other frames with time_slice")
    known = sorted(boxes)
    centres = np.array([boxes[t][:2] + boxes[t][2:] / 2 for t in known])
    path = np.stack([np.interp(at, known, along) for along in centres.T], axis=1)
    moved = []
    for frame, shift in zip(frames, np.round(path[0] - path).tolist(), strict=True):
        moved.append(replace(frame, to_video=scale_offset((1, 1), shift) @ frame.to_video))
    if target.y is None and target.x is None:
        (x, y), (width, height) = path[0].tolist(), np.max(shown, axis=0)[2:].tolist()
        target = target._replace(
            centre=(y, x) if target.centre == (None, None) else target.centre,
            size=(height, width) if target.size == (None, None) else target.size,
        )
    return target, tuple(moved)


# The sampled space, and the earth.


def _space(frames: Sequence[Frame], target: Target, source: SampleSource) -> tuple[int, int]:
    """(height, width) of the sampled space: the video's, or the image's."""
    real = [f for f in frames if f.gid is not None]
    if not real:
        raise TargetError(f"time_slice={target.time!r} lies wholly outside the video", key="time_slice")
    videos = {source.dataset.video_of(f.gid) for f in real}
    if len(videos) > 1:
        raise TargetError(f"gids={[f.gid for f in real]!r} are frames of different videos, {some(videos)}", key="gids")
    if target.video and (size := source.dataset.video_size(real[0].gid)) is not None:
        return size
    if target.video and len({f.size for f in real}) > 1:
        sizes = sorted({str(f.size) for f in real})
        raise TargetError(
            f"frames have different sizes, {', '.join(sizes)}, and their video states none",
            key="width",
            hint="Give it width and height",
        )
    if real[0].size is not None:
        return real[0].size[1], real[0].size[0]
    if not real[0].assets:
        raise TargetError(f"{real[0].name} has neither a file nor width and height", key="width")
    if not np.array_equal(real[0].assets[0].to_image, IDENTITY):
        what = f"{real[0].name} is made of warped assets"
        raise TargetError(what, key="width", hint="Give it width and height")
    return source.size_in_file(real[0])


def _window_from_bounds(target: Target, frames: Sequence[Frame], source: SampleSource) -> Target:
    """A target whose box in coordinates has become a window of the space that is sampled."""
    if target.bounds is None:
        return target
    place = _georeference(target, frames, source)
    if place is None:
        raise TargetError(
            f"bounds={target.bounds[0]!r}: none of the images is georeferenced",
            key="bounds",
            hint="Give a window in pixels",
        )
    y, x = covering_pixels(place, *target.bounds)
    return target._replace(y=y, x=x, centre=(None, None), size=(None, None), window_dims=None)


def _georeference(target: Target, frames: Sequence[Frame], source: SampleSource) -> Georeference | None:
    """That of the sampled space, by the first asset of the first frame that has one."""
    for frame in frames:
        for asset in frame.assets:
            place = source.open_asset(asset).georeference
            if place is not None and place.transform is not None:
                return place.transformed(frame.to_video @ asset.to_image if target.video else asset.to_image)
    return None


def _scale(
    target: Target, source: SampleSource, frames: Sequence[Frame], y: tuple[int, int], x: tuple[int, int]
) -> tuple[float, float]:
    """(along x, along y), from `scale` and `resolution`."""
    if target.resolution is None:
        return target.scale
    middle = (y[0] + y[1]) / 2, (x[0] + x[1]) / 2
    have = sampled_pixel_size(source, frames, target.video, target.resolution, *middle)
    sx, sy = have.scale_to(target.resolution, path_of(frames), TargetError)
    return sx * target.scale[0], sy * target.scale[1]


def sampled_pixel_size(
    source: SampleSource, frames: Sequence[Frame], video: bool, wanted: Quantity, y: float, x: float
) -> PixelSize:
    """
    Return the size of a pixel of the sampled space at (y, x), in pixels of it.

    The dataset's own statement counts before those of files.  It has no magnification, which only files state.
    """
    real = next(f for f in frames if f.gid is not None)
    try:
        stated = source.dataset.resolution(real.gid, video)
    except TargetError:
        found = _size_in_files(source, frames, video, wanted, y, x)
        if found is None:
            raise
        return found
    if wanted.kind != MAGNIFICATION:
        return stated
    return stated.filled(_size_in_files(source, frames, video, wanted, y, x) or NOT_KNOWN)


def path_of(frames: Sequence[Frame]) -> str:
    """Return the path of the first file of frames; the name of the first frame if there is none."""
    return next((asset.path for frame in frames for asset in frame.assets), frames[0].name)


def _size_in_files(
    source: SampleSource, frames: Sequence[Frame], video: bool, wanted: Quantity, y: float, x: float
) -> PixelSize | None:
    """That of the first asset that states its size, or its place on earth, moved to the sampled space."""
    for frame in frames:
        for asset in frame.assets:
            pyramid = source.open_asset(asset)
            to_space = frame.to_video @ asset.to_image if video else asset.to_image
            place, size = pyramid.georeference, pyramid.pixel_size
            if size is None and (place is None or place.transform is None):
                continue
            place = None if place is None else place.transformed(to_space)
            size = None if size is None else size.transformed(to_space)
            return pixel_size_at(place, size, pyramid.path, y, x, wanted)
    return None


def _window_dims(target: Target, source: SampleSource, frames: Sequence[Frame], space: tuple[int, int]) -> Any:
    """`window_dims`, with lengths turned into whole pixels of the sampled space."""
    dims = target.window_dims
    if not isinstance(dims, tuple) or not any(isinstance(n, Quantity) for n in dims):
        return dims
    wanted = next(n for n in dims if isinstance(n, Quantity))
    middle = (n / 2 if c is None else c for n, c in zip(space, target.centre, strict=True))
    size = sampled_pixel_size(source, frames, target.video, wanted, *middle)
    return tuple(size.whole_pixels(a, n, path_of(frames), TargetError) for a, n in zip("yx", dims, strict=True))


# What a target came to mean.


def resolved_target(given: Mapping[str, Any], target: Target, scene: Scene, dataset: Lookups) -> dict[str, Any]:
    """Return what a target came to mean, under the keys of targets: itself a target, of the same window."""
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


def _around(target: Target, scene: Scene, dataset: Lookups, given: Mapping[str, Any]) -> dict[str, Any]:
    """What `aid` says."""
    if target.aid is None:
        return {}
    annotation = dataset.annotation(target.aid)
    out: dict[str, Any] = {"category_id": annotation.get("category_id")}
    frame = dataset.frame(annotation["image_id"])
    box = box_of(annotation, frame.size)
    if box is None:
        return out
    box = warp_boxes(frame.to_video if scene.video else IDENTITY, box)[0]
    x, y, width, height = box.tolist()
    around = {"cx": x + width / 2, "cy": y + height / 2, "width": width, "height": height}
    return out | {key: value for key, value in around.items() if given.get(key) is None}


def _images(target: Target, scene: Scene, dataset: Lookups) -> dict[str, Any]:
    """The image or the named source, or the frames and their video; without those that `pad` added."""
    if scene.named:
        return {"key": scene.frames[0].gid}
    if not scene.video:
        return {"gid": scene.frames[0].gid, "data_dims": scene.space}
    before, after = target.pad[0]
    gids = [f.gid for f in scene.frames[before : len(scene.frames) - after] if f.gid is not None]
    vidid = target.vidid if target.vidid is not None else dataset.video_of(gids[0]) if gids else None
    length = len(gids) if vidid is None else len(dataset.video_frames(vidid))
    return {"gids": gids, "vidid": vidid, "data_dims": (length, *scene.space)}
