"""
What a stranger may send: stores, datasets and image files of which a part was changed, one seed per change.

    python tests/campaigns/mutations.py KIND FIRST LAST FOLDER

tries the changes with seeds FIRST to LAST in this process, under limits of memory and time.  It prints a line of JSON
before and after each, so that whoever started it knows at which one it died.
"""

import copy
import io
import json
import random
import resource
import shutil
import signal
import sys
import traceback
import warnings
from pathlib import Path

import google_crc32c
import imagecodecs
import numpy as np
import tifffile
from PIL import Image

MEMORY = 3 << 30
"""Bytes of address space of a process: imports take about half of it."""
SECONDS = 10
"""Most seconds of CPU time that one change may take, and a tenth of the time in all, which others have a share of."""

ODD = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 255, 1.5, -0.5, 1e308, float("nan"), float("inf")),
    *(10**5, 10**7, 2**31, 2**40, 10**12, 2**63, 2**64, 10**30, -(10**12)),
    *("", "a", "a\0b", "../../..", "/", "image", "\ud800", "x" * 5000, "NaN", "0x00", "uint8", "pickle"),
    *([], [0], [1, 2], [[]], {}, {"name": "pickle"}, {"id": "pickle"}, {"a": 1}, [10**12] * 3, [None] * 3),
    list(range(5000)),
]  # fmt: skip


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def places(document, path=()):
    """Return the paths of all values of a JSON document."""
    found = [path] if path else []
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        found += places(value, (*path, key))
    return found


def changed_json(rng, document):
    """Return a document of which one to three values were replaced, removed, repeated or scaled; and what was done."""
    document, done = copy.deepcopy(document), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        *way, last = rng.choice(places(document))
        parent = document
        for key in way:
            parent = parent[key]
        old, how = parent[last], rng.randrange(10)
        if how == 0:
            del parent[last]
        elif how == 1 and isinstance(parent, list):
            parent.insert(last, copy.deepcopy(old))
        elif how == 2 and isinstance(old, (int, float)) and old == old:
            parent[last] = old * rng.choice([-1, 0.5, 2, 10**6, 10**30]) + rng.choice([-1, 0, 1])
        elif how == 3:
            parent[last] = nested(rng.choice([5, 400]))
        else:
            parent[last] = copy.deepcopy(rng.choice(ODD))
        done.append(
            f"{'/'.join(map(str, (*way, last)))} -> {repr(parent[last])[:60] if last in _keys(parent) else 'gone'}"
        )
        if not places(document):
            break
    return document, "; ".join(done)


def _keys(parent):
    return parent if isinstance(parent, dict) else range(len(parent))


def changed_bytes(rng, data):
    """Return bytes of which some were flipped, cut, repeated, zeroed or swapped; and what was done."""
    data, how = bytearray(data), rng.choice(["flip", "flip", "byte", "cut", "zero", "repeat", "swap", "insert"])
    at = rng.randrange(min(len(data), rng.choice([64, 512, len(data)])))
    n = rng.choice([1, 4, 16, 256])
    if how == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif how == "byte":
        data[at : at + n] = bytes(rng.choice([0, 1, 127, 128, 255]) for _ in data[at : at + n])
    elif how == "cut":
        del data[at:]
    elif how == "zero":
        data[at : at + n] = bytes(len(data[at : at + n]))
    elif how == "repeat":
        data[at:at] = data[at : at + n]
    elif how == "swap":
        to = rng.randrange(len(data))
        data[at : at + n], data[to : to + n] = data[to : to + n], data[at : at + n]
    else:
        data[at:at] = rng.randbytes(n)
    return bytes(data), f"{how} {n} at {at}"


def photo(height, width):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (17 + 3 * k)) + np.cos(y / (23 - 2 * k)) for k in range(3)]
    return np.clip(np.stack(waves, -1) * 55 + 128, 0, 255).astype(np.uint8)


# Each of these makes its input once, and returns a function that tries the change of one random generator.


def store(folder):
    """Change the metadata of stores: ndzarr's own, and those of Zarr v2 and v3 that zarr-python reads."""
    import zarr

    import ndzarr
    from ndzarr._store.metadata import DIGEST

    pixels = photo(150, 200)
    own, v2, v3 = folder / "own.zarr", folder / "v2.zarr", folder / "v3.zarr"
    ndzarr.transcode(pixels, own)
    zarr.create_array(v2, data=pixels[..., 0], chunks=(64, 64), zarr_format=2)
    zarr.create_array(v3, data=pixels[..., 0], chunks=(64, 64), compressors=zarr.codecs.GzipCodec())
    files = [own / "zarr.json", own / "zarr.json", own / "zarr.json", v2 / ".zarray", v3 / "zarr.json"]
    content = {file: json.loads(file.read_text()) for file in files}
    del content[files[0]]["attributes"]["ndzarr"][DIGEST]  # else a change of anything is known for one
    for path in (own, v2, v3):
        use_store(ndzarr, path)  # imports everything, before anything is timed

    def attempt(rng, note):
        file = rng.choice(files)
        document, what = changed_json(rng, content[file])
        note(f"{file.parent.name}: {what}")
        try:
            file.write_text(json.dumps(document))
            use_store(ndzarr, file.parent)
        finally:
            file.write_text(json.dumps(content[file]))

    return attempt


