"""When does each request come, and to which entry?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from shop.virtual_time.keyed_random import BLOCK, generator
from shop.virtual_time.scenario import Scenario


def arrivals(scenario: Scenario, seed: int) -> Iterator[tuple[int, int]]:
    """Yield (µs, number of the entry) of each request.

    The arrivals are a Poisson process with a variable rate: those of a process with rate 1, mapped
    by the inverse of the integral of the rate.
    """
    whole = np.append(np.arange(0.0, scenario.seconds), scenario.seconds)
    middle = (whole[:-1] + whole[1:]) / 2
    expected = _rate(scenario, middle) * np.diff(whole)
    due = np.append(0.0, np.cumsum(expected))
    shares = np.cumsum(list(scenario.shares.values()))
    passed = 0.0
    for block in count():
        rng = generator(seed, "arrivals", block)
        come = passed + np.cumsum(rng.standard_exponential(BLOCK))
        passed = float(come[-1])
        entries = np.searchsorted(shares / shares[-1], rng.random(BLOCK), side="right")
        at = np.rint(np.interp(come, due, whole, right=np.inf) * 1e6)
        for when, entry in zip(at.tolist(), entries.tolist(), strict=True):
            if when == np.inf:
                return
            yield int(when), entry


def _rate(scenario: Scenario, at: NDArray) -> NDArray:
    """Return the requests per second at these times, in seconds."""
    phase = 2 * np.pi * (at / 86_400 - 3 / 24)
    day = 1.0 - scenario.daily * np.cos(phase)
    since, factor = np.array([(0.0, 1.0), *scenario.profile]).T
    current = np.searchsorted(since, at, side="right") - 1
    return scenario.rate * day * factor[current]
