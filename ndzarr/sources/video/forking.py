"""What becomes of a decoder in a child that was forked?

Its threads are not there, so that using it, and even freeing it, would wait for ever.  It is left alone for good: those
that are in use by `abandon`, and those that the parent had done with, but whose cycles of references were not collected
yet, by freezing all that was there at the fork.
"""

from __future__ import annotations

import ctypes
import gc
import os


def abandon(*objects: object) -> None:
    """Never free objects, whatever else becomes of them."""
    for one in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=gc.freeze)
