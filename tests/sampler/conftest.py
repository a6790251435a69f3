"""Small datasets of real image files."""

from __future__ import annotations

import copy
import shutil
import warnings
from dataclasses import dataclass

import kwcoco
import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.arrays import photo
from ndzarr.ndsampler_compat import CocoSampler


@pytest.fixture(scope="session")
def pngs(tmp_path_factory):
    """Two PNGs of different sizes: (folder, pixels by gid)."""
    folder = tmp_path_factory.mktemp("images")
    pixels = {1: photo(300, 400, 1), 2: photo(257, 129, 2)}
    for gid, image in pixels.items():
        image.flags.writeable = False
        Image.fromarray(image).save(folder / f"{gid}.png")
    return folder, pixels


@pytest.fixture
def dataset(pngs, tmp_path):
    """Two PNGs of different sizes, with annotations; (kwcoco dictionary, pixels by gid)."""
    folder, pixels = pngs
    shutil.copytree(folder, tmp_path / "images")  # some tests rewrite them
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


@dataclass
class Film:
    """A video of 4 frames of 96x120, by two sensors; nir has half the resolution, frame 3 (id 12) lacks it and frame 4
    is shifted by (8, 4) against the video."""

    content: dict
    rg: np.ndarray
    """uint16 (t, c, y, x) in image space."""
    nir: np.ndarray
    """uint16 (t, y, x), 48x60."""
    workdir: str

    def sampler(self, **changes):
        """A sampler; `changes` are merged into every image's dictionary."""
        content = copy.deepcopy(self.content)
        for image in content["images"]:
            image.update(changes)
        return ndzarr.CocoSampler(content, self.workdir)

    def frame(self, t):
        """r and g of a frame in video space, zeros where it has no pixels."""
        if t != 3:
            return self.rg[t]
        out = np.zeros_like(self.rg[t])
        out[:, 4:, 8:] = self.rg[t][:, :-4, :-8]
        return out


@pytest.fixture(scope="session")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    rg = np.stack([photo(96, 120, t)[..., :2].transpose(2, 0, 1) for t in range(4)]).astype(np.uint16) * 100
    nir = np.stack([photo(48, 60, 9 + t)[..., 0] for t in range(4)]).astype(np.uint16) * 150
    images, annotations = [], []
    for t in range(4):
        tifffile.imwrite(
            folder / f"rg{t}.tif", rg[t].transpose(1, 2, 0), photometric="minisblack", planarconfig="contig"
        )
        tifffile.imwrite(folder / f"nir{t}.tif", nir[t])
        assets = [{"file_name": str(folder / f"rg{t}.tif"), "channels": "r|g", "width": 120, "height": 96}]
        if t != 2:
            assets.append(
                {"file_name": str(folder / f"nir{t}.tif"), "channels": "nir", "width": 60, "height": 48,
                 "warp_aux_to_img": {"scale": 2.0}}
            )  # fmt: skip
        images.append(
            {"id": 10 + t, "name": f"f{t}", "file_name": None, "video_id": 1, "frame_index": t, "width": 120,
             "height": 96, "assets": assets, "date_captured": f"2024-05-0{t + 1}T12:00:00",
             "sensor_coarse": "S2" if t % 2 == 0 else "L8"}
        )  # fmt: skip
        annotations.append(
            {"id": 100 + t, "image_id": 10 + t, "category_id": 1, "track_id": 7, "bbox": [10 + 10 * t, 20, 30, 16],
             "segmentation": [[10 + 10 * t, 20, 40 + 10 * t, 20, 40 + 10 * t, 36]]}
        )  # fmt: skip
    images[3]["warp_img_to_vid"] = {"offset": [8, 4]}
    content = {
        "videos": [{"id": 1, "name": "film", "width": 120, "height": 96}],
        "images": images,
        "categories": [{"id": 1, "name": "boat"}],
        "annotations": annotations,
    }
    return Film(content, rg, nir, str(tmp_path_factory.mktemp("work")))


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    """For datasets that are made once."""
    return tmp_path_factory.mktemp("pyramids")


def _demo(name, workdir, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that draw it
        dset = kwcoco.CocoDataset.demo(name, verbose=0, **options)
    return dset, CocoSampler(dset, workdir)


@pytest.fixture(scope="session")
def shapes(workdir):
    """kwcoco's demo images: (dataset, sampler)."""
    return _demo("shapes8", workdir)


@pytest.fixture(scope="session")
def multispectral(workdir):
    """kwcoco's demo videos of 5 bands at three resolutions: (dataset, sampler)."""
    return _demo("vidshapes2-frames3-multispectral", workdir)


@pytest.fixture(scope="session")
def multisensor(workdir):
    """kwcoco's demo video of rotated and sheared assets of several sensors: (dataset, sampler)."""
    return _demo("vidshapes1-frames3-msi-multisensor", workdir)
