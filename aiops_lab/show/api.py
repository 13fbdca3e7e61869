"""How is the laboratory reached over HTTP? Blueprints that check what comes in and pass it on.

They decide nothing. Every refusal is JSON: ``{"error", "field", "rule", "value"}``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pandas as pd
from flask import (
    Blueprint,
    Flask,
    current_app,
    got_request_exception,
    redirect,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from aiops_lab.checks import BackendError, FieldError, shorten
from aiops_lab.detect.grouping import IllegalMoveError
from aiops_lab.detect.incidents import RESOLVED, STATUSES, Incident
from aiops_lab.explain.changes import Change, check_change
from aiops_lab.numerics import to_timestamp, to_utc
from aiops_lab.record.faults import Fault, FaultInjector, Injected
from aiops_lab.respond.remedy_log import calls_for
from aiops_lab.respond.responders import responses_of
from aiops_lab.results import iso
from aiops_lab.show.access import Access, guard
from aiops_lab.show.attempts import RECEIVER
from aiops_lab.show.body import take_body
from aiops_lab.show.given import Data, is_true, number, one_of, parameters, required, whole
from aiops_lab.show.guesses import similar_paths, unknown_service
from aiops_lab.show.openapi import describe
from aiops_lab.show.origin import RefusedError
from aiops_lab.show.page.actions import EXTENSION, Simulation
from aiops_lab.show.page.views import PAGE, page
from aiops_lab.show.trouble import trouble_text
from aiops_lab.spans import Key
from aiops_lab.watched_spans import why_blocked

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor

Answer = tuple[Data, int]  # JSON and status

QUERY_MAX = 8_192  # bytes; no call of this interface needs a tenth of it
EVERYBODY = Access()

LATEST = "latest"  # in place of an incident's id

_MEDIA = "application/json", "text/html"  # of the latest incident; the first where both will do
PACKAGE = str(Path(__file__).parents[1])  # the folder of all modules of this package

# The parameters of each kind of fault besides endpoint, service and ttl_s; the first is required.
SIMULATIONS = {"delay": ("duration", "jitter"), "error": ("rate", "status"), "hang": ()}

# Fields of `Fault` with another name over HTTP, where a time without a unit is milliseconds.
FIELD_NAMES = {"duration": "duration_ms", "jitter": "jitter_ms"}
PARAMETERS = {"duration_ms": "duration", "jitter_ms": "jitter"}


def problem(status: int, error: FieldError) -> Answer:
    """Return the JSON that answers a refused request, with its status."""
    value = error.value
    text = shorten(value)
    if len(text) >= 80 or not isinstance(value, str | int | None):
        value = text
    return {"error": str(error), "field": error.field, "rule": error.rule, "value": value}, status


def json_errors(app: Flask | Blueprint) -> None:
    """Let an app, or one blueprint, answer its errors as JSON and refuse requests that are too
    large.
    """
    app.register_error_handler(FieldError, partial(problem, 400))
    app.register_error_handler(RefusedError, _refused)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(BackendError, _backend_problem)
    app.before_request(_take if isinstance(app, Blueprint) else _take_unless_blueprint_does)


def _http_problem(error: HTTPException) -> ResponseReturnValue | HTTPException:
    status = error.code or 500
    if status < 400:  # a redirect is an answer, not an error
        return error
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        refusal = FieldError("method", f"must be one of {allowed}", request.method)
        return *problem(status, refusal), {"Allow": allowed}
    if isinstance(error, NotFound):
        rule = f"must be one that exists here{similar_paths(request.path, current_app)}"
        return problem(status, FieldError("path", rule, request.path))
    return {"error": error.description or error.name}, status


def _refused(error: RefusedError) -> ResponseReturnValue:
    return *problem(error.status, error), {**error.headers}


def _take_unless_blueprint_does() -> Answer | None:
    """Take what is sent to an app; blueprints first ask who sends it."""
    steps = current_app.before_request_funcs
    is_later = any(_take in steps.get(name, ()) for name in request.blueprints)
    return None if is_later else _take()


def _take() -> Answer | None:
    if request.blueprint != RECEIVER:
        take_body()
    query = len(request.query_string)
    if query > QUERY_MAX:
        return problem(414, FieldError("query", f"must be at most {QUERY_MAX} bytes", query))
    return None


def attach(injector: FaultInjector, app: Flask, service: str) -> None:
    """Let `injector` strike each request of a Flask app, before its view works."""

    def strike() -> None:
        if request.url_rule is not None:
            injector.strike(service, request.url_rule.rule, request.method)

    app.before_request(strike)
    app.register_error_handler(BackendError, _backend_problem)


def _backend_problem(error: BackendError) -> Answer:
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    error.__traceback__ = _outside(error.__traceback__)
    # Flask sends this signal for unhandled exceptions only; listeners shall see no difference.
    got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
    return {"error": str(error)}, error.status


def _outside(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without this package's frames, which would show that it was injected."""
    if traceback is None:
        return None
    inner = _outside(traceback.tb_next)
    frame = traceback.tb_frame
    if Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
        return inner
    return TracebackType(inner, frame, traceback.tb_lasti, traceback.tb_lineno)


