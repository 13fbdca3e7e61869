"""How does a request of an asynchronous application become a span? ASGI: Starlette, FastAPI, …

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import sys
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import perf_counter_ns
from typing import Any

from aiops_lab.endpoints import UNMATCHED, fold
from aiops_lab.record.recorder import (
    SPAN,
    Context,
    OpenSpan,
    Recorder,
    ServerSpan,
    current_span,
    known_status,
)
from aiops_lab.record.trace_context import (
    KNOWN_FLAGS,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
LeavesOut = Callable[[str], bool]

WEBSOCKETS = "(websocket)"  # how they are counted among what is left out

CLIENT_CLOSED = 499  # the client went away before there was an answer; nginx's number

AFTER_ANSWER = "(after the answer)"  # the endpoint of what failed then

TRACE_ID = b"x-trace-id"

FULL_MATCH = 2  # of starlette.routing.Match


def instrument_asgi(app: Any, recorder: Recorder, leaves_out: LeavesOut | None) -> Any:
    """Return an ASGI application whose requests are recorded.

    One of Starlette or FastAPI is wrapped in place, outside of all its middleware, also of that
    which is added later; any other comes back wrapped.

    Raises
    ------
    ValueError
        It was instrumented before with another sink or service.
    """
    is_starlette = _is_starlette(app)
    before = vars(app).get(SPAN) if is_starlette else app
    if isinstance(before, InstrumentedAsgi):
        before.recorder.must_equal(recorder)
        return app
    wrapped = InstrumentedAsgi(app, recorder, leaves_out)
    if not is_starlette:
        return wrapped
    _put_around(app, wrapped)
    return app


def _put_around(app: Any, wrapped: InstrumentedAsgi) -> None:
    """Let an application of Starlette answer through `wrapped`, outside of all its middleware."""
    build = app.build_middleware_stack

    def build_middleware_stack() -> InstrumentedAsgi:
        wrapped.app = build()
        return wrapped

    wrapped.router = app
    app.build_middleware_stack = build_middleware_stack
    if app.middleware_stack is not None:  # it has begun to work
        wrapped.app = app.middleware_stack
        app.middleware_stack = wrapped
    vars(app)[SPAN] = wrapped


def _is_starlette(app: Any) -> bool:
    return hasattr(app, "build_middleware_stack") and hasattr(app, "middleware_stack")


class InstrumentedAsgi:
    """The ASGI callable around an application, whose `router` has routes where it is Starlette."""

    def __init__(self, app: AsgiApp, recorder: Recorder, leaves_out: LeavesOut | None) -> None:
        self.app = app
        self.recorder = recorder
        self.leaves_out = leaves_out
        self.router: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                self.recorder.leave_out(WEBSOCKETS)
            await self.app(scope, receive, send)
            return
        outer = scope.get(SPAN)
        if outer is not None and outer.recorder.equals(self.recorder):
            await self.app(scope, receive, send)  # mounted in an app that records already
            return
        request = AsgiSpan(self, scope, outer)
        if self.leaves_out is not None:
            request.name_early()
        if request.left_out:
            await self._pass_by(scope, receive, send)
            return
        scope = {**scope, SPAN: request}  # the caller's stays as it is
        await self._record(request.within(scope), receive, send)

    async def _pass_by(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = current_span.set(None)
        try:
            await self.app(scope, receive, send)
        finally:
            current_span.reset(token)

    async def _record(self, request: AsgiSpan, receive: Receive, send: Send) -> None:
        request.show()

        async def receive_watched() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                request.is_disconnected = True
            return message

        async def send_watched(message: Message) -> None:
            await send(request.sent(message))

        token = current_span.set(request)
        try:
            await self.app(request.scope, receive_watched, send_watched)
        except BaseException as error:
            request.end_with(error)
            raise
        finally:
            current_span.reset(token)
            request.end()


class AsgiSpan(ServerSpan):
    """The server span of one ASGI request; knows its endpoint as soon as somebody asks for it."""

    __slots__ = ("instrumented", "scope", "is_started", "is_disconnected", "answered")

    def __init__(self, instrumented: InstrumentedAsgi, scope: Scope, outer: Any) -> None:
        context = _context_of(scope) if outer is None else _context_below(outer)
        super().__init__(instrumented.recorder, context, scope.get("method"))
        self.instrumented = instrumented
        self.scope = scope
        self.is_started = self.is_disconnected = False
        self.answered: int | None = None  # when the last byte was sent

    def within(self, scope: Scope) -> AsgiSpan:
        """Take the scope in which a router will put its route; return the span."""
        self.scope = scope
        return self

    def fields(self, duration_ns: int | None) -> tuple:
        """Return the fields of a `Span`, in its order."""
        route = None if self.named else self.scope.get("route")
        if route is not None:  # open, and routed already: a hanging request has its endpoint
            self._name_by(route)
        if duration_ns is not None and self.answered is not None:
            duration_ns = self.answered - self.begun
        return super().fields(duration_ns)

    def name_early(self) -> None:
        """Name the endpoint before the application works, to see whether it is left out."""
        route = _found(self.instrumented.router, self.scope)
        if route is not None or self.instrumented.router is None:
            self._name(route)

    def _name(self, route: Any) -> None:
        if not _is_leaf(route):
            # no route, or that of a mounted application which is none of Starlette's
            self.name_by_path(_path_of(self.scope))
            if route is not None and _is_static(route):
                self.endpoint = _root_of(self.scope) + "/{path}"
                self.leave_out()
                return
        else:
            self._name_by(route)
        leaves_out = self.instrumented.leaves_out
        if leaves_out is not None and leaves_out(self.endpoint):
            self.leave_out()

    def _name_by(self, route: Any) -> None:
        if not _is_leaf(route):
            return  # a mount: what is in it has not been found yet
        self.named = True
        self.by_path = False
        path = _template_of(route, self.scope)
        root = _root_of(self.scope)
        names = self.recorder.names
        self.endpoint = names.limit(self.recorder.service, root + path) if root else path

    def _name_late(self) -> None:
        if not self.named:
            known = self.scope.get("route")
            self._name(known or _found(self.instrumented.router, self.scope))

    def sent(self, message: Message) -> Message:
        """Note a message of the answer; return the one to send."""
        kind = message["type"]
        if kind == "http.response.start":
            return self._start(message)
        if kind == "http.response.body" and message.get("more_body", False):
            if message.get("body"):
                self.begin_answer()
        elif kind in ("http.response.body", "http.response.pathsend"):
            self._answered()
        return message

    def _answered(self) -> None:
        """End with the last byte; after a failure, once the application says which.

        What answers a client that is gone may be a failure as well.
        """
        self.answered = perf_counter_ns()
        if self.status < 500 and not self.is_disconnected:
            self.end()

    def _start(self, message: Message) -> Message:
        self.is_started = True
        self.status = known_status(message["status"])
        if self.is_disconnected:  # this answer reaches nobody
            self.status = CLIENT_CLOSED
        self._name_late()
        if self.by_path and self.status == 404:
            self.endpoint = UNMATCHED
        if self.left_out:
            return message
        kept = [header for header in message.get("headers", ()) if header[0].lower() != TRACE_ID]
        kept.append((TRACE_ID, self.trace_id.encode()))
        return {**message, "headers": kept}

    def end_with(self, error: BaseException) -> None:
        """End with an exception that goes on to the server.

        One after the last byte was sent is a step of its own below the request: the answer was
        right. Nothing is recorded of what only says that the client went away.
        """
        if self.left_out or (self.is_disconnected and _tells_of_leaving(error)):
            return
        if self.ended:
            self._record_late(error)
            return
        self._name_late()
        closed = CLIENT_CLOSED if self.is_disconnected else 500
        self.break_off(error, self.status if self.is_started else closed)

    def _record_late(self, error: BaseException) -> None:
        """Record the failure of what went on after the answer, such as a background task."""
        context = (self.trace_id, self.span_id, self.flags, self.tracestate)
        step = OpenSpan(self.recorder, f"{self.endpoint} {AFTER_ANSWER}", context, "internal")
        answered = self.answered or step.begun
        step.start_ns -= step.begun - answered
        step.begun = answered
        step.status = None  # type: ignore[assignment]  # as its kind has it
        step.fail(error)
        step.end()

    def end(self) -> None:
        """Give the span to the sink, the first time that this is called."""
        if self.ended:
            return
        self._name_late()
        if not self.is_started and self.status == 0:
            self.status = CLIENT_CLOSED if self.is_disconnected else 500
        super().end()


def _tells_of_leaving(error: BaseException) -> bool:
    """Return whether an exception only ends the work for a client that went away."""
    return isinstance(error, CancelledError) or type(error).__name__ == "ClientDisconnect"


def _found(router: Any, scope: Scope) -> Any:
    """Return the route of a request that was not routed yet; None without one, or in a mount."""
    for route in _routes_of(router):
        if not _is_leaf(route):
            continue
        try:
            match, _ = route.matches(scope)
        except Exception:  # a converter that refuses
            continue
        if match.value == FULL_MATCH:
            return route
    return None


def _routes_of(router: Any) -> Iterable[Any]:
    """Return the routes of an application, those of FastAPI's included routers among them."""
    routes = getattr(router, "routes", ())
    fastapi = sys.modules.get("fastapi.routing")
    flat = getattr(fastapi, "iter_route_contexts", None)
    return routes if flat is None else flat(routes)


