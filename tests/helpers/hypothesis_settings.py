"""Settings of hypothesis."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SHARE = float(os.environ.get("NDZARR_EXAMPLES", "1"))
"""Examples for each one that a test asks for: above 1 for a longer search, below 1 where tests run a second time.

Below 1, it is also the share of parameter sets that tests run with; see tests/conftest.py.
"""

IN_CI = 0.5 if os.environ.get("CI") else 1.0
"""The part of the examples that CI tries: the same ones each time, so more of them find little."""


def examples(n: int, *allowed: HealthCheck) -> settings:
    """So many hypothesis examples, times the environment's NDZARR_EXAMPLES; no deadline, and no check of these."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(
        max_examples=max(1, round(n * SHARE * IN_CI)), deadline=None, suppress_health_check=[*slow, *allowed]
    )
