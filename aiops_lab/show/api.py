"""How is the laboratory reached over HTTP? Blueprints that read, check and pass on; they decide
nothing.

Every refusal is JSON: ``{"error", "field", "rule", "value"}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pandas as pd
from flask import Blueprint, Flask, current_app, got_request_exception, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from aiops_lab.checks import BackendError, FieldError, shorten
from aiops_lab.detect.incidents import RESOLVED, STATUSES, IllegalMoveError, Incident
from aiops_lab.numerics import to_timestamp
from aiops_lab.record.faults import Fault, FaultInjector, Injected
from aiops_lab.results import iso

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor

QUERY_MAX = 8_192

"""Bytes of query; no call of this interface needs a tenth of it."""

BODY_MAX = 65_536

"""Bytes of body."""

DRAIN_MAX = 16_000_000

"""Bytes of a refused body that are still read: a client that is sending cannot hear the refusal."""

Answer = tuple[dict[str, Any], int]

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


def problem(status: int, field: str, rule: str, value: object, text: str | None = None) -> Answer:
    """Return the JSON answer for a refused request, with its status."""
    shown = shorten(value)
    plain = (value is None or isinstance(value, (str, int))) and len(shown) < 80
    text = text or f"{field} {rule}, got {shown}"
    return {"error": text, "field": field, "rule": rule, "value": value if plain else shown}, status


def json_errors(app: Flask | Blueprint) -> None:
    """Let an app (or one blueprint) answer its errors as JSON, and refuse what is too large to be
    meant.
    """
    app.register_error_handler(FieldError, lambda e: problem(400, e.field, e.rule, e.value))
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(BackendError, _backend_problem)
    app.before_request(_refuse_oversize)


def _http_problem(error: HTTPException) -> ResponseReturnValue | HTTPException:
    status = error.code or 500
    if status < 400:  # a redirect is an answer, not an error
        return error
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return *problem(status, "method", f"must be one of {allowed}", request.method), {
            "Allow": allowed
        }
    if isinstance(error, NotFound):
        return problem(status, "path", "must be one that exists here", request.path)
    return {"error": error.description or error.name}, status


def _refuse_oversize() -> Answer | None:
    if len(request.query_string) > QUERY_MAX:
        return problem(
            414, "query", f"must be at most {QUERY_MAX} bytes", len(request.query_string)
        )
    length = request.content_length or 0
    if length <= BODY_MAX:
        return None
    stream, left = request.environ["wsgi.input"], min(length, DRAIN_MAX)
    while left > 0 and (chunk := stream.read(min(left, BODY_MAX))):
        left -= len(chunk)
    return problem(413, "body", f"must be at most {BODY_MAX} bytes", length)


def parameters(allowed: Collection[str]) -> dict[str, Any]:
    """Return the parameters of the request, from its query, its form or its JSON body.

    Raises
    ------
    FieldError
        One is unknown or given twice, or the body is not a JSON object.
    """
    found: dict[str, Any] = {}
    for name, value in [*request.args.items(multi=True), *_body()]:
        if name not in allowed:
            raise FieldError("parameter", f"must be one of {', '.join(allowed) or '(none)'}", name)
        if name in found:
            raise FieldError(name, "must be given once", value)
        found[name] = value
    return found


def _body() -> list[tuple[str, Any]]:
    raw = request.get_data()
    if not raw.strip():
        return []
    if request.is_json or raw.lstrip().startswith((b"{", b"[")):
        return _json_pairs(raw)
    if request.mimetype in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return list(request.form.items(multi=True))
    raise FieldError("body", "must be a JSON object or a form", request.mimetype)


def _json_pairs(raw: bytes) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object is finished last; a dict would hide repeated names
        return dict(found)

    try:
        body = json.loads(raw, object_pairs_hook=keep)
    except (ValueError, RecursionError) as error:
        raise FieldError("body", "must be valid JSON", raw[:60].decode(errors="replace")) from error
    if not isinstance(body, dict):
        raise FieldError("body", "must be a JSON object", body)
    return pairs


def required(given: dict[str, Any], name: str) -> Any:
    """Return a parameter that must be there."""
    if name not in given:
        raise FieldError(name, "must be given", None)
    return given[name]


def number(name: str, value: object) -> float:
    """Return a parameter as a number; text must be a plain decimal, as in ``2000`` or ``0.8``."""
    if isinstance(value, str) and NUMBER.fullmatch(value.strip(" ")):
        return float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise FieldError(name, "must be a number", value)


def whole(name: str, value: object) -> int:
    """Return a parameter as a whole number."""
    found = number(name, value)
    if not (isinstance(found, int) or found.is_integer()):
        raise FieldError(name, "must be a whole number", value)
    return int(found)


def one_of(name: str, value: object, choices: Collection[str]) -> str:
    """Return a parameter that must be one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise FieldError(name, f"must be one of {', '.join(choices)}", value)
    return value