def _is_leaf(route: Any) -> bool:
    """Return whether a route leads to a function, and not to another application."""
    return getattr(route, "endpoint", None) is not None


def _template_of(route: Any, scope: Scope) -> str:
    """Return the path of a route, with that of the router that FastAPI has included it by."""
    included = scope.get("fastapi", {}).get("effective_route_context")
    if included is not None and included.original_route is route:
        route = included
    return route.path


def _is_static(mount: Any) -> bool:
    app = getattr(mount, "app", None)
    return any(kind.__name__ == "StaticFiles" for kind in type(app).__mro__)


def _root_of(scope: Scope) -> str:
    """Return the path of the mount, with ids folded: anybody can send one."""
    return fold(scope["root_path"].rstrip("/")) if scope.get("root_path") else ""


def _path_of(scope: Scope) -> str:
    root, path = scope.get("root_path") or "", scope.get("path") or "/"
    return path if path.startswith(root) else root + path


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return b",".join(value for key, value in headers if key == name).decode("latin-1")


def _context_of(scope: Scope) -> Context:
    headers = scope.get("headers", ())
    came = parse_traceparent(_header(headers, b"traceparent"))
    if came is None:
        return new_trace_id(), None, KNOWN_FLAGS, ""
    state = _header(headers, b"tracestate")
    return *came, state and parse_tracestate(state)


def _context_below(span: ServerSpan) -> Context:
    return span.trace_id, span.span_id, span.flags, span.tracestate
