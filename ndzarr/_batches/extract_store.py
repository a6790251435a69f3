"""Extracted samples on disk.

One Zarr v3 group that xarray opens as one Dataset.  `image` and `valid` are sharded: a sample is a chunk (large ones
are cut), a shard holds as many samples as make about 32 MB, and is written by one task, in one go, out of pixels that
were read by one plan.  Columns are plain arrays, written at the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr._batches.columnar import uniform_windows
from ndzarr._batches.form import Array, Form, Pending, agree, lacking, mask_dims, pending_samples
from ndzarr._indexing.selection import lengths
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.protocols import SampleSource
from ndzarr._store.arrays import SEAL
from ndzarr._store.codecs import ChunkCodec
from ndzarr._store.metadata import CHECKSUM, DIGEST, files_sum, metadata_digest, sharded_array
from ndzarr._store.presets import CHUNK, SHARD, Encoding, choose_codec
from ndzarr._store.presets import Layout as ArrayLayout
from ndzarr._store.sharding import Seal, ShardWriter, seal_of
from ndzarr._validation import check_count
from ndzarr.errors import TargetError
from ndzarr.targets.table import Rows

SHARD_BYTES = 32 << 20
"""Decoded bytes of a shard of images: buffers of up to so many are used again by the allocator of glibc, larger ones
are returned to the system each time, which made extractions 10% slower."""
CHUNK_BYTES = 8 << 20
"""Decoded bytes of a sample beyond which it is cut into several chunks."""
EDGE = 512
"""Pixels along y and x of chunks of such samples."""
BLOCK = 1024
"""Targets that are resolved at a time."""
OBJECTS = 4 << 10
"""Bytes of what Python knows about a sample while it is read (measured: 1.3 KB of a row of a table, else 3.5 KB)."""
TOGETHER = 2
"""Samples that are resampled at a time: more threads would wait for the one that decodes."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Memory that reading a sample takes besides its own pixels."""

    beside: int = 0
    """Bytes of the stored pixels that it is resampled or converted from; of all samples of a shard at a time."""
    working: int = 0
    """Bytes of the floats that it passes through; of few samples at a time."""

    def most(self, other: Taken) -> Taken:
        """Return the larger of both."""
        return Taken(max(self.beside, other.beside), max(self.working, other.working))


