"""What do fault-free requests cost? Learned once, and used for many incidents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import check_instance
from aiops_lab.explain.accounts import AccountTable
from aiops_lab.explain.attribution import (
    AccountMeans,
    AttributedTraces,
    EndpointProfile,
    attribute_costs,
    endpoint_profile,
)
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.deviations import ReferenceProfile, reference_profile
from aiops_lab.explain.queueing import ServiceRequests, service_requests
from aiops_lab.spans import check
from aiops_lab.traces.encode import EncodedSpans, encode, hangs_below, subtrees_of
from aiops_lab.traces.recorded import RecordedCalls, recorded_calls
from aiops_lab.traces.timing import Timing, learn_timing
from aiops_lab.traces.trees import build_trees


@dataclass(frozen=True, eq=False)
class Reference(AttributedTraces):
    """What is usual, learned from fault-free spans.

    It keeps the ``config`` with which it was learned: whatever is compared with it uses that.
    ``inner``: requests that came from inside of the traces, as if they had been entries.
    """

    endpoint_profile: EndpointProfile = field(repr=False)
    resources: pd.DataFrame | None = field(repr=False)
    inner: tuple[AttributedTraces, ...] = field(default=(), repr=False)
    _requests: dict[str, ServiceRequests | None] = field(default_factory=dict, repr=False)

    def requests_of(self, service: str) -> ServiceRequests | None:
        """Return the usual requests of a service, computed once; None if it has none."""
        if service not in self._requests:
            self._requests[service] = service_requests(service, self)
        return self._requests[service]

    @cached_property
    def profile(self) -> ReferenceProfile:
        """How things are usually done."""
        return reference_profile(self, self.resources)

    @cached_property
    def recorded_calls(self) -> RecordedCalls:
        """Which calls lack a span."""
        return recorded_calls(self.spans)

    @cached_property
    def cost_by_entry(self) -> pd.DataFrame:
        """What requests cost, by entry: as in `AttributedTraces`, with the inner ones."""
        own = super().cost_by_entry
        if not self.inner:
            return own
        inner = [traces.cost_by_entry for traces in self.inner]
        return pd.concat([own.drop(self._replaced, errors="ignore"), *inner]).sort_index()

    @cached_property
    def cost_by_account(self) -> AccountMeans:
        """What a request of an entry costs at each account, with the inner ones."""
        own = super().cost_by_account
        keeps = ~np.isin(own.entry, self._replaced)
        tables = [AccountMeans(*(column[keeps] for column in own))]
        tables += [traces.cost_by_account for traces in self.inner]
        return AccountMeans(*map(np.concatenate, zip(*tables, strict=True)))

    @property
    def _replaced(self) -> list[int]:
        """The entries of which the inner requests are known."""
        return [node for traces in self.inner for node in traces.cost_by_entry.index]

    def with_timing(self, timing: Timing) -> Reference:
        """Return what is usual if the times of callers and callees belong together otherwise."""
        return _learned(self.spans, timing, self.config, self.resources)

    def with_inner(self, tops: list[NDArray]) -> Reference:
        """Return what is usual, with requests from inside of the traces as entries of their own.

        `tops` holds masks of spans, those of one entry each; of two that are nested the outer one
        counts.
        """
        accounts = self.costs.accounts
        inner = []
        for mask in tops:
            traces = self._as_entries(mask, accounts)
            accounts = traces.costs.accounts
            inner.append(traces)
        costs = self.costs._replace(accounts=accounts)
        return replace(self, costs=costs, inner=tuple(inner))

    def _as_entries(self, mask: NDArray, accounts: AccountTable) -> AttributedTraces:
        parent = self.trees.parent
        outer = mask & ~hangs_below(mask, parent)
        spans, at = subtrees_of(self.spans, outer, parent)
        trees = build_trees(spans, self.until_ns, self.timing, outer[at])
        is_open = spans.end > self.until_ns
        costs = attribute_costs(trees, is_open, self.endpoint_profile, self.config, accounts)
        return AttributedTraces(spans, trees, self.timing, self.until_ns, costs, self.config)


def learn(
    normal: pd.DataFrame | EncodedSpans,
    resources: pd.DataFrame | None = None,
    *,
    config: RcaConfig | None = None,
) -> Reference:
    """Return what is usual: learn once, use for many incidents.

    Parameters
    ----------
    normal : DataFrame or EncodedSpans
        Fault-free requests: a spans frame, or what `encode` made of it.
    resources : DataFrame, optional
        Metrics of the services: index time (UTC), column ``service``, the rest numbers. What is
        usual of them is taken from all rows: a few minutes of trouble among them do no harm.
    config : RcaConfig, optional
        The constants of the analysis, which the reference keeps. Default: ``RcaConfig()``.

    Raises
    ------
    ValueError
        Names the column that is missing or mistyped.
    """
    check_resources(resources)
    check_instance("config", config, RcaConfig)
    config = config or RcaConfig()
    spans = normal if isinstance(normal, EncodedSpans) else encode(check(normal))
    return _learned(spans, learn_timing(spans), config, resources)


def _learned(
    spans: EncodedSpans, timing: Timing, config: RcaConfig, resources: pd.DataFrame | None
) -> Reference:
    until_ns = spans.last_ns
    trees = build_trees(spans, until_ns, timing)
    profile = endpoint_profile(trees, config)
    costs = attribute_costs(trees, spans.end > until_ns, profile, config)
    return Reference(spans, trees, timing, until_ns, costs, config, profile, resources)


def check_resources(resources: pd.DataFrame | None) -> None:
    """Raise a ValueError that names the rule, unless `resources` are metrics of services by time,
    or None.
    """
    if resources is None:
        return
    if not isinstance(resources, pd.DataFrame):
        got = type(resources).__name__
        raise ValueError(f"resources must be a DataFrame with the column 'service', got {got}")
    columns = list(resources)
    index = resources.index
    if "service" not in resources:
        raise ValueError(f"resources must be a DataFrame with the column 'service', got {columns}")
    if not isinstance(index, pd.DatetimeIndex) or str(index.tz) != "UTC":
        raise ValueError(f"resources must have an index of times in UTC, got {index.dtype}")
    if not resources.columns.is_unique:
        raise ValueError(f"resources must have each column once, got {columns}")
    if not all(isinstance(name, str) for name in resources["service"].unique()):
        raise ValueError(f"resources['service'] must be text, got {resources['service'].dtype}")
    for name, dtype in resources.drop(columns="service").dtypes.items():
        if dtype.kind not in "iuf":
            raise ValueError(f"resources[{name!r}] must be numbers, got {dtype}")
