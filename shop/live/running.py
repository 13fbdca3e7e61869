"""The running shop in this process: HTTP servers on 127.0.0.1, their threads, and the monitor."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pandas as pd
from requests.adapters import HTTPAdapter

from aiops_lab.checks import FieldError, check_number, missing_extra
from aiops_lab.columns import share_memory_between_threads
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.monitor import Monitor
from aiops_lab.record.faults import Fault, FaultInjector, FaultLog
from aiops_lab.record.middleware import instrument
from aiops_lab.record.session import Session
from aiops_lab.record.store import SpanStore
from aiops_lab.replaying import replay
from aiops_lab.show.access import Access, guard
from aiops_lab.show.api import aiops, attach, json_errors, simulate
from aiops_lab.show.origin import LOCAL_HOSTS
from aiops_lab.show.page.views import front_page
from aiops_lab.show.ports import HOST, check_free
from aiops_lab.show.prometheus import metrics_page_or_hint
from aiops_lab.show.stepping import stepping
from aiops_lab.spans import Span, to_frame
from shop.live.in_turn import ServerInTurn, can_start_threads
from shop.live.services import build
from shop.live.traffic import Destination, place
from shop.topology import SEED_SHOP, Topology

try:
    from cheroot import server as cheroot
    from cheroot import wsgi
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

if TYPE_CHECKING:
    from flask import Blueprint

    from aiops_lab.detect.incidents import Incident

CONTROL_THREADS = 16

"""Threads that business requests cannot use, so that /aiops and /simulate answer during a hang."""

EVERY_ADDRESS = "0.0.0.0"  # what a server listens on that is to be reached by all of them

LISTENERS = 8
"""How many open pages may be told of changes at once: half of `CONTROL_THREADS`."""

lifecycle_log = logging.getLogger(__name__)

Started = TypeVar("Started")

Receiver = Callable[[SpanStore], "Blueprint"]

LOCAL_ACCESS = Access(LOCAL_HOSTS)
"""Who may watch and break a shop that only this machine can reach: everybody, through no page of
another site."""


class Front(NamedTuple):
    """Where customers and operators reach a shop, and who may do what there.

    Attributes
    ----------
    port : int
        0: any free one.
    host : str
        The address that is listened on.
    access : Access
        To /aiops, /simulate and /metrics; customers are not asked.
    receiver : function (SpanStore) -> Blueprint, optional
        Takes spans of other services.
    """

    port: int = 0
    host: str = HOST
    access: Access = LOCAL_ACCESS
    receiver: Receiver | None = None


# Of several equal headers cheroot passes on the last, unless their names are in this list; those
# of W3C Trace Context form a list.
LISTS: list[bytes] = vars(cheroot)["comma_separated_headers"]

LISTS += [name for name in (b"Traceparent", b"Tracestate") if name not in LISTS]


class Shop:
    """A running shop.

    Attributes
    ----------
    url : str
        Address of the front, which serves customers, /aiops and /simulate.
    urls : dict
        Address of each service.
    store : SpanStore
        The recorded spans.
    monitor : Monitor
        Detects incidents in them, in each `step`, or every ``interval_s`` of `running`.
    truth : FaultLog
        The injected faults and their times; for evaluation only.
    topology : Topology
        The endpoints of the shop.
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
        """The address of the front."""
        return self.urls[self.topology.front]

    def inject(self, fault: Fault) -> int:
        """Inject a fault and return its id.

        Raises
        ------
        ValueError
            The shop has no such endpoint.
        """
        known = [endpoint.place for endpoint in self.topology.endpoints]
        if (fault.service, fault.endpoint) not in known:
            names = ", ".join(" ".join(place) for place in known)
            wrong = f"{fault.service} {fault.endpoint}"
            raise FieldError("fault", f"must be at one of {names}", wrong)
        return self.injector.inject(fault)

    def clear(self, id: int | None = None) -> list[int]:
        """Remove one fault, or all, release held requests, and return the ids of the faults."""
        return self.injector.clear(id)

    def step(self, now: pd.Timestamp | None = None) -> list[Incident]:
        """Analyse all spans until `now`, default the present; return the incidents that changed."""
        self.store.flush()
        moment = pd.Timestamp.now("UTC") if now is None else now
        return self.monitor.step(moment)

    def places(self) -> Mapping[str, Destination]:
        """Return the address of each endpoint, by its name.

        The name is the route, or "service route" where several services share it.
        """
        routes = [endpoint.route for endpoint in self.topology.endpoints]
        places = {}
        for endpoint in self.topology.endpoints:
            is_shared = routes.count(endpoint.route) > 1
            name = " ".join(endpoint.place) if is_shared else endpoint.route
            places[name] = place(endpoint.method, self.urls[endpoint.service], endpoint.route)
        return places


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
    receiver: Receiver | None = None,
    host: str = HOST,
    access: Access = LOCAL_ACCESS,
) -> Iterator[Shop]:
    """Run a shop while the block runs; its ports, threads and temporary file are freed afterwards.

    Where Python has no threads, as in a browser, its services answer in this one, each request
    before the next (`shop.live.in_turn`).

    Parameters
    ----------
    services : str
        ``"one"``: all endpoints in a service "shop" on one port; ``"many"``: each service on its
        own port.
    path : path, optional
        SQLite file for spans, incidents and the log of faults; default a temporary one, removed at
        the end.
    sensitivity : Sensitivity, optional
        The thresholds of detection; default those of `Sensitivity`.
    seed : int
        Of service times and faults.
    port : int
        Port of the front; default any free one. Other services take any free port.
    interval_s : float, optional
        Seconds between the monitor's steps in the background; default none: call `Shop.step`
        yourself.
    topology : Topology
        The shop to run; default the seed's.
    receiver : function (SpanStore) -> Blueprint, optional
        Takes spans of other services at the front, such as `aiops_lab.show.otlp.otlp_receiver`;
        default none.
    host : str
        The address on which the front listens; default 127.0.0.1. Other services stay there.
    access : Access
        Who may watch and break the shop; default: everybody on this machine.

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
    front = Front(port, host, access, receiver)
    life = _life(topology, path, knobs, seed, front, interval_s)
    with undisturbed(life) if can_start_threads() else life as shop:
        yield shop


@contextmanager
def undisturbed(manager: AbstractContextManager[Started]) -> Iterator[Started]:
    """Enter and leave `manager` in a separate thread.

    Ctrl-C interrupts only the main thread, and so neither the start nor the clean-up.
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
    front: Front,
    interval_s: float | None,
) -> Iterator[Shop]:
    share_memory_between_threads()
    with ExitStack() as stack:
        if path is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aiops-lab-"))
            path = Path(folder) / "shop.sqlite"
        store = stack.enter_context(SpanStore(path))
        truth = stack.enter_context(FaultLog(path))
        monitor = Monitor(store, knobs)
        if interval_s is not None:
            _compile()
        shop = Shop(topology, store, monitor, truth, seed)
        _open(shop, stack, seed, front)
        if interval_s is not None:
            stack.enter_context(stepping(shop.step, interval_s, knobs.grace_s))
        yield shop


