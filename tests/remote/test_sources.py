"""Files in buckets and on web servers, wherever a file can be named: samplers, transcoding, the command line."""

import glob
import json
import tempfile

import kwcoco
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

import ndzarr
from helpers.cogs import gray, rgb, write_cog
from helpers.errors import raises
from ndzarr.cli import main
from ndzarr.errors import SourceError, StoreError, TargetError


def dataset(urls, height=300, width=400):
    dset = kwcoco.CocoDataset()
    for url in urls:
        dset.add_image(file_name=url, width=width, height=height)
    return dset


@pytest.fixture
def scenes(http):
    """URLs of three COGs."""
    for k in range(3):
        write_cog(http.folder / f"{k}.tif", rgb() + np.uint8(k))
    return [f"{http.url}/{k}.tif" for k in range(3)]


def windows(count):
    return [{"gid": gid, "cx": 150, "cy": 100, "width": 64, "height": 48} for gid in range(1, count + 1)]


def test_a_bucket_of_cogs_is_sampled_in_place_and_opens_the_second_time_without_a_request(scenes, http, tmp_path):
    for first in (True, False):
        sampler = ndzarr.CocoSampler(dataset(scenes), workdir=tmp_path / "work", allow="urls")
        http.server.reset()
        sampler.prepare()
        batch = sampler.load_batch(windows(3))
        beginnings = [entry for entry in http.server.counters().log if entry[2].startswith("bytes=0-")]
        assert len(beginnings) == (12 if first else 0), beginnings  # of the scenes, and of what may be beside them
        for k in range(3):
            np.testing.assert_array_equal(batch["image"][k], (rgb() + np.uint8(k))[:, 76:124, 118:182])
    assert not glob.glob(f"{tmp_path}/work/*.zarr")


def test_a_scene_that_was_replaced_is_noticed_and_then_read_anew(scenes, http, tmp_path):
    def load():
        sampler = ndzarr.CocoSampler(dataset(scenes[:1]), workdir=tmp_path / "work", allow="urls")
        return sampler, sampler.load_sample(windows(1)[0])["image"].to_numpy()

    load()
    write_cog(http.folder / "0.tif", 255 - rgb())
    with raises(StoreError, path=scenes[0], hint="Open it again"):
        load()
    sampler, found = load()
    np.testing.assert_array_equal(found, (255 - rgb())[:, 76:124, 118:182])
    write_cog(http.folder / "0.tif", rgb())
    with raises(StoreError, path=scenes[0]):
        sampler.load_sample(windows(1)[0])
    found = sampler.load_sample(windows(1)[0])["image"]
    np.testing.assert_array_equal(found, rgb()[:, 76:124, 118:182])


def test_urls_of_a_dataset_are_refused_unless_they_are_allowed(scenes):
    sampler = ndzarr.CocoSampler(dataset(scenes))
    with raises(TargetError, key="file_name", path=scenes[0], hint="allow='urls'"):
        sampler.load_sample(windows(1)[0])


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_other_files_are_copied_and_transcoded(http, tmp_path, suffix):
    path = http.folder / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, gray(300, 400), compression="zlib")  # strips
        path.with_suffix(".tfw").write_text("10\n0\n0\n-10\n500005\n4599995\n")
    else:
        Image.fromarray(rgb().transpose(1, 2, 0)).save(path)
    url = f"{http.url}/{path.name}"
    local, made = ndzarr.transcode(path, tmp_path / "a.zarr"), ndzarr.transcode(url, tmp_path / "b.zarr")
    np.testing.assert_array_equal(made.read(), local.read())
    assert made.attrs["ndzarr"]["source"]["name"] == url
    assert made.attrs["ndzarr"]["source"].get("transform") == local.attrs["ndzarr"]["source"].get("transform")
    sampler = ndzarr.Sampler({"a": url}, workdir=tmp_path / "work")
    found = sampler.load_sample({"key": "a", "y": slice(0, 50), "x": slice(0, 60)})["image"]
    np.testing.assert_array_equal(found, local.read(y=slice(0, 50), x=slice(0, 60)))
    with raises(StoreError, path=url, hint="ndzarr.transcode"):
        ndzarr.open(url)
    assert not glob.glob(f"{tempfile.gettempdir()}/ndzarr-*/a.{suffix}")


def test_an_error_about_a_copy_names_the_url(http, tmp_path):
    http.folder.joinpath("a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    http.folder.joinpath("b.pdf").write_bytes(b"%PDF-1.4" + bytes(100))
    for name in ("a.png", "b.pdf", "missing.jpg"):
        with raises((SourceError, FileNotFoundError), path=f"{http.url}/{name}", match=f"{http.url}/{name}"):
            ndzarr.transcode(f"{http.url}/{name}", tmp_path / "a.zarr")


def test_the_command_line_takes_urls(scenes, http, tmp_path):
    def run(*args):
        result = CliRunner().invoke(main, [*map(str, args)])
        assert result.exit_code == 0, result.output
        return result.output

    [facts] = json.loads(run("info", "--json", scenes[0]))
    assert (facts["sizes"], facts["path"]) == ({"c": 3, "y": 300, "x": 400}, scenes[0])
    Image.fromarray(rgb().transpose(1, 2, 0)).save(http.folder / "a.png")
    assert json.loads(run("info", "--json", f"{http.url}/a.png"))[0]["path"] == f"{http.url}/a.png"
    run("crop", scenes[0], "-o", tmp_path / "a.npy", "--y", "10:60", "--x", "20:90")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rgb()[:, 10:60, 20:90])
    run("cog", scenes[1], "-o", tmp_path / "b.tif", "-q")
    np.testing.assert_array_equal(ndzarr.open(tmp_path / "b.tif").read(), rgb() + np.uint8(1))
    run("transcode", scenes[2], "-o", tmp_path / "c.zarr", "-q")
    np.testing.assert_array_equal(ndzarr.open(tmp_path / "c.zarr").read(), rgb() + np.uint8(2))


def test_a_dataset_in_a_bucket_needs_the_environment_only(s3, tmp_path, monkeypatch):
    write_cog(tmp_path / "a.tif", rgb())
    url = s3.put(s3.bucket("scenes").removeprefix("s3://"), "a.tif", (tmp_path / "a.tif").read_bytes())
    for name, value in s3.storage_options.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    sampler = ndzarr.CocoSampler(dataset([url]), workdir=tmp_path / "work", allow="urls")
    found = sampler.load_sample(windows(1)[0])["image"]
    np.testing.assert_array_equal(found, rgb()[:, 76:124, 118:182])


def test_lists_of_urls_and_stores_in_a_bucket_are_transcoded_with_storage_options(s3, tmp_path):
    options, urls = {"storage_options": s3.storage_options}, []
    bucket = s3.bucket("sources")
    for k in range(2):
        Image.fromarray(np.full((40, 30), k, "u1")).save(tmp_path / f"{k}.png")
        urls.append(s3.put(bucket.removeprefix("s3://"), f"{k}.png", (tmp_path / f"{k}.png").read_bytes()))
    made = ndzarr.transcode(urls, f"{bucket}/stack.zarr", stack="z", **options)
    assert made.sizes == {"c": 1, "z": 2, "y": 40, "x": 30}
    again = ndzarr.transcode(f"{bucket}/stack.zarr", tmp_path / "stack.zarr", **options)
    for pyramid in (made, again):
        np.testing.assert_array_equal(pyramid.read()[0, :, 0, 0], [0, 1])