# ---- /simulate


def simulate(
    injector: FaultInjector, endpoints: Iterable[Key], access: Access = EVERYBODY
) -> Blueprint:
    """Return the blueprint that breaks endpoints on purpose.

    Its paths are /simulate/delay, error, hang, clear and status.

    Parameters
    ----------
    injector : FaultInjector
        The faults strike the apps to which it is attached.
    endpoints : iterable of (service, endpoint)
        What may be broken. An endpoint that several services have must be named with its service.
    access : Access
        Who may break it; default: programs, and pages of this server.
    """
    places = sorted(endpoints)
    blueprint = Blueprint("simulate", __name__, url_prefix="/simulate")
    guard(blueprint, access)
    json_errors(blueprint)
    simulation = Simulation(injector, places)
    blueprint.record(lambda setup: setup.app.extensions.update({EXTENSION: simulation}))

    def inject(kind: str) -> ResponseReturnValue:
        given = parameters(("endpoint", *SIMULATIONS[kind], "service", "ttl_s"))
        id = injector.inject(_fault(kind, given, places))
        in_force = {each.id: _shown(each) for each in injector.active()}
        return {"fault": in_force.get(id)}

    for kind in SIMULATIONS:
        blueprint.add_url_rule(f"/{kind}", kind, partial(inject, kind), methods=["POST"])

    @blueprint.post("/clear")
    def clear() -> ResponseReturnValue:
        given = parameters(("id",))
        id = whole("id", given["id"]) if given else None
        try:
            return {"cleared": injector.clear(id)}
        except KeyError:
            return problem(404, FieldError("id", "must be a fault in force", id))

    @blueprint.get("/status")
    def status() -> ResponseReturnValue:
        parameters()
        active = [_shown(fault) for fault in injector.active()]
        breakable = [{"service": service, "endpoint": endpoint} for service, endpoint in places]
        return {"active": active, "endpoints": breakable}

    return blueprint


def _fault(kind: str, given: Data, places: list[Key]) -> Fault:
    service, endpoint = _place(given, places)
    for name in SIMULATIONS[kind][:1]:
        required(given, name)
    numbers: Data = {}
    for name in (*SIMULATIONS[kind], "ttl_s"):
        if name in given:
            read = whole if name == "status" else number
            numbers[FIELD_NAMES.get(name, name)] = read(name, given[name])
    try:
        return Fault(kind, service, endpoint, **numbers)
    except FieldError as error:
        name = PARAMETERS.get(error.field, error.field)
        raise FieldError(name, error.rule, error.value) from None


def _place(given: Data, places: list[Key]) -> Key:
    endpoints = sorted({endpoint for _, endpoint in places})
    endpoint = one_of("endpoint", required(given, "endpoint"), endpoints)
    services = [service for service, route in places if route == endpoint]
    if "service" not in given and len(services) == 1:
        return services[0], endpoint
    return one_of("service", required(given, "service"), services), endpoint


def _shown(injected: Injected) -> Data:
    fault = injected.fault
    shown: Data = {"id": injected.id}
    own = SIMULATIONS.get(fault.kind, ())
    for name in ("kind", "service", "endpoint", *own, "ttl_s"):
        shown[name] = getattr(fault, FIELD_NAMES.get(name, name))
    end_ns = injected.end_ns
    shown["start"] = iso(to_timestamp(injected.start_ns))
    shown["end"] = end_ns and iso(to_timestamp(end_ns))
    return shown


# ---- /aiops


