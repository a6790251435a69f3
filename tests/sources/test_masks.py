"""GDAL's masks, in a TIFF or beside any file, tell which pixels are real: in place, in stores, in samples."""

import shutil

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio.enums import Resampling

import ndzarr
from ndzarr._formats.options import InPlaceOptions
from ndzarr._library.in_place import open_file
from ndzarr._library.library import Library
from ndzarr.errors import SourceError, StoreError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
GDAL = tuple(map(int, rasterio.__gdal_version__.split(".")[:2]))
HEIGHT, WIDTH = 300, 412
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(1, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
MASK = RNG.random((HEIGHT, WIDTH)) < 0.3
MASK[:60, :100] = False


def write(path, internal, tiled=True, overviews=(2, 4), **options):
    """A TIFF with a mask, as GDAL writes it."""
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64} if tiled else {"blockysize": 16}
    how = {"count": 3, "height": HEIGHT, "width": WIDTH, "dtype": "uint8", "photometric": "RGB", **tiles, **options}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        with rasterio.open(path, "w", driver="GTiff", **how) as file:
            file.write(PIXELS)
            file.write_mask(MASK)
        if overviews:
            with rasterio.open(path, "r+") as file:
                file.build_overviews(list(overviews), Resampling.average)
            if not internal:
                with rasterio.open(f"{path}.msk", "r+") as file:
                    if not file.overviews(1):  # GDAL 3.8 makes none for masks beside a file
                        file.build_overviews(list(overviews), Resampling.average)
    return path


@pytest.mark.parametrize("overviews", [(), (2, 4)], ids=["bare", "overviews"])
@pytest.mark.parametrize("tiled", [True, False], ids=["tiles", "strips"])
@pytest.mark.parametrize("internal", [True, False], ids=["internal", "beside"])
def test_valid_is_the_mask_of_gdal_at_every_level(tmp_path, internal, tiled, overviews):
    path = write(tmp_path / "a.tif", internal, tiled, overviews)
    assert (tmp_path / "a.tif.msk").exists() != internal
    store = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert np.array_equal(store.read(), PIXELS)
    for pyr in [store, ndzarr.open(path)] if tiled else [store]:
        assert pyr.channels == ("r", "g", "b")
        assert np.array_equal(pyr.window(scale=1).valid, MASK)
        padded = pyr.window(y=slice(-7, HEIGHT), x=slice(5, WIDTH + 9))
        assert np.array_equal(padded.valid, np.pad(MASK, ((7, 0), (0, 9)))[:, 5:])
        for k in range(len(overviews)):
            window = pyr.window(scale=1 / 2 ** (k + 1))
            mask = path if internal else f"{path}.msk"  # GDAL 3.8 does not find it for overviews
            with rasterio.open(path, overview_level=k) as file, rasterio.open(mask, overview_level=k) as beside:
                assert np.array_equal(window.valid, (file.dataset_mask() if internal else beside.read(1)) > 0)
                if internal or GDAL >= (3, 9) or pyr is not store:  # before, GDAL's means took in what the mask hides
                    assert np.abs(window.values.astype(int) - file.read()).max() <= 1
        assert ndzarr.verify(pyr.path).ok


@pytest.mark.parametrize("internal", [True, False], ids=["internal", "beside"])
def test_overviews_that_a_file_lacks_know_the_mask_in_memory_and_in_the_cache(tmp_path, internal):
    path = write(tmp_path / "a.tif", internal, overviews=())
    store = ndzarr.transcode(path, tmp_path / "a.zarr")
    for in_memory in (1 << 30, 0):
        pyr = open_file(str(path), 0, InPlaceOptions(cache=tmp_path / "work", in_memory=in_memory))
        assert len(pyr.levels) == len(store.levels) == 2
        for scale in (0.5, 0.3):
            found, wanted = pyr.window(scale=scale), store.window(scale=scale)
            assert np.array_equal(found, wanted)
            assert np.array_equal(found.valid, wanted.valid)


