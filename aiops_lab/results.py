"""Plain data that crosses the wings: Anomaly, Suspect, Verdict, Step, Explanation, ClockChange."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from importlib import import_module
from math import isnan
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.spans import Key

TableRow = dict[Any, Any]
"""A row of a table as plain data, by column."""

SEVERITIES = ("low", "medium", "high", "critical")  # of anomalies, in rising order

INFO = "info"
"""Severity of an incident that shows only a small lasting shift which began at a noted change: its
level is offered as the new normal, and nobody is called."""

INCIDENT_SEVERITIES = (INFO, *SEVERITIES)


class AnomalyKind(NamedTuple):
    """What a type of anomaly is called, how its evidence reads, its colour and marker, and the
    names of the evidence that says how large it is, the first that is there.

    ``heading`` returns what an anomaly is called by its evidence, where that says more than
    ``title``. ``is_faint``: of one severity, other types are told before it.
    """

    title: str
    describe: Callable[[dict[str, Any]], str]
    mark: tuple[str, str]
    size: tuple[str, ...] = ()
    heading: Callable[[dict[str, Any]], str] | None = None
    is_faint: bool = False


ANOMALY_KINDS: dict[str, AnomalyKind] = {}
"""The registered types of anomalies by name; a detector registers its own. Those of the package
are here once its detectors are imported: `kind_of` does that.
"""

_DETECTORS = "aiops_lab.detect.detectors"


def register_kind(name: str, kind: AnomalyKind) -> None:
    """Say how anomalies of type `name` read and look; a later registration replaces an earlier."""
    ANOMALY_KINDS[name] = kind


def kind_of(name: str) -> AnomalyKind | None:
    """Return how anomalies of type `name` read and look; None where no detector has said it."""
    if name not in ANOMALY_KINDS:
        import_module(_DETECTORS)  # each registers its own kind
    return ANOMALY_KINDS.get(name)


@dataclass(frozen=True)
class Anomaly:
    """One endpoint behaved unusually in one window.

    ``window`` and ``end`` bound the window (Timestamps, UTC), ``evidence`` holds the numbers that
    led to the verdict, and ``name`` is the endpoint as shown. ``traces`` are the trace_ids of
    requests that show it, and ``crowded`` those among them that many of these requests share: what
    a client sends under one trace does not belong together. ``since`` says when it began, where it
    took more than this window to see it.
    """

    type: str
    service: str
    endpoint: str
    window: pd.Timestamp
    end: pd.Timestamp
    severity: str = "medium"
    evidence: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    traces: tuple[str, ...] = ()
    crowded: tuple[str, ...] = ()
    since: pd.Timestamp | None = None

    @property
    def began(self) -> pd.Timestamp:
        """When what it shows began: ``since``, else the start of its window."""
        return self.window if self.since is None else self.since

    @cached_property
    def key(self) -> Key:
        """The (service, endpoint)."""
        return self.service, self.endpoint

    @property
    def title(self) -> str:
        """What it is called, such as "Latency spike"."""
        kind = kind_of(self.type)
        if kind is None:
            return self.type
        return kind.heading(self.evidence) if kind.heading else kind.title

    @property
    def description(self) -> str:
        """The anomaly in one line."""
        return f"{self.title}: {self.details}" if kind_of(self.type) else self.details

    @property
    def details(self) -> str:
        """Its evidence in one line."""
        kind = kind_of(self.type)
        if kind:
            return kind.describe(self.evidence)
        return ", ".join(f"{name} {value}" for name, value in self.evidence.items())

    def to_dict(self) -> dict[str, Any]:
        """Return the anomaly as the HTTP interface shows it."""
        shown = {
            "type": self.type,
            "endpoint": self.name or self.endpoint,
            "service": self.service,
            "severity": self.severity,
            "window": iso(self.window),
        }
        return shown | self.evidence


def iso(moment: pd.Timestamp | None) -> str | None:
    """Return an ISO 8601 time in UTC with microseconds and a Z, None for no time."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True)
