"""Cases of root-cause analysis for the lessons: what was usual, what happened, and who caused it.

A case is read from a recording or played in virtual time; rules are asked whom they would mend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.explain.ledger import excess_ledger
from aiops_lab.explain.reference import Reference, learn
from aiops_lab.explain.rules import RULES
from aiops_lab.formats.files import read_spans
from aiops_lab.replaying import replay
from shop.recordings import read_truth
from shop.virtual_time.scenario import BEGIN, Scenario
from shop.virtual_time.simulate import virtual
from shop.virtual_time.twins import as_of, windows_of

SILENT = "silent"
"""What stands for a rule that names nobody."""

_NEVER_MS = 1e9  # until when a span that is open lasts: beyond every recording


class LessonCase(NamedTuple):
    """What is `usual`, the spans of the incident as a store holds them at its end (`now`: what
    still goes on is open), and the endpoint that is the true `cause`.
    """

    usual: Reference
    now: pd.DataFrame
    cause: str


def recording(path: str | Path) -> LessonCase:
    """Return the case of a recording in virtual time; what was over before the fault is usual."""
    spans = read_spans(path)
    truth = read_truth(path)
    since, until = truth.attrs["window"]
    since_s = (since - BEGIN).total_seconds()
    until_s = (until - BEGIN).total_seconds()
    was_over = trace_ends(spans) < truth["start"].min()
    _, cause = truth.attrs["causes"][0]
    return LessonCase(learn(spans[was_over]), as_of(spans, since_s, until_s), cause)


def around_first_incident(spans: pd.DataFrame, window_s: float) -> tuple[Reference, pd.DataFrame]:
    """Return what was usual before the first incident of a recording, and the traces since then.

    `window_s` is that of the detectors; traces that ended within it before the incident are in
    neither part.
    """
    sensitivity = Sensitivity(window_s=window_s)
    watched = replay(spans, sensitivity, causes=False)
    began = watched.incidents[0].started
    calm_until = began - pd.Timedelta(window_s, "s")
    over = trace_ends(spans)
    usual = learn(spans[over < calm_until])
    return usual, spans[over >= began]


def trace_ends(spans: pd.DataFrame) -> pd.Series:
    """Return for each span when its trace was over; what is open lasts beyond every recording."""
    lasted_ms = spans["duration_ms"].fillna(_NEVER_MS)
    ends = spans["start"] + pd.to_timedelta(lasted_ms, unit="ms")
    by_trace = ends.groupby(spans["trace_id"])
    return by_trace.transform("max")


def played(scenario: Scenario, seed: int = 1) -> LessonCase:
    """Return the case of a scenario in virtual time; without a fault the cause is `SILENT`."""
    return explained(scenario, virtual(scenario, seed))


def explained(scenario: Scenario, spans: pd.DataFrame) -> LessonCase:
    """Return the case of a scenario that was played before: `spans` is the recording."""
    usual, now = windows_of(scenario, spans)
    cause = SILENT
    if scenario.causes:
        _, cause = scenario.causes[0]
    return LessonCase(learn(usual), now, cause)


def without(case: LessonCase, service: str, calls: bool = True) -> LessonCase:
    """Return the case as it is recorded if a service sends no spans of its own.

    `calls`: whether those who call it record their calls.
    """

    def seen(frame: pd.DataFrame) -> pd.DataFrame:
        known = frame["service"] != service
        if not calls:
            known &= frame["peer"] != service
        return frame[known].reset_index(drop=True)

    usual = learn(seen(case.usual.frame))
    return case._replace(usual=usual, now=seen(case.now))


def answers(case: LessonCase, rules: Iterable[str]) -> dict[str, str]:
    """Return whom each rule names first, by its name."""
    return {name: _first(name, case) for name in rules}


def _first(rule: str, case: LessonCase) -> str:
    suspects = RULES[rule](case.usual, case.now)
    return suspects[0].name if suspects else SILENT


def ticked(
    named: Mapping[str, Mapping[str, str]],
    causes: Mapping[str, str],
    count: bool = True,
) -> pd.DataFrame:
    """Return a table of whom each rule (row) names in each case (column), ticked or crossed.

    Parameters
    ----------
    named : mapping of case to (mapping of rule to answer)
        As `answers` returns them.
    causes : mapping of case to endpoint
        The truth.
    count : bool
        Whether a last column says how many answers of a rule are right; default it does.
    """
    table = pd.DataFrame(named)
    right = table == pd.Series(causes)
    marks = right.replace({True: " ✓", False: " ✗"})
    shown = table + marks.mask(table == SILENT, "")
    if count:
        shown["right"] = right.sum(axis=1)
    return shown


class Verdicts:
    """Whom rules name in the cases that were asked so far; `said` holds the names by case."""

    def __init__(self) -> None:
        self.said: dict[str, dict[str, str]] = {}
        self._causes: dict[str, str] = {}

    def ask(self, name: str, case: LessonCase, rules: Iterable[str]) -> pd.DataFrame:
        """Return the table of all cases so far (columns), with this one as the last.

        Rows are rules, as `ticked` shows them; a rule that was not asked has an empty cell.
        """
        self.said[name] = answers(case, rules)
        self._causes[name] = case.cause
        asked = set().union(*self.said.values())
        table = ticked(self.said, self._causes, count=False)
        in_order = [rule for rule in RULES if rule in asked]
        return table.reindex(in_order).fillna("")


def failed_request(case: LessonCase, entry: str, which: int = 0) -> pd.DataFrame:
    """Return the spans of one failed request at an entry: the first one, or a later one."""
    spans = case.now
    failed = spans.query("endpoint == @entry and kind == 'server' and status >= 500")
    trace_id = failed["trace_id"].iloc[which]
    return spans[spans["trace_id"] == trace_id]


def accounts(case: LessonCase, entry: str, spans: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the rows of the ledger of time at an entry, by account, in ms a request.

    `spans`: what is compared with the usual; default the whole case.
    """
    compared = case.now if spans is None else spans
    rows = excess_ledger(case.usual, compared).rows
    is_at_entry = rows["entry"] == entry
    is_time = rows["unit"] == "ms"
    return rows[is_at_entry & is_time].set_index("account")


def served_calls(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row a call that arrived: the client span, and with `_served` the server span."""
    client = frame[frame["kind"] == "client"]
    server = frame[frame["kind"] == "server"]
    calls = client.merge(
        server.add_suffix("_served"),
        left_on="span_id",
        right_on="parent_id_served",
    )
    return calls.drop(columns="parent_id_served")


def edge_gaps(frame: pd.DataFrame) -> pd.Series:
    """Return the median of client span less server span in ms, by "caller → callee"."""
    calls = served_calls(frame)
    endpoint_of = frame.set_index("span_id")["endpoint"]
    caller = calls["parent_id"].map(endpoint_of).astype(str)
    callee = calls["endpoint"].astype(str)
    edge = caller + " → " + callee
    gap_ms = calls["duration_ms"] - calls["duration_ms_served"]
    return gap_ms.groupby(edge).median()
