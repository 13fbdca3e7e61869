"""Does confidence hold on systems that it was not learned from? ``python -m benchmarks.confidence
[--data DIR]``.

Every case of the metrics sets is asked with all its normal data and with little of it, with its
calls and without, and so are windows without a fault. Then each system is left out in turn: what is
learned from the others is asked about it. Last, what is learned from all is printed, as it is to
stand in `aiops_lab.explain.metric_confidence`.

PetShop is only asked, without its calls: latencies of callers are all that is measured there, and
no curve is learned from that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

import aiops_lab as lab
from aiops_lab.datasets.cases import MetricsCase
from aiops_lab.evaluate.calibration import Calibration, calibration
from aiops_lab.explain.familiarity import Learned, lowered
from aiops_lab.explain.metric_confidence import LEARNED, MetricCurve
from benchmarks._data import data_folder_or_hint, data_parser
from benchmarks._metrics import quiet
from benchmarks.accuracy import cases_of

FEW = (5, 10)  # normal intervals, beside all of them
POWERS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
RIDGE = 0.3  # how much small weights are preferred: some systems have 100 answers
STEPS = 60  # of Fisher scoring
SURE = 0.8
HOME = ("boutique", "trainticket", "sockshop")


class AskedSuspect(NamedTuple):
    """The first suspect of a case: the terms of its confidence, the scores of all, and the
    truth.
    """

    system: str
    faulty: bool
    right: bool
    confidence: float  # as the package has it
    terms: dict[str, float]
    scores: NDArray


# ---- asking


def asked(name: str, cases: Iterable[MetricsCase], with_calls: bool) -> Iterator[AskedSuspect]:
    """Yield the first suspects of all cases of a system, in all conditions."""
    for case in cases:
        for some in (case, quiet(case)):
            conditions = product(_amounts(some.normal), _graphs(some, with_calls))
            for normal, calls in conditions:
                suspects = lab.rank_from_metrics(normal, some.abnormal, calls)
                if suspects:
                    yield _first(name, some is case, case.truth, suspects)


def _amounts(normal: pd.DataFrame) -> list[pd.DataFrame]:
    """Return all normal data, and the last few intervals of it."""
    fewer = [few for few in FEW if few < len(normal)]
    return [normal, *(normal.iloc[-few:] for few in fewer)]


def _graphs(case: MetricsCase, with_calls: bool) -> list[list[tuple[str, str]] | None]:
    if with_calls and case.calls:
        return [None, case.calls]
    return [None]


def _first(name: str, faulty: bool, truth: str, suspects: list[lab.Suspect]) -> AskedSuspect:
    first = suspects[0]
    scores = np.array([suspect.score for suspect in suspects])
    right = faulty and first.service == truth
    return AskedSuspect(name, faulty, right, first.confidence, first.terms, scores)


def systems(folder: Path) -> dict[str, list[MetricsCase]]:
    """Return the cases of each system."""
    found: dict[str, list[MetricsCase]] = {name: [] for name in HOME}
    for case in cases_of(MetricsCase, "cloudopsbench", folder / "cloudopsbench"):
        _, _, folder_name = case.name.rpartition("/")
        system, _, _ = folder_name.partition("-")
        found[system].append(case)
    found["sockshop"] = cases_of(MetricsCase, "rcd", folder / "rcd_sockshop")
    found["petshop"] = cases_of(MetricsCase, "petshop", folder / "petshop")
    return found


# ---- learning


def fit(answers: Sequence[AskedSuspect]) -> MetricCurve:
    """Learn the curve of the confidence: the likeliest weights of each power, by Fisher scoring,
    and the best power.
    """
    x, right = _design(answers), _right(answers)
    best = (-np.inf, MetricCurve())
    for power in POWERS:
        lead = _lead(answers, power)
        weights = _weights(x, lead, right)
        intercept, unusual, intervals = map(float, weights)
        curve = MetricCurve(intercept, unusual, intervals, power)
        p = np.clip(predicted(curve, answers), 1e-6, 1 - 1e-6)
        of_what_was = np.where(right, p, 1 - p)
        likely = float(np.log(of_what_was).sum())
        best = max(best, (likely, curve))
    return best[1]


def _weights(x: NDArray, lead: NDArray, right: NDArray) -> NDArray:
    weights = np.zeros(x.shape[1])
    ridge = RIDGE * np.eye(x.shape[1])
    ridge[0, 0] = 0.0  # the intercept is free
    for _ in range(STEPS):
        shows = 1 / (1 + np.exp(-x @ weights))
        p = np.clip(lead * shows, 1e-9, 1 - 1e-9)
        left = (1 - shows) / (1 - p)
        slope = (right - p) * left
        bend = p * (1 - shows) * left
        curvature = (x.T * bend) @ x + ridge
        weights += np.linalg.solve(curvature, x.T @ slope - ridge @ weights)
    return weights


def _design(answers: Sequence[AskedSuspect]) -> NDArray:
    unusual = np.array([answer.terms["unusual"] for answer in answers])
    intervals = np.array([answer.terms["intervals"] for answer in answers])
    return np.column_stack([np.ones(len(answers)), np.log1p(unusual), intervals**-0.5])


def _lead(answers: Sequence[AskedSuspect], power: float) -> NDArray:
    """Return what `metric_confidence.ahead` says of each first suspect, times the part of the
    trouble that it surely explains.
    """
    parts = []
    for answer in answers:
        to_the_first = answer.scores / answer.scores[0]
        lead = 1 / (to_the_first**power).sum()
        parts.append(lead * answer.terms["explained"])
    return np.array(parts)


def _right(answers: Sequence[AskedSuspect]) -> NDArray:
    return np.array([answer.right for answer in answers])


def predicted(curve: MetricCurve, answers: Sequence[AskedSuspect]) -> NDArray:
    """Return the confidences before any is lowered."""
    logit = _design(answers) @ np.array(curve[:3])
    return _lead(answers, curve.power) / (1 + np.exp(-logit))


def learned_from(answers: Sequence[AskedSuspect]) -> Learned:
    """Return the ranges of what was learned from, open where more can only help."""
    ranges = {}
    for term, known in LEARNED.ranges.items():
        values = [answer.terms[term] for answer in answers]
        low = min(values) if known.low > 0 else 0.0
        high = max(values) if np.isfinite(known.high) else np.inf
        ranges[term] = known._replace(low=low, high=high)
    return Learned(float(_right(answers).mean()), ranges)


def cautious(curve: MetricCurve, learned: Learned, answers: Sequence[AskedSuspect]) -> NDArray:
    """Return the confidences, lowered where a case is unlike what was learned from."""
    plain = predicted(curve, answers)
    each = zip(plain, answers, strict=True)
    return np.array([lowered(np.array(p), answer.terms, learned) for p, answer in each])


def taught_by_others(
    name: str, answers: dict[str, list[AskedSuspect]]
) -> tuple[MetricCurve, Learned]:
    """Return what the systems of `HOME` teach without the one of this name."""
    others = [answer for other in HOME if other != name for answer in answers[other]]
    return fit(others), learned_from(others)


# ---- the table


def _row(name: str, told: NDArray, answers: Sequence[AskedSuspect]) -> str:
    right = _right(answers)
    check: Calibration = calibration(told, right)
    sure = told >= SURE
    calm = np.array([not answer.faulty for answer in answers])
    bold = int((told[calm] >= 0.5).sum())
    low, high = _bars(told, right)
    return (
        f"| {name} | {len(answers)} | {right.mean():.2f} | {told.mean():.2f} "
        f"| **{check.ece:.2f}** ({low:.2f} to {high:.2f}) | {check.ece_perfect_high:.2f} "
        f"| {int(right[sure].sum())} of {int(sure.sum())} | {bold} of {int(calm.sum())} |"
    )


def _bars(told: NDArray, right: NDArray) -> tuple[float, float]:
    """Return the bootstrap interval (95 %) of the calibration error."""
    n = len(told)
    rng = np.random.default_rng(0)
    draws = rng.integers(n, size=(300, n))
    errors = [calibration(told[draw], right[draw], times=1).ece for draw in draws]
    low, high = np.quantile(errors, [0.025, 0.975])
    return float(low), float(high)


HEAD = """| system left out | answers | right | mean confidence | calibration error | of a perfect \
model, 95 % | right at 0.8 or more | fault-free at 0.5 or more |
|---|---|---|---|---|---|---|---|"""


def table(answers: dict[str, list[AskedSuspect]]) -> str:
    """Return the confidences of each system by what the others taught, and as the package has them;
    the latter without and with the lowering.
    """
    lines = [HEAD]
    for name, mine in answers.items():
        curve, learned = taught_by_others(name, answers)
        lines.append(_row(f"{name}, curve alone", predicted(curve, mine), mine))
        lines.append(_row(f"{name}, lowered far away", cautious(curve, learned, mine), mine))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and what all systems of `HOME` teach; return 2 where there is no data."""
    parser = data_parser("confidence", __doc__)
    folder = data_folder_or_hint(parser.parse_args(arguments).data)
    if folder is None:
        return 2
    answers = {
        name: list(asked(name, tqdm(cases, desc=name), name in HOME))
        for name, cases in systems(folder).items()
    }
    print(table(answers))
    home = [answer for name in HOME for answer in answers[name]]
    print(fit(home), learned_from(home), len(home))
    return 0


if __name__ == "__main__":
    sys.exit(main())
