"""The accessor `sample.ndzarr`: annotations as kwimage objects, transforms, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from ndzarr._sampling.annotations import NO_ID
from ndzarr._sampling.detections import category_tree, detections, masks
from ndzarr._sampling.sample import Context, cut_of, origin_of
from ndzarr._sampling.target import EditableTarget
from ndzarr.errors import TargetError

if TYPE_CHECKING:
    from PIL.Image import Image


class SampleAccessor:
    """The origin of a sample: its target, its place, its annotations."""

    def __init__(self, sample: xarray.Dataset) -> None:
        self._sample = sample

    @property
    def _context(self) -> Context:
        return origin_of(self._sample)

    @property
    def target(self) -> dict[str, Any]:
        """The target, with the window that it was resolved to: of all that was loaded, also where it was cut since."""
        return self._context.target

    @property
    def transform(self) -> np.ndarray[Any, Any]:
        """3x3, maps continuous sample pixels (x, y, 1) to native pixels of the sampled space, also after slicing."""
        context = self._context
        cut = cut_of(self._sample, context)
        return context.scene.transform if cut.is_whole(context) else context.scene.transform @ cut.to_loaded

    @property
    def detections(self) -> list[Any]:
        """
        One `kwimage.Detections` per frame, in sample pixels: boxes, class indices, segmentations and keypoints.

        They are not clipped to the window.  `data['aids']` holds the annotation ids.  After slicing they are those of
        the frames that are left, in pixels of what is left; the column `bbox` stays in pixels of what was loaded.
        """
        context = self._context
        return detections(context, cut_of(self._sample, context))

    @property
    def masks(self) -> np.ndarray[Any, Any]:
        """
        The pixels of each annotation of the sample that was loaded, bool (annot, y, x), in the order of the columns.

        They are those inside its segmentation or oriented box, else inside its box, as pycocotools counts them.
        """
        context = self._context
        return masks(context, context.scene.n)

    def to_ndsampler(self) -> dict[str, Any]:
        """
        The dictionary that ndsampler's `load_sample` returned, for code that was written for it.

        Its `target` may be edited and loaded again: a key that is set later wins over those that say the same in
        another way.

        Raises
        ------
        TargetError
            The sample was cut since it was loaded.
        """
        return to_ndsampler(self._sample, self._context)

    def draw(
        self,
        scale: float | None = None,
        channels: Sequence[str | int] | None = None,
        stretch: tuple[float, float] | None = None,
    ) -> Image:
        """
        A picture of the sample and its annotations, frames side by side.

        It shows boxes, outlines, keypoints and names, and the ways of tracks.  Padding is hatched.

        Parameters
        ----------
        scale
            Enlargement; chosen so that small samples can be seen if left out.
        channels
            Names or numbers of one channel, or of three for red, green and blue; the first ones if left out.
        stretch
            Percentiles that become black and white, of each channel on its own, such as (2, 98).  By default uint8
            stays as it is, and other types are stretched from 1 to 99.

        Returns
        -------
        An RGB image of Pillow.

        Raises
        ------
        TargetError
            There are no such channels, or no pixels.
        """
        from ndzarr._sampling.draw import draw

        return draw(self._sample, self._context, scale, channels, stretch)

    def _repr_html_(self) -> str:
        """Show the picture in a notebook."""
        from ndzarr._pyramid.repr import html_image

        return html_image(self.draw())


@xarray.register_dataset_accessor("ndzarr")  # type: ignore[untyped-decorator]
def accessor(dataset: xarray.Dataset) -> Any:
    """Return the accessor of a Dataset: a `SampleAccessor`, or the `BatchAccessor` of a batch."""
    context = dataset.encoding.get("ndzarr")
    return SampleAccessor(dataset) if context is None or isinstance(context, Context) else context.accessor(dataset)


# The dictionary that ndsampler returned.


def to_ndsampler(sample: xarray.Dataset, context: Context) -> dict[str, Any]:
    """
    The dictionary that ndsampler's `load_sample` returned.

    `im` is (y, x, c), for videos (t, y, x, c); of volumes, which ndsampler did not know, (z, y, x, c) and
    (t, z, y, x, c).  `annots` is there if annotations were looked up.

    Raises
    ------
    TargetError
        The sample was cut, or its axes were exchanged, since it was loaded.
    """
    dims = sample["image"].dims if "image" in sample else ()
    usual = tuple(d for d in "tczyx" if d in dims)
    if dims != usual or not {"c", "y", "x"} <= set(dims) or not cut_of(sample, context).is_whole(context):
        raise TargetError(
            "this sample is not what was loaded: its image was cut or rearranged since, which ndsampler's dictionary "
            "cannot say",
            hint="Load the window that is wanted",
        )
    image = sample["image"]
    out = {
        "im": np.ascontiguousarray(np.moveaxis(image.values, image.dims.index("c"), -1)),
        "target": _target(context),
        "params": _params(context, sample["c"].values.tolist()),
        "classes": category_tree(context.classes),
        "kp_classes": category_tree(context.keypoint_classes),
    }
    if context.found is not None:
        out["annots"] = _annots(context)
        ids = out["annots"]["aids"].tolist()
        main = context.target.get("aid", context.target.get("annot_id"))
        out["target"]["annot_idx"] = ids.index(main) if main in ids else -1
    out["target"] = EditableTarget(out["target"])
    out["tr"] = out["target"]  # its older name
    return out


def _target(context: Context) -> dict[str, Any]:
    scene = context.scene
    space = context.target.get("space_slice", (slice(*scene.y), slice(*scene.x)))
    target = {**context.target, "slices": space}
    if "cx" in target:
        target["window_dims"] = tuple(s.stop - s.start for s in space)
    if scene.video:
        time = _time_slice(context)
        target |= {"time_slice": time, "slices": (time, *space)}
    return target


def _time_slice(context: Context) -> slice:
    """Return the slice that was asked for, or that of the frames of the sample."""
    slices: tuple[Any, ...] = tuple(context.target.get("slices") or ())
    asked = context.target.get("time_slice", slices[0] if len(slices) == 3 else None)
    return asked if isinstance(asked, slice) else slice(0, len(context.scene.frames))


def _params(context: Context, channels: list[str]) -> dict[str, Any]:
    import kwimage

    scene = context.scene
    corners = [scene.x[0], scene.y[0], scene.x[1], scene.y[1]]
    pad = context.target.get("pad")
    params = {
        "offset": np.array([-scene.x[0], -scene.y[0]]),
        "tf_rel_to_abs": scene.transform,
        "sample_tlbr": kwimage.Boxes([corners] if scene.video else corners, "ltrb"),
        "st_dims": [tuple(scene.y), tuple(scene.x)],
        "data_dims": context.target.get("data_dims", scene.space),
        "pad": pad,
    }
    if not scene.video:
        return {**params, "pad": (0, 0) if pad is None else (pad, pad) if isinstance(pad, Integral) else pad}
    to_sample = kwimage.Affine(np.linalg.inv(scene.transform))
    return {
        **params,
        "request_chanspec": _chanspec(context, channels),
        "frame_sample_from_grid_warps": [to_sample] * len(scene.frames),
    }


def _chanspec(context: Context, channels: list[str]) -> Any:
    """A `ChannelSpec` of what was asked for; of all channels, a `FusedChannelSpec`."""
    import delayed_image

    if context.scene.channels is None:
        return delayed_image.FusedChannelSpec.coerce(channels)
    return delayed_image.ChannelSpec.coerce("|".join(channels))


def _annots(context: Context) -> dict[str, Any]:
    import kwimage

    found = context.found
    assert found is not None
    frames = detections(context)
    for dets in frames:
        dets.data.setdefault("segmentations", kwimage.PolygonList([None] * len(dets)))
        dets.data.setdefault("keypoints", kwimage.PointsList([None] * len(dets)))
    points = kwimage.PointsList([p for d in frames for p in d.data["keypoints"].data])
    points.meta["classes"] = category_tree(context.keypoint_classes)
    return {
        "aids": found.columns["annot_id"],
        "cids": np.array([None if c == NO_ID else c for c in found.columns["category_id"].tolist()])
        if NO_ID in found.columns["category_id"]
        else found.columns["category_id"],
        "rel_frame_index": found.columns["frame"],
        "rel_boxes": kwimage.Boxes(found.columns["bbox"], "xywh"),
        "rel_ssegs": kwimage.PolygonList(
            [None if s is None else kwimage.MultiPolygon(s.data) for d in frames for s in d.data["segmentations"].data]
        ),
        "rel_kpts": points,
        "frame_dets": frames,
    }
