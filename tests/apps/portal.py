"""A site with two versions of one API, three Flask apps under DispatcherMiddleware.

The fault: orders of the second version take half a second.
"""

from __future__ import annotations

import time
from typing import Any

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.apps.switch import fault


def create_apps() -> dict[str, Flask]:
    return {"": _site(), "/v1": _api("v1"), "/v2": _api("v2", can_break=True)}


def mount(apps: dict[str, Flask]) -> Any:
    below = {path: app for path, app in apps.items() if path}
    return DispatcherMiddleware(apps[""], below)


def _site() -> Flask:
    site = Flask("site")
    site.add_url_rule("/", "home", lambda: "welcome")
    site.add_url_rule("/orders", "orders", lambda: "see /v2/orders")
    return site


def _api(version: str, can_break: bool = False) -> Flask:
    app = Flask(version)

    @app.get("/orders")
    def orders() -> Any:
        return [1, 2, 3]

    @app.get("/orders/<int:number>")
    def order(number: int) -> Any:
        if can_break and fault() == "slow":
            time.sleep(0.5)
        return {"id": number, "version": version}

    @app.errorhandler(404)
    def missing(error: Exception) -> Any:
        return {"message": str(error)}, 404

    return app
