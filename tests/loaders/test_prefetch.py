"""Batches that a worker reads ahead."""

import numpy as np
import pytest

import ndzarr
from helpers.arrays import photo

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("prefetch_bytes", [1, 10**9])
def test_reading_ahead_changes_neither_batches_nor_the_order_of_transforms(http, prefetch_bytes):
    ndzarr.transcode(photo(200, 300), http.folder / "a.zarr")
    rng = np.random.default_rng(0)
    targets = [{"key": "a", "y": slice(y, y + 32), "x": slice(x, x + 32)} for y, x in rng.integers(0, 160, (25, 2))]
    got = []
    for url, options in ((str(http.folder / "a.zarr"), {}), (f"{http.url}/a.zarr", {"prefetch_bytes": prefetch_bytes})):
        seen = []

        def transform(batch, seen=seen):
            seen.append(batch["index"].tolist())
            return batch

        crops = ndzarr.torch.CropDataset(ndzarr.Sampler({"a": url}), targets, batch_transform=transform)
        batches = list(ndzarr.torch.loader(crops, 4, workers=0, seed=3, **options))
        assert seen == [batch["index"].tolist() for batch in batches]
        got.append(torch.cat([batch["image"] for batch in batches]))
    assert torch.equal(*got)
