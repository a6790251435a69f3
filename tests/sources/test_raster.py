from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from helpers.errors import raises
from helpers.transcoded import transcoded
from ndzarr._formats.registry import open_source
from ndzarr.errors import SourceError


def planes(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("form", "mode", "options", "names"),
    [
        ("JPEG", "L", {}, ("gray",)),
        ("JPEG", "RGB", {}, ("r", "g", "b")),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, ("r", "g", "b")),
        ("WebP", "RGB", {}, ("r", "g", "b")),
        ("WebP", "RGBA", {"lossless": True}, ("r", "g", "b", "a")),
        ("BMP", "L", {}, ("gray",)),
        ("BMP", "RGB", {}, ("r", "g", "b")),
    ],
)
def test_still_images_are_as_pillow_reads_them(form, mode, options, names, photo, tmp_path):
    path = tmp_path / "image"
    image = Image.fromarray(photo).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(photo[..., 0]))
    image.save(path, form, **options)
    pyramid = transcoded(path)
    with Image.open(path) as want:
        assert np.array_equal(pyramid.read(), planes(want))
    assert pyramid.channels == names
    assert pyramid.attrs["ndzarr"]["source"]["format"] == form
    with open_source(path) as source:
        assert source.band == photo.shape[0]
    assert pyramid.times is None
    assert pyramid.nodata is None


@pytest.mark.parametrize("name", ["rocket.jpg", "retina.jpg", "hubble_deep_field.jpg", "coffee.png", "logo.png"])
def test_photographs_are_as_pillow_reads_them(name, bundled):
    path = bundled(name)
    with Image.open(path) as want:
        assert np.array_equal(transcoded(path).read(), planes(want))


@pytest.mark.parametrize("form", ["BMP", "GIF"])
@pytest.mark.parametrize("mode", ["1", "P"])
def test_palettes_and_bits_are_expanded_to_bytes(form, mode, photo, tmp_path):
    path = tmp_path / "image"
    image = Image.fromarray(photo).convert(mode)
    image.save(path, form)
    got = transcoded(path).read()
    assert np.array_equal(got, planes(image.convert("L" if mode == "1" else "RGB")))


def test_a_transparent_gif_has_alpha(photo, tmp_path):
    path = tmp_path / "a.gif"
    image = Image.fromarray(photo).convert("P")
    image.save(path, transparency=int(np.asarray(image)[50, 50]))
    with Image.open(path) as image:
        want = planes(image.convert("RGBA"))
    assert (want[3] == 0).any()
    assert np.array_equal(transcoded(path).read(), want)


class TestCmyk:
    @pytest.fixture
    def inks(self, photo):
        return Image.fromarray(photo).convert("CMYK")

    def test_adobe_inverted_inks_become_rgb(self, inks, tmp_path):
        path = tmp_path / "a.jpg"
        inks.save(path, quality=95)
        with Image.open(path) as image:
            assert image.mode == "CMYK"
            want = planes(image.convert("RGB"))
        pyramid = transcoded(path)
        assert np.array_equal(pyramid.read(), want)
        assert pyramid.channels == ("r", "g", "b")
        assert pyramid.attrs["ndzarr"]["source"]["colour"] == "CMYK converted to RGB without a profile"

    def test_inks_stored_as_luma_and_chroma_become_rgb(self, inks, save):
        inverted = 255 - np.asarray(inks)
        path = save("a.jpg", imagecodecs.jpeg8_encode(inverted, 95, colorspace="cmyk", outcolorspace="ycck"))
        with Image.open(path) as image:
            assert image.info["adobe_transform"] == 2
            want = planes(image.convert("RGB"))
        assert np.array_equal(transcoded(path).read(), want)
        assert np.abs(want.astype(int) - planes(inks.convert("RGB"))).mean() < 4

    def test_inks_without_adobes_marker_are_not_inverted(self, inks, save):
        buffer = io.BytesIO()
        inks.save(buffer, "JPEG", quality=95)
        data = buffer.getvalue()
        at = data.index(b"\xff\xee")  # APP14, 14 bytes
        path = save("a.jpg", data[:at] + data[at + 16 :])
        with Image.open(io.BytesIO(data)) as image:
            stored = 255 - np.asarray(image)
        want = planes(_rgb(stored))
        assert np.array_equal(transcoded(path).read(), want)

    def test_an_embedded_profile_is_used(self, inks, tmp_path, cmyk_profile):
        path = tmp_path / "a.jpg"
        inks.save(path, quality=95, icc_profile=cmyk_profile)
        with Image.open(path) as image:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile))
            want = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        pyramid = transcoded(path)
        assert np.abs(pyramid.read().astype(int) - planes(want)).max() <= 1
        assert pyramid.attrs["ndzarr"]["source"]["icc_profile"] == "test inks"
        assert "test inks" in pyramid.attrs["ndzarr"]["source"]["colour"]

    def test_a_useless_profile_is_said_and_left_out(self, inks, tmp_path):
        plain, odd = tmp_path / "plain.jpg", tmp_path / "odd.jpg"
        inks.save(plain, quality=95)
        inks.save(odd, quality=95, icc_profile=b"this is no profile")
        pyramid = transcoded(odd)
        assert np.array_equal(pyramid.read(), transcoded(plain).read())
        assert "cannot be used" in pyramid.attrs["ndzarr"]["source"]["colour"]


