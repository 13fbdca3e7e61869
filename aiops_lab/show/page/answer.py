"""What is told of an incident first? Cause, path and doubt, on one screen however large it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from aiops_lab.checks import cut
from aiops_lab.results import Anomaly, Step, Suspect, TableRow, Verdict
from aiops_lab.show.certainty import limits_of, meaning_of
from aiops_lab.show.findings import Finding, doubts, losses, path_to_cause, shown_name
from aiops_lab.show.page.pictures import Share, Waterfall, shares, waterfall_picture
from aiops_lab.spans import Key

if TYPE_CHECKING:
    from aiops_lab.detect.incidents import Incident
    from aiops_lab.monitor import Monitor

Spans = Callable[[str], pd.DataFrame]  # of one trace

# Of the first answer, so that it stays below 4 KB of text.
MOST_NAME = 60  # characters of a name
MOST_TOP_DOUBTS = 2
MOST_TOP_LIMITS = 2
MOST_TOP_LOSSES = 3
MOST_SUSPECTS = 3
MOST_TOP_ERRORS = 2
MOST_SHARES = 4
MOST_TOP_BARS = 8
MOST_TOP_CHANGES = 1
MOST_PATH = 6

_SURE, _LIKELY = 0.9, 0.5  # confidence from which a cause is called certain enough, and likely

MARGIN_S = 120.0  # before an incident began and after its last window: its requests lie inside


class LedgerTable(NamedTuple):
    """Where the excess of an entry came from: a bar an account, and the sum at the entry."""

    entry: str
    unit: str
    total: float
    bars: list[Share]


class WorstWindow(NamedTuple):
    """What detection found where it was worst: how its figure was measured, and the figure."""

    measure: str
    endpoint: str
    figure: str


class TopAnswer(NamedTuple):
    """The first answer: what a page shows of an incident before anybody asks for more."""

    incident: Incident
    cause: Suspect | None
    certainty: str
    worst: WorstWindow
    losses: list[str]
    errors: list[str]
    path: list[str]
    limits: list[str]
    doubts: list[tuple[str, Step]]
    others: list[Suspect]
    ledger: LedgerTable | None
    request: Waterfall | None
    changes: list[Step]


def clip(text: str, length: int = MOST_NAME) -> str:
    """Return a text cut to `length` characters."""
    return cut(text, length)


def answer_of(incident: Incident, spans: Spans) -> TopAnswer:
    """Return the first answer; `spans` returns those of a trace by its id."""
    verdict = incident.verdict
    sample = _longest_sample(verdict)
    trace = spans(sample[0]["trace_id"]) if sample else pd.DataFrame()
    has_spans = len(trace) > 0
    case = Finding(
        incident.title,
        incident.started,
        incident.last_anomaly,
        replace(verdict, sample_traces=sample),
    )
    return TopAnswer(
        incident=incident,
        cause=verdict.cause,
        certainty=_certainty(verdict.cause),
        worst=worst_window(incident.main_anomaly),
        losses=losses(verdict)[:MOST_TOP_LOSSES],
        errors=_errors(incident),
        path=_path(case, trace) if has_spans else [],
        limits=limits_of(verdict)[:MOST_TOP_LIMITS],
        doubts=_doubts(incident),
        others=[*verdict.suspects[1 : 1 + MOST_SUSPECTS]],
        ledger=ledger_of(incident, MOST_SHARES),
        request=waterfall_picture(trace, MOST_TOP_BARS, cause_key(incident)) if has_spans else None,
        changes=[*verdict.changes[:MOST_TOP_CHANGES]],
    )


def cause_key(incident: Incident) -> Key | None:
    """Return the (service, endpoint) of the cause of an incident, None without one."""
    return None if incident.root_cause is None else incident.root_cause.key


def worst_window(anomaly: Anomaly) -> WorstWindow:
    """Return the figure of an anomaly, and over which time it was measured."""
    seconds = (anomaly.end - anomaly.window).total_seconds()
    lasts = "lasts_s" in anomaly.evidence
    measure = "Level of late" if lasts else f"Worst window ({seconds:g} s)"
    return WorstWindow(measure, anomaly.name or anomaly.endpoint, anomaly.details)


def spans_of_trace(monitor: Monitor, incident: Incident, trace_id: str) -> pd.DataFrame:
    """Return the spans of one trace of an incident, none where they are no longer in the store."""
    margin = pd.Timedelta(MARGIN_S, "s")
    since = min(begin for begin, _ in incident.episodes) - margin
    until = incident.last_anomaly + margin
    return monitor.store.spans(since, until, trace_id=trace_id)


def _certainty(cause: Suspect | None) -> str:
    """Return how sure a cause is, in a sentence."""
    if cause is None:
        return "Nothing exceeds the noise by enough to name a cause."
    told = meaning_of(cause)
    if cause.confidence >= _SURE:
        return told
    if cause.confidence >= _LIKELY:
        return f"{told} Likely, not certain: look at the doubts below before you act."
    return f"{told} A lead rather than a finding: check it before you act."


def _errors(incident: Incident) -> list[str]:
    """Return a few of the messages with which requests failed; none where they did not."""
    main = incident.main_anomaly
    if main.type != "error_spike":
        return []
    samples = main.evidence.get("sample_errors", [])
    return [str(error) for error in samples[:MOST_TOP_ERRORS]]


def _longest_sample(verdict: Verdict) -> tuple[TableRow, ...]:
    """Return the sample trace whose way to the cause is longest: it says most; none of none."""
    samples = verdict.sample_traces
    return tuple(sorted(samples, key=lambda row: -len(row["affected_chain"]))[:1])


def _path(case: Finding, trace: pd.DataFrame) -> list[str]:
    """Return the endpoints from the entry to the cause; a long path without its middle."""
    path = path_to_cause(case, trace)
    if len(path) <= MOST_PATH:
        return path
    between = len(path) - 4
    return [*path[:2], f"{between} more", *path[-2:]]


def _doubts(incident: Incident) -> list[tuple[str, Step]]:
    """Return the worse endpoints that are not held to be the cause, each with the reason."""
    return [(_asked(step), step) for step in doubts(incident.verdict)[:MOST_TOP_DOUBTS]]


def _asked(step: Step) -> str:
    """Return the endpoint of the step of `Verdict.why_not`."""
    return step.title.removeprefix("Why not ").removesuffix("?")


def ledger_of(incident: Incident, most: int, entry: str | None = None) -> LedgerTable | None:
    """Return the ledger of the entry that lost most, with the `most` largest accounts.

    None where nothing was compared. Raises ValueError for an entry that was not.
    """
    if not incident.verdict.steps:
        return None
    try:
        table = incident.verdict.ledger_table(entry)
    except ValueError:
        if entry is not None:
            raise
        return None
    about = table.attrs
    sums = table.groupby("account")["excess"].sum()
    bars = shares({str(account): excess for account, excess in sums.items()}, most)
    return LedgerTable(about["entry"], about["unit"], about["total"], bars)


def cause_sentence(incident: Incident) -> str:
    """Return the cause of an incident and how sure it is, in a few words."""
    cause = incident.root_cause
    if cause is None:
        return "No cause found yet"
    return f"Cause: {clip(shown_name(cause))}, confidence {cause.confidence:.0%}"


def facts_of(incident: Incident) -> dict[str, Any]:
    """Return what may change of an incident while it is open, to tell changes."""
    cause = incident.root_cause
    return {
        "status": incident.status,
        "severity": incident.severity,
        "cause": cause and shown_name(cause),
        "history": len(incident.history),
    }