def attach(injector: FaultInjector, app: Flask, service: str) -> None:
    """Let `injector` strike the requests of any Flask app, each before its view works."""

    def strike() -> None:
        if request.url_rule is not None:
            injector.strike(service, request.url_rule.rule)

    app.before_request(strike)
    app.register_error_handler(BackendError, _backend_problem)


def _backend_problem(error: BackendError) -> Answer:
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    error.__traceback__ = _outside(error.__traceback__)
    # Flask tells its listeners of unhandled exceptions only; for them this one is no different.
    got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
    return {"error": str(error)}, error.status


PACKAGE = Path(__file__).parents[1]
"""Where all modules of this package lie."""


def _outside(traceback: TracebackType | None) -> TracebackType | None:
    """Drop this package's frames: a stack trace that names faults.py would give the answer away."""
    if traceback is None:
        return None
    inner = _outside(traceback.tb_next)
    if PACKAGE in Path(traceback.tb_frame.f_code.co_filename).parents:
        return inner
    return TracebackType(inner, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)


SIMULATIONS = {"delay": ("duration", "jitter"), "error": ("rate", "status"), "hang": ()}

"""What each kind of fault takes besides endpoint, service and ttl_s; the first one must be given.
"""

FIELDS = {"duration": "duration_ms", "jitter": "jitter_ms"}

"""Where a parameter and its field of `Fault` differ: over HTTP a time without a unit is
milliseconds.
"""


def simulate(injector: FaultInjector, endpoints: Iterable[tuple[str, str]]) -> Blueprint:
    """Return the blueprint that breaks endpoints on purpose: /simulate/delay, error, hang, clear
    and status.

    Parameters
    ----------
    injector : FaultInjector
        Whatever app it is attached to gets broken.
    endpoints : iterable of (service, endpoint)
        What may be broken. An endpoint that several services have must be asked for with its
        service.
    """
    places = sorted(endpoints)
    blueprint = Blueprint("simulate", __name__, url_prefix="/simulate")
    json_errors(blueprint)

    def inject(kind: str) -> ResponseReturnValue:
        own = SIMULATIONS[kind]
        given = parameters(("endpoint", *own, "service", "ttl_s"))
        service, endpoint = _place(given, places)
        for name in own[:1]:
            required(given, name)
        fault = _fault(
            kind, service, endpoint, {n: given[n] for n in (*own, "ttl_s") if n in given}
        )
        id = injector.inject(fault)
        return {"fault": next((_shown(f) for f in injector.active() if f.id == id), None)}

    for kind in SIMULATIONS:
        blueprint.add_url_rule(f"/{kind}", kind, partial(inject, kind), methods=["POST"])

    @blueprint.post("/clear")
    def clear() -> ResponseReturnValue:
        given = parameters(("id",))
        id = whole("id", given["id"]) if "id" in given else None
        try:
            return {"cleared": injector.clear(id)}
        except KeyError:
            return problem(404, "id", "must be a fault in force", id)

    @blueprint.get("/status")
    def status() -> ResponseReturnValue:
        parameters(())
        shown = [{"service": service, "endpoint": endpoint} for service, endpoint in places]
        return {"active": [_shown(fault) for fault in injector.active()], "endpoints": shown}

    return blueprint


def _place(given: dict[str, Any], places: list[tuple[str, str]]) -> tuple[str, str]:
    endpoints = sorted({endpoint for _, endpoint in places})
    endpoint = one_of("endpoint", required(given, "endpoint"), endpoints)
    services = [service for service, route in places if route == endpoint]
    if "service" not in given and len(services) == 1:
        return services[0], endpoint
    return one_of("service", required(given, "service"), services), endpoint


