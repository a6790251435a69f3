"""Cloud-optimised GeoTIFFs: written and validated."""
