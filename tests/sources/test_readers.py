"""Slides, files of microscopes and volumes, in place and transcoded: pixels are those of the packages."""

import pickle
import sys
import warnings

import nibabel
import numpy as np
import openslide
import pytest
import tifffile
from pylibCZIrw import czi

import ndzarr
from helpers.arrays import random_array
from helpers.dicom_slides import write_slide
from helpers.errors import raises
from ndzarr.errors import OptionError, SourceError, StoreError


def check(path, expected, dims, **options):
    """Compare a file opened in place, there and in its pickle, and transcoded, with an array of axes `dims`."""
    opened = ndzarr.open(path, **options)
    assert opened.dims == tuple(dims)
    assert opened.dtype == expected.dtype
    assert np.array_equal(opened.read(), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(opened)).read(), expected)
    window = {d: (slice(1, n), [n - 1, 0], slice(0, n, 2))[k % 3] for k, (d, n) in enumerate(opened.sizes.items())}
    indices = [np.arange(n)[window[d]] for d, n in opened.sizes.items()]
    assert np.array_equal(opened.read(**window), expected[np.ix_(*indices)])
    made = ndzarr.transcode(path, path.parent / "made.zarr", overwrite=True, **options)
    assert np.array_equal(made.read(), expected)
    assert made.pixel_size == opened.pixel_size
    assert made.channels == opened.channels
    return opened


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("shape", "axes", "slope"),
    [((7, 6, 5), "cyx", None), ((7, 6, 5, 3), "tczyx", 0.5), ((7, 6, 1, 1, 2), "cyx", None), ((4, 6), "cyx", None)],
)
def test_volumes_of_nifti(tmp_path, suffix, shape, axes, slope):
    stored = random_array(shape, "i2")
    image = nibabel.Nifti1Image(stored, np.diag([0.5, 0.25, 3, 1]))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(slope, 0 if slope else None)
    path = tmp_path / f"a{suffix}"
    nibabel.save(image, path)
    read = np.asanyarray(nibabel.load(path).dataobj)
    letters = dict(zip("xyztc", read.shape, strict=False))
    dims = [d for d in "tczyx" if letters.get(d, 1) > 1 or d in "cyx"]
    array = read.reshape([n for d, n in letters.items() if d in dims])
    order = [d for d in letters if d in dims]
    expected = array.transpose([order.index(d) for d in dims if d in order])
    expected = expected if "c" in order else np.expand_dims(expected, dims.index("c"))
    opened = check(path, expected, dims)
    assert str(opened.pixel_size).startswith("z 3 mm, y 0.25 mm, x 0.5 mm" if "z" in dims else "y 0.25 mm, x 0.5 mm")
    sample = ndzarr.Sampler({"a": path}, transcode="never").load_sample(key="a", cx=0, cy=0, width=3, height=3)
    assert not sample.valid.values.all()


def write_czi(path, scenes, channels, samples=1):
    with czi.create_czi(str(path)) as document:
        for (scene, c, z), pixels in scenes.items():
            document.write(
                pixels[..., ::-1], location=(300 * scene - 50, 7), plane={"C": c, "Z": z, "T": 0}, scene=scene
            )
        document.write_metadata("a", dict(enumerate(channels)), scale_x=2.5e-7, scale_y=2.5e-7, scale_z=1e-6)


def test_scenes_of_czi_are_series(tmp_path):
    path = tmp_path / "a.czi"
    pixels = {
        (s, c, z): random_array((20, 30 + s, 1), "u2", 7 * s + 3 * c + z)
        for s in (0, 1)
        for c in (0, 1)
        for z in (0, 1, 2)
    }
    write_czi(path, pixels, ["DAPI", "GFP"])
    for scene in (0, 1):
        expected = np.stack([[pixels[scene, c, z][..., 0] for z in range(3)] for c in (0, 1)])
        opened = check(path, expected, "czyx", series=f"scene {scene}")
        assert opened.channels == ("DAPI", "GFP")
        assert str(opened.pixel_size).startswith("z 1 µm, y 0.25 µm, x 0.25 µm")
    assert "1 scene 1" in ndzarr.open(path).notes[0]
    with raises(OptionError, path=path, key="series"):
        ndzarr.open(path, series="scene 2")


def test_colours_of_czi(tmp_path):
    pixels = random_array((20, 30, 3), "u1")
    write_czi(tmp_path / "a.czi", {(0, 0, 0): pixels}, ["light"])
    assert check(tmp_path / "a.czi", np.moveaxis(pixels, -1, 0), "cyx").channels == ("r", "g", "b")


