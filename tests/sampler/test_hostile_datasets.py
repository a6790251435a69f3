"""Datasets of strangers: whom they make the sampler ask, what it reads, and what absurd numbers cost."""

import http.server
import json
import os
import threading
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.errors import raises
from ndzarr.errors import OptionError, SourceError, TargetError


def dataset(file_name, **more):
    image = {"id": 1, "file_name": file_name, "width": 64, "height": 48} | more
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    return {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "a"}]}


@pytest.fixture
def bundle(tmp_path):
    """Return a directory of a dataset; there is another image beside it."""
    folder = tmp_path / "bundle"
    (folder / "images").mkdir(parents=True)
    for path in (folder / "images/a.png", tmp_path / "b.png"):
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(path)
    os.symlink(tmp_path / "b.png", folder / "images/link.png")
    return folder


def sampler(bundle, data, **options):
    file = bundle / "data.kwcoco.json"
    file.write_text(json.dumps(data))
    return ndzarr.CocoSampler(file, bundle / "work", **options)


@pytest.mark.parametrize("name", ["images/a.png", "images/../images/a.png", "./images/a.png"])
def test_a_bundle_holds_what_is_below_the_dataset(bundle, name):
    assert sampler(bundle, dataset(name), allow="bundle").load_sample(gid=1).image.shape == (1, 48, 64)


def test_an_absolute_path_into_the_bundle_is_in_the_bundle(bundle):
    name = str(bundle / "images/a.png")
    assert sampler(bundle, dataset(name), allow="bundle").load_sample(gid=1).image.shape == (1, 48, 64)


@pytest.mark.parametrize("name", ["../b.png", "images/../../b.png", "images/link.png", "{parent}/b.png"])
def test_files_outside_of_the_bundle_are_read_only_if_files_are_allowed(bundle, name):
    data = dataset(name.format(parent=bundle.parent))
    assert sampler(bundle, data).load_sample(gid=1).image.shape == (1, 48, 64)
    strict = sampler(bundle, data, allow="bundle")
    for use in (lambda: strict.load_sample(gid=1), strict.prepare, lambda: strict.open(1)):
        with raises(TargetError, key="file_name", hint="allow='files'"):
            use()


@pytest.mark.parametrize("name", ["a.png.msk", "a.png.aux.xml", "a.pgw", "s.zarr/0", "s.zarr/0/image/c/0/0/0"])
def test_links_beside_an_image_and_in_a_store_do_not_lead_out_of_the_bundle(bundle, name):
    images = bundle / "images"
    ndzarr.transcode(images / "a.png", images / "s.zarr")
    shown = images / ("a.png" if name.startswith("a.") else "s.zarr")
    file, outside, inside = images / name, bundle.parent / "outside", bundle / "inside"
    if file.exists():
        file.rename(outside)
    elif name.endswith("msk"):
        tifffile.imwrite(outside, np.full((48, 64), 255, np.uint8), photometric="minisblack")
    else:
        outside.write_text("1\n0\n0\n-1\n0\n0" if name.endswith("pgw") else "<PAMDataset/>")
    file.symlink_to(outside)
    data = dataset(str(shown))
    assert sampler(bundle, data, transcode="always").load_sample(gid=1).image.shape == (1, 48, 64)
    with raises(TargetError, key="file_name", path=file, hint="allow='files'"):
        sampler(bundle, data, allow="bundle").load_sample(gid=1)
    outside.rename(inside)
    file.unlink()
    file.symlink_to(inside)
    (images / "back").symlink_to(images)
    assert sampler(bundle, data, allow="bundle").load_sample(gid=1).image.shape == (1, 48, 64)


@pytest.mark.parametrize("allow", ["bundle", "files"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/a", "zip://x::http://127.0.0.1:{port}/a.zip", "file:///etc"])
def test_no_host_is_asked_unless_urls_are_allowed(bundle, allow, url):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = sampler(bundle, dataset(url.format(port=server.server_address[1])), allow=allow)
        for use in (lambda: made.load_sample(gid=1), made.prepare, lambda: made.plan([{"gid": 1}])):
            with raises(TargetError, key="file_name", hint="allow='urls'"):
                use()
        server.shutdown()
    assert not asked


def test_assets_and_videos_are_held_to_the_same(bundle):
    data = dataset("images/a.png", assets=[{"file_name": "../b.png", "width": 64, "height": 48}])
    video = {"videos": [{"id": 1, "name": "v", "file_name": "../b.png", "width": 64, "height": 48}]}
    frame = {"images": [{"id": 1, "video_id": 1, "frame_index": 0, "width": 64, "height": 48}]}
    for given in (data, data | video | frame):
        with raises(TargetError, key="file_name"):
            sampler(bundle, given, allow="bundle").load_sample(gid=1)


def test_what_may_be_allowed_is_named(bundle):
    with raises(OptionError, key="allow"):
        sampler(bundle, dataset("images/a.png"), allow="all")


def test_errors_do_not_quote_files(bundle):
    (bundle.parent / "secret").write_text("the password is swordfish")
    (bundle.parent / "key").write_bytes(b"\x01\x02swordfish")
    for name in ("secret", "key"):
        with pytest.raises(SourceError) as caught:
            sampler(bundle, dataset(f"../{name}")).load_sample(gid=1)
        assert "swordfish" not in str(caught.value)
        assert "01 02" not in str(caught.value)


@pytest.mark.parametrize("size", [(2**40, 2**40), (2**52, 240), (240, 2**44)])
def test_absurd_sizes_of_images_are_refused_before_memory_is_taken(bundle, size):
    made = sampler(bundle, dataset("images/a.png", width=size[0], height=size[1]))
    with raises(TargetError, key="window_dims", hint="larger windows"):
        made.targets.grid((64, 64))
    if min(size) > 240:
        with raises(TargetError, hint="width and height"):
            made.targets.negatives(3, (32, 32), seed=0)


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 7])
def test_what_is_not_a_path_is_refused(bundle, value):
    with raises(TargetError, key="file_name"):
        ndzarr.CocoSampler(dataset(value), bundle / "work").load_sample(gid=1)


def test_what_is_not_a_position_is_refused(bundle):
    with raises(TargetError, key="frame_index"):
        sampler(bundle, dataset("images/a.png", frame_index=[[1]])).load_sample(gid=1)


def test_ids_beyond_64_bits_are_ids(bundle):
    data = dataset("images/a.png", id=2**64)
    data["annotations"][0]["image_id"] = 2**64
    made = sampler(bundle, data)
    assert made.load_sample(gid=2**64).annot_id.values.tolist() == [1]
    assert made.targets.positives((8, 8)).gid.tolist() == [2**64]


def test_archives_of_no_or_two_datasets_or_that_grow_without_end_are_refused(bundle):
    path = bundle / "data.kwcoco.zip"
    content = json.dumps(dataset("images/a.png"))
    for names, text in (([], ""), (["a.json", "b.json"], content), (["a.json"], content + " " * (100 << 20))):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, text)
        with raises(SourceError, path=path, hint="npack it"):
            ndzarr.CocoSampler(path, bundle / "work")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.kwcoco.json", content)
    assert ndzarr.CocoSampler(path, bundle / "work").load_sample(gid=1).image.shape == (1, 48, 64)


def test_nested_datasets_are_refused(bundle):
    path = bundle / "data.kwcoco.json"
    path.write_text("[" * 10**6)
    with raises(SourceError, path=path):
        ndzarr.CocoSampler(path)
