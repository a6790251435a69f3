"""Georeferenced images of a sampler as a GeoDataset of torchgeo, for its samplers, unions and intersections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
import shapely
import torch

from ndzarr.coco_sampler import CocoSampler
from ndzarr.errors import OptionError, TargetError
from ndzarr.sampler import Sampler
from ndzarr.torch.crops import CropDataset

try:
    from geopandas import GeoDataFrame
    from torchgeo.datasets import GeoDataset
except ImportError:  # the module can be imported and documented; making a `GeoCrops` says what is missing
    GeoDataset = GeoDataFrame = None

COLUMNS = ["left", "top", "step_x", "step_y"]
"""Columns of the index that place pixels: the coordinates of the first corner, and the size of a pixel."""


class GeoCrops(GeoDataset or object):  # type: ignore[misc]
    """
    Georeferenced images of a sampler as a `torchgeo.datasets.GeoDataset`.

    Items are dictionaries with `image` (c, y, x) as float32; with `masks='semantic'` also `mask` (y, x) of the classes
    of annotations; `crs` and `bounds`.  Where several images lie in a query, each fills what those before it do not
    show; images are taken in the order of the dataset.

    Parameters
    ----------
    sampler
        `CocoSampler` or `Sampler`.  All images need a georeference, and one reference system: nothing is warped.
    res
        Size of a pixel, or (along x, along y), in units of the reference system; that of the first image by default.
    transforms
        Takes and returns the dictionary of an item.
    **options
        Options of `ndzarr.torch.CropDataset`, such as `masks`, `keys={'channels': 'r|g|b'}` or `normalise`.

    Raises
    ------
    TargetError
        An image has no georeference, one that is rotated, or another reference system than the others.
    OptionError
        An option is not understood, or decides what the query decides.

    Notes
    -----
    Queries are moved to whole pixels of each image, by less than one.  Dates are those of the dataset; images without
    one are there at all times.
    """

    paths = ()

    def __init__(
        self,
        sampler: CocoSampler | Sampler,
        *,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        if GeoDataset is None:
            raise OptionError("GeoCrops needs torchgeo", hint="Run pip install 'torchgeo>=0.8'")
        self.sampler, self.transforms, self.options = sampler, transforms, options
        if options.get("format", "dict") != "dict" or options.get("masks") == "instance":
            raise OptionError("format: torchgeo takes dictionaries with one mask", key="format")
        self.name = "gid" if isinstance(sampler, CocoSampler) else "key"
        ids = list(sampler.dset.index.imgs) if isinstance(sampler, CocoSampler) else list(sampler.sources)
        places = [_placed(sampler, {self.name: i}) for i in ids]
        self.index = _index(ids, places, [_dates(sampler, i) for i in ids])
        first = self.index.iloc[0]
        given = (float(first["step_x"]), float(first["step_y"])) if res is None else res
        self._res = (float(given), float(given)) if isinstance(given, int | float) else given

    @property
    def crs(self) -> Any:
        """The reference system of all images."""
        return self.index.crs

    @crs.setter
    def crs(self, new: Any) -> None:
        """Raise `OptionError` for another one: nothing is warped."""
        if new != self.index.crs:
            message = "crs: the images of an ndzarr dataset are not warped to another reference system"
            raise OptionError(message, key="crs", hint="Name it first in a union or an intersection")

    def __getitem__(self, query: Any) -> dict[str, Any]:
        """Return the pixels of [xmin:xmax:xres, ymin:ymax:yres, tmin:tmax:tres]."""
        x, y, t = self._disambiguate_slice(query)
        hits = self.index.iloc[self.index.index.overlaps(pandas.Interval(t.start, t.stop, closed="both"))].iloc[
            :: t.step
        ]
        hits = hits.cx[x.start : x.stop, y.start : y.stop]
        if hits.empty:
            raise IndexError(f"query: {query} not found in index with bounds: {self.bounds}")
        out: dict[str, Any] = {}
        real: torch.Tensor | None = None
        for _, row in hits.iterrows():
            target = _window(row, x, y) | {self.name: row["id"]}
            crop = CropDataset(self.sampler, [target], **{"annotations": False, **self.options})[0]
            image = crop["image"].to(torch.float32)
            shown = crop.get("valid", torch.ones(image.shape[-2:], dtype=torch.bool))
            shown = shown.any(dim=0) if shown.ndim > 2 else shown  # channels may differ
            layers = {"image": image} | ({"mask": crop["masks"]} if "masks" in crop else {})
            if real is None:
                out, real = layers, shown
            else:
                more = shown & ~real
                out = {name: torch.where(more, layer, out[name]) for name, layer in layers.items()}
                real = real | shown
            if bool(real.all()):
                break
        sample = {"crs": self.crs, "bounds": query, **out}
        return sample if self.transforms is None else self.transforms(sample)


def _placed(sampler: CocoSampler | Sampler, target: dict[str, Any]) -> tuple[str, tuple[float, ...], tuple[int, int]]:
    """Return the reference system of an image as text, its transform, and its (height, width)."""
    sample = sampler.load_sample({**target, "lazy": True})
    found = sample.coords.get("spatial_ref")
    name = f"{next(iter(target.values()))!r}"
    if found is None or "GeoTransform" not in found.attrs:
        message = f"image {name} has no crs and transform"
        raise TargetError(message, key="crs", hint="Leave it out")
    c, a, b, f, d, e = map(float, str(found.attrs["GeoTransform"]).split())
    if b or d or a <= 0 or e >= 0:
        raise TargetError(f"image {name} is rotated in its crs, or not north up", key="crs", hint="Leave it out")
    height, width = sample["image"].shape[-2:]
    return str(found.attrs.get("crs_wkt", "")), (a, e, c, f), (height, width)


def _index(ids: list[Any], places: list[Any], dates: list[Any]) -> Any:
    """Return a GeoDataFrame with a row for each image, by its dates."""
    if not ids:
        raise TargetError("the sampler has no images", key="gid")
    for i, (text, _, _) in zip(ids, places, strict=True):
        if text != places[0][0]:
            message = f"images {ids[0]!r} and {i!r} have different reference systems, crs"
            raise TargetError(message, key="crs", hint="Make a dataset of each")
    boxes = [shapely.box(c, f + e * h, c + a * w, f) for _, (a, e, c, f), (h, w) in places]
    columns: dict[str, Any] = {"id": ids}
    steps = np.array([(c, f, a, -e) for _, (a, e, c, f), _ in places]).T
    columns |= dict(zip(COLUMNS, steps, strict=True))
    when = pandas.IntervalIndex.from_tuples(dates, closed="both", name="datetime")
    return GeoDataFrame(columns, index=when, geometry=boxes, crs=places[0][0])


def _dates(sampler: CocoSampler | Sampler, ident: Any) -> tuple[Any, Any]:
    """Return the first and the last moment of an image."""
    if isinstance(sampler, CocoSampler):
        date = sampler.load_sample({"gids": [ident], "lazy": True, "space_slice": CORNER}, with_annots=False)["t"]
        if date.dtype.kind == "M":
            moment = pandas.Timestamp(date.values[0])
            alone = moment == moment.normalize()  # a date without a time is all of that day, as in torchgeo
            return moment, moment + pandas.Timedelta("1D" if alone else "1s") - pandas.Timedelta("1us")
    return pandas.Timestamp.min, pandas.Timestamp.max


CORNER = (slice(0, 1), slice(0, 1))


def _window(row: Any, x: slice, y: slice) -> dict[str, Any]:
    """Return the window of a query in whole pixels of an image, and its size in pixels of the query."""
    left, top = round((x.start - row["left"]) / row["step_x"]), round((row["top"] - y.stop) / row["step_y"])
    width = max(1, round((x.stop - x.start) / row["step_x"]))
    height = max(1, round((y.stop - y.start) / row["step_y"]))
    out = max(1, round((y.stop - y.start) / y.step)), max(1, round((x.stop - x.start) / x.step))
    return {"y": slice(top, top + height), "x": slice(left, left + width), "output_dims": out}
