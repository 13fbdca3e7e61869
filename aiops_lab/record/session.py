"""What calls does a service make? `Session`, which passes the trace on and records client spans.

Session.send -> get_adapter -> _RecordingAdapter.send -> the adapter -> body -> end of the span
one call        once a hop        begins the span         retries       read, closed or dropped
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import requests
from requests.adapters import BaseAdapter

from aiops_lab.endpoints import fold, known_method
from aiops_lab.record.bodies import end_with_body
from aiops_lab.record.recorder import (
    Context,
    OpenSpan,
    Recorder,
    Sink,
    context_of_call,
    current_call,
    describe_call_error,
    known_status,
)
from aiops_lab.record.trace_context import format_traceparent

PORTS = {"http": 80, "https": 443}


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
    """

    __attrs__ = [*requests.Session.__attrs__, "recorder", "peers"]

    def __init__(
        self, sink: Sink, service: str = "shop", peers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.recorder = Recorder(sink, service)
        self.peers: Mapping[str, str] = {} if peers is None else peers

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request, with its trace context, and record the call."""
        current = current_call.get()
        if current is not None and current.is_carried_by(request):  # a redirect
            return super().send(request, **kwargs)
        token = current_call.set(_NOT_SENT)
        try:
            return super().send(request, **kwargs)
        finally:
            current_call.reset(token)

    def get_adapter(self, url: str | bytes) -> BaseAdapter:
        """Return the adapter for a URL; while a call is made, one that records."""
        adapter = super().get_adapter(url)  # type: ignore[arg-type]
        if current_call.get() is None:
            return adapter
        return _RecordingAdapter(adapter, self)

    def name_peer(self, address: str, host: str) -> str:
        """Return the name of the service at an address, as `_normal` writes it."""
        bases = [base for base in self.peers if _is_below(address, _normal(base))]
        if bases:
            return self.peers[max(bases, key=len)]
        return self.recorder.names.limit_service(host)


class SentCall(NamedTuple):
    """What the hops of one call share: the traceparent that the last one sent, and the context."""

    traceparent: str
    context: Context | None

    def is_carried_by(self, request: Any) -> bool:
        """Return whether a request was copied from the last hop, as redirects are."""
        if self.context is None:
            return False
        headers = getattr(request, "headers", None) or {}
        return headers.get("traceparent") == self.traceparent


_NOT_SENT = SentCall("", None)


class _RecordingAdapter(BaseAdapter):
    """An adapter whose calls are client spans; in all else the adapter that it stands for."""

    def __init__(self, adapter: BaseAdapter, session: Session) -> None:
        self._adapter = adapter
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, **kwargs: Any
    ) -> requests.Response:
        """Send a request as one span."""
        span = self._begin(request)
        try:
            response = self._adapter.send(request, **kwargs)
        except BaseException as error:
            span.error = describe_call_error(error)
            span.end()
            raise
        status = response.status_code  # an adapter of the user's own may leave it out
        span.status = known_status(status) if isinstance(status, int) else 0
        # digest authentication sends again, by what it finds here
        if getattr(response, "connection", None) is self._adapter:
            response.connection = self  # type: ignore[assignment,attr-defined]
        end_with_body(span, response, bool(kwargs.get("stream")))
        return response

    def close(self) -> None:
        """Close the adapter."""
        self._adapter.close()

    def _begin(self, request: requests.PreparedRequest) -> OpenSpan:
        session = self._session
        url = _split(request.url or "")
        host = _host(url.scheme, url.netloc)
        peer = session.name_peer(f"{url.scheme}://{host}{url.path}", host)
        endpoint = session.recorder.names.limit(peer, fold(url.path or "/"))
        call = current_call.get()
        follows = call is not None and call.is_carried_by(request)
        context = call.context if follows else None  # type: ignore[union-attr]
        if context is None:
            context = context_of_call()
        span = OpenSpan(session.recorder, endpoint, context, "client", peer)
        span.method = known_method(request.method or "GET")
        current_call.set(SentCall(_inject(span, request.headers), context))
        span.show()
        return span


def _inject(span: OpenSpan, headers: Any) -> str:
    """Write the trace context into the headers of a call and return the traceparent."""
    traceparent = format_traceparent(span.trace_id, span.span_id, span.flags)
    headers["traceparent"] = traceparent
    headers.pop("tracestate", None)  # a copied header would belong to another trace
    if span.tracestate:
        headers["tracestate"] = span.tracestate
    return traceparent


def _split(url: str) -> SplitResult:
    """Return the parts of a URL, empty where it is none: an adapter may take any text."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


@lru_cache(maxsize=256)
def _host(scheme: str, netloc: str) -> str:
    """Return host:port, without user and password."""
    parts = SplitResult(scheme, netloc, "", "", "")
    name = parts.hostname
    try:
        port = parts.port or PORTS.get(scheme, 0)
    except ValueError:
        port = 0
    return f"[{name}]:{port}" if name and ":" in name else f"{name}:{port}"


@lru_cache(maxsize=256)
def _normal(base: str) -> str:
    """Return a base URL in small letters, with its port, without user, password and last slash."""
    url = _split(base.rstrip("/"))
    return f"{url.scheme}://{_host(url.scheme, url.netloc)}{url.path}"


def _is_below(address: str, base: str) -> bool:
    return address.startswith(base) and address[len(base) : len(base) + 1] in ("", "/")
