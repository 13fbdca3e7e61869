"""The /aiops interface, over real HTTP against the store of a recording."""

import contextlib
import io
import json
import math
import sqlite3
import threading
from datetime import datetime

import pandas as pd
import pytest
import requests
from cheroot import wsgi
from flask import Flask
from werkzeug.test import create_environ, run_wsgi_app

import aiops_lab as lab
from aiops_lab import watched_spans
from aiops_lab.record import database
from aiops_lab.show.api import aiops, json_errors
from aiops_lab.show.body import BODY_MAX
from aiops_lab.show.given import OF_FORMS, parameters
from tests.support.made import Shop, fault
from tests.test_monitor import at, fill


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with lab.SpanStore(tmp_path_factory.mktemp("store") / "s.sqlite") as store:
        fill(store, Shop(1, fault("/payment", 120, 180, status=500)).run(220))
        app = Flask(__name__, static_folder=None)
        json_errors(app)
        app.register_blueprint(aiops(lab.Monitor(store), now=lambda: at(172)))
        server = wsgi.Server(("127.0.0.1", 0), app, numthreads=4, timeout=5)
        server.prepare()
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.bind_addr[1]}"
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def incident(url):
    answer = requests.post(f"{url}/aiops/analyze", timeout=10)
    assert answer.status_code == 200
    shown = answer.json()
    assert shown["incident_count"] == len(shown["active_incidents"]) == 1
    assert shown["changed"] == [shown["active_incidents"][0]["id"]]
    return shown["active_incidents"][0]


# The seed's two sample responses, as types: what a client that was written against the seed may
# rely on.
METRICS = {
    "timestamp": int,
    "metrics": {
        "/payment": {
            "request_count": int,
            "avg_latency_ms": float,
            "error_rate": float,
            "baseline_latency_ms": float,
            "status_distribution": {"200": int, "500": int},
            "health": {"health_score": float, "status": str},
        }
    },
}
INCIDENTS = {
    "incident_count": int,
    "active_incidents": [
        {
            "id": str,
            "severity": str,
            "status": str,
            "title": str,
            "root_cause": {"endpoint": str, "confidence": float, "description": str},
            "affected_endpoints": [str],
            "anomalies": [{"type": str, "endpoint": str, "severity": str}],
            "trace_correlation": {
                "total_traces": int,
                "sample_traces": [
                    {
                        "trace_id": str,
                        "root_endpoint": str,
                        "root_status": int,
                        "affected_chain": [str],
                    }
                ],
            },
            "first_detected": str,
        }
    ],
}


def matches(shown, sample):
    if isinstance(sample, dict):
        return all(key in shown and matches(shown[key], part) for key, part in sample.items())
    if isinstance(sample, list):
        return bool(shown) and all(matches(item, sample[0]) for item in shown)
    return isinstance(shown, sample) and (sample is not float or math.isfinite(shown))


def test_metrics_have_the_shape_of_the_seeds_sample(url, incident):
    shown = requests.get(f"{url}/aiops/metrics", timeout=10).json()
    assert matches(shown, METRICS)
    assert not matches(shown, {"metrics": {"/payment": {"request_count": str}}})
    assert shown["timestamp"] == int(at(172).timestamp())
    assert 0 < shown["metrics"]["/payment"]["error_rate"] < 1
    assert 30 < shown["metrics"]["/payment"]["baseline_latency_ms"] < 60


def test_incidents_have_the_shape_of_the_seeds_sample(url, incident):
    shown = requests.get(f"{url}/aiops/incidents", timeout=10).json()
    assert matches(shown, INCIDENTS)
    assert incident["id"] == f"INC-{int(at(130).timestamp())}-1"
    assert incident["severity"] == "critical"
    assert incident["status"] == "active"
    assert incident["title"] == "Error spike detected in /payment"
    assert incident["root_cause"]["endpoint"] == "/payment"
    assert 0.95 < incident["root_cause"]["confidence"] <= 1
    assert incident["affected_endpoints"] == ["/payment", "/checkout"]
    moment = datetime.fromisoformat(incident["first_detected"])
    assert incident["first_detected"].endswith("Z")
    assert pd.Timestamp(moment) == at(130)


