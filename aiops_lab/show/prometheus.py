"""How does Prometheus read a monitor? `metrics_page` answers ``GET /metrics``.

Requests, failures and durations are counted from the store. They rise from its first span on, and a
restart of the monitor does not set them back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from aiops_lab.checks import missing_extra
from aiops_lab.detect.incidents import RESOLVED
from aiops_lab.endpoints import split_method
from aiops_lab.record.counting import EndpointName
from aiops_lab.record.request_counter import RequestCounter, RequestCounts
from aiops_lab.respond.responders import responses_of
from aiops_lab.results import INCIDENT_SEVERITIES
from aiops_lab.show.trouble import trouble_text

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from aiops_lab.monitor import Monitor

METRICS_PATH = "/metrics"

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds of the buckets of durations, in seconds: those that OpenTelemetry advises for
``http.server.request.duration``, so that both can stand in one panel."""

MOST_ENDPOINTS = 300
"""Endpoints that have series of their own. Each has 22 of them: raising it costs Prometheus memory.
The others are counted together, as endpoint ``(other)``."""

LABELS = EndpointName._fields

REQUEST_COUNTS = {
    "aiops_requests": "Requests that were answered, or messages consumed.",
    "aiops_request_errors": "Requests with a 5xx, without an answer, or with an exception.",
}
REQUEST_DURATIONS = {"aiops_request_duration_seconds": "How long requests took."}
ENDPOINT_GAUGES = {
    "aiops_endpoint_health_score": (
        "Health in the last five minutes: 100 is as usual, below 60 is unhealthy."
    ),
    "aiops_baseline_latency_seconds": "Mean latency that is usual at this hour.",
    "aiops_open_requests": "Requests that began in the last five minutes and have no answer yet.",
}
NOTICE_COUNTS = {
    "aiops_notices_sent": "Notices that arrived, by target.",
    "aiops_notice_failures": "Attempts to send a notice that failed; each is tried again.",
}
REMEDY_COUNTS = {"aiops_remedy_calls": "What remedies did since this process began."}

NOTICE_GAUGES = {
    "aiops_notices_waiting": (
        "Notices that wait, for a target that fails or for the limit of notices per time."
    ),
}


