"""Do the directories of a TIFF come to an end, within the file?

Each directory of a TIFF holds the offset of the next.  In a damaged file one may point back to an earlier one, which
tifffile would follow for ever; in a truncated file one points behind the end.  So the chain is walked once before it
is trusted.
"""

from __future__ import annotations

import struct
from typing import Any

from ndzarr.errors import SourceError


def refuse_broken_chain(path: str, tif: Any) -> None:
    """
    Raise an error if directories refer back, or beyond the end of the file.

    Parameters
    ----------
    tif
        An open `tifffile.TiffFile`.
    """
    file, layout = tif.filehandle, tif.tiff
    seen: set[int] = set()
    at = int(tif.pages.first.offset) if tif.pages else 0
    while at:
        if at >= file.size:
            raise SourceError(
                f"{path}: page {len(seen)} of this TIFF would begin at byte {at}, but the file ends at {file.size}; it "
                f"is truncated, fetch or write it again"
            )
        if at in seen:
            raise SourceError(
                f"{path}: after {len(seen)} pages, this TIFF refers back to an earlier one; it is damaged, fetch or "
                f"write it again"
            )
        seen.add(at)
        try:
            file.seek(at)
            (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
            file.seek(at + layout.tagnosize + count * layout.tagsize)
            (at,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
        except (struct.error, OSError, ValueError, OverflowError):
            return  # the directory does not end within the file, or nowhere at all, which tifffile notices
