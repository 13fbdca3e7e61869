"""The monitor of a store as a server of its own: ``python -m aiops_lab watch STORE``.

Any number of processes may write to the store meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from flask import Flask
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from aiops_lab.checks import check_number
from aiops_lab.columns import share_memory_between_threads
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.monitor import Monitor
from aiops_lab.record.store import SpanStore
from aiops_lab.respond.commands import responding, typed_response
from aiops_lab.show.access import Access, access_at, checked_url, guard, is_loopback
from aiops_lab.show.api import aiops, json_errors
from aiops_lab.show.news import tell_until
from aiops_lab.show.otlp import otlp_receiver, protobuf_hint
from aiops_lab.show.page.views import front_page
from aiops_lab.show.ports import HOST, check_port
from aiops_lab.show.prometheus import metrics_page_or_hint
from aiops_lab.show.stepping import stepping

if TYPE_CHECKING:
    from aiops_lab.show.stopping import Stop

WATCH_LISTENERS = 32
"""How many open pages are told of changes at once; each takes a thread."""

PATIENCE_S = 30.0
"""Seconds for which a client may send or read nothing. Raising it holds threads of those that are
gone longer."""

WATCH_POLL_S = 0.1
"""Seconds between two looks of the server at whether it is to stop."""

EMPTY = (
    "No application has written to it yet: open it with SpanStore and instrument(), or let"
    " OpenTelemetry send traces (--otlp)."
)


def watch(
    path: str,
    port: int,
    *,
    host: str = HOST,
    token: str | None = None,
    private: bool = False,
    public_url: str = "",
    otlp: bool = False,
    interval_s: float = 10.0,
    window_s: float = 10.0,
    notify: Iterable[str] = (),
    remedies: Iterable[str] = (),
    stop: Stop,
) -> int:
    """Watch a store until `stop` is asked for; return the exit code.

    Parameters
    ----------
    path : str
        The store; a new one is made where there is none.
    port : int
        For the page and the interface; 0: any free one.
    host, token, private
        The address that is listened on, and who is admitted, as for
        `aiops_lab.show.access.access_at`.
    public_url : str
        Where people reach the page; notices and printed lines link to it. Default: here.
    otlp : bool
        Whether traces of OpenTelemetry are taken at /v1/traces, with the token, if there is one.
    interval_s, window_s : float
        Seconds between two steps of the monitor, and of a window.
    notify : iterable of str
        Who is told of incidents: URLs of Apprise, @FILE with such URLs, or FILE.py:FUNCTION.
    remedies : iterable of str
        What is done about them: FILE.py:NAME of a `Remedy`, or of a list of them.

    Raises
    ------
    ValueError
        A parameter breaks its rule, or the file is no store.
    OSError
        The file cannot be opened for writing.
    """
    check_number("port", port, 0, 65_535, whole=True)
    check_number("interval_s", interval_s, 0.1, 86_400)
    sensitivity = Sensitivity(window_s=window_s)
    public_url = checked_url(public_url)
    access = access_at(host, token, private, public_url)
    response = typed_response(notify, remedies)
    check_port(port, host)
    share_memory_between_threads()
    with ExitStack() as stack:
        store = stack.enter_context(SpanStore(path))
        monitor = Monitor(store, sensitivity)
        stopping = threading.Event()
        app = watch_app(monitor, stopping, access, otlp)
        url = stack.enter_context(_serving(app, host, port))
        stack.callback(stopping.set)
        step = partial(_step, monitor)
        stack.enter_context(stepping(step, interval_s, sensitivity.grace_s))
        if otlp:
            _say(f"Traces of OpenTelemetry (OTLP over HTTP): {url}/v1/traces")
            if hint := protobuf_hint():
                _say(f"Only JSON is taken, and protobuf answered with 415: {hint}")
        _say(_banner(store, url, interval_s, window_s))
        shown_url = public_url or url
        stack.enter_context(responding(monitor, response, shown_url))
        for line in response.lines():
            _say(line)
        tell_until(stop, monitor, shown_url, _say)
    _say("Stopped.")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _step(monitor: Monitor) -> None:
    monitor.step(pd.Timestamp.now("UTC"))


def _banner(store: SpanStore, url: str, interval_s: float, window_s: float) -> str:
    lines = [
        f"Watching {Path(store.path).absolute()}, every {interval_s:g} s, in windows of"
        f" {window_s:g} s.",
        *([] if any(store.position()) else [EMPTY]),
        f"Page: {url}/",
        f"JSON: {url}/aiops/incidents, {url}/aiops/metrics",
        f"Prometheus: {url}/metrics",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


def watch_app(monitor: Monitor, stopping: threading.Event, access: Access, otlp: bool) -> Flask:
    """Return the app that shows a monitor, and with `otlp` takes traces into its store."""
    app = Flask("aiops_lab.watch", static_folder=None)
    guard(app, access)
    json_errors(app)
    app.register_blueprint(front_page())
    if otlp:
        hosts, token, _, public_url = access
        app.register_blueprint(
            otlp_receiver(monitor.store, token, hosts=hosts, public_url=public_url)
        )
    app.register_blueprint(metrics_page_or_hint(monitor))
    shown = aiops(monitor, listeners=WATCH_LISTENERS, stopping=stopping, **access._asdict())
    app.register_blueprint(shown)
    return app


class _Handler(WSGIRequestHandler):
    """Answers requests without a word on the console."""

    timeout = PATIENCE_S
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing: what is wrong is answered."""


@contextmanager
def _serving(app: Flask, host: str, port: int) -> Iterator[str]:
    """Yield the address under which `app` answers while the block runs."""
    server = ThreadedWSGIServer(host, port, app, handler=_Handler)
    thread = threading.Thread(
        target=server.serve_forever, args=(WATCH_POLL_S,), name="page", daemon=True
    )
    thread.start()
    try:
        name = "localhost" if is_loopback(host) else host
        yield f"http://{name}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
