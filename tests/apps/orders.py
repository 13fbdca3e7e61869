"""Orders and prices, two services: an order asks for its prices.

The fault: one of the answers of the price list takes half a second.
"""

from __future__ import annotations

import time
from typing import Any

import requests
from flask import Flask, abort

from tests.apps.switch import fault

PRICES = {"apple": 1.2, "pear": 0.8}


def create_orders(http: requests.Session, prices: str) -> Flask:
    app = Flask("orders")

    @app.get("/orders")
    def all_orders() -> Any:
        return [1, 2, 3]

    @app.post("/orders/<fruit>")
    def order(fruit: str) -> Any:
        answer = http.get(f"{prices}/prices/{fruit}", timeout=5)
        if answer.status_code == 404:
            abort(404)
        answer.raise_for_status()
        http.post(f"{prices}/statistics", json={"sold": fruit}, timeout=5)
        return answer.json(), 201

    return app


def create_prices() -> Flask:
    app = Flask("prices")

    @app.get("/prices/<fruit>")
    def price(fruit: str) -> Any:
        if fault() == "slow":
            time.sleep(0.5)
        return {"price": PRICES[fruit]} if fruit in PRICES else abort(404)

    @app.post("/statistics")
    def statistics() -> Any:
        return "", 204

    return app
