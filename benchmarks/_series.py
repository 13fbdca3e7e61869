"""Detection on single series: NAB. Three profiles, false alarms at the threshold, and speed against
a copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

import aiops_lab as lab
from aiops_lab.datasets.cases import SeriesCase, unscored
from aiops_lab.detect.series import ALARM
from aiops_lab.numerics import SOON
from benchmarks import _nab, _peers
from benchmarks._tables import Estimate, Grid, Row, Table

EVERY = 300  # rows from one alarm to the next, of the clock
BOOTSTRAPS = 2000
# of the walk that speed is measured on, at most
SPEED_POINTS, SPEED_ROUNDS, SPEED_S = 1_000_000, 3, 0.2
MANY = 20_000  # values from which on times are worth a compiler
OURS = "this package"
Scores = Callable[[np.ndarray], np.ndarray]


class Method(NamedTuple):
    """A detector to compare."""

    name: str
    family: str
    scores: Scores
    tuned: str = "nothing"


def the_clock(values: np.ndarray) -> np.ndarray:
    """Alarm at every 300th row."""
    return (np.arange(len(values)) % EVERY == 0).astype(float)


def at_random(values: np.ndarray) -> np.ndarray:
    """Draw the scores; files of equal length, equal draws."""
    return np.random.default_rng(len(values)).uniform(size=len(values))


def never(values: np.ndarray) -> np.ndarray:
    """Never alarm, or always: one score for all."""
    return np.zeros(len(values))


def z_score(values: np.ndarray) -> np.ndarray:
    """Score by the distance from an EWMA in standard deviations, both of the past alone."""
    mean, var = lab.ewma(values, half_life=50)
    z = np.abs(values[1:] - mean[:-1]) / np.sqrt(np.maximum(var[:-1], 1e-12))
    return np.concatenate([[0.0], z / (1 + z)])


def records(values: np.ndarray) -> np.ndarray:
    """Score by how far a value is beyond all before it, in widths of their range."""
    low, high = np.minimum.accumulate(values)[:-1], np.maximum.accumulate(values)[:-1]
    beyond = np.maximum(values[1:] - high, low - values[1:]).clip(min=0.0)
    return np.concatenate([[0.0], beyond / np.maximum(beyond + high - low, 1e-12)])


BASELINES = (
    Method("EWMA z", "baseline", z_score),
    Method("new minimum or maximum", "baseline", records),
    Method(f"every {EVERY} rows", "baseline", the_clock),
    Method("random", "baseline", at_random),
    Method("constant", "baseline", never),
)


def compile_now(cases: Sequence[SeriesCase]) -> None:
    """Have compiled what this package compiles once it has taken many values, for arrays that may
    be written and that may not, so that the times on the cases are those of compiled code. Of few
    values the times say nothing, and nothing is compiled.
    """
    if sum(len(case.values) for case in cases) < MANY:
        return
    many = np.zeros(SOON)
    fixed = many.copy()
    fixed.setflags(write=False)
    for values in (many, fixed):
        lab.anomaly_scores(values)
        lab.ewma(values, half_life=50)


class ReachedScores(NamedTuple):
    """The best score of each profile, the standard one with its interval, the CPU seconds of all
    files, and the standard score of each category at the same threshold.
    """

    best: dict[str, _nab.Score]
    estimate: Estimate
    cpu_s: float
    by_category: dict[str, float]


def judge(scores: Scores, cases: Sequence[SeriesCase]) -> ReachedScores:
    """Return what a detector reaches on the files."""
    scores(cases[0].values[:2000])
    begin = time.process_time()
    given = [scores(case.values) for case in cases]
    cpu_s = time.process_time() - begin
    series = [(mine, case.windows) for mine, case in zip(given, cases, strict=True)]
    best = _nab.best(series)
    parts = by_category(series, [case.group for case in cases], best["standard"].threshold)
    return ReachedScores(best, interval(series, best["standard"]), cpu_s, parts)


def by_category(
    series: Sequence[_nab.Series], groups: Sequence[str], threshold: float
) -> dict[str, float]:
    """Return the standard score of each category that has a window which is scored."""
    found: dict[str, float] = {}
    for group in sorted(set(groups)):
        some = [each for each, its in zip(series, groups, strict=True) if its == group]
        _, windows = _nab.by_file(some, threshold, _nab.PROFILES["standard"])
        if windows.sum() > 0:
            found[group] = _nab.at(some, threshold)["standard"].score
    return found


def grid(title: str, reached: dict[str, dict[str, float]]) -> Grid:
    """Return the scores by category, a column a method, and how far each lies below the best."""
    frame = pd.DataFrame(reached)
    regrets = frame.rsub(frame.max(axis=1), axis=0)
    frame.loc["regret, mean over categories"] = regrets.mean()
    frame.loc["regret, worst category"] = regrets.max()
    note = (
        "Standard profile, each method at its one threshold for all files; categories with windows."
    )
    return Grid(title, frame.round().astype(int).astype(str), [note])


def interval(series: Sequence[_nab.Series], best: _nab.Score, seed: int = 0) -> Estimate:
    """Return the standard score with its bootstrap interval over files, the threshold kept."""
    gained, windows = _nab.by_file(series, best.threshold, _nab.PROFILES["standard"])
    draws = np.random.default_rng(seed).integers(len(series), size=(BOOTSTRAPS, len(series)))
    total, n = gained[draws].sum(axis=1), windows[draws].sum(axis=1)
    low, high = np.quantile(100 * total[n > 0] / (2 * n[n > 0]), [0.025, 0.975])
    return Estimate(best.score, float(low), float(high))


def speed(scores: Scores, points: int) -> float:
    """Return the points a CPU second on one long random walk, the median of some rounds."""
    walk = np.random.default_rng(0).normal(size=points).cumsum()
    scores(walk[:2000])
    rates = []
    for _ in range(SPEED_ROUNDS):
        begin = time.process_time()
        scores(walk)
        rates.append(points / max(time.process_time() - begin, 1e-9))
    return float(np.median(rates))


def copy_speed() -> float:
    """Return the points a CPU second that `numpy.copy` reaches."""
    many = 50  # one copy is too short for the clock

    def copies(walk: np.ndarray) -> None:
        for _ in range(many):
            np.copy(walk)

    return many * speed(copies, SPEED_POINTS)  # type: ignore[arg-type]


def table(
    part: str,
    cases: Sequence[SeriesCase],
    tuned: str,
    progress: bool = False,
    *,
    own: Sequence[Method] = (),
) -> Table:
    """Return all detectors on the same files, those of the user (`own`) among them."""
    peers = [Method(name, "peer", scores) for name, scores in _peers.on_series().items()]
    asked = (
        Method("anomaly_scores", OURS, lab.anomaly_scores, tuned),
        *own,
        *peers,
        *BASELINES,
    )
    compile_now(cases)
    points, copied = sum(len(case.values) for case in cases), copy_speed()
    rows = []
    reached: dict[str, dict[str, float]] = {}
    for method in tqdm(asked, desc=part, leave=False, disable=not progress):
        judged = judge(method.scores, cases)
        cpu_s = judged.cpu_s
        affordable = int(np.clip(SPEED_S * points / max(cpu_s, 1e-9), 3000, SPEED_POINTS))
        fast = speed(method.scores, affordable)
        rows.append(_row(method, judged, len(cases), fast, copied))
        reached[method.name] = judged.by_category
    usual = sum(len(case.values) - unscored(len(case.values)) for case in cases)
    notes = [
        f"{sum(len(case.windows) for case in cases)} windows, {usual} scored rows. One threshold "
        "for all files, the best one afterwards, for every method; the interval draws other files "
        "and keeps it.",
        "These scores reward alarms anywhere in long windows: two points between two detectors "
        "are within the noise.",
        "False alarms: for 10,000 normal rows, at the threshold of the standard profile.",
        _fixed(cases),
        f"Speed: points a CPU second as a share of numpy.copy's, {copied / 1e6:,.0f} million in "
        "this run.",
        "Published, all 58 files (standard / low FP / low FN): ARTime 74.9/65.1/80.4, Numenta HTM "
        "70.1/63.1/74.3, CAD "
        "OSE 69.9/67.0/73.2, KNN-CAD 58.0/43.4/64.8, Random Cut Forest 51.7/38.4/59.7, Twitter "
        "ADVec 47.1/33.6/53.5, "
        "Windowed Gaussian 39.6/20.9/47.4 (NAB's own scoreboard).",
    ]
    columns = ("low FP", "low FN", "false alarms", "speed")
    title = "NAB: single series"
    told = f"{len(cases)} files, {part}"
    parts = grid(f"{title}, by category ({told})", reached)
    return Table(title, told, "standard profile", rows, columns, notes, beside=parts)


def _fixed(cases: Sequence[SeriesCase]) -> str:
    """Return a note on this package at the threshold that it fixes in advance."""
    series = [(lab.anomaly_scores(case.values), case.windows) for case in cases]
    reached = _nab.at(series, ALARM)
    scores = " / ".join(f"{score.score:.1f}" for score in reached.values())
    return (
        f"`anomaly_scores` at its own threshold, {ALARM}, fixed in advance: {scores} (standard / "
        "low FP / low FN)."
    )


def _row(
    method: Method,
    judged: ReachedScores,
    files: int,
    fast: float,
    copied: float,
) -> Row:
    best = judged.best
    standard = best["standard"]
    false = f"{1e4 * standard.false_alarms / max(standard.usual_rows, 1):.1f}"
    others = (
        f"{best['low_FP'].score:.1f}",
        f"{best['low_FN'].score:.1f}",
        false,
        f"{fast / copied:.2g}",
    )
    cpu_s = judged.cpu_s / files
    return Row(method.name, method.family, judged.estimate, cpu_s, method.tuned, others)
