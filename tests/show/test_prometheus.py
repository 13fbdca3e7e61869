"""``GET /metrics``, as a parser of Prometheus reads it."""

import json
import re
import sys
from pathlib import Path

import pytest
import requests
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families as parse

import aiops_lab as lab
from aiops_lab.show import prometheus
from aiops_lab.show.api import aiops
from aiops_lab.show.prometheus import BUCKETS_S, metrics_page, metrics_page_or_hint
from tests.record.test_counting import put, span
from tests.support.serving import serving
from tests.test_monitor import at

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana_dashboard.json"


def series(text):
    samples = [s for family in parse(text) for s in family.samples]
    return {(s.name, *sorted(s.labels.items())): s.value for s in samples}


def client(monitor, seconds=172, **options):
    app = Flask("watch", static_folder=None)
    app.register_blueprint(metrics_page(monitor, lambda: at(seconds), **options))
    return app.test_client()


def scraped(monitor, **options):
    answer = client(monitor, **options).get("/metrics")
    assert answer.status_code == 200
    return series(answer.text)


def labels(endpoint, **others):
    given = {"service": "shop", "method": "", "endpoint": endpoint} | others
    return sorted(given.items())


def test_requests_errors_and_durations_are_those_of_the_store(broken):
    found = scraped(broken)
    spans = broken.store.spans()
    paid = spans[(spans["kind"] == "server") & (spans["endpoint"] == "/payment")]
    place = labels("/payment")
    assert found["aiops_requests_total", *place] == len(paid) > 100
    failed = int((paid["status"] == 500).sum())
    assert found["aiops_request_errors_total", *place] == failed > 10
    assert found["aiops_request_duration_seconds_count", *place] == len(paid)
    total_s = paid["duration_ms"].sum() / 1e3
    assert found["aiops_request_duration_seconds_sum", *place] == pytest.approx(total_s, abs=1e-3)
    for bound in BUCKETS_S:
        within = int((paid["duration_ms"] <= bound * 1e3).sum())
        bucket = labels("/payment", le=str(bound))
        assert found["aiops_request_duration_seconds_bucket", *bucket] == within


def test_health_baseline_incidents_and_the_time_of_judging_are_told(broken):
    found = scraped(broken)
    shown = broken.metrics(at(172))["/payment"]
    place = labels("/payment")
    health = shown["health"]["health_score"]
    assert found["aiops_endpoint_health_score", *place] == health < 100
    baseline_s = shown["baseline_latency_ms"] / 1e3
    assert found["aiops_baseline_latency_seconds", *place] == pytest.approx(baseline_s)
    assert found["aiops_open_requests", *place] == shown["open_requests"]
    (incident,) = broken.incidents()
    by_severity = {
        severity: found["aiops_open_incidents", ("severity", severity)]
        for severity in ("info", "low", "medium", "high", "critical")
    }
    assert by_severity == dict.fromkeys(by_severity, 0.0) | {incident.severity: 1.0}
    judged_until = broken.judged_until.timestamp()
    assert found["aiops_judged_until_timestamp_seconds",] == judged_until
    assert found["aiops_spans_dropped_total",] == 0
    assert found["aiops_spans_passed_over",] == 0


def test_before_the_first_step_nothing_was_judged_and_no_endpoint_is_there(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        found = scraped(lab.Monitor(store))
    assert ("aiops_judged_until_timestamp_seconds",) not in found
    assert not any(name.startswith("aiops_request") for name, *_ in found)


def test_a_restart_of_the_monitor_sets_no_count_back(tmp_path):
    totals = []
    for n in range(3):
        with lab.SpanStore(tmp_path / "s.sqlite") as store:
            put(store, span(2 * n), span(2 * n + 1))
            place = [("endpoint", "/a"), ("method", "GET"), ("service", "s")]
            totals.append(scraped(lab.Monitor(store))["aiops_requests_total", *place])
    assert totals == [2, 4, 6]


def test_names_with_quotes_backslashes_and_lines_come_out_as_they_went_in(tmp_path):
    odd = '/a"b\\c\nd} 1 <script>'
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        put(store, span(1, odd))
        names = {dict(rest).get("endpoint") for _, *rest in scraped(lab.Monitor(store))}
    assert names == {odd, None}


def test_endpoints_that_are_counted_together_have_no_health_of_their_own(broken):
    found = scraped(broken, most_endpoints=1)
    counted = {dict(rest)["endpoint"] for n, *rest in found if n == "aiops_requests_total"}
    healthy = {dict(rest)["endpoint"] for n, *rest in found if n == "aiops_endpoint_health_score"}
    assert len(counted) == 2
    assert healthy == counted - {"(other)"}


def test_over_http_openmetrics_is_given_to_those_who_ask_for_it(broken):
    app = Flask("watch", static_folder=None)
    app.register_blueprint(metrics_page(broken))
    with serving(app) as url:
        plain = requests.get(f"{url}/metrics", timeout=10)
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        newer = requests.get(f"{url}/metrics", headers=accept, timeout=10)
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert newer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert newer.text.endswith("# EOF\n")
    assert series(plain.text)


def test_an_application_has_its_own_metrics_path_unless_it_registers_this_one(broken):
    plain = Flask("plain", static_folder=None)
    plain.register_blueprint(aiops(broken))
    assert plain.test_client().get("/metrics").status_code == 404
    own = Flask("own", static_folder=None)
    own.add_url_rule("/metrics", "own", lambda: "mine")
    own.register_blueprint(metrics_page(broken), url_prefix="/lab")
    assert own.test_client().get("/metrics").text == "mine"
    assert "aiops_requests_total" in own.test_client().get("/lab/metrics").text


def test_a_closed_store_is_a_503(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        page = client(lab.Monitor(store))
    assert page.get("/metrics").status_code == 503


def test_a_store_that_cannot_be_read_is_a_503_until_it_is_made_anew(tmp_path):
    path = tmp_path / "s.sqlite"
    with lab.SpanStore(path, flush_s=60) as store:
        page = client(lab.Monitor(store))
        path.write_bytes(b"x" * 8192)
        assert page.get("/metrics").status_code == 503
        put(store, span(1))
        assert page.get("/metrics").status_code == 200
        assert store.remade == 1


def test_without_prometheus_client_the_answer_says_what_to_install(broken, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    app = Flask("watch", static_folder=None)
    app.register_blueprint(metrics_page_or_hint(broken))
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 501
    assert 'pip install -e ".[watch]"' in answer.json["error"]


def test_the_dashboard_asks_for_metrics_and_labels_that_exist(broken):
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {n for t in targets for n in re.findall(r"\baiops_\w+", t["expr"])}
    samples = list(scraped(broken))
    assert asked <= {name for name, *_ in samples}
    given = {label for _, *rest in samples for label, _ in rest}
    told = {n for t in targets for n in re.findall(r"{{(\w+)}}", t["legendFormat"])}
    grouped = {
        n
        for t in targets
        for by in re.findall(r"by \(([^)]*)\)", t["expr"])
        for n in by.split(", ")
    }
    assert told | grouped <= given
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) == 9


def test_each_metric_stands_in_the_documentation(broken):
    told = (DASHBOARD.parent / "operating.md").read_text("utf-8")
    families = parse(client(broken).get("/metrics").text)
    for family in families:
        name = family.name + "_total" * (family.type == "counter")
        assert f"`{name}`" in told


def test_endpoints_have_as_many_series_as_is_said(broken):
    of_payment = [s for s in scraped(broken) if ("endpoint", "/payment") in s]
    assert f"Each has {len(of_payment)} of them" in Path(prometheus.__file__).read_text("utf-8")