def _fault(kind: str, service: str, endpoint: str, given: dict[str, Any]) -> Fault:
    numbers: dict[str, Any] = {
        FIELDS.get(name, name): whole(name, value) if name == "status" else number(name, value)
        for name, value in given.items()
    }
    try:
        return Fault(kind, service, endpoint, **numbers)
    except FieldError as error:
        names = {field: name for name, field in FIELDS.items()}
        raise FieldError(names.get(error.field, error.field), error.rule, error.value) from None


def _shown(injected: Injected) -> dict[str, Any]:
    fault = injected.fault
    start, end = (
        None if ns is None else iso(to_timestamp(ns)) for ns in (injected.start_ns, injected.end_ns)
    )
    place = {
        "id": injected.id,
        "kind": fault.kind,
        "service": fault.service,
        "endpoint": fault.endpoint,
    }
    own = {name: getattr(fault, FIELDS.get(name, name)) for name in SIMULATIONS.get(fault.kind, ())}
    return place | own | {"ttl_s": fault.ttl_s, "start": start, "end": end}


# ---- /aiops


def aiops(monitor: Monitor, now: Callable[[], pd.Timestamp] | None = None) -> Blueprint:
    """Return the blueprint that shows what a monitor knows: /aiops/metrics, incidents, analyze and
    graph.

    Parameters
    ----------
    monitor : Monitor
    now : function () -> Timestamp, UTC
        The clock; default the machine's.
    """
    blueprint = Blueprint("aiops", __name__, url_prefix="/aiops")
    json_errors(blueprint)
    clock = now or partial(pd.Timestamp.now, "UTC")

    @blueprint.get("/metrics")
    def metrics() -> ResponseReturnValue:
        parameters(())
        moment = clock()
        return {"timestamp": int(moment.timestamp()), "metrics": monitor.metrics(moment)}

    @blueprint.get("/incidents")
    def incidents() -> ResponseReturnValue:
        given = parameters(("status",))
        if "status" not in given:
            return _active(monitor)
        status = one_of("status", given["status"], (*STATUSES, "all"))
        found = monitor.incidents(None if status == "all" else status)
        return {"incident_count": len(found), "incidents": [i.to_dict() for i in found]}

    @blueprint.post("/analyze")
    def analyze() -> ResponseReturnValue:
        parameters(())
        moment = clock()
        changed = [incident.id for incident in monitor.step(moment)]
        return {"timestamp": int(moment.timestamp()), "changed": changed} | _active(monitor)

    @blueprint.get("/graph")
    def graph() -> ResponseReturnValue:
        parameters(())
        edges = monitor.graph(clock()).astype(object)
        return {"edges": edges.where(edges.notna(), None).to_dict("records")}

    @blueprint.get("/incidents/<id>")
    def incident(id: str) -> ResponseReturnValue:
        parameters(())
        return _of_incident(id, lambda: monitor.incident(id).to_dict())

    @blueprint.get("/incidents/<id>/explain")
    def explain(id: str) -> ResponseReturnValue:
        given = parameters(("why_not",))
        return _of_incident(id, lambda: _explained(monitor.incident(id), given.get("why_not")))

    @blueprint.post("/incidents/<id>/resolve")
    def resolve(id: str) -> ResponseReturnValue:
        parameters(())
        return _of_incident(id, lambda: monitor.resolve(id, clock()).to_dict())

    @blueprint.post("/incidents/<id>/acknowledge")
    def acknowledge(id: str) -> ResponseReturnValue:
        parameters(())
        return _of_incident(id, lambda: monitor.acknowledge(id, clock()).to_dict())

    return blueprint


def _active(monitor: Monitor) -> dict[str, Any]:
    found = [i for i in monitor.incidents() if i.status != RESOLVED]
    return {"incident_count": len(found), "active_incidents": [i.to_dict() for i in found]}


def _of_incident(id: str, answer: Callable[[], dict[str, Any]]) -> ResponseReturnValue:
    try:
        return answer()
    except IllegalMoveError as error:
        return problem(409, "status", "must be a step of the life cycle", id, str(error))
    except KeyError:
        return problem(404, "id", "must be a known incident", id)


def _explained(incident: Incident, endpoint: str | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": incident.id,
        "steps": [asdict(step) for step in incident.explain()],
    }
    if endpoint is not None:
        known = [str(row["endpoint"]) for row in incident.verdict.endpoints]
        shown["why_not"] = asdict(incident.why_not(one_of("why_not", endpoint, known)))
    return shown
