"""Zarr v3 bytes: codecs, shards, arrays, metadata, reading and writing."""
