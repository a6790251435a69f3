"""Readers that are not ours: what each finds in a store or a COG, as one JSON object.

`python readers.py NAME PATH` runs one of them in an environment that has its `PACKAGES`. Facts that a reader does not
give are left out. Pixels are a digest of each level, so that nothing large is passed on.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Facts = dict[str, Any]
"""`pixels`: digests of the levels; `axes`; `scale` and `translation` of each level; `channels`; `nodata`; `epsg`;
`transform` of the native level, in affine order."""

PACKAGES = {
    "zarr-python": ["zarr"],
    "zarrs": ["zarr", "zarrs"],
    "tensorstore": ["tensorstore"],
    "xarray": ["xarray", "zarr"],
    "dask": ["dask[array]", "zarr"],
    "rioxarray": ["rioxarray", "zarr"],
    "odc-geo": ["odc-geo", "xarray", "zarr", "rioxarray"],
    "rio-tiler": ["rio-tiler", "rioxarray", "zarr", "xarray"],
    "ome-zarr": ["ome-zarr"],
    "ngff-zarr": ["ngff-zarr[validate]"],
    "ome-zarr-models": ["ome-zarr-models"],
    "yaozarrs": ["yaozarrs"],
    "bioio": ["bioio", "bioio-ome-zarr"],
    "napari-ome-zarr": ["napari-ome-zarr"],
    "zarr-cm": ["zarr-cm"],
    "rasterio": ["rasterio"],
    "tifffile": ["tifffile", "imagecodecs"],
    "async-tiff": ["async-tiff", "obstore"],
    "rio-tiler (COG)": ["rio-tiler"],
    "openslide": ["openslide-python", "openslide-bin"],
}
"""What to install for each."""


def digest(pixels: Any) -> str:
    """Return a digest of pixels (c, y, x), native byte order."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8).hexdigest()


def _levels(path: Path) -> list[str]:
    return [
        d["path"]
        for d in json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"]
    ]


def _transforms(multiscale: Any) -> Facts:
    axes = [a["name"] for a in multiscale["axes"]]
    steps = [{s["type"]: s[s["type"]] for s in d["coordinateTransformations"]} for d in multiscale["datasets"]]
    return {"axes": axes, "scale": [s["scale"] for s in steps], "translation": [s["translation"] for s in steps]}


def zarr_python(path: Path) -> Facts:
    import zarr

    group = zarr.open_group(path, mode="r")
    arrays = [group[p] for p in _levels(path)]
    return {
        "pixels": [digest(a[...]) for a in arrays],
        "axes": list(arrays[0].metadata.dimension_names),
        "channels": list(group["0/c"][:]),
        "fill": float(arrays[0].fill_value),
    }


def zarrs(path: Path) -> Facts:
    import zarr
    import zarrs  # noqa: F401

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    return {"pixels": [digest(zarr.open_array(path / p, mode="r")[...]) for p in _levels(path)]}


def tensorstore(path: Path) -> Facts:
    import tensorstore as ts

    found = [
        ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / p)}}).result()
        for p in _levels(path)
    ]
    return {
        "pixels": [digest(a.read().result()) for a in found],
        "axes": list(found[0].domain.labels),
        "fill": float(found[0].fill_value),
    }


def xarray(path: Path) -> Facts:
    import xarray as xr

    with xr.open_datatree(path, engine="zarr", chunks=None) as tree:
        levels = [tree[k]["image"] for k in sorted(tree.children, key=int)]
        return {
            "pixels": [digest(a.values) for a in levels],
            "axes": list(levels[0].dims),
            "channels": levels[0]["c"].values.tolist(),
        }


def dask(path: Path) -> Facts:
    import dask.array

    return {"pixels": [digest(dask.array.from_zarr(str(path / p)).compute()) for p in _levels(path)]}


def _level(path: Path) -> Any:
    import xarray as xr

    return xr.open_zarr(path / "0", consolidated=False, chunks=None)["image"]


def rioxarray(path: Path) -> Facts:
    import rioxarray  # noqa: F401

    image = _level(path)
    return {
        "pixels0": digest(image.values),
        "epsg": image.rio.crs.to_epsg(),
        "transform": list(image.rio.transform())[:6],
        "nodata": None if image.rio.nodata is None else float(image.rio.nodata),
    }


def odc_geo(path: Path) -> Facts:
    import odc.geo.xr  # noqa: F401

    image = _level(path)
    return {
        "epsg": image.odc.crs.epsg,
        "transform": list(image.odc.transform)[:6],
        "nodata": None if image.odc.nodata is None else float(image.odc.nodata),
    }


def rio_tiler(path: Path) -> Facts:
    import rioxarray  # noqa: F401
    from rio_tiler.io.xarray import XarrayReader

    image = _level(path)
    with XarrayReader(image) as reader:
        part = reader.part(reader.bounds, bounds_crs=reader.crs, dst_crs=reader.crs)
        return {"pixels0": digest(part.data), "epsg": reader.crs.to_epsg(), "transform": list(reader.transform)[:6]}


