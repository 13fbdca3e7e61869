"""The services of the shop as Flask apps, built from the topology."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import requests
from flask import Flask, Response, g, jsonify, request

from aiops_lab.checks import BackendError, check_number
from aiops_lab.show import api
from aiops_lab.show.body import BODY_MAX
from aiops_lab.show.given import number, one_of, parameters, whole
from shop.topology import Call, Endpoint, Topology

Answers = dict[str, Any]

"""The answers of the callees, by route."""

ITEMS = {"mug": 9.5, "lamp": 42.0, "chair": 129.0, "teapot": 31.0, "blanket": 54.9}


def build(
    topology: Topology,
    service: str,
    *,
    session: requests.Session,
    urls: Mapping[str, str],
    stopping: threading.Event,
    seed: int = 0,
) -> Flask:
    """Return the app of one service.

    Parameters
    ----------
    topology : Topology
        The endpoints of the service, their durations and their calls.
    service : str
        The name of the service.
    session : requests.Session
        Makes the calls; an `aiops_lab.Session` records them.
    urls : mapping
        The addresses of the services, {service: url}.
    stopping : threading.Event
        When it is set, all service times end at once.
    seed : int
        The same seed draws the same service times.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_MAX
    api.json_errors(app)
    _bound(app, topology.of(service))
    for endpoint in topology.of(service):
        rng = random.Random(f"{seed}/{service}{endpoint.route}")
        caller = _Caller(topology, session, urls)
        app.add_url_rule(
            endpoint.route,
            endpoint.route,
            _view(endpoint, rng, caller, stopping),
            methods=[endpoint.method],
        )
    return app


def _bound(app: Flask, endpoints: tuple[Endpoint, ...]) -> None:
    """Answer 503 beyond each endpoint's capacity, so that other endpoints still have threads."""
    slots = {e.route: threading.BoundedSemaphore(e.capacity) for e in endpoints}

    def admit() -> None:
        slot = slots.get(request.url_rule.rule) if request.url_rule else None
        if slot is None:
            return
        if not slot.acquire(blocking=False):
            raise BackendError(f"{request.path} is at its capacity, try again later", 503)
        g.slot = slot

    def leave(_: BaseException | None) -> None:
        slot = g.pop("slot", None)
        if slot is not None:
            slot.release()

    app.before_request(admit)
    app.teardown_request(leave)


def _view(
    endpoint: Endpoint, rng: random.Random, caller: _Caller, stopping: threading.Event
) -> Callable[[], Response]:
    body = BODIES.get(endpoint.route, _plain_body)

    def view() -> Response:
        order = _order(endpoint, rng)
        stopping.wait(endpoint.service_time_s(rng))
        answers: Answers = {}
        for stage in endpoint.stages:
            answers |= caller.call(stage, order)
        return jsonify(body(endpoint, order, answers, rng))

    return view


def _order(endpoint: Endpoint, rng: random.Random) -> dict[str, Any]:
    """Return the order: as the request gives it, with a random item by default."""
    names = ("item", "quantity", "amount")
    given = parameters(names) if endpoint.method == "POST" else {}
    random_item = rng.choice(list(ITEMS))
    item = one_of("item", given.get("item", random_item), ITEMS)
    quantity = whole("quantity", given.get("quantity", 1))
    check_number("quantity", quantity, 1, 1000)
    price = round(ITEMS[item] * quantity, 2)
    amount = number("amount", given.get("amount", price))
    check_number("amount", amount, 0, 1e6)
    return {"item": item, "quantity": quantity, "amount": amount}


class _Caller:
    """Makes the calls of a view to other endpoints."""

    def __init__(
        self, topology: Topology, session: requests.Session, urls: Mapping[str, str]
    ) -> None:
        self._topology = topology
        self._session = session
        self._urls = urls

    def call(self, stage: tuple[Call, ...], order: dict[str, Any]) -> Answers:
        """Make the calls of a stage, in parallel if there are several."""
        if len(stage) == 1:
            return {stage[0].endpoint: self._tried(stage[0], order)}
        with ThreadPoolExecutor(len(stage)) as pool:
            # each thread has a copy of this request's context, so that the trace continues in it
            waiting = [pool.submit(copy_context().run, self._tried, call, order) for call in stage]
        return {call.endpoint: found.result() for call, found in zip(stage, waiting, strict=True)}

    def _tried(self, call: Call, order: dict[str, Any]) -> Any:
        for _ in range(call.retries):
            try:
                return self._once(call, order)
            except BackendError:
                continue
        return self._once(call, order)

    def _once(self, call: Call, order: dict[str, Any]) -> Any:
        method = self._topology.at(call.service, call.endpoint).method
        url = self._urls[call.service] + call.endpoint
        sent = order if method == "POST" else None
        try:
            answer = self._session.request(method, url, json=sent, timeout=call.timeout_s)
        except requests.Timeout:
            reason = f"{call.endpoint} did not answer within {call.timeout_s:g} s"
            raise BackendError(reason, 504) from None
        except requests.RequestException as error:
            reason = type(error).__name__
            raise BackendError(f"{call.endpoint} could not be reached: {reason}", 502) from None
        if answer.status_code >= 400:
            raise BackendError(f"{call.endpoint} answered {answer.status_code}", 502)
        return answer.json()


def _plain_body(
    endpoint: Endpoint, order: dict[str, Any], answers: Answers, rng: random.Random
) -> Answers:
    return {"status": "ok", "endpoint": endpoint.route, "calls": answers}


def _health_body(
    endpoint: Endpoint, order: dict[str, Any], answers: Answers, rng: random.Random
) -> Answers:
    return {"status": "healthy"}


def _inventory_body(
    endpoint: Endpoint, order: dict[str, Any], answers: Answers, rng: random.Random
) -> Answers:
    items = [
        {"item": item, "price": price, "in_stock": rng.randint(5, 50)}
        for item, price in ITEMS.items()
    ]
    return {"status": "available", "items": items}


def _payment_body(
    endpoint: Endpoint, order: dict[str, Any], answers: Answers, rng: random.Random
) -> Answers:
    id = f"PAY-{rng.getrandbits(32):08x}"
    return {"status": "approved", "payment_id": id, "amount": order["amount"], "currency": "EUR"}


def _checkout_body(
    endpoint: Endpoint, order: dict[str, Any], answers: Answers, rng: random.Random
) -> Answers:
    payment = answers.get("/payment", {}).get("payment_id")
    return {
        "status": "confirmed",
        "order_id": f"ORD-{rng.getrandbits(32):08x}",
        "payment_id": payment,
        **order,
    }


BODIES: dict[str, Callable[[Endpoint, dict[str, Any], Answers, random.Random], Answers]] = {
    "/health": _health_body,
    "/inventory": _inventory_body,
    "/payment": _payment_body,
    "/checkout": _checkout_body,
}

"""The function that makes the body of an answer, by route; others have `_plain_body`."""
