"""What lesson 05 works with gives what can be said without it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd

from shop.course import seasons
from shop.virtual_time.scenario import BEGIN

DAY = seasons.A_DAY
WINDOWS = np.arange(seasons.DAYS * DAY)


def test_a_request_of_an_hour_takes_as_long_as_that_hour_says() -> None:
    spans = seasons.hourly([50, 100], an_hour=2)
    assert spans["duration_ms"].tolist() == [50, 50, 100, 100]
    assert spans["start"].diff().dt.total_seconds().tolist()[1:] == [1800, 1800, 1800]


def test_six_faults_of_two_hours_are_in_the_fifth_week() -> None:
    broken = seasons.is_broken()
    assert broken.sum() == 6 * 8
    assert WINDOWS[broken].min() >= 28 * DAY
    assert seasons.is_disturbed().sum() == 6 * (8 + 4)


def test_without_a_penalty_a_ridge_regression_finds_the_line() -> None:
    x = np.arange(10.0).reshape(-1, 1)
    y = 3 * x[:, 0] + 1
    fit = np.arange(10) < 5
    assert np.allclose(seasons.ridge(x, y, fit, penalty=0), y)
    assert np.ptp(seasons.ridge(x, y, fit, penalty=100)) < np.ptp(y) / 2


def test_residuals_are_divided_by_the_scatter_of_their_hour() -> None:
    scatter = np.where(WINDOWS % DAY < 4, 10.0, 1.0)  # the first hour of each day
    residual = scatter * np.where(WINDOWS % 2, 1, -1)
    z = seasons.standardised(residual, WINDOWS < 21 * DAY)
    assert np.allclose(abs(z), 1)


def test_alarms_outside_faults_are_false_but_for_the_hour_in_which_the_queue_empties() -> None:
    z = np.zeros(len(WINDOWS))
    first = seasons.SLOWDOWNS[0].windows
    z[[first.start, first.stop + 3, first.stop + 4, first.stop + 5]] = 9
    judged = WINDOWS >= 28 * DAY
    told = seasons.alarms_by_fault(z, 5, judged)
    assert (told[seasons.SLOWDOWNS[0].name], told["found"], told["false"]) == (1, 1, 1)
    assert seasons.alarms_by_fault(z, 9, judged)["found"] == 0


def test_the_first_alarm_is_the_one_that_ended_first() -> None:
    ends = [BEGIN + pd.Timedelta(s, "s") for s in (180, 120)]
    report = SimpleNamespace(anomalies=[SimpleNamespace(end=end) for end in ends])
    assert seasons.minutes_to_alarm(report, 60) == 1  # type: ignore[arg-type]
    none = SimpleNamespace(anomalies=[])
    assert math.isnan(seasons.minutes_to_alarm(none, 60))  # type: ignore[arg-type]