def ome_zarr(path: Path) -> Facts:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    [node] = list(Reader(parse_url(str(path)))())
    steps = [{s["type"]: s[s["type"]] for s in d} for d in node.metadata["coordinateTransformations"]]
    return {
        "pixels": [digest(np.asarray(d)) for d in node.data],
        "axes": [a["name"] for a in node.metadata["axes"]],
        "scale": [s["scale"] for s in steps],
        "translation": [s["translation"] for s in steps],
    }


def ngff_zarr(path: Path) -> Facts:
    from ngff_zarr import from_ngff_zarr

    images = from_ngff_zarr(path, validate=True).images
    dims = images[0].dims
    return {
        "pixels": [digest(np.asarray(i.data)) for i in images],
        "axes": list(dims),
        "scale": [[i.scale.get(d, 1.0) for d in dims] for i in images],
        "translation": [[i.translation.get(d, 0.0) for d in dims] for i in images],
    }


def ome_zarr_models(path: Path) -> Facts:
    from ome_zarr_models import open_ome_zarr

    found: Any = open_ome_zarr(str(path))
    return _transforms(json.loads(found.attributes.model_dump_json(exclude_none=True))["ome"]["multiscales"][0])


def yaozarrs(path: Path) -> Facts:
    from yaozarrs import validate_zarr_store

    validate_zarr_store(str(path))
    return {"valid": True}


def bioio(path: Path) -> Facts:
    import bioio_ome_zarr
    from bioio import BioImage

    image = BioImage(path, reader=bioio_ome_zarr.Reader)
    out = []
    for k in range(len(image.resolution_levels)):
        image.set_resolution_level(k)
        out.append(digest(image.get_image_data("CYX")))
    return {"pixels": out, "channels": list(image.channel_names)}


def napari_ome_zarr(path: Path) -> Facts:
    from napari_ome_zarr import napari_get_reader

    layers = napari_get_reader(str(path))(str(path))
    data = layers[0][0]
    data = data if isinstance(data, list) else [data]
    return {"pixels": [digest(np.asarray(d)) for d in data], "layer": layers[0][2]}


def zarr_cm(path: Path) -> Facts:
    import zarr_cm

    for file in (path, *(path / p for p in _levels(path))):
        attrs = json.loads((file / "zarr.json").read_text())["attributes"]
        for convention in ("multiscales", "spatial", "proj", "geo_proj"):
            module = getattr(zarr_cm, convention, None)
            name = {"proj": "proj:", "spatial": "spatial:"}.get(convention, convention)
            if module is not None and any(k.startswith(name) for k in attrs):
                module.validate(module.extract(attrs)[1])
    return {"valid": True}


def rasterio(path: Path) -> Facts:
    import rasterio

    with rasterio.open(path) as file:
        out = {
            "pixels0": digest(file.read()),
            "epsg": file.crs.to_epsg(),
            "transform": list(file.transform)[:6],
            "nodata": file.nodata,
        }
        return out | {"levels": 1 + len(file.overviews(1))}


def tifffile(path: Path) -> Facts:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        levels = tif.series[0].levels
        pixels = levels[0].asarray()
        return {
            "pixels0": digest(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)),
            "levels": len(levels),
        }


def async_tiff(path: Path) -> Facts:
    import asyncio

    from async_tiff import TIFF
    from obstore.store import LocalStore

    async def read() -> Facts:
        tif = await TIFF.open(path.name, store=LocalStore(str(path.parent)))
        first = tif.ifds[0]
        tile = await tif.fetch_tile(0, 0, 0)
        decoded = await tile.decode()
        assert np.asarray(decoded).size
        images = [i for i in tif.ifds if not (i.new_subfile_type or 0) & 4]
        return {"levels": len(images), "size": [first.image_width, first.image_height]}

    return asyncio.run(read())


def rio_tiler_cog(path: Path) -> Facts:
    from rio_tiler.io import Reader

    with Reader(str(path)) as reader:
        part = reader.part(reader.bounds, bounds_crs=reader.crs, dst_crs=reader.crs)
        return {
            "pixels0": digest(part.data),
            "epsg": reader.crs.to_epsg(),
            "transform": list(reader.dataset.transform)[:6],
        }


def openslide(path: Path) -> Facts:
    import openslide

    with openslide.OpenSlide(str(path)) as slide:
        return {"levels": slide.level_count}


READERS: dict[str, Callable[[Path], Facts]] = {
    name: globals()[name.replace(" (COG)", "_cog").replace("-", "_")] for name in PACKAGES
}
COG_READERS = ("rasterio", "tifffile", "async-tiff", "rio-tiler (COG)", "openslide")
"""Those that read COGs; all others read stores."""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(READERS[sys.argv[1]](Path(sys.argv[2])), default=str))
