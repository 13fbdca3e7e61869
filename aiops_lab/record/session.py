"""What calls does a service make? `Session`, which passes the trace on and records client spans."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests

from aiops_lab.record.recorder import (
    Context,
    OpenSpan,
    Recorder,
    Sink,
    current_call,
    current_span,
    describe_error,
)
from aiops_lab.record.trace_context import KNOWN_FLAGS, format_traceparent, new_trace_id

PORTS = {"http": 80, "https": 443}


class Session(requests.Session):
    """A `requests.Session` that sends the trace on and records each call as a client span.

    A span ends when the call returns: with the body, or with the headers where ``stream=True``. A
    call with its redirects is one span. Without an answer (timeout, refused) its status is 0 and
    its error names the exception. Outside of a request a call starts a trace.

    Parameters
    ----------
    sink, service
        As in `instrument`; the service is the caller.
    peers
        ``{base_url: service}``, the names of the called services. The longest base that fits is
        taken; the mapping is read at each call. Default: none, so that a peer is named host:port.
    """

    def __init__(
        self, sink: Sink, service: str = "shop", peers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.recorder = Recorder(sink, service)
        self.peers: Mapping[str, str] = {} if peers is None else peers

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request, with its trace context, and record the call."""
        calling = current_call.get()
        is_redirect = calling is not None and request.headers.get("traceparent") == calling
        if is_redirect or not isinstance(request, requests.PreparedRequest):
            return super().send(request, **kwargs)
        address = request.url or ""
        url = urlsplit(address)
        peer = self._peer(address) or _host(url.scheme, url.netloc)
        span = OpenSpan(self.recorder, url.path or "/", _context_of_call(), "client", peer)
        span.show()
        token = current_call.set(_inject(span, request.headers))
        try:
            response = super().send(request, **kwargs)
            span.status = response.status_code
            return response
        except BaseException as error:
            span.error = describe_error(error)
            raise
        finally:
            current_call.reset(token)
            span.end()

    def _peer(self, url: str) -> str:
        bases = [base for base in self.peers if _is_below(url, base.rstrip("/"))]
        return self.peers[max(bases, key=len)] if bases else ""


def _context_of_call() -> Context:
    caller = current_span.get()
    if caller is None:
        return new_trace_id(), None, KNOWN_FLAGS, ""
    return caller.trace_id, caller.span_id, caller.flags, caller.tracestate


def _inject(span: OpenSpan, headers: Any) -> str:
    """Write the trace context into the headers of a call and return the traceparent."""
    traceparent = format_traceparent(span.trace_id, span.span_id, span.flags)
    headers["traceparent"] = traceparent
    headers.pop("tracestate", None)  # a copied header would belong to another trace
    if span.tracestate:
        headers["tracestate"] = span.tracestate
    return traceparent


@lru_cache(maxsize=256)
def _host(scheme: str, netloc: str) -> str:
    """Return host:port, without user and password."""
    parts = SplitResult(scheme, netloc, "", "", "")
    return f"{parts.hostname}:{parts.port or PORTS.get(scheme, 0)}"


def _is_below(url: str, base: str) -> bool:
    return url.startswith(base) and url[len(base) : len(base) + 1] in ("", "/", "?", "#")
