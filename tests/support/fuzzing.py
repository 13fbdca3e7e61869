"""How long random tests run: shortly in every run of the tests, longer in ``make torture``."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

VARIABLE = "AIOPS_LAB_FUZZ"
"""The variable of the environment that multiplies the examples; where it is set they are new
in each run."""

FACTOR = int(os.environ.get(VARIABLE, "1"))


def bounded(examples: int, **more: object) -> settings:
    """Return settings for some examples, the same ones each time unless there are to be more."""
    return settings(
        max_examples=examples * FACTOR,
        deadline=None,
        derandomize=VARIABLE not in os.environ,
        suppress_health_check=[*HealthCheck],
        **more,  # type: ignore[arg-type]
    )
