"""Tables of metrics that are made from spans, and rules compared on them."""

from __future__ import annotations

import pytest

from shop.course import drawing, metrics


def test_an_interval_holds_mean_requests_and_availability() -> None:
    rows: list[drawing.DrawnSpan] = [("a", None, "server", "/a", 0, 40)]
    rows += [("b", None, "server", "/a", 500, 560)]
    rows += [("c", None, "server", "/a", 1000, 1030), ("d", "c", "client", "/b", 1005, 1020)]
    table = metrics.per_interval(drawing.drawn_spans(rows), every_s=1)
    assert table.index.tolist() == [metrics.SECOND_0, metrics.SECOND_0 + 1]
    assert table["/a", "latency", "Average"].round(6).tolist() == [0.05, 0.03]
    assert table["/a", "requests", "Sum"].tolist() == [2, 1]
    assert table["/a", "availability", "Average"].tolist() == [100, 100]
    assert "/b" not in table.columns.get_level_values(0)  # a call is no request


@pytest.mark.parametrize(
    ("name", "metric", "cause"),
    [("delay", "latency", "/payment"), ("flaky", "availability", "/inventory")],
)
def test_an_incident_rings_by_what_its_fault_changes(name: str, metric: str, cause: str) -> None:
    case = metrics.incident(name, "/checkout")
    assert (case.target["metric"], case.truth) == (metric, cause)
    assert case.normal.index.max() < metrics.SECOND_0 + 39 == case.abnormal.index.min()
    assert ("/checkout", "/payment") in case.calls


def test_right_answers_are_counted_with_what_they_prove() -> None:
    cases = [metrics.incident(name, "/checkout") for name in ("delay", "jitter")]
    rules = {"right": lambda case: case.truth, "wrong": lambda case: "/health"}
    scores = metrics.proven_shares(metrics.named_causes(cases, rules))
    assert scores["right"].to_dict() == {"right": 2, "wrong": 0}
    assert scores.loc["right", "from"] == pytest.approx(2 / (2 + 1.96**2))
