from __future__ import annotations

import struct
import zlib

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from helpers.errors import raises
from helpers.transcoded import transcoded
from ndzarr._formats.registry import open_source
from ndzarr.errors import SourceError

FORMS = {"GIF": {}, "PNG": {}, "WebP": {"lossless": True}}
DURATIONS = [100, 250, 50, 1000, 70]


def frames(photo: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(np.ascontiguousarray(np.roll(photo, 11 * i, axis=1))) for i in range(len(DURATIONS))]


def write(path, images, form, **more):
    images[0].save(path, form, save_all=True, append_images=images[1:], duration=DURATIONS, **FORMS[form], **more)


def as_pillow_reads(path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.stack([np.asarray(f.convert(mode)).transpose(2, 0, 1) for f in ImageSequence.Iterator(image)])


@pytest.mark.parametrize("form", FORMS)
def test_frames_are_along_t_with_their_times_in_seconds(form, photo, tmp_path):
    path = tmp_path / "image"
    write(path, frames(photo), form)
    pyramid = transcoded(path)
    assert pyramid.dims == ("t", "c", "y", "x")
    assert pyramid.shape == (5, 3, *photo.shape[:2])
    assert np.allclose(pyramid.times, [0, 0.1, 0.35, 0.4, 1.4])
    assert np.array_equal(pyramid.read(), as_pillow_reads(path, "RGB"))


@pytest.mark.parametrize("form", FORMS)
def test_frames_can_be_read_in_any_order(form, photo, tmp_path):
    path = tmp_path / "image"
    write(path, frames(photo), form)
    want = as_pillow_reads(path, "RGB")
    with open_source(path) as source:
        for t in (3, 0, 4, 4, 1):
            got = source.read({"t": slice(t, t + 1), "c": slice(1, 3), "y": slice(5, 60), "x": slice(100, None)})
            assert np.array_equal(got, want[t : t + 1, 1:3, 5:60, 100:])
        assert np.array_equal(source.read({"t": slice(1, 4)}), want[1:4])


@pytest.mark.parametrize("form", FORMS)
def test_one_transparent_frame_gives_all_frames_alpha(form, photo, tmp_path):
    images = [f.convert("RGBA") for f in frames(photo)]
    hole = Image.new("L", images[2].size, 255)
    hole.paste(0, (10, 10, 90, 90))
    images[2].putalpha(hole)
    path = tmp_path / "image"
    write(path, images, form, **({"disposal": 2} if form == "GIF" else {}))
    want = as_pillow_reads(path, "RGBA")
    assert want[2, 3].min() == 0
    assert np.array_equal(transcoded(path).read(), want)


@pytest.mark.parametrize("form", FORMS)
def test_a_single_frame_has_no_t(form, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "image", form)
    pyramid = transcoded(tmp_path / "image")
    assert pyramid.dims == ("c", "y", "x")
    assert pyramid.times is None


def test_frames_without_durations_have_no_times(photo, tmp_path):
    path = tmp_path / "a.gif"
    images = frames(photo)
    images[0].save(path, save_all=True, append_images=images[1:])
    pyramid = transcoded(path)
    assert pyramid.shape[0] == 5
    assert pyramid.times is None


def test_the_still_of_an_animated_png_is_not_a_frame(photo, tmp_path):
    path = tmp_path / "a.png"
    images = frames(photo)
    still = Image.new("RGB", images[0].size)
    still.save(path, save_all=True, append_images=images[:3], default_image=True, duration=DURATIONS[:3])
    assert np.array_equal(transcoded(path).read(), np.stack([np.asarray(f).transpose(2, 0, 1) for f in images[:3]]))


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_animation_is_an_error(form, photo, tmp_path):
    path = tmp_path / "image"
    write(path, frames(photo), form)
    path.write_bytes(path.read_bytes()[:-200])
    with raises(SourceError, hint="truncated"):
        transcoded(path)


def test_a_gif_that_may_lack_frames_says_so(photo, tmp_path):
    path = tmp_path / "a.gif"
    write(path, frames(photo), "GIF")
    path.write_bytes(path.read_bytes()[:-1])
    pyramid = transcoded(path)
    assert "trailer" in pyramid.attrs["ndzarr"]["source"]["notes"][0]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def animated_png(depth: int, samples: int, size: tuple[int, int], parts: list[tuple], still: np.ndarray | None = None):
    """Write an APNG by hand; `parts` are (pixels, left, top, disposal, blend)."""
    width, height = size
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[samples]

    def rows(pixels: np.ndarray) -> bytes:
        stored = pixels.astype(">u2") if depth == 16 else pixels.astype("u1")
        return zlib.compress(b"".join(b"\0" + row.tobytes() for row in stored))

    out = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    out.append(chunk(b"acTL", struct.pack(">II", len(parts), 0)))
    number = 0
    if still is not None:
        out.append(chunk(b"IDAT", rows(still)))
    for pixels, left, top, disposal, blend in parts:
        h, w = pixels.shape[:2]
        out.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, w, h, left, top, 1, 4, disposal, blend)))
        number += 1
        if len(out) == 4:
            out.append(chunk(b"IDAT", rows(pixels)))
        else:
            out.append(chunk(b"fdAT", struct.pack(">I", number) + rows(pixels)))
            number += 1
    return b"".join([*out, chunk(b"IEND", b"")])


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("with_still", [False, True])
def test_an_animated_png_of_16_bits_keeps_its_depth(samples, with_still, rng, save):
    pixels = rng.integers(0, 65536, (3, 5, 7, samples))
    still = pixels[2] if with_still else None
    path = save("a.png", animated_png(16, samples, (7, 5), [(p, 0, 0, 0, 0) for p in pixels], still))
    pyramid = transcoded(path)
    assert np.array_equal(pyramid.read(), pixels.transpose(0, 3, 1, 2))
    assert pyramid.dtype == np.uint16
    assert np.allclose(pyramid.times, [0, 0.25, 0.5])


