"""The size of a pixel is one thing, wherever it is stated, and windows may be asked for by it."""

import json
import re
from importlib.metadata import version

import kwcoco
import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from packaging.version import Version

import ndzarr
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from helpers.metadata_schemas import validate_ome
from ndzarr.errors import WindowError

PIXELS = (np.indices((70, 90)).sum(0) * 400).astype(np.uint16)
FEW = examples(30, HealthCheck.function_scoped_fixture)

# Metres by the OME schema (UnitsLength), https://www.openmicroscopy.org/Schemas/Documentation/Generated/OME-2016-06/
OME_UNITS = {
    "Ym": 1e24, "Zm": 1e21, "Em": 1e18, "Pm": 1e15, "Tm": 1e12, "Gm": 1e9, "Mm": 1e6, "km": 1e3, "hm": 1e2, "dam": 10,
    "m": 1, "dm": 1e-1, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "pm": 1e-12, "fm": 1e-15, "am": 1e-18,
    "zm": 1e-21, "ym": 1e-24, "Å": 1e-10, "thou": 25.4e-6, "li": 2.1166667e-3, "in": 0.0254, "ft": 0.3048,
    "yd": 0.9144, "mi": 1609.344, "ua": 1.495978707e11, "ly": 9.4607304725808e15, "pc": 3.0856776e16,
    "pt": 3.5277778e-4,
}  # fmt: skip
OTHERS = {"um": 1e-6, "\u03bcm": 1e-6, "micron": 1e-6, "\\u00B5m": 1e-6, "Micrometers": 1e-6, "\u212b": 1e-10}
NGFF_METRES = {
    "angstrom": 1e-10, "yottameter": 1e24, "zettameter": 1e21, "exameter": 1e18, "petameter": 1e15, "terameter": 1e12,
    "gigameter": 1e9, "megameter": 1e6, "kilometer": 1e3, "hectometer": 1e2, "meter": 1, "decimeter": 0.1,
    "centimeter": 0.01, "millimeter": 1e-3, "micrometer": 1e-6, "nanometer": 1e-9, "picometer": 1e-12,
    "femtometer": 1e-15, "attometer": 1e-18, "zeptometer": 1e-21, "yoctometer": 1e-24, "inch": 0.0254, "foot": 0.3048,
    "yard": 0.9144, "mile": 1609.344, "parsec": 3.0856776e16,
}  # fmt: skip
"""The units of length that OME-Zarr 0.5 lists, and what they are in metres."""


def metres(quantity):
    return None if quantity is None else quantity.value * NGFF_METRES[quantity.unit]


def stored_size(pyramid):
    """Axis to metres, or seconds, by the OME-Zarr metadata alone."""
    validate_ome(dict(pyramid.attrs))
    image = pyramid.attrs["ome"]["multiscales"][0]
    scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    units = {axis["name"]: axis.get("unit") for axis in image["axes"]}
    factors = NGFF_METRES | {"second": 1, "millisecond": 1e-3}
    return {d: s * factors[units[d]] for d, s in zip(units, scale, strict=True) if units[d]}


def opened(path, tmp_path):
    """The pyramid in place, where a file can be, and the one that was transcoded."""
    with tifffile.TiffFile(path) as tif:
        tiled = tif.pages[0].is_tiled
    out = [ndzarr.transcode(path, tmp_path / "out.zarr", overwrite=True)]
    return [*out, ndzarr.open(path)] if tiled else out


def ome(path, pixels=PIXELS, axes="YX", tile=(64, 64), **metadata):
    tifffile.imwrite(path, pixels, ome=True, tile=tile, photometric="minisblack", metadata={"axes": axes, **metadata})
    return path


# Where sizes come from.


