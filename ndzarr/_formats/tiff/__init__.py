"""TIFF files: parsed by tifffile, read tile by tile or strip by strip."""
