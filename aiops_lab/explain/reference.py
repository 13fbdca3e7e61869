"""The reference: what fault-free requests cost, learned once and used for many incidents."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.attribution import (
    CostTable,
    EndpointProfile,
    attribute_costs,
    endpoint_profile,
    moments,
    pairs,
)
from aiops_lab.explain.deviations import ReferenceProfile, reference_profile, self_times
from aiops_lab.explain.queueing import ServiceRequests, service_requests
from aiops_lab.spans import Key, check
from aiops_lab.traces.encode import EncodedSpans, encode
from aiops_lab.traces.trees import TraceTrees, build_trees, clock_offsets


@dataclass(frozen=True)
class Reference:
    """What is usual, learned once from fault-free spans and used for many incidents."""

    keys: dict[Key, int] = field(repr=False)
    spans: EncodedSpans = field(repr=False)
    trees: TraceTrees = field(repr=False)
    resources: pd.DataFrame | None = field(repr=False)
    offsets: dict[tuple[str, str], int] = field(repr=False)
    books: CostTable = field(repr=False)
    habits: EndpointProfile = field(repr=False)
    until_ns: int
    _stays: dict[str, ServiceRequests | None] = field(
        default_factory=dict, repr=False, compare=False
    )

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The fault-free spans as a spans frame."""
        return self.spans.to_rows()

    def stay(self, service: str) -> ServiceRequests | None:
        """Return the usual requests of a service, worked out once."""
        if service not in self._stays:
            self._stays[service] = service_requests(
                service, self.spans, self.until_ns, self.offsets
            )
        return self._stays[service]

    @cached_property
    def entries(self) -> pd.DataFrame:
        """What requests usually cost, by entry: n, ms, failed, open, sd_ms."""
        return cost_by_entry(self.books)

    @cached_property
    def custom(self) -> ReferenceProfile:
        """How things are usually done."""
        return reference_profile(self.trees, failure_accounts(self.books), self.resources)

    @cached_property
    def gaps(self) -> tuple[pd.Series, pd.Series]:
        """The mean self time of the spans of each account in ns, and their number."""
        return edge_gaps(self.trees)

    @cached_property
    def sums(self) -> dict[str, pd.DataFrame]:
        """What requests usually cost, by kind of cost and account."""
        return cost_by_account(self.books)


def learn(normal: pd.DataFrame | EncodedSpans, resources: pd.DataFrame | None = None) -> Reference:
    """Return what is usual: learn once, use for many incidents.

    Parameters
    ----------
    normal : DataFrame or EncodedSpans
        Fault-free requests: a spans frame, or what `encode` made of it.
    resources : DataFrame, optional
        Metrics of the services: index time (UTC), column ``service``, the rest numbers. What is
        usual of them is taken from all rows: a few minutes of trouble among them do no harm.

    Raises
    ------
    ValueError
        Names the column that is missing or mistyped.
    """
    check_resources(resources)
    spans = normal if isinstance(normal, EncodedSpans) else encode(check(normal))
    keys, until = {key: code for code, key in enumerate(spans.keys)}, spans.last_ns
    offsets = clock_offsets(spans)
    trees = build_trees(spans, until, offsets)
    seen = endpoint_profile(trees, len(keys))
    books = attribute_costs(spans, trees, len(keys), until, seen)
    return Reference(keys, spans, trees, resources, offsets, books, seen, until)


def check_resources(resources: pd.DataFrame | None) -> None:
    """Raise a ValueError that names the rule, unless `resources` are metrics of services by time,
    or None.
    """
    if resources is None:
        return
    if not isinstance(resources, pd.DataFrame) or "service" not in resources:
        raise ValueError(
            f"resources must be a DataFrame with the column 'service', got {_columns(resources)}"
        )
    if not isinstance(resources.index, pd.DatetimeIndex) or str(resources.index.tz) != "UTC":
        raise ValueError(
            f"resources must have an index of times in UTC, got {resources.index.dtype}"
        )
    if not resources.columns.is_unique:
        raise ValueError(f"resources must have each column once, got {list(resources.columns)}")
    if not all(isinstance(name, str) for name in resources["service"].unique()):
        raise ValueError(f"resources['service'] must be text, got {resources['service'].dtype}")
    for name in resources.columns.drop("service"):
        if resources[name].dtype.kind not in "iuf":
            raise ValueError(f"resources[{name!r}] must be numbers, got {resources[name].dtype}")


def _columns(value: object) -> object:
    return list(value.columns) if isinstance(value, pd.DataFrame) else type(value).__name__


def failure_accounts(books: CostTable) -> NDArray:
    return books.failures["account"].to_numpy(dtype=np.int64)


def edge_gaps(trees: TraceTrees) -> tuple[pd.Series, pd.Series]:
    """Return the mean self time of the spans of each account in ns, and their number."""
    account, own = self_times(trees)
    by = pd.Series(own).groupby(account)
    return by.mean(), by.size()


def cost_by_entry(books: CostTable) -> pd.DataFrame:
    requests = books.requests
    table = moments(requests["entry"].to_numpy(), requests["ns"].to_numpy() / 1e6)
    entry = np.searchsorted(table.index, requests["entry"])
    failed, still_open = (
        np.bincount(entry, requests[name], minlength=len(table)) for name in ("failed", "open")
    )
    sd_ms = np.sqrt(table.pop("var"))
    return table.assign(failed=failed / table["n"], open=still_open.astype(int), sd_ms=sd_ms)


def cost_by_account(books: CostTable) -> dict[str, pd.DataFrame]:
    """Return cost, and the sum of its squares over requests, by entry and account: of time,
    failures, masked ones.
    """
    masked = books.failures["masked"].to_numpy(dtype=bool)
    tables = {kind: books.failures[which] for kind, which in ((FAILED, ~masked), (MASKED, masked))}
    counted = {kind: _per_request(t.assign(ns=1)) for kind, t in tables.items()}
    return {kind: _per_account(t) for kind, t in ({"ms": books.time} | counted).items()}


FAILED, MASKED = "failures", "masked failures"


def _per_request(table: pd.DataFrame) -> pd.DataFrame:
    """Add up the rows of one request and account: one may fail at the same place twice."""
    root, account, which = pairs(table["root"].to_numpy(), table["account"].to_numpy())
    entry = np.zeros(root.size, dtype=np.int64)
    entry[which] = table["entry"]
    return pd.DataFrame(
        {
            "entry": entry,
            "account": account,
            "ns": np.bincount(which, table["ns"], minlength=root.size),
        }
    )


def _per_account(table: pd.DataFrame) -> pd.DataFrame:
    entry, account, which = pairs(table["entry"].to_numpy(), table["account"].to_numpy())
    cost = table["ns"].to_numpy(dtype=float)
    sums = {
        name: np.bincount(which, c, minlength=entry.size)
        for name, c in (("cost", cost), ("square", cost**2))
    }
    return pd.DataFrame({"entry": entry, "account": account} | sums)
