"""How often may one address ask? Wrong tokens, and requests of other machines, are counted."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from flask import request

from aiops_lab.respond.limits import Clock, RateLimit
from aiops_lab.show.origin import RefusedError

MOST_WRONG = 20
"""Wrong tokens of an address in a minute. Raising it lets more of them be tried."""

MOST_REQUESTS = 600
"""Requests of another machine in a minute, ten a second: pages ask every two seconds. Raising it
lets one machine keep this one busier."""

PER_S = 60.0

MOST_ADDRESSES = 1_000  # that are remembered; the one that was silent longest is forgotten


class TooOftenError(RefusedError):
    """A request of an address that asked too often."""

    status = 429


class Attempts:
    """What was asked by each address.

    Parameters
    ----------
    what : str
        What is counted, for the refusal.
    most : int
        In any `PER_S` seconds.
    clock : function () -> float
        Seconds that never go back.
    """

    def __init__(self, what: str, most: int, clock: Clock = time.monotonic) -> None:
        self._what = what
        self._most = most
        self._clock = clock
        self._limits: OrderedDict[str, RateLimit] = OrderedDict()
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raise `TooOftenError` where the address of this request has no more room."""
        with self._lock:
            if self._limit().room() == 0:
                rule = f"must be at most {self._most} in {PER_S:g} s from one address"
                raise TooOftenError(self._what, rule, request.remote_addr)

    def note(self) -> None:
        """Count one of the address of this request."""
        with self._lock:
            self._limit().take()

    def _limit(self) -> RateLimit:
        address = request.remote_addr or ""
        limit = self._limits.setdefault(address, RateLimit(self._most, PER_S, self._clock))
        self._limits.move_to_end(address)
        if len(self._limits) > MOST_ADDRESSES:
            self._limits.popitem(last=False)
        return limit
