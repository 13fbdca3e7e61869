"""How often may something be done? At most so often per time, and later after each failure."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

Clock = Callable[[], float]  # seconds that never go back


class RateLimit:
    """At most `most` times in any `per_s` seconds."""

    def __init__(self, most: int, per_s: float, clock: Clock = time.monotonic) -> None:
        self._most = most
        self._per_s = per_s
        self._clock = clock
        self._taken: OrderedDict[object, float] = OrderedDict()

    def room(self) -> int:
        """Return how often it may be done now."""
        before = self._clock() - self._per_s
        while self._taken and self._first_s() <= before:
            self._taken.popitem(last=False)
        return max(0, self._most - len(self._taken))

    def wait_s(self) -> float:
        """Return the seconds until it may be done again; 0 where it may be done now."""
        if self.room():
            return 0.0
        return self._first_s() + self._per_s - self._clock()

    def take(self, what: object = None) -> None:
        """Note that it was done; the same `what` counts once in `per_s`, by default each time."""
        key = object() if what is None else what
        self._taken.setdefault(key, self._clock())

    def _first_s(self) -> float:
        return next(iter(self._taken.values()))


class Backoff:
    """The pause after a failure, in seconds: twice as long each time, up to `last_s`."""

    def __init__(self, first_s: float, last_s: float) -> None:
        self._first_s = first_s
        self._last_s = last_s
        self._next_s = first_s

    def fail(self) -> float:
        """Return the pause after one more failure."""
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self._last_s)
        return pause_s

    def succeed(self) -> None:
        """Begin with the shortest pause again."""
        self._next_s = self._first_s
