"""How many requests did each endpoint serve? The sums of all parts of a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock

from aiops_lab.record.counting import CountedRow, EndpointName, Part
from aiops_lab.record.reader import SpanReader

OTHER_ENDPOINTS = "(other)"  # the endpoint of all that come after the first ones


class RequestCounts:
    """The requests of an endpoint.

    Attributes
    ----------
    buckets : list of int
        Requests by duration: at most the first bound, more than that and at most the second, …;
        the last ones are above all bounds.
    failed : int
        Those with a 5xx, without an answer, or with an exception.
    duration_us : int
        The sum of all durations. Whole microseconds, as a sum of floats could shrink.
    """

    def __init__(self, size: int) -> None:
        self.buckets = [0] * size
        self.failed = 0
        self.duration_us = 0

    def add(self, bucket: int, n: int, failed: int, duration_us: int) -> None:
        """Add some requests of one bucket."""
        self.buckets[bucket] += n
        self.failed += failed
        self.duration_us += duration_us


class RequestCounter:
    """Counts the requests in a store, from its first row on. Safe to use from several threads.

    After a restart the counts are the same: they are those of the store. Only where its file is
    replaced by another one do they begin anew.

    Parameters
    ----------
    store : SpanReader
    bounds_s : sequence of float
        The upper bounds of the buckets of durations, in seconds, rising.
    most_endpoints : int
        How many endpoints, the first ones, are told apart; the others are counted together.
    """

    def __init__(self, store: SpanReader, bounds_s: Sequence[float], most_endpoints: int) -> None:
        self._store = store
        self._bounds_s = bounds_s
        self._most = most_endpoints
        self._lock = Lock()
        self._begin()

    def _begin(self) -> None:
        self._upto = 0
        self._sealed: dict[tuple[int, int], list[int]] = {}

    def read(self) -> dict[EndpointName, RequestCounts]:
        """Return the counts of each endpoint, in the order in which they came.

        It costs the rows since the last call. Raises OSError where the store cannot be read.
        """
        with self._lock:
            while True:
                part = self._store.count_part(self._upto, self._bounds_s)
                if part.last < self._upto:
                    self._begin()
                    continue
                self._keep(part)
                if part.fresh is not None:
                    return self._by_place(part.names, part.fresh)

    def _keep(self, part: Part) -> None:
        self._upto = part.upto
        for code, bucket, *counts in part.sealed:
            before = self._sealed.get((code, bucket), [0, 0, 0])
            self._sealed[code, bucket] = [a + b for a, b in zip(before, counts, strict=True)]

    def _by_place(
        self, names: dict[int, EndpointName], fresh: Iterable[CountedRow]
    ) -> dict[EndpointName, RequestCounts]:
        sealed = [(*cell, *counts) for cell, counts in self._sealed.items()]
        rows = [*sealed, *fresh]
        served = {row[0] for row in rows}
        shown = list(dict.fromkeys(names[code] for code in names if code in served))
        told_apart = set(shown[: self._most])
        counts: dict[EndpointName, RequestCounts] = {}
        for code, bucket, n, failed, duration_us in sorted(rows):
            place = names[code]
            if place not in told_apart:
                place = EndpointName("", "", OTHER_ENDPOINTS)
            if place not in counts:
                counts[place] = RequestCounts(len(self._bounds_s) + 1)
            counts[place].add(bucket, n, failed, duration_us)
        return counts
