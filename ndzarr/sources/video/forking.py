"""What becomes of a decoder in a child that was forked?

Its threads are not there, so that using it, and even freeing it, would wait for ever.  It is left alone for good.
"""

from __future__ import annotations

import ctypes


def abandon(*objects: object) -> None:
    """Never free objects, whatever else becomes of them."""
    for one in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))
