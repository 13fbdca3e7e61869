"""Figures of incidents show the faults, episodes and panels they were given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from matplotlib.dates import num2date

from aiops_lab.show import plots
from tests.support.figures import (
    FAULTS,
    anomaly,
    labelled,
    line,
    second,
    seconds_of,
    texts,
    windows,
    y_names,
)

pytestmark = pytest.mark.usefixtures("closed_figures")


def incident(**given: object) -> SimpleNamespace:
    episode = (second(30), second(60))
    seen = [
        SimpleNamespace(type="error_spike", end=second(40)),
        SimpleNamespace(type="timeout", end=second(50)),
    ]
    plain = {
        "severity": "high",
        "title": "Error spike detected in /payment",
        "episodes": [episode],
        "anomalies": seen,
        "last_anomaly": episode[1],
        "acknowledged_at": None,
        "resolved_at": None,
    }
    return SimpleNamespace(**plain | given)


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_incident_is_a_bar_below_the_faults(wrapped: bool) -> None:
    found = [incident()]
    ax = plots.incidents(SimpleNamespace(incidents=found) if wrapped else found, FAULTS)
    assert y_names(ax) == [
        "delay at /payment",
        "Error spike, /payment",
    ]
    bars = [(round(bar.get_y() + bar.get_height() / 2), *bar_s(bar)) for bar in ax.patches]
    assert bars == [(0, 31, 50), (1, 30, 60)]
    assert line(ax, "error spike") == ([40], [1])
    assert line(ax, "timeout") == ([50], [1])


SIZES = {
    "delay of 400 ms at /a": {"kind": "delay", "duration_ms": 400.0, "rate": 1.0},
    "error of 80 % at /a": {"kind": "error", "duration_ms": 0.0, "rate": 0.8},
    "error of 100 % at /a": {"kind": "error", "duration_ms": float("nan"), "rate": 1.0},
    "hang at /a": {"kind": "hang", "duration_ms": 0.0, "rate": 1.0},
    "slow of 1.4 times at /a": {"kind": "slow", "duration_ms": 0.0, "factor": 1.4},
}


@pytest.mark.parametrize("name", SIZES)
def test_a_fault_above_the_incidents_carries_its_size(name: str) -> None:
    fault = SimpleNamespace(endpoint="/a", start=second(31), end=second(50), **SIZES[name])
    ax = plots.incidents([incident()], [fault])
    assert ax.get_yticklabels()[0].get_text() == name


def bar_s(bar: Any) -> tuple[float, ...]:
    left, width = bar.get_x(), bar.get_width()
    return tuple(seconds_of(num2date([left, left + width])))


def test_a_reopened_incident_has_two_bars_and_tells_its_moves() -> None:
    episodes = [(second(30), second(60)), (second(100), second(110))]
    moves = {"acknowledged_at": second(45), "resolved_at": second(170)}
    ax = plots.incidents([incident(episodes=episodes, last_anomaly=second(110), **moves)])
    assert [bar_s(bar) for bar in ax.patches] == episodes_s(episodes)
    assert line(ax, "acknowledged") == ([45], [0])
    assert line(ax, "resolved") == ([170], [0])


def episodes_s(episodes: list[tuple[pd.Timestamp, pd.Timestamp]]) -> list[tuple[float, ...]]:
    return [tuple(seconds_of(episode)) for episode in episodes]


def test_each_severity_has_a_colour_and_a_hatch_of_its_own() -> None:
    ax = plots.incidents([incident(severity=s) for s in ("medium", "high", "critical")])
    assert len({bar.get_hatch() for bar in ax.patches}) == 3
    assert len({bar.get_facecolor() for bar in ax.patches}) == 3


def test_no_incidents_give_an_empty_timeline_of_incidents() -> None:
    assert not plots.incidents([]).patches


def told(kind: str) -> SimpleNamespace:
    """Return an incident at /payment, which makes /checkout worse."""
    return SimpleNamespace(
        affected_endpoints=["/payment", "/checkout"],
        main_anomaly=anomaly(kind, 30),
        root_cause=SimpleNamespace(name="/payment", endpoint="/payment"),
        first_detected=second(40),
    )


def test_the_story_of_an_incident_has_a_panel_for_each_affected_endpoint_and_its_ledger() -> None:
    rows = windows(("/checkout", "/health", "/payment"))
    ledger = pd.DataFrame({"account": ["/payment own time"], "excess": [800.0]})
    ledger.attrs.update(entry="/checkout", unit="ms per request")
    marks = [anomaly("latency_anomaly", 30)]
    fig = plots.story(rows, told("latency_anomaly"), marks, FAULTS, ledger)
    cause, worse, waterfall = fig.axes
    assert cause.get_title(loc="left") == "Latency of /payment (shop)"
    assert worse.get_title(loc="left") == "Latency of /checkout (shop)"
    assert texts(cause) == ["incident, cause: /payment"]
    assert texts(worse) == ["incident"]
    for panel in (cause, worse):
        mark = labelled(panel, "incident detected")
        assert mark.get_xdata()[0] == second(40)
    assert y_names(waterfall)[-1] == "total at /checkout"


def test_the_story_of_failures_shows_the_share_that_failed_and_no_ledger_without_one() -> None:
    fig = plots.story(windows(), told("error_spike"), [anomaly("error_spike", 30)])
    assert len(fig.axes) == 2
    line = labelled(fig.axes[0], "failed share")
    assert list(line.get_ydata()) == [0, 0, 0, 0.5, 0, 0]


@pytest.mark.parametrize("kind", ["error_spike", "latency_anomaly"])
def test_a_story_of_an_endpoint_without_windows_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="must"):
        plots.story(windows(("/payment",)), told(kind))
