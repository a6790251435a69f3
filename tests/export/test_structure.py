"""Exported files are laid out as cloud optimized GeoTIFFs, in little memory, and appear whole or not at all."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import rasterio
import tifffile

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr._export.validate import validate_cog
from ndzarr.errors import DamagedError, ExistsError, MissingError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
COMPRESSIONS = ["deflate", "zstd", "lzw", "jpeg", "webp", "lerc", "none"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Files of all compressions, with and without a mask, TIFF and BigTIFF, of one and of many tiles."""
    folder = tmp_path_factory.mktemp("exported")
    out = []
    for name, height, width, nodata in (("small", 90, 70, None), ("large", 560, 601, 0)):
        image = photo(height, width).transpose(2, 0, 1)
        pyr = ndzarr.transcode(image, folder / f"{name}.zarr", channels=["r", "g", "b"], nodata=nodata)
        out += [
            ndzarr.export_cog(pyr, folder / f"{name}-{c}-{big}-{mask}.tif", compression=c, bigtiff=big, mask=mask)
            for c in COMPRESSIONS
            for big, mask in ((False, False), (True, nodata == 0))
        ]
    return out


def test_rio_cogeo_and_our_own_checker_accept_every_file(exported):
    cogeo = pytest.importorskip("rio_cogeo.cogeo")
    for path in exported:
        assert cogeo.cog_validate(path, strict=True, quiet=True) == (True, [], [])
        report = validate_cog(path)
        assert (report.ok, report.errors, report.warnings) == (True, (), ())


def test_gdals_own_full_check_finds_nothing(exported, gdal_check):
    assert gdal_check(*exported) == ["[]"] * len(exported)


def test_gdal_reports_the_layout(exported):
    for path in exported:
        with rasterio.open(path) as file:
            structure = file.tags(ns="IMAGE_STRUCTURE")
        assert structure["LAYOUT"] == "COG"
        assert structure.get("COMPRESSION", "none").split()[-1].lower() in path.name


def test_overviews_are_the_levels_of_the_pyramid_and_can_be_left_out(pyramid, tmp_path):
    pyr = pyramid(3, height=560, width=701)
    with tifffile.TiffFile(ndzarr.export_cog(pyr, tmp_path / "a.tif")) as tif:
        assert [page.shape[:2] for page in tif.pages] == list(pyr.planar_shapes)
    with tifffile.TiffFile(ndzarr.export_cog(pyr, tmp_path / "b.tif", overviews=False)) as tif:
        assert [page.shape[:2] for page in tif.pages] == [(560, 701)]


def test_the_same_pyramid_gives_the_same_bytes_with_any_number_of_workers(pyramid, tmp_path):
    pyr = pyramid(3, height=600, width=700)
    files = [
        ndzarr.export_cog(pyr, tmp_path / f"{n}.tif", workers=n, blocksize=64, compression="zstd").read_bytes()
        for n in (1, 2, 5)
    ]
    assert files[0] == files[1] == files[2]


def test_bigtiff_is_chosen_where_tiles_might_not_fit(tmp_path):
    import zarr

    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("0", shape=(1 << 17, 1 << 16), chunks=(4096, 4096), dtype="u1", fill_value=3)
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": ["y", "x"], "datasets": datasets}]}
    from ndzarr._export.cog import _big, prepare

    assert _big(prepare(ndzarr.open(tmp_path / "a.zarr")), "auto")
    group.create_array("1", shape=(1 << 15, 1 << 14), chunks=(4096, 4096), dtype="u1", fill_value=3)
    assert not _big(prepare(ndzarr.open(tmp_path / "a.zarr" / "1")), "auto")


def test_a_file_that_exists_is_replaced_only_when_asked(pyramid, tmp_path):
    pyr = pyramid(1)
    (tmp_path / "a.tif").write_text("mine")
    with raises(ExistsError, path=tmp_path / "a.tif", hint="overwrite"):
        ndzarr.export_cog(pyr, tmp_path / "a.tif")
    assert (tmp_path / "a.tif").read_text() == "mine"
    ndzarr.export_cog(pyr, tmp_path / "a.tif", overwrite=True)
    assert validate_cog(tmp_path / "a.tif").ok
    with raises(MissingError, hint="Make it first"):
        ndzarr.export_cog(pyr, tmp_path / "nowhere" / "a.tif")


def test_nothing_is_left_of_an_export_from_a_damaged_pyramid(pyramid, tmp_path):
    pyr = pyramid(3, height=600, width=700)
    shard = max((tmp_path / "a.zarr" / "0" / "image" / "c").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[1000:1100] = bytes(100)
    shard.write_bytes(data)
    with pytest.raises(DamagedError):
        ndzarr.export_cog(ndzarr.open(pyr.path), tmp_path / "a.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_damage_is_an_error_not_a_hang_in_the_middle(pyramid, tmp_path):
    pyr = pyramid(3, height=600, width=700)
    with pytest.raises(ndzarr.NdzarrError):
        ndzarr.export_cog(pyr, tmp_path / "a.tif", t=3)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak of memory from Linux")
def test_memory_does_not_grow_with_the_image(tmp_path):
    script = textwrap.dedent("""
        import sys, zarr, ndzarr, cv2, imagecodecs, tifffile
        from ndzarr._export import cog
        folder, n = sys.argv[1], int(sys.argv[2])
        group = zarr.open_group(f"{folder}/{n}.zarr", mode="w", zarr_format=3)
        shape = {"shape": (3, n, n), "shards": (3, 2048, 2048), "chunks": (3, 128, 128)}
        group.create_array("0", **shape, dtype="u1", fill_value=3, dimension_names=["c", "y", "x"])
        axes = [{"name": d, "type": "space"} for d in "cyx"]
        datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
        pyr = ndzarr.open(f"{folder}/{n}.zarr")
        ndzarr.export_cog(pyr, f"{folder}/{n}.tif", compression="zstd", level=1, workers=2)
        print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
    """)
    peaks = [
        int(subprocess.run([sys.executable, "-c", script, tmp_path, str(n)], capture_output=True, check=True).stdout)
        for n in (1024, 8192)
    ]
    assert peaks[1] - peaks[0] < 60_000  # KiB; the image has 200 MB


def test_png_and_exported_files_agree(pyramid, tmp_path):
    image = photo(200, 300)
    pyr = ndzarr.transcode(image.transpose(2, 0, 1), tmp_path / "p.zarr", channels=["r", "g", "b"])
    assert np.array_equal(tifffile.imread(ndzarr.export_cog(pyr.path, tmp_path / "p.tif")), image)
