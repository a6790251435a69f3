"""Which threads decode and resample?

One pool for all, beside the thread that asks; it is made when it is first needed, and does not survive a fork.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

PROCESSORS = os.cpu_count() or 1
"""Asked once: the answer costs as much as decoding a chunk."""

_pool: ThreadPoolExecutor | None = None


def pool() -> ThreadPoolExecutor:
    """The threads, one fewer than there are processors, but at least one."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(1, PROCESSORS - 1), thread_name_prefix="ndzarr")
    return _pool


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
