"""Recordings of a few services in a line, drawn span by span: what is lost, late or ahead is up to
the test.
"""

from __future__ import annotations

import random
from typing import Any

import pandas as pd

import aiops_lab as lab
from aiops_lab.explain.reference import Reference
from tests.support.made import BEGIN, MS

SECOND = 1000 * MS


class Drawing:
    """Spans of requests that come every 200 ms, five a second."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self._first = seed * 10**6
        self._ids = self._first
        self._requests = 0
        self._spans: list[lab.Span] = []

    def ids(self, n: int) -> list[str]:
        """Return new span ids."""
        self._ids += n
        return [f"{self._ids - k:016x}" for k in range(n)]

    def request(self) -> tuple[str, int]:
        """Return the id of a new trace and when it begins (Unix ns)."""
        self._requests += 1
        begin = BEGIN + self._first * MS + self._requests * SECOND // 5
        return f"{self._first + self._requests:032x}", begin

    def about(self, ms: float, spread: float = 0.1) -> int:
        """Return about so many milliseconds, in ns."""
        return int(ms * MS * self.dice.lognormvariate(0, spread))

    def add(self, ids: tuple[Any, ...], place: tuple[Any, ...], *times: int, **how: Any) -> None:
        """Add a span: (trace, span, parent), (service, endpoint, kind, peer), start, duration."""
        answer = {"status": 200, "error": None} | how
        self._spans.append(lab.Span(*ids, *place, *times, **answer))

    def frame(self) -> pd.DataFrame:
        """Return the spans."""
        return lab.to_frame(self._spans)


def first_suspect(
    normal: pd.DataFrame | Reference, abnormal: pd.DataFrame
) -> tuple[str, str] | None:
    """Return the (service, endpoint) that is suspected first, None if nothing is."""
    suspects = lab.rank_root_causes(normal, abnormal)
    return suspects[0].key if suspects else None
