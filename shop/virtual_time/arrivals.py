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
    seconds, due = _due(scenario)
    shares = list(scenario.shares.values())
    summed = np.cumsum(shares)
    shares_until = summed / summed[-1]
    passed = 0.0
    for block in count():
        rng = generator(seed, "arrivals", block)
        gaps = rng.standard_exponential(BLOCK)
        come = passed + np.cumsum(gaps)
        passed = float(come[-1])
        draws = rng.random(BLOCK)
        entries = np.searchsorted(shares_until, draws, side="right")
        at_s = np.interp(come, due, seconds, right=np.inf)
        at_us = np.rint(at_s * 1e6)
        arriving = zip(at_us.tolist(), entries.tolist(), strict=True)
        for when, entry in arriving:
            if when == np.inf:
                return
            yield int(when), entry


def _due(scenario: Scenario) -> tuple[NDArray, NDArray]:
    """Return each second of the run and its end, and how many requests are due by then."""
    whole = np.arange(0.0, scenario.seconds)
    seconds = np.append(whole, scenario.seconds)
    middle = (seconds[:-1] + seconds[1:]) / 2
    rate = _rate(scenario, middle)
    expected = rate * np.diff(seconds)
    due = np.append(0.0, np.cumsum(expected))
    return seconds, due


def _rate(scenario: Scenario, at: NDArray) -> NDArray:
    """Return the requests per second at these times, in seconds."""
    day = at / 86_400
    phase = 2 * np.pi * (day - 3 / 24)
    wave = np.cos(phase)
    cycle = 1.0 - scenario.daily * wave
    profile = np.array([(0.0, 1.0), *scenario.profile])
    since, factors = profile.T
    begun = np.searchsorted(since, at, side="right")
    factor = factors[begun - 1]
    return scenario.rate * cycle * factor