def _open(shop: Shop, stack: ExitStack, seed: int, front: Front) -> None:
    """Start the servers; all ports first, because the services need the addresses of the others."""
    topology = shop.topology
    stopping = threading.Event()
    callers_first = dict.fromkeys(endpoint.service for endpoint in topology.callers_first())
    servers = {}
    sessions = stack.enter_context(ExitStack())
    for service in reversed(callers_first):  # callers are stopped before their callees
        slots = sum(endpoint.capacity for endpoint in topology.of(service))
        place = front if service == topology.front else Front()
        server = _server(place, slots + CONTROL_THREADS)
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
            for blueprint in _operating(shop, front, stopping):
                app.register_blueprint(blueprint)
        server.answer_with(instrument(app, shop.store, service=service))
    stack.callback(shop.injector.close)
    stack.callback(stopping.set)


def _server(place: Front, threads: int) -> _Server | ServerInTurn:
    if not can_start_threads():
        return ServerInTurn(place.port)
    return _Server(place.port, threads, place.host)


def _operating(shop: Shop, front: Front, stopping: threading.Event) -> Iterator[Blueprint]:
    """Yield the blueprints by which a shop is watched and broken."""
    access = front.access
    places = [each.place for each in shop.topology.endpoints]
    yield simulate(shop.injector, places, access)
    yield front_page()
    prometheus = metrics_page_or_hint(shop.monitor)
    guard(prometheus, access)
    json_errors(prometheus)
    yield prometheus
    yield aiops(shop.monitor, listeners=LISTENERS, stopping=stopping, **access._asdict())
    if front.receiver is not None:
        yield front.receiver(shop.store)