@given(
    st.sampled_from(sorted(OME_UNITS)),
    st.sampled_from(sorted(OME_UNITS)),
    st.floats(0.001, 1000),
    st.floats(0.001, 999),
)
@FEW
def test_ome_tiffs_have_their_sizes_in_any_unit(tmp_path, x_unit, y_unit, x, y):
    sizes = {"PhysicalSizeX": x, "PhysicalSizeXUnit": x_unit, "PhysicalSizeY": y, "PhysicalSizeYUnit": y_unit}
    path = ome(tmp_path / "a.ome.tif", np.stack([PIXELS] * 2), "ZYX", **sizes, PhysicalSizeZ=3)
    for pyramid in opened(path, tmp_path):
        expected = y * OME_UNITS[y_unit], x * OME_UNITS[x_unit], 3e-6
        size = pyramid.pixel_size
        np.testing.assert_allclose([metres(size.y), metres(size.x), metres(size.z)], expected, rtol=1e-6)
        found = stored_size(pyramid)
        np.testing.assert_allclose([found["y"], found["x"], found["z"]], expected, rtol=1e-6)
        assert not pyramid.notes
        assert np.array_equal(pyramid.read()[0, 0], PIXELS)
        assert pyramid.levels[-1].factors[-2:] == (2 ** (len(pyramid.levels) - 1),) * 2


def test_ome_tiffs_have_intervals_and_objectives(tmp_path):
    pixels = np.stack([PIXELS] * 3)
    path = ome(tmp_path / "a.ome.tif", pixels, "TYX", PhysicalSizeX=0.5, TimeIncrement=250.0, TimeIncrementUnit="ms")
    xml = tifffile.tiffcomment(path)
    lens = (
        '<Instrument ID="I:0"><Objective ID="O:0" NominalMagnification="40.0"/><Objective ID="O:1"/></Instrument><Image'
    )
    xml = xml.replace("<Image", lens, 1).replace("<Pixels", '<ObjectiveSettings ID="O:0"/><Pixels', 1)
    tifffile.tiffcomment(path, xml.encode())
    for pyramid in opened(path, tmp_path):
        size = pyramid.pixel_size
        assert str(size) == "x 0.5 µm, t 250 ms, 40x (OME-XML)"
        assert pyramid.times == (0, 0.25, 0.5)
        assert stored_size(pyramid) == {"t": 0.25, "x": pytest.approx(0.5e-6)}
        assert pyramid.window(resolution="20x", t=[0]).shape[-2:] == (35, 45)


@given(st.sampled_from(sorted([*OTHERS, "mm", "nm", "cm", "µm"])), st.floats(0.01, 100), st.floats(0.01, 100))
@FEW
def test_imagej_tiffs_have_the_sizes_that_tifffile_finds(tmp_path, unit, across, down):
    path = tmp_path / "a.tif"
    written = "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in unit)  # as ImageJ does
    about = {"axes": "TZYX", "unit": written, "spacing": -3.9, "finterval": 0.5}
    pixels = np.stack([PIXELS] * 4).reshape(2, 2, 70, 90)
    tifffile.imwrite(path, pixels, imagej=True, resolution=(across, down), metadata=about)
    with tifffile.TiffFile(path) as tif:
        (xn, xd), (yn, yd) = (tif.pages[0].tags[name].value for name in ("XResolution", "YResolution"))
        assert tif.is_imagej
    factor = {**OTHERS, **OME_UNITS}[unit]
    for pyramid in opened(path, tmp_path):
        found = stored_size(pyramid)
        np.testing.assert_allclose([found[d] for d in "tzyx"], [0.5, 3.9 * factor, yd / yn * factor, xd / xn * factor])
        assert not pyramid.notes


@pytest.mark.parametrize("metadata", [{}, {"unit": "pixel"}, {"unit": "pixel", "spacing": 2.0}, {"unit": ""}])
def test_imagej_tiffs_without_calibration_have_no_size(tmp_path, metadata):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, imagej=True, resolution=(2, 2), metadata={"axes": "YX", **metadata})
    pyramid = ndzarr.transcode(tmp_path / "a.tif", tmp_path / "a.zarr")
    assert pyramid.pixel_size is None
    assert pyramid.notes == ()


