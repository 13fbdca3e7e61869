"""How does the shop run? In this process: real HTTP on 127.0.0.1, threads, nothing left behind."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
from requests.adapters import HTTPAdapter

from aiops_lab.checks import FieldError, check_number, missing_extra
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.monitor import Monitor, replay
from aiops_lab.record.faults import Fault, FaultInjector, FaultLog
from aiops_lab.record.middleware import instrument
from aiops_lab.record.session import Session
from aiops_lab.record.store import SpanStore
from aiops_lab.show.api import aiops, attach, simulate
from aiops_lab.spans import Span, to_frame
from shop.live.services import build
from shop.live.traffic import Destination, place
from shop.topology import SEED_SHOP, Topology

try:
    from cheroot import server as cheroot
    from cheroot import wsgi
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

if TYPE_CHECKING:
    from aiops_lab.detect.incidents import Incident

HOST = "127.0.0.1"

CONTROL_THREADS = 16

"""Threads that business requests can never take: /aiops and /simulate answer whatever hangs."""

lifecycle_log = logging.getLogger(__name__)

Started = TypeVar("Started")

# Of several equal headers cheroot passes on the last, unless their names are in this list; those
# of W3C Trace Context form a list.
LISTS: list[bytes] = vars(cheroot)["comma_separated_headers"]

LISTS += [name for name in (b"Traceparent", b"Tracestate") if name not in LISTS]


class Shop:
    """A running shop.

    Attributes
    ----------
    url : str
        The front: where customers come in, and where /aiops and /simulate are.
    urls : dict
        Where each service is.
    store : SpanStore
        The recorded spans.
    monitor : Monitor
        Watches them; advance it with `step`, or let `running` do so every ``interval_s``.
    truth : FaultLog
        What was broken and when; only evaluation reads it.
    topology : Topology
        What runs.
    """

    def __init__(
        self, topology: Topology, store: SpanStore, monitor: Monitor, truth: FaultLog, seed: int
    ) -> None:
        self.topology = topology
        self.store = store
        self.monitor = monitor
        self.truth = truth
        self.injector = FaultInjector(truth, seed)
        self.urls: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Where the front is."""
        return self.urls[self.topology.front]

    def inject(self, fault: Fault) -> int:
        """Break an endpoint and return the fault's id.

        Raises
        ------
        ValueError
            The shop has no such endpoint, so the fault would strike nothing.
        """
        known = [endpoint.place for endpoint in self.topology.endpoints]
        if (fault.service, fault.endpoint) not in known:
            names = ", ".join(" ".join(each) for each in known)
            raise FieldError(
                "fault", f"must be at one of {names}", f"{fault.service} {fault.endpoint}"
            )
        return self.injector.inject(fault)

    def clear(self, id: int | None = None) -> list[int]:
        """Mend one fault, or all, let held requests go, and return the ids of what ended."""
        return self.injector.clear(id)

    def step(self, now: pd.Timestamp | None = None) -> list[Incident]:
        """Let the monitor look at everything until `now`; return the incidents that changed."""
        self.store.flush()
        return self.monitor.step(pd.Timestamp.now("UTC") if now is None else now)

    def places(self) -> Mapping[str, Destination]:
        """The address of each endpoint, by route, or "service route" where services share it."""
        routes = [endpoint.route for endpoint in self.topology.endpoints]
        return {
            e.route if routes.count(e.route) == 1 else f"{e.service} {e.route}": place(
                e.method, self.urls[e.service], e.route
            )
            for e in self.topology.endpoints
        }


@contextmanager
def running(
    services: str = "one",
    path: str | Path | None = None,
    sensitivity: Sensitivity | None = None,
    seed: int = 0,
    port: int = 0,
    interval_s: float | None = None,
    *,
    topology: Topology = SEED_SHOP,
) -> Iterator[Shop]:
    """Run a shop while the block runs; its ports, threads and temporary file are gone afterwards.

    Parameters
    ----------
    services : str
        ``"one"``: all endpoints in a service "shop" on one port; ``"many"``: each service on its
        own port.
    path : path, optional
        SQLite file for spans, incidents and the log of faults; default a temporary one, removed at
        the end.
    sensitivity : Sensitivity, optional
        The monitor's knobs; default all defaults.
    seed : int
        Of service times and faults.
    port : int
        Port of the front; default any free one. Other services take any free port.
    interval_s : float, optional
        Seconds between the monitor's steps in the background; default none: call `Shop.step`
        yourself.
    topology : Topology
        The shop to run; default the seed's.

    Raises
    ------
    ValueError
        A parameter breaks its rule.
    OSError
        The port is in use.
    """
    if services not in ("one", "many"):
        raise FieldError("services", "must be one of one, many", services)
    if interval_s is not None:
        check_number("interval_s", interval_s, 0.001, 86_400)
    topology = topology.as_one() if services == "one" else topology
    knobs = sensitivity or Sensitivity()
    with undisturbed(_life(topology, path, knobs, seed, port, interval_s)) as shop:
        yield shop


@contextmanager
def undisturbed(manager: AbstractContextManager[Started]) -> Iterator[Started]:
    """Enter and leave `manager` in a thread of its own.

    Ctrl-C interrupts nothing but the main thread, and so neither a start nor a clean-up that is
    half done.
    """
    entered: Future[Started] = Future()
    leave = threading.Event()

    def live() -> None:
        try:
            with manager as value:
                entered.set_result(value)
                leave.wait()
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    with ThreadPoolExecutor(1, "shop") as pool:
        try:
            life = pool.submit(live)
            yield entered.result()
        finally:
            leave.set()
    life.result()