def test_overviews_are_not_used_where_the_mask_has_none(tmp_path):
    path = tmp_path / "a.tif"
    rgb = np.moveaxis(PIXELS, 0, -1)
    with tifffile.TiffWriter(path) as file:
        file.write(rgb, photometric="rgb", tile=(64, 64))
        file.write(np.zeros_like(rgb[::2, ::2]), photometric="rgb", tile=(64, 64), subfiletype=1)
        file.write(MASK, photometric="mask", tile=(64, 64), subfiletype=4)
    pyr = ndzarr.open(path)
    assert "the mask has none of this size" in " ".join(pyr.attrs["ndzarr"]["source"]["notes"])
    assert pyr.read(1).any()
    assert np.array_equal(pyr.window(scale=1).valid, MASK)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "jp2", "npy"])
def test_files_of_every_format_may_have_a_mask_beside_them(tmp_path, suffix):
    import imagecodecs

    path = tmp_path / f"a.{suffix}"
    rgb = np.ascontiguousarray(np.moveaxis(PIXELS, 0, -1))
    if suffix == "npy":
        np.save(path, PIXELS)
    elif suffix == "jp2":
        path.write_bytes(imagecodecs.jpeg2k_encode(rgb))
    else:
        Image.fromarray(rgb).save(path)
    plain = ndzarr.transcode(path, tmp_path / "plain.zarr")
    assert plain.validity.plain
    flags = b'<GDALMetadata><Item name="INTERNAL_MASK_FLAGS_1">2</Item></GDALMetadata>'  # one mask for all bands
    tags = [(42112, 2, 0, flags, True)]
    tifffile.imwrite(f"{path}.msk", MASK.astype(np.uint8) * 255, metadata=None, extratags=tags)
    pyr = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert np.array_equal(pyr.read(), plain.read())
    assert np.array_equal(pyr.window(scale=1).valid, MASK)
    if suffix == "png":
        with rasterio.open(path) as file:
            assert np.array_equal(file.dataset_mask() > 0, MASK)


def test_a_mask_is_turned_as_its_image_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.moveaxis(PIXELS, 0, -1)).save(tmp_path / "a.jpg", exif=exif)
    tifffile.imwrite(tmp_path / "a.jpg.msk", MASK.astype(np.uint8) * 255)
    pyr = ndzarr.transcode(tmp_path / "a.jpg", tmp_path / "a.zarr")
    assert pyr.shape == (3, WIDTH, HEIGHT)
    assert np.array_equal(pyr.window(scale=1).valid, np.rot90(MASK, -1))


@pytest.mark.parametrize("tiled", [True, False])
def test_every_page_of_a_stack_has_its_own_mask(tmp_path, tiled):
    pages = RNG.integers(0, 255, (3, 90, 100), dtype=np.uint8)
    masks = RNG.random((3, 90, 100)) < 0.5
    tile = {"tile": (32, 32)} if tiled else {"rowsperstrip": 7}
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page, mask in zip(pages, masks, strict=True):
            file.write(page, metadata=None, **tile)
            file.write(mask, photometric="mask", subfiletype=4, metadata=None, **tile)
    store = ndzarr.transcode(tmp_path / "a.tif", tmp_path / "a.zarr")
    for pyr in [store, ndzarr.open(tmp_path / "a.tif")] if tiled else [store]:
        window = pyr.window(scale=1)
        assert np.array_equal(window[:, 0], pages)
        assert np.array_equal(window.valid, masks)
        later = [*masks[1:, 3:40], *np.zeros((2, 37, 100))]
        assert np.array_equal(pyr.window(t=slice(1, 5), y=slice(3, 40)).valid, later)


