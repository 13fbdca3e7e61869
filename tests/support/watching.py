"""A monitor whose page and metrics are asked while /payment fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask
from flask.testing import FlaskClient

import aiops_lab as lab
from aiops_lab.show.api import aiops
from aiops_lab.show.prometheus import metrics_page
from tests.support.made import Shop, fault
from tests.test_monitor import at, fill


@contextmanager
def watching_payment() -> Iterator[tuple[lab.Monitor, FlaskClient]]:
    """Give a monitor, 40 s after /payment began to fail, and a client of its page and metrics."""
    with lab.SpanStore(":memory:") as store:
        fill(store, Shop(1, fault("/payment", 120, 180, status=500)).run(160))
        monitor = lab.Monitor(store)
        app = Flask(__name__, static_folder=None)
        app.register_blueprint(aiops(monitor, now=lambda: at(160)))
        app.register_blueprint(metrics_page(monitor, now=lambda: at(160)))
        yield monitor, app.test_client()
