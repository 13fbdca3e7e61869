"""What is a request called, and is it recorded? Flask's routes, and what is left out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from aiops_lab.endpoints import fold
from aiops_lab.record.recorder import Recorder, ServerSpan, current_span

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask import Flask, Request
    from werkzeug.routing import Rule

Exclude = Iterable[str] | Callable[[str], bool]

# The route, whether it is never recorded, and the rule, which is kept so that its id stays its own.
Known = tuple[str, bool, Any]

STATIC_RULE = "/<path:filename>"  # how the rule of a static view of Flask ends


class RouteNames:
    """The endpoints of one Flask app: ``/users/<int:number>``, below the path of its mount."""

    def __init__(
        self, app: Flask, recorder: Recorder, leaves_out: Callable[[str], bool] | None
    ) -> None:
        self._app = app
        self._recorder = recorder
        self._leaves_out = leaves_out
        self._routes: dict[int, Known] = {}

    def name(self, span: ServerSpan, request: Request, rule: Rule | None) -> None:
        """Give a request the endpoint of the rule that Flask has found, or leave it out."""
        span.named = True
        span.by_path = False
        if rule is None:
            return  # (unmatched)
        known = self._routes.get(id(rule)) or self._learn(rule)
        route, is_own, _ = known
        mounted = request.root_path
        span.method = request.method
        span.endpoint = self._below(mounted, route) if mounted else route
        if is_own or (self._leaves_out is not None and self._leaves_out(span.endpoint)):
            span.leave_out()
            current_span.set(None)  # what it calls starts a trace

    def name_unrouted(self, span: ServerSpan, environ: WSGIEnvironment) -> None:
        """Do that with a request that was answered before Flask has routed it, where it can.

        That is what a middleware answers, and what fails before: a session that cannot be opened.
        """
        try:
            request = self._app.request_class(environ)
            adapter = self._app.create_url_adapter(request)
            rule, _ = adapter.match(return_rule=True)  # type: ignore[union-attr]
        except Exception:  # no route, or a converter that needs what is not there
            return
        self.name(span, request, rule)

    def _learn(self, rule: Rule) -> Known:
        """Return the name of a route, and whether it is one of those that are never recorded."""
        route = rule.rule
        host = rule.host or rule.subdomain
        if host:  # as in a reference without a scheme
            route = f"//{host}{route}"
        is_own = _is_static(self._app, rule) or _is_of_this_package(self._app, rule)
        known = self._routes[id(rule)] = route, is_own, rule
        return known

    def _below(self, mounted: str, route: str) -> str:
        # A proxy may take the path from a header, so that anybody can make new ones.
        return self._recorder.names.limit(self._recorder.service, fold(mounted) + route)


def _is_static(app: Flask, rule: Rule) -> bool:
    owner, _, name = rule.endpoint.rpartition(".")
    holder: Any = app.blueprints.get(owner) if owner else app
    has_files = holder is not None and holder.has_static_folder
    return has_files and name == "static" and rule.rule.endswith(STATIC_RULE)


def _is_of_this_package(app: Flask, rule: Rule) -> bool:
    owner = rule.endpoint.rpartition(".")[0]
    blueprint = app.blueprints.get(owner)
    return blueprint is not None and blueprint.import_name.startswith("aiops_lab.")


def exclusion(exclude: Exclude, recorder: Recorder) -> Callable[[str], bool] | None:
    """Return the function that says of an endpoint whether it is left out; None = never.

    Raises
    ------
    ValueError
        Where it is neither routes nor a function.
    """
    if callable(exclude):
        decide = exclude
        return lambda endpoint: recorder.ask(decide, endpoint)
    try:
        routes = frozenset([exclude] if isinstance(exclude, str) else exclude)
    except TypeError:
        routes = frozenset([exclude])  # type: ignore[list-item]
    wrong = [route for route in routes if not isinstance(route, str)]
    if wrong:
        raise ValueError(f"exclude must be routes or a function of a route, got {wrong[0]!r}")
    return routes.__contains__ if routes else None


def must_be_wsgi(app: object) -> None:
    """Raise ValueError unless `app` can be called as a WSGI application."""
    kind = type(app).__name__
    if not callable(app):
        raise ValueError(f"app must be a Flask app or a WSGI callable, got {kind}")
    if parameters_of(app)[:1] == ["scope"]:
        rule = "app must be an ASGI application of version 3, app(scope, receive, send)"
        raise ValueError(f"{rule}, got {kind} of version 2")
    if not _can_take_two(app):
        raise ValueError(
            f"app must take (environ, start_response), got {kind}{inspect.signature(app)}"
        )


def is_asgi(app: Any) -> bool:
    """Return whether an application is one of ASGI, ``app(scope, receive, send)``."""
    return callable(app) and (
        _is_asynchronous(app) or parameters_of(app)[:2] == ["scope", "receive"]
    )


def _is_asynchronous(app: Any) -> bool:
    """Return whether a call gives a coroutine, as far as that can be seen without one."""
    target = app
    while isinstance(target, partial):
        target = target.func
    called = getattr(type(target), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(called)


def parameters_of(app: Any) -> list[str]:
    """Return the names of the parameters that a callable takes."""
    try:
        return [*inspect.signature(app).parameters]
    except (TypeError, ValueError):
        return []


def _can_take_two(app: Any) -> bool:
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return True  # a callable of C does not tell
    try:
        signature.bind({}, None)
    except TypeError:
        return False
    return True
