"""Whole slides in DICOM, as small as they can be (PS3.3, A.32.8)."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid


def of(**values):
    out = Dataset()
    for name, value in values.items():
        setattr(out, name, Sequence(value) if isinstance(value, list) and isinstance(value[0], Dataset) else value)
    return out


def write_slide(folder: Path, levels, tile: int = 16, spacing: float = 0.0005) -> list[Path]:
    """Write levels, arrays with axes (y, x, rgb or gray), native first; `spacing` is that of native pixels in mm."""
    study, series, frame, dimension = (generate_uid() for _ in range(4))
    return [
        _write(
            folder / f"{k}.dcm",
            pixels,
            k,
            tile,
            spacing * levels[0].shape[1] / pixels.shape[1],
            study,
            series,
            frame,
            dimension,
        )
        for k, pixels in enumerate(levels)
    ]


def _write(path, pixels, number, tile, spacing, study, series, frame, dimension):
    height, width, samples = pixels.shape
    bits = 8 * pixels.itemsize
    rows, columns = -(-height // tile), -(-width // tile)
    padded = np.zeros((rows * tile, columns * tile, samples), pixels.dtype)
    padded[:height, :width] = pixels
    tiles = padded.reshape(rows, tile, columns, tile, samples).swapaxes(1, 2)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = VLWholeSlideMicroscopyImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    code = of(CodeValue="1", CodingSchemeDesignator="99X", CodeMeaning="light")
    pixel = of(PixelSpacing=[spacing, spacing], SliceThickness=0.001, SpacingBetweenSlices=0.001)
    out = of(
        SOPClassUID=meta.MediaStorageSOPClassUID,
        SOPInstanceUID=meta.MediaStorageSOPInstanceUID,
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        FrameOfReferenceUID=frame,
        Modality="SM",
        PatientID="p",
        PatientName="n",
        StudyID="1",
        SeriesNumber="1",
        InstanceNumber=str(number + 1),
        ContainerIdentifier="slide",
        PositionReferenceIndicator="SLIDE_CORNER",
        DimensionOrganizationType="TILED_FULL",
        DimensionOrganizationSequence=[of(DimensionOrganizationUID=dimension)],
        ImageType=["ORIGINAL" if not number else "DERIVED", "PRIMARY", "VOLUME", "NONE" if not number else "RESAMPLED"],
        SamplesPerPixel=samples,
        PhotometricInterpretation="RGB" if samples == 3 else "MONOCHROME2",
        **({"PlanarConfiguration": 0} if samples == 3 else {"PresentationLUTShape": "IDENTITY"}),
        Rows=tile,
        Columns=tile,
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=0,
        NumberOfFrames=rows * columns,
        TotalPixelMatrixColumns=width,
        TotalPixelMatrixRows=height,
        TotalPixelMatrixFocalPlanes=1,
        NumberOfOpticalPaths=1,
        ImagedVolumeWidth=spacing * width,
        ImagedVolumeHeight=spacing * height,
        ImagedVolumeDepth=0.001,
        SpecimenLabelInImage="NO",
        BurnedInAnnotation="NO",
        FocusMethod="AUTO",
        ExtendedDepthOfField="NO",
        LossyImageCompression="00",
        VolumetricProperties="VOLUME",
        AcquisitionDateTime="20200101000000",
        ContentDate="20200101",
        ContentTime="000000",
        ImageOrientationSlide=[0, -1, 0, -1, 0, 0],
        TotalPixelMatrixOriginSequence=[of(XOffsetInSlideCoordinateSystem=1.0, YOffsetInSlideCoordinateSystem=1.0)],
        OpticalPathSequence=[
            of(OpticalPathIdentifier="0", IlluminationTypeCodeSequence=[code], IlluminationWaveLength=500.0)
        ],
        SharedFunctionalGroupsSequence=[
            of(
                PixelMeasuresSequence=[pixel],
                WholeSlideMicroscopyImageFrameTypeSequence=[of(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
                OpticalPathIdentificationSequence=[of(OpticalPathIdentifier="0")],
            )
        ],
        PixelData=np.ascontiguousarray(tiles).tobytes(),
    )
    out.file_meta = meta
    out.save_as(path, enforce_file_format=True)
    return path