@given(st.floats(10, 1e6), st.floats(10, 1e6), st.sampled_from([2, 3]))
@FEW
def test_resolution_tags_are_the_size_that_tifffile_finds(tmp_path, across, down, unit):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, resolution=(across, down), resolutionunit=unit, tile=(64, 64))
    with tifffile.TiffFile(path) as tif:
        x, y = tif.pages[0].get_resolution(tifffile.RESUNIT.MICROMETER)
    for pyramid in opened(path, tmp_path):
        size = pyramid.pixel_size
        np.testing.assert_allclose([metres(size.x) * 1e6, metres(size.y) * 1e6], [1 / x, 1 / y])
        assert size.source == "resolution tags"


@pytest.mark.parametrize(("density", "unit"), [(72, 2), (96, 2), (1, 2), (72 / 2.54, 3), (300, 1), (0, 3)])
def test_resolution_tags_that_say_nothing_are_not_sizes(tmp_path, density, unit):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, resolution=(density, density), resolutionunit=unit)
    pyramid = ndzarr.transcode(tmp_path / "a.tif", tmp_path / "a.zarr")
    assert pyramid.pixel_size is None
    assert len(pyramid.notes) == (2 if density == 0 else 0)


APERIO = (
    "Aperio Image Library v10.0.51\n46920x33014 [0,100 46000x32914] (256x256) JPEG/RGB Q=30|AppMag = 20|MPP = 0.4990"
)
PHILIPS = """<?xml version="1.0" encoding="UTF-8" ?>
<DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>
<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">MACROIMAGE</Attribute></DataObject>
<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>
<Attribute Name="DICOM_PIXEL_SPACING">"0.000226891" "0.000226907"</Attribute>
<Attribute Name="DICOM_DERIVATION_DESCRIPTION">tiff-useBigTIFF=1-levels=40,10003,10002-sourceFilename="a-b"</Attribute>
</DataObject></Array></Attribute></DataObject>"""
LEICA = """<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection>
<image><pixels><dimension sizeX="90" sizeY="70" ifd="0" r="0"/></pixels>
<scanSettings><objectiveSettings><objective>40</objective>
</objectiveSettings></scanSettings></image></collection></scn>"""
VENTANA = (
    b'<EncodeInfo><SlideInfo><iScan Magnification="40" ScanRes="0.2325" Z-layers="1"></iScan></SlideInfo></EncodeInfo>'
)
QPI = "<PerkinElmer-QPI-ImageDescription><Objective>10x</Objective></PerkinElmer-QPI-ImageDescription>"
ARGOS = b"<Argos><ObjectiveMagnification>20</ObjectiveMagnification></Argos>"
METASERIES = """<MetaData><PlaneInfo><prop id="spatial-calibration-state" type="bool" value="on"/><prop
 id="spatial-calibration-x" type="float" value="0.65"/><prop id="spatial-calibration-y" type="float" value="0.65"/><prop
 id="spatial-calibration-units" type="string" value="um"/></PlaneInfo></MetaData>"""
ZEISS = "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4.6 nm\r\n"
FEI = "[Scan]\r\nPixelWidth=2e-9\r\nPixelHeight=4e-9\r\n"
HALF = {"resolution": (20000, 20000), "resolutionunit": 3}  # pixels of 0.5 µm

