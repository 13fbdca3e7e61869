"""How figures read on the page."""

from __future__ import annotations

import pandas as pd
import pytest

from aiops_lab.show.page.rendering import apart, milliseconds, moment, percent_text


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0.0 ms"),
        (3.14, "3.1 ms"),
        (99.94, "99.9 ms"),
        (100.0, "100 ms"),
        (9_999.0, "9,999 ms"),
        (10_000.0, "10.0 s"),
        (-120.0, "-120 ms"),
    ],
)
def test_durations_have_units(value, told):
    assert milliseconds(value) == told


@pytest.mark.parametrize(
    ("share", "told"),
    [(None, "–"), (0.0, "0%"), (0.004, "0.4%"), (0.099, "9.9%"), (0.1, "10%"), (1.0, "100%")],
)
def test_shares_are_percent(share, told):
    assert percent_text(share) == told


def test_times_are_utc_for_the_script_to_translate():
    time = pd.Timestamp("2026-01-01T12:00:00.5Z")
    told = '<time datetime="2026-01-01T12:00:00.500000Z">2026-01-01 12:00:00 UTC</time>'
    assert moment(time) == told
    assert moment(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (600, "10 min")]
)
def test_how_far_times_are_apart_is_told_in_seconds_or_minutes(seconds, told):
    begin = pd.Timestamp("2026-01-01T00:00:00Z")
    later = begin + pd.Timedelta(seconds, "s")
    assert apart(later.isoformat(), begin.isoformat()) == told
