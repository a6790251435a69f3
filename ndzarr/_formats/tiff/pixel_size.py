"""
The size of a pixel that a TIFF states: OME-XML, ImageJ, scanners and microscopes, resolution tags.

Each reader returns what one kind of metadata says.  `stated_size` asks them in turn: a later one fills in what the
earlier ones leave open.  Metadata of vendors are read as OpenSlide (https://openslide.org/formats/) and tifffile do.
Nothing here fails: what cannot be a size becomes a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from xml.etree import ElementTree

from ndzarr._formats.tiff.metadata import Content, OmeImage, Page, parse_xml
from ndzarr._geo.pixel_size import TIME, PixelSize, Quantity, Statements

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
DESCRIPTION, SOFTWARE, XMP = 270, 305, 700
LSM, SIS, STK, NDPI_LENS, ARGOS = 34412, 33560, 33628, 65421, 65000
FEI_SFEG, FEI_HELIOS, SEM, MICRO_MANAGER = 34680, 34682, 34118, 51123

_INCH = 25400.0
_TAG_UNITS = {2: _INCH, 3: 10000.0, 4: 1000.0, 5: 1.0}
"""ResolutionUnit to micrometres; 4 and 5 are not in TIFF 6.0 but are in use."""
_PRINTED = (1, 72, 96)
"""Dots per inch that programs write if they know none, so that they say nothing about the image; ImageJ ignores 72."""
_UNCALIBRATED = ("", "pixel", "pixels", "px")

Reader: TypeAlias = "Callable[[Content, Page, list[str]], PixelSize]"


def stated_size(content: Content, page: Page, ome: OmeImage) -> tuple[PixelSize, list[str]]:
    """Return the size of the pixels of a page as stored, and notes about statements that are not sizes."""
    notes: list[str] = []
    size = _ome_size(ome, notes)
    scan = page is content.series[0].page
    for read in READERS:
        if scan or read not in _OF_SCANS:
            size = size.filled(read(content, page, notes))
    return size, notes


def _ome_size(ome: OmeImage, notes: list[str]) -> PixelSize:
    """Return what OME-XML says; units are µm and s unless stated (https://docs.openmicroscopy.org/ome-model/)."""
    said = Statements("OME-XML", notes)

    def size(name: str, unit: str, kind: str = "length") -> Quantity | None:
        return said.quantity(name, ome.attribute(name), ome.attribute(f"{name}Unit") or unit, kind)

    x, y, z = (size(f"PhysicalSize{axis}", "µm") for axis in "XYZ")
    t = size("TimeIncrement", "s", TIME)
    return PixelSize(
        z=z, y=y, x=x, t=t, magnification=said.number("NominalMagnification", ome.lens()), source="OME-XML"
    )


def _imagej(content: Content, page: Page, notes: list[str]) -> PixelSize:
    """
    Return what ImageJ's description says together with the resolution tags, which hold pixels per unit.

    Source: ImageJ's `ij.io.FileSaver` and `ij.io.FileOpener`; a distance of planes may be negative there.
    """
    found, said = content.imagej, Statements("ImageJ", notes)
    if not found:
        return PixelSize()
    units = {axis: _imagej_unit(found, f"{axis}unit", "unit") for axis in "yz"} | {"x": _imagej_unit(found, "unit")}
    sizes: dict[str, Any] = {}
    for axis, code in (("x", X_RESOLUTION), ("y", Y_RESOLUTION)):
        if units[axis] == "inch":
            continue  # ImageJ takes it from the resolution tags
        if units[axis] not in _UNCALIBRATED and (density := _density(page, code)) is not None:
            sizes[axis] = said.quantity(f"{axis.upper()}Resolution", _inverse(density), units[axis])
    spacing = found.get("spacing")
    if spacing is not None and units["z"] not in _UNCALIBRATED:
        spacing = abs(spacing) if isinstance(spacing, int | float) else spacing
        sizes["z"] = said.quantity("spacing", spacing, units["z"])
    interval = found.get("finterval")
    if interval != 0:  # 0 is how ImageJ says that there is none
        sizes["t"] = said.quantity("finterval", interval, found.get("tunit", "s"), TIME)
    return PixelSize(**sizes, source="ImageJ")


def _imagej_unit(found: Mapping[str, Any], *names: str) -> str:
    unit = next((str(found[name]) for name in names if found.get(name)), "")
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m.group(1), 16)), unit).strip()


def _resolution_tags(content: Content, page: Page, notes: list[str]) -> PixelSize:
    """Return what the resolution tags say by TIFF 6.0, unless they hold a number that means nothing."""
    unit = page.numbers(RESOLUTION_UNIT)
    code = int(unit[0]) if unit else 2
    densities = [_density(page, tag) for tag in (X_RESOLUTION, Y_RESOLUTION)]
    if code not in _TAG_UNITS or None in densities:
        return PixelSize()
    x, y = (_inverse(d or 0.0) * _TAG_UNITS[code] for d in densities)
    if any(all(abs(size * dots / _INCH - 1) < 0.01 for size in (x, y)) for dots in _PRINTED):
        return PixelSize()
    said = Statements("resolution tags", notes)
    return PixelSize(
        x=said.quantity("the inverse of XResolution", x, "um"),
        y=said.quantity("the inverse of YResolution", y, "um"),
        source="resolution tags",
    )


