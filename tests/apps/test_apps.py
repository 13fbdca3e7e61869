"""Real applications, as their users wrote them, under gunicorn: each with one fault.

Their names, their incident and its cause have to be right, and no request may be lost.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import requests

from aiops_lab import Incident, Monitor, Sensitivity, SpanStore, replay
from tests.support.serving import wait_for
from tests.support.workers import Load, Visit, gunicorn

pytest.importorskip("gunicorn", reason="gunicorn is in the extra dev")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="gunicorn needs fork")

# A fault here adds half a second, or fails: what this machine adds by chance is not looked at.
SENSITIVITY = Sensitivity(window_s=1, min_count=10, min_ms=150, timeout_s=1.0, grace_s=1.5)


class App(NamedTuple):
    """An app, what is sent to it, and what has to be found."""

    name: str
    worker: str
    visits: list[Visit]
    endpoints: set[tuple[str, str]]
    fault: str
    kinds: tuple[str, ...]  # the type of the main anomaly is one of these
    cause: tuple[str, str]  # service and endpoint
    needs: tuple[str, ...] = ()
    sign_in: Visit | None = None


LIBRARY = [
    Visit("GET", "/api/v1/loans"),
    Visit("POST", "/api/v1/loans", json={"copy": 7}),
    Visit("GET", "/api/v1/loans/7"),
    Visit("DELETE", "/api/v1/loans/7"),
    Visit("GET", "/api/v1/members"),
    Visit("POST", "/api/v1/members"),
    Visit("GET", "/api/v1/members/ada"),
    Visit("GET", "/api/v1/members/bob"),
]
LIBRARY_ENDPOINTS = {
    ("GET", "/api/v1/loans"),
    ("POST", "/api/v1/loans"),
    ("GET", "/api/v1/loans/<int:number>"),
    ("DELETE", "/api/v1/loans/<int:number>"),
    ("GET", "/api/v1/members"),
    ("POST", "/api/v1/members"),
    ("GET", "/api/v1/members/<name>"),
}

PORTAL = [
    Visit("GET", "/"),
    Visit("GET", "/orders"),
    Visit("GET", "/v1/orders"),
    Visit("GET", "/v1/orders/17"),
    Visit("GET", "/v2/orders"),
    Visit("GET", "/v2/orders/18"),
    Visit("GET", "/v2/orders/19"),
    Visit("GET", "/v2/nothing"),
]
PORTAL_ENDPOINTS = {
    ("GET", "/"),
    ("GET", "/orders"),
    ("GET", "/v1/orders"),
    ("GET", "/v1/orders/<int:number>"),
    ("GET", "/v2/orders"),
    ("GET", "/v2/orders/<int:number>"),
    ("GET", "(unmatched)"),
}

TODO = App(
    name="todo",
    worker="sync --preload",
    visits=[
        Visit("GET", "/todos"),
        Visit("GET", "/todos/1"),
        Visit("POST", "/todos", json={"text": "read"}),
        Visit("POST", "/todos/2/done"),
        Visit("GET", "/todos/999999"),
        Visit("GET", "/todos/1", signed_in=False),
        Visit("POST", "/login", data={"name": "ada"}),
    ],
    endpoints={
        ("GET", "/todos"),
        ("POST", "/todos"),
        ("GET", "/todos/<int:number>"),
        ("POST", "/todos/<int:number>/done"),
        ("POST", "/login"),
    },
    fault="slow",
    kinds=("latency_anomaly",),
    cause=("todo", "/todos"),
    needs=("flask_sqlalchemy", "flask_login"),
    sign_in=Visit("POST", "/login", data={"name": "ada"}),
)
BOOKS = App(
    name="books",
    worker="gthread",
    visits=[
        Visit("GET", "/api/books"),
        Visit("POST", "/api/books", json={"title": "Another"}),
        Visit("POST", "/api/books", json={"title": "Volume 1"}),
        Visit("POST", "/api/books", json={"subject": "none"}),
        Visit("GET", "/api/books/1"),
        Visit("GET", "/api/books/99"),
        Visit("DELETE", "/api/books/1"),
        Visit("GET", "/api/authors/ada"),
    ],
    endpoints={
        ("GET", "/api/books"),
        ("POST", "/api/books"),
        ("GET", "/api/books/<int:number>"),
        ("DELETE", "/api/books/<int:number>"),
        ("GET", "/api/authors/<string:name>"),
    },
    fault="fail",
    kinds=("error_spike",),
    cause=("books", "POST /api/books"),
    needs=("flask_restx",),
)
TICKETS = App(
    name="tickets",
    worker="sync",
    visits=[
        Visit("GET", "/desk/tickets"),
        Visit("POST", "/desk/tickets", json={"subject": "smoke"}),
        Visit("POST", "/desk/tickets", json={}),
        Visit("GET", "/desk/tickets/1"),
        Visit("GET", "/desk/tickets/99"),
        Visit("PUT", "/desk/tickets/1", json={}),
        Visit("GET", "/desk/tickets/1/comments"),
    ],
    endpoints={
        ("GET", "/desk/tickets"),
        ("POST", "/desk/tickets"),
        ("GET", "/desk/tickets/<int:number>"),
        ("PUT", "/desk/tickets/<int:number>"),
        ("GET", "/desk/tickets/<int:number>/comments"),
    },
    fault="fail",
    kinds=("error_spike",),
    cause=("tickets", "/desk/tickets/<int:number>/comments"),
    needs=("flask_restful",),
)
ORDERS = App(
    name="orders",
    worker="gthread",
    visits=[
        Visit("GET", "/orders"),
        Visit("POST", "/orders/apple"),
        Visit("POST", "/orders/pear"),
        Visit("POST", "/orders/stone"),
    ],
    endpoints={
        ("GET", "/orders"),
        ("POST", "/orders/<fruit>"),
        ("GET", "/prices/<fruit>"),
        ("POST", "/statistics"),
    },
    fault="slow",
    kinds=("latency_anomaly",),
    cause=("prices", "/prices/<fruit>"),
)
APPS = [
    TODO,
    BOOKS,
    TICKETS,
    App(
        name="portal",
        worker="gevent",
        visits=PORTAL,
        endpoints=PORTAL_ENDPOINTS,
        fault="slow",
        kinds=("latency_anomaly",),
        cause=("portal", "/v2/orders/<int:number>"),
        needs=("gevent",),
    ),
    App(
        name="whole_portal",
        worker="gthread --preload",
        visits=PORTAL,
        endpoints={
            (method, route.replace("<int:number>", "<id>")) for method, route in PORTAL_ENDPOINTS
        },
        fault="slow",
        kinds=("latency_anomaly",),
        cause=("portal", "/v2/orders/<id>"),
    ),
    App(
        name="library",
        worker="gevent --preload",
        visits=LIBRARY,
        endpoints=LIBRARY_ENDPOINTS,
        fault="hang",
        kinds=("timeout",),
        cause=("library", "/api/v1/loans/<int:number>"),
        needs=("gevent",),
    ),
    ORDERS,
]

FAST = App(
    name="library",
    worker="sync --preload",
    visits=[*LIBRARY, *LIBRARY[:2], LIBRARY[1]],
    endpoints=LIBRARY_ENDPOINTS,
    fault="fail",
    kinds=("error_spike",),
    cause=("library", "POST /api/v1/loans"),
)


@pytest.mark.apps
@pytest.mark.parametrize("app", APPS, ids=lambda app: f"{app.name}, {app.worker}")
def test_an_app_with_a_fault_is_one_incident_with_its_cause(app, tmp_path):
    for package in app.needs:
        pytest.importorskip(package, reason=f"{package} is in the extra dev")
    must_be_found(app, tmp_path, normal_s=40, fault_s=20)


def test_class_views_in_nested_blueprints_and_a_method_that_fails(tmp_path):
    must_be_found(FAST, tmp_path, normal_s=6, fault_s=3)


@pytest.mark.apps
def test_a_service_that_is_gone_is_the_cause_of_the_failures_of_its_callers(tmp_path):
    app = ORDERS._replace(kinds=("error_spike", "traffic_drop"))  # both are true
    environment = environment_of(tmp_path)
    with (
        SpanStore(tmp_path / "spans.sqlite") as store,
        ExitStack() as prices,
        Watch(store) as watch,
    ):
        server = gunicorn("prices", tmp_path / "prices.log", environment)
        environment["PRICES"] = prices.enter_context(server)
        with gunicorn("orders", tmp_path / "app.log", environment, "--threads=4") as url:
            load = Load(url)
            load.run(app.visits, 20)
            prices.close()
            load.run(app.visits, 10)
            watch.wait()
        spans = store.spans()
    assert load.failures > 0
    incident_must_be_right(app, list(watch.found.values()))
    incident_must_be_right(app, replay(spans, SENSITIVITY).incidents)


@pytest.mark.apps
def test_all_workers_say_the_same_of_an_incident(tmp_path):
    app = FAST._replace(name="watched_library", worker="sync --preload")
    with served(app, tmp_path) as url:
        load = Load(url)
        load.run(app.visits, 8)
        (tmp_path / "fault").write_text(app.fault)
        load.run(app.visits, 4)
        wait_for(lambda: ask("POST", f"{url}/aiops/analyze")["active_incidents"], 30)
        (tmp_path / "fault").unlink()
        (said,) = set(map(str, ask_all_workers(f"{url}/aiops/incidents")))
        (incident,) = ask("GET", f"{url}/aiops/incidents")["active_incidents"]
        ask("POST", f"{url}/aiops/incidents/{incident['id']}/resolve")
        rest = ask_all_workers(f"{url}/aiops/incidents")
    assert "POST /api/v1/loans" in said
    assert [answer["active_incidents"] for answer in rest] == [[]] * len(rest)


def ask(method: str, url: str) -> dict[str, Any]:
    """Return the answer to a request, on a connection of its own so that any worker may give it."""
    response = requests.request(method, url, timeout=30)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer | {"timestamp": None}


def ask_all_workers(url: str) -> list[dict[str, Any]]:
    """Return the answers to many requests at once: more than one worker can answer."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(partial(ask, "GET"), [url] * 100))


