"""A real OpenTelemetry SDK in a process of its own, unchanged: its slow statement is the cause."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from flask import Flask

from aiops_lab import Sensitivity, SpanStore, replay
from aiops_lab.show.otlp import otlp_receiver
from tests.support.serving import serving, wait_for

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
pytest.importorskip("opentelemetry.instrumentation.flask")
pytest.importorskip("opentelemetry.instrumentation.sqlite3")

SERVICE = Path(__file__).parents[1] / "support" / "otel_orders.py"
STATEMENT = "SELECT lock_wait() + ?"

CALM_S, TROUBLE_S = 12.0, 5.0
RATE = 25.0  # requests/s


@contextmanager
def orders(receiver: str, slow: Path) -> Iterator[str]:
    """Yield the url of the service, which sends its traces to `receiver`."""
    environment = os.environ | {
        "OTEL_SERVICE_NAME": "orders",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver,
        "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20secret",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    command = [sys.executable, str(SERVICE), str(slow)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def send(url: str, seconds: float) -> None:
    """Send requests at an even pace."""
    pause = threading.Event()
    end = time.monotonic() + seconds
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < end:
            session.get(f"{url}/orders/17", timeout=10).raise_for_status()
            pause.wait(1 / RATE)


def test_a_slow_statement_of_a_service_with_opentelemetry_is_the_cause(tmp_path):
    slow = tmp_path / "slow"
    app = Flask("receiver")
    with SpanStore(":memory:") as store:
        app.register_blueprint(otlp_receiver(store, token="secret"))
        with serving(app) as receiver, orders(receiver, slow) as url:
            send(url, CALM_S)
            slow.touch()
            send(url, TROUBLE_S)
            sent = time.time()
            # an exporter sends in the background: wait for a request that began after all others
            requests.get(f"{url}/health", timeout=10)
            wait_for(lambda: _has_health(store), 20)
        spans = store.spans()
    assert {*spans["service"]} == {"orders"}
    assert spans["start"].max().timestamp() >= sent
    assert {"/orders/<int:number>", STATEMENT} <= {*spans["endpoint"]}
    (incident,) = replay(spans, Sensitivity(window_s=1, min_count=10)).incidents
    assert incident.root_cause.endpoint == STATEMENT
    assert incident.root_cause.service == "sqlite"
    assert "/orders/<int:number>" in incident.affected_endpoints


def _has_health(store: SpanStore) -> bool:
    store.flush()
    return (store.spans()["endpoint"] == "/health").any()
