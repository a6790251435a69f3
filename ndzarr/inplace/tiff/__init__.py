"""How is a TIFF with tiles read where it lies?

- `open`: the pyramid of a file, put together from what follows.
- `levels`: which of its images are levels, and whether all of it can be read in place.
- `table`: where the tiles of a level are in the file.
- `decode`: how the bytes of a tile become pixels, as fast as the libraries allow.
- `tiles`: a level as an array whose chunks are tiles.
- `check`: are all tiles sound?

What the file means (axes, channels, colour, metadata) is worked out by `ndzarr.sources.tiff`, as for transcoding, so
that both give the same pixels.
"""