@pytest.mark.parametrize(
    "disposals", [(0, 0, 0, 0), (1, 1, 1, 0), (0, 1, 2, 0), (0, 2, 0, 0), (0, 2, 2, 0), (2, 0, 0, 0)]
)
@pytest.mark.parametrize("blend", [0, 1])
def test_frames_are_drawn_over_others_as_ffmpeg_draws_them(disposals, blend, rng, save):
    # Pillow averages alpha as it does colours, imagecodecs takes what is below for opaque
    sizes, places = [(6, 8), (3, 4), (2, 5), (4, 4)], [(0, 0), (2, 1), (3, 4), (1, 2)]
    parts = [
        (rng.integers(0, 256, (*size, 4)), left, top, disposal, blend)
        for size, (left, top), disposal in zip(sizes, places, disposals, strict=True)
    ]
    path = save("a.png", animated_png(8, 4, (8, 6), parts))
    with av.open(str(path), format="apng") as container:
        want = np.stack([f.to_ndarray(format="rgba") for f in container.decode(video=0)]).transpose(0, 3, 1, 2)
    deep = save("b.png", animated_png(16, 4, (8, 6), [(pixels * 257, *rest) for pixels, *rest in parts]))
    for got in (transcoded(path).read().astype(int), transcoded(deep).read() / 257):
        assert got.shape == want.shape
        apart = np.abs(got - want)
        assert apart[:, 3].max() <= 1.5
        weight = want[:, 3:] / 255  # colours of what is hardly seen are rounded coarsely by FFmpeg
        assert (apart[:, :3] * weight).max() <= 2
    if blend == 0:
        pillow = as_pillow_reads(path, "RGBA")
        got = transcoded(path).read()
        assert np.array_equal(got * (got[:, 3:] > 0), pillow * (pillow[:, 3:] > 0))


def test_a_transparent_pixel_over_another_keeps_the_colour_below(rng, save, read_all):
    below, above = rng.integers(0, 256, (2, 6, 8, 4)) * [1, 1, 1, 0]
    path = save(
        "a.png", animated_png(8, 4, (8, 6), [(below, 0, 0, 0, 0), (above, 0, 0, 0, 1), (below | 255, 0, 0, 0, 0)])
    )
    first, second, _ = read_all(path)
    assert np.array_equal(first, below.transpose(2, 0, 1))
    assert np.array_equal(second, first)
    assert np.array_equal(as_pillow_reads(path, "RGBA")[1], first)


def test_an_animated_png_that_contradicts_itself_says_so(rng, save):
    pixels = rng.integers(0, 256, (3, 5, 7, 3))
    data = animated_png(8, 3, (7, 5), [(p, 0, 0, 0, 0) for p in pixels])
    at = data.index(b"acTL")
    more = data[: at - 4] + chunk(b"acTL", struct.pack(">II", 9, 0)) + data[at + 16 :]
    pyramid = transcoded(save("more.png", more))
    assert pyramid.shape == (3, 3, 5, 7)
    assert "9 frames" in pyramid.attrs["ndzarr"]["source"]["notes"][0]
    at = data.rindex(b"fcTL")
    content = struct.pack(">I", 77) + data[at + 8 : at + 30]
    pyramid = transcoded(save("order.png", data[: at - 4] + chunk(b"fcTL", content) + data[at + 34 :]))
    assert "order" in pyramid.attrs["ndzarr"]["source"]["notes"][0]
    assert np.array_equal(pyramid.read(), pixels.transpose(0, 3, 1, 2))
    single = animated_png(8, 3, (7, 5), [(pixels[0], 0, 0, 0, 0)]).replace(
        chunk(b"acTL", struct.pack(">II", 1, 0)), chunk(b"acTL", struct.pack(">II", 4, 0))
    )
    pyramid = transcoded(save("single.png", single))
    assert pyramid.dims == ("c", "y", "x")
