"""A detector of a user's own: the example of CONTRIBUTING, and what holds learning still."""

from __future__ import annotations

import re
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.detectors import DETECTORS, Detector
from aiops_lab.detect.recording import Recording
from aiops_lab.pipeline import Pipeline
from aiops_lab.results import Anomaly
from tests.support.made import Shop, fault

ROOT = Path(__file__).parents[2]
BROKEN = Shop(1, fault("/payment", 60, 120, status=500)).run(120)
CALM = Shop(1).run(120)


def example() -> dict[str, object]:
    """Run the example of CONTRIBUTING.md; return its names."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    section = text[text.index("## A detector") :]
    (code, *_) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, object] = {"spans": BROKEN}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    return names


def test_the_example_reports_what_it_decides() -> None:
    half_failed = example()["half_failed"]
    report = lab.replay(BROKEN, detectors=(half_failed,), causes=False)
    assert {(a.type, a.endpoint) for a in report.anomalies} >= {("half_failed", "/payment")}
    first = report.anomalies[0]
    assert (
        first.description == f"Half failed: {first.evidence['error_rate']:.0%} of requests failed"
    )
    assert report.incidents[0].title.startswith("Half failed detected in ")


def test_the_example_reports_nothing_on_calm_traffic() -> None:
    assert lab.replay(CALM, detectors=(example()["half_failed"],), causes=False).anomalies == []


def slower_by_a_tenth(windows: pd.DataFrame, baselines: pd.DataFrame, s: lab.Sensitivity):
    return ~baselines["learning"] & (windows["ratio"] > 1.1)


SLIGHTLY: dict[str, Any] = {
    "title": "Slightly slow",
    "column": "slightly_slow",
    "decide": slower_by_a_tenth,
    "evidence": lambda row: {"ratio": row.ratio},
    "describe": lambda found: f"{found['ratio']:.1f}x",
}


def slow_after_a_minute() -> pd.DataFrame:
    frame = Shop(1).run(180)
    late = frame["start"] >= frame["start"].iloc[0] + pd.Timedelta("60s")
    longer = np.where(late & (frame["endpoint"] == "/payment"), 1.5, 1.0)
    return frame.assign(duration_ms=frame["duration_ms"] * longer)


def last_baseline(report: lab.Report) -> float:
    windows = report.windows
    return windows[windows["endpoint"] == "/payment"]["baseline_ms"].iloc[-1]


def test_a_detector_of_ones_own_holds_learning_still_and_a_function_does_not() -> None:
    frame = slow_after_a_minute()
    plain = lab.replay(frame, causes=False)
    own = Detector(name="slightly_slow", **SLIGHTLY)
    held = lab.replay(frame, detectors=(*DETECTORS, own), causes=False)

    def function(windows: pd.DataFrame, baselines: pd.DataFrame, s: lab.Sensitivity):
        bad = windows[slower_by_a_tenth(windows, baselines, s)]
        return [Anomaly("f", w.service, w.endpoint, w.window, w.end) for w in bad.itertuples()]

    told = lab.replay(frame, detectors=(*DETECTORS, function), causes=False)
    assert plain.windows["baseline_ms"].equals(told.windows["baseline_ms"])
    assert (
        last_baseline(held)
        < 1.05 * held.windows.query("endpoint == '/payment'")["baseline_ms"].median()
    )
    assert last_baseline(plain) > 1.2 * last_baseline(held)
    assert {a.type for a in held.anomalies} >= {"slightly_slow"}


def test_the_packages_own_detectors_hold_learning_still_even_where_another_reports() -> None:
    alone = lab.replay(BROKEN, detectors=(), causes=False)
    whole = lab.replay(BROKEN, causes=False)
    assert alone.anomalies == []
    pd.testing.assert_frame_equal(alone.windows, whole.windows)


def test_a_decision_in_steps_equals_a_decision_at_once(tmp_path: Path) -> None:
    """A live monitor decides window by window, a replay all windows at once."""
    own = Detector(name="slightly_slow", **SLIGHTLY)
    frame = slow_after_a_minute()
    whole = lab.replay(frame, detectors=(*DETECTORS, own), causes=False)
    end = frame["start"].max() + pd.Timedelta("20s")
    cut = frame["start"].iloc[0] + pd.Timedelta("95s")
    pipeline = Pipeline(lab.Sensitivity(), (*DETECTORS, own))
    recording = Recording(frame, {})
    parts = [pipeline.advance(recording, t.value // 10**10 * 10**10)[0] for t in (cut, end)]
    pd.testing.assert_frame_equal(
        pd.concat(parts, ignore_index=True).iloc[: len(whole.windows)], whole.windows
    )


def test_evidence_that_asks_for_what_is_not_there_is_told_so():
    start = pd.Timestamp("2026-01-01", tz="UTC")
    place = {"window": start, "end": start, "service": "shop", "endpoint": "/payment"}
    lasted = pd.Timedelta("3s")
    windows = pd.DataFrame([{**place, "n": 3, "odd": False}, {**place, "n": 4, "odd": True}])
    windows["lasted"] = lasted
    baselines = pd.DataFrame({"rate": [1.0, 2.0]})

    def found(evidence):
        odd = Detector("odd", "Odd", "odd", lambda *_: None, evidence, str)
        return [anomaly.evidence for anomaly in odd(windows, baselines, lab.Sensitivity())]

    assert found(lambda row: {"n": row.n, "usual": row.baseline.rate}) == [{"n": 4, "usual": 2.0}]
    assert found(lambda row: {"n": copy(row).n}) == [{"n": 4}]
    assert found(lambda row: {"lasted": row.lasted})[0]["lasted"].value == lasted.value
    with pytest.raises(AttributeError, match="a window has no column 'm'"):
        found(lambda row: {"m": row.m})
