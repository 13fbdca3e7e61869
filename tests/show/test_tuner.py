"""The sliders replay the recording; what they show stays the same until somebody moves one."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import pytest

from aiops_lab.detect.detectors import error_spike, latency_anomaly
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.evaluate.scoring import score
from aiops_lab.replaying import replay
from aiops_lab.show import tuner as module
from tests.support.made import BEGIN, Shop, fault

FRAME = Shop(3, fault("/payment", 200, 240, added_ms=150)).run(300)  # about four times slower
START = pd.Timestamp(BEGIN + 200 * 10**9, tz="UTC")
FAULTS = pd.DataFrame(
    [
        {
            "kind": "delay",
            "service": "shop",
            "endpoint": "/payment",
            "start": START,
            "end": START + pd.Timedelta("40s"),
        }
    ]
)
ONLY = (latency_anomaly,)


@pytest.fixture
def made():
    return module.tuner(FRAME, FAULTS, detectors=ONLY)


def test_the_figures_are_the_score_of_a_replay_at_the_knobs(made) -> None:
    found = score(replay(FRAME, Sensitivity(), detectors=ONLY), FAULTS)
    assert (found.recall, found.precision) == (1.0, 1.0)
    assert made.figures == {
        "anomalies": str(len(replay(FRAME, Sensitivity(), detectors=ONLY).anomalies)),
        "incidents": "1",
        "precision": "100%",
        "recall": "100%",
        "delay": f"{found.median_detect_s:.1f} s",
        "false an hour": "0.0",
    }


def test_moving_a_slider_changes_picture_and_figures(made) -> None:
    picture, label = bytes(made.image.value), made.label.value
    made.sliders["ratio"].value = 9.0
    assert made.figures["recall"] == "0%"
    assert made.figures["delay"] == made.figures["precision"] == "none"
    assert picture.startswith(b"\x89PNG")
    assert bytes(made.image.value) != picture
    assert made.label.value != label
    assert all(f"{name:14}{value:>7}" in made.label.value for name, value in made.figures.items())
    made.sliders["ratio"].value = 3.0
    assert bytes(made.image.value) == picture


def test_while_it_replays_it_says_so(made, monkeypatch: pytest.MonkeyPatch) -> None:
    there = module._Bench.replay
    told: list[str] = []
    monkeypatch.setattr(
        module._Bench, "replay", lambda bench, s: (told.append(made.work.value), there(bench, s))[1]
    )
    made.sliders["z"].value = 4.0
    assert told == [module.WORKING]
    assert made.work.value == module.READY


def test_sliders_that_are_kept_stand_as_they_were_left() -> None:
    def again(keep: str, **start: float) -> float:
        return module.tuner(FRAME, FAULTS, detectors=ONLY, keep=keep, **start).sliders["z"].value

    moved = module.tuner(FRAME, FAULTS, detectors=ONLY, keep="a lesson")
    moved.sliders["z"].value = 7.0
    assert [again("a lesson"), again("another"), again(""), again("a lesson", z=2.0)] == [
        7,
        3,
        3,
        2,
    ]


@pytest.mark.parametrize("knob", module.SLIDERS)
def test_each_slider_governs_its_own_knob(knob: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sensitivity] = []
    there = module._Bench.replay
    monkeypatch.setattr(
        module._Bench, "replay", lambda bench, s: (asked.append(s), there(bench, s))[1]
    )
    made = module.tuner(FRAME, FAULTS, z=2.0, correlation_s=60.0)
    made.sliders[knob].value += 1
    moved = {**vars(asked[0]), knob: vars(asked[0])[knob] + 1}
    assert asked == [Sensitivity(z=2.0, correlation_s=60.0), Sensitivity(**moved)]


def test_a_slider_that_is_not_moved_replays_nothing(made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._Bench, "replay", None)
    made.sliders["ratio"].value = made.sliders["ratio"].value


def test_slider_picture_and_figures_are_one_widget(made) -> None:
    *sliders, work, below = made.children
    assert work is made.work
    assert sliders == list(made.sliders.values())
    assert below.children == (made.image, made.label)


def test_the_picture_follows_the_mouse(made) -> None:
    assert all(slider.continuous_update for slider in made.sliders.values())


def test_the_repr_names_the_knobs_and_nothing_that_changes_by_itself(made) -> None:
    first, rest = "z=3, ratio=3, half_life_s=300, window_s=10", "shift=1.2, run_length_weeks=100"
    assert repr(made) == f"Tuner({first}, min_count=20, {rest})"


def test_a_start_beyond_a_slider_is_kept() -> None:
    assert module.tuner(FRAME, half_life_s=7200.0).sliders["half_life_s"].value == 7200.0


def test_a_start_that_is_no_sensitivity_is_refused() -> None:
    with pytest.raises(ValueError, match="ratio must be"):
        module.tuner(FRAME, ratio=0.0)


def test_faults_without_a_service_are_refused() -> None:
    with pytest.raises(ValueError, match="faults must have the column 'service'"):
        module.tuner(FRAME, FAULTS.drop(columns="service"))


def title(fig) -> str:
    return fig.axes[0].get_title(loc="left")


def test_the_endpoint_of_the_fault_is_shown_while_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = []
    monkeypatch.setattr(module, "timeline", lambda *given, **_: shown.append(given[3]))
    module.tuner(FRAME, FAULTS, detectors=(error_spike,))
    module.tuner(FRAME, FAULTS, endpoint="/health")
    module.tuner(FRAME, detectors=ONLY)
    module.tuner(FRAME, detectors=(error_spike,))
    assert shown == [
        "/payment",
        "/health",
        replay(FRAME, detectors=ONLY).anomalies[0].endpoint,
        None,
    ]


def test_without_the_truth_there_is_no_score() -> None:
    assert list(module.tuner(FRAME, detectors=ONLY).figures) == ["anomalies", "incidents"]


def test_slack_decides_whether_a_late_anomaly_is_a_false_one() -> None:
    early = FAULTS.assign(start=START - pd.Timedelta("30s"), end=START - pd.Timedelta("10s"))
    assert module.tuner(FRAME, early, detectors=ONLY).figures["false an hour"] == "0.0"
    assert module.tuner(FRAME, early, detectors=ONLY, slack_s=0).figures["false an hour"] == "12.0"


def test_without_ipywidgets_the_tuner_is_text(made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "widgets", None)
    assert repr(module.tuner(FRAME, FAULTS, detectors=ONLY)) == module._lines(made.figures)


def test_the_grid_shows_every_pair_of_knobs() -> None:
    fig = module.grid(FRAME, FAULTS, z=(2, 200), ratio=(2, 9), detectors=ONLY)
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles == [
        "z 2, ratio 2",
        "z 2, ratio 9",
        "z 200, ratio 2",
        "z 200, ratio 9",
    ]
    below = [ax.texts[0].get_text() for ax in fig.axes]
    assert ["recall 100%; false an hour 0.0" in text for text in below] == [
        True,
        False,
        False,
        False,
    ]
    marked = ["latency anomaly" in [line.get_label() for line in ax.lines] for ax in fig.axes]
    assert marked == [True, False, False, False]


def test_the_grid_takes_other_knobs_too() -> None:
    fig = module.grid(FRAME, FAULTS, z=(3,), ratio=(3,), detectors=ONLY, min_count=100_000)
    assert "anomalies 0; recall 0%" in fig.axes[0].texts[0].get_text()