def test_an_error_spike_carries_sample_messages(incident):
    spikes = {a["endpoint"]: a for a in incident["anomalies"] if a["type"] == "error_spike"}
    assert spikes["/payment"]["sample_errors"] == ["RuntimeError: payment provider says no"]
    assert spikes["/checkout"]["sample_errors"] == ["HTTP 502"]
    assert spikes["/payment"]["error_rate"] == 1.0
    assert spikes["/payment"]["baseline_error_rate"] == 0.0


def test_one_incident_by_its_id(url, incident):
    shown = requests.get(f"{url}/aiops/incidents/{incident['id']}", timeout=10)
    assert shown.status_code == 200
    assert shown.json()["id"] == incident["id"]


def test_an_explanation_and_why_not(url, incident):
    at_id = f"{url}/aiops/incidents/{incident['id']}/explain"
    shown = requests.get(at_id, params={"why_not": "/inventory"}, timeout=10).json()
    assert [step["title"][0] for step in shown["steps"]] == ["1", "2", "3", "4"]
    assert shown["steps"][2]["rows"]
    assert "/inventory" in shown["why_not"]["text"]
    refused = requests.get(at_id, params={"why_not": "/nowhere"}, timeout=10)
    assert refused.status_code == 400
    assert refused.json()["field"] == "why_not"


def test_the_graph_shows_who_calls_whom(url, incident):
    edges = requests.get(f"{url}/aiops/graph", timeout=10).json()["edges"]
    assert {(e["caller"], e["callee"]) for e in edges} == {
        ("/checkout", "/payment"),
        ("/checkout", "/inventory"),
    }
    assert all(set(e) == {"caller", "callee", "calls", "errors", "p50_ms", "p95_ms"} for e in edges)


@pytest.mark.parametrize(
    ("method", "path", "status", "field"),
    [
        ("GET", "/aiops/incidents/INC-0-1", 404, "id"),
        ("GET", "/aiops/incidents/'; DROP TABLE spans; --", 404, "id"),
        ("GET", "/aiops/incidents/INC-0-1/explain", 404, "id"),
        ("POST", "/aiops/incidents/INC-0-1/resolve", 404, "id"),
        ("POST", "/aiops/incidents/INC-0-1/resolve?accept=true", 404, "id"),
        ("POST", "/aiops/incidents/INC-0-1/resolve?accept=yes", 400, "accept"),
        ("POST", "/aiops/incidents/INC-0-1/acknowledge?accept=true", 400, "parameter"),
        ("POST", "/aiops/incidents/INC-0-1/acknowledge", 404, "id"),
        ("GET", "/aiops/incidents?status=open", 400, "status"),
        ("GET", "/aiops/incidents?status=active&status=all", 400, "status"),
        ("GET", "/aiops/incidents?page=2", 400, "parameter"),
        ("GET", "/aiops/metrics?x=1", 400, "parameter"),
        ("POST", "/aiops/metrics", 405, "method"),
        ("GET", "/aiops/analyze", 405, "method"),
        ("POST", "/aiops/analyze?now=0", 400, "parameter"),
        ("GET", "/aiops/nothing", 404, "path"),
        ("GET", f"/aiops/metrics?{'x' * 100_000}", 414, "query"),
    ],
)
def test_what_is_wrong_is_refused_with_field_and_rule(url, incident, method, path, status, field):
    answer = requests.request(method, url + path, timeout=10)
    assert answer.status_code == status
    assert answer.json()["field"] == field
    assert answer.json()["rule"]


