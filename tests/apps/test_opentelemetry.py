"""Services with the real SDKs of OpenTelemetry, unchanged, watched over OTLP while they break.

None of their lines knows of tracing: ``opentelemetry-instrument`` and its counterpart of Node start
them. Each has a database, and a third party that nobody traces.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from flask import Flask

from aiops_lab import Incident, Sensitivity, SpanStore, replay, service_graph
from aiops_lab.show.otlp import otlp_receiver
from aiops_lab.spans import Key
from tests.apps.test_apps import Watch
from tests.support.parcels import (
    Carrier,
    installed_node_app,
    installed_python,
    instrumented,
    postgres,
    service,
)
from tests.support.serving import serving
from tests.support.workers import Load, Visit

pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is in the extra dev")
pytestmark = [
    pytest.mark.apps,
    pytest.mark.skipif(os.name != "posix", reason="these processes are ended by signals"),
]

# A fault adds a second, or fails. Spans come half a second after their end, or later if it is busy.
SENSITIVITY = Sensitivity(window_s=2, min_count=10, min_ms=500, timeout_s=20, grace_s=6)

CALM_S, TROUBLE_S = 36, 14
RATE = 12.0  # requests/s

VISITS = [
    Visit("GET", "/parcels/7"),
    Visit("GET", "/parcels/8/place"),
    Visit("GET", "/parcels/9"),
]


class Kind(NamedTuple):
    """A service of some making: how its slow statement and the route of its parcels are called."""

    statement: str
    route: str
    words: tuple[str, ...] = ()  # what starts it in Python


SLOW = "SELECT wait_for_lock() * ?"
FLASK = Kind(
    SLOW,
    "/parcels/<int:number>",
    ("flask", "--app", "tests.apps.parcels_flask:create_app", "run", "--port", "0"),
)
FASTAPI = Kind(
    SLOW,
    "/parcels/{number}",
    ("uvicorn", "tests.apps.parcels_fastapi:app", "--port", "0", "--no-access-log"),
)
NODE = Kind("SELECT id, pg_sleep(?) FROM parcels WHERE id = ?", "/parcels/:number")


class Lab(NamedTuple):
    """A store, the url of its receiver, and a monitor."""

    store: SpanStore
    receiver: str
    watch: Watch

    def incidents(
        self, url: str, break_it: Callable[[], object]
    ) -> tuple[list[Incident], pd.DataFrame]:
        """Send requests, calm and then in trouble; return what the monitor says, and the spans."""
        load = Load(url, RATE, patience_s=20)
        load.run(VISITS, CALM_S)
        assert load.failures == 0
        break_it()
        load.run(VISITS, TROUBLE_S)
        self.watch.wait()
        return list(self.watch.found.values()), self.store.spans()


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    app = Flask("receiver")
    with SpanStore(folder / "spans.sqlite") as store:
        app.register_blueprint(otlp_receiver(store))
        with serving(app) as receiver, Watch(store, SENSITIVITY) as watch:
            yield Lab(store, receiver, watch)


def watch_it_break(
    kind: Kind, command: list[str], folder: Path, fault: str, database: str = "sqlite"
) -> None:
    """Serve parcels, let them or their carrier break, and compare the cause that is found."""
    with lab(folder) as here, Carrier() as carrier:
        environment = {"CARRIER": f"http://{carrier.address}", "DATABASE": database}
        with service("parcels", command, folder, here.receiver, **environment) as url:
            break_it = partial(breaking, fault, carrier, folder)
            found, spans = here.incidents(url, break_it)
    slow = database.rpartition("@")[2].partition("/")[0], kind.statement
    cause = slow if fault == "slow" else (carrier.address, "/track/<id>")
    for incidents in (found, replay(spans, SENSITIVITY).incidents):
        must_be_one(incidents, cause, "latency_anomaly" if fault == "slow" else "error_spike")
    assert kind.route in {*spans.loc[spans["kind"] == "server", "endpoint"]}


def must_be_one(incidents: list[Incident], cause: Key, *kinds: str) -> None:
    """Expect one incident, of a right type and with the right cause."""
    (incident,) = incidents
    assert incident.root_cause is not None
    assert incident.root_cause.key == cause
    assert incident.main_anomaly.type in kinds


def breaking(fault: str, carrier: Carrier, folder: Path) -> None:
    """Let a statement become slow, or the carrier answer 500 or not at all."""
    if fault == "slow":
        (folder / "fault").write_text("slow")
    elif fault == "fail":
        carrier.fails.set()
    else:
        carrier.leave()


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return installed_python(tmp_path_factory.mktemp("python"))


@pytest.mark.parametrize("fault", ["slow", "fail"])
def test_flask_with_sqlalchemy(fault, programs, tmp_path):
    watch_it_break(FLASK, instrumented(programs, *FLASK.words), tmp_path, fault)


@pytest.mark.parametrize("fault", ["slow", "refuse"])
def test_fastapi_with_sqlite(fault, programs, tmp_path):
    watch_it_break(FASTAPI, instrumented(programs, *FASTAPI.words), tmp_path, fault)


@pytest.fixture(scope="module")
def node_app(tmp_path_factory):
    return installed_node_app(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def database():
    with postgres() as url:
        yield url


@pytest.mark.parametrize("fault", ["slow", "fail"])
def test_node_with_postgresql(fault, node_app, database, tmp_path):
    watch_it_break(NODE, node_app, tmp_path, fault, database)


def test_a_traced_service_is_called_by_its_name_and_so_when_it_is_gone(programs, tmp_path):
    """Each process sends its own spans, so that none of them names the service that is called."""
    with lab(tmp_path) as here, ExitStack() as carrier:
        command = instrumented(programs, *FASTAPI.words)
        traced = service("carrier", command, tmp_path, here.receiver)
        environment = {"CARRIER": carrier.enter_context(traced)}
        command = instrumented(programs, *FLASK.words)
        with service("parcels", command, tmp_path, here.receiver, **environment) as url:
            found, spans = here.incidents(url, carrier.close)
    address = environment["CARRIER"].removeprefix("http://")
    assert address in {*spans["peer"]}
    calls = service_graph(spans, by="service")
    assert {*calls["callee"]} == {"carrier", "sqlite"}
    for incidents in (found, replay(spans, SENSITIVITY).incidents):
        must_be_one(incidents, ("carrier", "/track/{number}"), "error_spike", "traffic_drop")
