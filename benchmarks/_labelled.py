"""Detection on labelled series: WSD and AIOPS KPI by events, UCR's archive by its highest score."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import aiops_lab as lab
from aiops_lab.datasets.cases import SeriesCase
from aiops_lab.detect.series import ALARM
from benchmarks import _events, _series
from benchmarks._tables import Estimate, Row, Table, share

BOOTSTRAPS = 2000
# rows in a row that are equally likely at random: an alarm a day of minutes
RANDOM_ALARM = 1 - 1 / 1440
TITLES = {
    "wsd": "WSD: series of web services",
    "aiops": "AIOPS KPI: series of web services",
    "ucr": "UCR's archive: one anomaly a series",
}


class Method(NamedTuple):
    """A detector: scores of a case, and the threshold that was fixed before."""

    name: str
    family: str
    scores: Callable[[SeriesCase], np.ndarray]
    threshold: float | None


def z_moving(case: SeriesCase) -> np.ndarray:
    """Return the distance from an EWMA in standard deviations, both of the past alone."""
    mean, var = lab.ewma(case.values, half_life=50)
    away = np.abs(case.values[1:] - mean[:-1])
    return np.concatenate([[0.0], away / np.sqrt(np.maximum(var[:-1], 1e-12))])


def z_learned(case: SeriesCase) -> np.ndarray:
    """Return the distance from the mean of the part for learning, in its standard deviations."""
    usual = case.normal if len(case.normal) else case.values
    return np.abs(case.values - usual.mean()) / max(float(usual.std()), 1e-12)


def constant(case: SeriesCase) -> np.ndarray:
    """Return one score for all."""
    return np.zeros(len(case.values))


def at_random(case: SeriesCase) -> np.ndarray:
    """Return drawn scores."""
    return np.random.default_rng(len(case.values)).uniform(size=len(case.values))


def ours(case: SeriesCase, method: str) -> np.ndarray:
    """Return `anomaly_scores`."""
    return lab.anomaly_scores(case.values, method=method)


MINE = Method("anomaly_scores", _series.OURS, partial(ours, method="envelope"), ALARM)
SHAPE = Method(
    'anomaly_scores, method="matrix-profile"',
    _series.OURS,
    partial(ours, method="matrix-profile"),
    None,
)
BASELINES = (
    Method("EWMA z", "baseline", z_moving, 6.0),
    Method("z against the part for learning", "baseline", z_learned, 6.0),
    Method("random", "baseline", at_random, RANDOM_ALARM),
    Method("constant", "baseline", constant, 0.5),
)


def scored(method: Method, case: SeriesCase) -> _events.Series:
    """Return the scores behind the part for learning, and the labels."""
    inside = _events.labels(case.windows, len(case.values))
    return method.scores(case)[case.scored_from :], inside[case.scored_from :]


def _timed(method: Method, cases: Sequence[SeriesCase]) -> tuple[list[_events.Series], float]:
    first = cases[0]
    few = SeriesCase(first.name, first.group, (), first.values[:1500], None, learning=750)
    method.scores(few)
    begin = time.process_time()
    series = [scored(method, case) for case in cases]
    return series, (time.process_time() - begin) / len(cases)


def interval(series: Sequence[_events.Series], threshold: float, seed: int = 0) -> Estimate:
    """Return F1 in percent with its bootstrap interval over series, the threshold kept."""
    counts = _events.by_series(series, threshold)
    draws = np.random.default_rng(seed).integers(len(counts), size=(BOOTSTRAPS, len(counts)))
    found, false, events = counts[draws].sum(axis=1).T
    low, high = np.quantile(200 * found / np.maximum(found + false + events, 1), [0.025, 0.975])
    return Estimate(100 * _events.at(series, threshold).f1, float(low), float(high))


def events(
    name: str,
    part: str,
    cases: Sequence[SeriesCase],
    tuned: str,
    progress: bool = False,
    *,
    own: Sequence[Method] = (),
) -> Table:
    """Return all detectors on the same series, those of the user (`own`) among them, by events."""
    rows = []
    _series.compile_now(cases)
    asked = (MINE, *own, *BASELINES)
    for method in tqdm(asked, desc=name, leave=False, disable=not progress):
        series, cpu_s = _timed(method, cases)
        threshold = method.threshold or 0.0
        fixed = _events.at(series, threshold)
        afterwards, _ = _events.best(series)
        others = (
            f"{fixed.found} of {fixed.events}",
            str(fixed.false),
            f"{threshold:.4g}",
            f"{100 * afterwards.f1:.1f}",
        )
        on = tuned if method is MINE else "nothing"
        rows.append(Row(method.name, method.family, interval(series, threshold), cpu_s, on, others))
    notes = [
        "F1 of events over all series together, at one threshold that was fixed in advance; an "
        "event is found when one of its points alarms, a run of alarming points without a labelled "
        "one is a false alarm. The part for learning is streamed first and not scored.",
        "*Afterwards*: the best F1 of any threshold, known only with the labels at hand.",
    ]
    columns = ("found", "false alarms", "threshold", "F1 afterwards")
    return Table(
        TITLES[name], f"{len(cases)} series, {part}", "F1 of events, %", rows, columns, notes
    )


def highest(
    name: str,
    part: str,
    cases: Sequence[SeriesCase],
    tuned: str,
    progress: bool = False,
    *,
    own: Sequence[Method] = (),
) -> Table:
    """Return all detectors on the same series, those of the user (`own`) among them, by their
    highest score.
    """
    rows = []
    _series.compile_now(cases)
    asked = (MINE, SHAPE, *own, *BASELINES)
    for method in tqdm(asked, desc=name, leave=False, disable=not progress):
        series, cpu_s = _timed(method, cases)
        right = sum(_events.right(*each) for each in series)
        on = tuned if method.family == _series.OURS else "nothing"
        rows.append(Row(method.name, method.family, share(right, len(series)), cpu_s, on))
    notes = [
        "The highest score behind the part for learning lies within 100 points of the anomaly. "
        "Nothing is told about the length of a shape."
    ]
    return Table(TITLES[name], f"{len(cases)} series, {part}", "right, %", rows, (), notes)
