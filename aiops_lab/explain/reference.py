"""What do fault-free requests cost? Learned once, and used for many incidents."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from aiops_lab.explain.attribution import (
    AttributedTraces,
    EndpointProfile,
    attribute_costs,
    endpoint_profile,
)
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.deviations import ReferenceProfile, reference_profile
from aiops_lab.explain.queueing import ServiceRequests, service_requests
from aiops_lab.spans import check
from aiops_lab.traces.encode import EncodedSpans, encode
from aiops_lab.traces.trees import build_trees, clock_offsets


@dataclass(frozen=True, eq=False)
class Reference(AttributedTraces):
    """What is usual, learned from fault-free spans.

    It keeps the ``config`` with which it was learned: whatever is compared with it uses that.
    """

    endpoint_profile: EndpointProfile = field(repr=False)
    resources: pd.DataFrame | None = field(repr=False)
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
    config = config or RcaConfig()
    spans = normal if isinstance(normal, EncodedSpans) else encode(check(normal))
    until_ns = spans.last_ns
    offsets = clock_offsets(spans)
    trees = build_trees(spans, until_ns, offsets)
    profile = endpoint_profile(trees, config)
    costs = attribute_costs(trees, spans.end > until_ns, profile, config)
    return Reference(spans, trees, offsets, until_ns, costs, config, profile, resources)


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