def aiops(
    monitor: Monitor,
    now: Callable[[], pd.Timestamp] | None = None,
    *,
    listeners: int = 0,
    stopping: threading.Event | None = None,
    hosts: Collection[str] | None = None,
    token: str | None = None,
    private: bool = False,
    public_url: str = "",
) -> Blueprint:
    """Return the blueprint that shows the state of a monitor.

    Its paths are /aiops/metrics, incidents, analyze, graph and changes, which /aiops/openapi.json
    describes; at /aiops/ it has a page for people.

    Parameters
    ----------
    monitor : Monitor
    now : function () -> Timestamp, UTC
        The clock; default the machine's.
    listeners : int
        How many open pages may be told of changes at once; each takes a thread of the server, and
        more get a 503 and ask again. Default 0: no thread is held, pages ask every five seconds.
    stopping : Event, optional
        Set when the server stops, so that these threads end.
    hosts, token, private, public_url
        Who may look, and who may change something: see `aiops_lab.show.access.Access`. Default:
        everybody may look, and programs and pages of this server may change something.
    """
    blueprint = Blueprint("aiops", __name__, url_prefix="/aiops")
    guard(blueprint, Access(hosts, token, private, public_url))
    json_errors(blueprint)
    clock = now or partial(pd.Timestamp.now, "UTC")
    shown = partial(_whole_incident, monitor, clock)
    known = partial(_known_incident, monitor)
    blueprint.register_error_handler(OSError, _store_problem)
    shown_to_people = page(monitor, clock, listeners=listeners, stopping=stopping)
    blueprint.register_blueprint(shown_to_people)

    @blueprint.before_request
    def refuse_when_closed() -> Answer | None:
        return _store_problem("the store is closed") if monitor.store.closed else None

    @blueprint.get("/metrics")
    def metrics() -> ResponseReturnValue:
        parameters()
        moment = clock()
        answer = {"timestamp": int(moment.timestamp()), "metrics": monitor.metrics(moment)}
        answer |= _stale(monitor.unwritten)
        if monitor.passed_over:
            answer["passed_over"] = monitor.passed_over
        if monitor.store.remade:
            answer["store_remade"] = monitor.store.remade
        if monitor.failed_functions:
            answer["failed_functions"] = monitor.failed_functions
        return answer | responses_of(monitor) | _left_out()

    @blueprint.get("/incidents")
    def incidents() -> ResponseReturnValue:
        given = parameters(("status",))
        if not given:
            return _active(monitor)
        status = one_of("status", given["status"], (*STATUSES, "all"))
        found = monitor.incidents(None if status == "all" else status)
        return _listed("incidents", found, monitor)

    @blueprint.post("/analyze")
    def analyze() -> ResponseReturnValue:
        parameters()
        moment = clock()
        problem = why_blocked(monitor.store)
        changed = []
        if not problem:
            changed = [incident.id for incident in monitor.step(moment)]
        answer = {"timestamp": int(moment.timestamp()), "changed": changed}
        return answer | _stale(problem) | _active(monitor)

    @blueprint.get("/graph")
    def graph() -> ResponseReturnValue:
        parameters()
        edges = monitor.graph(clock()).astype(object)
        return {"edges": edges.where(edges.notna(), None).to_dict("records")}

    @blueprint.get("/changes")
    def changes() -> ResponseReturnValue:
        parameters()
        return {"changes": [_shown_change(change) for change in monitor.changes()]}

    @blueprint.post("/changes")
    def note() -> ResponseReturnValue:
        given = parameters(("service", "what", "time"))
        about = (required(given, name) for name in ("service", "what"))
        change = check_change(Change(_time(given.get("time"), clock), *about))
        warning = unknown_service(change.service, monitor.metrics_by_key(clock()))
        monitor.note(change)
        return _shown_change(change) | warning, 201

    @blueprint.get("/openapi.json")
    def description() -> ResponseReturnValue:
        parameters()
        return describe(routes_of(current_app), request.script_root)

    @blueprint.get("/incidents/<id>")
    def incident(id: str) -> ResponseReturnValue:
        parameters()
        wants_page = request.accept_mimetypes.best_match(_MEDIA) == "text/html"
        if id != LATEST or not wants_page:
            return _of_incident(id, known, shown)
        page_of = f"{request.blueprint}.{PAGE}.incident"
        return _of_incident(id, known, lambda newest: redirect(url_for(page_of, id=newest.id)))

    @blueprint.get("/incidents/<id>/explain")
    def explain(id: str) -> ResponseReturnValue:
        given = parameters(("why_not",))
        return _of_incident(id, known, partial(_explained, why_not=given.get("why_not")))

    @blueprint.post("/incidents/<id>/resolve")
    def resolve(id: str) -> ResponseReturnValue:
        given = parameters(("accept",))
        move = monitor.accept if is_true("accept", given) else monitor.resolve
        return _of_incident(id, lambda id: move(id, clock()), shown)

    @blueprint.post("/incidents/<id>/undo")
    def undo_accept(id: str) -> ResponseReturnValue:
        parameters()
        return _of_incident(id, lambda id: monitor.undo_accept(id, clock()), shown)

    @blueprint.post("/incidents/<id>/acknowledge")
    def acknowledge(id: str) -> ResponseReturnValue:
        parameters()
        return _of_incident(id, lambda id: monitor.acknowledge(id, clock()), shown)

    return blueprint


