"""What calls does a service make? `Session`, which passes the trace on and records client spans.

Session.send -> get_adapter -> _RecordingAdapter.send -> the adapter -> body -> end of the span
one call        once a hop        begins the span         retries       read, closed or dropped
"""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from aiops_lab.record.bodies import end_with_body
from aiops_lab.record.calls import Peers, begin_call, checked_peers
from aiops_lab.record.recorder import (
    Context,
    OpenSpan,
    Recorder,
    Sink,
    current_call,
    describe_call_error,
    known_status,
)
from aiops_lab.record.redaction import Redact, redact_secrets
from aiops_lab.record.trace_context import format_traceparent

# A method of an imported name is bound anew each time that it is called by that name.
_get_call, _set_call, _reset_call = current_call.get, current_call.set, current_call.reset

Hops = list[OpenSpan]  # the spans of one call, a redirect or a challenge after the other


class Session(requests.Session):
    """A `requests.Session` that sends the trace on and records each call as a client span.

    A span ends when the body of the answer has been read, closed or dropped; where ``stream=True``,
    its ``first_byte_ns`` says when the headers came. Each hop of a call that is redirected is a
    span of its own, and so is each answer to a challenge of digest authentication; retries inside
    of an adapter belong to one. Without an answer (timeout, refused) the status of a span is 0 and
    its error names the exception; a timeout that another exception hides is named as the timeout.
    Outside of a request a call starts a trace.

    The endpoint is the called path, with ids folded as in `aiops_lab.endpoints`.

    Like its parent it can be copied, and pickled where the sink can; a copy has the same sink.

    Parameters
    ----------
    sink, service
        As in `instrument`; the service is the caller.
    peers
        ``{base_url: service}``, the names of the called services. The longest base that fits is
        taken; the mapping is read at each call. Default: none, so that a peer is named host:port.
    redact
        As in `instrument`.
    """

    __attrs__ = [*requests.Session.__attrs__, "recorder", "peers"]

    # The last one that was used. It does not refer to its session: that would be a cycle.
    _recording: _RecordingAdapter | None = None

    def __init__(
        self,
        sink: Sink,
        service: str = "shop",
        peers: Peers | None = None,
        *,
        redact: Redact = redact_secrets,
    ) -> None:
        super().__init__()
        self.recorder = Recorder(sink, service, redact)
        self.peers: Peers = checked_peers(peers)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request, with its trace context, and record the call."""
        hops = _get_call()
        if hops and _context_of_hop(hops, request) is not None:  # a redirect
            return super().send(request, **kwargs)
        token = _set_call([])  # once a call: a context variable is slow to set
        try:
            return super().send(request, **kwargs)
        finally:
            _reset_call(token)

    def get_adapter(self, url: str | bytes) -> BaseAdapter:
        """Return the adapter for a URL; while a call is made, one that records."""
        adapter = super().get_adapter(url)  # type: ignore[arg-type]
        if _get_call() is None:
            return adapter
        known = self._recording
        if known is not None:
            mine, recorder, peers = known._parts
            if mine is adapter and recorder is self.recorder and peers is self.peers:
                return known
        known = self._recording = _RecordingAdapter(adapter, self.recorder, self.peers)
        return known


def _context_of_hop(hops: Hops, request: Any) -> Context | None:
    """Return the context of a request that was copied from the last hop, as redirects are."""
    span = hops[-1]
    headers = getattr(request, "headers", None) or {}
    sent = format_traceparent(span.trace_id, span.span_id, span.flags)
    if headers.get("traceparent") != sent:
        return None
    return span.trace_id, span.parent_id, span.flags, span.tracestate


class _RecordingAdapter(BaseAdapter):
    """An adapter whose calls are client spans; in all else the adapter that it stands for."""

    def __init__(self, adapter: BaseAdapter, recorder: Recorder, peers: Peers) -> None:
        # In one attribute: beside `__getattr__`, each that is read is slow.
        self._parts = adapter, recorder, peers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parts[0], name)

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, **kwargs: Any
    ) -> requests.Response:
        """Send a request as one span."""
        adapter, recorder, peers = self._parts
        hops = _get_call()
        context = _context_of_hop(hops, request) if hops else None
        method, url = request.method or "GET", request.url or ""
        if request.headers is None:  # one made by hand
            request.headers = CaseInsensitiveDict()
        span = begin_call(recorder, peers, method, url, request.headers, context)
        if hops is not None:
            hops.append(span)
        try:
            response = adapter.send(request, **kwargs)
        except BaseException as error:
            span.error = describe_call_error(error)
            span.end()
            raise
        status = response.status_code  # an adapter of the user's own may leave it out
        span.status = known_status(status) if isinstance(status, int) else 0
        # digest authentication sends again, by what it finds here
        if getattr(response, "connection", None) is adapter:
            response.connection = self  # type: ignore[assignment,attr-defined]
        end_with_body(span, response, bool(kwargs.get("stream")))
        return response

    def close(self) -> None:
        """Close the adapter."""
        self._parts[0].close()
