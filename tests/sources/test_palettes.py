"""Palettes of TIFF, PNG, GIF and BMP: as colours, as indices, in place, as stores and in samples."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image, ImageSequence

import ndzarr

SHAPE = (70, 90)
AUX = '<PAMDataset><PAMRasterBand band="1">{}</PAMRasterBand></PAMDataset>'
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def colour_map(rng, bits: int) -> np.ndarray:
    """Colours of 8 bits scaled to 16, shape (3, index)."""
    return rng.integers(0, 256, (3, 1 << bits)).astype("u2") * 257


def write_tiff(path, indices, colours, bits=8, extras=(), tile=None) -> None:
    """Write pages of indices, shape (page, y, x[, sample]), each with colours of its own; by hand below 8 bits."""
    if bits >= 8:
        with tifffile.TiffWriter(path) as tif:
            for page, table in zip(indices, colours, strict=True):
                how = {"planarconfig": "contig", "extrasamples": extras} if extras else {}
                if extras:
                    how["extratags"] = [(320, 3, table.size, table.ravel().tolist(), True)]
                    how["photometric"] = "minisblack"
                else:
                    how |= {"photometric": "palette", "colormap": table}
                tif.write(page, tile=tile, metadata=None, contiguous=False, **how)
        if extras:  # tifffile does not write palettes with other samples
            patch(path, 262, 3)
        return
    height, width = indices.shape[1:3]
    body, at = bytearray(b"II*\0\0\0\0\0"), 4
    for page, table in zip(indices, colours, strict=True):
        digits = (page[..., None] >> np.arange(bits)[::-1]) & 1
        data = np.packbits(digits.reshape(height, -1), axis=1).tobytes()
        start = len(body)
        body += data + b"\0" * (len(data) % 2)
        colours_at = len(body)
        body += table.astype("<u2").tobytes()
        struct.pack_into("<I", body, at, len(body))
        entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 3)]
        entries += [(273, 4, 1, start), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(data))]
        entries += [(320, 3, table.size, colours_at)]
        body += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
        at = len(body)
        body += bytes(4)
    path.write_bytes(body)


def patch(path, code: int, value: int) -> None:
    with tifffile.TiffFile(path) as tif:
        places = [page.aspage().tags[code].valueoffset for page in tif.pages]
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(value.to_bytes(2, "little"))


def looked_up(indices, colours) -> np.ndarray:
    """(y, x) to (3, y, x) of 8 bits."""
    return (colours[:, indices] >> 8).astype("u1")


@pytest.fixture(params=["in place", "a store", "a source"])
def read(request, tmp_path, read_all):
    """Read a file in each way there is; in place only if it has tiles."""

    def of(path, **options) -> np.ndarray:
        if request.param == "a source":
            return read_all(path, **options)
        if request.param == "a store":
            return ndzarr.transcode(path, tmp_path / "of.zarr", overwrite=True, **options).read()
        return ndzarr.open(path, **options).read()

    of.in_place = request.param == "in place"
    return of


class TestColours:
    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
    def test_indices_of_any_depth_become_colours(self, bits, rng, tmp_path, read_all):
        indices = rng.integers(0, 1 << bits, (1, *SHAPE)).astype("u2" if bits == 16 else "u1")
        colours = colour_map(rng, bits)
        write_tiff(tmp_path / "p.tif", indices, [colours], bits)
        assert np.array_equal(read_all(tmp_path / "p.tif"), looked_up(indices[0], colours))
        if bits < 16:  # Pillow has no larger palettes
            with Image.open(tmp_path / "p.tif") as image:
                pillow = np.asarray(image.convert("RGB"))
            assert np.array_equal(read_all(tmp_path / "p.tif"), np.moveaxis(pillow, -1, 0))

    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    def test_every_page_has_its_own_colours(self, dtype, rng, tmp_path, read):
        indices = rng.integers(0, 200, (3, *SHAPE)).astype(dtype)
        colours = [colour_map(rng, np.dtype(dtype).itemsize * 8) for _ in range(3)]
        path = tmp_path / "p.tif"
        write_tiff(path, indices, colours, bits=8 * np.dtype(dtype).itemsize, tile=(32, 32))
        got = read(path)
        assert got.shape == (3, 3, *SHAPE)
        for page in range(3):
            assert np.array_equal(got[page], looked_up(indices[page], colours[page]))

    def test_pages_of_pillow_have_their_own_colours(self, rng, tmp_path, read_all):
        pages = []
        for _ in range(4):
            image = Image.fromarray(rng.integers(0, 5, SHAPE).astype("u1")).convert("L")
            image.putpalette(rng.integers(0, 256, 768).astype("u1").tobytes())
            pages.append(image)
        pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
        with Image.open(tmp_path / "p.tif") as image:
            want = np.stack([np.moveaxis(np.asarray(f.convert("RGB")), -1, 0) for f in ImageSequence.Iterator(image)])
        assert np.array_equal(read_all(tmp_path / "p.tif"), want)

    def test_one_page_is_read_with_its_own_colours(self, rng, tmp_path):
        indices = rng.integers(0, 256, (3, *SHAPE)).astype("u1")
        colours = [colour_map(rng, 8) for _ in range(3)]
        write_tiff(tmp_path / "p.tif", indices, colours, tile=(32, 32))
        pyramid = ndzarr.open(tmp_path / "p.tif")
        got = pyramid.read(t=slice(2, 3), y=slice(30, 50), x=slice(10, 40))
        assert np.array_equal(got[0], looked_up(indices[2, 30:50, 10:40], colours[2]))

    @pytest.mark.parametrize(("extra", "names"), [("unassalpha", "rgba"), ("unspecified", ("r", "g", "b", "c3"))])
    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    def test_samples_behind_the_index_are_kept(self, extra, names, dtype, rng, tmp_path, read):
        bits = 8 * np.dtype(dtype).itemsize
        pixels = rng.integers(0, 1 << bits, (1, *SHAPE, 2)).astype(dtype)
        colours = colour_map(rng, bits)
        path = tmp_path / "p.tif"
        write_tiff(path, pixels, [colours], bits, extras=(extra,), tile=(32, 32))
        got = read(path)
        assert np.array_equal(got[3], pixels[0, ..., 1])
        assert np.array_equal(got[:3] >> (bits - 8), looked_up(pixels[0, ..., 0], colours))
        assert ndzarr.open(path).channels == tuple(names)

    def test_a_palette_with_alpha_of_pillow_is_its_colours(self, rng, tmp_path, read_all):
        image = Image.fromarray(rng.integers(0, 9, SHAPE).astype("u1")).convert("L")
        image.putpalette(rng.integers(0, 256, 768).astype("u1").tobytes())
        image.convert("PA").save(tmp_path / "p.tif")
        with Image.open(tmp_path / "p.tif") as opened:
            want = np.moveaxis(np.asarray(opened.convert("RGBA")), -1, 0)
        assert np.array_equal(read_all(tmp_path / "p.tif"), want)

    def test_nodata_and_alpha_both_hide(self, rng, tmp_path, read_all):
        pixels = rng.integers(0, 256, (1, *SHAPE, 2)).astype("u1")
        write_tiff(tmp_path / "p.tif", pixels, [colour_map(rng, 8)], extras=("unassalpha",))
        (tmp_path / "p.tif.aux.xml").write_text(AUX.format("<NoDataValue>7</NoDataValue>"))
        index, alpha = pixels[0, ..., 0], pixels[0, ..., 1]
        assert np.array_equal(read_all(tmp_path / "p.tif")[3], np.where(index == 7, 0, alpha))

    def test_a_description_of_the_band_is_not_the_name_of_red(self, rng, tmp_path):
        write_tiff(
            tmp_path / "p.tif", rng.integers(0, 9, (1, *SHAPE)).astype("u1"), [colour_map(rng, 8)], tile=(32, 32)
        )
        (tmp_path / "p.tif.aux.xml").write_text(AUX.format("<Description>landcover</Description>"))
        assert ndzarr.open(tmp_path / "p.tif").channels == ("r", "g", "b")


class TestIndices:
    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
    @pytest.mark.parametrize("option", [{"palette": "indices"}, {"kind": "labels"}])
    def test_class_numbers_are_kept_and_their_colours_are_an_attribute(self, bits, option, rng, tmp_path):
        dtype = "u2" if bits == 16 else "u1"
        indices = rng.integers(0, 1 << bits, (1, *SHAPE)).astype(dtype)
        colours = colour_map(rng, bits)
        write_tiff(tmp_path / "p.tif", indices, [colours], bits)
        store = ndzarr.transcode(tmp_path / "p.tif", tmp_path / "p.zarr", **option)
        assert (store.channels, store.kind, store.dtype) == (("index",), "labels", dtype)
        assert np.array_equal(store.read(), indices)
        assert store.attrs["ndzarr"]["source"]["palette"] == (colours.T >> 8).tolist()

    @pytest.mark.parametrize("form", ["png", "gif", "bmp"])
    def test_other_formats_keep_class_numbers_too(self, form, rng, tmp_path, read_all):
        indices = rng.integers(0, 256, SHAPE).astype("u1")
        colours = rng.integers(0, 256, (256, 3)).astype("u1")
        image = Image.fromarray(indices).convert("L")
        image.putpalette(colours.tobytes())
        image.save(tmp_path / f"p.{form}")
        with Image.open(tmp_path / f"p.{form}") as opened:
            want, table = np.asarray(opened), np.array(opened.getpalette("RGB")).reshape(-1, 3)
        store = ndzarr.transcode(tmp_path / f"p.{form}", tmp_path / "p.zarr", kind="labels")
        assert np.array_equal(store.read()[0], want)
        assert store.attrs["ndzarr"]["source"]["palette"] == table.tolist()
        with Image.open(tmp_path / f"p.{form}") as opened:
            shown = np.moveaxis(np.asarray(opened.convert("RGB")), -1, 0)
        assert np.array_equal(read_all(tmp_path / f"p.{form}", palette="colours"), shown)

    def test_a_transparent_entry_keeps_its_alpha(self, tmp_path):
        image = Image.fromarray((np.indices(SHAPE).sum(0) % 3).astype("u1")).convert("L")
        image.putpalette([1, 2, 3, 4, 5, 6, 7, 8, 9])
        image.save(tmp_path / "p.png", transparency=bytes([255, 0, 128]))
        store = ndzarr.transcode(tmp_path / "p.png", tmp_path / "p.zarr", palette="indices")
        assert store.attrs["ndzarr"]["source"]["palette"][:3] == [[1, 2, 3, 255], [4, 5, 6, 0], [7, 8, 9, 128]]

    def test_levels_never_mix_class_numbers(self, tmp_path):
        indices = np.where(np.indices((512, 600)).sum(0) % 2, 10, 200).astype("u1")[None]
        write_tiff(tmp_path / "p.tif", indices, [np.zeros((3, 256), "u2")], tile=(64, 64))
        for pyramid in (
            ndzarr.open(tmp_path / "p.tif", palette="indices"),
            ndzarr.transcode(tmp_path / "p.tif", tmp_path / "p.zarr", palette="indices"),
        ):
            assert set(np.unique(pyramid.read(1))) <= {10, 200}
            assert set(np.unique(pyramid.window(scale=0.3))) <= {10, 200}

    def test_pages_of_different_colours_are_noted(self, rng, tmp_path):
        indices = rng.integers(0, 9, (2, *SHAPE)).astype("u1")
        write_tiff(tmp_path / "p.tif", indices, [colour_map(rng, 8) for _ in range(2)], tile=(32, 32))
        pyramid = ndzarr.open(tmp_path / "p.tif", palette="indices")
        source = pyramid.attrs["ndzarr"]["source"]
        assert np.array_equal(pyramid.read()[:, 0], indices)
        assert "palette" not in source
        assert source["notes"]

    def test_indices_of_an_animation_are_refused(self, tmp_path):
        frames = [Image.fromarray(np.full((8, 8), k, "u1")).convert("L") for k in range(2)]
        for frame in frames:
            frame.putpalette([0, 0, 0, 200, 9, 9])
        frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:])
        with pytest.raises(ndzarr.errors.OptionError) as caught:
            ndzarr.transcode(tmp_path / "p.gif", tmp_path / "p.zarr", palette="indices")
        assert caught.value.key == "palette"

    def test_a_palette_that_is_missing_leaves_the_indices(self, rng, tmp_path, read_all):
        indices = rng.integers(0, 9, SHAPE).astype("u1")
        tifffile.imwrite(tmp_path / "p.tif", indices, photometric="minisblack", metadata=None)
        patch(tmp_path / "p.tif", 262, 3)
        with pytest.raises(ndzarr.errors.SourceError):
            read_all(tmp_path / "p.tif")
        assert np.array_equal(read_all(tmp_path / "p.tif", palette="indices")[0], indices)


class TestDatasets:
    @pytest.mark.parametrize("form", ["png", "tif", "tiled.tif"])
    @pytest.mark.parametrize("transcode", ["auto", "always"])
    def test_one_named_channel_is_the_class_number(self, form, transcode, rng, tmp_path):
        indices = rng.integers(0, 200, SHAPE).astype("u1")
        colours = colour_map(rng, 8)
        path = tmp_path / f"m.{form}"
        if form == "png":
            image = Image.fromarray(indices).convert("L")
            image.putpalette((colours.T >> 8).astype("u1").tobytes())
            image.save(path)
        else:
            write_tiff(path, indices[None], [colours], tile=(64, 64) if form == "tiled.tif" else None)
        image = {"id": 1, "file_name": str(path), "width": SHAPE[1], "height": SHAPE[0]}
        named = ndzarr.CocoSampler({"images": [{**image, "channels": "class"}]}, tmp_path / "w", transcode=transcode)
        sample = named.load_sample(gid=1)
        assert list(sample.c.values) == ["class"]
        assert np.array_equal(sample.image.values[0], indices)
        shown = ndzarr.CocoSampler({"images": [image]}, tmp_path / "w", transcode=transcode).load_sample(gid=1)
        assert np.array_equal(shown.image.values, looked_up(indices, colours))


class TestCogs:
    def test_colours_of_indices_become_a_colour_map(self, rng, tmp_path):
        indices = rng.integers(0, 9, (1, 300, 400)).astype("u1")
        colours = colour_map(rng, 8)
        write_tiff(tmp_path / "p.tif", indices, [colours], tile=(64, 64))
        store = ndzarr.transcode(tmp_path / "p.tif", tmp_path / "p.zarr", kind="labels")
        for pyramid in (store, ndzarr.open(tmp_path / "p.tif", palette="indices")):
            ndzarr.export_cog(pyramid, tmp_path / "c.tif", overwrite=True)
            with rasterio.open(tmp_path / "c.tif") as dataset:
                assert np.array_equal(dataset.read(), indices)
                found = dataset.colormap(1)
                assert [found[k][:3] for k in range(256)] == [tuple(c) for c in (colours.T >> 8).tolist()]
        assert np.array_equal(ndzarr.open(tmp_path / "c.tif").read(), looked_up(indices[0], colours))