def _session(shop: Shop, service: str) -> Session:
    peers = {url: name for name, url in shop.urls.items()}
    session = Session(shop.store, service, peers=peers)
    session.trust_env = False  # no proxy between the services
    session.mount("http://", HTTPAdapter(pool_connections=16, pool_maxsize=1024))
    return session


@cache
def _compile() -> None:
    """Compile the analysis before the first request, which compiling would slow down."""
    traces = [_trace(n, failed=n >= 60) for n in range(90)]
    replay(to_frame(chain.from_iterable(traces)))


def _trace(n: int, failed: bool) -> list[Span]:
    """Return the n-th second's request of a made-up system: a calls b."""
    trace_id = f"{n:032x}"
    entry, call, callee = (f"{3 * n + k:016x}" for k in (1, 2, 3))
    duration_ns = 900_000_000 if failed else 90_000_000
    start_ns = 1_767_225_600_000_000_000 + n * 1_000_000_000  # from 2026 on
    outcome = (start_ns, duration_ns, 500 if failed else 200, None)
    return [
        Span(trace_id, entry, None, "a", "/a", "server", None, *outcome),
        Span(trace_id, call, entry, "a", "/b", "client", "b", *outcome),
        Span(trace_id, callee, call, "b", "/b", "server", None, *outcome),
    ]


class _Server(wsgi.Server):
    """cheroot, set up to start and stop promptly."""

    expiration_interval = 0.1  # also the longest that stopping waits for the accepting thread
    keep_alive_conn_limit: Any = None  # cheroot: no limit
    # far above the limits of aiops_lab.show.api, which answers with JSON
    max_request_header_size = 4_000_000
    max_request_body_size = 32_000_000

    def __init__(self, port: int, threads: int, host: str = HOST) -> None:
        super().__init__(
            (host, port), None, numthreads=threads, request_queue_size=1024, timeout=30
        )
        self._thread: threading.Thread | None = None
        self._keeping = threading.Lock()  # held while a connection is kept for its next request
        self._closing = False

    def open(self) -> str:
        """Take the port and return the URL."""
        check_free(self.bind_addr[1], self.bind_addr[0])
        self.prepare()
        host, port = self.bind_addr[:2]
        return f"http://{HOST if host == EVERY_ADDRESS else host}:{port}"

    def answer_with(self, app: object) -> None:
        """Answer requests with `app`."""
        self.wsgi_app = app
        self._thread = threading.Thread(
            target=self.serve, name=f"port {self.bind_addr[1]}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Wait for requests in progress, and free the port, the threads and the connections."""
        with self._keeping:
            self._closing = True
        self.stop()
        if self._thread is not None:
            self._thread.join()
        # cheroot stores the statistics of every server here, and with them a reference to it
        getattr(logging, "statistics", {}).pop(f"Cheroot HTTPServer {id(self)}", None)

    def put_conn(self, conn: Any) -> None:
        """Keep a connection for its next request; close it where the server is closing.

        cheroot alone would lose a connection that a thread puts back while others are closed.
        """
        with self._keeping:
            if not self._closing:
                super().put_conn(conn)
                return
        conn.close()

    def _serve_unservicable(self) -> None:
        """Do nothing: the queue is unbounded, and cheroot's thread would go on after `stop`."""

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        lifecycle_log.log(level, msg, exc_info=traceback)