def _density(page: Page, code: int) -> float | None:
    """Return pixels per unit; None without the tag.  A denominator of 0 makes 0, which no reader takes for a size."""
    found = page.numbers(code)
    if len(found) == 2:
        return found[0] / found[1] if found[1] else 0.0
    return found[0] if len(found) == 1 else None


def _inverse(density: float) -> float:
    return 1 / density if density else 0.0


def _micrometres(said: Statements, name: str, x: object, y: object, lens: object, z: object = None) -> PixelSize:
    """Return sizes in micrometres and the magnification of the objective, both as stated or None."""
    return PixelSize(
        x=said.quantity(name, x, "um"),
        y=said.quantity(name, y, "um"),
        z=said.quantity(name, z, "um"),
        magnification=said.number("the magnification", lens),
        source=said.source,
    )


def _aperio(content: Content, page: Page, notes: list[str]) -> PixelSize:
    if not content.description.startswith("Aperio"):
        return PixelSize()
    found = _pairs(content.description, "|")
    mpp = found.get("MPP")
    return _micrometres(Statements("Aperio", notes), "MPP", mpp, mpp, found.get("AppMag"))


def _trestle(content: Content, page: Page, notes: list[str]) -> PixelSize:
    """Return sizes by Trestle's use of the resolution tags, which hold micrometres per pixel."""
    if not (page.text(SOFTWARE) or "").startswith("MedScan"):
        return PixelSize()
    x, y = (_density(page, tag) for tag in (X_RESOLUTION, Y_RESOLUTION))
    lens = _pairs(content.description, ";").get("Objective Power")
    return _micrometres(Statements("Trestle", notes), "XResolution", x, y, lens)


def _pairs(text: str, separator: str) -> dict[str, str]:
    items = [item.partition("=") for item in text.split(separator)]
    return {key.strip(): value.strip() for key, equals, value in items if equals}


def _hamamatsu(content: Content, page: Page, notes: list[str]) -> PixelSize:
    """Return the objective of an NDPI file; the resolution tags have its sizes."""
    lens = page.numbers(NDPI_LENS)
    return PixelSize(magnification=lens[0] if len(lens) == 1 and lens[0] > 0 else None)  # -1 and -2 are other images


def _leica(content: Content, page: Page, notes: list[str]) -> PixelSize:
    """Return the objective of the image of an SCN file that the page is of; the resolution tags have its sizes."""
    root = parse_xml(content.description) if "<scn" in content.description else None
    for image in () if root is None else root.iterfind(".//{*}image"):
        sizes = {(d.get("sizeX"), d.get("sizeY")) for d in image.iterfind(".//{*}dimension")}
        if (str(page.width), str(page.height)) in sizes:
            lens = image.findtext("{*}scanSettings/{*}objectiveSettings/{*}objective")
            return PixelSize(magnification=Statements("Leica", notes).number("the magnification", lens))
    return PixelSize()


def _ventana(content: Content, page: Page, notes: list[str]) -> PixelSize:
    root = parse_xml(content.xmp) if "<iScan" in content.xmp else None
    scan = None if root is None else next(root.iter("iScan"), None)
    if scan is None:
        return PixelSize()
    mpp = scan.get("ScanRes")
    return _micrometres(Statements("Ventana", notes), "ScanRes", mpp, mpp, scan.get("Magnification"))


def _philips(content: Content, page: Page, notes: list[str]) -> PixelSize:
    root = parse_xml(content.description) if 'ObjectType="DPUfsImport"' in content.description else None
    if root is None:
        return PixelSize()
    slide = next((s for s in root.iter("DataObject") if _attribute(s, "PIM_DP_IMAGE_TYPE") == "WSI"), root)
    # Height and width in millimetres, in quotes, as DICOM has them.
    spacing = (_attribute(slide, "DICOM_PIXEL_SPACING") or "").replace('"', " ").split()
    said = Statements("Philips", notes)
    y, x = spacing if len(spacing) == 2 else (None, None)
    lens = re.search(r"(?:^|-)levels=(\d+)", _attribute(slide, "DICOM_DERIVATION_DESCRIPTION") or "")
    power = int(lens.group(1)) if lens else 0  # or something else, which is above 10,000
    return PixelSize(
        y=said.quantity("DICOM_PIXEL_SPACING", y, "mm"),
        x=said.quantity("DICOM_PIXEL_SPACING", x, "mm"),
        magnification=float(power) if 0 < power <= 200 else None,
        source="Philips",
    )