def use_store(ndzarr, path):
    refusing(lambda: ndzarr.verify(path))
    pyramid = ndzarr.open(path)
    refusing(lambda: repr(pyramid))
    refusing(
        lambda: (pyramid.nodata, pyramid.times, pyramid.georeference, pyramid.pixel_size, pyramid.notes, pyramid.kind)
    )
    for level in range(min(3, len(pyramid.levels))):
        lengths = dict(zip(pyramid.dims, pyramid.levels[level].shape, strict=True))
        ask = {d: slice(0, min(n, 40)) for d, n in lengths.items()}
        pixels = refusing(lambda level=level, ask=ask: pyramid.read(level=level, **ask))
        if pixels is not None:
            assert pixels.shape == tuple(min(n, 40) for n in lengths.values())
    if pyramid.dims[-2:] == ("y", "x"):
        refusing(lambda: pyramid.window(y=slice(0, 50), x=slice(0, 50), scale=0.5))
    refusing(lambda: pyramid.to_xarray())


def shard(folder):
    """Change the bytes of shards, and the entries of their indexes with right checksums."""
    import ndzarr

    path = folder / "a.zarr"
    pixels = photo(300, 400)
    ndzarr.transcode(pixels, path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and "image" in p.parts and p.name != "zarr.json")
    want = [ndzarr.open(path).read(level=k) for k in range(2)]

    def attempt(rng, note):
        file = rng.choice(files)
        before = file.read_bytes()
        if rng.random() < 0.5:
            after, what = changed_bytes(rng, before)
        else:
            after, what = changed_index(rng, before)
        note(f"{file.relative_to(path)}: {what}")
        try:
            file.unlink()
            file.write_bytes(after)
            (path / "zarr.json").touch()
            pyramid = ndzarr.open(path)
            report = ndzarr.verify(path)
            for k in range(2):
                got = refusing(lambda k=k: pyramid.read(level=k))
                if got is not None and "index" not in what:
                    assert np.array_equal(got, want[k]), "wrong pixels"
            assert isinstance(report.ok, bool)
        finally:
            file.unlink()
            file.write_bytes(before)

    return attempt


def changed_index(rng, data):
    chunks = 1
    while google_crc32c.value(data[-16 * chunks - 4 : -4]) != int.from_bytes(data[-4:], "little"):
        chunks += 1
    table = np.frombuffer(data[-16 * chunks - 4 : -4], "<u8").copy()
    k = rng.randrange(len(table))
    table[k] = rng.choice(
        [0, 1, int(table[k]) + 1, len(data), 2**31, 2**63, 2**64 - 1, 2**64 - 2, int(rng.choice(table))]
    )
    raw = table.tobytes()
    return data[: -16 * chunks - 4] + raw + google_crc32c.value(raw).to_bytes(4, "little"), f"index {k} -> {table[k]}"


def coco(folder):
    """Change a dataset with boxes, polygons, masks, keypoints, a video and assets."""
    import ndzarr

    Image.fromarray(photo(100, 120)).save(folder / "a.png")
    Image.fromarray(photo(100, 120)[..., 0]).save(folder / "b.png")
    dataset = {
        "info": [{"type": "process"}],
        "categories": [
            {"id": 1, "name": "cat", "supercategory": "animal", "keypoints": ["nose"], "skeleton": [[1, 1]]},
            {"id": 2, "name": "animal"},
        ],
        "videos": [{"id": 1, "name": "v", "width": 120, "height": 100, "resolution": "1 meters"}],
        "images": [
            {"id": 1, "file_name": str(folder / "a.png"), "width": 120, "height": 100, "channels": "r|g|b"},
            {
                "id": 2,
                "name": "n",
                "width": 120,
                "height": 100,
                "video_id": 1,
                "frame_index": 0,
                "nodata": 0,
                "date_captured": "2020-01-01",
                "sensor_coarse": "S2",
                "warp_img_to_vid": {"scale": 1.0},
                "assets": [
                    {
                        "file_name": str(folder / "b.png"),
                        "width": 120,
                        "height": 100,
                        "channels": "gray",
                        "warp_aux_to_img": {"offset": [0, 1]},
                    }
                ],
            },
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [10, 20, 30, 40],
                "iscrowd": 0,
                "score": 0.5,
                "segmentation": [[10, 20, 40, 20, 40, 60]],
                "keypoints": [15, 30, 2],
                "weight": 1.0,
            },
            {
                "id": 2,
                "image_id": 2,
                "category_id": 2,
                "bbox": [1, 2, 3, 4],
                "track_id": 5,
                "area": 12,
                "segmentation": {"size": [100, 120], "counts": [5000, 200, 6800]},
            },
        ],
    }

    use_dataset(ndzarr, dataset, folder)

    def attempt(rng, note):
        changed, what = changed_json(rng, dataset)
        note(what)
        use_dataset(ndzarr, changed, folder)

    return attempt