VENDORS = {
    "aperio": ({"description": APERIO}, (0.499, 0.499), 20),
    "aperio with tags": ({"description": "Aperio Image Library|AppMag = 40", **HALF}, (0.5, 0.5), 40),
    "trestle": (
        {"description": "Objective Power=20;", "software": "MedScan", "resolution": (0.25, 0.5), "resolutionunit": 1},
        (0.5, 0.25),
        20,
    ),
    "hamamatsu": ({"extratags": [(65421, 11, 1, 40.0, True)], **HALF}, (0.5, 0.5), 40),
    "hamamatsu macro": ({"extratags": [(65421, 11, 1, -1.0, True)], **HALF}, (0.5, 0.5), None),
    "philips": ({"description": PHILIPS, "software": "Philips DP v1.0"}, (0.226891, 0.226907), 40),
    "leica": ({"description": LEICA, **HALF}, (0.5, 0.5), 40),
    "ventana": ({"extratags": [(700, 1, len(VENTANA), VENTANA, True)]}, (0.2325, 0.2325), 40),
    "perkinelmer": ({"description": QPI, "software": "PerkinElmer-QPI", **HALF}, (0.5, 0.5), 10),
    "argos": ({"extratags": [(65000, 2, len(ARGOS), ARGOS, True)], **HALF}, (0.5, 0.5), 20),
    "metaseries": ({"description": METASERIES, "software": "MetaSeries"}, (0.65, 0.65), None),
    "zeiss sem": ({"extratags": [(34118, 2, 0, ZEISS, True)]}, (0.0046, 0.0046), None),
    "fei": ({"extratags": [(34682, 2, 0, FEI, True)]}, (0.004, 0.002), None),
    "micro-manager": ({"extratags": [(51123, 2, 0, json.dumps({"PixelSizeUm": 0.108}), True)]}, (0.108, 0.108), None),
}  # fmt: skip
"""What a slide scanner or microscope writes, micrometres along (y, x), and the magnification, as OpenSlide has them."""


@pytest.mark.parametrize("vendor", VENDORS)
def test_vendors_state_sizes_and_magnifications(tmp_path, vendor):
    how, (y, x), magnification = VENDORS[vendor]
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, tile=(64, 64), metadata=None, **how)
    for pyramid in opened(tmp_path / "a.tif", tmp_path):
        size = pyramid.pixel_size
        np.testing.assert_allclose([metres(size.y) * 1e6, metres(size.x) * 1e6], [y, x])
        assert size.magnification == magnification
        assert np.array_equal(pyramid.read()[0], PIXELS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ome_zarr.writer uses a class of its own that is deprecated
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("unit", ["micrometer", "nanometer", "angstrom", "centimeter"])
@pytest.mark.skipif(Version(version("ome-zarr")) < Version("0.13"), reason="older releases take no scales and units")
def test_ome_zarr_groups_have_their_sizes(tmp_path, version, unit):
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image

    layout = FormatV04() if version == 2 else FormatV05()
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    pixels = np.broadcast_to(PIXELS, (2, 3, *PIXELS.shape))
    sizes, units = {"t": 20, "z": 2, "y": 0.26, "x": 0.325}, {"t": "millisecond", "z": unit, "y": unit, "x": unit}
    factors = [{"z": 1, "y": 2, "x": 2}]
    write_image(pixels, group, axes="tzyx", fmt=layout, scale=sizes, axes_units=units, scale_factors=factors)
    pyramid = ndzarr.open(tmp_path / "a.zarr")
    size = pyramid.pixel_size
    assert [(q.value, q.unit) for q in (size.t, size.z, size.y, size.x)] == [
        (20, "millisecond"), (2, unit), (0.26, unit), (0.325, unit),
    ]  # fmt: skip
    assert pyramid.levels[1].factors == (1, 1, 2, 2)
    assert pyramid.notes == ()
    again = ndzarr.transcode(pyramid.to_xarray(), tmp_path / "b.zarr")
    for axis in "zyx":
        assert getattr(again.pixel_size, axis) == getattr(size, axis)
    half = ndzarr.transcode(pyramid.to_xarray()[..., ::2, ::2], tmp_path / "c.zarr").pixel_size
    assert (half.y.value, half.x.value) == (0.52, 0.65)


def test_scales_of_the_whole_multiscale_count(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=PIXELS, chunks=(64, 64))
    axes = [{"name": d, "type": "space", "unit": "micrometer"} for d in "yx"]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.25]}]}
    whole = [{"type": "scale", "scale": [2, 10]}]
    image = {"version": "0.4", "axes": axes, "datasets": [dataset], "coordinateTransformations": whole}
    group.attrs["multiscales"] = [image]
    assert str(ndzarr.open(tmp_path / "a.zarr").pixel_size) == "y 1 µm, x 2.5 µm (OME-Zarr)"


