"""Small datasets of real image files."""

from __future__ import annotations

import pytest
from PIL import Image

from pictures import photo


@pytest.fixture
def dataset(tmp_path):
    """Two PNGs of different sizes, with annotations; (kwcoco dictionary, pixels by gid)."""
    pixels = {1: photo(300, 400, 1), 2: photo(257, 129, 2)}
    (tmp_path / "images").mkdir()
    for gid, image in pixels.items():
        Image.fromarray(image).save(tmp_path / "images" / f"{gid}.png")
    content = {
        "images": [
            {"id": g, "file_name": str(tmp_path / "images" / f"{g}.png"), "width": p.shape[1], "height": p.shape[0]}
            for g, p in pixels.items()
        ],
        "categories": [{"id": 5, "name": "boat"}, {"id": 9, "name": "car"}],
        "annotations": [
            {"id": 11, "image_id": 1, "category_id": 5, "bbox": [100, 50, 40, 20], "track_id": 3,
             "segmentation": [{"exterior": [[100, 50], [140, 50], [140, 70], [100, 70]], "interiors": []}],
             "keypoints": [{"xy": [110, 60], "keypoint_category": "bow"}]},
            {"id": 12, "image_id": 1, "category_id": 9, "bbox": [0, 0, 10, 10]},
            {"id": 13, "image_id": 2, "category_id": None, "bbox": [60.5, 100.25, 20, 30]},
            {"id": 14, "image_id": 1, "category_id": 9, "bbox": [380, 280, 40, 40]},
        ],
    }  # fmt: skip
    return content, pixels
