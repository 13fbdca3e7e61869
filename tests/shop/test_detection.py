"""Detectors compared: counts by hand, detectors of the user, the command."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

import shop
from aiops_lab.record.faults import Fault
from shop.__main__ import main
from shop.experiments import detection, report
from shop.experiments.detection import (
    PACKAGE_DETECTORS,
    DetectionResult,
    detection_results,
    detection_table,
    found_by_scenario,
    read_detectors,
)
from shop.experiments.leaderboard import play
from shop.shops import PAYMENT
from shop.virtual_time.scenario import Scenario
from shop.virtual_time.twins import Twin

NAN = math.nan
BROKEN = Scenario(
    "broken", (PAYMENT,), (Fault("error", *PAYMENT, start_s=60.0, end_s=80.0),), seconds=90.0
)
CALM = Scenario("calm", seconds=90.0)

MINE = """
from aiops_lab.detect.detectors import Detector
from aiops_lab.results import Anomaly

def failing(windows, baselines, sensitivity):
    bad = windows[windows["error_rate"] > 0.5]
    return [Anomaly("failing", w.service, w.endpoint, w.window, w.end) for w in bad.itertuples()]

half_failed = Detector(
    name="half_failed",
    title="Half failed",
    column="half_failed",
    decide=lambda windows, baselines, sensitivity: windows["error_rate"] > 0.5,
    evidence=lambda row: {"error_rate": row.error_rate},
    describe=lambda evidence: "half failed",
)

def broken(windows, baselines, sensitivity):
    return windows["no such column"]

def wrong(windows, baselines, sensitivity):
    return [3]

text = "no function"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE, "utf-8")
    return path


@cache
def pair(name: str) -> Twin:
    return shop.twin({"broken": BROKEN, "calm": CALM}[name], 1, progress=False)


def results(scenario: Scenario, *specs: str) -> dict[str, DetectionResult]:
    found = detection_results(scenario, 1, pair(scenario.name), specs)
    return {result.detector: result for result in found}


def test_detectors_of_the_user_stand_beside_those_of_the_package_and_baselines(file: Path) -> None:
    found = results(BROKEN, f"{file}:failing", f"{file}:half_failed")
    for name in ("failing", "half_failed", "package and failing", PACKAGE_DETECTORS, "error_spike"):
        assert (found[name].faults, found[name].found) == (1, 1)
        assert (found[name].detect_s, found[name].false_incidents) == (10.0, 0)
        assert found[name].delay_min == pytest.approx(10 / 60)
    for name in ("latency_anomaly", "never"):
        assert found[name][3:8] == pytest.approx((1, 0, NAN, 10.0, 0), nan_ok=True)
    assert found["always"].false_incidents + found["always"].found > 0


def test_without_a_fault_every_incident_is_a_false_one(file: Path) -> None:
    found = results(CALM, f"{file}:failing")
    assert found["always"].false_incidents > 0
    for name in ("failing", PACKAGE_DETECTORS, "never"):
        assert (found[name].faults, found[name].false_incidents) == (0, 0)
        assert found[name].delay_min == 0


