"""Settings of hypothesis."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def examples(n: int) -> settings:
    """So many hypothesis examples, times the environment's NDZARR_EXAMPLES for a longer search; no deadline."""
    return settings(
        max_examples=n * int(os.environ.get("NDZARR_EXAMPLES", "1")),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
