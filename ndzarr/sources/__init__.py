"""What can pixels be read from?

`open_source` makes a `Source` of an image file or an array; one module per format, which is imported when a file of
that format is opened.
"""

from ndzarr.sources.open import open_source
from ndzarr.sources.source import AXES, Source

__all__ = ["AXES", "Source", "open_source"]
