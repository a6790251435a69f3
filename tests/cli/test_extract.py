"""`ndzarr extract`: what is asked for is in the store, and what is wrong is one line."""

import json
import re
import signal

import numpy as np
import pandas
import pytest
import xarray
from PIL import Image

import ndzarr
from helpers.arrays import photo

THREADS = ["--scheduler", "threads"]  # this process has threads, and should not fork


@pytest.fixture
def dataset(folder):
    """data.kwcoco.json, of two images with three annotations."""
    for gid, (height, width) in {1: (300, 400), 2: (200, 260)}.items():
        Image.fromarray(photo(height, width, gid)).save(folder / f"{gid}.png")
    content = {
        "images": [
            {"id": 1, "file_name": "1.png", "width": 400, "height": 300, "channels": "r|g|b"},
            {"id": 2, "file_name": "2.png", "width": 260, "height": 200, "channels": "r|g|b"},
        ],
        "categories": [{"id": 1, "name": "boat"}],
        "annotations": [
            {"id": k, "image_id": 1 + k % 2, "category_id": 1, "bbox": [20 * k, 30, 25, 15]} for k in (1, 2, 3)
        ],
    }
    (folder / "data.kwcoco.json").write_text(json.dumps(content))
    return ndzarr.CocoSampler("data.kwcoco.json", "work")


def extract(run, *args, code=0):
    where = [] if "--scheduler" in args else THREADS
    return run("extract", "data.kwcoco.json", "-o", "out.zarr", "--workdir", "work", *where, *args, code=code)


def opened():
    with xarray.open_zarr("out.zarr") as found:
        return found.load()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_the_windows_of_a_table_are_extracted(run, dataset, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    table = pandas.DataFrame({"gid": [1, 2, 1], "cx": [50, 60, 70], "cy": 50, "width": 32, "height": 24})
    options = {} if suffix == "json" else {"index": False}
    getattr(table, f"to_{suffix}")(f"table.{suffix}", **options)
    done = extract(run, "--targets", f"table.{suffix}", "--channels", "b|r", "--dtype", "float32")
    assert re.fullmatch(r"wrote out\.zarr \(3 samples\), .*\n", done.out)
    assert done.err.startswith("extracting 3 samples of 2 x 24 x 32 float32 into 1 shard; memory: 1 worker x ")
    expected = dataset.load_batch(table, channels="b|r", dtype="float32")
    np.testing.assert_array_equal(opened().image, expected.image)


def test_a_grid_covers_all_images(run, dataset):
    extract(run, "--targets", "grid:100x150+10", "--order", "locality", "-q")
    found = opened()
    assert found.image.shape[1:] == (3, 100, 150)
    table = dataset.targets.grid((100, 150), overlap=10)
    np.testing.assert_array_equal(found.image, dataset.load_batch(table.iloc[found.sample.values]).image)


def test_positives_are_windows_around_annotations(run, dataset):
    done = extract(run, "--targets", "positives:64", "--scale", "0.5", "--no-annots", "--quiet")
    assert done.out == done.err == ""
    found = opened()
    assert found.image.shape == (3, 3, 32, 32)
    assert "annot_id" not in found
    assert sorted(found.target_gid.values) == [1, 2, 2]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--targets", "gird:100"], 2, "expected a table"),
        (["--targets", "grid"], 2, "grid:256"),
        (["--targets", "grid:big"], 2, "grid:256"),
        (["--targets", "nothing.parquet"], 1, "nothing.parquet: no such table"),
        (["--targets", "data.csv"], 1, "data.csv is not a table"),
        (["--targets", "grid:100", "--scheduler", "thread"], 1, "did you mean 'threads'"),
        (["--targets", "grid:100", "--channels", "nir"], 1, "nir"),
        (["--targets", "positives", "--sizes", "refuse", "--channels", "r|g"], 0, ""),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run, dataset, folder, args, code, message):
    (folder / "data.csv").write_bytes(b"\xff\xfe\x00\x01")
    done = extract(run, *args, code=code)
    assert message in done.err
    assert code == 2 or done.err.count("\n") <= 2


@pytest.mark.slow
def test_processes_do_the_work_unless_asked_otherwise(shell, dataset):
    with shell(
        "extract", "data.kwcoco.json", "--targets", "grid:100", "-o", "out.zarr", "--workdir", "work"
    ) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("wrote out.zarr")
    np.testing.assert_array_equal(opened().image, dataset.load_batch(dataset.targets.grid((100, 100))).image)


def test_an_existing_store_is_not_replaced_unasked(run, dataset):
    extract(run, "--targets", "grid:200", "-q")
    assert "--overwrite" in extract(run, "--targets", "grid:100", code=1).err
    extract(run, "--targets", "grid:100", "--overwrite", "-q")
    assert opened().image.shape[-1] == 100


@pytest.mark.slow
def test_an_interrupted_command_goes_on(run, dataset, shell, folder):
    slow = """
import time
from ndzarr._batches.extract import Job
real = Job.do
def do(self, folder, number):
    if number == 3:
        print("third", flush=True)
        time.sleep(60)
    return real(self, folder, number)
Job.do = do
"""
    (folder / "sitecustomize.py").write_text(slow)
    args = ["extract", "data.kwcoco.json", "--targets", "grid:50", "--shard", "4", "--workers", "1",
            "--workdir", "work", "-o", "out.zarr", *THREADS]  # fmt: skip
    with shell(*args) as process:
        assert process.stdout.readline() == "third\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "Interrupted; finished shards are kept: the same command resumes."
    (folder / "sitecustomize.py").unlink()
    assert "3 of them done already" in run(*args).err
    np.testing.assert_array_equal(opened().image, dataset.load_batch(dataset.targets.grid((50, 50))).image)


def test_windows_are_exported_for_another_trainer(run, dataset, folder):
    args = ["export", "data.kwcoco.json", "--targets", "grid:100", "--workdir", "work", *THREADS]
    result = run(*args, "--split", "0.5,0.5", "--image", "jpeg", "--visible", "0.5", "-o", "tiles")
    assert result.out == "wrote tiles (18 windows, 38 files)\n"
    found = ndzarr.dataset("tiles")
    assert {image["split"] for image in found.imgs.values()} == {"train", "val"}
    assert [cat["name"] for cat in found.cats.values()] == ["boat"]
    assert len(found.anns) >= 3
    assert "already" in run(*args, "-o", "tiles", code=1).err or "exists" in run(*args, "-o", "tiles", code=1).err
    assert "0.8,0.1,0.1" in run(*args, "--split", "half", "-o", "other", code=1).err
