"""How hard does hypothesis try? In CI the same examples every time, and no deadline on a shared machine."""

import os

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