def _attribute(node: ElementTree.Element, name: str) -> str | None:
    """Return the text of the first attribute of a Philips object that has this name."""
    return next((a.text for a in node.iter("Attribute") if a.get("Name") == name), None)


def _objectives(content: Content, page: Page, notes: list[str]) -> PixelSize:
    """Return the objective of Argos and PerkinElmer (Akoya) slides; the resolution tags have their sizes."""
    argos, qpi = page.text(ARGOS) or "", content.description
    if "<Argos" in argos:
        root, source, name = parse_xml(argos), "Argos", "ObjectiveMagnification"
    elif "PerkinElmer-QPI" in qpi:
        root, source, name = parse_xml(qpi), "PerkinElmer", "Objective"
    else:
        return PixelSize()
    text = None if root is None else next((node.text for node in root.iter(name)), None)
    lens = None if text is None else text.strip().rstrip("xX")
    return PixelSize(magnification=Statements(source, notes).number("the magnification", lens))


def _zeiss(content: Content, page: Page, notes: list[str]) -> PixelSize:
    """Return what a Zeiss LSM (in metres) or a Zeiss electron microscope says."""
    lsm, sem = page.mapping(LSM), page.mapping(SEM)
    if lsm:
        said = Statements("Zeiss LSM", notes)
        # 0 is how LSM says that there is none.
        x, y, z = (said.quantity(f"VoxelSize{a}", lsm.get(f"VoxelSize{a}") or None, "m") for a in "XYZ")
        t = said.quantity("TimeInterval", lsm.get("TimeInterval") or None, "s", TIME)
        return PixelSize(x=x, y=y, z=z, t=t, source=said.source)
    stated = sem.get("ap_image_pixel_size") or sem.get("ap_pixel_size")
    if not isinstance(stated, tuple) or len(stated) != 3:
        return PixelSize()
    _, number, unit = stated
    size = Statements("Zeiss SEM", notes).quantity("the pixel size", number, unit)
    return PixelSize(x=size, y=size, source="Zeiss SEM")


def _fei(content: Content, page: Page, notes: list[str]) -> PixelSize:
    scan = (page.mapping(FEI_SFEG) or page.mapping(FEI_HELIOS)).get("Scan")
    if not isinstance(scan, Mapping):
        return PixelSize()
    said = Statements("FEI", notes)
    x, y = (said.quantity(f"Pixel{n}", scan.get(f"Pixel{n}"), "m") for n in ("Width", "Height"))
    return PixelSize(x=x, y=y, source="FEI")


def _olympus(content: Content, page: Page, notes: list[str]) -> PixelSize:
    found, said = page.mapping(SIS), Statements("Olympus SIS", notes)
    x, y = (said.quantity(f"pixelsize{a}", found.get(f"pixelsize{a}"), "m") for a in "xy")
    lens = said.number("the magnification", found.get("magnification"))
    return PixelSize(x=x, y=y, magnification=lens, source=said.source)


def _micro_manager(content: Content, page: Page, notes: list[str]) -> PixelSize:
    mpp = page.mapping(MICRO_MANAGER).get("PixelSizeUm")  # 0 if it is not calibrated
    return _micrometres(Statements("Micro-Manager", notes), "PixelSizeUm", mpp or None, mpp or None, None)


def _metamorph(content: Content, page: Page, notes: list[str]) -> PixelSize:
    """Return what MetaMorph says in an STK file, or in the XML of MetaSeries."""
    stk, said = page.mapping(STK), Statements("MetaMorph", notes)
    x, y, unit = stk.get("XCalibration"), stk.get("YCalibration"), stk.get("CalibrationUnits")
    on = bool(stk.get("SpatialCalibration"))
    if content.description.startswith("<MetaData>"):
        root = parse_xml(content.description)
        props = {} if root is None else {p.get("id"): p.get("value") for p in root.iter("prop")}
        on = (props.get("spatial-calibration-state") or "").lower() in ("on", "true", "1")
        x, y = props.get("spatial-calibration-x"), props.get("spatial-calibration-y")
        unit = props.get("spatial-calibration-units")
    if not on or str(unit).lower() in _UNCALIBRATED:
        return PixelSize()
    return PixelSize(
        x=said.quantity("the calibration of x", x, unit),
        y=said.quantity("the calibration of y", y, unit),
        source="MetaMorph",
    )


READERS: tuple[Reader, ...] = (
    *(_aperio, _trestle, _ventana, _philips, _hamamatsu, _leica, _objectives),
    *(_zeiss, _fei, _olympus, _metamorph, _imagej, _micro_manager, _resolution_tags),
)
"""In the order in which they are asked, after OME-XML."""
_OF_SCANS = (_aperio, _trestle, _ventana, _philips, _objectives)
"""Those that read what a file says of its first image, the scan; its other images show the label and the like."""