def use_dataset(ndzarr, dataset, folder):
    sampler = ndzarr.CocoSampler(dataset, folder / "work")
    targets = [{"gid": g, "cx": 50, "cy": 50, "width": 64, "height": 48} for g in (1, 2)]
    targets += [{"aid": a, "width": 32, "height": 32} for a in (1, 2)]
    targets += [{"vidid": 1, "cx": 50, "cy": 50, "width": 64, "height": 48}]
    for target in targets:
        sample = refusing(lambda target=target: sampler.load_sample(target))
        if sample is not None:
            assert sample.image.shape[-2:] == (target["height"], target["width"])
            refusing(lambda sample=sample: sample.ndzarr.detections)
    refusing(lambda: repr(sampler))
    refusing(lambda: sampler.classes)
    refusing(lambda: sampler.targets.positives((32, 32)))
    refusing(lambda: sampler.targets.negatives(3, (32, 32), seed=0))
    refusing(lambda: sampler.targets.grid((64, 64)))
    refusing(lambda: sampler.load_batch([{"gid": 1, "cx": 50, "cy": 50, "width": 32, "height": 32}] * 2))


def image(folder):
    """Change the bytes of image files."""
    import ndzarr

    pixels = photo(90, 120)
    files = {}
    for kind, options in {"png": {}, "jpg": {}, "webp": {"lossless": True}, "gif": {}, "bmp": {}}.items():
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, {"jpg": "JPEG"}.get(kind, kind.upper()), **options)
        files[f"a.{kind}"] = buffer.getvalue()
    for name, options in {
        "tiled.tif": {"tile": (32, 32), "compression": "zlib", "photometric": "rgb"},
        "strips.tif": {"rowsperstrip": 16, "compression": "lzw", "photometric": "rgb", "predictor": True},
        "plain.tif": {"photometric": "rgb", "description": "a picture", "resolution": (300, 300)},
    }.items():
        tifffile.imwrite(folder / name, pixels, **options)
        files[name] = (folder / name).read_bytes()
    files["a.jp2"] = imagecodecs.jpeg2k_encode(pixels, level=0)
    np.save(folder / "a.npy", pixels)
    files["a.npy"] = (folder / "a.npy").read_bytes()

    def attempt(rng, note):
        name = rng.choice(list(files))
        data, what = changed_bytes(rng, files[name])
        note(f"{name}: {what}")
        path = folder / name
        path.write_bytes(data)
        if name.endswith("tif"):
            pyramid = refusing(lambda: ndzarr.open(path))
            if pyramid is not None and all(n < 5000 for n in pyramid.shape):
                refusing(lambda: pyramid.read(**{d: slice(0, 40) for d in pyramid.dims}))
        shutil.rmtree(folder / "out.zarr", ignore_errors=True)
        ndzarr.transcode(path, folder / "out.zarr", max_pixels=10**7)

    return attempt


KINDS = {"store": store, "shard": shard, "coco": coco, "image": image}


def refusing(use):
    """Return what a use returns; None if it is refused."""
    from ndzarr.errors import NdzarrError

    try:
        return use()
    except NdzarrError:
        return None


def too_slow(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def main(kind, first, last, folder):
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, too_slow)
    signal.signal(signal.SIGPROF, too_slow)
    attempt = KINDS[kind](Path(folder))
    for seed in range(int(first), int(last)):
        notes = []
        print(json.dumps({"begin": seed}), flush=True)
        signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            refusing(lambda seed=seed, notes=notes: attempt(random.Random(f"{kind} {seed}"), notes.append))
            outcome = None
        except BaseException as error:  # any error that is not one of ndzarr's is a finding
            where = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)][-4:]
            outcome = f"{type(error).__name__}: {str(error)[:200]} at {' '.join(where)}"
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"end": seed, "change": notes, "fault": outcome}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
