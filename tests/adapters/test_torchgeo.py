"""Georeferenced images are a GeoDataset of torchgeo, with what torchgeo's own RasterDataset reads of the files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torchgeo")
import rasterio
import torch
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler, RandomGeoSampler

import ndzarr
from helpers.errors import raises
from ndzarr.adapters.torchgeo import GeoCrops
from ndzarr.errors import NdzarrError, OptionError

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rasterio's functions


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two neighbouring scenes with dates and an annotation, and a third one in another system; (sampler, folder)."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    images = []
    for k in range(3):
        place = rasterio.Affine(10, 0, 500000 + 1000 * k, 0, -10, 4600000)
        tiles = {"driver": "GTiff", "dtype": "uint16", "tiled": True, "blockxsize": 64, "blockysize": 64}
        place = {"crs": "EPSG:32633" if k < 2 else "EPSG:3857", "transform": place}
        with rasterio.open(folder / f"{k}.tif", "w", count=2, height=120, width=100, **tiles, **place) as out:
            out.write(rng.integers(1, 999, (2, 120, 100), dtype=np.uint16))
        images.append({"id": k, "file_name": str(folder / f"{k}.tif"), "width": 100, "height": 120, "channels": "a|b",
                       "date_captured": f"2021-0{k + 1}-01"})  # fmt: skip
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [20, 30, 10, 10]}
    dset = {"images": images[:2], "annotations": [box], "categories": [{"id": 1, "name": "field"}]}
    return ndzarr.CocoSampler(dset, folder / "work"), folder


def test_queries_are_what_torchgeo_reads(scenes):
    sampler, folder = scenes
    ours, theirs = GeoCrops(sampler), RasterDataset([folder / "0.tif", folder / "1.tif"])
    assert ours.crs == theirs.crs
    assert ours.res == theirs.res
    assert ours.bounds[:2] == theirs.bounds[:2]
    torch.manual_seed(0)
    queries = list(GridGeoSampler(theirs, size=40, stride=40))
    assert len(queries) >= 12
    for x, y, _ in queries:
        item = ours[x, y]
        assert torch.equal(item["image"], theirs[x, y]["image"])
    both = ours[500800:501200, 4599000:4599500]  # across the border
    assert torch.equal(both["image"], theirs[500800:501200, 4599000:4599500]["image"])
    coarse = ours[500000:500800:20, 4599200:4600000:20]
    assert coarse["image"].shape == (2, 40, 40)
    with pytest.raises(IndexError):
        ours[0:10, 0:10]


def test_samplers_and_loaders_of_torchgeo_take_it(scenes):
    sampler, folder = scenes
    ours = GeoCrops(sampler, masks="semantic", keys={"channels": "b"})
    torch.manual_seed(0)
    random = RandomGeoSampler(ours, size=32, length=8)
    batch = next(iter(DataLoader(ours, 4, sampler=random, collate_fn=stack_samples)))
    assert batch["image"].shape == (4, 1, 32, 32)
    assert batch["mask"].shape == (4, 32, 32)
    field = ours[500200:500300, 4599600:4599700]["mask"]
    assert (field == 1).all()
    together = ours & RasterDataset([folder / "0.tif"])
    item = together[500200:500300, 4599600:4599700]
    assert item["image"].shape == (3, 10, 10)


def test_dates_are_those_of_the_dataset(scenes):
    sampler, _ = scenes
    ours = GeoCrops(sampler)
    assert ours.bounds[2].start == pd.Timestamp("2021-01-01")
    january = slice(pd.Timestamp("2020-12-01"), pd.Timestamp("2021-01-15"))
    with pytest.raises(IndexError):
        ours[501500:501600, 4599600:4599700, january]  # the second is of February


def test_what_does_not_fit_torchgeo_is_named(scenes):
    sampler, folder = scenes
    with raises(OptionError, key="format"):
        GeoCrops(sampler, format="yolo")
    with raises(NdzarrError, key="crs"):
        GeoCrops(ndzarr.Sampler([folder / "0.tif", folder / "2.tif"]))
    with raises(OptionError, key="crs"):
        GeoCrops(sampler).crs = rasterio.CRS.from_epsg(3857)
    np.save(folder / "n.npy", np.zeros((9, 9), "u1"))
    with raises(NdzarrError, key="crs"):
        GeoCrops(ndzarr.Sampler([folder / "n.npy"], folder / "work"))
    named = GeoCrops(ndzarr.Sampler([folder / "0.tif"]), res=20, transforms=lambda item: {**item, "seen": True})
    item = named[500000:500400, 4599600:4600000]
    assert item["seen"]
    assert item["image"].shape == (2, 20, 20)