def test_frames_of_a_sequence_have_masks_of_their_own(tmp_path):
    for k in range(3):
        Image.fromarray(PIXELS[k]).save(tmp_path / f"{k}.png")
    for k in (0, 2):
        tifffile.imwrite(tmp_path / f"{k}.png.msk", np.roll(MASK, k, 0).astype(np.uint8))
    pyr = ndzarr.transcode(str(tmp_path / "*.png"), tmp_path / "a.zarr")
    assert np.array_equal(pyr.window(scale=1).valid, [MASK, np.ones_like(MASK), np.roll(MASK, 2, 0)])
    with pytest.raises(SourceError) as caught:
        ndzarr.transcode([tmp_path / "1.png", tmp_path / "2.png"], tmp_path / "b.zarr")
    assert caught.value.path == str(tmp_path / "2.png")


def test_a_mask_that_cannot_be_that_of_its_file_is_an_error_that_names_it(tmp_path):
    path = write(tmp_path / "a.tif", internal=False)
    for wrong in (MASK[1:].astype(np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.uint8)):
        tifffile.imwrite(f"{path}.msk", wrong, photometric="rgb" if wrong.ndim == 3 else "minisblack")
        with pytest.raises(SourceError) as caught:
            ndzarr.transcode(path, tmp_path / "a.zarr")
        assert caught.value.path == f"{path}.msk"
        with pytest.raises(StoreError) as caught:
            ndzarr.open(path)
        assert f"{path}.msk" in str(caught.value)
    (tmp_path / "a.tif.msk").write_bytes(b"no TIFF")
    with pytest.raises(SourceError) as caught:
        ndzarr.transcode(path, tmp_path / "a.zarr")
    assert caught.value.path == f"{path}.msk"


@pytest.mark.parametrize("transcode", ["always", "never"])
def test_a_mask_that_comes_later_is_seen(tmp_path, transcode):
    path = write(tmp_path / "a.tif", internal=False)
    shutil.move(f"{path}.msk", tmp_path / "elsewhere")
    assert Library(tmp_path / "work", transcode=transcode).pyramid(path).validity.plain
    shutil.move(tmp_path / "elsewhere", f"{path}.msk")
    assert np.array_equal(Library(tmp_path / "work", transcode=transcode).pyramid(path).window(scale=1).valid, MASK)


def test_a_fourth_sample_that_the_file_does_not_explain_hides_nothing(tmp_path):
    path = tmp_path / "a.tif"
    image = RNG.integers(0, 2, (300, 300, 4), dtype=np.uint8) * 200
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), extrasamples=["unassalpha"])
    assert not ndzarr.open(path).validity.plain
    with tifffile.TiffFile(path, mode="r+") as file:  # 338, the meaning of extra samples, becomes a private tag
        at = file.pages[0].tags[338].offset
        file.filehandle.seek(at)
        file.filehandle.write((65000).to_bytes(2, "little"))
    for pyr in (ndzarr.open(path), ndzarr.transcode(path, tmp_path / "a.zarr")):
        assert pyr.validity.plain
        with rasterio.open(path) as file:
            assert file.dataset_mask().all()