def test_the_life_cycle_over_http(url, incident):
    path = f"{url}/aiops/incidents/{incident['id']}"
    steps = [
        ("acknowledge", 200),
        ("acknowledge", 409),
        ("resolve", 200),
        ("resolve", 409),
        ("acknowledge", 409),
    ]
    for move, expected in steps:
        answer = requests.post(f"{path}/{move}", timeout=10)
        assert answer.status_code == expected, move
    assert "is resolved and cannot become acknowledged" in answer.json()["error"]
    assert requests.get(f"{url}/aiops/incidents", timeout=10).json() == {
        "incident_count": 0,
        "active_incidents": [],
    }
    resolved = requests.get(f"{url}/aiops/incidents?status=resolved", timeout=10).json()
    assert [i["id"] for i in resolved["incidents"]] == [incident["id"]]
    assert resolved["incidents"][0]["resolved_at"].endswith("Z")


@pytest.mark.parametrize(
    ("sent", "accepted"),
    [
        ({"query_string": {"accept": "true"}}, True),
        ({"json": {"accept": True}}, True),
        ({"json": {"accept": False}}, False),
        ({"query_string": {"accept": "false"}}, False),
        ({}, False),
    ],
)
def test_resolving_may_accept_the_level_as_the_new_normal(tmp_path, sent, accepted):
    app = Flask(__name__, static_folder=None)
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(1, fault("/payment", 120, 180, status=500)).run(180))
        monitor = lab.Monitor(store)
        app.register_blueprint(aiops(monitor, now=lambda: at(172)))
        (incident,) = monitor.step(at(172))
        answer = app.test_client().post(f"/aiops/incidents/{incident.id}/resolve", **sent)
        assert (answer.status_code, answer.get_json()["status"]) == (200, "resolved")
        assert (incident.id in store.load("accepted")) == accepted
        undone = app.test_client().post(f"/aiops/incidents/{incident.id}/undo")
        assert undone.status_code == (200 if accepted else 409)
        assert monitor.incident(incident.id).status == ("active" if accepted else "resolved")


class Endless(io.RawIOBase):
    """A body that has no end; counts what is read of it."""

    taken = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        self.taken += len(buffer)
        if self.taken > 3 * BODY_MAX:
            raise AssertionError("more than the limit is read")
        buffer[:] = b" " * len(buffer)
        return len(buffer)


@pytest.mark.parametrize("path", ["/aiops/analyze", "/aiops/page/changes"])
def test_of_a_body_in_chunks_no_more_than_the_limit_is_read(tmp_path, path):
    app = Flask(__name__, static_folder=None)
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        app.register_blueprint(aiops(lab.Monitor(store)))
        chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        kind = {} if path == "/aiops/analyze" else {"content_type": OF_FORMS[0]}
        environ = create_environ(path, method="POST", **kind) | chunked
        environ.pop("CONTENT_LENGTH", None)
        _, status, _ = run_wsgi_app(app, environ | {"wsgi.input": Endless()})
    assert int(status[:3]) < 500


# Methods.


def test_the_method_of_an_endpoint_is_shown_where_it_is_known(tmp_path):
    shop = Shop(1, fault("/payment", 120, 180, status=500))
    shop.run(220)
    methods = {"/payment": "POST", "/inventory": "GET", "/checkout": "POST"}
    app = Flask(__name__, static_folder=None)
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        for span in shop.spans:
            store.add(span._replace(method=methods.get(span.endpoint)))
        app.register_blueprint(aiops(lab.Monitor(store), now=lambda: at(172)))
        client = app.test_client()
        (incident,) = client.post("/aiops/analyze").json["active_incidents"]
        metrics = client.get("/aiops/metrics").json["metrics"]
        again = client.get(f"/aiops/incidents/{incident['id']}").json
    assert again == incident
    assert incident["root_cause"]["method"] == "POST"
    for row in (*incident["suspects"], *incident["anomalies"]):
        assert row["method"] == methods[row["endpoint"]]
    assert metrics["/payment"]["method"] == "POST"
    assert "method" not in metrics["/health"]


def test_what_no_span_tells_is_not_shown_as_a_method(url, incident):
    assert "method" not in incident["root_cause"]
    assert (
        "method"
        not in requests.get(f"{url}/aiops/metrics", timeout=10).json()["metrics"]["/payment"]
    )


# A store that cannot be used.


