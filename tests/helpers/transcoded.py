"""What `ndzarr.transcode` makes of a source: its pixels and all that is known about it, through the public API."""

from __future__ import annotations

import os
import weakref
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any

import ndzarr


def transcoded(source: Any, **options: Any) -> ndzarr.Pyramid:
    """Return the pyramid of a source; its store lives as long as it does.  A failure must leave nothing of a store."""
    with ExitStack() as until_collected:
        folder = until_collected.enter_context(TemporaryDirectory())
        try:
            pyramid = ndzarr.transcode(source, os.path.join(folder, "a.zarr"), **options)
        except ndzarr.NdzarrError:
            assert os.listdir(folder) == []
            raise
        assert len(pyramid.channels) == len(set(pyramid.channels)) == pyramid.sizes["c"]
        weakref.finalize(pyramid, until_collected.pop_all().close)
    return pyramid
