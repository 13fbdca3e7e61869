"""What do the customers do? Traffic at a rate, whether the shop keeps up or not."""

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
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import pandas as pd

from aiops_lab.checks import FieldError, check_number
from shop.progress import Bar
from shop.topology import SEED_SHOP

if TYPE_CHECKING:
    from collections.abc import Iterable

MIX = {"/health": 0.1, "/inventory": 0.2, "/payment": 0.2, "/checkout": 0.5}

"""What customers of the seed's shop want; of any other shop, everything alike."""

IN_FLIGHT_MAX = 512

IDLE_MAX_S = 5.0

"""Connections idle for longer are not used again: the server may be closing them at this very
moment.
"""


class Destination(NamedTuple):
    """Where a request goes."""

    method: str
    host: str
    port: int
    route: str


class Target(Protocol):
    """Anything that says where its endpoints are, such as the running shop."""

    def places(self) -> Mapping[str, Destination]:
        """Return where each endpoint is, by its name."""


class CustomerAnswer(NamedTuple):
    """One request as its client saw it."""

    start: int
    client: int
    method: str
    endpoint: str
    status: int
    duration_ms: float
    trace_id: str | None
    error: str | None


class Arrival(NamedTuple):
    """One request to be made: when (s), by whom, and for what."""

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
    """Send traffic to a shop and return what its clients saw.

    The loop is open: a request starts at its time, however many are still waiting, so that a slow
    shop does not make its customers patient. The last answers may come up to `timeout_s` after the
    last request.

    Parameters
    ----------
    target : Target or str
        The running shop, or the URL of one that is served elsewhere.
    seconds, rate : float
        How long, and how many requests a second in all.
    clients : int
        How many customers; each has its own arrivals and connections, which the others do not
        change.
    mix : mapping, optional
        Share of each endpoint, in any unit: ``{"/checkout": 3, "/health": 1}``; default `MIX`.
    seed : int
        The same seed gives the same requests at the same times.
    progress : bool
        Show a bar on stderr.
    arrivals : str
        ``"poisson"``: as independent customers come; ``"paced"``: at equal distances.
    timeout_s : float
        Seconds after which a customer gives up; default 10, twice what the shop allows its own
        calls.
    stop : threading.Event, optional
        Set it in another thread and no further request is sent; default never.

    Returns
    -------
    DataFrame
        One row a request, by start: start (UTC), client, method, endpoint, status (0 = no answer),
        duration_ms, trace_id, error.

    Raises
    ------
    ValueError
        Names the parameter, the rule and the value.
    """
    check_number("seconds", seconds, 0.001, 1e7)
    places = _places(target)
    stream = _arrivals(places, rate, clients, mix, seed, arrivals)
    plan = list(takewhile(lambda arrival: arrival.at < seconds, stream))
    answers: list[CustomerAnswer] = []
    with (
        _Customers(places, timeout_s) as customers,
        Bar(plan, disable=not progress, unit="req") as bar,
    ):
        customers.send(bar, stop or threading.Event(), answers)
        customers.finish()
    return _frame(answers)


@contextmanager
def background(
    target: Target | str, rate: float, seed: int = 0, timeout_s: float = 10.0
) -> Iterator[None]:
    """Keep normal customers coming while the block runs."""
    places = _places(target)
    stream = _arrivals(places, rate, 4, None, seed, "poisson")
    stop = threading.Event()
    with _Customers(places, timeout_s) as customers:
        thread = threading.Thread(
            target=customers.send, args=(stream, stop, None), name="traffic", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _places(target: Target | str) -> Mapping[str, Destination]:
    if not isinstance(target, str):
        return target.places()
    return {e.route: place(e.method, target, e.route) for e in SEED_SHOP.endpoints}


def place(method: str, url: str, route: str) -> Destination:
    """Return where a route is, given the base URL of its service."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise FieldError(
            "target", "must be a running shop or a URL such as http://127.0.0.1:5000", url
        )
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
        mix = MIX if set(places) == set(MIX) else dict.fromkeys(places, 1.0)
    for name, share in mix.items():
        if name not in places:
            raise FieldError("mix", f"must name endpoints among {', '.join(places)}", name)
        check_number(f"mix[{name!r}]", share, 0, 1e9)
    if not any(mix.values()):
        raise FieldError("mix", "must have a share above 0", dict(mix))
    return heapq.merge(*(_customer(c, rate, clients, mix, seed, pattern) for c in range(clients)))


def _customer(
    client: int, rate: float, clients: int, mix: Mapping[str, float], seed: int, pattern: str
) -> Iterator[Arrival]:
    rng = random.Random(f"{seed}/{client}")
    names = list(mix)
    shares = list(mix.values())
    at = 0.0
    for n in count():
        at = (
            (client + n * clients) / rate
            if pattern == "paced"
            else at + rng.expovariate(rate / clients)
        )
        yield Arrival(at, client, rng.choices(names, shares)[0])


class _Customers:
    """Makes requests at their times, each in a thread of its own, over connections that are used
    again.
    """

    def __init__(self, places: Mapping[str, Destination], timeout_s: float) -> None:
        check_number("timeout_s", timeout_s, 0.001, 3600)
        self._places = places
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(IN_FLIGHT_MAX, "customer")
        self._pending: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._idle: dict[tuple[int, str, int], list[tuple[float, http.client.HTTPConnection]]] = {}
        self._busy: set[http.client.HTTPConnection] = set()

    def __enter__(self) -> _Customers:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up on everything that is still open: also after Ctrl-C nothing stays behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for connection in self._busy:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)
        self._pool.shutdown()
        for kept in self._idle.values():
            for _since, idle in kept:
                idle.close()

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
        """Wait until every request has its answer or was given up, and raise what went wrong in
        here.
        """
        for future in wait(list(self._pending)).done:
            future.result()

    def _ask(self, arrival: Arrival, answers: list[CustomerAnswer] | None) -> None:
        place = self._places[arrival.name]
        start = time.time_ns()
        begin = time.perf_counter()
        status, trace_id, error = self._answer(arrival.client, place)
        duration_ms = (time.perf_counter() - begin) * 1e3
        if answers is not None:
            seen = (status, duration_ms, trace_id, error)
            answers.append(CustomerAnswer(start, arrival.client, place.method, arrival.name, *seen))

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
            connection = self._kept(client, place)
            if connection is None:
                connection = http.client.HTTPConnection(
                    place.host, place.port, timeout=self._timeout_s
                )
            self._busy.add(connection)
        return connection

    def _kept(self, client: int, place: Destination) -> http.client.HTTPConnection | None:
        kept = self._idle.get((client, place.host, place.port), [])
        while kept:
            since, connection = kept.pop()
            if time.monotonic() - since < IDLE_MAX_S:
                return connection
            connection.close()
        return None

    def _give_back(
        self, client: int, place: Destination, connection: http.client.HTTPConnection, keep: bool
    ) -> None:
        with self._lock:
            self._busy.discard(connection)
            if keep:
                kept = self._idle.setdefault((client, place.host, place.port), [])
                kept.append((time.monotonic(), connection))
        if not keep:
            connection.close()


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
    frame["start"] = pd.to_datetime(frame["start"].astype("int64"), unit="ns", utc=True)
    return frame.astype({"client": "int64", "status": "int64", "duration_ms": "float64"})