def routes_of(app: Flask) -> Iterator[tuple[str, str]]:
    """Yield method and path of all that an app answers."""
    for rule in app.url_map.iter_rules():
        for method in rule.methods or ():
            yield method, rule.rule


def _time(given: Any, clock: Callable[[], pd.Timestamp]) -> pd.Timestamp:
    """Return a time as text of ISO 8601, UTC if it names no zone; now where none was given."""
    if given is None:
        return clock()
    try:
        return to_utc(given, "time")
    except ValueError as error:
        rule = "must be a time of ISO 8601, such as 2026-01-01T12:00:00Z"
        raise FieldError("time", rule, given) from error


def _shown_change(change: Change) -> Data:
    return change._asdict() | {"time": iso(change.time)}


def _store_problem(error: object) -> Answer:
    """Return the answer while the store cannot be read or written."""
    return {"error": trouble_text(error)}, 503


def _stale(problem: str) -> Data:
    """Return why an answer is older than it should be, if it is."""
    return {"stale": trouble_text(problem)} if problem else {}


def _left_out() -> Data:
    """Return how many requests this app has not recorded, by route, where it records at all."""
    instrumented = current_app.extensions.get("aiops_lab")
    if instrumented is None:
        return {}
    return {"left_out": dict(instrumented.recorder.left_out)}


def _listed(name: str, incidents: list[Incident], monitor: Monitor) -> Data:
    shown = [_shown_incident(monitor, each) for each in incidents]
    return {"incident_count": len(incidents), name: shown}


def _whole_incident(
    monitor: Monitor, clock: Callable[[], pd.Timestamp], incident: Incident
) -> Data:
    """Return an incident, what remedies did about it, if there were any, and while it is open which
    of its endpoints will be slow.
    """
    is_open = incident.status != RESOLVED
    forecasts = monitor.forecasts(incident, clock()) if is_open else {}
    more = {"forecasts": forecasts, "remedies": calls_for(monitor.store, incident.id)}
    known = {name: value for name, value in more.items() if value}
    return _shown_incident(monitor, incident) | known


def _shown_incident(monitor: Monitor, incident: Incident) -> Data:
    """Return an incident with the method of each endpoint in it, where that is known."""
    shown = incident.to_dict()
    places: list[Any] = [*incident.suspects, *incident.anomalies]
    rows = [*shown["suspects"], *shown["anomalies"]]
    if incident.root_cause is not None:
        places.append(incident.root_cause)
        rows.append(shown["root_cause"])
    for place, row in zip(places, rows, strict=True):
        method = monitor.method_of(place.key)
        if method is not None:
            row["method"] = method
    return shown


def _active(monitor: Monitor) -> Data:
    unresolved = [each for each in monitor.incidents() if each.status != RESOLVED]
    return _listed("active_incidents", unresolved, monitor)


def _known_incident(monitor: Monitor, id: str) -> Incident:
    """Return the incident with this id, or the newest; KeyError where there is none."""
    if id != LATEST:
        return monitor.incident(id)
    every = monitor.incidents()
    if not every:
        raise KeyError(id)
    return every[-1]


def _of_incident(
    id: str, find: Callable[[str], Incident], answer: Callable[[Incident], ResponseReturnValue]
) -> ResponseReturnValue:
    try:
        found = find(id)
    except IllegalMoveError as error:
        refused = FieldError("status", "must be a step of the life cycle", id)
        refusal, status = problem(409, refused)
        return refusal | {"error": str(error)}, status
    except KeyError:
        rule = "must be a known incident, which /aiops/incidents?status=all lists"
        return problem(404, FieldError("id", rule, id))
    return answer(found)


def _explained(incident: Incident, why_not: object) -> Data:
    steps = [asdict(step) for step in incident.explain()]
    explained: Data = {"id": incident.id, "steps": steps}
    if why_not is not None:
        choices = [str(row["endpoint"]) for row in incident.verdict.endpoints]
        explained["why_not"] = asdict(incident.why_not(one_of("why_not", why_not, choices)))
    return explained
