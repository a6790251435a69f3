from __future__ import annotations

import struct
from importlib.metadata import version

import imagecodecs
import numpy as np
import pytest
from packaging.version import Version

import ndzarr
from helpers.errors import raises
from ndzarr._formats.registry import open_source
from ndzarr.errors import SourceError


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def definitions(*channels: tuple[int, int, int]) -> bytes:
    """Write (channel, 0 for colour or 1 for alpha, number of the colour) each."""
    return box(b"cdef", struct.pack(">H", len(channels)) + b"".join(struct.pack(">HHH", *c) for c in channels))


def with_boxes(jp2: bytes, more: bytes = b"", colour: bytes | None = None) -> bytes:
    """Add boxes to the header of a JP2, and exchange its colour specification."""
    at = jp2.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", jp2, at)
    inner = jp2[at + 8 : at + length]
    if colour is not None:
        start = inner.index(b"colr") - 4
        (size,) = struct.unpack_from(">I", inner, start)
        inner = inner[:start] + box(b"colr", colour) + inner[start + size :]
    return jp2[:at] + box(b"jp2h", inner + more) + jp2[at + length :]


@pytest.mark.parametrize("container", ["jp2", "j2k"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
@pytest.mark.parametrize("samples", [1, 3, 5])
def test_jpeg2000_is_as_imagecodecs_decodes_it(container, dtype, samples, rng, save, read_all):
    pixels = rng.integers(0, 120, (37, 51, samples)).astype(dtype)
    encoded = imagecodecs.jpeg2k_encode(pixels if samples > 1 else pixels[..., 0], level=0, codecformat=container)
    path = save("a.dat", encoded)
    assert np.array_equal(read_all(path), pixels.transpose(2, 0, 1))
    with open_source(path) as source:
        assert source.channels[0] == {1: "gray", 3: "r", 5: "c0"}[samples]
        assert source.metadata["format"] == "JPEG 2000"


@pytest.mark.parametrize(("bits", "dtype"), [(1, "u1"), (10, "u2"), (12, "u2")])
def test_jpeg2000_of_odd_depths_keeps_its_values(bits, dtype, rng, save, read_all):
    pixels = rng.integers(0, 1 << bits, (40, 41)).astype(dtype)
    path = save("a.jp2", imagecodecs.jpeg2k_encode(pixels, level=0, bitspersample=bits))
    assert np.array_equal(read_all(path)[0], pixels)


@pytest.mark.parametrize(("samples", "names"), [(2, ("gray", "a")), (4, ("r", "g", "b", "a"))])
def test_jpeg2000_behind_its_colours_has_alpha(samples, names, rng, save):
    pixels = rng.integers(0, 255, (20, 30, samples)).astype(np.uint8)
    with open_source(save("a.jp2", imagecodecs.jpeg2k_encode(pixels, level=0))) as source:
        assert source.channels == names


def test_jpeg2000_channel_definitions_are_believed(rng, save):
    pixels = rng.integers(0, 255, (20, 30, 4)).astype(np.uint8)
    data = imagecodecs.jpeg2k_encode(pixels, level=0)
    data = with_boxes(data, definitions((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 1, 0)))
    with open_source(save("a.jp2", data)) as source:
        assert source.channels == ("r", "g", "b", "a")
        assert np.array_equal(source.read({}), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(("kind", "said"), [(1, "unassociated"), (2, "associated")])
def test_jpeg2000_says_whether_colours_are_multiplied_with_alpha(kind, said, rng, save, tmp_path):
    pixels = rng.integers(0, 255, (20, 30, 4)).astype(np.uint8)
    pixels[:, ::2] = 0, 0, 0, 0
    data = imagecodecs.jpeg2k_encode(pixels, level=0)
    data = with_boxes(data, definitions((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, kind, 0)))
    store = ndzarr.transcode(save("a.jp2", data), tmp_path / "a.zarr")
    assert store.attrs["ndzarr"]["source"]["alpha"] == said
    assert store.validity.associated == (said == "associated")
    shown = pixels[:, 1::2].astype(float).reshape(10, 2, 15, 4)  # the other columns are 0 and hidden
    means = shown.sum(1) / 4
    if said == "unassociated":
        means[..., :3] = (shown[..., :3] * shown[..., 3:]).sum(1) / np.maximum(shown[..., 3:].sum(1), 1)
    assert np.abs(store.window(scale=0.5).values - means.transpose(2, 0, 1)).max() <= 0.5 + 1e-6
    assert np.array_equal(store.window(scale=1).valid, pixels[..., 3] > 0)


@pytest.mark.parametrize(
    ("profile", "samples"), [("gray", 1), ("adobergb", 3), ("srgb", 3), ("gray", 2), ("adobergb", 4)]
)
@pytest.mark.parametrize("method", [2, 3])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_an_icc_profile_changes_no_pixel_of_a_jpeg2000(profile, samples, method, dtype, rng, save, read_all):
    pixels = rng.integers(0, 255, (20, 30, samples)).astype(dtype)
    icc = imagecodecs.cms_profile(profile, gamma=1.8) if profile == "gray" else imagecodecs.cms_profile(profile)
    encoded = imagecodecs.jpeg2k_encode(pixels if samples > 1 else pixels[..., 0], level=0)
    path = save("a.jp2", with_boxes(encoded, colour=bytes([method, 0, 0]) + icc))
    assert np.array_equal(read_all(path), pixels.transpose(2, 0, 1))
    with open_source(path) as source:
        colours = ("gray",) if profile == "gray" else ("r", "g", "b")
        assert source.channels == (*colours, "a")[:samples]
        assert "icc_profile" in source.metadata


def test_channel_definitions_put_colours_in_order(rng, save):
    pixels = rng.integers(0, 255, (20, 30, 4)).astype(np.uint8)
    data = with_boxes(
        imagecodecs.jpeg2k_encode(pixels, level=0), definitions((0, 1, 0), (1, 0, 3), (2, 0, 2), (3, 0, 1))
    )
    with open_source(save("a.jp2", data)) as source:
        assert source.channels == ("r", "g", "b", "a")
        assert np.array_equal(source.read({}), pixels.transpose(2, 0, 1)[[3, 2, 1, 0]])


@pytest.mark.parametrize(("columns", "names"), [(3, ("r", "g", "b")), (4, ("r", "g", "b", "a"))])
def test_a_palette_of_a_jpeg2000_is_looked_up(columns, names, rng, save, read_all):
    indices = rng.integers(0, 200, (20, 30)).astype(np.uint8)
    table = rng.integers(0, 256, (200, columns)).astype(np.uint8)
    palette = box(b"pclr", struct.pack(">HB", 200, columns) + bytes([7] * columns) + table.tobytes())
    mapping = box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, i) for i in range(columns)))
    encoded = imagecodecs.jpeg2k_encode(indices, level=0)
    path = save("a.jp2", with_boxes(encoded, palette + mapping, colour=struct.pack(">BBBI", 1, 0, 0, 16)))
    with open_source(path) as source:
        assert source.channels == names
    assert np.array_equal(read_all(path), np.moveaxis(table[indices], -1, 0))
    assert np.array_equal(read_all(path, palette="indices"), indices[None])
    with open_source(path, palette="indices") as source:
        assert source.channels == ("index",)
        assert source.facts.classes
        assert source.metadata["palette"] == table.tolist()


