"""How is a TIFF file of any size read in pieces?

tifffile parses the file: directories, series, metadata of OME, ImageJ and GDAL.  Pixels are not read through it as
arrays, which would be whole pages, but segment by segment.

- `chain`, `quiet`: refuse directories that do not end in the file, and hear what tifffile complains about.
- `layout`: which frame, and which part of it, holds a window of t, c and z.
- `frame`: where the segments of a frame are in the file, and how they decode.
- `decoding`: what tifffile decodes otherwise than libtiff.
- `segments`: read the segments that a window touches, in threads, into the output.
- `colour`: what samples mean, and how palettes, inks and inverted grays become channels.
- `about`: names, sizes of pixels, times and places from metadata.
- `parsed`: what the file says, put together; `open`: the source.
"""
