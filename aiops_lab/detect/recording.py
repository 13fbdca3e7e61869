"""What holds of a recording at any sensitivity? Its spans and requests, prepared once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect.windows import Counts, Grid, count_windows, is_given_up, log_ms
from aiops_lab.detect.windows import windows_to_walk as find_windows_to_walk
from aiops_lab.results import Anomaly
from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER, encode
from aiops_lab.traces.graph import calls_of


class Recording:
    """A spans frame, prepared once for many pipelines: what holds at any sensitivity.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    keys : dict
        Codes of the endpoints that serve; grows by those that are new.
    methods : dict, optional
        The methods that are named by their route alone, as in `EncodedSpans`.
    addresses : dict, optional
        The services behind addresses, as in `EncodedSpans`.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        keys: dict[Key, int],
        methods: dict[Key, str] | None = None,
        addresses: dict[tuple[str, str], str] | None = None,
    ) -> None:
        self.keys = keys
        self.spans = spans = encode(frame, list(keys), methods, addresses)
        self.requests = spans.select(spans.server)
        newest = int(self.requests.node.max(initial=len(keys) - 1))
        for node in range(len(keys), newest + 1):
            keys[spans.keys[node]] = node
        # calls of endpoints that have never been seen serving have no baseline
        has_baseline = spans.node <= newest
        self.given_up = spans.select(has_baseline & is_given_up(spans))

    @cached_property
    def by_end(self) -> np.ndarray:
        """The requests in the order in which they ended."""
        return np.argsort(self.requests.end, kind="stable")

    @cached_property
    def log_ms(self) -> np.ndarray:
        """The log of the milliseconds that each request took."""
        return log_ms(self.requests)

    @cached_property
    def calls(self) -> dict[tuple[Key, Key], int]:
        """Unix ns of the first call of each pair (caller, called)."""
        keys = self.spans.keys
        calls = calls_of(self.spans)
        code = calls["caller"].to_numpy() * len(keys) + calls["callee"].to_numpy()
        pair, distinct = pd.factorize(code, sort=True)
        first = np.full(distinct.size, NEVER)
        np.minimum.at(first, pair, calls["start"].to_numpy())
        pairs = zip(distinct // len(keys), distinct % len(keys), strict=True)
        named = [(keys[caller], keys[called]) for caller, called in pairs]
        return dict(zip(named, first.tolist(), strict=True))

    # ---- what a pipeline asks for; `aiops_lab.scale` answers it from many files

    @property
    def number(self) -> int:
        """How many requests there are."""
        return self.requests.row.size

    @property
    def last_ns(self) -> int:
        """When the recording ended (Unix ns); 0 without spans."""
        return self.spans.last_ns

    @property
    def methods(self) -> dict[Key, str]:
        """The methods that are named by their route alone, as in `EncodedSpans`."""
        return self.spans.methods

    @property
    def addresses(self) -> dict[tuple[str, str], str]:
        """The services behind addresses, as in `EncodedSpans`."""
        return self.spans.addresses

    def first_requests(self) -> NDArray:
        """Return when each endpoint was first asked (Unix ns), `NEVER` where it was not."""
        first = np.full(len(self.keys), NEVER)
        np.minimum.at(first, self.requests.node, self.requests.start)
        return first

    def windows_to_walk(self, grid: Grid, **knobs: int) -> NDArray:
        """Return the windows that need to be walked, as of `detect.windows`."""
        return find_windows_to_walk(self.requests, self.given_up, grid, **knobs)

    def count(self, grid: Grid, walked: NDArray, **knobs: int) -> Counts:
        """Return what ended in each window that is walked, as of `detect.windows`."""
        width = len(self.keys)
        return count_windows(self.requests, self.given_up, width, grid, walked=walked, **knobs)

    def around(self, anomalies: list[Anomaly], longest_ns: int) -> Recording:
        """Return a recording that holds the requests to the endpoints of some anomalies in the last
        `longest_ns` before the end of each: this one holds all.
        """
        return self
