"""Image files, arrays and videos as sources of pixels."""