def _rgb(inks: np.ndarray) -> Image.Image:
    bands = [Image.fromarray(np.ascontiguousarray(inks[..., i])) for i in range(4)]
    return Image.merge("CMYK", bands).convert("RGB")


@pytest.mark.parametrize("form", ["JPEG", "WebP", "BMP", "GIF"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.97])
def test_a_truncated_file_is_an_error(form, kept, photo, tmp_path):
    path = tmp_path / "image"
    Image.fromarray(photo).save(path, form)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with raises(SourceError, path=path, hint="truncated or damaged"):
        transcoded(path)


def test_a_truncated_jpeg_is_an_error_though_the_program_told_pillow_to_accept_it(photo, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = tmp_path / "a.jpg"
    Image.fromarray(photo).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with raises(SourceError, hint="truncated"):
        transcoded(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_images_beyond_pillows_limit_are_read_without_a_warning(photo, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for form in ("JPEG", "PNG", "BMP"):
        Image.fromarray(photo).save(tmp_path / "image", form)
        assert transcoded(tmp_path / "image").read().shape == (3, *photo.shape[:2])


def test_thousands_of_images_can_be_open_at_once(photo, tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(photo).save(path)
    sources = [open_source(path) for _ in range(2000)]
    assert sources[-1].read({}).shape == (3, *photo.shape[:2])
    for source in sources:
        source.close()


@pytest.mark.parametrize("profile", [False, True])
def test_inks_without_adobes_marker_are_not_inverted(profile, photo, tmp_path, cmyk_profile):
    inks = Image.fromarray(photo).convert("CMYK")
    options = {"quality": 100, "subsampling": 0, **({"icc_profile": cmyk_profile} if profile else {})}
    inks.save(tmp_path / "with.jpg", **options)
    data = (tmp_path / "with.jpg").read_bytes()
    at = data.index(b"\xff\xee")
    (tmp_path / "without.jpg").write_bytes(data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :])
    stored = 255 - planes(inks)  # Pillow writes the negative, as Adobe does
    assert np.abs(imagecodecs.jpeg8_decode(data).transpose(2, 0, 1).astype(int) - stored).mean() < 1
    # the same bytes are full ink where they were none: the picture is the negative of its inks
    negative = Image.fromarray(np.ascontiguousarray(stored.transpose(1, 2, 0)), "CMYK")
    negative.save(tmp_path / "negative.jpg", **options)
    got = transcoded(tmp_path / "without.jpg").read().astype(int)
    assert np.abs(got - transcoded(tmp_path / "negative.jpg").read()).max() <= 3
    assert np.abs(got - transcoded(tmp_path / "with.jpg").read()).mean() > 20
