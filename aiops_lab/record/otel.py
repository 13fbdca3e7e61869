"""What do OpenTelemetry's instrumentations record? Their spans as the lab's, for a sink or a store.

    TracerProvider -> SinkSpanProcessor -----------------------> sink    each span at its end
    TracerProvider -> BatchSpanProcessor -> SinkSpanExporter --> sink    in batches, from a thread

Attributes are read as in the files of OpenTelemetry, by `aiops_lab.formats.conventions`. The extra
``otel`` installs the SDK, ``opentelemetry-sdk``.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiops_lab.checks import missing_extra
from aiops_lab.formats.collect import WRONG_TYPE, fits, limit_endpoint, why_unusable
from aiops_lab.formats.conventions import (
    INSTANCE,
    KNOWN,
    SERVICE,
    UNKNOWN_SERVICE,
    ReportedSpan,
    first,
    has_own,
    is_addressed,
    to_span,
)
from aiops_lab.logs import get_logger
from aiops_lab.record.recorder import Recorder, Sink
from aiops_lab.spans import WITHOUT_HTTP, Span

try:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import StatusCode, format_span_id, format_trace_id
except ModuleNotFoundError as error:
    raise missing_extra(error, "otel") from None

START_FIELD = Span._fields.index("start_ns")

_log = get_logger(__name__)

_PLAIN = (str, bool, int, float)  # no convention that is read has an array


class SinkSpanExporter(SpanExporter):
    """An exporter that hands OpenTelemetry's spans over as those of the lab.

    It goes into a ``BatchSpanProcessor``, or into a processor of your own; `SinkSpanProcessor`
    needs none. A sink that raises harms nobody: the failure is counted, the first is logged. The
    sink belongs to the caller: ``shutdown`` flushes it and leaves it open.

    Of the attributes those are read that name the endpoint, the called service, status and error,
    by the semantic conventions, old names and new ones; of a statement its shape without values.

    Parameters
    ----------
    sink
        As in `aiops_lab.instrument`: a function, a list's ``append``, a `SpanStore`. Its
        ``flush(timeout_s)`` is called, where it has one.
    peers
        ``{address: service}``, the names of the called services, as in ``{"10.0.0.7:8080":
        "payment"}``; read at each span. Default: none, so that a peer is named host:port where its
        span says no more.

    Attributes
    ----------
    left_out : Counter
        How many spans cannot be used, by reason.
    recorder : Recorder
        Where they go; its ``failed`` says how often that went wrong.

    Raises
    ------
    ValueError
        The sink cannot be called.

    Examples
    --------
    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> from opentelemetry.sdk.trace.export import BatchSpanProcessor
    >>> spans = []
    >>> provider = TracerProvider()
    >>> provider.add_span_processor(BatchSpanProcessor(SinkSpanExporter(spans.append)))
    >>> with provider.get_tracer("shop").start_as_current_span("price list"):
    ...     pass
    >>> provider.shutdown()
    >>> spans[0].endpoint, spans[0].kind
    ('price list', 'internal')
    """

    def __init__(self, sink: Sink, peers: Mapping[str, str] | None = None) -> None:
        self.recorder = Recorder(sink, UNKNOWN_SERVICE)
        self.peers: Mapping[str, str] = {} if peers is None else peers
        self.left_out: Counter[str] = Counter()
        self._is_shut_down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand some spans over; FAILURE after ``shutdown``, and where the sink failed."""
        if self._is_shut_down:
            return SpanExportResult.FAILURE
        taken = [self._take(span) for span in spans]
        return SpanExportResult.SUCCESS if all(taken) else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the sink where it can be flushed; return whether that succeeded."""
        flush = getattr(self.recorder.sink, "flush", None)
        if flush is None:
            return True
        try:
            flush(timeout_millis / 1000)
        except Exception as error:
            _log.info("%r is not flushed: %s", self.recorder.sink, error)
            return False
        return True

    def shutdown(self) -> None:
        """Flush the sink, and take no more spans."""
        if not self._is_shut_down:
            self._is_shut_down = True
            self.force_flush()

    def convert(self, span: ReadableSpan) -> Span | None:
        """Return a span as one of the lab; None where it cannot be used, which is counted."""
        reported = reported_span(span, self.recorder.instance)
        reason = why_unusable(reported)
        if reason is not None:
            self.left_out[reason] += 1
            return None
        attributes = reported.attributes
        made = to_span(reported)
        if has_own(attributes) and not fits(made):
            self.left_out[WRONG_TYPE] += 1
            return None
        if is_addressed(made, attributes):
            made = made._replace(peer=self.peers.get(made.peer or "", made.peer))
        return limit_endpoint(made, attributes, self.recorder.names)

    def _take(self, span: ReadableSpan) -> bool:
        """Hand one span over; return whether that went well."""
        if (span.start_time or 0) < _forked_ns:
            return True  # it began before the fork of this process, and is the parent's
        try:
            made = self.convert(span)
            if made is not None:
                self.recorder.give(made)
        except Exception:
            self.recorder.count_failure("the sink")
            return False
        return True


class SinkSpanProcessor(SimpleSpanProcessor):
    """A processor that hands each span over when it ends, and shows a store those still open.

    A `SpanStore` takes a span at the cost of an append and writes by itself, so that no batches are
    needed before it. It sees requests that hang as they hang, as it does with `instrument`.

    Parameters
    ----------
    sink, peers
        As in `SinkSpanExporter`.

    Examples
    --------
    >>> from opentelemetry.sdk.resources import Resource
    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> from aiops_lab import SpanStore
    >>> with SpanStore(":memory:") as store:
    ...     provider = TracerProvider(resource=Resource.create({"service.name": "orders"}))
    ...     provider.add_span_processor(SinkSpanProcessor(store))
    ...     with provider.get_tracer("shop").start_as_current_span("price list"):
    ...         [span[4] for span in store.opened.values()]
    ...     provider.shutdown()
    ...     store.spans()["service"].tolist()
    ['price list']
    ['orders']
    """

    def __init__(self, sink: Sink, peers: Mapping[str, str] | None = None) -> None:
        self.exporter = SinkSpanExporter(sink, peers)
        super().__init__(self.exporter)
        self._opened: dict[str, Any] | None = getattr(sink, "opened", None)

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        """Show a span among those that are open."""
        opened, context = self._opened, span.context
        if opened is not None and context is not None and context.trace_flags.sampled:
            opened[format_span_id(context.span_id)] = _OpenSpan(span, self.exporter)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand a span over; afterwards it is no longer among the open ones."""
        super().on_end(span)
        if self._opened and span.context is not None:
            self._opened.pop(format_span_id(span.context.span_id), None)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the sink where it can be flushed; return whether that succeeded."""
        return self.exporter.force_flush(timeout_millis)


class _OpenSpan:
    """A span that has begun, to be read like the tuple of a `Span`, with what is known by then."""

    __slots__ = ("_span", "_exporter", "_start_ns")

    def __init__(self, span: ReadableSpan, exporter: SinkSpanExporter) -> None:
        self._span = span
        self._exporter = exporter
        self._start_ns = span.start_time or 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._fields())

    def __getitem__(self, index: Any) -> Any:
        return self._start_ns if index == START_FIELD else self._fields()[index]

    def __len__(self) -> int:
        return len(Span._fields)

    def _fields(self) -> Span:
        reported = reported_span(self._span, self._exporter.recorder.instance)
        span = to_span(reported)
        status = None if span.kind in WITHOUT_HTTP else 0
        return span._replace(duration_ns=None, status=status, error=None)


def reported_span(span: ReadableSpan, instance: str | None) -> ReportedSpan:
    """Return a span of the SDK as the readers of files have theirs.

    Parameters
    ----------
    span
        A span that has ended, or is still open.
    instance
        Where it ran, if its resource does not say. Default: not known.
    """
    context, parent, status = span.context, span.parent, span.status
    start, end = span.start_time or 0, span.end_time
    resource = span.resource.attributes
    return ReportedSpan(
        format_trace_id(context.trace_id) if context else "",
        format_span_id(context.span_id) if context else "",
        format_span_id(parent.span_id) if parent else None,
        span.name,
        span.kind.name.lower(),
        start,
        None if end is None else end - start,
        _attributes(span.attributes),
        first(resource, SERVICE) or UNKNOWN_SERVICE,
        first(resource, INSTANCE) or instance,
        status.status_code is StatusCode.ERROR,
        status.description or "",
        _exception(span),
        tuple(format_span_id(link.context.span_id) for link in span.links) or None,
    )


def _attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return those attributes that are read, as plain values."""
    rows = (attributes or {}).items()
    return {key: value for key, value in rows if key in KNOWN and isinstance(value, _PLAIN)}


def _exception(span: ReadableSpan) -> dict[str, Any] | None:
    for event in reversed(span.events):
        if event.name == "exception":
            return _attributes(event.attributes)
    return None


_forked_ns = 0  # when this process was forked, Unix ns


def _note_fork() -> None:
    global _forked_ns
    _forked_ns = time.time_ns()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
