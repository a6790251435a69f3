"""TIFFs of rare forms: subsampled YCbCr outside JPEG, padded strips, LogLuv, old-style JPEG, absurd headers."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image

import ndzarr
from ndzarr._formats.registry import open_source
from ndzarr.errors import NdzarrError, SourceError
from tests.helpers.tiff_bytes import gray_tags, tiff_bytes

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
ENCODERS = {1: bytes, 5: imagecodecs.lzw_encode, 8: zlib.compress, 32773: imagecodecs.packbits_encode}

MORE_ENCODERS = {50000: imagecodecs.zstd_encode, 34925: imagecodecs.lzma_encode}


def by_gdal(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def units(luma, chroma, across: int, down: int) -> bytes:
    """Luma, shape (y, x), and chroma, shape (y, x, 2) of each block, as the data units of TIFF 6.0, section 21."""
    high, wide = chroma.shape[:2]
    blocks = luma.reshape(high, down, wide, across).swapaxes(1, 2).reshape(high, wide, -1)
    return np.concatenate([blocks, chroma], axis=-1).astype("u1").tobytes()


def write_ycbcr(path, rng, size, segment, subsampling, compression, tiled, more=None) -> np.ndarray:
    """Write an image whose segments have `segment` rows and columns; return luma, Cb and Cr of each pixel."""
    across, down = subsampling
    rows, columns = segment
    grid = -(-size[0] // rows), -(-size[1] // columns)
    whole = np.empty((grid[0] * rows, grid[1] * columns, 3), "u1")
    parts = []
    for y in range(0, whole.shape[0], rows):
        for x in range(0, whole.shape[1], columns):
            high = rows if tiled else min(rows, size[0] - y)
            shape = -(-high // down), -(-columns // across)
            luma = rng.integers(16, 236, (shape[0] * down, shape[1] * across))
            chroma = rng.integers(100, 156, (*shape, 2))
            parts.append(ENCODERS[compression](units(luma, chroma, across, down)))
            part = np.dstack([luma, chroma.repeat(down, 0).repeat(across, 1)])
            whole[y : y + high, x : x + columns] = part[:high, :columns]
    sizes = {322: (4, [columns]), 323: (4, [rows])} if tiled else {278: (4, [rows])}
    tags = {256: (4, [size[1]]), 257: (4, [size[0]]), 258: (3, [8, 8, 8]), 259: (3, [compression]), 262: (3, [6])}
    tags |= {277: (3, [3]), 284: (3, [1]), 530: (3, [across, down]), **sizes, **(more or {})}
    path.write_bytes(tiff_bytes({k: v for k, v in tags.items() if v}, parts, tiled))
    return whole[: size[0], : size[1]]


class TestSubsampledChroma:
    @pytest.mark.parametrize("compression", list(ENCODERS))
    @pytest.mark.parametrize("subsampling", [(2, 1), (2, 2), (4, 2), (1, 2)])
    def test_strips_are_what_libtiff_makes_of_them(self, compression, subsampling, rng, tmp_path, read_all):
        path = tmp_path / "y.tif"
        write_ycbcr(path, rng, (50, 64), (16, 64), subsampling, compression, tiled=False)
        got = read_all(path)
        assert np.abs(got.astype(int) - by_gdal(path)).max() <= 1  # libtiff rounds in steps

    @pytest.mark.parametrize("compression", [1, 5, 8])
    @pytest.mark.parametrize("size", [(64, 96), (50, 70)])
    def test_tiles_are_read_in_place_as_in_a_store(self, compression, size, rng, tmp_path):
        path = tmp_path / "y.tif"
        stored = write_ycbcr(path, rng, size, (32, 32), (2, 2), compression, tiled=True)
        pillow = np.asarray(Image.fromarray(stored, "YCbCr").convert("RGB"))
        store = ndzarr.transcode(path, tmp_path / "y.zarr")
        assert np.abs(store.read().astype(int) - np.moveaxis(pillow, -1, 0)).max() <= 1
        pyramid = ndzarr.open(path)
        assert np.array_equal(pyramid.read(), store.read())
        assert np.array_equal(
            pyramid.read(y=slice(30, 40), x=slice(5, 60)), store.read(y=slice(30, 40), x=slice(5, 60))
        )
        image = {"id": 1, "file_name": str(path), "width": size[1], "height": size[0], "channels": "r|g|b"}
        sample = ndzarr.CocoSampler({"images": [image]}, tmp_path / "w").load_sample(gid=1)
        assert np.array_equal(sample.image.values, store.read())

    def test_a_missing_tag_means_a_fourth_of_the_chroma(self, rng, tmp_path, read_all):
        path = tmp_path / "y.tif"
        write_ycbcr(path, rng, (48, 64), (16, 64), (2, 2), 1, tiled=False, more={530: None})
        plain = read_all(path)
        assert np.abs(plain.astype(int) - by_gdal(path)).max() <= 1

    def test_coefficients_and_levels_of_the_file_are_used(self, rng, tmp_path, read_all):
        path = tmp_path / "y.tif"
        levels = [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1]
        bt709 = [2126, 10000, 7152, 10000, 722, 10000]
        more = {529: (5, bt709), 532: (5, levels)}
        tags_and = {int(k): v for k, v in more.items()}
        stored = write_ycbcr_with(path, rng, tags_and).astype(float)
        luma, blue, red = (stored[..., 0] - 16) * 255 / 219, *((stored[..., k] - 128) * 127 / 112 for k in (1, 2))
        r, b = luma + (2 - 2 * 0.2126) * red, luma + (2 - 2 * 0.0722) * blue
        g = (luma - 0.2126 * r - 0.0722 * b) / 0.7152
        want = np.clip(np.rint([r, g, b]), 0, 255)
        assert np.abs(read_all(path) - want).max() <= 1
        assert np.abs(read_all(path).astype(int) - by_gdal(path)).max() <= 3  # libtiff truncates in between

    def test_jpeg_xr_says_itself_what_its_pixels_are(self, rng, tmp_path, read_all):
        pixels = np.repeat(np.repeat(rng.integers(0, 256, (4, 5, 3)).astype("u1"), 16, 0), 16, 1)
        encoded = imagecodecs.jpegxr_encode(pixels, level=1.0)
        tags = gray_tags(64, 80, 64, 22610) | {258: (3, [8, 8, 8]), 262: (3, [6]), 277: (3, [3])}
        (tmp_path / "x.tif").write_bytes(tiff_bytes(tags, [encoded]))
        want = np.moveaxis(imagecodecs.jpegxr_decode(encoded), -1, 0)
        assert np.array_equal(read_all(tmp_path / "x.tif"), want)

    def test_chroma_in_planes_of_its_own_is_refused_by_name(self, rng, tmp_path):
        path = tmp_path / "y.tif"
        write_ycbcr(path, rng, (32, 32), (32, 32), (2, 2), 1, tiled=False)
        data = path.read_bytes()
        path.write_bytes(data.replace(struct.pack("<HHIHH", 284, 3, 1, 1, 0), struct.pack("<HHIHH", 284, 3, 1, 2, 0)))
        with pytest.raises(SourceError) as caught:
            open_source(path)
        assert caught.value.path == str(path)


def write_ycbcr_with(path, rng, tags) -> np.ndarray:
    """Write blocks of 2 x 2 with more tags."""
    luma, chroma = rng.integers(16, 236, (32, 48)), rng.integers(100, 156, (16, 24, 2))
    given = gray_tags(32, 48, 32) | {258: (3, [8, 8, 8]), 262: (3, [6]), 277: (3, [3]), 530: (3, [2, 2]), **tags}
    path.write_bytes(tiff_bytes(given, [units(luma, chroma, 2, 2)]))
    return np.dstack([luma, chroma.repeat(2, 0).repeat(2, 1)])


class TestPaddedStrips:
    @pytest.mark.parametrize("compression", [*ENCODERS, *MORE_ENCODERS])
    @pytest.mark.parametrize("bits", [8, 16])
    def test_rows_beyond_the_image_are_ignored(self, compression, bits, rng, tmp_path, read_all):
        pixels = rng.integers(0, 1 << bits, (50, 40)).astype(f"<u{bits // 8}")
        padded = np.pad(pixels, ((0, 14), (0, 0)))
        strips = [(ENCODERS | MORE_ENCODERS)[compression](padded[k : k + 16].tobytes()) for k in range(0, 64, 16)]
        path = tmp_path / "p.tif"
        path.write_bytes(tiff_bytes(gray_tags(50, 40, 16, compression) | {258: (3, [bits])}, strips))
        assert np.array_equal(read_all(path)[0], pixels)
        assert np.array_equal(by_gdal(path)[0], pixels)

    def test_a_padded_strip_of_bits_is_read(self, rng, tmp_path, read_all):
        pixels = rng.integers(0, 2, (20, 24)).astype("u1")
        packed = np.packbits(np.pad(pixels, ((0, 12), (0, 0))), axis=1)
        strips = [zlib.compress(packed[k : k + 16].tobytes()) for k in (0, 16)]
        path = tmp_path / "p.tif"
        path.write_bytes(tiff_bytes(gray_tags(20, 24, 16, 8) | {258: (3, [1])}, strips))
        assert np.array_equal(read_all(path)[0], pixels)

    @pytest.mark.parametrize("at", [-1, -3, 40])
    def test_damage_is_still_found(self, at, rng, tmp_path, read_all):
        strip = bytearray(zlib.compress(rng.integers(0, 9, (16, 40)).astype("u1").tobytes()))
        strip[at] ^= 0x55
        path = tmp_path / "p.tif"
        path.write_bytes(tiff_bytes(gray_tags(16, 40, 16, 8), [bytes(strip)]))
        with pytest.raises(SourceError):
            read_all(path)


def test_offsets_of_one_byte_are_read(rng, tmp_path, read_all):
    pixels = rng.integers(0, 256, (4, 10)).astype("u1")
    strips = [pixels[:2].tobytes(), pixels[2:].tobytes()]
    tags = gray_tags(4, 10, 2) | {273: (1, [8, 28]), 279: (1, [20, 20])}
    (tmp_path / "b.tif").write_bytes(tiff_bytes(tags, strips))
    assert np.array_equal(read_all(tmp_path / "b.tif")[0], pixels)


class TestLogLuv:
    def encode(self, codes, planes: int) -> bytes:
        """Codes, shape (y, x), as SGI's run lengths: the bytes of each row by significance, as literals here."""
        out = bytearray()
        for row in codes:
            for plane in reversed(range(planes)):
                data = ((row >> (8 * plane)) & 255).astype("u1").tobytes()
                for k in range(0, len(data), 127):
                    out += bytes([len(data[k : k + 127])]) + data[k : k + 127]
        return bytes(out)

    def test_luminance_is_that_of_the_codes(self, rng, tmp_path, read_all):
        codes = rng.integers(12000, 20000, (20, 30)).astype("u2")
        codes[0, :3] = 0, 0x8000 | 15000, 16384
        path = tmp_path / "l.tif"
        tags = gray_tags(20, 30, 20, 34676) | {258: (3, [16]), 262: (3, [32844]), 339: (3, [2])}
        path.write_bytes(tiff_bytes(tags, [self.encode(codes, 2)]))
        assert np.array_equal(by_gdal(path)[0].view("u2"), codes)
        magnitude = 2.0 ** (((codes & 0x7FFF) + 0.5) / 256 - 64)
        want = np.where(codes & 0x7FFF == 0, 0, np.where(codes & 0x8000, -magnitude, magnitude))
        got = read_all(path)
        assert got.dtype == np.float32
        assert np.allclose(got[0], want, rtol=1e-5)

    def test_colours_are_cie_xyz(self, rng, tmp_path, read_all):
        luma, u, v = rng.integers(14000, 18000, (20, 30)), *(rng.integers(60, 200, (20, 30)) for _ in range(2))
        path = tmp_path / "l.tif"
        tags = gray_tags(20, 30, 20, 34676) | {258: (3, [16] * 3), 262: (3, [32845]), 277: (3, [3]), 339: (3, [2] * 3)}
        path.write_bytes(tiff_bytes(tags, [self.encode((luma << 16) | (u << 8) | v, 4)]))
        brightness = 2.0 ** ((luma + 0.5) / 256 - 64)
        u, v = (u + 0.5) / 410, (v + 0.5) / 410
        scale = 1 / (6 * u - 16 * v + 12)
        x, y = 9 * u * scale, 4 * v * scale
        want = np.stack([x / y * brightness, brightness, (1 - x - y) / y * brightness])
        assert np.allclose(read_all(path), want, rtol=1e-4)
        store = ndzarr.transcode(path, tmp_path / "l.zarr")
        assert store.channels == ("X", "Y", "Z")