def metrics_page(
    monitor: Monitor,
    now: Callable[[], pd.Timestamp] | None = None,
    *,
    most_endpoints: int = MOST_ENDPOINTS,
) -> Blueprint:
    """Return the blueprint that tells Prometheus at ``GET /metrics`` what a monitor knows.

    An application has it only where it registers it.

    Parameters
    ----------
    monitor : Monitor
    now : function () -> Timestamp, UTC
        The clock; default the machine's.
    most_endpoints : int
        How many endpoints have series of their own.

    Raises
    ------
    ImportError
        prometheus-client is not installed: it is in the extra ``watch``.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ModuleNotFoundError as error:
        raise missing_extra(error) from None
    registry = CollectorRegistry()
    clock = now or partial(pd.Timestamp.now, "UTC")
    registry.register(_Collector(monitor, clock, most_endpoints))  # type: ignore[arg-type]
    blueprint = Blueprint("prometheus", __name__)
    blueprint.register_error_handler(OSError, _unreadable)

    @blueprint.get(METRICS_PATH)
    def metrics() -> ResponseReturnValue:
        if monitor.store.closed:
            return _unreadable("the store is closed")
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    return blueprint


def metrics_page_or_hint(monitor: Monitor) -> Blueprint:
    """Return `metrics_page`, or a blueprint whose answer tells what to install for it."""
    try:
        return metrics_page(monitor)
    except ImportError as error:
        hint = {"error": str(error)}
    blueprint = Blueprint("prometheus", __name__)
    blueprint.add_url_rule(METRICS_PATH, "metrics", lambda: (hint, 501))
    return blueprint


def _unreadable(error: object) -> ResponseReturnValue:
    return {"error": trouble_text(error)}, 503


class _Collector:
    """The metrics of a monitor at this moment, as prometheus-client takes them."""

    def __init__(
        self, monitor: Monitor, clock: Callable[[], pd.Timestamp], most_endpoints: int
    ) -> None:
        self._monitor = monitor
        self._clock = clock
        self._requests = RequestCounter(monitor.store, BUCKETS_S, most_endpoints)

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering it does not read the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        served = self._monitor.metrics_by_key(self._clock())  # writes what waits
        counts = self._requests.read()
        yield from _request_metrics(counts)
        places = {key: self._place(key) for key in served}
        shown = {places[key]: rest for key, rest in served.items() if places[key] in counts}
        yield from _endpoint_metrics(shown)
        yield from self._monitor_metrics()

    def _place(self, key: tuple[str, str]) -> EndpointName:
        service, endpoint = key
        return EndpointName(service, self._monitor.method_of(key) or "", split_method(endpoint)[1])

    def _monitor_metrics(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        monitor = self._monitor
        unresolved = [each for each in monitor.incidents() if each.status != RESOLVED]
        by_severity = Counter(each.severity for each in unresolved)
        text = "Incidents that are not resolved."
        incidents = GaugeMetricFamily("aiops_open_incidents", text, labels=["severity"])
        for severity in INCIDENT_SEVERITIES:
            incidents.add_metric([severity], by_severity[severity])
        yield incidents
        text = "Spans that this process could not write. Those of other writers are not known here."
        yield CounterMetricFamily("aiops_spans_dropped", text, value=monitor.store.dropped)
        text = "Spans in the store that are not judged, as their values cannot be."
        yield GaugeMetricFamily("aiops_spans_passed_over", text, value=monitor.passed_over)
        if (judged_until := monitor.judged_until) is not None:
            text = "Unix time up to which traffic was judged."
            name = "aiops_judged_until_timestamp_seconds"
            yield GaugeMetricFamily(name, text, value=judged_until.timestamp())
        responses = responses_of(monitor)
        yield from _notice_metrics(responses.get("notices", []))
        yield from _remedy_metrics(responses.get("remedies", []))


def _notice_metrics(targets: list[dict[str, Any]]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    sent, failures = _families(CounterMetricFamily, NOTICE_COUNTS, ["to"])
    (waiting,) = _families(GaugeMetricFamily, NOTICE_GAUGES, ["to"])
    by_name = {target["to"]: target for target in targets}  # Prometheus refuses a series twice
    for target in by_name.values():
        for family, name in ((sent, "sent"), (failures, "failures"), (waiting, "waiting")):
            family.add_metric([target["to"]], target[name])
    if targets:
        yield from (sent, failures, waiting)


def _families(
    kind: Callable[..., Any], texts: Mapping[str, str], labels: Sequence[str] = LABELS
) -> list[Any]:
    """Return an empty metric for each name and text; its labels are by default the parts of an
    endpoint.
    """
    return [kind(name, text, labels=labels) for name, text in texts.items()]


def _remedy_metrics(remedies: list[dict[str, Any]]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    (calls,) = _families(CounterMetricFamily, REMEDY_COUNTS, ["remedy", "outcome"])
    for remedy in {remedy["remedy"]: remedy for remedy in remedies}.values():
        for outcome in ("acted", "would_have_acted", "failed", "held_back"):
            calls.add_metric([remedy["remedy"], outcome], remedy[outcome])
    if remedies:
        yield calls


def _request_metrics(counts: dict[EndpointName, RequestCounts]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    requests, errors = _families(CounterMetricFamily, REQUEST_COUNTS)
    (durations,) = _families(HistogramMetricFamily, REQUEST_DURATIONS)
    for place, found in counts.items():
        requests.add_metric(place, sum(found.buckets))
        errors.add_metric(place, found.failed)
        durations.add_metric(place, _cumulative(found), found.duration_us / 1e6)
    yield from (requests, errors, durations)


def _cumulative(found: RequestCounts) -> list[tuple[str, float]]:
    """Return, for each bound as text, how many requests took at most that long."""
    buckets = []
    total = 0
    for bound, n in zip((*BUCKETS_S, "+Inf"), found.buckets, strict=True):
        total += n
        buckets.append((str(bound), float(total)))
    return buckets


def _endpoint_metrics(served: dict[EndpointName, dict]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    health, baseline, waiting = _families(GaugeMetricFamily, ENDPOINT_GAUGES)
    for place, found in served.items():
        health.add_metric(place, found["health"]["health_score"])
        waiting.add_metric(place, found["open_requests"])
        if found["baseline_latency_ms"] is not None:
            baseline.add_metric(place, found["baseline_latency_ms"] / 1e3)
    yield from (health, baseline, waiting)
