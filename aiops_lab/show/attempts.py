"""How often may one address ask? Wrong tokens, and requests of other machines, are counted.

Flask-Limiter was tried for it (4.1) and does not fit blueprints that are part of an application of
somebody else:

- It works before each request of the application, not of the blueprint alone: the application's own
  paths took 230 µs instead of 150, while recording them adds 11.
- It reads the application's settings: where an application has ``RATELIMIT_ENABLED = False`` for
  itself, these paths would be without a limit, and nothing would say so.
- It counts requests. A page that sends an old token again and again would be locked out; here the
  same wrong token counts once.
- It remembers each address for a minute, however many there are; here `MOST_ADDRESSES`.
- The limit must hold without an extra to install, and it brings five packages (4 MB).

What is left is `aiops_lab.respond.limits.RateLimit`, which remedies need as well.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from math import ceil

from flask import request

from aiops_lab.respond.limits import Clock, RateLimit
from aiops_lab.show.origin import RefusedError

PER_S = 60.0

MOST_WRONG = 20
"""Different wrong tokens of an address in a minute, before all wrong ones are refused as too many.
The right one is let in all the same, so that nobody behind the same proxy can lock out its holder:
what protects a token is its length. Raising it answers 401 to more guesses."""

MOST_REQUESTS = 600
"""Requests of another machine in a minute, ten a second: pages ask every two seconds. Those with
the right token, and those with traces, are not counted. Raising it lets one machine keep this one
busier, and guess more tokens."""

RECEIVER = "otlp"
"""The blueprint of `aiops_lab.show.otlp`, which has limits of its own: what is refused there is
lost, as not each exporter sends it again."""

MOST_ADDRESSES = 1_000  # that are remembered; the one that was silent longest is forgotten


class TooOftenError(RefusedError):
    """A request of an address that asked too often."""

    status = 429

    def __init__(self, field: str, rule: str, value: object, wait_s: float = PER_S) -> None:
        super().__init__(field, rule, value)
        self.headers = {"Retry-After": str(max(1, ceil(wait_s)))}


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
            wait_s = self._limit().wait_s()
        if wait_s > 0:
            rule = f"must be at most {self._most} in {PER_S:g} s from one address"
            raise TooOftenError(self._what, rule, request.remote_addr, wait_s)

    def note(self, sent: str | None = None) -> None:
        """Count an attempt of the address of this request; of equal texts only the first counts."""
        what = None if sent is None else hashlib.sha256(sent.encode()).digest()  # keep no secret
        with self._lock:
            self._limit().take(what)

    def _limit(self) -> RateLimit:
        address = request.remote_addr or ""
        limit = self._limits.setdefault(address, RateLimit(self._most, PER_S, self._clock))
        self._limits.move_to_end(address)
        if len(self._limits) > MOST_ADDRESSES:
            self._limits.popitem(last=False)
        return limit
