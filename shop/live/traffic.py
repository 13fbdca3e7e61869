"""The customers of the shop: requests at a given rate, however slow the answers are."""

from __future__ import annotations

import heapq
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import pandas as pd
import requests

from aiops_lab.background import in_background
from aiops_lab.checks import FieldError, check_number
from aiops_lab.progress import Bar
from shop.live.in_turn import can_start_threads
from shop.topology import SEED_SHOP

if TYPE_CHECKING:
    from collections.abc import Iterable

MIX = {"/health": 0.1, "/inventory": 0.2, "/payment": 0.2, "/checkout": 0.5}

"""Share of each endpoint in the traffic of the seed's shop; other shops have equal shares."""

IN_FLIGHT_MAX = 512

"""Most requests in progress at once."""

UNUSED_MAX_S = 5.0

"""A connection that was unused for longer is not used again: the server may be closing it."""


class Destination(NamedTuple):
    """The destination of a request."""

    method: str
    host: str
    port: int
    route: str


class Target(Protocol):
    """An object that knows the addresses of its endpoints, such as the running shop."""

    def places(self) -> Mapping[str, Destination]:
        """Return the destination of each endpoint, by its name."""


class CustomerAnswer(NamedTuple):
    """One request and its answer, as the client sees them."""

    start: int
    client: int
    method: str
    endpoint: str
    status: int
    duration_ms: float
    trace_id: str | None
    error: str | None


class Arrival(NamedTuple):
    """One request to be made: time (s), client and name of the endpoint."""

    at: float
    client: int
    name: str


