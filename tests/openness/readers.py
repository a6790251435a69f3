"""Readers that are not ours: what each finds in a store or a COG, as JSON.

`python readers.py NAME PATH...` runs one of them in an environment that has its `PACKAGES`, and prints its version and
a line for each path; `readers.mjs` are those of JavaScript. Facts that a reader does not give are left out. Pixels are
a digest of each level, so that nothing large is passed on.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import importlib.metadata
import io
import json
import math
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

# NumPy is imported by those that need it: GDAL's own environment has none.

Facts = dict[str, Any]
"""`pixels`: digests of the levels; `axes`; `scale` and `translation` of each level; `channels`; `nodata`; `epsg`;
`transform` of the native level, in affine order; `fill`: the fill value of the array."""

PACKAGES = {
    "zarr-python": ["zarr"],
    "zarr-python 3.1": ["zarr==3.1.*"],
    "zarrs": ["zarrs", "zarr"],
    "tensorstore": ["tensorstore"],
    "xarray": ["xarray", "zarr"],
    "dask": ["dask[array]", "zarr"],
    "rioxarray": ["rioxarray", "zarr"],
    "odc-geo": ["odc-geo", "xarray", "zarr", "rioxarray", "dask[array]"],
    "rio-tiler": ["rio-tiler", "rioxarray", "zarr", "xarray"],
    "ome-zarr": ["ome-zarr"],
    "ngff-zarr": ["ngff-zarr[validate]"],
    "ome-zarr-models": ["ome-zarr-models"],
    "yaozarrs": ["yaozarrs[io]"],
    "bioio": ["bioio", "bioio-ome-zarr"],
    "napari-ome-zarr": ["napari-ome-zarr"],
    "zarr-cm": ["zarr-cm"],
    "geozarr-toolkit": ["geozarr-toolkit"],
    "neuroglancer": ["neuroglancer", "pillow"],
    "vizarr": ["numpy", "pillow", "zarr"],
    "GDAL": [],
    "rasterio": ["rasterio"],
    "tifffile": ["tifffile", "imagecodecs"],
    "async-tiff": ["async-tiff", "obstore"],
    "rio-tiler (COG)": ["rio-tiler"],
    "openslide": ["openslide-python", "openslide-bin"],
    "GDAL (COG)": [],
}
"""What to install for each, from PyPI; the reader itself first."""

VIZARR = "https://github.com/hms-dbmi/vizarr", "be7ccc26"
"""What vizarr is built from, with what npm has: it publishes itself as a page in the web only."""

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


def _transforms(axes: Any, levels: Any) -> Facts:
    """Return what axes and the transformations of each level say; OME-Zarr 0.6 has those of a level in a sequence."""
    steps = [{s["type"]: s[s["type"]] for s in level[0].get("transformations") or level} for level in levels]
    return {
        "axes": [a["name"] for a in axes],
        "scale": [s["scale"] for s in steps],
        "translation": [s["translation"] for s in steps],
    }


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
    about = _transforms(node.metadata["axes"], node.metadata["coordinateTransformations"])
    return {"pixels": [digest(d) for d in map(_computed, node.data)], **about}


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
    image = json.loads(found.attributes.model_dump_json(exclude_none=True))["ome"]["multiscales"][0]
    axes = image["axes"] if "axes" in image else image["coordinateSystems"][0]["axes"]
    return _transforms(axes, [d["coordinateTransformations"] for d in image["datasets"]])


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
        self.send_header("Content-Type", self.guess_type(file))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[start:stop])

    def do_POST(self) -> None:
        self.server.posted.put(self.rfile.read(int(self.headers["Content-Length"])).decode())  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()


class _Server(http.server.ThreadingHTTPServer):
    """Serves a folder; what is sent to it is in `posted`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(_Files, directory=str(folder)))
        self.posted: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def _served(folder: Path) -> Iterator[_Server]:
    with _Server(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def _chromium(url: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        options += ["--window-size=900,700", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # no web
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

    y, x = _native(path)["shape"][-2:]
    ng.set_server_bind_address("127.0.0.1")
    with _served(path.parent) as server:
        viewer, url = ng.Viewer(), server.url
        source = f"{url}/{path.name}|zip:|zarr3:" if path.suffix == ".ozx" else f"zarr3://{url}/{path.name}/"
        steps = _native_scale(path)[-2:]
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
    _keep(shot.image, f"neuroglancer-{path.name}.png")
    grey = shot.image_pixels[..., 0]
    assert len(set(grey.ravel().tolist())) > 1, "the picture is of one colour"
    return {"first": digest(grey)} if _native(path)["data_type"] == "uint8" else {"valid": True}


def vizarr(path: Path) -> Facts:
    """Compare its canvas, a pixel of the screen for each of the store, with the channels as `omero` wants them."""
    import numpy as np
    from PIL import Image

    y, x = _native(path)["shape"][-2:]
    step = _native_scale(path)[-1]
    wanted = _composed(path)
    seen = "nothing"
    with _served(Path(sys.prefix, "vizarr", "dist")) as page, _served(path.parent) as files:
        asked = {"source": f"{files.url}/{path.name}", "size": [x, y], "zoom": -math.log2(step)}
        asked["target"] = [x * step / 2, y * step / 2]
        with _chromium(f"{page.url}/page.html?{urlencode({'asked': json.dumps(asked)})}"):
            end = time.monotonic() + 60  # it says nothing of a codec that it lacks
            while time.monotonic() < end:
                kind, _, data = page.posted.get(timeout=60).partition("base64,")
                if not data:
                    raise ValueError(kind)
                shot = base64.b64decode(data)
                canvas = np.asarray(Image.open(io.BytesIO(shot)))[..., :3].transpose(2, 0, 1)
                if wanted is None and len(np.unique(canvas)) > 2:
                    return {"valid": True}
                if wanted is not None and canvas.shape == wanted.shape:
                    seen = f"a picture that differs by {np.abs(canvas - wanted).max():.1f}"
                    if np.abs(canvas - wanted).max() <= 1:
                        _keep(shot, f"vizarr-{path.name}.png")
                        return {"pixels0": digest(canvas)} if _is_picture(path) else {"valid": True}
    raise TimeoutError(f"it shows {seen}")


def _composed(path: Path) -> Any:
    """Return what a viewer that adds up the channels shows (rgb y x, 0 to 255); None if `omero` says nothing of it."""
    import numpy as np
    import zarr

    shown = _root(path)["attributes"]["ome"].get("omero")
    if shown is None or path.suffix == ".ozx":
        return None
    out: Any = 0
    for pixels, channel in zip(zarr.open_array(path / _levels(path)[0], mode="r")[...], shown["channels"], strict=True):
        start, end = channel["window"]["start"], channel["window"]["end"]
        colour = np.frombuffer(bytes.fromhex(channel["color"]), np.uint8)
        scaled = np.clip((pixels.astype("f8") - start) / (end - start), 0, 1)
        out = out + scaled * colour[:, None, None] * channel["active"]
    return np.clip(out, 0, 255)


def _is_picture(path: Path) -> bool:
    """Return True for red, green and blue of 8 bits, which are shown as they are."""
    native = _native(path)
    return native["data_type"] == "uint8" and native["shape"][-3] == 3


def _keep(shot: bytes, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder, name).write_bytes(shot)


def _native_scale(path: Path) -> list[float]:
    """Return the size of a pixel along each axis, which OME-Zarr 0.6 states in a sequence."""
    [step, *_] = _root(path)["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    return step.get("transformations", [step])[0]["scale"]  # type: ignore[no-any-return]


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


def version(reader: str) -> str:
    """Return the release of a reader that runs here."""
    if reader.startswith("GDAL"):
        from osgeo import gdal

        return str(gdal.__version__)
    if reader == "vizarr":
        return str(json.loads(Path(sys.prefix, "vizarr", "package.json").read_text())["version"])
    return importlib.metadata.version(re.findall(r"[\w.-]+", PACKAGES[reader][0])[0])


SECONDS = 300
"""How long a reader may take for a store."""


def _late(*_: Any) -> None:
    raise TimeoutError("no answer in time")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _late)
    print(json.dumps({"version": version(sys.argv[1])}), flush=True)
    for name in sys.argv[2:]:
        signal.alarm(SECONDS)
        try:
            answer = READERS[sys.argv[1]](Path(name))
        except Exception as error:  # whatever a reader raises is what the table says of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        signal.alarm(0)
        print(json.dumps(answer, default=str).replace("\n", " "), flush=True)
