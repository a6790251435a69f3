"""A dataset with everything that a batch has to get right, as small real files."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.arrays import photo


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """Images 1 and 2 (RGB, of different sizes), 3 (RGB, rotated), 4 (grey uint16 with nodata), 5 and 6 (float, NaN);
    video 1 of frames 10 to 13: r|g, and nir of half the resolution that frame 12 lacks; frame 13 is shifted.
    """
    folder = tmp_path_factory.mktemp("mixed")
    for gid, (height, width) in {1: (300, 400), 2: (257, 129), 3: (200, 220)}.items():
        Image.fromarray(photo(height, width, gid)).save(folder / f"{gid}.png")
    grey = photo(150, 160, 4)[..., 0].astype(np.uint16) * 100
    grey[40:70, 30:90] = 7
    tifffile.imwrite(folder / "4.tif", grey, extratags=[(42113, "s", 0, "7", True)])
    for gid in (5, 6):
        height = photo(140, 150, gid)[..., 0].astype(np.float32)
        height[20 * gid - 60 : 20 * gid - 30, 50:80] = np.nan
        tifffile.imwrite(folder / f"{gid}.tif", height)
    images = [
        {"id": 1, "file_name": "1.png", "width": 400, "height": 300, "channels": "r|g|b"},
        {"id": 2, "file_name": "2.png", "width": 129, "height": 257, "channels": "r|g|b"},
        {"id": 3, "file_name": None, "width": 260, "height": 240, "assets": [
            {"file_name": "3.png", "channels": "r|g|b", "width": 220, "height": 200,
             "warp_aux_to_img": {"theta": 0.3, "offset": [50, 5]}}]},
        {"id": 4, "file_name": "4.tif", "width": 160, "height": 150, "channels": "grey"},
        {"id": 5, "file_name": "5.tif", "width": 150, "height": 140, "channels": "dem"},
        {"id": 6, "file_name": "6.tif", "width": 150, "height": 140, "channels": "dem"},
    ]  # fmt: skip
    for t in range(4):
        rg = photo(96, 120, 20 + t)[..., :2].astype(np.uint16) * 100
        tifffile.imwrite(folder / f"rg{t}.tif", rg, photometric="minisblack", planarconfig="contig")
        tifffile.imwrite(folder / f"nir{t}.tif", photo(48, 60, 30 + t)[..., 0].astype(np.uint16) * 150)
        assets = [{"file_name": f"rg{t}.tif", "channels": "r|g", "width": 120, "height": 96}]
        if t != 2:
            assets.append({"file_name": f"nir{t}.tif", "channels": "nir", "width": 60, "height": 48,
                           "warp_aux_to_img": {"scale": 2.0}})  # fmt: skip
        images.append({"id": 10 + t, "name": f"f{t}", "file_name": None, "video_id": 1, "frame_index": t,
                       "width": 120, "height": 96, "assets": assets,
                       "date_captured": f"2024-05-0{t + 1}T12:00:00"})  # fmt: skip
    images[-1]["warp_img_to_vid"] = {"offset": [8, 4]}
    rng = np.random.default_rng(0)
    annotations = [
        {"id": 100 + k, "image_id": image["id"], "category_id": 1 + k % 2, "track_id": k % 5,
         "bbox": [*rng.uniform(-5, 100, 2).tolist(), *rng.uniform(1, 60, 2).tolist()]}
        for k, image in enumerate(images * 4)
    ]  # fmt: skip
    content = {
        "videos": [{"id": 1, "name": "film", "width": 120, "height": 96}],
        "images": [
            image | {"file_name": image["file_name"] and str(folder / image["file_name"])}
            | ({"assets": [a | {"file_name": str(folder / a["file_name"])} for a in image["assets"]]}
               if "assets" in image else {})
            for image in images
        ],
        "categories": [{"id": 1, "name": "boat"}, {"id": 2, "name": "car"}],
        "annotations": annotations,
    }  # fmt: skip
    sampler = ndzarr.CocoSampler(content, tmp_path_factory.mktemp("work"))
    sampler.prepare()
    return sampler