@dataclass(frozen=True)
class ShardedArray:
    """A sharded array along `sample`, of which tasks write whole shards."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    codec: ChunkCodec
    """Shape of a chunk, (1, ...)."""
    per_shard: tuple[int, ...]
    """Chunks of a shard along each axis: some samples, and all of the other axes."""

    def metadata(self, sums: Sequence[bytes]) -> dict[str, Any]:
        """Return its `zarr.json`; `sums` is what `write` returned of each shard."""
        layout = ArrayLayout(self.codec.shape, self.per_shard, self.codec)
        node = sharded_array(self.shape, self.dims, layout, self.dtype.type(0))
        grid = (len(sums), *[1] * (len(self.shape) - 1))
        node["attributes"][SEAL] = str(Seal(grid, b"".join(sums)))
        return node

    def path(self, root: Path, number: int) -> Path:
        """Return the path of a shard."""
        return root.joinpath(self.name, "c", str(number), *["0"] * (len(self.shape) - 1))

    def write(self, root: Path, number: int, pixels: Array) -> bytes:
        """Write one shard, of the pixels of all its samples (sample, ...); return what a `Seal` says of it."""
        grid = [range(ceil(n / c)) for n, c in zip(pixels.shape[1:], self.codec.shape[1:], strict=True)]
        writer = ShardWriter(self.path(root, number), self.per_shard, len(pixels) * prod(map(len, grid)))
        try:
            for k, sample in enumerate(pixels):
                for position in product(*grid):
                    done = writer.add((k, *position), self._encode(sample, position))
            assert done
            return seal_of(writer.finish())
        finally:
            writer.close()

    def _encode(self, sample: Array, position: tuple[int, ...]) -> bytes:
        lengths = self.codec.shape[1:]
        chunk = sample[tuple(slice(i * n, i * n + n) for i, n in zip(position, lengths, strict=True))]
        if chunk.shape != lengths:  # beyond the border anything may stand
            chunk = np.pad(chunk, [(0, n - have) for n, have in zip(lengths, chunk.shape, strict=True)], mode="edge")
        return self.codec.encode(chunk[None])


@dataclass(frozen=True)
class Layout:
    """The sharded arrays of an extraction."""

    image: ShardedArray
    valid: ShardedArray | None
    samples: int
    """Samples of a shard."""
    taken: Taken

    @property
    def arrays(self) -> tuple[ShardedArray, ...]:
        """`image`, and `valid` if there is one."""
        return (self.image,) if self.valid is None else (self.image, self.valid)

    @property
    def shards(self) -> int:
        """Number of shards of each array."""
        return ceil(self.image.shape[0] / self.samples)

    @property
    def task_bytes(self) -> int:
        """Memory that a task takes at most: the pixels and masks of a shard, and what they are made from."""
        image, *masks = [prod(a.shape[1:]) * a.dtype.itemsize for a in self.arrays]
        # Masks are there three times: those of crops become those of samples, and of the shard.
        sample = OBJECTS + self.taken.beside + image + 3 * sum(masks)
        return sample * self.samples + self.taken.working * min(TOGETHER, self.samples)


def layout(
    n: int, form: Form, mask_dims: tuple[str, ...] | None, preset: str, shard: int | None, taken: Taken
) -> Layout:
    """Lay out n samples, with `shard` samples per shard, or as many as make 32 MB with what reading them takes."""
    if shard is not None:
        shard = check_count("shard", shard)
    size = max(1, prod(form.shape) * form.dtype.itemsize)
    samples = min(n, shard or max(1, SHARD_BYTES // (size + taken.beside)))
    lengths = dict(zip(form.dims, form.shape, strict=True))
    chunk = dict(lengths)
    for d, most in (("t", 1), ("z", 1), ("y", EDGE), ("x", EDGE)):
        if d in chunk and prod(chunk.values()) * form.dtype.itemsize > CHUNK_BYTES:
            chunk[d] = min(chunk[d], most)

    def array(name: str, dims: tuple[str, ...], dtype: np.dtype[Any], encoding: Encoding) -> ShardedArray:
        chunks = (1, *[chunk[d] for d in dims])
        number = (samples, *[ceil(lengths[d] / chunk[d]) for d in dims])
        chain = choose_codec(("sample", *dims), chunks, dtype, encoding)
        # Samples are written once and soon read: lz4 encodes photographs 2.7 times as fast as lz4hc, in 3% more space.
        chain = replace(chain, cname="lz4", level=9) if chain.cname == "lz4hc" else chain
        return ShardedArray(name, ("sample", *dims), (n, *[lengths[d] for d in dims]), dtype, chain, number)

    image = array("image", form.dims, form.dtype, Encoding(preset))
    mask = None if mask_dims is None else array("valid", mask_dims, np.dtype(bool), Encoding("fast", "labels"))
    return Layout(image, mask, samples, taken)


def consolidate(root: Path, own: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """
    Gather the metadata of all arrays in the group's, so that opening the store reads one file.

    `own` is the group's attribute `ndzarr`, `attributes` are others.  Columns get the checksum of their files.
    """
    nodes = {}
    for file in sorted(root.glob("*/zarr.json")):
        node = json.loads(file.read_text())
        if SEAL not in node["attributes"]:
            node["attributes"][CHECKSUM] = files_sum(file.parent)
            file.write_text(json.dumps(node))
        nodes[file.parent.name] = node
    group = json.loads((root / "zarr.json").read_text())
    stated = {**group["attributes"], **attributes, "ndzarr": dict(own)}
    stated["ndzarr"][DIGEST] = metadata_digest(stated, nodes)
    group["attributes"] = stated
    group["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": nodes}
    (root / "zarr.json").write_text(json.dumps(group))


@dataclass(frozen=True)
class Survey:
    """The form and the order of all samples."""

    form: Form
    mask_dims: tuple[str, ...] | None
    """Axes of `valid` of a sample; None where all pixels are real."""
    locality: Array
    """Positions of the targets, those that lie near each other together; shape (sample,)."""
    taken: Taken


def survey(source: SampleSource, rows: Rows, keys: Mapping[str, Any], lookup: Lookup, sizes: str) -> Survey:
    """Look at all targets."""
    if not len(rows):
        raise TargetError("targets is empty: there is nothing to extract", key="targets")
    known = uniform_windows(source, rows, keys, lookup, sizes)
    if known is not None:
        images = np.empty(len(rows), np.intp)
        for k, (_, members) in enumerate(known.windows.by_id):
            images[members] = k
        return Survey(known.form, known.mask_dims, _near(images, known.windows.origin), _taken(known.first))
    first: Pending | None = None
    forms: list[Form] = []
    lacks: set[str] = set()
    taken = Taken()
    names, corners = [], []
    for start in range(0, len(rows), BLOCK):
        samples = pending_samples(source, [{**row, **keys} for row in rows[start : start + BLOCK]], lookup, start)
        first = first or samples[0]
        forms.append(agree(samples, sizes, first, start))
        taken = reduce(Taken.most, map(_taken, samples), taken)
        requests = [s.request for s in samples]
        lacks |= {lacking(r) for r in requests}
        lacks |= {"planes"} if any(r.shape != forms[0].shape for r in requests) else set()
        names += [str(r.ids) for r in requests]
        corners += [(r.scene.y[0], r.scene.x[0]) for r in requests]
    assert first is not None
    shape = tuple(map(max, zip(*[f.shape for f in forms], strict=True)))
    form = Form(forms[0].dims, shape, forms[0].dtype, forms[0].channels)
    codes = np.unique(names, return_inverse=True)[1]
    return Survey(form, mask_dims(form, [], lacks), _near(codes, np.array(corners, float)), taken)


def _taken(sample: Pending) -> Taken:
    request = sample.request
    read = [c for c in request.crops if not c.region.exact or c.region.shape != request.shape[-2:]]  # or is warped
    stored = sum(prod(lengths(c.request[1])) * c.pyramid.dtype.itemsize for c in read)
    converted = sum(prod(c.shape) * c.pyramid.dtype.itemsize for c in request.crops if c.pyramid.dtype != request.dtype)
    resampled = [prod(lengths(c.request[1])) + 2 * prod(c.shape) for c in request.crops if not c.region.exact]
    return Taken(stored + converted, max(4, request.dtype.itemsize) * max(resampled, default=0))


def _near(images: Array, origin: Array) -> Array:
    """Order by image, then by shard, then by rows of chunks, alternately from left to right and back."""
    shard = np.floor(origin / SHARD)
    row = np.floor(origin[:, 0] / CHUNK)
    x = np.where(row % 2, -origin[:, 1], origin[:, 1])
    return np.lexsort((x, row, shard[:, 1], shard[:, 0], images))