def drive(
    target: Target | str,
    seconds: float,
    rate: float,
    clients: int = 4,
    mix: Mapping[str, float] | None = None,
    seed: int = 0,
    *,
    progress: bool = True,
    arrivals: str = "poisson",
    timeout_s: float = 10.0,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """Send traffic to a shop and return the answers.

    The loop is open: a request starts at its time, however many others are in progress, so that a
    slow shop does not reduce the traffic. The last answers may arrive up to `timeout_s` after the
    last request.

    Parameters
    ----------
    target : Target or str
        The running shop, or the URL of one that is served elsewhere.
    seconds, rate : float
        Length of the traffic, and requests per second of all clients together.
    clients : int
        Number of customers, default 4; each has arrivals and connections independent of the others.
    mix : mapping, optional
        Share of each endpoint, in any unit: ``{"/checkout": 3, "/health": 1}``; default `MIX`.
    seed : int
        The same seed gives the same requests at the same times.
    progress : bool
        Whether to show a bar on stderr.
    arrivals : str
        ``"poisson"`` (default): as of independent customers; ``"paced"``: at equal distances.
    timeout_s : float
        Seconds after which a customer gives up; default 10, twice what the shop allows its own
        calls.
    stop : threading.Event, optional
        When another thread sets it, no further request is sent.

    Returns
    -------
    DataFrame
        One row a request, by start: start (UTC), client, method, endpoint, status (0 = no answer),
        duration_ms, trace_id, error.

    Raises
    ------
    ValueError
        A parameter breaks its rule.
    """
    check_number("seconds", seconds, 0.001, 1e7)
    places = _places(target)
    stream = _arrivals(places, rate, clients, mix, seed, arrivals)
    plan = list(takewhile(lambda arrival: arrival.at < seconds, stream))
    answers: list[CustomerAnswer] = []
    with (
        _customers(places, timeout_s) as customers,
        Bar(plan, disable=not progress, unit="req") as bar,
    ):
        customers.send(bar, stop or threading.Event(), answers)
        customers.finish()
    return _frame(answers)


@contextmanager
def background(
    target: Target | str, rate: float, seed: int = 0, timeout_s: float = 10.0
) -> Iterator[None]:
    """Send normal traffic while the block runs."""
    places = _places(target)
    stream = _arrivals(places, rate, 4, None, seed, "poisson")
    with _Customers(places, timeout_s) as customers:
        send = partial(customers.send, stream, answers=None)
        with in_background("traffic", send):
            yield


def _places(target: Target | str) -> Mapping[str, Destination]:
    if not isinstance(target, str):
        return target.places()
    return {e.route: place(e.method, target, e.route) for e in SEED_SHOP.endpoints}


def place(method: str, url: str, route: str) -> Destination:
    """Return the destination of a route, given the base URL of its service."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        rule = "must be a running shop or a URL such as http://127.0.0.1:5000"
        raise FieldError("target", rule, url)
    return Destination(method, parts.hostname, parts.port or 80, route)


def _arrivals(
    places: Mapping[str, Destination],
    rate: float,
    clients: int,
    mix: Mapping[str, float] | None,
    seed: int,
    pattern: str,
) -> Iterator[Arrival]:
    check_number("rate", rate, 0.001, 1e5)
    check_number("clients", clients, 1, 1000)
    if pattern not in ("poisson", "paced"):
        raise FieldError("arrivals", "must be one of poisson, paced", pattern)
    if mix is None:
        is_seed_shop = set(places) == set(MIX)
        mix = MIX if is_seed_shop else dict.fromkeys(places, 1.0)
    for name, share in mix.items():
        if name not in places:
            raise FieldError("mix", f"must name endpoints among {', '.join(places)}", name)
        check_number(f"mix[{name!r}]", share, 0, 1e9)
    if not any(mix.values()):
        raise FieldError("mix", "must have a share above 0", dict(mix))
    customers = [_customer(c, rate, clients, mix, seed, pattern) for c in range(clients)]
    return heapq.merge(*customers)


def _customer(
    client: int, rate: float, clients: int, mix: Mapping[str, float], seed: int, pattern: str
) -> Iterator[Arrival]:
    rng = random.Random(f"{seed}/{client}")
    names = list(mix)
    shares = list(mix.values())
    at = 0.0
    for n in count():
        if pattern == "paced":
            at = (client + n * clients) / rate
        else:
            at += rng.expovariate(rate / clients)
        name = rng.choices(names, shares)[0]
        yield Arrival(at, client, name)


class _Customers:
    """Makes requests at their times, in threads, over connections that are reused."""

    def __init__(self, places: Mapping[str, Destination], timeout_s: float) -> None:
        check_number("timeout_s", timeout_s, 0.001, 3600)
        self._places = places
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(IN_FLIGHT_MAX, "customer")
        self._pending: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._reusable: dict[
            tuple[int, str, int], list[tuple[float, http.client.HTTPConnection]]
        ] = {}
        self._busy: set[http.client.HTTPConnection] = set()

    def __enter__(self) -> _Customers:
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections, also after Ctrl-C."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for connection in self._busy:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)
        self._pool.shutdown()
        for connections in self._reusable.values():
            for _since, connection in connections:
                connection.close()

    def send(
        self,
        arrivals: Iterable[Arrival],
        stop: threading.Event,
        answers: list[CustomerAnswer] | None,
    ) -> None:
        """Start each request at its time, until `stop` is set."""
        begin = time.perf_counter()
        for arrival in arrivals:
            pause = begin + arrival.at - time.perf_counter()
            if stop.wait(pause) if pause > 0 else stop.is_set():
                return
            future = self._pool.submit(self._ask, arrival, answers)
            self._pending.add(future)
            future.add_done_callback(self._pending.discard)

    def finish(self) -> None:
        """Wait until every request has been answered or given up; raise errors of the threads."""
        for future in wait(list(self._pending)).done:
            future.result()

    def _ask(self, arrival: Arrival, answers: list[CustomerAnswer] | None) -> None:
        place = self._places[arrival.name]
        start = time.time_ns()
        begin = time.perf_counter()
        status, trace_id, error = self._answer(arrival.client, place)
        duration_ms = (time.perf_counter() - begin) * 1e3
        if answers is not None:
            answer = CustomerAnswer(
                start=start,
                client=arrival.client,
                method=place.method,
                endpoint=arrival.name,
                status=status,
                duration_ms=duration_ms,
                trace_id=trace_id,
                error=error,
            )
            answers.append(answer)

    def _answer(self, client: int, place: Destination) -> tuple[int, str | None, str | None]:
        connection = self._connection(client, place)
        try:
            connection.request(place.method, place.route, headers={"Content-Length": "0"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._give_back(client, place, connection, keep=False)
            return 0, None, f"{type(error).__name__}: {error}"
        self._give_back(client, place, connection, keep=not answer.will_close)
        error_text = _error_of(body) if answer.status >= 400 else None
        return answer.status, answer.headers.get("X-Trace-Id"), error_text

    def _connection(self, client: int, place: Destination) -> http.client.HTTPConnection:
        with self._lock:
            connection = self._unused(client, place)
            if connection is None:
                connection = http.client.HTTPConnection(
                    place.host, place.port, timeout=self._timeout_s
                )
            self._busy.add(connection)
        return connection

    def _unused(self, client: int, place: Destination) -> http.client.HTTPConnection | None:
        """Return an open connection of this client that is not in use, if there is one."""
        unused = self._reusable.get((client, place.host, place.port), [])
        while unused:
            since, connection = unused.pop()
            if time.monotonic() - since < UNUSED_MAX_S:
                return connection
            connection.close()
        return None

    def _give_back(
        self, client: int, place: Destination, connection: http.client.HTTPConnection, keep: bool
    ) -> None:
        with self._lock:
            self._busy.discard(connection)
            if keep:
                unused = self._reusable.setdefault((client, place.host, place.port), [])
                unused.append((time.monotonic(), connection))
        if not keep:
            connection.close()


class _CustomersInTurn(_Customers):
    """Makes each request at its time, or after the one before where that took longer.

    For a Python without threads; nobody gives up.
    """

    def send(
        self,
        arrivals: Iterable[Arrival],
        stop: threading.Event,
        answers: list[CustomerAnswer] | None,
    ) -> None:
        begin = time.perf_counter()
        for arrival in arrivals:
            pause = begin + arrival.at - time.perf_counter()
            time.sleep(max(0.0, pause))
            self._ask(arrival, answers)

    def _answer(self, client: int, place: Destination) -> tuple[int, str | None, str | None]:
        url = f"http://{place.host}:{place.port}{place.route}"
        answer = requests.request(place.method, url)
        error_text = _error_of(answer.content) if answer.status_code >= 400 else None
        return answer.status_code, answer.headers.get("X-Trace-Id"), error_text


def _customers(places: Mapping[str, Destination], timeout_s: float) -> _Customers:
    return (_Customers if can_start_threads() else _CustomersInTurn)(places, timeout_s)


def _error_of(body: bytes) -> str | None:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:80].decode(errors="replace") or None


def _frame(answers: list[CustomerAnswer]) -> pd.DataFrame:
    columns: dict[str, Any] = {name: [] for name in CustomerAnswer._fields}
    for answer in sorted(answers, key=lambda a: (a.start, a.client)):
        for name, value in zip(CustomerAnswer._fields, answer, strict=True):
            columns[name].append(value)
    frame = pd.DataFrame(
        {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    )
    start_ns = frame["start"].astype("int64")
    frame["start"] = pd.to_datetime(start_ns, unit="ns", utc=True)
    return frame.astype({"client": "int64", "status": "int64", "duration_ms": "float64"})
