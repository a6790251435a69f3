"""How do a sample's annotations become kwimage objects?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ndzarr.sampler.sample import Context


def detections(context: Context) -> list[Any]:
    """One `kwimage.Detections` per frame, in sample pixels."""
    import kwcoco
    import kwimage

    if context.found is None:
        return [kwimage.Detections.from_coco_annots([], cats=list(context.classes)) for _ in context.scene.frames]
    classes = kwcoco.CategoryTree.from_coco(list(context.classes)) if context.classes else None
    frames = context.found.columns["frame"]
    out = []
    for t, to_sample in enumerate(context.found.to_sample):
        rows = np.flatnonzero(frames == t)
        records = [context.found.records[i] for i in rows]
        found = kwimage.Detections.from_coco_annots(
            records, cats=list(context.classes), classes=classes, kp_classes=_keypoint_classes(context)
        )
        out.append(found.warp(to_sample))
    return out


def _keypoint_classes(context: Context) -> Any:
    import kwcoco

    return kwcoco.CategoryTree.from_coco(list(context.keypoint_classes)) if context.keypoint_classes else None
