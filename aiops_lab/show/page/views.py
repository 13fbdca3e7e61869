"""The live page below ``/aiops/``: overview, incidents, endpoints, graph and changes.

Every state has a path of its own. The page decides nothing: it shows what a `Monitor` says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from hashlib import blake2s
from typing import TYPE_CHECKING, Any

import pandas as pd
from flask import Blueprint, Response, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from aiops_lab.checks import FieldError
from aiops_lab.detect.grouping import IllegalMoveError
from aiops_lab.detect.incidents import RESOLVED, STATUSES, Incident
from aiops_lab.numerics import to_utc
from aiops_lab.respond.remedy_log import calls_for
from aiops_lab.respond.responders import responses_of
from aiops_lab.results import INFO
from aiops_lab.show.origin import RefusedError
from aiops_lab.show.page import actions
from aiops_lab.show.page.answer import (
    TopAnswer,
    answer_of,
    cause_key,
    facts_of,
    ledger_of,
    spans_of_trace,
)
from aiops_lab.show.page.events import Listeners, TooManyError
from aiops_lab.show.page.life import MOST_TOP_EVENTS, is_going_on, life_of
from aiops_lab.show.page.pictures import waterfall_picture
from aiops_lab.show.page.recent import RecentFigures
from aiops_lab.show.page.rendering import HEADERS, refusal, render
from aiops_lab.show.page.service_graph import graph
from aiops_lab.show.trouble import trouble_text

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor

PAGE = "page"  # the name of the blueprint

MOST_LISTED = 50  # incidents of a list; older ones have their paths
MOST_OPEN = 8  # incidents and changes of the overview
_MOST_SHOWN = 20  # endpoints of the overview, the worst first
MOST_TRACE_BARS = 200  # spans of a waterfall on a page of its own
MOST_ACCOUNTS = 60  # of a ledger on a page of its own
MOST_CALLS_NAMED = 2  # of remedies, the last ones of the first answer
MOST_AHEAD = 2  # forecasts of the first answer
MOST_KEPT = 64  # first answers that are kept, each until its incident changes


def page(
    monitor: Monitor,
    clock: Callable[[], pd.Timestamp],
    *,
    listeners: int = 0,
    stopping: threading.Event | None = None,
) -> Blueprint:
    """Return the blueprint of the live page, for `aiops_lab.show.api.aiops`, which has it.

    Parameters
    ----------
    monitor : Monitor
    clock : function () -> Timestamp, UTC
    listeners, stopping
        As for `aiops`.
    """
    views = _Views(monitor, clock)
    streams = Listeners(views.state, listeners, stopping)
    blueprint = Blueprint(PAGE, __name__, static_folder="static", static_url_path="/page/static")
    blueprint.register_error_handler(FieldError, _bad_input)
    blueprint.register_error_handler(HTTPException, _http_error)
    blueprint.register_error_handler(OSError, _store_error)
    blueprint.register_error_handler(IllegalMoveError, _illegal_move)
    for path, view in views.paths.items():
        blueprint.add_url_rule(path, view.__name__, view)
    actions.add(blueprint, monitor, clock)

    @blueprint.before_request
    def remember() -> None:
        views.simulation = actions.mounted()

    @blueprint.get("/events")
    def events() -> ResponseReturnValue:
        may_stay = bool(request.environ.get("wsgi.multithread"))
        try:
            stream = streams.stream(may_stay, request.args.get("tab", ""))
        except TooManyError as error:
            return {"error": str(error)}, 503, {"Retry-After": "30"}
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return Response(stream, headers=headers, mimetype="text/event-stream")

    return blueprint


def front_page() -> Blueprint:
    """Return the blueprint that leads from ``/`` to the page, for servers of this package alone."""
    blueprint = Blueprint("front_page", __name__)

    @blueprint.get("/")
    def front() -> ResponseReturnValue:
        return redirect(f"{request.script_root}/aiops/")

    return blueprint


# ---- refusals


def _bad_input(error: FieldError) -> Response:
    if not isinstance(error, RefusedError):
        return refusal(400, "Not done", str(error))
    answer = refusal(error.status, "Not done", str(error))
    answer.headers.update(error.headers)
    return answer


def _http_error(error: HTTPException) -> Response | HTTPException:
    status = error.code or 500
    if status < 400:  # a redirect is an answer, not an error
        return error
    return refusal(status, error.name, error.description or "")


def _store_error(error: OSError) -> Response:
    return refusal(503, "The store cannot be read", trouble_text(error))


def _illegal_move(error: IllegalMoveError) -> Response:
    return refusal(409, "Not done", str(error))


# ---- what is shown


class _Views:
    """One function a path."""

    def __init__(self, monitor: Monitor, clock: Callable[[], pd.Timestamp]) -> None:
        self._monitor = monitor
        self._clock = clock
        self._recent = RecentFigures(monitor, clock)
        self._answers: dict[str, tuple[object, TopAnswer]] = {}
        self.simulation: actions.Simulation | None = None  # known from the first request on
        one = "/page/incidents/<id>"
        self.paths: dict[str, Callable[..., ResponseReturnValue]] = {
            "/": self.overview,
            "/page/incidents": self.all_incidents,
            "/page/endpoints": self.endpoints,
            "/page/endpoint": self.endpoint,
            "/page/graph": self.service_graph,
            "/page/changes": self.changes,
            one: self.incident,
            f"{one}/history": self.history,
            f"{one}/resolve": self.ask_resolve,
            f"{one}/accept": self.ask_accept,
            f"{one}/steps": self.steps,
            f"{one}/ledger": self.ledger,
            f"{one}/why-not": self.why_not,
            f"{one}/remedies": self.remedies,
            f"{one}/traces": self.traces,
            f"{one}/traces/<trace_id>": self.trace,
        }

    def state(self) -> str:
        """Return a word that changes when what the pages show does."""
        try:
            newest = self._monitor.incidents()[-100:]
            facts = [(each.id, facts_of(each), each.last_anomaly) for each in newest]
            changes = len(self._monitor.changes())
            parts: object = (self._monitor.judged_until, facts, changes)
        except (OSError, ValueError) as error:
            parts = None, [], str(error)
        beside = actions.faults_of(self.simulation), responses_of(self._monitor)
        seen = repr((parts, beside))
        return blake2s(seen.encode(), digest_size=8).hexdigest()

    def overview(self) -> ResponseReturnValue:
        """Show open incidents, the health of endpoints, the service graph, faults and changes."""
        recent = self._recent.read()
        incidents = self._monitor.incidents()
        unresolved = [each for each in incidents if each.status != RESOLVED]
        open_ones = [each for each in unresolved if each.severity != INFO]
        offers = [each for each in unresolved if each.severity == INFO]
        edges, names = recent.edges, [each.name for each in recent.endpoints]
        rising = [each for each in recent.endpoints if each.forecast]
        responses = responses_of(self._monitor)
        return self._page(
            "overview.html",
            "overview",
            open=open_ones[::-1][:MOST_OPEN],
            open_count=len(open_ones),
            offers=offers[::-1][:MOST_OPEN],
            last=incidents[-1] if incidents else None,
            recent=recent,
            endpoints=recent.endpoints[:_MOST_SHOWN],
            rising=rising[:MOST_OPEN],
            graph=graph(edges, names),
            marks=_marks(unresolved),
            changes=self._monitor.changes()[::-1][:MOST_OPEN],
            notices=responses.get("notices", []),
            remedies=responses.get("remedies", []),
            faults=actions.faults_of(self.simulation),
            breakable=actions.breakable(self.simulation),
            failing=self._monitor.failed_functions,
            **self._going_on(unresolved),
        )

    def all_incidents(self) -> ResponseReturnValue:
        """Show the incidents, all or those with one status, the newest first."""
        status = request.args.get("status", "all")
        if status not in (*STATUSES, "all"):
            raise FieldError("status", f"must be one of {', '.join(STATUSES)}, all", status)
        asked = None if status == "all" else status
        found = self._monitor.incidents(asked)[::-1]
        return self._page(
            "incidents.html",
            "all_incidents",
            incidents=found[:MOST_LISTED],
            count=len(found),
            status=status,
            statuses=("all", *STATUSES),
        )

    def endpoints(self) -> ResponseReturnValue:
        """Show all endpoints, the worst first."""
        recent = self._recent.read()
        return self._page("endpoints.html", "endpoints", recent=recent, endpoints=recent.endpoints)

    def endpoint(self) -> ResponseReturnValue:
        """Show one endpoint: its chart, and who calls whom there."""
        recent = self._recent.read()
        name = request.args.get("name", "")
        try:
            found = recent.endpoint(name)
        except KeyError:
            return refusal(404, "Not found", f"No endpoint {name} has answered of late.")
        edges = [edge for edge in recent.edges if name in (edge["caller"], edge["callee"])]
        return self._page(
            "endpoint.html", "endpoints", recent=recent, endpoint=found, graph=graph(edges, [name])
        )

    def service_graph(self) -> ResponseReturnValue:
        """Show who calls whom."""
        recent = self._recent.read()
        unresolved = [each for each in self._monitor.incidents() if each.status != RESOLVED]
        shown = graph(recent.edges, [each.name for each in recent.endpoints])
        return self._page(
            "graph.html", "service_graph", recent=recent, graph=shown, marks=_marks(unresolved)
        )

    def changes(self) -> ResponseReturnValue:
        """Show what was changed on purpose, and a form to note a change."""
        noted = self._monitor.changes()[::-1]
        return self._page("changes.html", "changes", changes=noted[:MOST_LISTED], count=len(noted))

    def incident(self, id: str) -> ResponseReturnValue:
        """Show the first answer: cause, path and doubt."""

        def show(found: Incident) -> ResponseReturnValue:
            return self._page(
                "incident.html",
                "all_incidents",
                incident=found,
                answer=self._answer(found),
                life=life_of(found, MOST_TOP_EVENTS),
                may_undo=self._monitor.may_undo(found, self._clock()),
                failing=self._monitor.failed_functions,
                calls=calls_for(self._monitor.store, id)[-MOST_CALLS_NAMED:],
                ahead=self._ahead(found),
                **self._going_on([found]),
            )

        return self._of(id, show)

    def history(self, id: str) -> ResponseReturnValue:
        """Show all that became of an incident, with times."""
        return self._of(
            id,
            lambda found: self._page(
                "history.html", "all_incidents", incident=found, life=life_of(found)
            ),
        )

    def ask_resolve(self, id: str) -> ResponseReturnValue:
        """Ask whether to resolve an incident that is going on."""
        return self._ask("resolve.html", id)

    def ask_accept(self, id: str) -> ResponseReturnValue:
        """Ask whether the level of an incident is normal now, and say what that changes."""
        return self._ask("accept.html", id)

    def steps(self, id: str) -> ResponseReturnValue:
        """Show all steps that led to the cause."""
        return self._of(
            id,
            lambda found: self._page(
                "steps.html", "all_incidents", incident=found, steps=found.explain()
            ),
        )

    def ledger(self, id: str) -> ResponseReturnValue:
        """Show where the excess of an entry came from, with all accounts."""
        entry = request.args.get("entry")

        def show(found: Incident) -> ResponseReturnValue:
            rows = found.verdict.steps[0].rows if found.verdict.steps else []
            try:
                ledger = ledger_of(found, MOST_ACCOUNTS, entry)
            except ValueError as error:
                return refusal(400, "Not found", str(error))
            entries = [str(row["entry"]) for row in rows]
            return self._page(
                "ledger.html", "all_incidents", incident=found, ledger=ledger, entries=entries
            )

        return self._of(id, show)

    def why_not(self, id: str) -> ResponseReturnValue:
        """Show why an endpoint is not held to be the cause."""
        name = request.args.get("name")

        def show(found: Incident) -> ResponseReturnValue:
            step = None
            if name is not None:
                try:
                    step = found.why_not(name)
                except ValueError as error:
                    return refusal(400, "Not found", str(error))
            rows = sorted(found.verdict.endpoints, key=lambda row: -row["share"])
            return self._page(
                "why_not.html", "all_incidents", incident=found, step=step, rows=rows, asked=name
            )

        return self._of(id, show)

    def remedies(self, id: str) -> ResponseReturnValue:
        """Show what remedies did about it, the last first."""

        def show(found: Incident) -> ResponseReturnValue:
            newest_first = calls_for(self._monitor.store, id)[::-1]
            calls = newest_first[:MOST_LISTED]
            rows = [call | {"time": to_utc(call["time"])} for call in calls]
            return self._page("remedies.html", "all_incidents", incident=found, calls=rows)

        return self._of(id, show)

    def traces(self, id: str) -> ResponseReturnValue:
        """List the sample traces, and the ids of the others."""
        return self._of(
            id,
            lambda found: self._page(
                "traces.html", "all_incidents", incident=found, ids=found.traces[:MOST_LISTED]
            ),
        )

    def trace(self, id: str, trace_id: str) -> ResponseReturnValue:
        """Show one request as a waterfall."""

        def show(found: Incident) -> ResponseReturnValue:
            spans = spans_of_trace(self._monitor, found, trace_id)
            if spans.empty:
                return refusal(404, "Not found", f"The store has no spans of trace {trace_id}.")
            fall = waterfall_picture(spans, MOST_TRACE_BARS, cause_key(found))
            return self._page(
                "trace.html", "all_incidents", incident=found, request=fall, trace_id=trace_id
            )

        return self._of(id, show)

    # ---- parts

    def _ask(self, template: str, id: str) -> ResponseReturnValue:
        return self._of(
            id,
            lambda found: self._page(
                template,
                "all_incidents",
                incident=found,
                anomalies=found.anomalies[:MOST_OPEN],
                undo_s=self._monitor.sensitivity.correlation_s,
                **self._going_on([found]),
            ),
        )

    def _ahead(self, incident: Incident) -> list[tuple[str, dict[str, Any]]]:
        """Return which endpoints of an open incident will be slow, the cause first."""
        if incident.status == RESOLVED:
            return []
        names = incident.affected_endpoints
        found = self._recent.read().endpoints
        forecasts = {each.name: each.forecast for each in found if each.forecast}
        ahead = [(name, forecasts[name]) for name in names if name in forecasts]
        return ahead[:MOST_AHEAD]

    def _going_on(self, incidents: list[Incident]) -> dict[str, Any]:
        """Return for templates the ids of the incidents that are going on."""
        now = self._clock()
        return {"going_on": {each.id for each in incidents if is_going_on(each, now)}}

    def _of(self, id: str, show: Callable[[Incident], ResponseReturnValue]) -> ResponseReturnValue:
        try:
            found = self._monitor.incident(id)
        except KeyError:
            return refusal(404, "Not found", f"There is no incident {id}.")
        return show(found)

    def _page(self, template: str, place: str, **values: Any) -> Response:
        judged = self._monitor.judged_until
        return render(template, place=place, judged_until=judged, **values)

    def _answer(self, incident: Incident) -> TopAnswer:
        """Return the first answer, made once as long as the incident stays as it is."""
        as_of = incident.last_anomaly, facts_of(incident), id(incident.verdict)
        kept = self._answers.get(incident.id)
        if kept is not None and kept[0] == as_of:
            return kept[1]._replace(incident=incident)
        made = answer_of(incident, partial(spans_of_trace, self._monitor, incident))
        while len(self._answers) >= MOST_KEPT:
            self._answers.pop(next(iter(self._answers)), None)
        self._answers[incident.id] = as_of, made
        return made


def _marks(unresolved: list[Incident]) -> dict[str, str]:
    """Return how endpoints are marked in the graph: "cause", or "worse" where it made them so."""
    marks: dict[str, str] = {}
    for incident in unresolved:
        cause = incident.root_cause
        marks |= dict.fromkeys(incident.affected_endpoints, "worse")
        if cause is not None:
            marks[cause.name or cause.endpoint] = "cause"
    return marks
