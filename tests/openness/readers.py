"""Readers that are not ours: what each finds in a store or a COG, as JSON.

`python readers.py NAME PATH...` runs one of them in an environment that has its `PACKAGES`, and prints a line for each
path; `readers.mjs` are those of JavaScript. Facts that a reader does not give are left out. Pixels are a digest of each
level, so that nothing large is passed on.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# NumPy is imported by those that need it: GDAL's own environment has none.

Facts = dict[str, Any]
"""`pixels`: digests of the levels; `axes`; `scale` and `translation` of each level; `channels`; `nodata`; `epsg`;
`transform` of the native level, in affine order; `fill`: the fill value of the array."""

PACKAGES = {
    "zarr-python": ["zarr"],
    "zarr-python 3.1": ["zarr==3.1.*"],
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
    "geozarr-toolkit": ["geozarr-toolkit"],
    "neuroglancer": ["neuroglancer", "pillow"],
    "GDAL": [],
    "rasterio": ["rasterio"],
    "tifffile": ["tifffile", "imagecodecs"],
    "async-tiff": ["async-tiff", "obstore"],
    "rio-tiler (COG)": ["rio-tiler"],
    "openslide": ["openslide-python", "openslide-bin"],
    "GDAL (COG)": [],
}
"""What to install for each, from PyPI."""

NODE_PACKAGES = {
    "zarrita": ["zarrita"],
    "geotiff.js": ["geotiff"],
    "@cogeotiff/core": ["@cogeotiff/core", "@chunkd/source-file"],
}
"""What to install for each of `readers.mjs`, from npm."""


def digest(pixels: Any) -> str:
    """Return a digest of pixels (c, y, x), or of their bytes, little-endian."""
    if not isinstance(pixels, bytes | bytearray):
        import numpy as np

        pixels = np.ascontiguousarray(pixels).tobytes()
    return hashlib.sha256(pixels).hexdigest()[:16]


def _root(path: Path) -> Any:
    """Return the metadata of the root of a store, which may be an `.ozx`."""
    if path.suffix == ".ozx":
        with zipfile.ZipFile(path) as file:
            return json.loads(file.read("zarr.json"))
    return json.loads((path / "zarr.json").read_text())


def _levels(path: Path) -> list[str]:
    return [d["path"] for d in _root(path)["attributes"]["ome"]["multiscales"][0]["datasets"]]


def _store(path: Path) -> Any:
    """Return what zarr-python opens."""
    from zarr.storage import ZipStore

    return ZipStore(path, read_only=True) if path.suffix == ".ozx" else path


def _transforms(multiscale: Any) -> Facts:
    axes = [a["name"] for a in multiscale["axes"]]
    steps = [{s["type"]: s[s["type"]] for s in d["coordinateTransformations"]} for d in multiscale["datasets"]]
    return {"axes": axes, "scale": [s["scale"] for s in steps], "translation": [s["translation"] for s in steps]}


def zarr_python(path: Path) -> Facts:
    import zarr

    group = zarr.open_group(_store(path), mode="r")
    arrays = [group[p] for p in _levels(path)]
    return {
        "pixels": [digest(a[...]) for a in arrays],
        "axes": list(arrays[0].metadata.dimension_names),
        "channels": list(group["0/c"][:]),
        "fill": float(arrays[0].fill_value),
    }


zarr_python_31 = zarr_python


def zarrs(path: Path) -> Facts:
    import zarr
    import zarrs  # noqa: F401

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    return {"pixels": [digest(zarr.open_array(path / p, mode="r")[...]) for p in _levels(path)]}


def tensorstore(path: Path) -> Facts:
    import tensorstore as ts

    base = {"driver": "file", "path": str(path)}
    inside = {"driver": "zip", "base": base} if path.suffix == ".ozx" else {"driver": "file", "path": f"{path}/"}
    found = [
        ts.open({"driver": "zarr3", "kvstore": inside | {"path": f"{inside.get('path', '')}{p}/"}}).result()
        for p in _levels(path)
    ]
    return {
        "pixels": [digest(a.read().result()) for a in found],
        "axes": list(found[0].domain.labels),
        "fill": float(found[0].fill_value),
    }


def xarray(path: Path) -> Facts:
    import xarray as xr

    with xr.open_datatree(_store(path), engine="zarr", chunks=None) as tree:
        levels = [tree[k]["image"] for k in sorted(tree.children, key=int)]
        return {
            "pixels": [digest(a.values) for a in levels],
            "axes": list(levels[0].dims),
            "channels": levels[0]["c"].values.tolist(),
        }


def dask(path: Path) -> Facts:
    import dask.array
    import zarr

    group = zarr.open_group(_store(path), mode="r")
    return {"pixels": [digest(dask.array.from_zarr(group[p]).compute()) for p in _levels(path)]}


def _level(path: Path) -> Any:
    import xarray as xr

    if path.suffix == ".ozx":
        return xr.open_zarr(_store(path), group="0", consolidated=False, chunks=None)["image"]
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


def _computed(pixels: Any) -> Any:
    import numpy as np

    return np.asarray(pixels)


def ome_zarr(path: Path) -> Facts:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    [node] = list(Reader(parse_url(str(path)))())
    steps = [{s["type"]: s[s["type"]] for s in d} for d in node.metadata["coordinateTransformations"]]
    return {
        "pixels": [digest(d) for d in map(_computed, node.data)],
        "axes": [a["name"] for a in node.metadata["axes"]],
        "scale": [s["scale"] for s in steps],
        "translation": [s["translation"] for s in steps],
    }


def ngff_zarr(path: Path) -> Facts:
    from ngff_zarr import from_ngff_zarr

    images = from_ngff_zarr(path, validate=True).images
    dims = images[0].dims
    return {
        "pixels": [digest(_computed(i.data)) for i in images],
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
    named = "omero" in _root(path)["attributes"]["ome"]  # labels have none, and it makes up a name
    return {"pixels": out, **({"channels": list(image.channel_names)} if named else {})}


def napari_ome_zarr(path: Path) -> Facts:
    from napari_ome_zarr import napari_get_reader

    layers = napari_get_reader(str(path))(str(path))
    images = [layer[0] if isinstance(layer[0], list) else [layer[0]] for layer in layers]
    if len(layers) == 1:
        return {"pixels": [digest(_computed(d)) for d in images[0]], "layer": layers[0][2]}
    pixels = [digest(b"".join(_computed(d).tobytes() for d in level)) for level in zip(*images, strict=True)]
    channels = [layer[1]["name"].rpartition(": ")[2] for layer in layers]  # a layer each
    return {"pixels": pixels, "channels": channels, "layer": layers[0][2]}


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


def geozarr_toolkit(path: Path) -> Facts:
    from geozarr_toolkit import detect_conventions, validate_attrs

    found = set()
    for file in (path, *(path / p for p in _levels(path))):
        attrs = json.loads((file / "zarr.json").read_text())["attributes"]
        found |= set(detect_conventions(attrs))
        wrong = {name: errors for name, errors in validate_attrs(attrs).items() if errors}
        assert not wrong, wrong
    assert found, "no convention is detected"
    return {"valid": True}


def gdal(path: Path) -> Facts:
    from osgeo import gdal

    gdal.UseExceptions()
    place = f"/vsizip/{{{path}}}" if path.suffix == ".ozx" else path
    levels = [gdal.Open(f'ZARR:"{place}":/{p}') for p in _levels(path)]
    first = levels[0]
    c, a, b, f, d, e = first.GetGeoTransform()
    fills = {first.GetRasterBand(k + 1).GetNoDataValue() for k in range(first.RasterCount)}
    assert len(fills) == 1, fills
    return {
        "pixels": [digest(level.ReadRaster()) for level in levels],
        "epsg": int(first.GetSpatialRef().GetAuthorityCode(None)),
        "transform": [a, b, c, d, e, f],
        "fill": fills.pop(),  # it takes that for nodata
        "levels": 1 + first.GetRasterBand(1).GetOverviewCount(),
    }


def gdal_cog(path: Path) -> Facts:
    from osgeo import gdal

    gdal.UseExceptions()
    file = gdal.Open(str(path))
    c, a, b, f, d, e = file.GetGeoTransform()
    return {
        "pixels0": digest(file.ReadRaster()),
        "epsg": int(file.GetSpatialRef().GetAuthorityCode(None)),
        "transform": [a, b, c, d, e, f],
        "nodata": file.GetRasterBand(1).GetNoDataValue(),
        "levels": 1 + file.GetRasterBand(1).GetOverviewCount(),
        "size": [file.RasterXSize, file.RasterYSize],
    }


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files for a page of another origin, and ranges of them."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def end_headers(self) -> None:
        for header in ("Origin", "Headers"):
            self.send_header(f"Access-Control-Allow-{header}", "*")
        self.send_header("Access-Control-Expose-Headers", "*")
        super().end_headers()

    def do_OPTIONS(self) -> None:
        self.send_response(204)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            self.send_error(404)
            return
        data = file.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, len(data)
        if wanted and wanted[1]:
            start, stop = int(wanted[1]), min(stop, int(wanted[2]) + 1) if wanted[2] else stop
        elif wanted:
            start = max(0, stop - int(wanted[2]))
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[start:stop])


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def _chromium(url: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        browser = subprocess.Popen(["chromium", *options, f"--user-data-dir={profile}", url], **quiet)
        try:
            yield
        finally:
            browser.terminate()
            browser.wait()


def neuroglancer(path: Path) -> Facts:
    """Take a screenshot of the first channel, grey, a pixel of the screen for each of the store, exact for 8 bits."""
    import neuroglancer as ng

    ome = _root(path)["attributes"]["ome"]
    y, x = _native(path)["shape"][-2:]
    ng.set_server_bind_address("127.0.0.1")
    with _served(path.parent) as url:
        viewer = ng.Viewer()
        source = f"{url}/{path.name}|zip:|zarr3:" if path.suffix == ".ozx" else f"zarr3://{url}/{path.name}/"
        steps = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"][-2:]
        with viewer.txn() as state:
            state.dimensions = ng.CoordinateSpace(names=["x", "y"], units="m", scales=steps[::-1])
            state.position = [(x - 1) / 2, (y - 1) / 2]
            state.cross_section_scale = 1
            shader = "void main() { emitGrayscale(toNormalized(getDataValue())); }"
            state.layers["image"] = ng.ImageLayer(source=source, local_position=[0], shader=shader)
            state.layout, state.show_axis_lines, state.show_scale_bar = "xy", False, False
            state.show_default_annotations = False
        signal.alarm(100)  # it says nothing of a codec that it lacks
        with _chromium(viewer.get_viewer_url()):
            shot = viewer.screenshot(size=[x, y]).screenshot
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder, f"{path.name}.png").write_bytes(shot.image)
    grey = shot.image_pixels[..., 0]
    assert len(set(grey.ravel().tolist())) > 1, "the picture is of one colour"
    return {"first": digest(grey)} if _native(path)["data_type"] == "uint8" else {"valid": True}


def _native(path: Path) -> Any:
    """Return the metadata of the native level."""
    return _root(path)["consolidated_metadata"]["metadata"][_levels(path)[0]]


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
            "pixels0": digest(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)),
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
        assert _computed(decoded).size
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
    name: globals()[re.sub(r"\W+", "_", name.replace(".", "").replace(" (COG)", "_cog")).lower()] for name in PACKAGES
}
COG_READERS = (
    *("rasterio", "tifffile", "async-tiff", "rio-tiler (COG)", "openslide", "GDAL (COG)"),
    *("geotiff.js", "@cogeotiff/core"),
)
"""Those that read COGs; all others read stores."""


SECONDS = 300
"""How long a reader may take for a store."""


def _late(*_: Any) -> None:
    raise TimeoutError("no answer in time")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _late)
    for name in sys.argv[2:]:
        signal.alarm(SECONDS)
        try:
            answer = READERS[sys.argv[1]](Path(name))
        except Exception as error:  # whatever a reader raises is what the table says of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        signal.alarm(0)
        print(json.dumps(answer, default=str).replace("\n", " "), flush=True)
