"""kwcoco datasets that state the sizes of their images, so that windows can be chosen without any pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import ndzarr

CATEGORIES = [{"id": k, "name": name} for k, name in enumerate(("cat", "dog", "ignore", "background"), 1)]


def images(sizes, boxes, **annotation):
    """Images of (height, width); annotations of (image id, category id, x, y, width, height)."""
    return {
        "images": [{"id": k, "file_name": f"{k}.png", "height": h, "width": w} for k, (h, w) in enumerate(sizes, 1)],
        "categories": CATEGORIES,
        "annotations": [
            {"id": 100 + k, "image_id": g, "category_id": c, "bbox": list(xywh), **annotation}
            for k, (g, c, *xywh) in enumerate(boxes)
        ],
    }


def films(sizes, lengths, boxes, warps=None):
    """Videos of (height, width) and so many frames each, whose images are numbered through from 1; see `images`."""
    content = images([size for size, n in zip(sizes, lengths, strict=True) for _ in range(n)], boxes)
    where = [(v, t) for v, n in enumerate(lengths, 1) for t in range(n)]
    for image, (v, t) in zip(content["images"], where, strict=True):
        image |= {"video_id": v, "frame_index": t}
        if warps:
            image["warp_img_to_vid"] = np.asarray(warps[(image["id"] - 1) % len(warps)], float).tolist()
    content["videos"] = [{"id": v, "name": f"v{v}", "height": h, "width": w} for v, (h, w) in enumerate(sizes, 1)]
    return content


def targets(content):
    """The `targets` of a sampler of a dataset."""
    return ndzarr.CocoSampler(content, "unused").targets


def scattered(n_images, n_boxes, seed=0, size=400, largest=60, clusters=None):
    """Images with random boxes, evenly or in clusters."""
    rng = np.random.default_rng(seed)
    gid = rng.integers(1, n_images + 1, n_boxes)
    centre = rng.uniform(0, size, (n_boxes, 2))
    if clusters:
        middles = rng.uniform(0, size, (n_images, clusters, 2))
        centre = middles[gid - 1, rng.integers(0, clusters, n_boxes)] + rng.normal(0, size / 20, (n_boxes, 2))
    wh = rng.uniform(2, largest, (n_boxes, 2))
    xy = np.clip(centre - wh / 2, 0, size - wh)
    category = rng.integers(1, 3, n_boxes)
    rows = zip(gid.tolist(), category.tolist(), *np.round(np.c_[xy, wh], 1).T.tolist(), strict=True)
    return images([(size, size)] * n_images, list(rows))


lengths = st.one_of(st.integers(0, 12), st.floats(0, 12).map(lambda v: round(v, 2)))
places = st.one_of(st.integers(-8, 40), st.floats(-8, 40).map(lambda v: round(v, 2)))


def box_lists(n_images, most=6):
    """Lists of (image id, category id, x, y, width, height), some of them outside, some without area."""
    return st.lists(
        st.tuples(st.integers(1, n_images), st.integers(1, 2), places, places, lengths, lengths), max_size=most
    )


size_lists = st.lists(st.tuples(st.integers(1, 33), st.integers(1, 33)), min_size=1, max_size=3)
"""Sizes of some images."""

WARPS = [
    np.eye(3),
    [[1, 0, 3], [0, 1, -2], [0, 0, 1]],
    [[0.5, 0, 1], [0, 2, 0], [0, 0, 1]],
    [[0.8, -0.6, 5], [0.6, 0.8, 0], [0, 0, 1]],
    [[-1, 0, 20], [0, 1, 0], [0, 0, 1]],
]
"""From image to video space: none, shifted, stretched, rotated, mirrored."""
