"""How long a million polygons take to become annotations: `python -m benchmarks.labels`."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio

import ndzarr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polygons", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        transform = rasterio.Affine(10, 0, 500000, 0, -10, 4600000)
        profile = {"driver": "GTiff", "height": 8192, "width": 8192, "count": 1, "dtype": "uint8", "sparse_ok": True}
        with rasterio.open(folder / "scene.tif", "w", **profile, crs="EPSG:32633", transform=transform):
            pass
        corner = np.random.default_rng(0).uniform((15.0, 40.8), (15.7, 41.5), (args.polygons, 2))
        square = np.array([(0, 0), (1e-4, 0), (1e-4, 1e-4), (0, 1e-4), (0, 0)])
        rings = (corner[:, None] + square).round(7).tolist()
        features = [
            {"type": "Feature", "properties": {"class": "roof"}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
            for ring in rings
        ]
        (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        start = time.perf_counter()
        made = ndzarr.dataset(folder / "a.geojson", images=folder / "scene.tif")
        seconds = time.perf_counter() - start
        print(f"{args.polygons} polygons in EPSG:4326 onto EPSG:32633: {seconds:.1f} s, {len(made.anns)} annotations")


if __name__ == "__main__":
    main()
