"""What lesson 06 works with moves incidents as the package does."""

from __future__ import annotations

import pytest
from matplotlib import pyplot as plt

from aiops_lab.detect.incidents import STATUSES
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.pipeline import Report
from shop.course import troubles
from shop.recordings import true_faults
from shop.virtual_time.scenario import Fault, Scenario

KNOBS = Sensitivity(correlation_s=300, resolve_after_s=600)


def test_an_anomaly_by_hand_is_known_at_the_end_of_its_window() -> None:
    made = troubles.anomaly(20, "timeout", "/a", "high")
    assert (made.window, made.end) == (troubles.second(10), troubles.second(20))
    assert (made.endpoint, made.severity) == ("/a", "high")


def test_three_of_nine_moves_are_allowed() -> None:
    allowed = {(a, b) for a in STATUSES for b in STATUSES if troubles.may_move(a, b)}
    forward = {("active", "acknowledged"), ("active", "resolved"), ("acknowledged", "resolved")}
    assert allowed == forward


@pytest.mark.parametrize(("at_s", "same"), [(400, True), (700, False)])
def test_what_returns_while_the_incident_is_open_is_the_same(at_s: float, same: bool) -> None:
    manager, incident = troubles.managed(KNOBS)
    assert (troubles.returned(manager, at_s) is incident) == same


def test_incidents_are_drawn_below_each_other_with_one_axis_of_time() -> None:
    _, incident = troubles.managed()
    report: Report = [incident]  # type: ignore[assignment]
    troubles.incidents_figure({"one": report, "two": report}, true_faults(Scenario("calm")))
    above, below = plt.gcf().axes
    assert (above.get_title("left"), above.get_xlabel()) == ("one", "")
    assert below.get_xlabel()
    plt.close()


def test_a_line_stands_below_the_true_faults_and_each_has_the_name_of_its_group_beside_it() -> None:
    _, incident = troubles.managed()
    one: Report = [incident]  # type: ignore[assignment]
    where = "payment", "/payment"
    faults = Fault("error", *where, 10, 20), Fault("error", *where, 40, 50)
    truth = true_faults(Scenario("two", (where,), faults)).assign(group=["early", "late"])
    troubles.incidents_figure({"one": one, "two": one}, truth)
    above, _ = plt.gcf().axes
    assert [text.get_text() for text in above.texts] == ["early", "late"]
    assert any(set(line.get_ydata()) == {1.5} for line in above.lines)
    plt.close()
