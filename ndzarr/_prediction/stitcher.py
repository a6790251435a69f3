"""
Stitching: arrays that overlap become one pyramid.

1. `add` appends an array and its place to a file of the process (`parts`).  Nothing is summed yet, so that the order of
   the parts does not matter, memory stays small, and a killed process loses nothing that was added.
2. `close` blends the parts band by band (`blending`), and hands the bands to the writer of pyramids.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xarray

from ndzarr._formats.base import Pixels
from ndzarr._prediction.blending import Stitched, Weights, window_weights
from ndzarr._prediction.canvas import Canvas, Place
from ndzarr._prediction.parts import Part, PartsWriter, cover, read_parts
from ndzarr._prediction.workspace import Workspace
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.transcode import write_pyramid
from ndzarr._pyramid.zarr_store import open_dest
from ndzarr._remote.settings import Remote
from ndzarr._store.destinations import destination, refuse_existing_at
from ndzarr._store.presets import Encoding, choose_layout
from ndzarr._store.validity import as_pixel
from ndzarr.errors import OptionError, WindowError

_NAMES = {"gaussian", "uniform"}
_EXACT = 2**53
"""Up to here float64, of which means are, holds all integers."""
_BAND_BYTES = 4 << 20
"""Bytes of pixels that are blended before they are encoded: while one band is encoded, the next is blended."""


class Stitcher:
    """
    Put predictions for overlapping windows together into one pyramid.

    Parameters
    ----------
    like
        The image (c, y, x), video (t, c, y, x) or volume (c, z, y, x) that is predicted: a pyramid, the path of one or
        of a file that `ndzarr.open` opens, or any sample of an image, which stands for the whole image.  The result
        has its size, georeference, pixel size and times.
    dest
        Directory of the store to make, or a URL such as 's3://bucket/a.zarr'.
    channels
        Names of the channels of the result.
    dtype
        Type of the result, which has to hold the values of all arrays; by default the smallest that does.
    scale
        Pixels of the result per native pixel of `like`.  A model that gives one score for 4 x 4 pixels has 0.25.
    weights
        What pixels of a window count where windows overlap: 'gaussian' (less towards the borders), 'uniform', or a
        function that takes the lengths of a window along (y, x), of volumes (z, y, x), and returns an array of them.
    kind
        'intensity' averages; 'labels' takes the class of the window that counts most, and makes levels of labels.
    nodata
        Value of pixels that no window covers.  By default NaN for floats; other types get a mask instead.
    preset
        How the result is encoded; see `ndzarr.transcode`.
    resume
        Take up what an earlier stitcher with the same destination had added before it was killed or failed; False
        removes it.  What is added again counts once.
    run
        What arrays are made by, such as the name and the settings of a model: what was added with another `run`, for
        another image, or with other channels, is not taken up.
    overwrite
        Replace `dest` if it exists, once the result is complete.
    progress
        Show a progress bar while the result is written.
    storage_options, remote
        Credentials and settings for the URL `dest`; see `open`.

    Raises
    ------
    OptionError
        An option is not understood, or `like` cannot be used.
    ExistsError
        `dest` exists, another process is stitching it, or what is to be taken up belongs to another result.

    Notes
    -----
    Leaving the `with` block writes the result, at once or not at all.  If the block raises, what was added stays in the
    hidden directory `.NAME.stitch` beside `dest`, or, if that is a URL, in the user's cache directory, until a stitcher
    with `resume` takes it up, or one without removes it.
    Disk space for all arrays that are added is needed until then; memory for a band of the result.
    The same arrays give the same bits, in whatever order and by whatever number of processes they were added.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> pyr = ndzarr.transcode(np.arange(4096, dtype="u1").reshape(64, 64), folder + "/a.zarr")
    >>> sampler = ndzarr.Sampler({"a": pyr})
    >>> with ndzarr.Stitcher(pyr, folder + "/b.zarr", channels=["twice"]) as stitcher:
    ...     for target in sampler.targets.grid((32, 32), overlap=0.5).to_dict("records"):
    ...         sample = sampler.load_sample(target)
    ...         stitcher.add(sample, sample.image.values * 2.0)
    >>> ndzarr.open(folder + "/b.zarr").read(y=slice(0, 1), x=slice(0, 4))
    array([[[0., 2., 4., 6.]]])
    """

    def __init__(
        self,
        like: Any,
        dest: str | os.PathLike[str],
        *,
        channels: Sequence[str] = ("prediction",),
        dtype: Any = None,
        scale: float = 1.0,
        weights: Weights = "gaussian",
        kind: str = "intensity",
        nodata: float | None = None,
        preset: str = "fast",
        resume: bool = True,
        run: str = "",
        overwrite: bool = False,
        progress: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        remote: Remote | None = None,
    ) -> None:
        if not callable(weights) and weights not in _NAMES:
            raise OptionError(f"weights={weights!r}: expected 'gaussian', 'uniform' or a function", key="weights")
        self._canvas = like if isinstance(like, Canvas) else Canvas.like(like, scale)
        self._channels = (channels,) if isinstance(channels, str) else tuple(channels)
        if not self._channels or len({*self._channels}) < len(self._channels):
            what = f"channels={channels!r}: expected names that differ"
            raise OptionError(what, key="channels", hint="Name each channel of the arrays")
        self._dtype = None if dtype is None else np.dtype(dtype)
        self._weights, self._nodata = weights, nodata
        self._encoding = Encoding(preset, kind)
        self._overwrite, self._progress = overwrite, progress
        self._dest = destination(dest, storage_options, remote)
        self.path: Path | str = self._dest if isinstance(self._dest, Path) else self._dest.url
        """The destination."""
        refuse_existing_at(self._dest, overwrite)
        about = {**self._canvas.signature(), "channels": list(self._channels), "kind": kind, "run": run}
        self._workspace = Workspace(self._dest, about, resume)
        self.work = self._workspace.path
        """The directory of what was added."""
        self._writer: PartsWriter | None = None
        self._added = {part.content: part for part in read_parts(self.work, len(self._canvas.dims))}

    def __repr__(self) -> str:
        sizes = {**self._canvas.sizes, "c": len(self._channels)}
        axes = ", ".join(f"{d}={sizes[d]}" for d in self._canvas.dims)
        return f"<ndzarr.Stitcher: {self.path} ({axes}), {len(self)} windows added>"

    def __len__(self) -> int:
        """Return the number of arrays that were added."""
        return len(self._added)

    def __contains__(self, where: Any) -> bool:
        """
        Return True if an array was added for this sample or target, now or before a kill.

        It is the one whose pixels the model need not predict again.
        """
        return self.place_of(where) in {part.place for part in self._added.values()}

    def agrees(self, where: Any, array: Any) -> bool:
        """
        Return True if an array is, but for noise, what was added for a window, as one of the same model is.

        One pixel in a hundred may differ by more than a hundredth of the largest.
        """
        place, found = self._fitted(where, array)
        added = next((part for part in self._added.values() if part.place == (place.start, place.length)), None)
        if added is None:
            return False
        kept = added.pixels({}).astype(float)
        largest = np.abs(kept[np.isfinite(kept)]).max(initial=0)
        return float(np.isclose(kept, found, rtol=0, atol=largest / 100, equal_nan=True).mean()) >= 0.99

    def place_of(self, where: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return (start, length) of a sample's or a target's window in pixels of the result, along its axes."""
        place = self._canvas.place_of(where, len(self._channels))
        return place.start, place.length

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._workspace.release()

    def add(self, where: Any, array: Any) -> None:
        """
        Add the prediction for a window.

        Parameters
        ----------
        where
            The sample that was predicted, or a target with its window in native pixels of `like`, such as
            `dict(y=slice(0, 256), x=slice(0, 256))`; of videos and volumes also `t` and `z`.  Or a batch that
            `load_batch` returned.  What lies beyond the image is left out.
        array
            The prediction: numpy or torch, with the axes of `like`, where axes of length 1 may be left out; for a batch
            with the samples first.  It has the size of the window times `scale`.  Where the window begins or ends
            between pixels of the result, it is interpolated linearly, with kind='labels' by its nearest pixels.

        Raises
        ------
        WindowError
            The array does not have the size of the window.
        OptionError
            The array has other axes, channels or a type that the result cannot hold.
        """
        if isinstance(where, xarray.Dataset) and "sample" in where.dims:
            for k in range(where.sizes["sample"]):
                self.add(where.ndzarr.sample(k), array[k])
            return
        place, pixels = self._fitted(where, array)
        window_weights(self._weights, self._canvas.dims, place.length)  # what is wrong with a function is said now
        if self._writer is None or self._writer.pid != os.getpid():
            self._writer = PartsWriter(self.work)
        part = self._writer.append(place.start, pixels)
        self._added[part.content] = part

    def take(self, parts: Iterable[Part]) -> None:
        """Count what other processes wrote to files in `work` as added."""
        self._added |= {part.content: part for part in parts}

    def close(self) -> Pyramid:
        """
        Write the result and return it, open for reading.

        Raises
        ------
        OptionError
            Nothing was added.
        WriteError
            The destination cannot be written; what was added is kept.
        """
        try:
            parts = read_parts(self.work, len(self._canvas.dims), self._added.values())
            if not parts:
                raise OptionError(f"{self.path}: nothing was added", path=str(self.path), hint="Call add first")
            with self._source(parts) as source:
                write_pyramid(
                    source,
                    self._dest,
                    self._encoding,
                    overwrite=self._overwrite,
                    progress=self._progress,
                    origin={},
                    band_bytes=_BAND_BYTES,
                )
            self._workspace.remove()
        finally:
            self._workspace.release()
        return open_dest(self._dest)

    def _fitted(self, where: Any, array: Any) -> tuple[Place, Pixels]:
        """Return the place of a window, and its array in pixels of the canvas."""
        pixels = self._in_order(array)
        place = self._canvas.place_of(where, len(self._channels))
        if not place.fits(pixels.shape):
            raise self._misfit(pixels.shape, place, where)
        return place, place.fitted(pixels, self._encoding.kind == "labels")

    def _misfit(self, have: tuple[int, ...], place: Place, where: Any) -> WindowError:
        """Say that an array does not have the size of its window, and how to mend that."""
        dims, want = self._canvas.dims, (*place.length[:-2], *(n for _, n in place.covered))
        k = max(range(len(dims)), key=lambda k: abs(have[k] - want[k]))
        what = (
            f"the array has {have[k]} pixels along {dims[k]}, but its window {want[k]:g} at "
            f"scale={self._canvas.scale:g}"
        )
        scale = have[k] / want[k] * self._canvas.scale
        hint = f"Pass Stitcher(scale={scale:g}) if the model gives pixels of another size" if dims[k] in "yx" else None
        return WindowError(what, key=dims[k], window=where, hint=hint)

    def _in_order(self, array: Any) -> Pixels:
        """Return an array with the axes of the canvas, of a type that the result can be made of."""
        dims = self._canvas.dims
        if isinstance(array, xarray.DataArray):
            array = array.transpose(*[d for d in dims if d in array.dims]).values
        if hasattr(array, "detach"):  # a tensor of torch, perhaps on a GPU
            array = array.detach().cpu()
        pixels = np.asarray(array)
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        if pixels.dtype.kind not in "buif":
            raise OptionError(f"arrays of {pixels.dtype} cannot be stitched", key="array", hint="Give numbers")
        if pixels.ndim < len(dims):
            kept = [d for d in dims if d in "yx"] if pixels.ndim == 2 else self._axes_of(pixels.ndim)
            pixels = np.expand_dims(pixels, [k for k, d in enumerate(dims) if d not in kept])
        if pixels.ndim != len(dims) or pixels.shape[dims.index("c")] != len(self._channels):
            what = f"an array of shape {np.shape(array)} does not have the axes {' '.join(dims)}"
            names = ", ".join(map(repr, self._channels))
            hint = f"Give {len(self._channels)} channels ({names}); axes of length 1 may be left out"
            raise OptionError(what, key="array", hint=hint)
        self._check_type(pixels.dtype)
        averaged = pixels.dtype.str[1:] in ("i8", "u8") and self._encoding.kind != "labels"
        if averaged and max(-int(pixels.min(initial=0)), int(pixels.max(initial=0))) > _EXACT:
            hint = "Pass kind='labels' if they are classes, else give floats"
            raise OptionError("float64 does not hold the integers of the array", key="array", hint=hint)
        return pixels

    def _check_type(self, dtype: np.dtype[Any]) -> None:
        """Refuse arrays whose values the result cannot hold, or that cannot be encoded; floats may lose digits."""
        wanted = self._dtype
        if wanted is not None and not np.can_cast(dtype, wanted, "same_kind" if dtype.kind == "f" else "safe"):
            what = f"an array of {dtype} does not fit dtype={wanted}"
            raise OptionError(what, key="dtype", hint=f"Pass Stitcher(dtype={dtype.name!r}), or convert the array")
        shape = self._canvas.facts(dtype, self._channels, None).shape
        choose_layout(self._canvas.dims, shape, wanted or dtype, self._encoding)

    def _axes_of(self, ndim: int) -> list[str]:
        """Return the axes of an array that lacks some: c if there is one channel, else leading ones."""
        dims = self._canvas.dims
        kept = [d for d in dims if d != "c"] if len(self._channels) == 1 else list(dims)
        return kept[len(kept) - ndim :] if len(kept) >= ndim else list(dims)[-ndim:]

    def _source(self, parts: Sequence[Part]) -> Stitched:
        kinds = {np.dtype(part.dtype) for part in parts}
        for kind in kinds:  # also those that were added before a kill
            self._check_type(kind)
        dtype = self._dtype or np.result_type(*kinds)
        nodata = self._nodata
        if nodata is None and dtype.kind == "f":
            nodata = float("nan")
        if nodata is not None and as_pixel(nodata, dtype) is None:
            what = f"nodata={nodata:g}: no pixel of {dtype} has that value"
            raise OptionError(what, key="nodata", hint="Choose another, or none: what no window covers is then masked")
        facts = self._canvas.facts(dtype, self._channels, nodata)
        if nodata is None and not cover(parts, facts.shape):
            facts = replace(facts, masked=True)
        return Stitched(facts, parts, self._weights, self._encoding.kind == "labels")
