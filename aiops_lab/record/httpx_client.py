"""What calls does a service make with httpx? Transports that record each as a client span.

client = httpx.AsyncClient(transport=AsyncTracedTransport(store, "orders"))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from aiops_lab.record.calls import Peers, begin_call, checked_peers
from aiops_lab.record.recorder import OpenSpan, Recorder, Sink, describe_call_error, known_status


class _Traced:
    """What both transports share: their parameters, and the spans."""

    def __init__(
        self,
        sink: Sink,
        service: str = "shop",
        peers: Peers | None = None,
        transport: Any = None,
    ) -> None:
        self.recorder = Recorder(sink, service)
        self.peers: Peers = checked_peers(peers)
        self.transport = transport

    def begin(self, request: httpx.Request) -> OpenSpan:
        """Return the span of a request, and let its headers carry the trace."""
        address = str(request.url)
        return begin_call(self.recorder, self.peers, request.method, address, request.headers)


class TracedTransport(_Traced, httpx.BaseTransport):
    """A transport of ``httpx.Client`` that sends the trace on and records client spans.

    A span ends when the body of the answer has been read or closed. Each hop of a call that is
    redirected is a span of its own. Without an answer the status is 0 and the error names the
    exception.

    Parameters
    ----------
    sink, service, peers
        As of `aiops_lab.Session`.
    transport
        The transport that sends. Default: a new ``httpx.HTTPTransport()``; options such as
        ``verify`` or ``limits``, which a client passes to the transport that it makes, belong to
        this one.

    Raises
    ------
    ValueError
        A parameter breaks its rule.
    """

    def __init__(
        self,
        sink: Sink,
        service: str = "shop",
        peers: Peers | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(sink, service, peers, transport or httpx.HTTPTransport())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request as one span."""
        span = self.begin(request)
        try:
            response: httpx.Response = self.transport.handle_request(request)
        except BaseException as error:
            _fail(span, error)
            raise
        span.status = known_status(response.status_code)
        response.stream = _Body(span, response.stream)
        return response

    def close(self) -> None:
        """Close the transport that sends."""
        self.transport.close()


class AsyncTracedTransport(_Traced, httpx.AsyncBaseTransport):
    """A transport of ``httpx.AsyncClient``; all else is as for `TracedTransport`."""

    def __init__(
        self,
        sink: Sink,
        service: str = "shop",
        peers: Peers | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(sink, service, peers, transport or httpx.AsyncHTTPTransport())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request as one span."""
        span = self.begin(request)
        try:
            response: httpx.Response = await self.transport.handle_async_request(request)
        except BaseException as error:
            _fail(span, error)
            raise
        span.status = known_status(response.status_code)
        response.stream = _AsyncBody(span, response.stream)
        return response

    async def aclose(self) -> None:
        """Close the transport that sends."""
        await self.transport.aclose()


class _SpanOfBody:
    """The end of a body is the end of a span; a body that is dropped ends it, too."""

    def __init__(self, span: OpenSpan, stream: Any) -> None:
        self.span = span
        self.stream = stream

    def __del__(self) -> None:
        self.span.end()


class _Body(_SpanOfBody, httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.stream
        except Exception as error:
            _fail(self.span, error)
            raise

    def close(self) -> None:
        self.stream.close()
        self.span.end()


class _AsyncBody(_SpanOfBody, httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self.stream:
                yield part
        except Exception as error:
            _fail(self.span, error)
            raise

    async def aclose(self) -> None:
        await self.stream.aclose()
        self.span.end()


def _fail(span: OpenSpan, error: BaseException) -> None:
    """End the span of a call that failed; what had an answer keeps its status."""
    span.error = describe_call_error(error)
    span.end()
