"""What is there to tell of a recording? Its incidents as text, as JSON, or as one HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
import pandas as pd

from aiops_lab.detect.incidents import Incident
from aiops_lab.explain.ledger import compare
from aiops_lab.explain.ranking import rank_suspects
from aiops_lab.explain.reference import learn
from aiops_lab.explain.verdict import build_verdict
from aiops_lab.monitor import replay
from aiops_lab.results import Anomaly, Step, Verdict, iso
from aiops_lab.spans import check
from aiops_lab.traces.graph import service_graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aiops_lab.detect.sensitivity import Sensitivity

MOST_TIMELINES = 4  # endpoints of an incident that are drawn: the cause first
MOST_WHY_NOT = 8
MOST_IN_GRAPH = 40  # endpoints; beyond these the graph shows services


class Case(NamedTuple):
    """One trouble: its title, when it was (UTC), its verdict, and what detection found of it."""

    title: str
    since: pd.Timestamp
    until: pd.Timestamp
    verdict: Verdict
    anomalies: tuple[Anomaly, ...] = ()
    incident: Incident | None = None


class Findings(NamedTuple):
    """What was found in the spans called ``name``; ``windows`` are None where none were judged."""

    name: str
    spans: pd.DataFrame
    cases: list[Case]
    windows: pd.DataFrame | None = None

    @property
    def has_cause(self) -> bool:
        """Whether a cause was found."""
        return any(case.verdict.cause for case in self.cases)


# ---- finding


def find_incidents(spans: pd.DataFrame, name: str, sensitivity: Sensitivity) -> Findings:
    """Return the incidents of a recording that holds normal traffic before the trouble."""
    report = replay(spans, sensitivity)
    cases = [
        Case(
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
    comparison = compare(learn(normal), spans)
    verdict = build_verdict(comparison, rank_suspects(comparison))
    checked = check(spans)
    case = Case(f"{name} against normal traffic", *_bounds(checked), verdict)
    return Findings(name, spans, [case])


def _bounds(spans: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
    ends = spans["start"] + pd.to_timedelta(spans["duration_ms"].fillna(0), "ms")
    return spans["start"].min(), ends.max()


# ---- text and JSON


def summary(findings: Findings) -> str:
    """Return in one or two sentences what was looked at, and how much was found."""
    spans = findings.spans
    since, until = _bounds(spans)
    traces = spans["trace_id"].nunique()
    services = spans["service"].nunique()
    read = (
        f"{findings.name}: {len(spans):,} spans, {_counted(traces, 'trace')}, "
        f"{_counted(services, 'service')}, {since:%Y-%m-%d %H:%M:%S} to {until:%H:%M:%S} UTC."
    )
    if findings.windows is None:
        return read
    found = _counted(len(findings.cases), "incident")
    return f"{read} {found} found.{_why_none(findings)}"


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _why_none(findings: Findings) -> str:
    windows = findings.windows
    if findings.cases or windows is None:
        return ""
    learning = (windows["state"] == "learning").mean() if len(windows) else 1.0
    if learning < 0.9:
        return ""
    return (
        " What is normal could not be learned: the recording is too short, or has too few"
        " requests. Give a recording of normal traffic with --normal, or longer windows."
    )


def cause_line(verdict: Verdict) -> str:
    """Return the cause and how sure it is, in one sentence."""
    cause = verdict.cause
    if cause is None:
        return "No cause found: nothing exceeds the noise."
    where = f"{cause.name or cause.endpoint} (service {cause.service})"
    return f"Root cause: {where}, confidence {cause.confidence:.0%}."


def to_text(findings: Findings) -> str:
    """Return all cases as text, each with its cause, its explanation and its doubts."""
    parts = [summary(findings)]
    for case in findings.cases:
        parts.append(f"== {case.title}\n{_when(case)}\n{cause_line(case.verdict)}")
        parts.append(str(case.verdict.explain()))
        parts.extend(step.text for step in doubts(case.verdict))
    return "\n\n".join(part for part in parts if part)


def _when(case: Case) -> str:
    lines = [f"{case.since:%Y-%m-%d %H:%M:%S} to {case.until:%H:%M:%S} UTC"]
    lines.extend(f"{a.name or a.endpoint}: {a.description}" for a in case.anomalies)
    return "\n".join(lines)


def doubts(verdict: Verdict) -> list[Step]:
    """Return why degraded endpoints are not held to be the cause, the largest share first."""
    degraded = [row for row in verdict.endpoints if row["degraded"]]
    degraded.sort(key=lambda row: -row["share"])
    cause = verdict.cause
    named = cause and (cause.name or cause.endpoint)
    others = [row["endpoint"] for row in degraded if row["endpoint"] != named]
    return [verdict.why_not(name) for name in others[:MOST_WHY_NOT]]


def to_dict(findings: Findings) -> dict[str, Any]:
    """Return all cases as JSON-ready data; an incident as the HTTP interface shows it."""
    return {
        "recording": findings.name,
        "spans": len(findings.spans),
        "left_out": findings.spans.attrs.get("left_out", {}),
        "cases": [_case_to_dict(case) for case in findings.cases],
    }


def _case_to_dict(case: Case) -> dict[str, Any]:
    verdict = case.verdict
    return {
        "title": case.title,
        "since": iso(case.since),
        "until": iso(case.until),
        "suspects": [suspect.to_dict() for suspect in verdict.suspects],
        "affected_endpoints": list(verdict.affected),
        "ledger": list(verdict.ledger),
        "endpoints": list(verdict.endpoints),
        "sample_traces": list(verdict.sample_traces),
        "incident": case.incident.to_dict() if case.incident else None,
    }


# ---- HTML


def to_html(findings: Findings) -> str:
    """Return all cases as one HTML page that needs no other file: pictures are inside."""
    folder = Path(__file__).parent / "templates"
    loader = jinja2.FileSystemLoader(folder)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(
        name=findings.name,
        summary=summary(findings),
        cases=[_page_part(case, findings) for case in findings.cases],
        graph=_pictures(_graph(findings)),
        plots_missing=_plots_missing(),
        left_out=findings.spans.attrs.get("left_out", {}),
    )


def _page_part(case: Case, findings: Findings) -> dict[str, Any]:
    """Return what the template shows of a case."""
    verdict = case.verdict
    return {
        "title": case.title,
        "severity": case.incident.severity if case.incident else None,
        "when": _when(case).splitlines(),
        "cause": cause_line(verdict),
        "affected": verdict.affected,
        "steps": verdict.explain(),
        "doubts": doubts(verdict),
        "pictures": _pictures(_figures(case, findings)),
    }


class Picture(NamedTuple):
    """An SVG as a data URL, with the sentence that says what it shows."""

    url: str
    caption: str


Figures = Iterator[tuple[str, "Figure"]]


def _pictures(figures: Figures) -> list[Picture]:
    """Return figures as pictures; none where matplotlib is not installed."""
    if _plots_missing():
        return []
    return [Picture(_data_url(figure), caption) for caption, figure in figures]


def _plots_missing() -> str:
    """Return what is to be installed before a page can have pictures, "" if all is there."""
    try:
        import_module("aiops_lab.show.plots")
    except ImportError as error:
        return str(error)
    return ""


def _data_url(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight")
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def _figures(case: Case, findings: Findings) -> Figures:
    from aiops_lab.show import plots

    verdict = case.verdict
    windows = _windows_of(case, findings)
    if windows is not None:
        caption = "Latency and failures of the cause and of those who wait for it."
        yield caption, plots.overview(windows, case.anomalies)
    if verdict.ledger:
        table = verdict.ledger_table()
        caption = "What the requests lost, by where it originated. The last bar is the sum."
        yield caption, _figure_of(plots.ledger(table))
    for sample in verdict.sample_traces[:1]:
        caption = "One of the requests. Dark: own time. Light: waiting for others."
        yield caption, _figure_of(plots.waterfall(findings.spans, sample["trace_id"]))


def _windows_of(case: Case, findings: Findings) -> pd.DataFrame | None:
    """Return the windows of the cause and of the endpoints with anomalies, a few."""
    if findings.windows is None:
        return None
    cause = case.verdict.cause
    keys = [cause.key] if cause else []
    keys = list(dict.fromkeys([*keys, *(a.key for a in case.anomalies)]))[:MOST_TIMELINES]
    found = pd.MultiIndex.from_frame(findings.windows[["service", "endpoint"]].astype(object))
    windows = findings.windows[found.isin(keys)]
    return windows if len(windows) else None


def _graph(findings: Findings) -> Figures:
    from aiops_lab.show import plots

    by = "endpoint"
    if findings.spans[["service", "endpoint"]].drop_duplicates().shape[0] > MOST_IN_GRAPH:
        by = "service"
    graph = service_graph(findings.spans, by=by)
    if len(graph):
        yield f"Who calls whom, by {by}.", _figure_of(plots.service_graph(graph))


def _figure_of(axes: Any) -> Figure:
    return axes.figure
