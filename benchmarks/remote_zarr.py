"""Crops read by zarr-python over obstore, in an environment of its own.

`python -m benchmarks.remote --zarr PYTHON` runs this file by a Python that has zarr and obstore, such as one with
zarr 3.4, whose `FusedCodecPipeline` is then used.  It reads a line of JSON (URLs of arrays, crops, requests at a time,
rounds) and writes one: seconds and seconds of CPU of each round, and the crc32 of the first crops.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import zlib
from typing import Any


async def read(arrays: Any, jobs: Any) -> list[Any]:
    """Read all crops at once."""
    return await asyncio.gather(
        *[arrays[k].getitem((slice(None), slice(y, y + edge), slice(x, x + edge))) for k, y, x, edge in jobs]
    )


async def race(task: dict[str, Any]) -> dict[str, Any]:
    """Read the crops some times."""
    import zarr
    import zarr.api.asynchronous as api
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore

    zarr.config.set({"async.concurrency": task["inflight"]})
    if fused := hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
        zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"})
    arrays = []
    for url in task["urls"]:
        store = HTTPStore.from_url(url, client_options={"allow_http": True})
        arrays.append(await api.open_array(store=ObjectStore(store, read_only=True), mode="r"))
    runs, found = [], []
    for _ in range(task["rounds"]):
        begin = time.perf_counter(), time.process_time()
        found = await read(arrays, task["jobs"])
        runs.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    sums = [zlib.crc32(crop.tobytes()) for crop in found[:50]]
    return {"name": f"zarr-python {zarr.__version__}{', fused' if fused else ''}", "runs": runs, "sums": sums}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(race(json.loads(sys.stdin.readline())))))
