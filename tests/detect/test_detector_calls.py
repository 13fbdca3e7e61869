"""How the detectors of a pipeline are called: the package's own, and those of a user."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.detector_calls import DetectorCalls
from aiops_lab.detect.detectors import DETECTORS, Detector
from aiops_lab.detect.detectors.detector import WindowRequests
from aiops_lab.user_code import UserCode

S = lab.Sensitivity()
WINDOWS = {"arrivals": np.zeros(2)}
NOTHING = pd.DataFrame()
START = pd.Timestamp("2026-01-01", tz="UTC")
FOUND = lab.Anomaly("busy", "shop", "/payment", START, START)


def detector(name: str = "busy", **parts) -> Detector:
    about = {"title": name, "column": name, "evidence": vars, "describe": str}
    return Detector(name=name, **{"decide": lambda *_: np.ones(2, bool)} | about | parts)


def finds(*_) -> list[lab.Anomaly]:
    return [FOUND]


def fails(*_) -> None:
    raise KeyError("column")


def test_the_packages_detectors_hold_learning_still_also_where_none_is_asked():
    assert DetectorCalls(()).holding == tuple(DETECTORS)
    assert DetectorCalls(iter([finds])).holding == tuple(DETECTORS)


def test_a_users_detector_of_the_same_name_takes_the_place_of_the_packages():
    own = detector(DETECTORS[0].name)
    assert DetectorCalls([own]).holding == (own, *DETECTORS[1:])


def test_a_detector_that_does_not_halt_the_test_of_shifts_makes_no_jump():
    calls = DetectorCalls([detector("a"), detector("b", halts_shift_test=False)])
    assert "a" in calls.jumps
    assert "b" not in calls.jumps
    assert {"a", "b"} <= {each.column for each in calls.holding}


def test_anomalies_stand_beside_their_detector_in_the_order_of_the_detectors():
    def another(*_):
        return (FOUND, FOUND)

    found = DetectorCalls([finds, another]).anomalies(NOTHING, NOTHING, S)
    assert found == [(finds, FOUND), (another, FOUND), (another, FOUND)]


def test_a_detector_that_fails_finds_nothing_decides_nothing_and_shows_all_requests():
    own = detector(decide=fails, shows=fails)
    user_code = UserCode(isolate=True)
    calls = DetectorCalls([fails, finds, own], user_code)
    assert calls.anomalies(NOTHING, NOTHING, S)[:1] == [(finds, FOUND)]
    user_code.begin_step()
    assert calls._decided(own, WINDOWS, {}, S).tolist() == [False, False]
    user_code.begin_step()
    requests = WindowRequests(np.array([True, False]), np.zeros(2), np.zeros(2))
    assert calls.shows(own, requests, {}, S).tolist() == [True, True]
    steps = {name: about["steps"] for name, about in user_code.failed.items()}
    assert steps == {"detectors[0] (fails)": 1, "detectors[2] (busy)": 3}


def test_a_decision_of_another_shape_is_refused_with_the_name_of_the_detector():
    own = detector(decide=lambda *_: np.ones(3, bool))
    with pytest.raises(ValueError, match="decide must return a bool a window") as refused:
        DetectorCalls([own])._decided(own, WINDOWS, {}, S)
    assert refused.value.__notes__ == ["raised in detectors[0] (busy)"]


@pytest.mark.parametrize(
    ("detectors", "message"),
    [
        ("latency", "detectors must be functions or `Detector` values, got 'latency'"),
        (3, "detectors must be functions or `Detector` values, got 3"),
        ([finds, None], r"detectors\[1\] must be a function, got None"),
    ],
)
def test_what_is_no_detector_is_refused(detectors, message):
    with pytest.raises(ValueError, match=message):
        DetectorCalls(detectors)
