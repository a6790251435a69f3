"""TIFFs in buckets and on web servers are read in place, as local ones are, with few requests."""

import pickle

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.windows import Window

import ndzarr
from helpers.arrays import photo
from helpers.cogs import gray, rgb, write_cog
from helpers.errors import raises
from helpers.http_server import Fault
from ndzarr.errors import DamagedError, MissingError, StoreError

TILED = {"tile": (64, 64), "photometric": "minisblack"}


def plain(path):
    tifffile.imwrite(path, rgb().transpose(1, 2, 0), tile=(64, 64), photometric="rgb")


def apart(path):
    tifffile.imwrite(path, rgb(), compression="zlib", planarconfig="separate", tile=(64, 64), photometric="rgb")


def floating(path):
    pixels = gray(200, 300).astype("f4")
    tifffile.imwrite(path, pixels, compression="zlib", predictor=3, byteorder=">", bigtiff=True, **TILED)


def masked(path):
    write_cog(path, rgb(), mask=np.tri(300, 400, dtype=bool), COMPRESS="JPEG")


def sparse(path):
    pixels = rgb()
    pixels[:, :128] = 0
    write_cog(path, pixels, SPARSE_OK=True)


def palette(path):
    colours = np.random.default_rng(0).integers(0, 2**16, (3, 256), dtype="u2")
    tifffile.imwrite(path, gray(200, 300), photometric="palette", colormap=colours, tile=(64, 64))


def frames(path):
    tifffile.imwrite(path, np.stack([photo(200, 300, k)[..., 0] for k in range(5)]), compression="zlib", **TILED)


def many_tiles(path):
    tifffile.imwrite(path, gray(1024, 1040), tile=(16, 16), compression="zlib", photometric="minisblack")