@pytest.mark.parametrize("path", ["/aiops/metrics", "/aiops/incidents", "/aiops/graph"])
@pytest.mark.parametrize("how", ["closed", "overwritten"])
def test_a_store_that_cannot_be_used_is_said_as_json(tmp_path, path, how):
    app = Flask(__name__, static_folder=None)
    file = tmp_path / "s.sqlite"
    lab.SpanStore(file).close()
    store = lab.SpanStore(file)
    app.register_blueprint(aiops(lab.Monitor(store), now=lambda: at(172)))
    if how == "closed":
        store.close()
    else:
        file.write_bytes(b"id,name\n" * 2000)
    answer = app.test_client().get(path)
    with contextlib.suppress(OSError):
        store.close()
    assert answer.status_code == 503
    assert list(answer.json) == ["error"]


def test_a_query_that_is_no_text_is_refused(url):
    app = Flask(__name__, static_folder=None)
    json_errors(app)
    app.add_url_rule("/x", "x", lambda: parameters(("a",)))
    environ = create_environ("/x") | {"QUERY_STRING": "a=\xff"}
    body, status, _ = run_wsgi_app(app, environ)
    assert status == "400 BAD REQUEST"
    assert json.loads(b"".join(body))["rule"] == "must be UTF-8"


def test_a_change_is_noted_and_listed(url):
    about = {"service": "shop", "what": "flag new-cart on", "time": "2026-01-01T12:00:00+01:00"}
    answer = requests.post(f"{url}/aiops/changes", json=about, timeout=10)
    assert answer.status_code == 201
    noted = about | {"time": "2026-01-01T11:00:00.000000Z"}
    assert answer.json() == noted
    assert noted in requests.get(f"{url}/aiops/changes", timeout=10).json()["changes"]


def test_a_change_without_a_time_is_of_now(url):
    about = {"service": "shop", "what": "scaled to 3"}
    answer = requests.post(f"{url}/aiops/changes", json=about, timeout=10)
    assert answer.json()["time"] == at(172).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_a_change_of_an_unknown_service_and_a_path_like_another_are_told(url):
    about = {"service": "shpo", "what": "x"}
    noted = requests.post(f"{url}/aiops/changes", json=about, timeout=10).json()
    assert noted["warning"].endswith("of the service 'shpo', perhaps 'shop'")
    rule = requests.get(f"{url}/aiops/incident", timeout=10).json()["rule"]
    assert rule == "must be one that exists here, perhaps /aiops/incidents"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"what": "x"}, "service"),
        ({"service": "shop"}, "what"),
        ({"service": "shop", "what": ""}, "what"),
        ({"service": ["shop"], "what": "x"}, "service"),
        ({"service": "shop", "what": "x", "time": "soon"}, "time"),
        ({"service": "shop", "what": "x", "time": 12}, "time"),
        ({"service": "shop", "what": "x", "time": "1980-01-01"}, "time"),
        ({"service": "shop", "what": "x", "by": "me"}, "by"),
    ],
)
def test_a_change_that_breaks_a_rule_is_refused(url, body, field):
    before = requests.get(f"{url}/aiops/changes", timeout=10).json()
    answer = requests.post(f"{url}/aiops/changes", json=body, timeout=10)
    assert answer.status_code == 400
    assert field in answer.json()["error"]
    assert requests.get(f"{url}/aiops/changes", timeout=10).json() == before


def test_while_the_disk_is_blocked_the_analysis_answers_with_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    monkeypatch.setattr(watched_spans, "LOOK_S", 0.0)
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(1, fault("/payment", 120, 180, status=500)).run(220))
        app = Flask(__name__)
        app.register_blueprint(aiops(lab.Monitor(store), now=lambda: at(172)))
        client = app.test_client()
        with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            blocked = client.post("/aiops/analyze")
        whole = client.post("/aiops/analyze")
    assert (blocked.status_code, blocked.json["active_incidents"]) == (200, [])
    assert "locked" in blocked.json["stale"]
    assert whole.json["incident_count"] == 1
    assert "stale" not in whole.json
