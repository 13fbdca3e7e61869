"""How often may something be done? At most so often per time, and later after each failure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

Clock = Callable[[], float]  # seconds that never go back


class RateLimit:
    """At most `most` times in any `per_s` seconds."""

    def __init__(self, most: int, per_s: float, clock: Clock = time.monotonic) -> None:
        self._most = most
        self._per_s = per_s
        self._clock = clock
        self._taken: deque[float] = deque()

    def room(self) -> int:
        """Return how often it may be done now."""
        before = self._clock() - self._per_s
        while self._taken and self._taken[0] <= before:
            self._taken.popleft()
        return max(0, self._most - len(self._taken))

    def take(self) -> None:
        """Note that it was done."""
        self._taken.append(self._clock())


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