def must_be_found(app: App, folder: Path, normal_s: float, fault_s: float) -> None:
    """Serve an app, send it requests, let it break, and compare what is found with its truth."""
    with SpanStore(folder / "spans.sqlite") as store:
        with served(app, folder) as url:
            load = Load(url)
            if app.sign_in is not None:
                load.sign_in(app.sign_in)
            for visit in app.visits:
                load.send(visit)  # one by one: the method that is seen first names its route
            # the order of writing is another one: the monitor first sees all of these at once
            wait_for(lambda: len(sent_requests(store.spans())) == load.sent, 30)
            with Watch(store) as watch:
                load.run(app.visits, normal_s)
                assert load.failures == 0
                (folder / "fault").write_text(app.fault)
                load.run(app.visits, fault_s)
                (folder / "fault").unlink()
                watch.wait()
        store.flush()
        spans = store.spans()
    names_must_be_right(app, spans, load)
    assert (load.failures > 0) == (app.fault == "fail")
    incident_must_be_right(app, list(watch.found.values()))
    incident_must_be_right(app, replay(spans, SENSITIVITY).incidents)
    for log in folder.glob("*.log"):
        must_be_quiet(log.read_text("utf-8"))


class Watch:
    """A monitor beside the app, in a thread of its own, and the incidents that it reports."""

    def __init__(self, store: SpanStore, sensitivity: Sensitivity = SENSITIVITY) -> None:
        self.found: dict[str, Incident] = {}
        self._monitor = Monitor(store, sensitivity)
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Watch:
        self._run = self._pool.submit(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        self._run.result()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            for incident in self._monitor.step(pd.Timestamp.now("UTC")):
                self.found[incident.id] = incident

    def wait(self) -> None:
        """Return when all that has happened is judged."""
        now = pd.Timestamp.now("UTC")

        def is_judged() -> bool:
            assert not self._run.done()
            judged = self._monitor.judged_until
            return judged is not None and judged > now

        wait_for(is_judged, 60)


def environment_of(folder: Path) -> dict[str, str]:
    """Return what an app reads from its environment."""
    return {"DATA": str(folder), "SPANS": str(folder / "spans.sqlite")}


@contextmanager
def served(app: App, folder: Path) -> Iterator[str]:
    """Yield the base url of an app; orders have their prices beside them."""
    environment = environment_of(folder)
    with ExitStack() as servers:
        if app.name == "orders":
            prices = gunicorn("prices", folder / "prices.log", environment, "--worker-class=sync")
            environment |= {"PRICES": servers.enter_context(prices)}
        worker, *rest = app.worker.split()
        options = [f"--worker-class={worker}", *rest]
        if worker == "gthread":
            options.append("--threads=4")
        server = gunicorn(app.name, folder / "app.log", environment, *options)
        yield servers.enter_context(server)


def sent_requests(spans: pd.DataFrame) -> pd.DataFrame:
    """Return the requests that came from outside."""
    return spans[(spans["kind"] == "server") & spans["parent_id"].isna()]


def names_must_be_right(app: App, spans: pd.DataFrame, load: Load) -> None:
    """Compare the endpoints of all requests, and count: nothing lost, doubled or left open."""
    requests = spans[spans["kind"] == "server"]
    names = zip(requests["method"], requests["endpoint"], strict=True)
    assert set(names) == app.endpoints
    assert requests["duration_ms"].notna().all()
    assert spans["span_id"].is_unique
    sent = len(sent_requests(spans))
    assert sent == load.sent
    called = len(requests) - sent
    assert called == (spans["kind"] == "client").sum()


def incident_must_be_right(app: App, incidents: list[Incident]) -> None:
    """Expect one incident, of the right type and with the right cause."""
    assert len(incidents) == 1, incidents
    (incident,) = incidents
    assert incident.root_cause is not None
    assert incident.root_cause.key == app.cause
    assert incident.main_anomaly.type in app.kinds


def must_be_quiet(log: str) -> None:
    """Expect no complaint of gunicorn or of this package; Flask tells of views that failed."""
    complaints = [line for line in log.splitlines() if "[ERROR]" in line or "WARN" in line]
    assert complaints == []