def test_slides_in_dicom_are_opened_by_any_of_their_files(tmp_path):
    levels = [random_array((n, m, 3), "u1") for n, m in ((50, 70), (25, 35))]
    files = write_slide(tmp_path, levels)
    slide = openslide.OpenSlide(files[0])
    for path in files:
        opened = check(path, np.moveaxis(levels[0], -1, 0), "cyx")
        assert [level.factors for level in opened.levels] == [(1, 1, 1), (1, 2, 2)]
        for k, (height, width) in enumerate(opened.planar_shapes):
            oracle = np.asarray(slide.read_region((0, 0), k, (width, height)))[..., :3]
            assert np.array_equal(np.moveaxis(opened.read(level=k), 0, -1), oracle)
        assert np.array_equal(
            opened.read(level=1, y=slice(13, 25), x=[34, 0]), np.moveaxis(levels[1], -1, 0)[:, 13:, [34, 0]]
        )
        assert opened.pixel_size.x.value == pytest.approx(float(slide.properties["openslide.mpp-x"]))


def test_a_dicom_slide_of_16_bits_keeps_its_type(tmp_path):
    levels = [random_array((50, 70, 1), "u2")]
    [path] = write_slide(tmp_path, levels)
    check(path, np.moveaxis(levels[0], -1, 0), "cyx")


@pytest.mark.parametrize("start", [b"", b"II*\0\x08\0\0\0"])  # the preamble may be the header of a TIFF
def test_a_dicom_image_that_is_not_a_slide_is_left_to_pydicom(tmp_path, start):
    import pydicom

    [path] = write_slide(tmp_path, [random_array((16, 16, 3), "u1")])
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    dataset.preamble = start.ljust(128, b"\0")
    dataset.save_as(path)
    with raises(StoreError, path=path, hint="Read it with pydicom and pass the array"):
        ndzarr.open(path)


def test_mirax_slides_are_read_by_openslide_with_their_levels(tmp_path):
    # Nobody writes MIRAX. OpenSlide looks at the content, so a TIFF of this name takes the same way.
    path, native = tmp_path / "a.mrxs", random_array((128, 192, 3), "u1")
    with tifffile.TiffWriter(path) as file:
        for k in range(3):
            file.write(native[:: 2**k, :: 2**k], tile=(32, 32), photometric="rgb", subfiletype=min(k, 1))
    opened = check(path, np.moveaxis(native, -1, 0), "cyx")
    assert [level.factors for level in opened.levels] == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    assert np.array_equal(opened.read(level=2, y=slice(5, 30)), np.moveaxis(native[20:120:4, ::4], -1, 0))
    assert opened.plan([{}]).explain().engines[0][0] == "openslide (MIRAX)"


def cifti():
    """Return a matrix of connections, which is in a NIfTI file and no volume."""
    axis = nibabel.cifti2.SeriesAxis(0, 1, 2)
    return nibabel.Cifti2Image(np.zeros((2, 2), "f4"), header=(axis, axis)).to_bytes()


HEADS = {
    "CZI": ("a.czi", b"ZISRAWFILE" + bytes(600)),
    "ND2": ("a.nd2", b"\xda\xce\xbe\x0a" + bytes(600)),
    "MIRAX": ("a.mrxs", b"\xff\xd8\xff" + bytes(600)),
    "NIfTI": ("a.nii", bytes([92, 1, 0, 0]) + bytes(340) + b"n+1\0" + bytes(100)),
    "CIFTI": ("a.nii", cifti()),
    "NIfTI, compressed": ("a.nii.gz", b"\x1f\x8b\x08" + bytes(100)),
    "DICOM": ("a.dcm", bytes(128) + b"DICM" + bytes(100)),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_damaged_file_is_said_to_be(name, save):
    path = save(*HEADS[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages
        with raises(SourceError, path=path):
            ndzarr.transcode(path, path.with_suffix(".zarr"))
        with raises(StoreError, path=path):
            ndzarr.open(path)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("CZI", "pylibCZIrw", "czi"),
        ("ND2", "nd2", "nd2"),
        ("MIRAX", "openslide", "slides"),
        ("NIfTI", "nibabel", "nifti"),
        ("DICOM", "wsidicom", "slides"),
    ],
)
def test_without_the_package_the_error_names_the_command_that_installs_it(name, package, extra, save, monkeypatch):
    path = save(*HEADS[name])
    monkeypatch.setitem(sys.modules, package, None)
    with raises(StoreError, path=path, hint=f"Run: pip install 'ndzarr[{extra}]'"):
        ndzarr.open(path)
