"""Parcels: Flask with SQLAlchemy and requests, no line of it about tracing.

Where a parcel is, the carrier knows, another service. The fault: one of two statements is slow.
"""

from __future__ import annotations

import os
import time
from typing import Any

import requests
from flask import Flask
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool

from tests.apps.switch import fault

CARRIER = os.environ.get("CARRIER", "")


def wait_for_lock() -> int:
    time.sleep(1.0 if fault() == "slow" else 0.002)
    return 1


def create_app() -> Flask:
    app = Flask("parcels")
    engine = create_engine("sqlite://", poolclass=NullPool)

    @event.listens_for(engine, "connect")  # type: ignore[untyped-decorator]
    def prepare(connection: Any, _: object) -> None:
        connection.create_function("wait_for_lock", 0, wait_for_lock)
        connection.execute("CREATE TABLE parcels (id INTEGER, town TEXT)")

    @app.get("/parcels/<int:number>")
    def parcel(number: int) -> Any:
        with engine.connect() as connection:
            known = text("SELECT town FROM parcels WHERE id = :id")
            towns = connection.execute(known, {"id": number}).all()
            weight = text("SELECT wait_for_lock() * :id")
            connection.execute(weight, {"id": number}).all()
        return {"id": number, "towns": len(towns)}

    @app.get("/parcels/<int:number>/place")
    def place(number: int) -> Any:
        try:
            answer = requests.get(f"{CARRIER}/track/{number}", timeout=5)
            answer.raise_for_status()
        except requests.RequestException:
            return {"message": "the carrier does not say"}, 502
        return answer.json()

    return app
