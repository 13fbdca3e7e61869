"""What is there to tell of a recording? Its incidents as text, as JSON, or as one HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
import pandas as pd

from aiops_lab.results import Explanation, Step, Verdict, iso
from aiops_lab.show.certainty import limits_of, meaning_of
from aiops_lab.show.findings import (
    Finding,
    Findings,
    bounds,
    differences,
    doubts,
    errors_at_cause,
    is_over,
    losses,
    path_to_cause,
    shown_name,
    why_there,
)
from aiops_lab.show.services import service_faults
from aiops_lab.traces.graph import service_graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TIMELINES = 4  # endpoints of an incident that are drawn: the cause first
MOST_IN_GRAPH = 40  # endpoints; beyond these the graph shows services

WORDS = {
    "account": "An account is one place where time or failures can originate: an endpoint itself, "
    "or an edge.",
    "edge": "The edge a → b is what a call from a to b costs outside of b: network, queue, "
    "connection. It counts to b, unless a became slow to reach everything.",
    "score": "The score is the excess that originated at an endpoint, beyond the noise: 1 is as "
    "much as a whole usual request costs.",
    "unusual": "The score says how unusual the service of an endpoint is, from 0 to 1.",
}
"""Words of the tables of an explanation, as said below the text of the step that shows them."""


# ---- text and JSON


def summary(findings: Findings) -> str:
    """Return in one or two sentences what was looked at, and how much was found."""
    spans = findings.spans
    since, until = bounds(spans)
    traces = spans["trace_id"].nunique()
    services = spans["service"].nunique()
    read = (
        f"{findings.name}: {_counted(len(spans), 'span')}, {_counted(traces, 'trace')}, "
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
    is_learning = windows["state"] == "learning"
    if len(windows) and is_learning.mean() < 0.9:
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
    where = f"{shown_name(cause)} (service {cause.service})"
    return f"Root cause: {where}, confidence {cause.confidence:.0%}."


def certainty(case: Finding, findings: Findings) -> list[str]:
    """Return what the confidence in the cause means, and what limits it; none without a cause."""
    cause = case.verdict.cause
    if cause is None:
        return []
    place = [other is case for other in findings.cases].index(True)
    faults = [fault for fault in service_faults(findings.cases) if place in fault.cases]
    return [meaning_of(cause), *limits_of(case.verdict, faults)]


def steps_to_cause(verdict: Verdict) -> Explanation:
    """Return the steps to the cause; each says the words that its table holds."""
    return Explanation(_with_words(step) for step in verdict.explain())


def _with_words(step: Step) -> Step:
    explained = [WORDS[word] for word in _words_in(step)]
    text = "\n".join([step.text, *explained])
    return replace(step, text=text)


def _words_in(step: Step) -> list[str]:
    first = step.rows[0] if step.rows else {}
    if "score" in first:
        return ["score" if first.get("unit") == "usual requests" else "unusual"]
    if "account" not in first:
        return []
    accounts = [row["account"] for row in step.rows]
    has_edge = any(account.startswith("edge ") for account in accounts)
    return ["account", "edge"] if has_edge else ["account"]


def facts(case: Finding, findings: Findings) -> list[str]:
    """Return what happened when, what was lost, by which path and with which errors."""
    end = "over" if is_over(case, findings) else "not over when the recording ends"
    told = [f"{case.since:%Y-%m-%d %H:%M:%S} to {case.until:%H:%M:%S} UTC, {end}."]
    told += [f"In all: {loss}" for loss in losses(case.verdict)]
    path = path_to_cause(case, findings.spans)
    if len(path) > 1:
        told.append(f"Path of a request: {' → '.join(path)}.")
    told += why_there(case, findings.spans)
    errors = errors_at_cause(case, findings.spans)
    if errors:
        told.append(f"Failed requests at the cause: {'; '.join(errors)}.")
    for anomaly in case.anomalies:
        name = anomaly.name or anomaly.endpoint
        told.append(f"Worst window of {name}: {anomaly.description}.")
    return told


def to_text(findings: Findings) -> str:
    """Return all cases as text, each with cause, facts, doubts, and how the cause was found."""
    parts = [summary(findings), *map(str, service_faults(findings.cases))]
    for case in findings.cases:
        verdict = case.verdict
        lines = [
            _heading(case),
            cause_line(verdict),
            *certainty(case, findings),
            *facts(case, findings),
        ]
        lines += [step.text for step in doubts(verdict)]
        parts += ["\n".join(lines), str(steps_to_cause(verdict))]
    return "\n\n".join(part for part in parts if part)


def _heading(case: Finding) -> str:
    severity = f" (severity {case.incident.severity})" if case.incident else ""
    return f"== {case.title}{severity}"


def to_dict(findings: Findings) -> dict[str, Any]:
    """Return all cases as JSON-ready data; an incident as the HTTP interface shows it."""
    cases = [_case_to_dict(case, findings) for case in findings.cases]
    return {
        "recording": findings.name,
        "spans": len(findings.spans),
        "left_out": findings.spans.attrs.get("left_out", {}),
        "service_faults": [
            fault._asdict() | {"text": str(fault)} for fault in service_faults(findings.cases)
        ],
        "cases": cases,
    }


def _case_to_dict(case: Finding, findings: Findings) -> dict[str, Any]:
    verdict = case.verdict
    suspects = [suspect.to_dict() for suspect in verdict.suspects]
    return {
        "title": case.title,
        "since": iso(case.since),
        "until": iso(case.until),
        "suspects": suspects,
        "certainty": certainty(case, findings),
        "path": path_to_cause(case, findings.spans),
        "affected_endpoints": list(verdict.affected),
        "ledger": list(verdict.ledger),
        "endpoints": list(verdict.endpoints),
        "sample_traces": list(verdict.sample_traces),
        "differences": [each._asdict() for each in differences(case, findings.spans)],
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
        service_faults=service_faults(findings.cases),
        cases=[_page_part(case, findings) for case in findings.cases],
        graph=_pictures(_graph(findings)),
        plots_missing=_plots_missing(),
        left_out=findings.spans.attrs.get("left_out", {}),
        words=WORDS,
    )


def _page_part(case: Finding, findings: Findings) -> dict[str, Any]:
    """Return what the template shows of a case."""
    verdict = case.verdict
    suspects = [*map(shown_name, verdict.suspects)]
    victims = [name for name in verdict.affected if name not in suspects]
    traces = [trace["trace_id"] for trace in verdict.sample_traces]
    return {
        "title": case.title,
        "severity": case.incident.severity if case.incident else None,
        "cause": cause_line(verdict),
        "certainty": certainty(case, findings),
        "victims": victims,
        "facts": facts(case, findings),
        "differences": differences(case, findings.spans),
        "steps": steps_to_cause(verdict),
        "doubts": doubts(verdict),
        "pictures": _pictures(_figures(case, findings)),
        "traces": traces,
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
    """Return a figure, which is then closed, as an SVG in a data URL."""
    from matplotlib import pyplot

    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight")
    pyplot.close(figure)
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def _figures(case: Finding, findings: Findings) -> Figures:
    from aiops_lab.show import plots

    verdict = case.verdict
    windows = _windows_of(case, findings)
    if windows is not None:
        length = (windows["end"] - windows["window"]).max().total_seconds()
        caption = (
            f"The cause and its victims. Each point is a window of {length:g} s, drawn at its end: "
            "above the geometric mean of the latency, on a log scale, below the share of requests "
            "that failed. A mark shows the first window of an anomaly."
        )
        yield caption, plots.overview(windows, case.anomalies)
    if verdict.ledger:
        table = verdict.ledger_table()
        caption = (
            f"What {table.attrs['entry']} lost against normal traffic, in {table.attrs['unit']}, "
            "by the place where it originated. The last bar is the sum of all others."
        )
        yield caption, _figure_of(plots.ledger(table))
    for sample in verdict.sample_traces[:1]:
        caption = (
            "A slow or failed request; each service has a colour. Dark: own time. Light: waiting "
            "for others. Hatched: the same call as its caller saw it."
        )
        ax = plots.waterfall(findings.spans, sample["trace_id"])
        yield caption, _figure_of(ax)


def _windows_of(case: Finding, findings: Findings) -> pd.DataFrame | None:
    """Return the windows of the cause and of the endpoints with anomalies, a few."""
    if findings.windows is None:
        return None
    cause = case.verdict.cause
    keys = [cause.key] if cause else []
    keys += [anomaly.key for anomaly in case.anomalies]
    each_once = list(dict.fromkeys(keys))
    places = findings.windows[["service", "endpoint"]].astype(object)
    found = pd.MultiIndex.from_frame(places)
    is_shown = found.isin(each_once[:MOST_TIMELINES])
    windows = findings.windows[is_shown]
    return windows if len(windows) else None


def _graph(findings: Findings) -> Figures:
    from aiops_lab.show import plots

    by = "endpoint"
    places = findings.spans[["service", "endpoint"]].drop_duplicates()
    if len(places) > MOST_IN_GRAPH:
        by = "service"
    graph = service_graph(findings.spans, by=by)
    if len(graph):
        caption = (
            f"Which {by} calls which, in the whole recording, with the median latency of the "
            "calls. Dashed: some of them failed."
        )
        yield caption, _figure_of(plots.call_graph(graph))


def _figure_of(axes: Any) -> Figure:
    return axes.figure
