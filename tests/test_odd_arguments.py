"""Numbers of every kind, frames with settings of pandas, text that is none: the right answer, or an
error that names the argument, the rule and the value.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.detectors import DETECTORS
from tests.support.made import BEGIN, Shop, fault

HUGE = 10**400
THREES = [3, 3.0, np.float16(3), np.float32(3), np.longdouble(3), np.int8(3), Fraction(3)]
NO_NUMBERS = [None, pd.NA, pd.NaT, "3", True, [3], np.array([3.0]), 3j, pd.Timedelta("3s")]


@cache
def slow_payment() -> pd.DataFrame:
    return Shop(1, fault("/payment", 100, 140, 400.0)).run(160)


@cache
def truth() -> pd.DataFrame:
    start, end = (pd.Timestamp(BEGIN, tz="UTC") + pd.Timedelta(s, "s") for s in (100, 140))
    row = {"service": "shop", "endpoint": "/payment", "start": start, "end": end}
    return pd.DataFrame([row])


@cache
def report() -> Any:
    return lab.replay(slow_payment())


@pytest.mark.parametrize("three", THREES, ids=repr)
def test_a_number_of_any_kind_is_a_number(three: Any) -> None:
    means, _ = lab.ewma([1.0, 2.0, 4.0], three)
    assert means.tolist() == lab.ewma([1.0, 2.0, 4.0], 3)[0].tolist()
    assert lab.Sensitivity(z=three) == lab.Sensitivity(z=3)
    assert lab.RcaConfig(n_sigma=three) == lab.RcaConfig()
    assert lab.score(report(), truth(), slack_s=three).recall == 1


@pytest.mark.parametrize("wrong", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(ValueError, match="half_life must be a number, got "):
        lab.ewma([1.0, 2.0], wrong)
    with pytest.raises(ValueError, match="slack_s must be a finite number, got "):
        lab.score(report(), truth(), slack_s=wrong)
    with pytest.raises(ValueError, match="n_sigma must be a finite number, got "):
        lab.RcaConfig(n_sigma=wrong)


@pytest.mark.parametrize("endless", [HUGE, Fraction(HUGE, 3), np.longdouble("inf"), float("inf")])
def test_with_an_endless_half_life_the_first_value_stays(endless: Any) -> None:
    assert lab.ewma([1.0, 2.0, 4.0], endless)[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("slack_s", "rule"),
    [
        (HUGE, "must be <= 1e+09"),
        (Fraction(HUGE, 3), "must be <= 1e+09"),
        (-HUGE, "must be >= 0"),
        (-1, "must be >= 0"),
        (float("nan"), "must be a finite number"),
    ],
)
def test_a_slack_beyond_its_range_is_refused(slack_s: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=f"slack_s {rule}, got ".replace("+", r"\+")):
        lab.score(report(), truth(), slack_s=slack_s)


@pytest.mark.parametrize("name", ["min_score", "min_usual_ms", "degraded_share"])
def test_a_constant_that_nothing_can_be_divided_by_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be >= 1e-09, got 5e-324"):
        lab.RcaConfig(**{name: 5e-324})
    assert getattr(lab.RcaConfig(**{name: 1e-9}), name) == 1e-9


@pytest.mark.parametrize("by", [pd.NA, np.array(["endpoint", "service"]), None])
def test_a_graph_by_anything_else_is_refused(by: Any) -> None:
    with pytest.raises(ValueError, match="by must be 'endpoint' or 'service', got "):
        lab.service_graph(slow_payment(), by=by)


@pytest.mark.parametrize("causes", [pd.NA, None, "no", 1, np.array([True, False])])
def test_causes_that_is_neither_true_nor_false_is_refused(causes: Any) -> None:
    with pytest.raises(ValueError, match="causes must be True or False, got "):
        lab.replay(slow_payment(), causes=causes)


def test_detectors_may_come_from_an_iterator() -> None:
    found = lab.replay(slow_payment(), detectors=iter(DETECTORS)).anomalies  # type: ignore[arg-type]
    assert found == report().anomalies != []


@pytest.mark.parametrize("detectors", [np.array(3.0), 3, None, "latency"])
def test_detectors_that_are_none_are_refused(detectors: Any) -> None:
    with pytest.raises(ValueError, match="detectors must be functions or `Detector` values, got "):
        lab.replay(slow_payment(), detectors=detectors)


@pytest.mark.parametrize("store", [None, "spans.sqlite", pd.NA, 3])
def test_a_monitor_of_what_is_no_store_is_refused(store: Any) -> None:
    with pytest.raises(ValueError, match="store must be a SpanStore, got "):
        lab.Monitor(store)


@pytest.mark.parametrize("now", ["now", " Today ", np.datetime64("NaT"), "", 0, pd.NaT])
def test_a_step_asks_no_clock_and_refuses_what_is_no_time(now: Any) -> None:
    with lab.SpanStore(":memory:") as store:
        monitor = lab.Monitor(store)
        with pytest.raises(ValueError, match="now and until must be a time"):
            monitor.step(now)
    with pytest.raises(ValueError, match="now and until must be a time"):
        lab.replay(slow_payment(), until=now)


# ---- frames with settings of pandas


def with_attrs(frame: pd.DataFrame) -> pd.DataFrame:
    labelled = frame.copy()
    labelled.attrs["shape"] = np.arange(3)  # has no truth value
    return labelled


@pytest.mark.parametrize(
    "dressed", [with_attrs, lambda frame: frame.set_flags(allows_duplicate_labels=False)]
)
def test_attrs_and_flags_of_a_frame_change_nothing(dressed: Any) -> None:
    frame = dressed(slow_payment())
    attrs, flag = dict(frame.attrs), frame.flags.allows_duplicate_labels
    ids = [incident.id for incident in lab.replay(frame).incidents]
    assert ids == [incident.id for incident in report().incidents] != []
    assert lab.service_graph(frame).equals(lab.service_graph(slow_payment()))
    usual, now = frame.iloc[:800], frame.iloc[800:]
    assert lab.rank_root_causes(usual, now)[0].endpoint == "/payment"
    assert (frame.attrs, frame.flags.allows_duplicate_labels) == (attrs, flag)


def test_a_plain_frame_is_checked_without_a_copy() -> None:
    assert lab.check(slow_payment()) is slow_payment()


@pytest.mark.parametrize("kind", ["objects", "strings", "categories"])
@pytest.mark.parametrize("column", ["endpoint", "trace_id", "error"])
def test_text_that_no_file_can_hold_is_refused_with_its_row(column: str, kind: str) -> None:
    frame = slow_payment().copy()
    texts = frame[column].astype(object).fillna("x").tolist()
    texts[7] = "/\udc80"
    objects = pd.Series(texts, dtype=object)
    if kind == "strings":
        objects = objects.astype(pd.StringDtype("python"))
    if kind == "categories":
        objects = pd.Series(pd.Categorical(objects, pd.Index(objects.unique(), dtype=object)))
    frame[column] = objects
    rule = f"column '{column}' must be text that UTF-8 can hold, got '/.udc80' in row 7"
    with pytest.raises(ValueError, match=rule):
        lab.replay(frame)