def beside(path):
    """A file whose overviews, mask, nodata and place are in files beside it."""
    tifffile.imwrite(path, gray(300, 400), compression="zlib", **TILED)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4])
    tifffile.imwrite(f"{path}.msk", 255 * np.tri(300, 400, dtype="u1"), tile=(64, 64), photometric="minisblack")
    path.with_name(f"{path.name}.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    path.with_suffix(".tfw").write_text("10\n0\n0\n-10\n500005\n4599995\n")


KINDS = (plain, apart, floating, masked, sparse, palette, frames, many_tiles, beside)


@pytest.fixture
def served(http):
    """Writes a file, and returns its path and URL."""

    def serve(write, name="a.tif"):
        write(http.folder / name)
        return http.folder / name, f"{http.url}/{name}"

    return serve


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_a_remote_file_is_the_same_pyramid_as_the_local_one(served, write):
    path, url = served(write)
    local, remote = ndzarr.open(path), ndzarr.open(url)
    assert (remote.dims, remote.channels, remote.dtype) == (local.dims, local.channels, local.dtype)
    assert [level.shape for level in remote.levels] == [level.shape for level in local.levels]
    facts = [{**pyramid.attrs["ndzarr"]["source"]} for pyramid in (local, remote)]
    for known in facts:
        assert known.pop("path")
        known.pop("name"), known.pop("mtime_ns")
    assert facts[0] == facts[1]
    for level in range(len(local.levels)):
        np.testing.assert_array_equal(remote.read(level=level), local.read(level=level))
    window = {"y": slice(-5, 201), "x": slice(77, 310)}
    expected = local.window(**window, scale=0.4)
    np.testing.assert_array_equal(remote.window(**window, scale=0.4), expected)
    assert {*remote.window(**window, scale=0.4).coords} == {*expected.coords}
    again = pickle.loads(pickle.dumps(remote))
    np.testing.assert_array_equal(again.read(level=1), local.read(level=1))


def test_rasterio_reads_the_same_pixels(served):
    path, url = served(lambda path: write_cog(path, rgb()))
    with rasterio.open(path) as dataset:
        expected = dataset.read(window=Window(100, 50, 200, 220))
    found = ndzarr.open(url).read(y=slice(50, 270), x=slice(100, 300))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("large", [False, True])
def test_the_first_crop_of_a_cog_takes_three_round_trips_at_most_and_the_next_one(http, large):
    pixels = gray(1100, 1100)[None] if large else rgb(600, 600)
    blocks = 16 if large else 128  # 4761 tiles, whose table is read piece by piece
    write_cog(http.folder / "a.tif", pixels, BLOCKSIZE=blocks)
    http.server.settings(gather=0.4)
    pyramid = ndzarr.open(f"{http.url}/a.tif")
    pyramid.read(y=slice(100, 300), x=slice(200, 400))
    first = http.server.counters()
    assert first.waves <= 3
    assert first.sent < 700_000
    http.server.reset()
    pyramid.read_many([{"y": slice(y, y + 50), "x": slice(10, 60)} for y in (400, 450, 500)])
    assert http.server.counters().waves == (2 if large else 1)


def test_crops_of_many_files_are_one_flight(http):
    urls = []
    for k in range(3):
        write_cog(http.folder / f"{k}.tif", rgb() + np.uint8(k))
        urls.append(f"{http.url}/{k}.tif")
    sampler = ndzarr.Sampler({str(k): ndzarr.open(url) for k, url in enumerate(urls)})
    http.server.settings(gather=0.4)
    batch = sampler.load_batch([{"key": str(k), "y": slice(50, 150), "x": slice(100, 200)} for k in range(3)])
    assert http.server.counters().waves == 1
    for k in range(3):
        np.testing.assert_array_equal(batch["image"][k], (rgb() + np.uint8(k))[:, 50:150, 100:200])


@pytest.mark.parametrize("kind", ["503", "429", "reset", "short", "whole", "shifted", "unstated"])
def test_a_fault_that_passes_changes_no_pixel(served, http, kind):
    path, url = served(lambda path: write_cog(path, rgb()))
    expected = ndzarr.open(path).read()
    http.server.settings(faults=[Fault(kind, share=0.3, times=8)], seed=1)
    np.testing.assert_array_equal(ndzarr.open(url).read(), expected)
    assert http.server.counters().faults


def test_a_connection_that_stalls_is_not_waited_for(served, http):
    path, url = served(lambda path: write_cog(path, rgb()))
    pyramid = ndzarr.open(url, remote=ndzarr.Remote(timeout=1))
    http.server.settings(faults=[Fault("stall", times=2)])
    np.testing.assert_array_equal(pyramid.read(), ndzarr.open(path).read())


@pytest.mark.parametrize("kind", ["503", "reset", "short", "whole", "shifted"])
def test_a_fault_that_lasts_is_an_error_that_names_the_file(served, http, kind):
    _, url = served(lambda path: write_cog(path, rgb()))
    once = ndzarr.Remote(retries=1, timeout=2)
    pyramid = ndzarr.open(url, remote=once)
    http.server.settings(faults=[Fault(kind, methods=("GET", "HEAD"))])
    for read in (pyramid.read, lambda: ndzarr.open(url, remote=once)):
        with raises(StoreError, path=url):
            read()


def test_a_server_without_ranges_is_said_so(served, http):
    _, url = served(lambda path: write_cog(path, rgb()))
    http.server.settings(ranges=False)
    with raises(StoreError, path=url, match="ignores range requests"):
        ndzarr.open(url, remote=ndzarr.Remote(retries=0))


def test_a_file_that_was_replaced_is_an_error_until_it_is_opened_again(served):
    _, url = served(lambda path: write_cog(path, rgb()))
    pyramid = ndzarr.open(url)
    served(lambda path: write_cog(path, 255 - rgb()))
    with raises(StoreError, path=url, hint="Open it again"):
        pyramid.read()
    np.testing.assert_array_equal(ndzarr.open(url).read(), 255 - rgb())


def test_a_file_that_ends_too_soon_is_damaged(served):
    path, url = served(frames)
    path.write_bytes(path.read_bytes()[:-3000])
    with raises(DamagedError, path=url):
        ndzarr.open(url).read()
    with raises(MissingError, path=f"{url}f"):
        ndzarr.open(f"{url}f")


def test_a_bucket_is_as_good_as_a_web_server(s3, tmp_path):
    write_cog(tmp_path / "a.tif", rgb())
    url = s3.put(s3.bucket("tiffs").removeprefix("s3://"), "b/a.tif", (tmp_path / "a.tif").read_bytes())
    pyramid = ndzarr.open(url, storage_options=s3.storage_options)
    np.testing.assert_array_equal(pyramid.read(), rgb())
    with raises(MissingError):
        ndzarr.open("s3://tiffs/b/c.tif", storage_options=s3.storage_options)


def test_azure_is_read_as_any_bucket(azure, tmp_path):
    obstore = pytest.importorskip("obstore")
    write_cog(tmp_path / "a.tif", rgb())
    options = azure.storage_options
    store = obstore.store.AzureStore(azure.container("tiffs").removeprefix("az://"), config=options)
    obstore.put(store, "a.tif", (tmp_path / "a.tif").read_bytes())
    np.testing.assert_array_equal(ndzarr.open("az://tiffs/a.tif", storage_options=options).read(), rgb())


def test_a_store_object_is_as_good_as_a_url(tmp_path):
    obstore = pytest.importorskip("obstore")
    write_cog(tmp_path / "a.tif", rgb())
    memory = obstore.store.MemoryStore()
    obstore.put(memory, "b/a.tif", (tmp_path / "a.tif").read_bytes())
    np.testing.assert_array_equal(ndzarr.open("b/a.tif", store=memory).read(), rgb())


def test_nginx_is_read_as_any_server(nginx):
    url, served = nginx
    write_cog(served / "a.tif", rgb())
    np.testing.assert_array_equal(ndzarr.open(f"{url}/a.tif").read(), rgb())
