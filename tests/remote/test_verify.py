"""`verify` takes URLs: any damage of a remote store or TIFF is found and named."""

import shutil

import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner

import ndzarr
from helpers.arrays import random_array
from helpers.errors import raises
from ndzarr import verify
from ndzarr._store.destinations import destination
from ndzarr.cli import main
from ndzarr.errors import MissingError, StoreError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    ndzarr.transcode(random_array((1, 300, 300), "u1", 1), folder / "a.zarr", chunks={"y": 64, "x": 64}, indexes=True)
    return folder


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_remote_store_is_checked_as_a_local_one(http, made):
    folder, url = http.folder / "a.zarr", f"{http.url}/a.zarr"
    shutil.copytree(made / "a.zarr", folder)
    local, report = verify(folder), verify(url)
    assert report.ok, report
    assert (report.levels, report.chunks, report.empty, report.nbytes) == (
        local.levels, local.chunks, local.empty, local.nbytes,
    )  # fmt: skip
    flip(folder / "0/image/c/0/0/0", 100)
    (folder / "1/image/c/0/0/0").unlink()
    (folder / "0/x/zarr.json").unlink()
    flip(folder / "0/y/c/0", 12)
    report = verify(url)
    found = {problem.file.removeprefix(f"{url}/"): problem for problem in report.problems}
    assert set(found) == {"0/image/c/0/0/0", "1/image/c/0/0/0", "0/x/zarr.json", "0/y/c/0"}, report
    assert found["0/image/c/0/0/0"].chunk == (0, 0, 0)
    assert str(folder) not in str(report)
    done = CliRunner().invoke(main, ["verify", url])
    assert done.exit_code == 1
    assert f"{url}: 4 problems" in done.output


def test_a_store_in_a_bucket_has_no_other_objects(s3, made):
    pytest.importorskip("moto")
    url, options = f"{s3.bucket('verified')}/a.zarr", {"storage_options": s3.storage_options}
    ndzarr.push(made / "a.zarr", url, **options)
    assert verify(url, **options).ok
    place = destination(url, **options)
    place.store.put(place.key("0/image/c/0/0/9"), b"stray")
    [problem] = verify(url, **options).problems
    assert problem.file == f"{url}/0/image/c/0/0/9"


def test_foreign_stores_and_tiffs_are_checked(http):
    codec = numcodecs.Blosc("zstd")
    array = zarr.create_array(
        http.folder / "v2.zarr", shape=(70, 60), dtype="u1", zarr_format=2, chunks=(32, 32), compressors=codec
    )
    array[:] = random_array((70, 60), "u1")
    report = verify(f"{http.url}/v2.zarr")
    assert (report.ok, report.chunks) == (True, 6), report
    flip(http.folder / "v2.zarr/1.1", 30)
    assert [p.file for p in verify(f"{http.url}/v2.zarr").problems] == [f"{http.url}/v2.zarr/1.1"]
    path, image = http.folder / "a.tif", random_array((100, 90), "u1")
    tifffile.imwrite(path, image, tile=(32, 32), compression="zlib")
    report = verify(f"{http.url}/a.tif")
    assert (report.ok, report.chunks) == (True, 12), report
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].dataoffsets[4]
    flip(path, at + 5)
    [problem] = verify(f"{http.url}/a.tif").problems
    assert (problem.file, problem.chunk) == (f"{http.url}/a.tif", (0, 0, 1, 1)[-len(problem.chunk) :])


def test_what_is_not_verified_over_the_network_is_said(http, made):
    ndzarr.Sampler({"a": made / "a.zarr"}).extract([{"y": slice(0, 9), "x": slice(0, 9)}], http.folder / "crops.zarr")
    np.save(http.folder / "a.npy", np.zeros((9, 9)))
    for name in ("crops.zarr", "a.npy"):
        with raises(StoreError, path=f"{http.url}/{name}"):
            verify(f"{http.url}/{name}")
    with raises(MissingError):
        verify(f"{http.url}/none.zarr")