def test_an_identity_of_ome_zarr_06_makes_a_pixel_as_large_as_a_unit(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=PIXELS, chunks=(64, 64))
    axes = [{"name": d, "type": "space", "unit": "micrometer"} for d in "yx"]
    step = {"type": "identity", "input": {"path": "0"}, "output": {"name": "physical"}}
    image = {
        "coordinateSystems": [{"name": "physical", "axes": axes}],
        "datasets": [{"path": "0", "coordinateTransformations": [step]}],
    }
    group.attrs["ome"] = {"version": "0.6", "multiscales": [image]}
    assert str(ndzarr.open(tmp_path / "a.zarr").pixel_size) == "1 µm (OME-Zarr)"


@pytest.mark.parametrize(
    ("kind", "unit"), [("utm", "meter"), ("rotated", "meter"), ("feet", "meter"), ("degrees", "degree")]
)  # fmt: skip
def test_georeferences_tell_sizes(pyramid, kind, unit):
    pytest.importorskip("pyproj")
    pyr = pyramid(kind)
    with rasterio.open(pyr.attrs["ndzarr"]["source"]["path"]) as file:
        a, b, _, d, e, _ = file.transform[:6]
        factor = 1 if unit == "degree" else file.crs.linear_units_factor[1]
    across, down = np.hypot(a, d) * factor, np.hypot(b, e) * factor
    found = pyr.pixel_size
    assert (found.x.unit, found.source) == (unit, "georeference")
    np.testing.assert_allclose([found.y.value, found.x.value], [down, across])
    if unit == "meter":
        assert stored_size(pyr) == {"y": pytest.approx(down), "x": pytest.approx(across)}
    else:  # OME-Zarr has no unit for angles
        assert stored_size(pyr) == {}
        assert pyr.window(resolution=f"{found.x.value * 2!r} degrees").sizes["x"] == 200


# What cannot be a size.


@pytest.mark.parametrize("value", ["0", "-0.5", "NaN", "INF", "half", ""])
def test_numbers_that_are_not_sizes_become_notes(tmp_path, value):
    path = ome(tmp_path / "a.ome.tif", PhysicalSizeX=0.5, PhysicalSizeY=0.5, TimeIncrement=7.0)
    xml = re.sub(r'(PhysicalSizeX|TimeIncrement)="[^"]*"', rf'\1="{value}"', tifffile.tiffcomment(path))
    tifffile.tiffcomment(path, xml.encode())
    for pyramid in opened(path, tmp_path):
        assert (pyramid.pixel_size.x, pyramid.pixel_size.t, str(pyramid.pixel_size.y)) == (None, None, "0.5 µm")
        assert [note for note in pyramid.notes if "PhysicalSizeX" in note]
        assert np.array_equal(pyramid.read()[0], PIXELS)
        with raises(WindowError, path=pyramid.path, key="resolution", hint="Use scale"):
            pyramid.window(resolution="1 um")


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "furlong", "s", "kg"])
def test_units_that_are_not_lengths_become_notes(tmp_path, unit):
    path = ome(tmp_path / "a.ome.tif", PhysicalSizeX=0.5, PhysicalSizeXUnit=unit)
    for pyramid in opened(path, tmp_path):
        assert pyramid.pixel_size is None
        assert unit in " ".join(pyramid.notes)
    tifffile.imwrite(
        tmp_path / "b.tif", PIXELS, imagej=True, resolution=(2, 2), metadata={"axes": "YX", "unit": "furlong"}
    )
    [pyramid] = opened(tmp_path / "b.tif", tmp_path)
    assert pyramid.pixel_size is None
    assert "furlong" in " ".join(pyramid.notes)


