"""Which spans of a file can be used, and whom do they call? What is left out is counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

from aiops_lab.endpoints import EndpointNames
from aiops_lab.formats.conventions import (
    OWN_PREFIX,
    ROUTE,
    TEMPLATE,
    Attributes,
    ReportedSpan,
    has_own,
    is_addressed,
    to_span,
)
from aiops_lab.logs import get_logger
from aiops_lab.spans import (
    FIRST_YEAR,
    KINDS,
    LAST_YEAR,
    MAX_DURATION_MS,
    SERVING,
    WITHOUT_HTTP,
    Span,
    to_frame,
)

if TYPE_CHECKING:
    import pandas as pd

_log = get_logger(__name__)

_FIRST_NS = 631_152_000_000_000_000  # 1990-01-01
_END_NS = 4_133_980_800_000_000_000  # 2101-01-01
_MAX_NS = int(MAX_DURATION_MS * 1e6)

_CUT = "0" * 16  # how an id of a trace begins that had 64 bits

_STABLE = (f"{OWN_PREFIX}endpoint", *ROUTE, *TEMPLATE)  # name an endpoint that has no ids in it

WRONG_TYPE = "with attributes aiops_lab.… of a wrong type"

Address = tuple[str, str | None]  # the service that calls, and the address


def why_unusable(reported: ReportedSpan) -> str | None:
    """Return why the analysis cannot use a span, None if it can."""
    if not reported.trace_id or not reported.span_id:
        return "without an id"
    if reported.kind not in KINDS:
        return "of an unknown kind"
    if reported.start_ns <= 0:
        return "without a start"
    if not _FIRST_NS <= reported.start_ns < _END_NS:
        return f"with a start outside {FIRST_YEAR} to {LAST_YEAR}"
    duration = reported.duration_ns
    if duration is not None and duration < 0:
        return "that end before they start"
    if duration is not None and duration > _MAX_NS:
        return "of more than 30 days"
    return None


def fits(span: Span) -> bool:
    """Return whether the analysis can use what attributes of this package say of a span."""
    texts = (span.endpoint, span.peer or "", span.error or "", span.method or "")
    are_texts = all(isinstance(text, str) for text in texts)
    has_status = span.status is not None or span.kind in WITHOUT_HTTP
    is_status = not span.status or 100 <= span.status <= 599
    is_in_time = 0 <= (span.first_byte_ns or 0) <= _MAX_NS
    is_named = are_texts and span.endpoint != "" and span.kind in KINDS
    return is_named and has_status and is_status and is_in_time


def limit_endpoint(span: Span, attributes: Attributes, names: EndpointNames) -> Span:
    """Return the span, as ``(other)`` where its service has too many endpoints without a route."""
    if any(name in attributes for name in _STABLE):
        return span
    owner = span.peer or span.service
    return span._replace(endpoint=names.limit(owner, span.endpoint))


class SpanCollector:
    """Spans of a file as they come.

    Attributes
    ----------
    left_out : Counter
        How many were left out, by reason.
    found : int
        How many there were.
    """

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.found = 0
        self._spans: list[Span] = []
        self._addressed: list[int] = []  # positions of calls that name no service
        self._names = EndpointNames()

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, reported: ReportedSpan) -> None:
        """Take a span, or count why it cannot be used."""
        self.found += 1
        reason = why_unusable(reported)
        if reason is not None:
            self.left_out[reason] += 1
            return
        attributes = reported.attributes
        span = to_span(reported)
        if has_own(attributes) and not fits(span):
            self.left_out[WRONG_TYPE] += 1
            return
        span = limit_endpoint(span, attributes, self._names)
        if is_addressed(span, attributes):
            self._addressed.append(len(self._spans))
        self._spans.append(span)

    def take(self) -> pd.DataFrame:
        """Return the frame of the spans so far, and forget them."""
        return to_frame(self.take_spans())

    def take_spans(self) -> list[Span]:
        """Return the spans so far, and forget them."""
        spans = with_peers(with_whole_traces(self._spans), self._addressed)
        self._spans, self._addressed = [], []
        return spans

    def forget(self) -> None:
        """Forget the spans so far, and what was left out."""
        self._spans, self._addressed = [], []
        self.left_out.clear()

    def tell(self, name: str) -> None:
        """Log what was left out of a file.

        Raises
        ------
        ValueError
            Nothing is left of it.
        """
        tell_left_out(name, self.found, self.left_out)
        if self._names.overflowed:
            message = "%s: %d spans have an endpoint beyond the 500 of a service: (other)"
            _log.warning(message, name, self._names.overflowed)


def tell_left_out(name: str, found: int, left_out: Counter[str]) -> None:
    """Log how many spans of a file were left out and why; raise ValueError if all were."""
    if not left_out:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
    if found == left_out.total():
        raise ValueError(f"{name} must have spans that can be used, got {reasons}")
    _log.warning("%s: of %d spans were left out: %s", name, found, reasons)


def with_whole_traces(spans: list[Span]) -> list[Span]:
    """Return the spans, those whose trace has 16 digits in the trace that ends with these.

    Older tools keep the last 64 bits of an id, so that a trace comes apart where it reaches one.
    """
    cut = {span.trace_id for span in spans if span.trace_id.startswith(_CUT)}
    if not cut:
        return spans
    whole: dict[str, set[str]] = defaultdict(set)
    for span in spans:
        if span.trace_id not in cut:
            whole[_CUT + span.trace_id[len(_CUT) :]].add(span.trace_id)
    return [_in_whole_trace(span, whole.get(span.trace_id, ())) for span in spans]


def _in_whole_trace(span: Span, whole: Collection[str]) -> Span:
    """Return the span in the one trace that it may belong to; as it is where there are several."""
    return span._replace(trace_id=next(iter(whole))) if len(whole) == 1 else span


def with_peers(spans: list[Span], addressed: list[int]) -> list[Span]:
    """Return the spans, the calls at some positions with the service that answered as their peer.

    A call names an address at best (``10.0.0.7:8080``). The server span below it names the service.
    Where that is lost, so do the other calls from this service to this address, if all reached one.
    """
    if not addressed:
        return spans
    answered = _answered(spans)
    reached: dict[Address, set[str]] = defaultdict(set)
    lost = []
    spans = [*spans]
    for at in addressed:
        span = spans[at]
        service = answered.get((span.trace_id, span.span_id))
        if service is None:
            lost.append(at)
            continue
        reached[span.service, span.peer].add(service)
        spans[at] = span._replace(peer=service)
    for at in lost:
        span = spans[at]
        services = reached.get((span.service, span.peer), set())
        if span.peer is not None and len(services) == 1:
            spans[at] = span._replace(peer=next(iter(services)))
    return spans


def _answered(spans: list[Span]) -> dict[tuple[str, str], str]:
    """Return the service of the server span below each span, by trace and id.

    In Zipkin both have one id.
    """
    answered = {}
    for span in spans:
        if span.kind not in SERVING:
            continue
        answered[span.trace_id, span.span_id] = span.service
        if span.parent_id is not None:
            answered[span.trace_id, span.parent_id] = span.service
    return answered
