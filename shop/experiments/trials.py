"""What comes of one run of a scenario? What each rule answers with the windows given, and what the
pipeline finds.

A rule result is one rule's answer to one run. A pipeline result is what became of the faults of one
run in the whole pipeline, which must find by itself that, when and where something is wrong.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Mapping
from copy import deepcopy
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.checks import FieldError
from aiops_lab.detect.incidents import Incident
from aiops_lab.evaluate.scoring import Score, rank_of, score
from aiops_lab.explain.reference import Reference, learn
from aiops_lab.explain.rules import RULES, RankingRule
from aiops_lab.monitor import replay
from aiops_lab.results import Suspect
from shop.recordings import true_faults
from shop.virtual_time.scenario import BEGIN_NS, Scenario
from shop.virtual_time.twins import Twin, affected, affected_by_each, display_name, windows_of

BEGIN = pd.Timestamp(BEGIN_NS, unit="ns", tz="UTC")


# ---- the rules, with the windows given


class RuleResult(NamedTuple):
    """One rule's answer to one run.

    ``causes``: how many true ones there are, 0 = no fault. ``said``: the first suspect, "" where it
    was silent. ``rank``: of the first suspect that is a true cause, 0 where none is. ``exact``:
    whether the first suspects, as many as there are causes, are the causes; without causes, whether
    it was silent. ``confidence``: of the first suspect, NaN where it was silent. ``cpu_s``: what
    the answer took; learning what is usual not counted.
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
    """Return the answer of each rule, {name: f(reference, abnormal)}, to the spans of a run.

    Each rule gets a copy of its own: what it does to that, no other rule sees.

    Raises
    ------
    ValueError
        Names the rule that raises, or that returns something else than a list of `Suspect`.
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
    """Do what `rule_results` does, with windows cut and a reference learned before."""
    return [_trial(scenario, seed, name, rule, reference, now) for name, rule in rules.items()]


def _trial(
    scenario: Scenario,
    seed: int,
    name: str,
    rule: RankingRule,
    reference: Reference,
    now: pd.DataFrame,
) -> RuleResult:
    own = deepcopy((reference, now))
    begin = time.process_time()
    suspects = _answer(name, rule, *own)
    cpu_s = time.process_time() - begin
    causes = set(scenario.causes)
    first = suspects[0] if suspects else None
    return RuleResult(
        scenario.name,
        seed,
        name,
        len(causes),
        " ".join(first.key) if first else "",
        rank_of(suspects, causes),
        {s.key for s in suspects[: max(len(causes), 1)]} == causes,
        not suspects,
        first.confidence if first else nan,
        cpu_s,
    )


def _answer(name: str, rule: RankingRule, reference: Reference, now: pd.DataFrame) -> list[Suspect]:
    try:
        said = rule(reference, now)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
        raise ValueError(f"rule {name} must not raise, got {told}") from error
    if not isinstance(said, list) or not all(isinstance(s, Suspect) for s in said):
        raise FieldError(f"rule {name}", "must return a list of Suspect", said)
    return said


# ---- the whole pipeline


class PipelineResult(NamedTuple):
    """What became of one run in the whole pipeline.

    ``causes``: how many true ones there are, 0 = no fault. ``incidents``: how many tell of the
    fault. ``false_incidents``: of the others, in ``hours``. ``detect_s``: from the start of the
    fault to the end of the first window that tells of it; ``detector``: the type of its anomaly.
    ``rank``: of a true cause among the suspects, the worst of the incidents that tell of the fault;
    0 = none named. ``named``: the share of the causes that stand at the head of one. ``jaccard``,
    ``exact``: whether the affected endpoints that they name are the truly affected ones of the same
    time. NaN where nothing was detected.
    """

    scenario: str
    seed: int
    causes: int
    incidents: int
    false_incidents: int
    hours: float
    detect_s: float
    detector: str
    rank: float
    named: float
    jaccard: float
    exact: float


def pipeline_result(scenario: Scenario, seed: int, pair: Twin) -> PipelineResult:
    """Return what the pipeline, with its default sensitivity, finds in the run with the fault.

    An incident tells of the fault as `aiops_lab.score` has it; an anomaly at an endpoint that the
    fault leaves alone does not.
    """
    report = replay(pair.with_fault)
    faults = truth(scenario, seed, pair)
    found = score(report, faults)
    ids = {name for event in found.events for name in event.incidents}
    telling = [incident for incident in report.incidents if incident.id in ids]
    counts = len(scenario.causes), len(telling), len(report.incidents) - len(telling), found.hours
    if not telling:
        return PipelineResult(scenario.name, seed, *counts, nan, "", nan, nan, nan, nan)
    jaccard, exact = _affected(scenario, pair, telling)
    return PipelineResult(
        scenario.name,
        seed,
        *counts,
        *_first(found, telling),
        _worst(found.ranks),
        _named(scenario, telling),
        jaccard,
        exact,
    )


def truth(scenario: Scenario, seed: int, pair: Twin) -> pd.DataFrame:
    """Return the faults as `aiops_lab.score` takes them: a row each, with what it degrades by
    itself.

    One that is too weak to degrade anything is felt where it strikes.
    """
    by_each = zip(
        scenario.faults, affected_by_each(scenario, seed, pair, progress=False), strict=True
    )
    felt: list[Any] = [places or scenario.places_of(fault) for fault, places in by_each]
    return true_faults(scenario).assign(affected=felt)


def _first(found: Score, telling: Iterable[Incident]) -> tuple[float, str]:
    """Return after how many seconds, and by which detectors, the first of the faults was seen."""
    event = min(
        (e for e in found.events if e.incidents),
        key=lambda e: e.start + pd.Timedelta(seconds=e.detect_s),
    )
    seen = event.start + pd.Timedelta(seconds=event.detect_s)
    types = {
        a.type for i in telling if i.id in event.incidents for a in i.anomalies if a.end == seen
    }
    return event.detect_s, " + ".join(sorted(types))


def _worst(ranks: Iterable[int]) -> int:
    return max(ranks, key=lambda rank: rank or float("inf"))


def _named(scenario: Scenario, telling: Iterable[Incident]) -> float:
    causes = set(scenario.causes)
    return len(causes & {s.key for i in telling for s in i.suspects[: len(causes)]}) / len(causes)


def _affected(scenario: Scenario, pair: Twin, telling: list[Incident]) -> tuple[float, bool]:
    """Return the Jaccard index of the endpoints named as affected and of those that were; whether
    they are equal.
    """
    begin = min(since for i in telling for since, _ in i.episodes)
    bounds = [
        (moment - BEGIN).total_seconds() for moment in (begin, max(i.last_anomaly for i in telling))
    ]
    truly = set(display_name(affected(pair, *bounds), scenario))
    told = {name for incident in telling for name in incident.affected_endpoints}
    return (len(told & truly) / len(told | truly) if told | truly else 1.0), told == truly
