"""What does the interface offer, in the words of OpenAPI? One table, `OPERATIONS`, says it.

``GET /aiops/openapi.json`` answers with the part that an application has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from aiops_lab.detect.incidents import STATUSES
from aiops_lab.results import INCIDENT_SEVERITIES

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer"}
POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}
LENGTH_MS: Schema = {"type": "number", "minimum": 0, "maximum": 60_000}

OBJECT: Schema = {"type": "object"}


class Parameter(NamedTuple):
    """A parameter of the query, or a field of a JSON body."""

    name: str
    about: str
    schema: Schema = _TEXT
    required: bool = False


class Operation(NamedTuple):
    """What one method of one path does; `refusals` are the statuses besides those of all."""

    method: str
    path: str
    about: str
    answer: str = "Answer"
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[int, ...] = ()
    status: int = 200


_ENDPOINT = Parameter("endpoint", "The route to break, such as /payment.", required=True)
_SERVICE = Parameter("service", "Its service; needed where several have this route.")
_TTL = Parameter("ttl_s", "Seconds after which the fault ends; default: never.", POSITIVE)
_DURATION = Parameter("duration", "Milliseconds that are added.", LENGTH_MS, required=True)
_JITTER = Parameter("jitter", "Milliseconds by which it varies.", LENGTH_MS)
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_RATE = Parameter("rate", "Share of the requests that fail.", _SHARE, required=True)
_ERROR: Schema = {"type": "integer", "minimum": 500, "maximum": 599}
_STATUS = Parameter("status", "Status of their answers; default 500.", _ERROR)
_LISTED: Schema = {"type": "string", "enum": [*STATUSES, "all"]}
_ACCEPT = Parameter("accept", "Whether the level is normal from now on.", {"type": "boolean"})
_ONE = "/aiops/incidents/<id>"

OPERATIONS = (
    Operation("GET", "/aiops/metrics", "Health, latency and errors of each endpoint.", "Metrics"),
    Operation(
        "GET",
        "/aiops/incidents",
        "Incidents that are not resolved, or those with a status.",
        "Incidents",
        (Parameter("status", "Only these.", _LISTED),),
    ),
    Operation(
        "GET", _ONE, "One incident; of the id `latest` the newest.", "Incident", (), (302, 404)
    ),
    Operation(
        "GET",
        f"{_ONE}/explain",
        "The steps that led to its cause; the id may be `latest`.",
        "Explanation",
        (Parameter("why_not", "An endpoint: why is it not held to be the cause?"),),
        (404,),
    ),
    Operation("POST", f"{_ONE}/acknowledge", "Somebody is at it.", "Incident", (), (404, 409)),
    Operation("POST", f"{_ONE}/resolve", "It is over.", "Incident", (_ACCEPT,), (404, 409)),
    Operation("POST", f"{_ONE}/undo", "It is not normal after all.", "Incident", (), (404, 409)),
    Operation("POST", "/aiops/analyze", "Analyse what was recorded until now.", "Incidents"),
    Operation("GET", "/aiops/graph", "Who calls whom."),
    Operation("GET", "/aiops/changes", "What was deployed or set."),
    Operation(
        "POST",
        "/aiops/changes",
        "Note such a change.",
        parameters=(
            Parameter("service", "Whose.", required=True),
            Parameter("what", "What was changed.", required=True),
            Parameter("time", "ISO 8601, UTC if it names no zone; default: now."),
        ),
        status=201,
    ),
    Operation("GET", "/aiops/openapi.json", "This description."),
    Operation(
        "POST",
        "/simulate/delay",
        "Slow an endpoint down.",
        parameters=(_ENDPOINT, _DURATION, _JITTER, _SERVICE, _TTL),
    ),
    Operation(
        "POST",
        "/simulate/error",
        "Let requests of an endpoint fail.",
        parameters=(_ENDPOINT, _RATE, _STATUS, _SERVICE, _TTL),
    ),
    Operation(
        "POST",
        "/simulate/hang",
        "Let an endpoint answer nothing.",
        parameters=(_ENDPOINT, _SERVICE, _TTL),
    ),
    Operation(
        "POST",
        "/simulate/clear",
        "Mend what is broken.",
        parameters=(Parameter("id", "Only this fault.", _WHOLE),),
        refusals=(404,),
    ),
    Operation("GET", "/simulate/status", "What is broken, and what can be."),
)

EVERY = {
    400: "A parameter breaks its rule.",
    401: "The token is missing.",
    403: "A page of another site asks, or this server is called by another name.",
    413: "The body is too large.",
    414: "The query is too long.",
    415: "The body is of a type that a form may send.",
    503: "The store cannot be used at present, or the server is busy with other requests.",
}
"""Statuses that every operation may answer with."""

REFUSALS = {
    302: "The page of the incident, for a browser.",
    404: "There is none with this id.",
    409: "The life cycle has no such step.",
}


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": [*required], "properties": properties}


def _choice(values: Iterable[str]) -> Schema:
    return {"type": "string", "enum": [*values]}


_LIST_OF_INCIDENTS: Schema = {
    "type": "array",
    "items": {"$ref": "#/components/schemas/Incident"},
}

_MOMENT: Schema = {"type": "string", "format": "date-time"}
_FORECAST = _object(
    *("threshold_ms", "crosses_at", "earliest", "latest", "coverage", "per_minute_ms"),
    threshold_ms=_NUMBER,
    crosses_at=_MOMENT,
    earliest=_MOMENT,
    latest={"anyOf": [_MOMENT, {"type": "null"}]},
    coverage=_SHARE,
    per_minute_ms=_NUMBER,
)
_ENDPOINT_METRICS = _object(
    *("request_count", "health", "forecast"),
    request_count=_WHOLE,
    health=OBJECT,
    forecast={"anyOf": [_FORECAST, {"type": "null"}]},
)

SCHEMAS: dict[str, Schema] = {
    "Answer": OBJECT,
    "Problem": _object("error", error=_TEXT, field=_TEXT, rule=_TEXT, value={}),
    "Metrics": _object(
        "timestamp",
        "metrics",
        timestamp=_WHOLE,
        metrics={"type": "object", "additionalProperties": _ENDPOINT_METRICS},
    ),
    "Incident": _object(
        *("id", "status", "severity", "title", "first_detected", "suspects", "anomalies"),
        id=_TEXT,
        status=_choice(STATUSES),
        severity=_choice(INCIDENT_SEVERITIES),
        title=_TEXT,
        first_detected={"type": "string", "format": "date-time"},
        suspects={"type": "array"},
        anomalies={"type": "array"},
        history={"type": "array"},
        forecasts={"type": "object", "additionalProperties": _FORECAST},
    ),
    "Incidents": _object(
        "incident_count",
        incident_count=_WHOLE,
        incidents=_LIST_OF_INCIDENTS,
        active_incidents=_LIST_OF_INCIDENTS,
    ),
    "Explanation": _object("id", "steps", id=_TEXT, steps={"type": "array"}, why_not=OBJECT),
}

SECURITY: Schema = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic"},
}

ABOUT = "Parameters may be fields of a JSON body instead; times are UTC, durations milliseconds."


def describe(routes: Iterable[tuple[str, str]], root: str = "") -> Schema:
    """Return the OpenAPI 3.1 description of the operations that an application has.

    Parameters
    ----------
    routes : iterable of (method, path)
        What it has; others than those of `OPERATIONS` are left out.
    root : str
        The path below which it is mounted.
    """
    known = frozenset(routes)
    paths: dict[str, Schema] = {}
    for each in OPERATIONS:
        if (each.method, each.path) in known:
            path = each.path.replace("<", "{").replace(">", "}")
            paths.setdefault(path, {})[each.method.lower()] = _operation(each)
    version = vars(sys.modules["aiops_lab"])["__version__"]
    return {
        "openapi": "3.1.0",
        "info": {"title": "AIOps Lab", "version": version, "description": ABOUT},
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": SECURITY},
        "security": [{}, {"bearer": []}, {"basic": []}],
    }


def _operation(operation: Operation) -> Schema:
    """Return an operation as OpenAPI has it."""
    refusals = {status: REFUSALS[status] for status in operation.refusals}
    problem = {
        str(status): _response(about, "Problem") for status, about in (EVERY | refusals).items()
    }
    answered = {str(operation.status): _response(operation.about, operation.answer)}
    if "302" in problem:
        problem["302"] = {"description": REFUSALS[302]}
    parameters = [_parameter(each, "query") for each in operation.parameters]
    if "<id>" in operation.path:
        about = Parameter("id", "The id of an incident.", _TEXT, required=True)
        parameters.insert(0, _parameter(about, "path"))
    return {
        "summary": operation.about,
        "parameters": parameters,
        "responses": answered | problem,
    }


def _parameter(parameter: Parameter, place: str) -> Schema:
    return {
        "name": parameter.name,
        "in": place,
        "description": parameter.about,
        "required": parameter.required,
        "schema": parameter.schema,
    }


def _response(about: str, schema: str) -> Schema:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"description": about, "content": {"application/json": content}}
