"""
NIfTI volumes, through nibabel (https://nipy.org/nibabel).

Their axes i, j, k are x, y, z here, then come t and c. Voxels are as stored, or scaled if the header says so. None is
turned: `affine` in the metadata says where they are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from ndzarr._formats.base import Facts, Pixels, in_order
from ndzarr._formats.colour import plain_names
from ndzarr._formats.options import Options
from ndzarr._formats.readers import ImageReader, reading
from ndzarr._geo.pixel_size import TIME, PixelSize, Statements
from ndzarr._indexing.plan import check_memory
from ndzarr.errors import OptionError, SourceError

_AXES = "xyztc"


def open_file(path: str, options: Options) -> Nifti:
    """Open a volume."""
    import nibabel

    options.refuse_series(path)
    with reading(path, "NIfTI"):
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Pair):
            raise TypeError(f"a {type(image).__name__} holds no volume")
        array, header = image.dataobj, image.header
        shape = tuple(int(n) for n in array.shape)
        sample = np.asanyarray(array[tuple([slice(0, 1)] * len(shape))])
    axes = options.axes or _AXES[: len(shape)]
    if len(axes) != len(shape):
        what = f"{path}: axes={axes!r} for an array of shape {shape}"
        raise OptionError(what, path=path, key="axes", hint="Name each axis, such as 'xyzc'")
    if len(shape) < 2 or 0 in shape or sample.dtype.kind not in "biufc":
        what = f"{path}: an array of shape {shape} and type {sample.dtype} is not an image"
        raise SourceError(what, path=path, hint="Read it with nibabel and pass an array")
    lengths = {a: n for a, n in zip(axes, shape, strict=True) if a in "cyx" or n > 1}
    dims = in_order("".join(lengths))
    notes: list[str] = []
    space, time = header.get_xyzt_units()
    said, zooms = Statements("NIfTI", notes), dict(zip(axes, header.get_zooms(), strict=False))
    sizes: dict[str, Any] = {
        a: said.quantity(
            f"pixdim along {a}", float(zooms[a]), time if a == "t" else space, TIME if a == "t" else "length"
        )
        for a in "tzyx"
        if a in zooms and a in lengths and (time if a == "t" else space) != "unknown"
    }
    about = {"format": "NIfTI", "affine": np.asarray(image.affine).tolist()}
    facts = Facts(
        name=path,
        dims=dims,
        shape=tuple(lengths.get(d, 1) for d in dims),
        dtype=sample.dtype.newbyteorder("="),
        channels=plain_names(lengths.get("c", 1)),
        band=lengths["y"],
        interleaved=False,
        pixel_size=PixelSize(**sizes, source="NIfTI"),
        metadata=about | ({"notes": notes} if notes else {}),
    )
    return Nifti(facts, array, axes, path.lower().endswith((".gz", ".bz2", ".zst")))


class Nifti(ImageReader):
    """A volume; one that is compressed is decoded as a whole."""

    def __init__(self, facts: Facts, array: Any, axes: str, compressed: bool) -> None:
        """`axes` are those of the array."""
        super().__init__(facts)
        self.sizes = (facts.shape[-2:],)  # type: ignore[assignment]
        self.tile = self.sizes[0]
        self._array, self._axes, self._compressed = array, axes, compressed
        self._lock = threading.Lock()

    def read_plane(self, level: int, at: Mapping[str, int], box: tuple[slice, slice, slice]) -> Pixels:
        window = dict(zip("cyx", box, strict=True)) | {d: slice(i, i + 1) for d, i in at.items()}
        found = np.asarray(self._stored()[tuple(window.get(a, slice(0, 1)) for a in self._axes)])
        last = [self._axes.index(d) for d in "cyx" if d in self._axes]
        first = [k for k in range(len(self._axes)) if k not in last]  # of length 1
        lengths = [s.stop - s.start for s in box]
        return found.transpose([*first, *last]).reshape(lengths).astype(self.dtype, copy=False)

    def _stored(self) -> Any:
        """Return what is indexed with slices: the file, or all voxels of a compressed one."""
        if not self._compressed:
            return _Reading(self.name, self._array)
        with self._lock:
            if not isinstance(self._array, np.ndarray):
                nbytes = prod(self._array.shape) * self.dtype.itemsize
                check_memory(nbytes, SourceError, what="a compressed volume", path=self.name, hint="Uncompress it")
                with reading(self.name, "NIfTI"):
                    self._array = np.asanyarray(self._array)
            return self._array

    def _release(self) -> None:
        """Do nothing: nibabel opens the file for each window."""


class _Reading:
    """An array of nibabel, with the errors of this package."""

    def __init__(self, path: str, array: Any) -> None:
        self._path, self._array = path, array

    def __getitem__(self, index: tuple[slice, ...]) -> Pixels:
        with reading(self._path, "NIfTI"):
            return np.asanyarray(self._array[index])
