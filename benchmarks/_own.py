"""Methods of the user, beside this package's in the tables of public data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import aiops_lab as lab
from aiops_lab.checks import FieldError
from aiops_lab.datasets.cases import MetricsCase, SeriesCase
from aiops_lab.user_functions import load_function, raised
from benchmarks import _labelled, _metrics, _petshop, _series, _spans
from benchmarks._petshop import HALF, SILENT, Answer
from benchmarks._spans import YOURS
from shop.experiments.user_rules import UserRule

THRESHOLD = 0.5
"""The score from which a detector of the user alarms, if it has no attribute ``threshold``."""


class Own(NamedTuple):
    """The methods of the user: rules on spans, rules on metrics, detectors on series."""

    rules: tuple[_spans.Method, ...] = ()
    on_metrics: tuple[_metrics.Method, ...] = ()
    on_petshop: tuple[_petshop.Method, ...] = ()
    on_nab: tuple[_series.Method, ...] = ()
    on_labelled: tuple[_labelled.Method, ...] = ()


def read_own(
    rules: Sequence[str] = (), metrics_rules: Sequence[str] = (), detectors: Sequence[str] = ()
) -> Own:
    """Return the methods of the user by ``file.py:function`` or ``module:function``.

    Parameters
    ----------
    rules
        ``f(reference, abnormal) -> list of Suspect``, on spans.
    metrics_rules
        ``f(normal, abnormal, calls, target) -> list of Suspect``, or of the names of nodes, on
        metrics as `aiops_lab.rank_from_metrics` takes them.
    detectors
        ``f(values) -> scores``, a number a point, on single series. It alarms from its attribute
        ``threshold`` on, by default 0.5.

    Raises
    ------
    ValueError
        One has another form, or cannot be imported.
    """
    told = {spec: load_function("metrics-rule", spec) for spec in metrics_rules}
    scored = {spec: load_function("detector", spec) for spec in detectors}
    by_case: list[_metrics.Method] = []
    of_petshop: list[_petshop.Method] = []
    for spec, rule in told.items():
        name = _name(spec)
        ask = partial(first_node, name, rule)
        by_case.append(_metrics.Method(name, YOURS, partial(_asked_of_case, ask)))
        of_petshop.append(_petshop.Method(name, YOURS, ask))
    of_nab: list[_series.Method] = []
    of_events: list[_labelled.Method] = []
    for spec, detector in scored.items():
        name = _name(spec)
        scores = partial(scores_of, name, detector)
        threshold = float(getattr(detector, "threshold", THRESHOLD))
        of_nab.append(_series.Method(name, YOURS, scores))
        by_values = partial(_scored_case, scores)
        of_events.append(_labelled.Method(name, YOURS, by_values, threshold))
    return Own(
        tuple(
            _spans.Method(_name(spec), YOURS, _spans.first_service(UserRule(spec)))
            for spec in rules
        ),
        tuple(by_case),
        tuple(of_petshop),
        tuple(of_nab),
        tuple(of_events),
    )


def _name(spec: str) -> str:
    return spec.rpartition(":")[2]


def first_node(
    name: str,
    rule: Callable[..., Any],
    normal: pd.DataFrame,
    abnormal: pd.DataFrame,
    calls: Any,
    target: Any,
) -> Answer:
    """Return the first answer of a rule on metrics, which is given copies.

    It vouches for a name, and for a suspect with a confidence of at least 0.5 or none.
    """
    try:
        found = rule(normal.copy(), abnormal.copy(), calls, target)
    except Exception as error:
        raise raised(f"metrics-rule {name}", error) from error
    if not isinstance(found, list) or not all(isinstance(s, str | lab.Suspect) for s in found):
        shape = "must return a list of Suspect or of names"
        raise FieldError(f"metrics-rule {name}", shape, found)
    if not found:
        return SILENT
    first = found[0]
    if isinstance(first, str):
        return Answer(first)
    return Answer(first.service, not first.confidence < HALF)


def _asked_of_case(ask: Callable[..., Answer], case: MetricsCase) -> Answer:
    return ask(case.normal, case.abnormal, case.calls, case.target)


def scores_of(name: str, detector: Callable[..., Any], values: np.ndarray) -> np.ndarray:
    """Return the scores that a detector gives the points of a series."""
    try:
        scores = np.asarray(detector(values.copy()), dtype=float)
    except Exception as error:
        raise raised(f"detector {name}", error) from error
    if scores.shape != values.shape or not np.isfinite(scores).all():
        rule = f"must return {len(values)} finite numbers, one a point"
        raise FieldError(f"detector {name}", rule, f"an array of shape {scores.shape}")
    return scores


def _scored_case(scores: Callable[[np.ndarray], np.ndarray], case: SeriesCase) -> np.ndarray:
    return scores(case.values)