class TestOldStyleJpeg:
    def write(self, path, pixels, whole: bool) -> bytes:
        """Write a photograph as old-style JPEG: by the position of the stream, or as a strip that is one."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=90, subsampling=0)
        stream = file.getvalue()
        height, width = pixels.shape[:2]
        gray = pixels.ndim == 2
        tags = gray_tags(height, width, height, 6) | {530: (3, [1, 1])}
        if not gray:
            tags |= {258: (3, [8, 8, 8]), 262: (3, [6]), 277: (3, [3])}
        if whole:
            tags |= {512: (3, [1]), 513: (4, [8]), 514: (4, [len(stream)])}
        path.write_bytes(tiff_bytes(tags, [stream]))
        return stream

    @pytest.mark.parametrize("whole", [True, False])
    def test_pixels_are_those_of_the_stream(self, whole, photo, tmp_path, read_all):
        path = tmp_path / "o.tif"
        stream = self.write(path, photo, whole)
        with Image.open(io.BytesIO(stream)) as image:
            want = np.moveaxis(np.asarray(image), -1, 0)
        got = read_all(path)
        assert np.abs(got.astype(int) - want).max() <= 2
        with open_source(path) as source:
            assert source.channels == ("r", "g", "b")
        with pytest.raises(NdzarrError) as caught:
            ndzarr.open(path)
        assert "ndzarr.transcode" in caught.value.hint

    def test_a_damaged_stream_is_an_error(self, photo, tmp_path, read_all):
        path = tmp_path / "o.tif"
        self.write(path, photo, True)
        data = bytearray(path.read_bytes())
        data[8:40] = bytes(32)
        path.write_bytes(data)
        with pytest.raises(SourceError) as caught:
            read_all(path)
        assert caught.value.path == str(path)


class TestAbsurdHeaders:
    """Headers that promise far more than the file can hold are refused before anything is allocated."""

    def attempts(self, path, tmp_path):
        yield lambda: ndzarr.open(path)
        yield lambda: ndzarr.transcode(path, tmp_path / "a.zarr")
        image = {"id": 1, "file_name": str(path), "width": 8, "height": 1}
        sampler = ndzarr.CocoSampler({"images": [image]}, tmp_path / "w")
        yield lambda: sampler.load_sample({"gid": 1, "y": slice(0, 1), "x": slice(0, 8)})

    def refuse(self, path, tmp_path) -> None:
        for attempt in self.attempts(path, tmp_path):
            with pytest.raises(NdzarrError) as caught:
                attempt()
            assert caught.value.hint

    @pytest.mark.parametrize("width", [1 << 31, (1 << 31) - 1, 1 << 30])
    @pytest.mark.parametrize("compression", [1, 8])
    def test_a_sparse_row_of_billions(self, width, compression, tmp_path):
        tags = gray_tags(1, width, 1, compression) | {273: (4, [0]), 279: (4, [0])}
        (tmp_path / "w.tif").write_bytes(tiff_bytes(tags))
        self.refuse(tmp_path / "w.tif", tmp_path)

    @pytest.mark.parametrize("compression", [1, 8])
    def test_thousands_of_samples_a_pixel(self, compression, tmp_path):
        tags = gray_tags(1000, 1000, 1000, compression) | {258: (3, [8] * 65535), 277: (3, [65535])}
        (tmp_path / "w.tif").write_bytes(tiff_bytes(tags | {273: (4, [0]), 279: (4, [0])}))
        self.refuse(tmp_path / "w.tif", tmp_path)

    def test_a_huge_tile_in_a_kilobyte(self, tmp_path):
        tags = gray_tags(100, 100, 100, 8) | {322: (4, [24576]), 323: (4, [24576])}
        del tags[278]
        (tmp_path / "w.tif").write_bytes(tiff_bytes(tags, [zlib.compress(bytes(1000))], tiled=True))
        self.refuse(tmp_path / "w.tif", tmp_path)

    def test_sparse_files_of_sane_tiles_are_read(self, tmp_path):
        with rasterio.open(
            tmp_path / "s.tif", "w", driver="GTiff", width=20000, height=20000, count=1, dtype="uint8",
            tiled=True, sparse_ok=True, compress="deflate",
        ):  # fmt: skip
            pass
        with open_source(tmp_path / "s.tif") as source:
            assert not source.read({"y": slice(0, 600), "x": slice(0, 600)}).any()


@pytest.mark.parametrize(("code", "name"), [(32809, "thunderscan"), (32766, "next"), (44510, "44510")])
def test_a_compression_that_is_not_supported_is_named_when_the_file_is_opened(code, name, tmp_path):
    (tmp_path / "t.tif").write_bytes(tiff_bytes(gray_tags(1, 8, 1, code), [bytes(8)]))
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / "t.tif")
    assert name in str(caught.value)
    assert "gdal_translate" in caught.value.hint


def test_what_tifffile_writes_is_not_implausible(tmp_path, read_all):
    tifffile.imwrite(tmp_path / "z.tif", np.zeros((3000, 3000), "u2"), compression="zlib", rowsperstrip=3000)
    assert not read_all(tmp_path / "z.tif").any()
