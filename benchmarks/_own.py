"""Methods of the user, beside this package's in the tables of public data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import aiops_lab as lab
from aiops_lab.checks import FieldError
from aiops_lab.datasets.cases import Case, MetricsCase, SeriesCase, SpansCase
from aiops_lab.datasets.nezha import TracesCase
from aiops_lab.explain.reference import Reference
from aiops_lab.explain.rules import RULES
from aiops_lab.user_functions import list_from, load_function, names_by_spec, raised
from benchmarks import _groups, _labelled, _metrics, _petshop, _series, _spans
from benchmarks._petshop import HALF, SILENT, Answer
from benchmarks._spans import YOURS
from shop.experiments.user_rules import UserRule

THRESHOLD = 0.5
"""The score from which a detector of the user alarms, if it has no attribute ``threshold``."""

OTHERS = (
    *(*_spans.ALARMS, *_metrics.METHODS, *_petshop.METHODS),
    *(*_series.BASELINES, *_labelled.BASELINES, _labelled.MINE),
)
TAKEN = {method.name for method in OTHERS} | {"aiops_lab", *RULES, *_groups.RESERVED}
"""The names that a method of the user cannot have; those of more than one word are not all here."""


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

    One whose function has the name of another method is named by the whole of its spec.

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
        One has another form, or cannot be imported; or a ``threshold`` is no finite number.
    """
    names = names_by_spec([*rules, *metrics_rules, *detectors], TAKEN)
    on_spans: list[_spans.Method] = []
    by_case: list[_metrics.Method] = []
    of_petshop: list[_petshop.Method] = []
    of_nab: list[_series.Method] = []
    of_events: list[_labelled.Method] = []
    for spec in dict.fromkeys(rules):
        name = names[spec]
        answer = _spans.first_service(partial(suspects_of, name, UserRule(spec)))
        on_spans.append(_spans.Method(name, YOURS, answer))
    for spec in dict.fromkeys(metrics_rules):
        name = names[spec]
        ask = partial(first_node, name, load_function("metrics-rule", spec))
        by_case.append(_metrics.Method(name, YOURS, partial(_asked_of_case, ask)))
        of_petshop.append(_petshop.Method(name, YOURS, ask))
    for spec in dict.fromkeys(detectors):
        name, detector = names[spec], load_function("detector", spec)
        scores = partial(scores_of, name, detector)
        of_nab.append(_series.Method(name, YOURS, scores))
        by_values, threshold = partial(_scored_case, scores), threshold_of(name, detector)
        of_events.append(_labelled.Method(name, YOURS, by_values, threshold))
    each = (on_spans, by_case, of_petshop, of_nab, of_events)
    return Own(*map(tuple, each))  # type: ignore[arg-type]


def check_asked(own: Own, kinds: set[type[Case]]) -> None:
    """Raise `FieldError` where the user names a method that no data of these `kinds` asks."""
    series = "single series: --only nab, wsd, aiops or ucr"
    on_metrics = "metrics: --only petshop, cloudopsbench or rcd, or a --folder of metrics"
    on_spans = "spans: --only nezha, or a --folder of spans"
    for option, methods, asking, rule in (
        ("rule", own.rules, {SpansCase, TracesCase}, on_spans),
        ("metrics-rule", own.on_metrics, {MetricsCase}, on_metrics),
        ("detector", own.on_nab, {SeriesCase}, series),
    ):
        if methods and not asking & kinds:
            found = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise FieldError(
                f"{option} {methods[0].name}", f"must have data to judge ({rule})", found
            )


def suspects_of(
    name: str, rule: Callable[..., Any], usual: Reference, abnormal: pd.DataFrame
) -> list[lab.Suspect]:
    """Return the suspects of a rule on spans, which is given copies."""
    return list_from(f"rule {name}", rule, deepcopy((usual, abnormal)), (lab.Suspect,))


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
    given = deepcopy((normal, abnormal, calls, target))
    found = list_from(f"metrics-rule {name}", rule, given, (lab.Suspect, str))
    if not found:
        return SILENT
    first = found[0]
    if isinstance(first, str):
        return Answer(first)
    return Answer(first.service, not first.confidence < HALF)


def _asked_of_case(ask: Callable[..., Answer], case: MetricsCase) -> Answer:
    return ask(case.normal, case.abnormal, case.calls, case.target)


def threshold_of(name: str, detector: Callable[..., Any]) -> float:
    """Return the score from which a detector alarms."""
    found = getattr(detector, "threshold", THRESHOLD)
    is_number = isinstance(found, Real) and not isinstance(found, bool)
    if not is_number or not np.isfinite(float(found)):
        raise FieldError(f"detector {name}", "must have a finite number as its threshold", found)
    return float(found)


def scores_of(name: str, detector: Callable[..., Any], values: np.ndarray) -> np.ndarray:
    """Return the scores that a detector gives the points of a series."""
    what = f"detector {name}"
    try:
        found = detector(values.copy())
    except Exception as error:
        raise raised(what, error) from error
    rule = f"must return {len(values)} numbers, one a point"
    try:
        scores = np.asarray(found, dtype=float)
    except (TypeError, ValueError) as error:
        raise FieldError(what, rule, found) from error
    if scores.shape != values.shape:
        raise FieldError(what, rule, f"an array of shape {scores.shape}")
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        first = float(scores[wrong[0]])
        raise FieldError(what, f"must return finite numbers, also at point {wrong[0]}", first)
    return scores


def _scored_case(scores: Callable[[np.ndarray], np.ndarray], case: SeriesCase) -> np.ndarray:
    return scores(case.values)
