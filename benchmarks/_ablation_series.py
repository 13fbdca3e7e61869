"""Detection on series: what is each view of `anomaly_scores` worth, and what do other constants do?

`composed` puts the scores together from the parts of the package; with all of them in, they are
those of `anomaly_scores`, which tests/test_accuracy.py compares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from aiops_lab.datasets.cases import SeriesCase
from aiops_lab.detect import series
from aiops_lab.detect.baselines import alpha_of, envelope_step, ewma_step
from benchmarks import _nab, _series
from benchmarks._ablation import CONDITIONS, REMOVED, WHOLE, bar, family
from benchmarks._tables import Row, Table

VIEWS = ("value", "residual", "drift")


def composed(
    values: np.ndarray,
    views: Collection[str] = VIEWS,
    hold: bool = True,
    fast: float = series.FAST,
    slow: float = series.SLOW,
    out: float = series.OUT,
    back: float = series.BACK,
    warm_up: int = series.WARM_UP,
    half_life: float = series.HOLD,
) -> np.ndarray:
    """Return `anomaly_scores` of a series without NaN, put together from its parts, some of them
    left out.
    """
    n = np.arange(1, len(values) + 1)
    mean_fast, mean_slow = (
        _ewma(values, np.maximum(fast, 1 / n)),
        _ewma(values, np.maximum(slow, 1 / n)),
    )
    seen = {
        "value": (values, values[0]),
        "residual": (np.concatenate([[0.0], values[1:] - mean_slow[:-1]]), 0.0),
        "drift": (mean_fast - mean_slow, 0.0),
    }
    score = np.max([_outside(*seen[view], out, back) for view in views], axis=0)
    score[:warm_up] = 0.0
    return _held(score, 1.0 - alpha_of(1.0, half_life)) if hold else score


def _ewma(values: np.ndarray, gains: np.ndarray) -> np.ndarray:
    mean, means = float(values[0]), []
    for value, gain in zip(values.tolist(), gains.tolist(), strict=True):
        mean, _ = ewma_step(mean, 0.0, value, gain)
        means.append(mean)
    return np.array(means)


def _outside(view: np.ndarray, begin: float, out: float, back: float) -> np.ndarray:
    """Return how far each point is outside of the envelope of those before it."""
    low = high = float(begin)
    bounds = []
    for value in view.tolist():
        bounds.append((low, high))
        low, high = envelope_step(low, high, value, out, back)
    lows, highs = np.array(bounds).T
    away = np.maximum(np.maximum(view - highs, lows - view), 0.0)
    return np.divide(away, away + (highs - lows), out=np.zeros(len(view)), where=away > 0)


def _held(scores: np.ndarray, decay: float) -> np.ndarray:
    """Return the scores that beat the decaying one before them."""
    hold, kept = 0.0, np.zeros(len(scores))
    for i, score in enumerate(scores.tolist()):
        hold *= decay
        if score > hold:
            kept[i] = hold = score
    return kept


PARTS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    **{f"without the {view}": {"views": [v for v in VIEWS if v != view]} for view in VIEWS},
    "without the hold": {"hold": False},
}
OTHER_CONSTANTS = (
    ("fast", 0.015, 0.06),
    ("slow", 0.0015, 0.006),
    ("out", 0.35, 1.0),
    ("back", 1.5e-5, 6e-5),
    ("warm_up", 50, 200),
    ("half_life", 25.0, 100.0),
)


def nab(cases: Sequence[SeriesCase], progress: bool) -> list[Table]:
    """Return what each part of `anomaly_scores` is worth, and what other constants do."""
    changed = {
        f"{name} {value:g}": {name: value} for name, *both in OTHER_CONSTANTS for value in both
    }
    tables = []
    for title, how, kind in (
        ("Series: one part removed", PARTS, REMOVED),
        ("Series: halved and doubled constants", {WHOLE: {}} | changed, CONDITIONS),
    ):
        rows = [_series_row(name, h, kind, cases) for name, h in bar(how.items(), title, progress)]
        columns = ("low FP", "low FN", "false alarms per 10,000 rows")
        tables.append(
            Table(
                title,
                f"NAB, {len(cases)} files seen while tuning",
                "standard profile",
                rows,
                columns,
            )
        )
    return tables


def _series_row(name: str, how: Mapping[str, Any], kind: str, cases: Sequence[SeriesCase]) -> Row:
    series = [(composed(case.values, **how), case.windows) for case in cases]
    best = _nab.best(series)
    false = 1e4 * best["standard"].false_alarms / max(best["standard"].usual_rows, 1)
    others = f"{best['low_FP'].score:.1f}", f"{best['low_FN'].score:.1f}", f"{false:.1f}"
    return Row(
        name, family(name, kind), _series.interval(series, best["standard"]), None, "", others
    )