@pytest.mark.parametrize(("dtype", "bits"), [("u1", None), ("u2", None), ("u2", 12)])
def test_inks_in_a_jpeg2000_are_converted_or_named(dtype, bits, rng, save, read_all):
    pixels = rng.integers(0, 255, (20, 30, 4)).astype(dtype)
    encoded = imagecodecs.jpeg2k_encode(pixels, level=0, bitspersample=bits)
    path = save("a.jp2", with_boxes(encoded, colour=struct.pack(">BBBI", 1, 0, 0, 12)))
    with open_source(path) as source:
        assert source.channels == (("r", "g", "b") if bits is None else ("c", "m", "y", "k"))
    got = read_all(path)
    if bits is None:
        top = np.iinfo(dtype).max
        want = np.rint((top - pixels[..., :3].astype(float)) * (top - pixels[..., 3:].astype(float)) / top)
        assert np.abs(got - want.transpose(2, 0, 1)).max() <= 1
    else:
        assert np.array_equal(got, pixels.transpose(2, 0, 1))


def gdal_writes(path, pixels: np.ndarray, dtype: str, **options: str) -> np.ndarray:
    """Write bands (c, y, x) with GDAL; return what GDAL reads."""
    import rasterio

    shape = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
    with rasterio.open(path, "w", driver="JP2OpenJPEG", dtype=dtype, **shape, **options) as image:
        image.write(pixels)
        image.colorinterp = [rasterio.enums.ColorInterp(i) for i in (3, 4, 5, 6)[: len(pixels)]]
    with rasterio.open(path) as image:
        return image.read()


