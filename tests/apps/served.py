"""What gunicorn loads: each app as it is, and the line that instruments it."""

from __future__ import annotations

import os
from typing import Any

from aiops_lab import Monitor, Sensitivity, Session, SpanStore, instrument


def _store() -> SpanStore:
    return SpanStore(os.environ["SPANS"])


def todo() -> Any:
    from tests.apps.todo import create_app

    return instrument(create_app(), _store(), service="todo")


def books() -> Any:
    from tests.apps.books import create_app

    return instrument(create_app(), _store(), service="books")


def tickets() -> Any:
    from tests.apps.tickets import create_app

    return instrument(create_app(), _store(), service="tickets")


def library() -> Any:
    from tests.apps.library import create_app

    return instrument(create_app(), _store(), service="library")


def watched_library() -> Any:
    """Return the library with a monitor in each worker, and its pages."""
    from aiops_lab.show.api import aiops
    from tests.apps.library import create_app

    app = create_app()
    store = _store()
    app.register_blueprint(aiops(Monitor(store, Sensitivity(window_s=1, min_count=10))))
    return instrument(app, store, service="library")


def portal() -> Any:
    """Return the portal with each of its apps instrumented."""
    from tests.apps.portal import create_apps, mount

    store = _store()
    apps = create_apps()
    for app in apps.values():
        instrument(app, store, service="portal")
    return mount(apps)


def whole_portal() -> Any:
    """Return the portal instrumented as one WSGI callable."""
    from tests.apps.portal import create_apps, mount

    return instrument(mount(create_apps()), _store(), service="portal")


def orders() -> Any:
    from tests.apps.orders import create_orders

    store = _store()
    prices = os.environ["PRICES"]
    http = Session(store, "orders", peers={prices: "prices"})
    return instrument(create_orders(http, prices), store, service="orders")


def prices() -> Any:
    from tests.apps.orders import create_prices

    return instrument(create_prices(), _store(), service="prices")
