"""The shop as gunicorn loads it, its own work next to nothing, so that requests are what costs."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import flask
import requests

from aiops_lab import Session, SpanStore, instrument
from shop.live.services import build
from shop.topology import SEED_SHOP, Topology

SLOW_S = 0.15  # how long /payment takes more while it is broken
WORK_MS = 0.01


def shop_app() -> flask.Flask:
    """Return the seed's shop as one service, whose calls go through gunicorn again.

    Environment: SHOP_URL, where it is served; SPANS, the store (without it nothing is recorded);
    BROKEN, a file that makes /payment slow while it is there.
    """
    store = SpanStore(os.environ["SPANS"]) if "SPANS" in os.environ else None
    session = requests.Session() if store is None else Session(store, service="shop")
    urls = {"shop": os.environ["SHOP_URL"]}
    app = build(_shop(), "shop", session=session, urls=urls, stopping=threading.Event())
    broken = Path(os.environ.get("BROKEN", "no such file"))

    @app.before_request
    def wait() -> None:
        if flask.request.path == "/payment" and broken.exists():
            time.sleep(SLOW_S)

    return app if store is None else instrument(app, store, service="shop")


def _shop() -> Topology:
    shop = SEED_SHOP.as_one()
    quick = [replace(endpoint, median_ms=WORK_MS) for endpoint in shop.endpoints]
    return replace(shop, endpoints=tuple(quick))
