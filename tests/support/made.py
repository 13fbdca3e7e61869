"""Small recordings that tests make themselves: a shop whose requests follow from a seed, with or
without a fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

import aiops_lab as lab

BEGIN = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
MS = 1_000_000
USUAL_MS = {"/health": 2.0, "/inventory": 20.0, "/payment": 45.0, "/checkout": 4.0}


def one_pool(workers: int, home_ms: float = 20.0) -> pd.DataFrame:
    """Return the spans of a front with /home and /order, in turn ten a second, which its workers
    serve as they come. From 60 s on /shelf, which /order calls, takes 30 times as long, and /home
    so many milliseconds.
    """
    dice = np.random.default_rng(0)
    free = np.zeros(workers)
    spans = []
    for n in range(900):
        came = n / 10
        usual_ms = dice.lognormal(np.log(20.0), 0.2, 2)
        home, shelf = usual_ms * ([home_ms / 20.0, 30.0] if came >= 60 else 1.0) / 1000
        begun = max(came, free.min())
        ended = begun + (shelf if n % 2 else home)
        free[free.argmin()] = ended
        own, below = f"{2 * n + 1:016x}", f"{2 * n + 2:016x}"
        served = ("front", "/order" if n % 2 else "/home")
        spans.append(_span_of(n, (own, None), served, came, ended))
        if n % 2:
            spans.append(_span_of(n, (below, own), ("warehouse", "/shelf"), begun, ended))
    return lab.to_frame(spans)


def _span_of(trace, ids, place, start_s, end_s):
    times = BEGIN + int(start_s * 1e9), int((end_s - start_s) * 1e9)
    return lab.Span(f"{trace + 1:032x}", *ids, *place, "server", None, *times, 200, None)


def small_shift() -> tuple[pd.DataFrame, lab.Change]:
    """Return spans of 400 s in which /payment is slower by a third from half of them on, and a
    change just before that can be seen.
    """
    frame = Shop(3, fault("/payment", 200, 400, added_ms=15)).run(400)
    seen = lab.replay(frame).incidents[0].first_detected
    return frame, lab.Change(seen - pd.Timedelta("5s"), "shop", "deployment 8")


@dataclass
class Shop:
    """Makes the spans of a shop in which /checkout calls /payment, then /inventory.

    ``effect(endpoint, second)`` returns (added milliseconds, status): what the fault does to a
    request.
    """

    seed: int = 0
    effect: object = None
    patience_ms: float = 5000.0
    spans: list = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._ids = 0

    def run(
        self,
        seconds: float,
        rate: float = 10.0,
        mix=("/checkout", "/payment", "/inventory", "/health"),
    ):
        for at in np.sort(self._rng.uniform(0, seconds, int(seconds * rate))):
            self.request(str(self._rng.choice(mix)), at)
        return lab.to_frame(self.spans)

    def request(self, endpoint: str, second: float) -> None:
        self._ids += 1
        trace = f"{self._ids:032x}"
        self._serve(trace, None, endpoint, BEGIN + int(second * 1e9))

    def _serve(self, trace: str, parent: str | None, endpoint: str, start: int) -> tuple[int, int]:
        span_id = self._id()
        added, status = self.effect(endpoint, (start - BEGIN) / 1e9) if self.effect else (0.0, 200)
        own = int(USUAL_MS[endpoint] * MS * np.exp(0.2 * self._rng.standard_normal()) + added * MS)
        now = start + own // 2
        if endpoint == "/checkout" and status == 200:
            for callee in ("/payment", "/inventory"):
                now, answer = self._call(trace, span_id, callee, now)
                if answer != 200:
                    status = 504 if answer == 0 else 502
                    break
        end = now + own - own // 2
        error = "RuntimeError: payment provider says no" if status == 500 else None
        self._add(trace, span_id, parent, endpoint, "server", None, start, end, status, error)
        return end, status

    def _call(self, trace: str, parent: str, endpoint: str, start: int) -> tuple[int, int]:
        span_id = self._id()
        end, status = self._serve(trace, span_id, endpoint, start + MS // 2)
        end, error = end + MS // 2, None
        if end - start > self.patience_ms * MS:
            end, status, error = (
                start + int(self.patience_ms * MS),
                0,
                "ReadTimeout: read timed out",
            )
        self._add(trace, span_id, parent, endpoint, "client", "shop", start, end, status, error)
        return end, status

    def _id(self) -> str:
        self._ids += 1
        return f"{self._ids:016x}"

    def _add(self, trace, span_id, parent, endpoint, kind, peer, start, end, status, error) -> None:
        span = lab.Span(
            trace, span_id, parent, "shop", endpoint, kind, peer, start, end - start, status, error
        )
        self.spans.append(span)


def fault(
    endpoint: str,
    since: float,
    until: float,
    added_ms: float = 0.0,
    status: int = 200,
    rate: float = 1.0,
):
    """Return an effect: between two seconds, `endpoint` takes longer or fails (every 1/rate-th
    request).
    """
    count = {"n": 0.0}

    def effect(at: str, second: float) -> tuple[float, int]:
        if at != endpoint or not since <= second < until:
            return 0.0, 200
        count["n"] += rate
        hit = count["n"] >= 1
        count["n"] -= hit
        return (added_ms, status) if hit else (0.0, 200)

    return effect
