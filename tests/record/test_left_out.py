"""What is not recorded, and that it is counted."""

from __future__ import annotations

import flask
import pytest

from aiops_lab import Monitor, SpanStore, instrument
from aiops_lab.endpoints import MAX_ENDPOINTS
from aiops_lab.record.faults import FaultInjector
from aiops_lab.show import api


@pytest.fixture
def spans():
    return []


def left_out(app: flask.Flask) -> dict[str, int]:
    return app.extensions["aiops_lab"].recorder.left_out


@pytest.mark.parametrize("prefix", ["", "/", "/orders", None])
def test_static_files_do_not_hide_the_routes_beside_them(spans, prefix):
    app = flask.Flask(__name__, static_url_path=prefix)
    app.add_url_rule("/orders", "orders", lambda: "ok")
    answer = instrument(app, spans.append).test_client().get("/orders")
    assert [(span.endpoint, span.status) for span in spans] == [("/orders", 200)]
    assert answer.headers["X-Trace-Id"] == spans[0].trace_id


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/assets/site.css", "/assets/<path:filename>"),
        ("/admin/files/site.js", "/admin/files/<path:filename>"),
    ],
)
def test_what_flask_routes_to_static_files_is_counted_and_not_recorded(spans, path, route):
    app = flask.Flask(__name__, static_url_path="/assets")
    admin = flask.Blueprint("admin", __name__, static_folder="files", url_prefix="/admin")
    app.register_blueprint(admin)
    client = instrument(app, spans.append).test_client()
    answers = [client.get(path) for _ in range(2)]
    assert "X-Trace-Id" not in answers[0].headers
    assert spans == []
    assert left_out(app) == {route: 2}


def test_a_view_of_the_app_that_is_called_static_is_recorded(spans):
    app = flask.Flask(__name__, static_folder=None)
    app.add_url_rule("/files/<path:filename>", "static", lambda filename: "made")
    instrument(app, spans.append).test_client().get("/files/x.css")
    assert spans[0].endpoint == "/files/<path:filename>"


@pytest.mark.parametrize("path", ["/aiops/orders", "/simulate", "/static/report"])
def test_routes_that_begin_like_something_left_out_are_recorded(spans, path):
    app = flask.Flask(__name__)
    app.add_url_rule(path, "own", lambda: "ok")
    instrument(app, spans.append).test_client().get(path)
    assert spans[0].endpoint == path


def test_the_interface_of_the_laboratory_is_left_out_wherever_it_is_mounted(spans, tmp_path):
    app = flask.Flask(__name__)
    app.register_blueprint(api.simulate(FaultInjector(), [("shop", "/payment")]))
    with SpanStore(tmp_path / "spans.sqlite") as store:
        app.register_blueprint(api.aiops(Monitor(store)), url_prefix="/ops", name="ops")
        client = instrument(app, spans.append).test_client()
        assert client.get("/ops/metrics").status_code == 200
    assert client.get("/simulate/status").status_code == 200
    assert spans == []
    assert left_out(app) == {"/ops/metrics": 1, "/simulate/status": 1}


def test_the_interface_says_what_was_left_out(tmp_path):
    app = flask.Flask(__name__)
    app.add_url_rule("/health", "health", lambda: "ok")
    with SpanStore(tmp_path / "spans.sqlite") as store:
        app.register_blueprint(api.aiops(Monitor(store)))
        client = instrument(app, store, exclude=["/health"]).test_client()
        client.get("/health")
        answer = client.get("/aiops/metrics").json
    assert answer["left_out"] == {"/health": 1, "/aiops/metrics": 1}


# What the caller excludes.


def test_websockets_are_counted_and_not_recorded(spans):
    """Libraries take the connection from the server, and end it with an exception."""

    def closed():
        raise ConnectionError

    app = flask.Flask(__name__)
    app.add_url_rule("/ws", "ws", closed, websocket=True)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    client = instrument(app, spans.append).test_client()
    with pytest.raises(ConnectionError):
        client.get("/ws", headers={"Upgrade": "WebSocket", "Connection": "Upgrade"})
    assert left_out(app) == {"(websocket)": 1}
    client.get("/nowhere", headers={"Upgrade": "h2c"})
    assert [span.status for span in spans] == [404]


@pytest.mark.parametrize("exclude", [["/health"], "/health", {"/health"}, lambda r: r == "/health"])
def test_excluded_routes_are_counted_and_not_recorded(spans, exclude):
    app = flask.Flask(__name__)
    for route in ("/health", "/healthy"):
        app.add_url_rule(route, route, lambda: "ok")
    client = instrument(app, spans.append, exclude=exclude).test_client()
    for route in ("/health", "/healthy"):
        assert client.get(route).text == "ok"
    assert [span.endpoint for span in spans] == ["/healthy"]
    assert left_out(app) == {"/health": 1}


@pytest.mark.parametrize("exclude", [["/users/<id>"], lambda route: route.startswith("/users")])
def test_paths_of_a_plain_app_can_be_excluded(spans, exclude):
    def plain(environ, start_response):
        start_response("200 OK", [])
        return [b"ok"]

    app = instrument(plain, spans.append, exclude=exclude)
    body = app({"PATH_INFO": "/users/17"}, lambda status, headers: None)
    assert body == [b"ok"]
    assert spans == []
    assert app.recorder.left_out == {"/users/<id>": 1}


def test_an_exclusion_that_fails_records_and_harms_no_request(spans, caplog):
    app = flask.Flask(__name__)
    app.add_url_rule("/orders", "orders", lambda: "ok")
    client = instrument(app, spans.append, exclude=lambda route: 1 / 0).test_client()
    assert client.get("/orders").text == "ok"
    assert len(spans) == 1
    assert "the function exclude of service 'shop' failed" in caplog.text


def test_a_scan_of_excluded_paths_cannot_grow_the_counts(spans):
    def plain(environ, start_response):
        start_response("200 OK", [])
        return [b"ok"]

    app = instrument(plain, spans.append, exclude=lambda path: True)
    for n in range(MAX_ENDPOINTS + 7):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(n))
        app({"PATH_INFO": f"/{word}"}, lambda status, headers: None)
    counts = app.recorder.left_out
    assert (len(counts), counts["(other)"]) == (MAX_ENDPOINTS + 1, 7)


@pytest.mark.parametrize("exclude", [7, [7], [None]])
def test_a_wrong_exclusion_is_named(exclude):
    with pytest.raises(ValueError, match="exclude must be routes or a function of a route, got"):
        instrument(flask.Flask(__name__), print, exclude=exclude)


def test_an_excluded_request_that_fails_is_not_recorded_and_fails_as_before(spans):
    app = flask.Flask(__name__)
    app.testing = True
    app.add_url_rule("/health", "health", lambda: 1 / 0)
    client = instrument(app, spans.append, exclude=["/health"]).test_client()
    with pytest.raises(ZeroDivisionError):
        client.get("/health")
    assert spans == []
