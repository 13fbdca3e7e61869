"""Parcels: FastAPI with sqlite3 and httpx, no line of it about tracing.

As `tests.apps.parcels_flask`; and it can be the carrier itself. The faults are the same.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any

import httpx
from fastapi import FastAPI, HTTPException

from tests.apps.switch import fault

CARRIER = os.environ.get("CARRIER", "")

app = FastAPI()
client = httpx.AsyncClient(timeout=5)


def wait_for_lock() -> int:
    time.sleep(1.0 if fault() == "slow" else 0.002)
    return 1


def connected() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.create_function("wait_for_lock", 0, wait_for_lock)
    connection.cursor().execute("CREATE TABLE parcels (id INTEGER, town TEXT)")
    return connection


@app.get("/parcels/{number}")
def parcel(number: int) -> Any:
    cursor = connected().cursor()
    towns = cursor.execute("SELECT town FROM parcels WHERE id = ?", (number,)).fetchall()
    cursor.execute("SELECT wait_for_lock() * ?", (number,)).fetchall()
    return {"id": number, "towns": len(towns)}


@app.get("/parcels/{number}/place")
async def place(number: int) -> Any:
    try:
        answer = await client.get(f"{CARRIER}/track/{number}")
        answer.raise_for_status()
    except httpx.HTTPError:
        raise HTTPException(502, "the carrier does not say") from None
    return answer.json()


@app.get("/track/{number}")
def track(number: int) -> Any:
    return {"id": number, "place": "at sea"}
