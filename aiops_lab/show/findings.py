"""What was found in a recording? Its incidents, and the facts that a reader asks for first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from aiops_lab.checks import FieldError, shorten
from aiops_lab.detect.incidents import Incident
from aiops_lab.explain.changes import Change
from aiops_lab.explain.ledger import compare
from aiops_lab.explain.ranking import rank_suspects
from aiops_lab.explain.reference import learn
from aiops_lab.explain.verdict import build_verdict
from aiops_lab.pipeline import Report
from aiops_lab.replaying import replay
from aiops_lab.results import (
    MORE_FAILURES,
    Anomaly,
    Step,
    Suspect,
    Verdict,
    what_is_worse,
    worse_figures,
)
from aiops_lab.show.paths import worst_path
from aiops_lab.spans import check
from aiops_lab.traces.graph import service_graph

if TYPE_CHECKING:
    from aiops_lab.detect.sensitivity import Sensitivity

MOST_DOUBTS = 8
MOST_ENTRIES = 3
MOST_ERRORS = 3
MOST_DIFFERENCES = 10
MOST_CALLEES = 4

CAUSE, CALLED = "the cause", "called by the cause"  # roles of an endpoint

FASTER = 0.8  # of the usual time: what fails in less than this fails fast


class Finding(NamedTuple):
    """One trouble: its title, when it was (UTC), its verdict, and what detection found of it."""

    title: str
    since: pd.Timestamp
    until: pd.Timestamp
    verdict: Verdict
    anomalies: tuple[Anomaly, ...] = ()
    incident: Incident | None = None


class Difference(NamedTuple):
    """What one endpoint did before and during the trouble: its role in it, requests, mean ms, and
    the share that failed. ``usual_ms`` and ``now_ms`` are None where nothing was answered.
    """

    endpoint: str
    role: str
    usual_requests: int
    requests: int
    usual_ms: float | None
    now_ms: float | None
    usual_failed: float
    now_failed: float


class Findings(NamedTuple):
    """What was found in the spans called ``name``; ``windows`` are None where none were judged."""

    name: str
    spans: pd.DataFrame
    cases: list[Finding]
    windows: pd.DataFrame | None = None

    @property
    def has_cause(self) -> bool:
        """Whether a cause was found."""
        return any(case.verdict.cause for case in self.cases)


# ---- finding


def find_incidents(
    spans: pd.DataFrame,
    name: str,
    sensitivity: Sensitivity,
    changes: Iterable[Change] | pd.DataFrame = (),
) -> Findings:
    """Return the incidents of a recording that holds normal traffic before the trouble.

    `changes` are what was changed on purpose meanwhile, as `replay` takes them.
    """
    return findings_of(replay(spans, sensitivity, changes=changes), name, spans)


def findings_of(report: Report, name: str, spans: pd.DataFrame) -> Findings:
    """Return the incidents of a replay, with the spans from which facts of them are taken."""
    cases = [
        Finding(
            incident.title,
            incident.episodes[0][0],
            incident.last_anomaly,
            incident.verdict,
            tuple(incident.anomalies),
            incident,
        )
        for incident in report.incidents
    ]
    return Findings(name, spans, cases, report.windows)


def compare_recordings(spans: pd.DataFrame, name: str, normal: pd.DataFrame) -> Findings:
    """Return one case: what all requests of a recording lost against those of a normal one."""
    if not len(normal):
        raise FieldError("normal", "must hold spans", "none")
    comparison = compare(learn(normal), spans)
    if not len(comparison.ledger.entries):
        rule = "must hold requests of the same entries as the recording"
        endpoints = sorted(set(normal["endpoint"]))
        raise FieldError("normal", rule, endpoints[:5])
    suspects = rank_suspects(comparison)
    since, until = bounds(check(spans))
    case = Finding(
        title=f"{name} against normal traffic",
        since=since,
        until=until,
        verdict=build_verdict(comparison, suspects),
    )
    return Findings(name, spans, [case])


def bounds(spans: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return when the first span began and the last one ended."""
    duration_ms = spans["duration_ms"].fillna(0)
    ends = spans["start"] + pd.to_timedelta(duration_ms, "ms")
    return spans["start"].min(), ends.max()


# ---- facts


def shown_name(suspect: Suspect) -> str:
    """Return a suspect's endpoint as it is shown."""
    return suspect.name or suspect.endpoint


def losses(verdict: Verdict) -> list[str]:
    """Return what the requests from outside lost in all, a sentence a figure, the worst first."""
    rows = verdict.steps[0].rows if verdict.steps else []
    worse = [row for row in rows if what_is_worse(row)]

    def order(row: dict[str, Any]) -> tuple[float, float]:
        more_failed = row["now_failed"] - row["usual_failed"]
        return -more_failed, -row["now_ms"]

    worse.sort(key=order)
    told = []
    for row in worse[:MOST_ENTRIES]:
        requests = f"{row['n_now']} requests of {row['entry']} from outside"
        told += [f"{requests}: {figure}." for figure in worse_figures(row)]
    return told


def path_to_cause(case: Finding, spans: pd.DataFrame) -> list[str]:
    """Return the endpoints through which requests reached the cause, the entry first: of several
    paths, the one with the most excess.
    """
    verdict = case.verdict
    if verdict.cause is None:
        return []
    samples = [trace["trace_id"] for trace in verdict.sample_traces]
    bad = {*verdict.traces, *samples}
    return [*worst_path(verdict.cause, spans, bad, case.since)]


