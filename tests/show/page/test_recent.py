"""The figures of the overview: read seldom, worst first, and marked where they are old."""

from __future__ import annotations

import pandas as pd
import pytest

from aiops_lab.show.page import recent
from aiops_lab.show.page.recent import RecentFigures
from tests.test_monitor import at


def test_endpoints_come_worst_first_with_a_chart_each(broken):
    found = RecentFigures(broken, lambda: at(220)).read()
    names = [(each.band, each.name) for each in found.endpoints]
    assert names == [
        ("degraded", "/checkout"),
        ("degraded", "/payment"),
        ("healthy", "/health"),
        ("healthy", "/inventory"),
    ]
    assert found.endpoint("/payment").chart.failed
    each_second = sum(each.per_minute for each in found.endpoints) / 60
    assert each_second == pytest.approx(15, abs=2)  # ten requests, some of which make two more
    assert not found.endpoint("/health").chart.failed
    with pytest.raises(KeyError):
        found.endpoint("/nowhere")


def test_the_timeline_agrees_with_the_metrics(broken):
    timelines, metrics = broken.timeline(at(172)), broken.metrics(at(172))
    assert timelines.keys() == metrics.keys()
    for name, rows in timelines.items():
        known = metrics[name]
        assert rows["requests"].sum() == known["request_count"]
        mean = (rows["requests"] * rows["mean_ms"]).sum() / rows["requests"].sum()
        assert mean == pytest.approx(known["avg_latency_ms"])
        failed = (rows["requests"] * rows["failed"]).sum() / rows["requests"].sum()
        assert failed == pytest.approx(known["error_rate"])
        assert set(rows.index.second) <= {0, 10, 20, 30, 40, 50}


def test_many_readers_read_the_store_once(broken, monkeypatch):
    asked = []
    figures = RecentFigures(broken, lambda: asked.append(1) or at(172))
    assert figures.read() is figures.read()
    assert len(asked) == 1
    monkeypatch.setattr(recent, "KEEP_S", 0.0)
    figures.read()
    assert len(asked) == 2


def test_what_cannot_be_read_is_shown_as_it_was_with_the_problem(broken, monkeypatch):
    monkeypatch.setattr(recent, "KEEP_S", 0.0)
    figures = RecentFigures(broken, lambda: at(172))
    before = figures.read()

    def fail(now: pd.Timestamp) -> None:
        raise OSError("s.sqlite must be a span store, got: database or disk is full")

    monkeypatch.setattr(broken, "metrics", fail)
    after = figures.read()
    assert after.problem.startswith("the disk of the store is full")
    assert after.endpoints == before.endpoints
    first = RecentFigures(broken, lambda: at(172)).read()
    assert (first.problem, first.endpoints) == (after.problem, [])