class Suspect:
    """An endpoint that may be the root cause.

    ``score`` is the excess that originated there, in usual requests (1 = as much as a whole usual
    request costs); where too little was lost for that, ``by`` is "deviations" instead of "excess",
    and ``score`` is how unusual its service is, from 0 to 1. ``share`` is its part of all suspects'
    scores. ``confidence`` is how often such a suspect was right where the truth is known.
    ``support`` is (k, n): in k of n bad requests the largest excess originated there. ``evidence``
    holds the rows behind it. ``terms`` are the numbers of the case that the confidence depends on,
    and ``caution`` says in words what the case is unlike in, compared with those that the
    confidence was learned from: such a confidence is lowered.
    """

    service: str
    endpoint: str
    score: float
    confidence: float = 0.0
    support: tuple[int, int] = (0, 0)
    evidence: tuple[TableRow, ...] = ()
    name: str = ""
    share: float = 0.0
    by: str = "excess"
    terms: TableRow = field(default_factory=dict)
    caution: str = ""

    @cached_property
    def key(self) -> Key:
        """The (service, endpoint)."""
        return self.service, self.endpoint

    @property
    def _shown_name(self) -> str:
        """The endpoint as shown."""
        return self.name or self.endpoint

    def to_dict(self) -> dict[str, Any]:
        """Return the suspect as the HTTP interface shows it."""
        k, n = self.support
        shown: dict[str, Any] = {
            "endpoint": self._shown_name,
            "service": self.service,
            "confidence": self.confidence,
            "score": self.score,
            "share": self.share,
            "by": self.by,
        }
        if self.caution:
            shown["caution"] = self.caution
        return shown | {"support": {"k": k, "n": n}}


@dataclass(frozen=True)
class Verdict:
    """The result of root cause analysis for an incident, as plain data.

    ``affected``: the degraded endpoints that the cause explains. ``steps``: how it was found.
    ``ledger`` and ``endpoints``: the rows that it rests on. ``sample_traces``: a few traces in
    detail; ``traces``: the trace_ids of the first of the ``total_traces`` bad ones. ``changes``:
    the step that tells what was changed before, where changes are known. ``is_offered``: whether
    nothing was seen but a small lasting shift that began at a noted change of the cause's service.
    """

    suspects: tuple[Suspect, ...] = ()
    affected: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    ledger: tuple[TableRow, ...] = ()
    endpoints: tuple[TableRow, ...] = ()
    sample_traces: tuple[TableRow, ...] = ()
    total_traces: int = 0
    traces: tuple[str, ...] = ()
    changes: tuple[Step, ...] = ()
    is_offered: bool = False

    @property
    def cause(self) -> Suspect | None:
        """The first suspect, or None where the analysis abstains."""
        return self.suspects[0] if self.suspects else None

    @property
    def _cause_name(self) -> str | None:
        """The endpoint of the first suspect as shown, or None where the analysis abstains."""
        return self.cause._shown_name if self.cause else None

    def explain(self) -> Explanation:
        """Return the steps that led to the root cause, each with the rows it used, the last with
        traces that show it.

        It is a list; printed it reads as a text, in a notebook as a page.
        """
        before = self.steps[:-1]
        last = self.steps[-1:]
        samples = list(self.sample_traces)
        shown = [replace(step, traces=samples) for step in last]
        return Explanation([*before, *shown, *self.changes])

    def why_not(self, endpoint: str) -> Step:
        """Return why `endpoint` is not the root cause, or is not held to be.

        It is named as shown, or by its route, or by service and route (``pay /payment``). A
        database's statement and an external service's path are endpoints as well.

        Raises
        ------
        ValueError
            If the compared requests never touched that endpoint, or several have that route; names
            those that are known.
        """
        row = self._row_of(endpoint)
        name = row["endpoint"] if row else endpoint
        mine = [row for row in self.ledger if row["attributed_to"] == name]
        if row is None and not mine:
            known = {row["endpoint"] for row in self.endpoints}
            known |= {row["attributed_to"] for row in self.ledger}
            raise ValueError(f"endpoint must be one of {sorted(known)}, got {endpoint!r}")
        through = [trace for trace in self.sample_traces if name in trace["affected_chain"]]
        text = self._why_not(row) if row else self._why_not_called(name, mine)
        return Step(f"Why not {name}?", text, mine, through)

    def _row_of(self, endpoint: str) -> TableRow | None:
        """Return the row of an endpoint by its name, else by its route if only one has it."""
        for row in self.endpoints:
            if row["endpoint"] == endpoint:
                return row
        found = []
        for row in self.endpoints:
            route = row.get("route")
            with_service = f"{row.get('service')} {route}"
            if endpoint in (route, with_service):
                found.append(row)
        return found[0] if len(found) == 1 else None

    def _why_not(self, row: TableRow) -> str:
        """Return what is known of an endpoint with requests of its own: a row of `endpoints`."""
        name = row["endpoint"]
        if name == self._cause_name:
            return f"{name} is the root cause."
        if row["n_now"] == 0 and row["unanswered"] == 0:
            return f"{name} was not reached by any request of the incident."
        if not row["degraded"]:
            return f"{name} is as usual: {_mean_latency(row)}."
        return (
            f"{name} is degraded: {what_is_worse(row)}. "
            f"But only {row['share']:.0%} of the excess originated there; "
            "the rest is time it waited for others, or failures of others."
        )

    def _why_not_called(self, name: str, mine: list[TableRow]) -> str:
        """Return what is known of an endpoint that is only called, and records no spans itself."""
        if name == self._cause_name:
            return f"{name} is the root cause."
        total = _excess_of(self.ledger) or 1.0
        share = _excess_of(mine) / total
        return (
            f"{name} has no spans of its own, only calls of it: {share:.0%} of the excess "
            "originated there."
        )

    def ledger_table(self, entry: str | None = None) -> pd.DataFrame:
        """Return where the excess of one entry originated: columns account and excess.

        The excess is in failures per request if 2 % more requests fail than usual, else in ms per
        request; ``attrs`` has the ``entry``, the ``unit``, and the ``total`` at the entry.

        Parameters
        ----------
        entry : str, optional
            Default: the one that lost most, failures first, other than the cause. Raises
            ValueError for one that was not compared.
        """
        rows = self.steps[0].rows if self.steps else []
        entries = {row["entry"]: row for row in rows}
        if entry is None:
            cause = self._cause_name
            entry = max(entries, key=lambda e: (e != cause, *_loss(entries[e])), default="")
        if entry not in entries:
            raise ValueError(f"entry must be one of {sorted(entries)}, got {entry!r}")
        failures, ms = _loss(entries[entry])
        unit = "failures" if failures else "ms"
        total = failures or ms
        mine = [
            {"account": row["account"], "excess": row["excess"]}
            for row in self.ledger
            if row["entry"] == entry and row["unit"] == unit and not row["masked"]
        ]
        table = pd.DataFrame(mine, columns=["account", "excess"])
        table.attrs |= {
            "entry": entry,
            "unit": f"{unit} per request",
            "total": total,
        }
        return table