@pytest.mark.filterwarnings("ignore::UserWarning")  # rasterio: no georeference
@pytest.mark.parametrize("reversible", ["YES", "NO"])
def test_alpha_of_one_bit_is_scaled_as_gdal_does(reversible, photo, tmp_path, read_all):
    pytest.importorskip("rasterio")
    alpha = (np.indices(photo.shape[:2]).sum(0) // 16 % 2 * 255).astype(np.uint8)
    path = tmp_path / "a.jp2"
    options = {"1BIT_ALPHA": "YES", "REVERSIBLE": reversible, "QUALITY": "100"}
    want = gdal_writes(path, np.concatenate([photo.transpose(2, 0, 1), alpha[None]]), "uint8", **options)
    got = read_all(path)
    assert np.array_equal(got[:3], want[:3])
    assert np.array_equal(got[3], alpha)


def with_depths(jp2: bytes, *depths: int) -> bytes:
    """Change the depth of each component; a negative depth is signed."""
    data = bytearray(jp2)
    for i, depth in enumerate(depths):
        data[jp2.index(b"\xff\x4f\xff\x51") + 42 + 3 * i] = abs(depth) - 1 | (depth < 0) << 7
    return bytes(data)


@pytest.mark.parametrize("container", ["jp2", "j2k"])
@pytest.mark.parametrize(
    ("depths", "dtype"),
    [
        ((12, 12, 12, 1), "u2"),
        ((8, 8, 8, 2), "u1"),
        ((8, 12), "u2"),
        ((16, -16), "i4"),
        ((-8, 8), "i2"),
        ((5, 8), "u1"),
    ],
)
def test_components_of_different_depth_keep_their_values(depths, dtype, container, rng, save, read_all):
    # what is coded are values around 0, whatever depth the header states
    deepest = max(map(abs, depths))
    low = [-(1 << abs(depth) - 1) for depth in depths]
    around = np.stack([rng.integers(a, -a, (20, 30)) for a in low], axis=-1)
    stored = (around + (1 << deepest - 1)).astype(np.uint8 if deepest <= 8 else np.uint16)
    encoded = imagecodecs.jpeg2k_encode(stored, level=0, bitspersample=deepest, mct=False, codecformat=container)
    path = save("a.dat", with_depths(encoded, *depths))
    want = around + [0 if depth < 0 else 1 << depth - 1 for depth in depths]
    if len(depths) == 4 and container == "jp2":  # the last is alpha
        want[..., 3] = np.rint(want[..., 3] * ((1 << depths[0]) - 1) / ((1 << depths[3]) - 1))
    got = read_all(path)
    assert got.dtype == dtype
    assert np.array_equal(got, want.transpose(2, 0, 1))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_subsampled_chroma_is_converted_as_gdal_does(photo, tmp_path, read_all):
    pytest.importorskip("rasterio")
    path = tmp_path / "a.jp2"
    even = np.ascontiguousarray(photo[:176, :200].transpose(2, 0, 1))
    want = gdal_writes(path, even, "uint8", YCBCR420="YES")
    assert np.abs(read_all(path).astype(int) - want).max() <= 2


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_jpegxl_is_as_imagecodecs_decodes_it(boxed, dtype, samples, rng, save, read_all):
    pixels = (rng.random((37, 51, samples)) * (1 if dtype == "f4" else 250)).astype(dtype)
    encoded = imagecodecs.jpegxl_encode(pixels if samples > 1 else pixels[..., 0], lossless=True, usecontainer=boxed)
    path = save("a.dat", encoded)
    assert np.array_equal(read_all(path), pixels.transpose(2, 0, 1))
    with open_source(path) as source:
        assert source.channels == {1: ("gray",), 2: ("gray", "a"), 3: ("r", "g", "b"), 4: ("r", "g", "b", "a")}[samples]


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (64, 128), (9, 1000), (1, 1), (600, 800), (8192, 3)])
def test_jpegxl_headers_of_every_kind_are_understood(size, rng, save, read_all):
    pixels = rng.integers(0, 255, size).astype(np.uint8)
    path = save("a.jxl", imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1))
    assert np.array_equal(read_all(path)[0], pixels)


