"""The sliders replay the recording; what they show stays the same until somebody moves one."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import pytest

from aiops_lab import tuner as module
from aiops_lab.detectors import Detector, error_spike, latency_anomaly
from aiops_lab.sensitivity import Sensitivity

START = pd.Timestamp("2026-01-01T10:00:00Z")
FRAME = pd.DataFrame()
FAULTS = pd.DataFrame([{"kind": "delay", "endpoint": "/payment", "start": START, "end": START + pd.Timedelta("9s")}])


@pytest.fixture(autouse=True)
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[Sensitivity]:
    """A replay that finds one anomaly up to ratio 3 and none above; returns what it was asked."""
    asked: list[Sensitivity] = []

    def replay(
        _frame: pd.DataFrame, sensitivity: Sensitivity, *, detectors: Sequence[Detector], causes: bool = True
    ) -> SimpleNamespace:
        asked.append(sensitivity)
        rows = [(START + pd.Timedelta(seconds=10 * i), "shop", e) for e in ("/a", "/payment") for i in range(3)]
        windows = pd.DataFrame(rows, columns=["window", "service", "endpoint"])
        windows = windows.assign(latency_ms=50.0, baseline_ms=50.0, low_ms=40.0, high_ms=60.0, state="normal")
        anomaly = SimpleNamespace(type="latency_anomaly", service="shop", endpoint="/payment", window=START)
        incident = SimpleNamespace(root_cause=SimpleNamespace(endpoint="/payment"))
        seen = sensitivity.ratio <= 3 and latency_anomaly in detectors
        return SimpleNamespace(windows=windows, anomalies=[anomaly] * seen, incidents=[incident] * seen)

    monkeypatch.setattr(module, "replay", replay)
    return asked


def test_the_tuner_begins_with_the_defaults(replayed: list[Sensitivity]) -> None:
    made = module.tuner(FRAME, FAULTS)
    assert replayed == [Sensitivity()]
    assert made.label.value == "1 anomaly, 1 incident: /payment"
    assert bytes(made.image.value).startswith(b"\x89PNG")


def test_moving_a_slider_replays_and_redraws(replayed: list[Sensitivity]) -> None:
    made = module.tuner(FRAME, FAULTS)
    before = bytes(made.image.value)
    made.sliders["ratio"].value = 5.0
    assert replayed[-1] == Sensitivity(ratio=5.0)
    assert made.label.value == "0 anomalies, 0 incidents"
    assert bytes(made.image.value) != before


def test_a_slider_that_is_not_moved_replays_nothing(replayed: list[Sensitivity]) -> None:
    made = module.tuner(FRAME, FAULTS)
    made.sliders["ratio"].value = made.sliders["ratio"].value
    assert len(replayed) == 1


def test_other_knobs_are_kept_while_sliders_move(replayed: list[Sensitivity]) -> None:
    made = module.tuner(FRAME, FAULTS, z=2.0, correlation_s=60.0)
    made.sliders["min_count"].value = 7
    assert replayed[-1] == Sensitivity(z=2.0, correlation_s=60.0, min_count=7)


def test_the_sliders_wait_until_the_mouse_is_released() -> None:
    assert not any(slider.continuous_update for slider in module.tuner(FRAME).sliders.values())


def test_the_repr_names_the_knobs_and_nothing_that_changes_by_itself() -> None:
    assert repr(module.tuner(FRAME)) == "Tuner(z=3, ratio=3, half_life_s=300, window_s=10, min_count=20)"


def test_a_start_beyond_a_slider_is_kept(replayed: list[Sensitivity]) -> None:
    module.tuner(FRAME, half_life_s=7200.0)
    assert replayed[-1].half_life_s == 7200.0


def test_a_start_that_is_no_sensitivity_is_refused() -> None:
    with pytest.raises(ValueError, match="ratio must be"):
        module.tuner(FRAME, ratio=0.0)


def test_the_endpoint_of_the_fault_stays_while_the_anomalies_go() -> None:
    made = module.tuner(FRAME, FAULTS)
    made.sliders["ratio"].value = 5.0
    assert made.endpoint == "/payment"
    assert module.tuner(FRAME, FAULTS, endpoint="/a").endpoint == "/a"


def test_only_the_detectors_that_are_asked_for_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    sliders = module.tuner(FRAME, FAULTS, detectors=(error_spike,))
    assert sliders.label.value == "0 anomalies, 0 incidents"
    (ax,) = module.grid(FRAME, FAULTS, z=(2,), ratio=(2,), detectors=(error_spike,)).axes
    assert ax.get_title(loc="left") == "z 2, ratio 2: 0 anomalies"
    monkeypatch.setattr(module, "widgets", None)
    assert repr(module.tuner(FRAME, FAULTS, detectors=(error_spike,))) == "0 anomalies, 0 incidents"


def test_without_ipywidgets_the_tuner_is_a_line_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "widgets", None)
    assert repr(module.tuner(FRAME, FAULTS)) == "1 anomaly, 1 incident: /payment"


def test_the_grid_shows_every_pair_of_knobs(replayed: list[Sensitivity]) -> None:
    fig = module.grid(FRAME, FAULTS, z=(2, 4), ratio=(2, 6))
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles[:2] == ["z 2, ratio 2: 1 anomaly", "z 2, ratio 6: 0 anomalies"]
    assert [(s.z, s.ratio) for s in replayed] == [(2, 2), (2, 6), (4, 2), (4, 6)]
    marked = ["latency anomaly" in [line.get_label() for line in ax.lines] for ax in fig.axes]
    assert marked == [True, False, True, False]
