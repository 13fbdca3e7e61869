"""Results of one run of a scenario: of each root-cause rule, and of the whole pipeline.

A rule is given the windows before and during the fault, and returns suspects. The whole pipeline is
given the spans only: it has to detect the fault before it can name a cause.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import chain
from math import nan
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.detect.incidents import Incident
from aiops_lab.evaluate.scoring import Event, Score, rank_of, score
from aiops_lab.explain.changes import change_suspected
from aiops_lab.explain.reference import Reference, learn
from aiops_lab.explain.rules import RULES, RankingRule
from aiops_lab.replaying import replay
from aiops_lab.results import Suspect
from aiops_lab.user_functions import list_from
from shop.recordings import true_faults
from shop.virtual_time.scenario import BEGIN, Scenario
from shop.virtual_time.twins import Twin, affected, affected_by_each, display_name, windows_of

# ---- the rules, with the windows given


class RuleResult(NamedTuple):
    """The result of one rule for one run.

    ``causes``: number of true causes, 0 = no fault. ``said``: the first suspect, "" if the rule
    returned none. ``rank``: of the first suspect that is a true cause, 0 if none is. ``exact``:
    whether the first suspects, as many as there are causes, are the causes; without causes, whether
    there is no suspect. ``silent``: whether there is no suspect. ``confidence``: of the first
    suspect, NaN without one. ``cpu_s``: processor seconds of the rule, without those of learning
    the reference.
    """

    scenario: str
    seed: int
    rule: str
    causes: int
    said: str
    rank: int
    exact: bool
    silent: bool
    confidence: float
    cpu_s: float


def rule_results(
    scenario: Scenario, seed: int, spans: pd.DataFrame, rules: Mapping[str, RankingRule] = RULES
) -> list[RuleResult]:
    """Return the result of each rule, {name: f(reference, abnormal)}, for the spans of a run.

    Each rule is given its own copy of the data, so that it cannot change what other rules see.

    Raises
    ------
    ValueError
        A rule raises, or does not return a list of `Suspect`; the message names the rule.
    """
    before, now = windows_of(scenario, spans)
    return ask(scenario, seed, learn(before), now, rules)


def ask(
    scenario: Scenario,
    seed: int,
    reference: Reference,
    now: pd.DataFrame,
    rules: Mapping[str, RankingRule],
) -> list[RuleResult]:
    """Return what `rule_results` does, given the reference and the window to be explained."""
    return [_result(scenario, seed, name, rule, reference, now) for name, rule in rules.items()]


def _result(
    scenario: Scenario,
    seed: int,
    name: str,
    rule: RankingRule,
    reference: Reference,
    now: pd.DataFrame,
) -> RuleResult:
    own = deepcopy((reference, now))
    begin = time.process_time()
    suspects = list_from(f"rule {name}", rule, own, (Suspect,))
    cpu_s = time.process_time() - begin
    causes = set(scenario.causes)
    first = suspects[0] if suspects else None
    head = suspects[: max(len(causes), 1)]
    return RuleResult(
        scenario=scenario.name,
        seed=seed,
        rule=name,
        causes=len(causes),
        said=" ".join(first.key) if first else "",
        rank=rank_of(suspects, causes),
        exact={suspect.key for suspect in head} == causes,
        silent=not suspects,
        confidence=first.confidence if first else nan,
        cpu_s=cpu_s,
    )


# ---- the whole pipeline


class PipelineResult(NamedTuple):
    """The result of the whole pipeline for one run.

    ``causes``: number of true causes, 0 = no fault. ``incidents``: number of incidents that match
    the fault; ``false_incidents``: of the others, in ``hours``. ``detect_s``: seconds from the
    start of the fault to the end of the first window with an anomaly of it; ``detector``: the types
    of these anomalies. ``rank``: of a true cause among the suspects, in the worst of the matching
    incidents; 0 = none named. ``named``: share of the causes that are among the first suspects.
    ``jaccard``: Jaccard index of the affected endpoints, named and true; ``exact``: whether they
    are equal. NaN where nothing was detected. ``change``: whether the verdicts of all incidents
    point at the noted changes that are behind them, and at no other; NaN where none was noted or
    there is no incident.
    """

    scenario: str
    seed: int
    causes: int
    incidents: int
    false_incidents: int
    hours: float
    detect_s: float = nan
    detector: str = ""
    rank: float = nan
    named: float = nan
    jaccard: float = nan
    exact: float = nan
    change: float = nan


def pipeline_result(scenario: Scenario, seed: int, pair: Twin) -> PipelineResult:
    """Return the result of the pipeline, with its default sensitivity, for the run with the fault.

    Which incidents match the fault is defined by `aiops_lab.score`: an anomaly at an endpoint that
    the fault does not affect is no match.
    """
    noted = [change.as_change() for change in scenario.noted]
    report = replay(pair.with_fault, changes=noted)
    faults = truth(scenario, seed, pair)
    found = score(report, faults)
    ids = {name for event in found.events for name in event.incidents}
    matching = [incident for incident in report.incidents if incident.id in ids]
    result = PipelineResult(
        scenario=scenario.name,
        seed=seed,
        causes=len(scenario.causes),
        incidents=len(matching),
        false_incidents=len(report.incidents) - len(matching),
        hours=found.hours,
        change=_change(scenario, report.incidents),
    )
    if not matching:
        return result
    detect_s, detector = _first(found, matching)
    jaccard, exact = _affected(scenario, pair, matching)
    return result._replace(
        detect_s=detect_s,
        detector=detector,
        rank=_worst(found.ranks),
        named=_named(scenario, matching),
        jaccard=jaccard,
        exact=exact,
    )


def _change(scenario: Scenario, incidents: Sequence[Incident]) -> float:
    """Return whether the verdicts point at the changes that are behind it, and at no other."""
    if not scenario.noted or not incidents:
        return nan
    behind = {(each.service, each.what) for each in scenario.noted if each.behind}
    suspected = filter(None, map(change_suspected, incidents))
    named = {(row["service"], row["what"]) for row in suspected}
    return float(named == behind)


def truth(scenario: Scenario, seed: int, pair: Twin) -> pd.DataFrame:
    """Return the faults as `aiops_lab.score` takes them: a row each, with the affected endpoints.

    A fault that is too weak to degrade any endpoint counts as affecting the endpoint where it is.
    """
    by_each = affected_by_each(scenario, seed, pair, progress=False)
    pairs = zip(scenario.faults, by_each, strict=True)
    places: list[Any] = [degraded or scenario.places_of(fault) for fault, degraded in pairs]
    return true_faults(scenario).assign(affected=places)


def _first(found: Score, matching: Iterable[Incident]) -> tuple[float, str]:
    """Return the seconds until the first fault was detected, and the types of its anomalies."""
    detected = [event for event in found.events if event.incidents]
    event = min(detected, key=_detected_at)
    incidents = [incident for incident in matching if incident.id in event.incidents]
    anomalies = chain(*(incident.anomalies for incident in incidents))
    types = {anomaly.type for anomaly in anomalies if anomaly.end == _detected_at(event)}
    return event.detect_s, " + ".join(sorted(types))


def _detected_at(event: Event) -> pd.Timestamp:
    return event.start + pd.Timedelta(seconds=event.detect_s)


def _worst(ranks: Iterable[int]) -> int:
    return max(ranks, key=lambda rank: rank or float("inf"))


def _named(scenario: Scenario, matching: Iterable[Incident]) -> float:
    causes = set(scenario.causes)
    first = [incident.suspects[: len(causes)] for incident in matching]
    named = {suspect.key for suspect in chain(*first)}
    return len(causes & named) / len(causes)


def _affected(scenario: Scenario, pair: Twin, matching: list[Incident]) -> tuple[float, bool]:
    """Return how the named affected endpoints agree with the true ones: Jaccard index, equality."""
    begin = min(since for incident in matching for since, _ in incident.episodes)
    end = max(incident.last_anomaly for incident in matching)
    truly = set(display_name(affected(pair, _second(begin), _second(end)), scenario))
    named = {name for incident in matching for name in incident.affected_endpoints}
    either = named | truly
    jaccard = 1.0
    if either:
        jaccard = len(named & truly) / len(either)
    return jaccard, named == truly


def _second(moment: pd.Timestamp) -> float:
    """Return a time of the virtual clock in seconds from its beginning."""
    return (moment - BEGIN).total_seconds()
