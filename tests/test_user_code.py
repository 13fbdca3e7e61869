"""A detector or rule of a user's own that fails costs itself, not the rest of the step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flask import Flask

import aiops_lab as lab
from aiops_lab.detect.detectors import DETECTORS, Detector
from aiops_lab.show.api import aiops
from aiops_lab.user_code import UserCode, check_list, name_function
from tests.support.made import Shop, fault
from tests.support.played import at, to_spans

STEPS = 75, 85


@cache
def broken() -> pd.DataFrame:
    return Shop(1, fault("/payment", 60, 90, added_ms=3000.0)).run(90)


@pytest.fixture
def store(tmp_path) -> Iterator[lab.SpanStore]:
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        for row in to_spans(broken()):
            store.add(lab.Span(*row))
        yield store


def raises(*arguments: Any) -> Any:
    raise KeyError("no such column")


def returns_nothing(*arguments: Any) -> None:
    return None


def step(store: lab.SpanStore, **own: Any) -> lab.Monitor:
    monitor = lab.Monitor(store, **own)
    for second in STEPS:
        monitor.step(at(second))
    return monitor


def exits(*arguments: Any) -> Any:
    raise SystemExit(3)


def scribbles(windows, baselines, sensitivity):
    for column in windows.columns:
        del windows[column]
    return []


def test_what_a_detector_does_to_its_windows_is_not_what_others_see(store):
    (incident,) = step(store, detectors=(scribbles, *DETECTORS)).incidents()
    assert incident.root_cause.endpoint == "/payment"


@pytest.mark.parametrize("own", [raises, returns_nothing, exits])
def test_the_other_detectors_go_on(store, caplog, own):
    monitor = step(store, detectors=(own, *DETECTORS))
    (incident,) = monitor.incidents()
    assert incident.root_cause.endpoint == "/payment"
    (stored,) = store.load("incident")
    assert stored == incident.id
    ((name, about),) = monitor.failed_functions.items()
    assert (name, about["steps"]) == (f"detectors[0] ({own.__name__})", len(STEPS))
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [name in r.getMessage() for r in warnings] == [True]


def test_a_detector_that_fails_once_is_asked_again_at_the_next_step(store):
    asked = []

    def fails_once(windows, baselines, sensitivity):
        asked.append(len(windows))
        return raises() if len(asked) == 1 else []

    monitor = step(store, detectors=(*DETECTORS, fails_once))
    assert len(asked) == len(STEPS)
    assert [f["steps"] for f in monitor.failed_functions.values()] == [1]
    assert monitor.incidents()


PARTS = {
    "decide": lambda windows, baselines, s: windows["ratio"] > 5,
    "evidence": lambda row: {"arrivals": row.arrivals},
    "describe": str,
}


@pytest.mark.parametrize("part", ["decide", "evidence", "severity", "shows"])
def test_no_part_of_a_detector_stops_the_others(store, part):
    own = Detector("busy", "Busy", "busy", **PARTS | {part: raises})
    monitor = step(store, detectors=(*DETECTORS, own))
    assert any("/payment" in i.affected_endpoints for i in monitor.incidents())
    assert [*monitor.failed_functions] == ["detectors[5] (busy)"]


def test_a_decision_of_the_wrong_shape_is_refused(store):
    own = Detector("busy", "Busy", "busy", **PARTS | {"decide": lambda *_: np.array(True)})
    monitor = step(store, detectors=(*DETECTORS, own))
    (about,) = monitor.failed_functions.values()
    assert "decide must return a bool a window" in about["error"]


@pytest.mark.parametrize("rule", [raises, returns_nothing])
def test_where_the_rule_fails_the_incident_is_stored_without_a_cause(store, rule):
    monitor = step(store, rule=rule)
    (incident,) = monitor.incidents()
    assert incident.root_cause is None
    assert [*store.load("incident")] == [incident.id]
    assert [*monitor.failed_functions] == [f"rule ({rule.__name__})"]


def test_a_cause_that_was_known_stays_where_the_rule_fails_later(store):
    works = [True]

    def rule(reference, abnormal):
        return [lab.Suspect("shop", "/health", 1.0)] if works[0] else raises()

    monitor = lab.Monitor(store, rule=rule)
    monitor.step(at(75))
    works[0] = False
    monitor.step(at(90))
    (incident,) = monitor.incidents()
    assert monitor.failed_functions
    assert incident.root_cause.endpoint == "/health"


def test_metrics_tell_what_fails(store):
    monitor = step(store, detectors=(*DETECTORS, raises))
    app = Flask(__name__)
    app.register_blueprint(aiops(monitor, now=lambda: at(85)))
    answer = app.test_client().get("/aiops/metrics").get_json()
    about = {"steps": len(STEPS), "error": "KeyError: 'no such column'"}
    assert answer["failed_functions"] == {"detectors[5] (raises)": about}


def test_where_nothing_fails_metrics_say_nothing_of_it(store):
    app = Flask(__name__)
    app.register_blueprint(aiops(lab.Monitor(store), now=lambda: at(85)))
    assert "failed_functions" not in app.test_client().get("/aiops/metrics").get_json()


@pytest.mark.parametrize("argument", ["detectors", "rule"])
def test_a_replay_raises_and_names_the_function(argument):
    own = raises if argument == "rule" else (raises,)
    with pytest.raises(KeyError) as caught:
        lab.replay(broken(), **{argument: own})
    (note,) = set(caught.value.__notes__)
    assert note.startswith(f"raised in {argument}")
    assert "(raises)" in note


def test_a_replay_refuses_what_is_no_list_of_anomalies():
    with pytest.raises(ValueError, match="must return a list of Anomaly, got None"):
        lab.replay(broken(), detectors=(returns_nothing,))


def test_what_is_left_out_is_not_called_until_the_next_step():
    code = UserCode(isolate=True)
    assert code.call("own", 1, raises) == 1
    assert code.call("own", 1, lambda: 2) == 1
    assert code.is_left_out("own")
    code.begin_step()
    assert code.call("own", 1, lambda: 2) == 2


def test_a_function_without_a_name_is_named_by_its_type():
    assert name_function("rule", object()) == "rule (object)"


def test_a_list_of_other_things_is_refused():
    with pytest.raises(ValueError, match=r"must return a list of int, got 'a' in it"):
        check_list([1, "a"], int)


def test_a_generator_counts_as_a_list():
    assert check_list(iter([1, 2]), int) == [1, 2]