MORE_FAILURES = 0.02  # fewer are shown by what they cost in time


def _loss(entry: dict[str, Any]) -> tuple[float, float]:
    """Return the failures and ms per request that an entry lost; few failures count as none."""
    failures = entry["now_failed"] - entry["usual_failed"]
    ms = entry["now_ms"] - entry["usual_ms"]  # NaN where nothing was answered
    lost = failures if failures > MORE_FAILURES else 0.0
    return lost, 0.0 if isnan(ms) else ms


def _excess_of(rows: Iterable[TableRow]) -> float:
    """Return the excess of rows of a ledger, gains left out, in usual requests."""
    return sum(max(row["cost"], 0.0) for row in rows)


def _mean_latency(row: TableRow) -> str:
    return f"mean latency {row['now_ms']:.1f} ms (usually {row['usual_ms']:.1f} ms)"


def what_is_worse(row: dict[str, Any]) -> str:
    """Return what an endpoint or entry answers slower or less often than usual: its ``now_ms``,
    ``usual_ms``, ``now_failed`` and ``usual_failed`` in words, "" where neither is worse.
    """
    return ", ".join(worse_figures(row))


def worse_figures(row: TableRow) -> list[str]:
    """Return the same figure by figure."""
    now_failed = row["now_failed"]
    usual_failed = row["usual_failed"]
    parts = []
    if row["now_ms"] > row["usual_ms"]:
        parts.append(_mean_latency(row))
    if now_failed > usual_failed:
        parts.append(f"{now_failed:.0%} failed (usually {usual_failed:.0%})")
    return parts


_MOST_ROWS = 12

# columns for programs: they stay in `rows`, but a table that people read has no room for them
_NOT_SHOWN = ("service", "attributed_to", "masked", "reassigned", "se", "cost", "noise", "weight")

