"""Detection on series: what is each view of `anomaly_scores` worth, and what do other constants do?

`composed` puts the scores together from the parts of the package; with all of them in, they are
those of `anomaly_scores`, which tests/test_accuracy.py compares.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from aiops_lab.datasets.cases import SeriesCase
from aiops_lab.detect import series
from aiops_lab.detect.baselines import alpha_of
from aiops_lab.numerics import compiled
from benchmarks import _events, _labelled, _nab, _series
from benchmarks._ablation import CONDITIONS, REMOVED, WHOLE, bar, family
from benchmarks._tables import Row, Table

VIEWS = ("residual", "drift", "local")


def composed(
    values: np.ndarray,
    views: Collection[str] = VIEWS,
    one_alarm: bool = True,
    **constants: float,
) -> np.ndarray:
    """Return `anomaly_scores` of a series without NaN, put together from its parts, some of them
    left out; `constants` are those of the module by lower-case name.
    """
    given = {name.lower(): getattr(series, name) for name in CONSTANTS} | constants
    shares = 1 / np.arange(1, len(values) + 1)
    fast = _ewma(values, np.maximum(given["fast"], shares))
    slow = _ewma(values, np.maximum(given["slow"], shares))
    residual = np.concatenate([[0.0], values[1:] - slow[:-1]])
    distance = np.abs(np.concatenate([[0.0], values[1:] - fast[:-1]]))
    seen = {
        "value": given["residual"] * _beyond(values),
        "residual": given["residual"] * _beyond(residual),
        "drift": given["drift"] * _beyond(fast - slow),
    }
    scores = {name: odds / (1 + odds) for name, odds in seen.items()}
    spread = np.maximum(given["spread"], shares)
    scores["local"] = _standing_out(distance, spread, given["usual"])
    strongest = np.max([scores[view] for view in views], axis=0)
    scores["local"] *= given["local"]
    score = np.max([scores[view] for view in views], axis=0)
    strongest[: int(given["warm_up"])] = 0.0
    score[: int(given["warm_up"])] = 0.0
    if not one_alarm:
        return score
    away = _away(values, spread, given["usual"], int(given["warm_up"]))
    decay = 1.0 - alpha_of(1.0, given["hold"])
    held = _held(score, decay)
    extent = given["extent"] * _lasting(strongest, away, decay)
    return np.where(held > given["extent"], held, extent)


@compiled
def _ewma(values: np.ndarray, gains: np.ndarray) -> np.ndarray:
    means = np.empty_like(values)
    mean = values[0]
    for i in range(values.size):
        mean += gains[i] * (values[i] - mean)
        means[i] = mean
    return means


def _beyond(view: np.ndarray) -> np.ndarray:
    """Return how far each point is beyond the smallest and the largest before it, in widths."""
    low = np.minimum.accumulate(view)[:-1]
    high = np.maximum.accumulate(view)[:-1]
    away = np.maximum(view[1:] - high, low - view[1:]).clip(min=0.0)
    width = np.maximum(high - low, 1e-15 * away)
    beyond = np.divide(away, width, out=np.zeros(len(away)), where=away > 0)
    return np.concatenate([[0.0], beyond])


def _standing_out(distance: np.ndarray, gains: np.ndarray, limit: float) -> np.ndarray:
    """Return how far each distance is beyond `limit` root mean squares of those before it."""
    squares = _ewma(distance**2, gains)
    before = limit**2 * np.concatenate([[0.0], squares[:-1]])
    square = distance**2
    share = np.divide(before, square, out=np.ones(len(square)), where=square > before)
    return 1.0 - share


@compiled
def _held(scores: np.ndarray, decay: float) -> np.ndarray:
    """Return the scores that beat the decaying one before them."""
    hold = 0.0
    kept = np.zeros_like(scores)
    for i in range(scores.size):
        hold *= decay
        if scores[i] > hold:
            kept[i] = hold = scores[i]
    return kept


@compiled
def _away(values: np.ndarray, gains: np.ndarray, limit: float, warm_up: int) -> np.ndarray:
    """Return which values are more than `limit` usual distances from the usual level; from
    `warm_up` on a longer distance counts as that far in both.
    """
    level = values[0]
    square = 0.0
    away = np.zeros(values.size, dtype=np.bool_)
    for i in range(values.size):
        step = values[i] - level
        most = limit * np.sqrt(square)
        away[i] = abs(step) > most
        if i >= warm_up and most > 0.0:
            step = min(max(step, -most), most)
        level += gains[i] * step
        square += gains[i] * (step**2 - square)
    return away


@compiled
def _lasting(scores: np.ndarray, away: np.ndarray, decay: float) -> np.ndarray:
    """Return the highest score so far, which decays while the level is not away."""
    extent = 0.0
    left = np.zeros_like(scores)
    for i in range(scores.size):
        if not away[i]:
            extent *= decay
        extent = max(extent, scores[i])
        left[i] = extent
    return left


PARTS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    **{f"without the {view}": {"views": [v for v in VIEWS if v != view]} for view in VIEWS},
    "with the value, too": {"views": ("value", *VIEWS)},
    "without the hold": {"one_alarm": False},
}
CONSTANTS = (
    "FAST",
    "SLOW",
    "SPREAD",
    "RESIDUAL",
    "DRIFT",
    "LOCAL",
    "USUAL",
    "WARM_UP",
    "HOLD",
    "EXTENT",
)


def nab(cases: Sequence[SeriesCase], progress: bool) -> list[Table]:
    """Return what each part of `anomaly_scores` is worth on NAB, and what other constants do."""
    columns = ("low FP", "low FN", "false alarms per 10,000 rows")
    about = f"NAB, {len(cases)} files seen while tuning"
    return [
        Table(title, about, "standard profile", rows, columns)
        for title, rows in _tried(partial(_series_row, cases=cases), progress)
    ]


def labelled(name: str, cases: Sequence[SeriesCase], progress: bool) -> list[Table]:
    """Return the same by events, at the threshold that is fixed in advance."""
    about = f"{name}, {len(cases)} series seen while tuning"
    return [
        Table(title, about, "F1 of events, %", rows, ("found", "false alarms"))
        for title, rows in _tried(partial(_events_row, cases=cases), progress)
    ]


def _tried(row: Callable[..., Row], progress: bool) -> Iterator[tuple[str, list[Row]]]:
    """Return the rows of parts removed, and those of constants halved and doubled."""
    changed: dict[str, dict[str, Any]] = {}
    for name in CONSTANTS:
        for factor in (0.5, 2.0):
            value = factor * getattr(series, name)
            changed[f"{name.lower()} {value:g}"] = {name.lower(): value}
    for title, how, kind in (
        ("Series: one part removed", PARTS, REMOVED),
        ("Series: halved and doubled constants", {WHOLE: {}} | changed, CONDITIONS),
    ):
        yield title, [row(name, h, kind) for name, h in bar(how.items(), title, progress)]


def _events_row(name: str, how: Mapping[str, Any], kind: str, cases: Sequence[SeriesCase]) -> Row:
    given = [
        (
            composed(case.values, **how)[case.scored_from :],
            _events.labels(case.windows, len(case.values))[case.scored_from :],
        )
        for case in cases
    ]
    reached = _events.at(given, series.ALARM)
    others = f"{reached.found} of {reached.events}", str(reached.false)
    return Row(name, family(name, kind), _labelled.interval(given, series.ALARM), None, "", others)


def _series_row(name: str, how: Mapping[str, Any], kind: str, cases: Sequence[SeriesCase]) -> Row:
    series = [(composed(case.values, **how), case.windows) for case in cases]
    best = _nab.best(series)
    false = 1e4 * best["standard"].false_alarms / max(best["standard"].usual_rows, 1)
    others = f"{best['low_FP'].score:.1f}", f"{best['low_FN'].score:.1f}", f"{false:.1f}"
    return Row(
        name, family(name, kind), _series.interval(series, best["standard"]), None, "", others
    )