@pytest.mark.parametrize("scale", [[0, 0.26], [-1, 0.26], [float("nan"), 0.26], ["a", 0.26], [None, 0.26]])
@pytest.mark.parametrize("unit", ["micrometer", "furlong", 7, None])
def test_damaged_scales_of_ome_zarr_become_notes(tmp_path, scale, unit):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    datasets = []
    for k in (0, 1):
        group.create_array(str(k), data=PIXELS[:: k + 1, :: k + 1], chunks=(64, 64))
        datasets.append({"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    axes = [{"name": d, "type": "space", **({} if unit is None else {"unit": unit})} for d in "yx"]
    image = {"version": "0.4", "axes": axes, "datasets": datasets}
    (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
    pyramid = ndzarr.open(tmp_path / "a.zarr")
    assert np.array_equal(pyramid.read(), PIXELS)
    assert pyramid.levels[1].factors == (2, 2)
    assert len(pyramid.notes) == 2 if unit != "micrometer" else len(pyramid.notes) == 1
    assert (None if pyramid.pixel_size is None else str(pyramid.pixel_size.x)) == (
        "0.26 µm" if unit == "micrometer" else None
    )


# Resolutions.

SAME = ("0.5um", "0.5 um", "0.5 µm", "0.5 \u03bcm", "0.5µm/px", "500 nm", "500nm", "0.5 mpp", "0.5 MPP", "0.5 microns",
        "0.5 micrometers per pixel", "5000 Å", "0.0005 mm", "5e-7 m", "5e-7GSD", ".5um", "20x", "20 X", 0.5,
        np.float32(0.5))  # fmt: skip


@pytest.fixture
def slide(tmp_path):
    """A tiled slide at 40x and 0.25 µm."""
    path = tmp_path / "slide.tif"
    description = "Aperio Image Library v1|AppMag = 40|MPP = 0.25"
    tifffile.imwrite(path, np.resize(PIXELS, (400, 600)), tile=(128, 128), description=description, metadata=None)
    return path


@pytest.mark.parametrize("resolution", SAME)
def test_a_resolution_is_understood_everywhere(slide, tmp_path, resolution):
    pyramid = ndzarr.open(slide)
    expected = pyramid.window(scale=0.5)
    assert pyramid.window(resolution=resolution).identical(expected)
    dset = {"images": [{"id": 1, "file_name": str(slide), "width": 600, "height": 400}]}
    coco = ndzarr.CocoSampler(dset, workdir=tmp_path / "work")
    for sampler, which in ((coco, {"gid": 1}), (ndzarr.Sampler({"a": slide}, workdir=tmp_path / "work"), {"key": "a"})):
        assert np.array_equal(sampler.load_sample(**which, resolution=resolution).image, expected)
        assert np.array_equal(sampler.load_batch([{**which, "resolution": resolution}] * 2).image[1], expected)
        table = sampler.targets.grid((100, 100), resolution=resolution)
        assert set(table.output_dims) == {(100, 100)}
        assert set(table.width) == {200}


@pytest.mark.parametrize(
    "wrong",
    ["0um", "-1um", "nan um", "inf", "1e999 m", "um", "0.5 furlong", "1 s", "", True, [1], "1e70 m"],
)
def test_what_is_no_resolution_is_refused(slide, wrong):
    for load in (ndzarr.open(slide).window, ndzarr.Sampler({"a": slide}).load_sample):
        with raises(ndzarr.NdzarrError, key="resolution"):
            load(resolution=wrong)


def test_a_resolution_that_cannot_be_known_says_why(slide, tmp_path):
    with raises(WindowError, path=slide, key="resolution", hint="Use scale"):
        ndzarr.open(slide).window(resolution="1 degree")
    plain = ndzarr.transcode(ome(tmp_path / "a.ome.tif", PhysicalSizeX=1, PhysicalSizeY=1), tmp_path / "a.zarr")
    for load in (plain.window, ndzarr.Sampler({"a": plain}).load_sample):
        with raises(ndzarr.NdzarrError, path=plain.path, key="resolution"):
            load(resolution="20x")


def test_the_dataset_states_sizes_and_files_the_magnification(slide, tmp_path):
    image = {"id": 1, "file_name": str(slide), "width": 600, "height": 400, "resolution": "0.5 um"}
    sampler = ndzarr.CocoSampler({"images": [image]}, workdir=tmp_path / "work")
    assert sampler.load_sample(gid=1, resolution="1 um").image.shape == (1, 200, 300)  # not the 0.25 µm of the file
    assert sampler.load_sample(gid=1, resolution=1).image.shape == (1, 200, 300)
    assert sampler.load_sample(gid=1, resolution="10x").image.shape == (1, 100, 150)
    assert sampler.load_sample(gid=1, resolution="1 um", scale=0.5).image.shape == (1, 100, 150)


def test_sizes_move_with_their_assets(slide, tmp_path):
    dset = kwcoco.CocoDataset()
    warp = {"type": "affine", "scale": 0.5}
    asset = {"file_name": str(slide), "channels": "gray", "width": 600, "height": 400, "warp_aux_to_img": warp}
    dset.add_image(name="a", width=300, height=200, auxiliary=[asset])
    sampler = ndzarr.CocoSampler(dset, workdir=tmp_path / "work")
    for resolution in ("1 um", "10x"):  # pixels of the image have 0.5 µm, and are seen at 20x
        assert sampler.load_sample(gid=1, resolution=resolution).image.shape == (1, 100, 150)


# Windows.


def test_windows_may_have_physical_sizes(slide):
    pyramid = ndzarr.open(slide)
    window = pyramid.window(y=slice("10 um", "20 um"), x=slice(None, "0.05 mm"), resolution="0.5um")
    assert window.identical(pyramid.window(y=slice(40, 80), x=slice(None, 200), scale=0.5))
    assert pyramid.window(x=slice("-10um", 40)).identical(pyramid.window(x=slice(-40, 40)))
    sampler = ndzarr.Sampler({"a": slide})
    for dims in ("25 um", ("25 um", "0.025 mm"), ("25um", 100), (100, "25 mpp")):
        sample = sampler.load_sample(cx=300, cy=200, window_dims=dims)
        assert sample.identical(sampler.load_sample(cx=300, cy=200, width=100, height=100))
    target = {"cx": 300, "cy": 200, "window_dims": "25 um"}
    assert np.array_equal(sampler.load_batch([target] * 3).image[2], sampler.load_sample(target).image)
    with raises(ndzarr.NdzarrError, key="window_dims"):
        sampler.load_sample(window_dims="20x")


@pytest.fixture
def slides(tmp_path):
    """A sampler of two slides, of 0.25 and 0.5 µm, with an annotation each."""
    images, annotations = [], []
    for k, size in enumerate((0.25, 0.5), 1):
        path = tmp_path / f"{k}.ome.tif"
        tifffile.imwrite(path, np.resize(PIXELS, (400, 600)), ome=True, tile=(128, 128), photometric="minisblack",
                         metadata={"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size})  # fmt: skip
        images.append({"id": k, "file_name": str(path), "width": 600, "height": 400})
        annotations.append({"id": k, "image_id": k, "category_id": 1, "bbox": [300, 200, 20, 10]})
    dset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    return ndzarr.CocoSampler(dset, workdir=tmp_path / "work")


def test_grids_have_physical_sizes_in_every_image(slides):
    table = slides.targets.grid("50 um", overlap="10 um", keep_borders=False)
    assert table.groupby("gid").width.unique().map(list).to_dict() == {1: [200], 2: [100]}
    steps = {gid: np.unique(np.diff(np.unique(rows.cx))).tolist() for gid, rows in table.groupby("gid")}
    assert steps == {1: [160.0], 2: [80.0]}
    table = slides.targets.grid((64, "50 um"), overlap=(16, 0.5), resolution="0.5um", keep_borders=False)
    assert set(table.output_dims) == {(64, 100)}
    assert table.groupby("gid").height.unique().map(list).to_dict() == {1: [128], 2: [64]}
    steps = {gid: np.unique(np.diff(np.unique(rows.cy))).tolist() for gid, rows in table.groupby("gid")}
    assert steps == {1: [96.0], 2: [48.0]}
    batch = slides.load_batch(table)
    assert batch.image.shape[1:] == (1, 64, 100)
    for i in (0, len(table) - 1):
        assert np.array_equal(batch.image[i], slides.load_sample(table.iloc[i]).image)
    for overlap in ("50 um", "60 um", 200):  # the second image would have a stride of 0
        with raises(ndzarr.errors.TargetError, key="overlap"):
            slides.targets.grid("50 um", overlap=overlap)
    assert len(slides.targets.grid("50 um", overlap="49.9 um")) > 1000  # a pixel less than the window
    whole = slides.targets.grid("full", resolution="1 um")
    assert whole.output_dims.tolist() == [(100, 150), (200, 300)]


@pytest.mark.parametrize("cover", [False, True])
def test_positives_have_physical_sizes_in_every_image(slides, cover):
    table = slides.targets.positives("50 um", cover=cover)
    assert table[["gid", "width", "height"]].to_numpy().tolist() == [[1, 200, 200], [2, 100, 100]]
    table = slides.targets.positives((64, 96), resolution="0.5 mpp", cover=cover)
    assert table[["gid", "height", "width"]].to_numpy().tolist() == [[1, 128, 192], [2, 64, 96]]
    assert slides.load_batch(table).image.shape == (2, 1, 64, 96)
    assert table.annot_ids.tolist() == [(1,), (2,)]


def test_negatives_have_physical_sizes_in_every_image(slides):
    table = slides.targets.negatives(300, ("20 um", "50 um"), resolution="0.5 um")
    assert set(table.groupby("gid")[["height", "width"]].value_counts().index) == {(1, 80, 200), (2, 40, 100)}
    assert set(table.output_dims) == {(40, 100)}
    assert (table.n_annots == 0).all()
    # Every window is as likely as any other: 321 x 401 of the first image, 361 x 501 of the second, less what is taken.
    assert 0.3 < (table.gid == 1).mean() < 0.55
    full = slides.targets.negatives(20, (200, 200), resolution="0.5 um")
    assert set(zip(full.gid, full.width, strict=True)) == {(2, 200)}  # 400 x 400 of the first hold its annotation
    like = slides.targets.negatives(20, "like_annotations", resolution="1 um")
    assert set(zip(like.gid, like.output_dims, strict=True)) == {(1, (2, 5)), (2, (5, 10))}


def test_windows_around_boxes_may_have_a_resolution(slides):
    table = slides.targets.positives(context=2, resolution="1 um")
    assert table.output_dims.tolist() == [(5, 10), (10, 20)]


@pytest.mark.parametrize("wrong", [{"window_dims": "20x"}, {"window_dims": "5 furlong"}, {"window_dims": "0 um"},
    {"window_dims": (64, 64), "resolution": "no"}, {"window_dims": (64, 64), "resolution": "20x"}])  # fmt: skip
def test_tables_refuse_what_is_no_size(slides, wrong):
    for make in (slides.targets.grid, slides.targets.positives):
        with pytest.raises(ndzarr.NdzarrError) as caught:
            make(**wrong)
        assert caught.value.key in ("window_dims", "window_dims[0]", "resolution")


def test_frames_of_one_size_keep_it(tmp_path):
    for k, size in enumerate((0.5, 0.5, 0.25)):
        ome(tmp_path / f"{k}.ome.tif", PhysicalSizeX=size, PhysicalSizeY=size)
    paths = [tmp_path / f"{k}.ome.tif" for k in range(3)]
    assert str(ndzarr.transcode(paths[:2], tmp_path / "a.zarr").pixel_size.x) == "0.5 µm"
    assert ndzarr.transcode(paths, tmp_path / "b.zarr").pixel_size is None


def test_pixels_that_are_turned_upright_keep_their_sizes(tmp_path):
    how = {"resolution": (20000, 10000), "resolutionunit": 3, "extratags": [(274, 3, 1, 6, True)]}
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, **how)
    pyramid = ndzarr.transcode(tmp_path / "a.tif", tmp_path / "a.zarr")
    assert pyramid.shape[-2:] == (90, 70)
    assert str(pyramid.pixel_size) == "y 0.5 µm, x 1 µm (resolution tags)"