# what the other columns are called there
_HEADERS = {
    "n_usual": "usual requests",
    "n_now": "requests now",
    "usual_ms": "usual (ms)",
    "now_ms": "now (ms)",
    "usual_failed": "usually failed (0 to 1)",
    "now_failed": "failed now (0 to 1)",
    "open_now": "unanswered now",
    "share": "share of all scores (0 to 1)",
    "confidence": "confidence (0 to 1)",
    "n": "bad requests",
    "k": "of these, largest excess here",
    "trace_id": "trace",
    "root_endpoint": "endpoint of the cause",
    "root_status": "its HTTP status",
    "root_kind": "what went wrong there",
    "affected_chain": "endpoints in call order",
    "what": "changed",
    "before_s": "before the fault, at most (s)",
    "by_chance": "so close by chance (0 to 1)",
}


class ClockChange(NamedTuple):
    """The clock went back: at `now`, from the end of the last judged window to where it goes on.

    Spans between the two that were there already are passed over from then on: they were judged.
    """

    now: pd.Timestamp
    judged_until: pd.Timestamp
    goes_on: pd.Timestamp


@dataclass(frozen=True, repr=False)
class Step:
    """One step of an explanation: what was done, what came out, the rows that it rests on, and
    traces that show it.
    """

    title: str
    text: str
    rows: list[TableRow] = field(default_factory=list)
    traces: list[TableRow] = field(default_factory=list)

    def __str__(self) -> str:
        tables = [
            _shown(table).to_string(index=False, float_format=_number) for table in self._tables()
        ]
        parts = [self.title, self.text, *tables, *self._more()]
        return "\n".join(filter(None, parts))

    __repr__ = __str__  # a console shows the text, too

    @property
    def tables(self) -> list[pd.DataFrame]:
        """Its tables as people read them: the largest rows, plain headers, and text in cells."""
        return [_shown(table).map(_cell) for table in self._tables()]

    def _repr_html_(self) -> str:
        # Names of endpoints and messages come from requests: all that is shown is escaped, by
        # pandas in the tables.
        title = escape(self.title)
        text = escape(self.text).replace("\n", "<br>")
        head = f"<p><strong>{title}</strong><br>{text}</p>"
        style: dict[str, Any] = {
            "index": False,
            "border": 0,
            "float_format": _number,
        }
        tables = [_shown(table).to_html(**style) for table in self._tables()]
        more = (f"<p>{line}</p>" for line in self._more())
        # a $ in a name is no formula
        no_formulas = '<div class="tex2jax_ignore mathjax_ignore">'
        parts = [no_formulas, head, *tables, *more, "</div>"]
        return "\n".join(parts)

    def _tables(self) -> list[list[TableRow]]:
        traces = []
        for trace in self.traces:
            chain = ", ".join(trace["affected_chain"])
            traces.append(trace | {"affected_chain": chain})
        return [table for table in (self.rows, traces) if table]

    def _more(self) -> list[str]:
        rest = len(self.rows) - _MOST_ROWS
        return [f"and {rest} smaller rows"] if rest > 0 else []


class Explanation(list[Step]):
    """The steps that led to a verdict: a list that reads as a text, and in a notebook as a page."""

    def __str__(self) -> str:
        return "\n\n".join(map(str, self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "\n".join(step._repr_html_() for step in self)


def _shown(rows: list[TableRow]) -> pd.DataFrame:
    """Return the rows with the largest excess, in their order, under plain headers, without the
    columns that only programs read.
    """
    table = pd.DataFrame(rows)
    if "cost" in table and len(table) > _MOST_ROWS:
        largest = table["cost"].abs().nlargest(_MOST_ROWS)
        table = table.loc[largest.index.sort_values()]
    hidden = set(_NOT_SHOWN)
    if "account" in table:
        hidden.add("endpoint")
    if "masked" in table and table["masked"].any():  # else it says nothing
        hidden.remove("masked")
    shown = table.drop(columns=list(hidden), errors="ignore")
    return shown.rename(columns=_HEADERS).head(_MOST_ROWS)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if isnan(value) else _number(value)
    return str(value)


def _number(value: float) -> str:
    return f"{float(f'{value:.4g}'):,.10g}"  # four digits, but never 1e+04