@pytest.mark.parametrize("where", ["alpha", "associated", "internal", "beside", "nodata", "png", "palette"])
@pytest.mark.parametrize("transcode", ["always", "auto"])
def test_samples_and_batches_know_what_is_real(tmp_path, where, transcode):
    path = tmp_path / "a.tif"
    valid = MASK
    if where in ("internal", "beside"):
        write(path, where == "internal")
    elif where in ("alpha", "associated"):
        image = np.concatenate([PIXELS, MASK[None] * np.uint8(255)])
        if where == "associated":
            image[:3] *= MASK
        extra = "unassalpha" if where == "alpha" else "assocalpha"
        tifffile.imwrite(path, np.moveaxis(image, 0, -1), photometric="rgb", tile=(64, 64), extrasamples=[extra])
    elif where == "nodata":
        write(path, True, nodata=7)  # GDAL: a mask counts more than nodata; here both hide pixels
        valid = MASK & (PIXELS != 7)
    else:
        path = tmp_path / "a.png"
        indices = np.where(MASK, 1 + PIXELS[0] % 3, 0).astype(np.uint8)
        image = Image.fromarray(indices, "P")
        image.putpalette([255, 255, 255, 200, 0, 0, 0, 200, 0, 0, 0, 200])
        if where == "palette":
            image.save(path, transparency=0)
        else:
            Image.fromarray(np.dstack([PIXELS[0], MASK * np.uint8(255)]), "LA").save(path)
    dataset = {"images": [{"id": 1, "file_name": str(path), "width": WIDTH, "height": HEIGHT}]}
    sampler = ndzarr.CocoSampler(dataset, tmp_path / "work", transcode=transcode)
    target = {"gid": 1, "space_slice": (slice(-8, 200), slice(30, 400))}
    wanted = np.pad(valid, [(0, 0)] * (valid.ndim - 2) + [(8, 0), (0, 0)])[..., :208, 30:400]
    sample = sampler.load_sample(target)
    assert np.array_equal(sample.valid, wanted)
    full = np.broadcast_to(wanted, sample.image.shape)
    for other in (sampler.load_sample({**target, "lazy": True}), sampler.load_batch([target]).isel(sample=0)):
        assert np.array_equal(other.image, sample.image)
        assert np.array_equal(np.broadcast_to(other.valid, full.shape), full)
    lazy = sampler.lazy_batch([target, target], batch_size=1)
    assert np.array_equal(np.broadcast_to(lazy.valid[1], full.shape), full)
    assert np.array_equal(np.isnan(sampler.load_sample(target, nodata="float").image), ~full)
    half = sampler.load_sample(target, scale=0.4)
    assert not half.valid.all()
    inside = valid if valid.ndim == 2 else valid.all(0)
    [fraction] = sampler.targets.valid_fraction(
        [{"gid": 1, "cx": 100, "cy": 100, "width": 120, "height": 120}], progress=False
    )
    assert abs(fraction - inside[40:160, 40:160].mean()) < 1e-9


def test_rotated_assets_take_nothing_from_hidden_pixels(tmp_path):
    image = np.zeros((4, 100, 100), np.uint8)
    image[0], image[3] = 200, 255
    image[:3, :, 50:], image[3, :, 50:] = 255, 0
    Image.fromarray(np.moveaxis(image, 0, -1)).save(tmp_path / "a.png")
    turn = {"matrix": [[0.8, -0.6, 40], [0.6, 0.8, 0], [0, 0, 1]]}
    asset = {"file_name": "a.png", "width": 100, "height": 100, "channels": "r|g|b|a", "warp_aux_to_img": turn}
    dataset = {"images": [{"id": 1, "name": "x", "width": 140, "height": 140, "auxiliary": [asset], "file_name": None}]}
    import kwcoco

    dset = kwcoco.CocoDataset(dataset)
    dset.fpath = str(tmp_path / "data.kwcoco.json")
    sampler = ndzarr.CocoSampler(dset, tmp_path / "work")
    for scale in (1, 0.5):
        sample = sampler.load_sample(gid=1, channels="r|g|b", scale=scale)
        assert 0.1 < sample.valid.values.mean() < 0.4
        assert (sample.image.values[:, sample.valid.values] == [[200], [0], [0]]).all()


def test_a_fourth_channel_that_a_dataset_calls_infrared_hides_nothing(tmp_path):
    image = RNG.integers(0, 2, (300, 300, 4), dtype=np.uint8) * 200
    Image.fromarray(image).save(tmp_path / "a.png")
    entry = {"id": 1, "file_name": str(tmp_path / "a.png"), "width": 300, "height": 300}
    for names, hides in (("r|g|b|a", True), ("red|green|blue|nir", False)):
        sampler = ndzarr.CocoSampler({"images": [{**entry, "channels": names}]}, tmp_path / "work")
        sample = sampler.load_sample(gid=1, scale=0.5)
        assert ("valid" in sample) == hides
        mean = image.reshape(150, 2, 150, 2, 4).mean((1, 3)).transpose(2, 0, 1)
        assert (np.abs(sample.image - mean).max() <= 0.5) != hides
