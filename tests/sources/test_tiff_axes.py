from __future__ import annotations

import numpy as np
import pytest
import tifffile

import ndzarr
from helpers.errors import raises
from ndzarr._formats.registry import open_source
from ndzarr.errors import OptionError, SourceError, StoreError

Y, X = 24, 31


def write(path, shape, rng, **how) -> np.ndarray:
    pixels = rng.integers(0, 255, shape).astype(np.uint8)
    how.setdefault("photometric", "minisblack")
    tifffile.imwrite(path, pixels, **how)
    return pixels


@pytest.mark.parametrize(
    ("axes", "lengths", "dims", "order"),
    [
        ("TYX", (5, Y, X), "tcyx", "t1yx"),
        ("ZYX", (5, Y, X), "czyx", "1zyx"),
        ("CYX", (5, Y, X), "cyx", "cyx"),
        ("TCYX", (3, 4, Y, X), "tcyx", "tcyx"),
        ("CTYX", (3, 4, Y, X), "tcyx", "tcyx"),
        ("ZCYX", (3, 4, Y, X), "czyx", "czyx"),
        ("TZCYX", (2, 3, 4, Y, X), "tczyx", "tczyx"),
        ("CZTYX", (2, 3, 4, Y, X), "tczyx", "tczyx"),
    ],
)
@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"ome": True}, {"ome": True, "tile": (16, 16)}])
def test_axes_that_are_named_are_put_in_order(axes, lengths, dims, order, how, rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = write(path, lengths, rng, metadata={"axes": axes}, **how)
    got = read_all(path)
    at = axes.lower()
    want = pixels.transpose([at.index(d) for d in dims if d in at])
    if "c" not in at:
        want = np.expand_dims(want, dims.index("c"))
    with open_source(path) as source:
        assert source.dims == tuple(dims)
    assert np.array_equal(got, want)


@pytest.mark.parametrize("axes", ["TZCYX", "ZCYX", "TYX", "CYX"])
def test_imagej_stacks_behind_one_page_are_read(axes, rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    lengths = {"T": 4, "Z": 3, "C": 2, "Y": Y, "X": X}
    pixels = write(path, [lengths[a] for a in axes], rng, imagej=True, metadata={"axes": axes})
    at = axes.lower()
    with open_source(path) as source:
        assert set(source.dims) == set(at) | {"c"}
        want = pixels.transpose([at.index(d) for d in source.dims if d in at])
        if "c" not in at:
            want = np.expand_dims(want, source.dims.index("c"))
        assert np.array_equal(source.read({}), want)
        last = {d: slice(n - 1, n) for d, n in zip(source.dims[:-2], source.shape, strict=False)}
        assert np.array_equal(source.read(last), want[tuple(last.values())])


def test_pages_of_a_plain_file_are_frames(rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = write(path, (6, Y, X), rng, metadata=None)
    with open_source(path) as source:
        assert source.dims == ("t", "c", "y", "x")
        assert source.times is None
    assert np.array_equal(read_all(path), pixels[:, None])


def test_pages_of_colour_are_frames_of_colour(rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = write(path, (6, Y, X, 3), rng, metadata=None, photometric="rgb")
    assert np.array_equal(read_all(path), np.moveaxis(pixels, -1, 1))
    pixels = write(path, (6, 3, Y, X), rng, metadata=None, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_all(path), pixels)


@pytest.mark.parametrize("how", [{}, {"tile": (16, 16), "compression": "zlib"}])
def test_channels_and_samples_are_combined_in_that_order(how, rng, tmp_path):
    path = tmp_path / "a.tif"
    pixels = write(path, (2, 4, Y, X, 3), rng, metadata={"axes": "TCYXS"}, photometric="rgb", **how)
    want = np.moveaxis(pixels, -1, 2).reshape(2, 12, Y, X)
    with open_source(path) as source:
        assert source.dims == ("t", "c", "y", "x")
        assert source.channels == tuple(f"c{i}" for i in range(12))
        assert np.array_equal(source.read({}), want)
        for a, b in [(0, 1), (1, 3), (2, 7), (5, 12), (3, 6)]:
            got = source.read({"c": slice(a, b), "y": slice(3, 20), "t": slice(1, 2)})
            assert np.array_equal(got, want[1:, a:b, 3:20])


def test_volumes_in_deep_tiles_have_z(rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    for how in ({}, {"compression": "zlib"}):
        pixels = rng.integers(0, 255, (20, 40, 50)).astype(np.uint16)
        tifffile.imwrite(path, pixels, tile=(16, 16, 16), volumetric=True, photometric="minisblack", **how)
        assert np.array_equal(read_all(path, axes="zyx"), pixels[None])
        with open_source(path, axes="zyx") as source:
            got = source.read({"z": slice(3, 18), "y": slice(5, 38), "x": slice(15, 17)})
            assert np.array_equal(got[0], pixels[3:18, 5:38, 15:17])


def test_stacks_of_volumes_in_deep_tiles(rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = rng.integers(0, 255, (3, 20, 40, 50)).astype(np.uint16)
    how = {"tile": (16, 16, 16), "volumetric": True, "photometric": "minisblack", "compression": "zlib"}
    tifffile.imwrite(path, pixels, metadata={"axes": "TZYX"}, **how)
    assert np.array_equal(read_all(path), pixels[:, None])
    with open_source(path) as source:
        got = source.read({"t": slice(1, 3), "z": slice(3, 18), "y": slice(5, 38), "x": slice(15, 17)})
        assert np.array_equal(got[:, 0], pixels[1:, 3:18, 5:38, 15:17])
    tifffile.imwrite(path, pixels, metadata={"axes": "TQYX"}, **how)
    with raises(SourceError, path=path, match="20 planes .* 16 planes"):
        open_source(path)
    assert np.array_equal(read_all(path, axes="tzyx"), pixels[:, None])


@pytest.mark.parametrize(
    ("axes", "dims", "order"),
    [("zyx", "czyx", None), ("tyx", "tcyx", None), ("cyx", "cyx", None)],
)
def test_the_option_says_what_pages_are(axes, dims, order, rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = write(path, (6, Y, X), rng, metadata=None)
    with open_source(path, axes=axes) as source:
        assert source.dims == tuple(dims)
    assert np.array_equal(read_all(path, axes=axes).reshape(6, Y, X), pixels)


def test_the_option_may_leave_out_samples(rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = write(path, (6, Y, X, 3), rng, metadata=None, photometric="rgb")
    want = pixels.transpose(3, 0, 1, 2)
    assert np.array_equal(read_all(path, axes="zyx"), want)
    assert np.array_equal(read_all(path, axes="zyxc"), want)


def test_the_option_may_make_samples_something_else(rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = write(path, (Y, X, 5), rng, planarconfig="contig")
    assert np.array_equal(read_all(path, axes="yxz"), pixels.transpose(2, 0, 1)[None])


@pytest.mark.parametrize("axes", ["zyx", "zcyx", "tzcyx"])
def test_an_option_of_the_wrong_length_is_an_error(axes, rng, tmp_path):
    path = tmp_path / "a.tif"
    write(path, (Y, X), rng)
    with raises(OptionError, key="axes", match=f"{len(axes)} axes, .* Y 24, X 31"):
        open_source(path, axes=axes)


def test_axes_without_y_or_x_need_the_option(rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = write(path, (5, Y, X), rng, metadata={"axes": "YTX"})
    with raises(SourceError, hint="Pass axes= with y and x for the last two axes of a page"):
        open_source(path)
    assert np.array_equal(read_all(path, axes="tyx"), pixels[:, None])


@pytest.mark.parametrize("subifds", [True, False])
def test_smaller_copies_are_not_frames(subifds, rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = rng.integers(0, 255, (256, 256, 3)).astype(np.uint8)
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels, photometric="rgb", tile=(64, 64), subifds=2 if subifds else None, metadata=None)
        for step in (2, 4):
            tif.write(pixels[::step, ::step], photometric="rgb", tile=(64, 64), subfiletype=1, metadata=None)
    with open_source(path) as source:
        assert source.dims == ("c", "y", "x")
        assert "notes" not in source.metadata
    assert np.array_equal(read_all(path), pixels.transpose(2, 0, 1))


def test_a_thumbnail_before_the_image_is_passed_over(rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = rng.integers(0, 255, (200, 300)).astype(np.uint8)
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels[:20, :30], photometric="minisblack", subfiletype=1, metadata=None)
        tif.write(pixels, photometric="minisblack", metadata=None)
    assert np.array_equal(read_all(path)[0], pixels)


def test_images_of_other_shapes_are_left_out_and_said(rng, tmp_path, read_all):
    path = tmp_path / "a.tif"
    pixels = rng.integers(0, 255, (200, 300)).astype(np.uint8)
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels, photometric="minisblack", metadata=None)
        tif.write(pixels[:77, :78], photometric="minisblack", metadata=None)
    assert np.array_equal(read_all(path)[0], pixels)
    with open_source(path) as source:
        assert "1 other images" in source.metadata["notes"][0]


class TestOme:
    def test_names_sizes_and_times_are_known(self, rng, tmp_path):
        path = tmp_path / "a.ome.tif"
        metadata = {
            "axes": "TCYX",
            "Channel": {"Name": ["DAPI", "GFP"]},
            "PhysicalSizeX": 0.25,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 0.5,
            "TimeIncrement": 250.0,
            "TimeIncrementUnit": "ms",
        }
        write(path, (3, 2, Y, X), rng, ome=True, metadata=metadata)
        with open_source(path) as source:
            assert source.channels == ("DAPI", "GFP")
            assert np.allclose(source.times, [0, 0.25, 0.5])
            sizes = source.pixel_size
            assert [str(size) for size in (sizes.x, sizes.y, sizes.t)] == ["0.25 µm", "0.5 µm", "250 ms"]
            assert source.metadata["format"] == "OME-TIFF"

    @pytest.mark.parametrize("names", [["same", "same"], None])
    def test_names_that_do_not_tell_channels_apart_are_not_used(self, names, rng, tmp_path):
        path = tmp_path / "a.ome.tif"
        metadata = {"axes": "CYX"} | ({"Channel": {"Name": names}} if names else {})
        write(path, (2, Y, X), rng, ome=True, metadata=metadata)
        with open_source(path) as source:
            assert source.channels == ("c0", "c1")

    def test_colour_keeps_its_names(self, rng, tmp_path):
        path = tmp_path / "a.ome.tif"
        write(path, (3, Y, X, 3), rng, ome=True, metadata={"axes": "TYXS"}, photometric="rgb")
        with open_source(path) as source:
            assert source.channels == ("r", "g", "b")
            assert source.shape == (3, 3, Y, X)

    def test_series_over_several_files_are_read(self, rng, tmp_path, read_all):
        pixels = rng.integers(0, 255, (2, 3, Y, X)).astype(np.uint8)
        names = ["one.ome.tif", "two.ome.tif"]
        planes = "".join(
            f'<TiffData FirstC="{c}" FirstZ="{z}" FirstT="0" IFD="{z}" PlaneCount="1">'
            f'<UUID FileName="{names[c]}">urn:uuid:0000000{c}</UUID></TiffData>'
            for c in range(2)
            for z in range(3)
        )
        for c, name in enumerate(names):
            xml = (
                f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
                f'UUID="urn:uuid:0000000{c}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
                f'Type="uint8" SizeX="{X}" SizeY="{Y}" SizeZ="3" SizeC="2" SizeT="1">'
                f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/><Channel ID="Channel:0:1" SamplesPerPixel="1"/>'
                f"{planes}</Pixels></Image></OME>"
            )
            tifffile.imwrite(tmp_path / name, pixels[c], photometric="minisblack", description=xml, metadata=None)
        assert np.array_equal(tifffile.imread(tmp_path / "one.ome.tif"), pixels)
        assert np.array_equal(read_all(tmp_path / "one.ome.tif"), pixels)
        (tmp_path / "two.ome.tif").unlink()
        with pytest.raises(SourceError, match=r"two\.ome\.tif"):
            open_source(tmp_path / "one.ome.tif")


@pytest.mark.parametrize("named", ["../out.ome.tif", "/etc/passwd", "link.ome.tif", "&entity;"])
def test_names_of_a_series_do_not_lead_out_of_its_directory(rng, tmp_path, named):
    folder = tmp_path / "series"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "out.ome.tif", np.zeros((Y, X), np.uint8), metadata=None)
    (folder / "link.ome.tif").symlink_to(tmp_path / "out.ome.tif")
    tiff_data = "".join(
        f'<TiffData IFD="0" FirstT="{t}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{t}</UUID></TiffData>'
        for t, name in enumerate(("a.ome.tif", named))
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE OME [<!ENTITY entity "../out.ome.tif">]>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{X}" SizeY="{Y}" SizeC="1" SizeZ="1" '
        f'SizeT="2"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{tiff_data}</Pixels></Image></OME>'
    )
    path = folder / "a.ome.tif"
    tifffile.imwrite(path, np.ones((Y, X), np.uint8), tile=(16, 16), description=xml, metadata=None)
    for use, error in ((open_source, SourceError), (ndzarr.open, StoreError)):
        with raises(error, path=path, hint="into one directory") as caught:
            use(path)
        assert "root:" not in str(caught.value)


def test_imagej_says_sizes_and_times(rng, tmp_path):
    path = tmp_path / "a.tif"
    metadata = {"axes": "TYX", "unit": "um", "finterval": 0.5, "spacing": 2.0}
    write(path, (3, Y, X), rng, imagej=True, resolution=(4.0, 2.0), metadata=metadata)
    with open_source(path) as source:
        assert np.allclose(source.times, [0, 0.5, 1])
        sizes = source.pixel_size
        assert [str(size) for size in (sizes.x, sizes.y, sizes.z, sizes.t)] == ["0.25 µm", "0.5 µm", "2 µm", "0.5 s"]