@contextmanager
def _life(
    topology: Topology,
    path: str | Path | None,
    knobs: Sensitivity,
    seed: int,
    port: int,
    interval_s: float | None,
) -> Iterator[Shop]:
    with ExitStack() as stack:
        if path is None:
            path = (
                Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiops-lab-")))
                / "shop.sqlite"
            )
        store = stack.enter_context(SpanStore(path))
        truth = stack.enter_context(FaultLog(path))
        monitor = Monitor(store, knobs)
        if interval_s is not None:
            _compile()
        shop = Shop(topology, store, monitor, truth, seed)
        _open(shop, stack, seed, port)
        if interval_s is not None:
            stack.enter_context(_watching(shop, interval_s))
        yield shop


def _open(shop: Shop, stack: ExitStack, seed: int, port: int) -> None:
    """Start the servers; ports first, because the services need each other's."""
    topology = shop.topology
    stopping = threading.Event()
    callers_first = dict.fromkeys(endpoint.service for endpoint in topology.callers_first())
    servers = {}
    sessions = stack.enter_context(ExitStack())
    for service in reversed(callers_first):  # stopped in the reverse order: callers first
        slots = sum(endpoint.capacity for endpoint in topology.of(service))
        server = _Server(port if service == topology.front else 0, slots + CONTROL_THREADS)
        stack.callback(server.close)
        shop.urls[service] = server.open()
        servers[service] = server
    for service, server in servers.items():
        session = sessions.enter_context(_session(shop, service))
        app = build(
            topology, service, session=session, urls=shop.urls, stopping=stopping, seed=seed
        )
        attach(shop.injector, app, service)
        if service == topology.front:
            app.register_blueprint(simulate(shop.injector, [e.place for e in topology.endpoints]))
            app.register_blueprint(aiops(shop.monitor))
        server.serve_in_thread(instrument(app, shop.store, service=service))
    stack.callback(shop.injector.close)
    stack.callback(stopping.set)


def _session(shop: Shop, service: str) -> Session:
    session = Session(shop.store, service, peers={url: name for name, url in shop.urls.items()})
    session.trust_env = False  # a proxy of the user's has no business between 127.0.0.1 and itself
    session.mount("http://", HTTPAdapter(pool_connections=16, pool_maxsize=1024))
    return session


@cache
def _compile() -> None:
    """Compile the analysis before anybody is watched: in the background it would slow the very
    requests down.
    """
    replay(to_frame(span for n in range(90) for span in _trace(n, failed=n >= 60)))


def _trace(n: int, failed: bool) -> list[Span]:
    """Return the n-th second's request of a made-up system: a calls b."""
    trace_id = f"{n:032x}"
    ids = [f"{3 * n + k:016x}" for k in (1, 2, 3)]
    times = (n * 1_000_000_000, 900_000_000 if failed else 90_000_000, 500 if failed else 200, None)
    return [
        Span(trace_id, ids[0], None, "a", "/a", "server", None, *times),
        Span(trace_id, ids[1], ids[0], "a", "/b", "client", "b", *times),
        Span(trace_id, ids[2], ids[1], "b", "/b", "server", None, *times),
    ]


@contextmanager
def _watching(shop: Shop, interval_s: float) -> Iterator[None]:
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(
            _until_next_step(time.time(), interval_s, shop.monitor.sensitivity.grace_s)
        ):
            try:
                shop.step()
            except Exception:  # the watch goes on; a single bad step must not end it
                lifecycle_log.exception("the monitor's step failed")

    thread = threading.Thread(target=watch, name="monitor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _until_next_step(now_s: float, interval_s: float, grace_s: float) -> float:
    """Return the seconds until windows on the grid have just become ready, so that none waits for
    its verdict.
    """
    just_after = 0.05
    return interval_s - (now_s - grace_s - just_after) % interval_s


class _Server(wsgi.Server):
    """cheroot, set up to start and stop promptly."""

    expiration_interval = 0.1  # also the longest that stopping waits for the accepting thread
    keep_alive_conn_limit: Any = None  # cheroot: no limit
    # far above what api.py refuses, so that it can answer with JSON
    max_request_header_size = 4_000_000
    max_request_body_size = 32_000_000

    def __init__(self, port: int, threads: int) -> None:
        super().__init__(
            (HOST, port), None, numthreads=threads, request_queue_size=1024, timeout=30
        )
        self._thread: threading.Thread | None = None

    def open(self) -> str:
        """Take the port and return the URL."""
        check_free(self.bind_addr[1])
        self.prepare()
        return f"http://{HOST}:{self.bind_addr[1]}"

    def serve_in_thread(self, app: object) -> None:
        """Answer requests with `app`."""
        self.wsgi_app = app
        self._thread = threading.Thread(
            target=self.serve, name=f"port {self.bind_addr[1]}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Let requests in progress end, and free the port and the threads."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
        # cheroot keeps every server's figures here for good, and the server with them
        getattr(logging, "statistics", {}).pop(f"Cheroot HTTPServer {id(self)}", None)

    def _serve_unservicable(self) -> None:
        """Nothing: the queue has no bound, so nobody is turned away; its thread would outlive
        `stop`.
        """

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        lifecycle_log.log(level, msg, exc_info=traceback)


def check_free(port: int) -> None:
    """Raise OSError if the port is taken: cheroot names no port and leaks a socket."""
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise OSError(
                error.errno, f"port {port} on {HOST} is in use; choose another one"
            ) from None
