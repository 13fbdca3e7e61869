"""The status of an endpoint is of now, and never contradicts the open incidents."""

from __future__ import annotations

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.incidents import Incident, last_anomalies
from aiops_lab.health import latency_forecast, status_now
from aiops_lab.results import Anomaly, Suspect, Verdict
from tests.support.incidents import offered
from tests.support.made import Shop, fault
from tests.test_monitor import at, fill


@pytest.mark.parametrize(
    ("band", "lately", "quiet_s", "status"),
    [
        # no incident is open there
        ("healthy", "healthy", None, "healthy"),
        ("degraded", "healthy", None, "recovering"),
        ("unhealthy", "healthy", None, "recovering"),
        ("unhealthy", "unhealthy", None, "unhealthy"),
        ("healthy", "unhealthy", None, "healthy"),
        ("degraded", None, None, "degraded"),
        ("learning", "learning", None, "learning"),
        # one is, and was seen in the last minute
        ("healthy", "healthy", 59.9, "degraded"),
        ("degraded", "healthy", 0.0, "degraded"),
        ("unhealthy", "unhealthy", -5.0, "unhealthy"),
        ("learning", "learning", 0.0, "degraded"),
        # one is, and was not
        ("healthy", "healthy", 60.0, "recovering"),
        ("unhealthy", "healthy", 60.0, "recovering"),
        ("healthy", "degraded", 60.0, "degraded"),
        ("healthy", None, 60.0, "degraded"),
        ("unhealthy", "degraded", 60.0, "unhealthy"),
    ],
)
def test_the_rule_of_the_status(band, lately, quiet_s, status):
    assert status_now(band, lately, quiet_s) == status


@pytest.fixture
def monitor(tmp_path):
    """One second in five, /payment fails in a fifth of its requests."""
    broken = fault("/payment", 240, 300, status=500, rate=0.25)
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(3, broken).run(460, rate=20))
        yield lab.Monitor(store)


def test_pills_follow_the_incident_from_its_beginning_to_its_end(monitor):
    def pills(second):
        metrics = monitor.metrics(at(second))
        return [metrics[name]["health"]["status"] for name in ("/payment", "/health")]

    monitor.step(at(240))
    assert pills(240) == ["healthy", "healthy"]
    monitor.step(at(262))
    (incident,) = monitor.incidents("active")
    assert incident.root_cause.endpoint == "/payment"
    shown = monitor.metrics(at(262))["/payment"]["health"]
    assert (shown["health_score"] > 90, shown["status"]) == (True, "degraded")
    monitor.step(at(390))
    last = monitor.incident(incident.id).last_anomaly
    assert monitor.incident(incident.id).status == "active"
    assert last < at(330)
    assert pills(391) == ["recovering", "healthy"]
    monitor.resolve(incident.id, at(391))
    assert pills(455)[0] in ("recovering", "healthy")


def test_an_incident_concerns_where_it_was_seen_its_cause_and_what_that_made_worse():
    rows = tuple(
        {"service": "shop", "route": route, "endpoint": f"shop {route}"}
        for route in ("/checkout", "/inventory")
    )
    verdict = Verdict((Suspect("pay", "/payment", 1.0),), ("shop /checkout",), endpoints=rows)
    incident = Incident("INC-1-1", at(10), at(0), at(90), verdict=verdict)
    incident.anomalies.append(Anomaly("timeout", "shop", "/orders", at(0), at(10)))
    incident.seen.append(at(30))
    seen = {
        ("shop", "/orders"): at(30),
        ("pay", "/payment"): at(90),
        ("shop", "/checkout"): at(90),
    }
    assert last_anomalies([incident]) == seen
    later = Incident("INC-2-1", at(95), at(90), at(100), verdict=Verdict(verdict.suspects))
    later.anomalies.append(Anomaly("timeout", "shop", "/orders", at(90), at(100)))
    later.seen.append(at(100))
    assert last_anomalies([later, incident])["pay", "/payment"] == at(100)
    incident.status = "resolved"
    assert last_anomalies([incident]) == {}
    assert last_anomalies([offered()]) == {}
    assert last_anomalies([offered("medium")]) != {}


def test_without_an_answer_in_the_last_minute_nothing_recovers(monitor):
    monitor.step(at(262))
    now = at(262) + pd.Timedelta("270s")
    assert monitor.metrics(now)["/payment"]["health"]["status"] == "degraded"


def leak(endpoint, second):
    return max(0.0, 0.1 * (second - 120)) if endpoint == "/payment" else 0.0, 200


def test_a_latency_that_rises_steadily_has_a_forecast_and_others_have_none(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(3, leak).run(400, rate=20))
        monitor = lab.Monitor(store)
        monitor.step(at(400))
        metrics = monitor.metrics(at(400))
        assert metrics["/health"]["forecast"] is metrics["/inventory"]["forecast"] is None
        found = metrics["/payment"]["forecast"]
        assert found["threshold_ms"] == pytest.approx(
            3 * metrics["/payment"]["baseline_latency_ms"]
        )
        true_s = 120 + (found["threshold_ms"] - 46) / 0.1
        assert pd.Timestamp(found["earliest"]) < at(true_s) < pd.Timestamp(found["latest"])
        assert abs(pd.Timestamp(found["crosses_at"]) - at(true_s)) < pd.Timedelta("150s")
        assert found["per_minute_ms"] == pytest.approx(6, rel=0.2)
        (incident,) = monitor.incidents()
        assert monitor.forecasts(incident, at(405))["/payment"] == found
        assert monitor.forecasts(incident, at(900)) == {}  # of late it has answered nothing


def test_an_endpoint_whose_baseline_is_learned_has_no_forecast():
    assert latency_forecast(pd.DataFrame(), None, 3.0) is None