def _at_cause(spans: pd.DataFrame, cause: Suspect) -> pd.DataFrame:
    """Return the spans of the cause, or the calls of it where it has none."""
    at_endpoint = spans[spans["endpoint"] == cause.endpoint]
    served = at_endpoint[at_endpoint["service"] == cause.service]
    if len(served):
        return served
    return at_endpoint[at_endpoint["peer"] == cause.service]


def errors_at_cause(case: Finding, spans: pd.DataFrame) -> list[str]:
    """Return what the failed requests of the cause answered, the most frequent first."""
    cause = case.verdict.cause
    if cause is None:
        return []
    is_during = spans["start"].between(case.since, case.until)
    there = _at_cause(spans[is_during], cause)
    status = there["status"].fillna(200).astype(int)
    texts = there["error"].map(_with_colon, "ignore").fillna("")
    answers = "status " + status.astype(str)
    answers = answers.where(status != 0, "no answer") + texts
    failed = (status == 0) | (status >= 500)
    counts = answers[failed].value_counts()
    most_frequent = counts.head(MOST_ERRORS)
    return [f"{n} × {answer}" for answer, n in most_frequent.items()]


def _with_colon(error: str) -> str:
    return f": {shorten(error)}"


# ---- before and now


def differences(case: Finding, spans: pd.DataFrame) -> list[Difference]:
    """Return the numbers before and now of the cause, what it made worse, and what it calls."""
    rows = {row["endpoint"]: row for row in case.verdict.endpoints}
    roles = _roles(case, called_by_cause(case, spans))
    known = [name for name in roles if name in rows]
    return [_difference(rows[name], roles[name]) for name in known[:MOST_DIFFERENCES]]


def _roles(case: Finding, called: list[str]) -> dict[str, str]:
    """Return the role of each endpoint: the cause, what is worse, and what the cause has called."""
    cause = case.verdict.cause
    roles = {shown_name(cause): CAUSE} if cause else {}
    suspects = {*map(shown_name, case.verdict.suspects)}
    for row in _degraded(case.verdict):
        name = row["endpoint"]
        if name not in called:
            role = "another suspect" if name in suspects else "worse too"
            roles.setdefault(name, role)
    for name in called:
        roles.setdefault(name, CALLED)
    return roles


def _degraded(verdict: Verdict) -> list[dict[str, Any]]:
    """Return the rows of the degraded endpoints, the largest share first."""
    degraded = [row for row in verdict.endpoints if row["degraded"]]
    return sorted(degraded, key=lambda row: -row["share"])


def _difference(row: dict[str, Any], role: str) -> Difference:
    return Difference(
        endpoint=row["endpoint"],
        role=role,
        usual_requests=row["n_usual"],
        requests=row["n_now"],
        usual_ms=row["usual_ms"] if row["n_usual"] else None,
        now_ms=row["now_ms"] if row["n_now"] else None,
        usual_failed=row["usual_failed"],
        now_failed=row["now_failed"],
    )


def called_by_cause(case: Finding, spans: pd.DataFrame) -> list[str]:
    """Return the endpoints that the cause calls, as shown, by the number of calls."""
    cause = case.verdict.cause
    if cause is None:
        return []
    graph = service_graph(spans)
    calls = graph[graph["caller"] == shown_name(cause)]
    most_first = calls.sort_values("calls", ascending=False, kind="stable")
    return most_first["callee"].tolist()


def why_there(case: Finding, spans: pd.DataFrame) -> list[str]:
    """Return what speaks for the cause: that it fails fast, and how those did that it calls."""
    cause = case.verdict.cause
    table = differences(case, spans)
    mine = [row for row in table if row.role == CAUSE]
    if cause is None or not mine:
        return []
    told = fast_failure(mine[0])
    callees = [row for row in table if row.role == CALLED]
    shown = "; ".join(map(before_and_now, callees[:MOST_CALLEES]))
    if shown:
        told.append(f"What {mine[0].endpoint} calls itself: {shown}.")
    return told


def fast_failure(row: Difference) -> list[str]:
    """Return that an endpoint fails sooner than it used to answer; nothing where it does not."""
    fails = row.now_failed - row.usual_failed > MORE_FAILURES
    if not fails or row.now_ms is None or row.usual_ms is None:
        return []
    if row.now_ms >= FASTER * row.usual_ms:
        return []
    return [
        f"It fails fast: {row.now_ms:.1f} ms instead of {row.usual_ms:.1f} ms. It answers "
        "with an error before its work is done: latency alone would show an improvement."
    ]


def before_and_now(row: Difference) -> str:
    """Return how one endpoint did, in words."""
    if row.now_ms is None:
        return f"{row.endpoint} was not reached any more"
    usual = "not called before"
    if row.usual_ms is not None:
        usual = f"usually {row.usual_ms:.1f} ms"
    told = f"{row.endpoint} {row.now_ms:.1f} ms ({usual})"
    if row.now_failed - row.usual_failed > MORE_FAILURES:
        told += f", {row.now_failed:.0%} failed"
    return told


# ---- end and doubts


def is_over(case: Finding, findings: Findings) -> bool:
    """Return whether a window or more of the recording came after the trouble."""
    _, end = bounds(findings.spans)
    return end > case.until


def doubts(verdict: Verdict) -> list[Step]:
    """Return why degraded endpoints are not held to be the cause, the largest share first."""
    named = verdict.cause and shown_name(verdict.cause)
    names = [row["endpoint"] for row in _degraded(verdict)]
    others = [name for name in names if name != named]
    return [verdict.why_not(name) for name in others[:MOST_DOUBTS]]