def test_the_random_baseline_draws_the_same_share_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start = pd.Timestamp("2026-01-01", tz="UTC")
    windows = pd.DataFrame({"window": [start + pd.Timedelta(k, "s") for k in range(4000)]})
    windows = windows.assign(end=windows["window"], service="shop", endpoint="/a")
    told = [
        len(detection.random_detector(some, windows, report.SCENARIOS))
        for some in [windows, windows]
    ]
    assert told[0] == told[1]
    assert 20 < told[0] < 70
    monkeypatch.setattr(detection, "RANDOM_SHARE", 0.0)
    assert detection.random_detector(windows, windows, report.SCENARIOS) == []


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"detector broken must not raise, got KeyError: .*\(mine.py, line 19\)"),
        ("wrong", r"detector wrong must return a list of Anomaly, got \[3\]"),
    ],
)
def test_a_detector_that_breaks_the_rules_is_named(name: str, message: str, file: Path) -> None:
    with pytest.raises(ValueError, match=message):
        results(CALM, f"{file}:{name}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine", "detector must be file.py:function or module:function, got 'mine'"),
        ("{file}:other", "detector must name a function of .*mine.py, got"),
        ("{file}:text", "detector must name a function of .*mine.py, got"),
        ("no_file.py:mine", r"detector must be importable \(FileNotFoundError: "),
    ],
)
def test_a_detector_that_cannot_be_had_is_refused(spec: str, message: str, file: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_detectors([spec.format(file=file)])


def test_a_detector_of_the_same_name_is_named_by_its_whole_spec() -> None:
    spec = "aiops_lab.detect.detectors:timeout"
    assert list(read_detectors([spec]))[:2] == [spec, f"package and {spec}"]


# ---- tables


def result(scenario: str, detector: str, faults: int, found: int, **more) -> DetectionResult:
    made = DetectionResult(scenario, 1, detector, faults, found, NAN, 0.0, 0, 0.5)
    return made._replace(**more)


ROWS = pd.DataFrame(
    [
        ("faults", *result("delay", "good", 1, 1, detect_s=10.0, delay_min=0.5)),
        ("faults", *result("delay", "good", 1, 1, detect_s=30.0, delay_min=0.5)),
        ("no fault", *result("calm", "good", 0, 0)),
        ("by size", *result("weak", "good", 2, 1, delay_min=1.0, detect_s=99.0)),
        ("faults", *result("delay", "poor", 1, 0, delay_min=10.0)),
        ("faults", *result("delay", "poor", 1, 1, detect_s=20.0, false_incidents=1)),
        ("no fault", *result("calm", "poor", 0, 0, false_incidents=2)),
        ("by size", *result("weak", "poor", 2, 0, delay_min=20.0)),
    ],
    columns=["group", *DetectionResult._fields],
)


def test_shares_delays_and_costs_are_counted_by_detector_and_the_cheapest_comes_first() -> None:
    table = detection_table(ROWS)
    assert list(table.index) == ["good", "poor"]
    good, poor = table.loc["good"], table.loc["poor"]
    assert good[["found", "weak", "median_s", "worst_s"]].tolist() == [1, 0.5, 20, 30]
    assert poor[["found", "weak", "median_s", "worst_s"]].tolist() == [0.5, 0, 20, 20]
    assert poor[["found_low", "found_high"]].tolist() == pytest.approx([0.0945, 0.9055], abs=1e-3)
    assert (good["false_runs"], poor["false_runs"]) == (0, 1)
    assert (good["false_per_hour"], poor["false_per_hour"]) == (0, 1.5)
    assert good["cost"] == pytest.approx(3 * 2.0 / 4)
    assert poor["cost"] == pytest.approx((3 * 30 + 10 * 3) / 4)


def test_by_scenario_a_calm_run_is_right_without_an_incident() -> None:
    table = found_by_scenario(ROWS)
    assert table.index.tolist() == [("faults", "delay"), ("by size", "weak"), ("no fault", "calm")]
    assert table["good"].tolist() == [1, 0.5, 1]
    assert table["poor"].tolist() == [0.5, 0, 0]


def test_a_scenario_by_size_without_a_fault_stands_with_those_without_one() -> None:
    deployed = ("by size", *result("deployment", "good", 0, 0, false_incidents=1))
    rows = pd.DataFrame([deployed], columns=ROWS.columns)
    table = found_by_scenario(pd.concat([rows, ROWS], ignore_index=True))
    assert table.index[2:].tolist() == [("no fault", "deployment"), ("no fault", "calm")]
    assert table["good"].tolist() == [1, 0.5, 0, 1]


def test_a_run_with_a_detector_fills_the_board_and_without_one_it_is_empty(file: Path) -> None:
    scenarios = {"calm": CALM}
    asked = {"pipeline": False, "sizes": False, "jobs": 1, "progress": False}
    board = play(scenarios, (1,), {}, detectors=[f"{file}:failing"], **asked)
    assert board.detection["detector"].tolist()[:2] == ["failing", "package and failing"]
    assert set(board.detection["group"]) == {"no fault"}
    assert play(scenarios, (1,), {}, **asked).detection.empty


# ---- the command


@pytest.fixture
def run(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Return the command with a detector of the file; it writes into the folder ``out``."""
    monkeypatch.setattr(report, "find_scenario", {"broken": BROKEN}.__getitem__)
    words = ["--scenario", "broken", "--seeds", "1", "--jobs", "1", "--no-pipeline"]
    out = ["--out", str(tmp_path / "out")]
    return lambda name: main(["leaderboard", *words, *out, "--detector", f"{file}:{name}"])


def test_the_command_prints_a_table_of_detectors_and_saves_their_runs(
    run: Callable[[str], int], file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("failing") == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["failing", "100", "(21-100)", "10", "10", "0.0", "0.5"] in told
    assert ["never", "0", "(0-79)", "0.0", "30.0"] in told
    saved = pd.read_csv(tmp_path / "out" / "detection.csv")
    assert len(saved) == len(read_detectors([f"{file}:failing"]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "shop leaderboard: --detector broken must not raise, got KeyError: "),
        ("nothing", "shop leaderboard: --detector must name a function of "),
    ],
)
def test_the_command_names_the_argument_as_typed(
    run: Callable[[str], int],
    name: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(name) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not (tmp_path / "out").exists()
