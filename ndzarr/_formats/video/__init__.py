"""Video files: containers, frame indexes, decoding and colour."""