@pytest.mark.parametrize("shape", [(5, 20, 30), (5, 20, 30, 3)])
def test_animated_jpegxl_has_frames_along_t(shape, rng, save, read_all):
    pixels = rng.integers(0, 255, shape).astype(np.uint8)
    photometric = "rgb" if shape[-1] == 3 else "gray"
    path = save("a.jxl", imagecodecs.jpegxl_encode(pixels, lossless=True, photometric=photometric))
    got = read_all(path)
    assert np.array_equal(got, pixels[:, None] if len(shape) == 3 else pixels.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("boxed", [False, True])
def test_bands_of_a_jpegxl_are_channels(dtype, boxed, rng, save, read_all):
    pixels = (rng.random((5, 20, 30)) * (1 if dtype == "f4" else 250)).astype(dtype)
    path = save(
        "a.jxl", imagecodecs.jpegxl_encode(pixels, lossless=True, planar=True, photometric="gray", usecontainer=boxed)
    )
    with open_source(path) as source:
        assert source.dims == ("c", "y", "x")
        assert source.channels == ("gray", "c1", "c2", "c3", "c4")
    assert np.array_equal(read_all(path), pixels)


@pytest.mark.parametrize(("bits", "dtype"), [(1, "u1"), (5, "u1"), (9, "u2"), (10, "u2"), (12, "u2"), (14, "u2")])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.skipif(Version(version("imagecodecs")) < Version("2025.1"), reason="older encoders do not say the bits")
def test_a_jpegxl_of_odd_depth_keeps_its_values_and_says_its_bits(bits, dtype, samples, rng, save, tmp_path):
    pixels = rng.integers(0, 1 << bits, (20, 30, samples)).astype(dtype)
    encoded = imagecodecs.jpegxl_encode(pixels if samples > 1 else pixels[..., 0], lossless=True, bitspersample=bits)
    path = save("a.jxl", encoded)
    pyramid = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert np.array_equal(pyramid.read(), pixels.transpose(2, 0, 1))
    assert pyramid.attrs["ndzarr"]["source"]["bits"] == bits


def with_kind(jxl: bytes, kind: int) -> bytes:
    """Make alpha of an RGBA codestream of 21 x 29 pixels and 8 bits an extra channel of another kind."""
    value, at = int.from_bytes(jxl, "little"), 50  # behind signature, size, depth and number of extra channels
    assert value >> at & 1  # alpha with all defaults
    fields = [(0, 1), (2, 2), (kind - 2, 4), (0, 1), (3, 2), (7, 6), (0, 2), (2, 2), (0, 5), (0, 8 * 16)]
    new, length = 0, 0
    for field, bits in fields:
        new, length = new | field << length, length + bits
    value = value & ((1 << at) - 1) | new << at | value >> at + 1 << at + length
    return value.to_bytes(len(jxl) + (length - 1) // 8, "little")


@pytest.mark.parametrize(("kind", "names"), [(4, ("c", "m", "y", "k")), (6, ("r", "g", "b", "c3"))])
@pytest.mark.parametrize("boxed", [False, True])
def test_black_and_further_channels_of_a_jpegxl_are_kept(kind, names, boxed, rng, save, read_all):
    pixels = rng.integers(0, 255, (21, 29, 4)).astype(np.uint8)
    data = with_kind(imagecodecs.jpegxl_encode(pixels, lossless=True), kind)
    assert imagecodecs.jpegxl_decode(data).shape == (21, 29, 3)  # imagecodecs leaves it out
    if boxed:
        data = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ") + box(b"jxlc", data)
    path = save("a.jxl", data)
    with open_source(path) as source:
        assert source.channels == names
    assert np.array_equal(read_all(path), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.95, 0.999])
@pytest.mark.parametrize("form", ["jp2", "j2k", "jxl"])
def test_a_truncated_file_is_an_error(form, kept, photo, save):
    if form == "jxl":
        data = imagecodecs.jpegxl_encode(photo, lossless=True)
    else:
        data = imagecodecs.jpeg2k_encode(photo, level=0, codecformat=form)
        data = data[: data.index(b"\xff\xd9") + 2]  # older encoders leave junk behind the end
    path = save("image", data[: int(len(data) * kept)])
    with raises(SourceError, path=path), open_source(path) as source:
        source.read({})


@pytest.mark.parametrize(
    "wrong",
    [
        definitions((0, 0, 1), (1, 0, 3), (2, 0, 3), (3, 1, 0)),  # no second colour
        definitions((0, 0, 1), (1, 0, 2), (2, 0, 3), (7, 1, 0)),  # no such channel
        definitions((0, 0, 1), (0, 0, 2), (2, 0, 3), (3, 1, 0)),  # a channel twice
    ],
)
def test_channel_definitions_that_contradict_themselves_are_left_out(wrong, rng, save, read_all):
    pixels = rng.integers(0, 255, (20, 30, 4)).astype(np.uint8)
    path = save("a.jp2", with_boxes(imagecodecs.jpeg2k_encode(pixels, level=0), wrong))
    assert np.array_equal(read_all(path), pixels.transpose(2, 0, 1))


def with_steps(jp2: bytes, *steps: tuple[int, int]) -> bytes:
    """Change how many pixels a sample of each component covers."""
    data = bytearray(jp2)
    for i, (across, down) in enumerate(steps):
        at = jp2.index(b"\xff\x4f\xff\x51") + 43 + 3 * i
        data[at : at + 2] = bytes([across, down])
    return bytes(data)


@pytest.mark.parametrize("steps", [[(2, 2)], [(1, 1), (2, 2)], [(4, 4)] * 3, [(1, 1), (1, 1), (2, 2), (2, 2)]])
def test_components_that_are_subsampled_without_being_chroma_are_refused(steps, rng, save, capfd):
    pixels = rng.integers(0, 255, (20, 30, len(steps))).astype(np.uint8)
    encoded = imagecodecs.jpeg2k_encode(pixels if len(steps) > 1 else pixels[..., 0], level=0, codecformat="j2k")
    path = save("a.j2k", with_steps(encoded, *steps))
    with raises(SourceError, path=path, match="subsampled"):
        open_source(path)
    assert capfd.readouterr().err == ""
