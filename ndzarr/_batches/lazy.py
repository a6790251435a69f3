"""A million targets as a Dataset at once, without a pixel being read.

1. Where the rows of a table differ only in image and window, everything but the pixels follows from its columns
   (`columnar`); other targets are resolved one by one.
2. The pixels are dask arrays with one task per batch, which does what `load_batch` does.  A task holds its rows; the
   dataset is in the graph once.
3. Names derive from the dataset, the rows and the options, so that the same call makes the same graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import xarray

from ndzarr._batches.columnar import copies, uniform_windows
from ndzarr._batches.form import (
    Array,
    Form,
    agree,
    check_sizes,
    checked_mask,
    lacking,
    mask_dims,
    pending_samples,
    read_promised,
    rows_with,
)  # fmt: skip
from ndzarr._batches.load import (
    ALONG,
    BatchContext,
    Columns,
    LazySamples,
    annotation_columns,
    centres,
    origins,
    sample_columns,
    shared_axes,
    transforms,
    window_annotations,
)  # fmt: skip
from ndzarr._pyramid.xarray import build_dataset
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.protocols import SampleSource
from ndzarr._validation import check_count
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets


@dataclass(frozen=True)
class Promise:
    """The description of a batch, before anything is read."""

    form: Form
    mask_dims: tuple[str, ...] | None
    """Axes of `valid` of a sample; None where all pixels are real."""
    origin: Array
    """Start of each sample along (y, x) in native pixels, shape (sample, 2)."""
    pitch: Array
    """Native pixels per pixel along (y, x), shape (sample, 2)."""
    columns: Columns
    annotations: Columns
    targets: Mapping[str, Array] | Sequence[Mapping[str, Any]]
    """The targets that tasks read, by column or by row."""


@dataclass(frozen=True)
class ReadTask:
    """The rows of one batch, and what they must turn out to be."""

    targets: Mapping[str, Array] | Sequence[Mapping[str, Any]]
    first: int
    keys: Mapping[str, Any]
    form: Form
    mask_dims: tuple[str, ...] | None

    def __call__(self, source: SampleSource) -> tuple[Array, Array | None]:
        """Read the batch."""
        targets: Any = self.targets
        if isinstance(targets, Mapping):
            import pandas

            targets = pandas.DataFrame(dict(targets))
        rows, plain = Rows(targets), Lookup(False)
        found = copies(source, rows, self.keys, plain)
        if found is not None and found.known.form == self.form:
            return found.read(), checked_mask(None, self.mask_dims, self.form, len(rows), self.first)
        samples = pending_samples(source, [{**t, **self.keys} for t in rows], plain, self.first)
        image, mask = read_promised(samples, self.form, self.first)
        return image, checked_mask(mask, self.mask_dims, self.form, len(samples), self.first)


def lazy_batch(
    source: SampleSource, targets: Targets | Rows, batch_size: int, lookup: Lookup, sizes: str, keys: Mapping[str, Any]
) -> xarray.Dataset:
    """Many windows as a dask-backed Dataset; see `CocoSampler.lazy_batch`."""
    batch_size = check_count("batch_size", batch_size)
    check_sizes(sizes)
    rows = Rows(targets)
    known, n = _understand(source, rows, lookup, sizes, keys), len(rows)
    placed: dict[str, Any] = {"transform": (("sample", "row", "column"), transforms(known.origin, known.pitch))}
    placed |= {**known.columns, **_centres(known, n, batch_size)}
    variables = {**_pixels(source, known, n, batch_size, keys), **placed, **known.annotations}
    context = BatchContext(LazySamples(source, rows, dict(keys), lookup), None)
    return build_dataset(variables, shared_axes(n, known.form), tuple(placed), {"ndzarr": context})


def _understand(source: SampleSource, rows: Rows, lookup: Lookup, sizes: str, keys: Mapping[str, Any]) -> Promise:
    known = uniform_windows(source, rows, keys, lookup, sizes) if lookup.annot_ids is None else None
    if known is not None:
        windows, (height, width) = known.windows, known.windows.n.T
        columns = {"size_y": height, "size_x": width, windows.name: windows.labels}
        placed: Columns = {name: (("sample",), values) for name, values in columns.items()}
        annotations = window_annotations(known)
        return Promise(known.form, known.mask_dims, windows.origin, windows.pitch, placed, annotations, known.columns)
    targets = rows_with(rows, keys)
    samples = pending_samples(source, targets, lookup)
    form = agree(samples, sizes)
    placed = sample_columns(samples, form)
    for name in ("transform", ALONG["y"], ALONG["x"]):
        del placed[name]
    masked = mask_dims(form, [s.request.shape for s in samples], [lacking(s.request) for s in samples])
    return Promise(form, masked, *origins(samples), placed, annotation_columns(samples), targets)


def _pixels(
    source: SampleSource, known: Promise, n: int, batch_size: int, keys: Mapping[str, Any]
) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Return `image` and `valid` as dask arrays, one task per batch."""
    import dask.array
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    form = known.form
    token = tokenize(source, known.targets, dict(keys), form.dims, form.shape, str(form.dtype), batch_size)
    dataset, read_name = f"ndzarr-source-{tokenize(source)}", f"ndzarr-batch-{token}"
    graph: dict[Any, Any] = {dataset: source}
    borders = [*range(0, n, batch_size), n]
    lengths = dict(zip(form.dims, form.shape, strict=True))
    for i, (a, b) in enumerate(pairwise(borders)):
        targets = known.targets
        mine = {k: v[a:b] for k, v in targets.items()} if isinstance(targets, Mapping) else targets[a:b]
        graph[read_name, i] = (ReadTask(mine, a, dict(keys), form, known.mask_dims), dataset)
    along = tuple(b - a for a, b in pairwise(borders))
    out: dict[str, tuple[tuple[str, ...], Any]] = {}
    variables = (("image", form.dims, form.dtype), ("valid", known.mask_dims, np.dtype(bool)))
    for item, (name, dims, dtype) in enumerate(variables):
        if dims is None:
            continue
        key, shape = f"{read_name}-{name}", [lengths[d] for d in dims]
        # A task returns (image, valid): each variable picks one of them, as the only chunk of its batch.
        picks: dict[Any, Any] = {
            (key, i, *[0] * len(shape)): (itemgetter(item), (read_name, i)) for i in range(len(along))
        }
        layers = HighLevelGraph({read_name: graph, key: picks}, {read_name: set(), key: {read_name}})
        chunks = (along, *[(length,) for length in shape])
        out[name] = ("sample", *dims), dask.array.Array(layers, key, chunks, dtype=dtype)
    return out


def _centres(known: Promise, n: int, batch_size: int) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Pixel centres as dask arrays: of a million samples they take gigabytes."""
    import dask.array
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    borders = [*range(0, n, batch_size), n]
    out: dict[str, tuple[tuple[str, ...], Any]] = {}
    for k, d in enumerate(("y", "x")):
        length = dict(zip(known.form.dims, known.form.shape, strict=True))[d]
        origin, pitch = known.origin[:, k], known.pitch[:, k]
        name = f"ndzarr-centres-{tokenize(origin, pitch, length, batch_size)}"
        tasks = [partial(centres, origin[a:b], pitch[a:b], length) for a, b in pairwise(borders)]
        graph: Any = {(name, i, 0): (task,) for i, task in enumerate(tasks)}
        chunks = (tuple(b - a for a, b in pairwise(borders)), (length,))
        layers = HighLevelGraph.from_collections(name, graph)
        out[ALONG[d]] = ("sample", d), dask.array.Array(layers, name, chunks, dtype=np.dtype(float))
    return out
