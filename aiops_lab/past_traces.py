"""Which traces does a step of a monitor look back at? Those that its incidents touch."""

from __future__ import annotations

import pandas as pd

from aiops_lab.diagnosis import LONGEST_REQUEST_NS
from aiops_lab.numerics import to_timestamp
from aiops_lab.pipeline import Pipeline
from aiops_lab.spans import Key
from aiops_lab.traces.encode import EncodedSpans
from aiops_lab.watched_spans import WatchedSpans

FEW_SPANS = 100_000
"""Spans up to which all are read, though some would do: to look for these takes as long. Raising it
makes steps longer in which an incident is looked at, up to 5 us a span."""

MOST_READS = 3
"""Reads of some traces in one step, from which on all are read: each looks at every row. Raising it
makes steps longer in which many incidents begin at once."""


class PastTraces:
    """The `diagnosis.History` of a store for one step: what was read is kept until it is gone.

    Parameters
    ----------
    spans : WatchedSpans
    pipeline : Pipeline

    Attributes
    ----------
    reads : int
        How often the store was asked.
    """

    def __init__(self, spans: WatchedSpans, pipeline: Pipeline) -> None:
        self.reads = 0
        self._spans = spans
        self._pipeline = pipeline
        self._kept: dict[tuple[int, int], tuple[frozenset[Key], EncodedSpans]] = {}

    def __call__(self, since_ns: int, until_ns: int, keys: frozenset[Key]) -> EncodedSpans:
        """Return the traces with a request to one of some endpoints between two moments (Unix ns),
        with what was still open at the later one; others may be among them.
        """
        known, spans = self._kept.get((since_ns, until_ns), (frozenset(), None))
        if spans is not None and keys <= known:
            return spans
        since = to_timestamp(since_ns)
        until = to_timestamp(until_ns + LONGEST_REQUEST_NS)
        if self._is_worth_looking(since, until):
            wanted = known | keys | self._beside(keys)
            frame = self._spans.traces_of(wanted, since, until)
        else:
            wanted = keys.union(self._pipeline.keys)
            frame = self._spans.between(since, until)
        spans = self._pipeline.encode(frame, self._pipeline.keys)
        self._kept[since_ns, until_ns] = wanted, spans
        self.reads += 1
        return spans

    def _is_worth_looking(self, since: pd.Timestamp, until: pd.Timestamp) -> bool:
        """Return whether to look for some traces takes less time than to read all spans."""
        if self.reads >= MOST_READS:
            return False
        return self._spans.count_roughly(since, until) > FEW_SPANS

    def _beside(self, keys: frozenset[Key]) -> frozenset[Key]:
        """Return all endpoints of the service that some are of, none where these are of several.

        Where what began at one service originates there, they are asked for next; and to look for
        traces takes as long for many endpoints as for one.
        """
        services = {service for service, _ in keys}
        if len(services) > 1:
            return frozenset()
        return frozenset(key for key in self._pipeline.keys if key[0] in services)
