"""How does hypothesis try (in CI the same examples each time; never against the clock), and where do demo data go?"""

import os

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("local", deadline=None)  # what else this machine does is no fault of the code
settings.load_profile("ci" if os.environ.get("CI") else "local")

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # kwcoco writes its demo data into the user's cache; two processes that make the same ones spoil each other's.
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ["XDG_CACHE_HOME"] = os.path.join(cache, "ndzarr-tests", worker)
