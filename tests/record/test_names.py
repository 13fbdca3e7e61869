"""What a request is called: routes, mounts, methods, and paths that no route explains."""

from __future__ import annotations

import contextlib

import flask
import pytest
from flask.sessions import SessionInterface
from flask.views import MethodView
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client, create_environ, run_wsgi_app

from aiops_lab import Span, instrument
from aiops_lab.endpoints import MAX_ENDPOINTS, MAX_SERVICES, EndpointNames, fold


def users(name: str = "users") -> flask.Flask:
    app = flask.Flask(name)
    app.add_url_rule("/users/<int:number>", "user", lambda number: "ada")
    return app


def named(spans: list[Span]) -> list[tuple[str | None, str]]:
    return [(span.method, span.endpoint) for span in spans]


def plain(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]


@pytest.fixture
def spans():
    return []


# Methods.


class Item(MethodView):
    def get(self, number: int) -> str:
        return "one"

    def delete(self, number: int) -> tuple[str, int]:
        return "", 204


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "OPTIONS"])
def test_the_methods_of_a_class_view_are_told_apart(spans, method):
    app = flask.Flask(__name__)
    app.add_url_rule("/items/<int:number>", view_func=Item.as_view("item"))
    client = instrument(app, spans.append).test_client()
    client.open("/items/7", method=method)
    assert named(spans) == [(method, "/items/<int:number>")]


def test_the_method_is_the_one_that_was_routed(spans):
    app = flask.Flask(__name__)
    app.add_url_rule("/items", "put", lambda: "ok", methods=["PUT"])
    routed = app.wsgi_app

    def override(environ, start_response):
        environ["REQUEST_METHOD"] = "PUT"
        return routed(environ, start_response)

    app.wsgi_app = override
    instrument(app, spans.append).test_client().post("/items")
    assert named(spans) == [("PUT", "/items")]


@pytest.mark.parametrize("method", ["FETCH", "get", "X" * 5000])
def test_methods_that_nobody_knows_are_one(spans, method):
    Client(instrument(plain, spans.append)).open("/x", method=method)
    assert spans[0].method == "_OTHER"


# Mounts.


def test_apps_that_are_mounted_in_another_are_named_with_their_mount(spans):
    site = instrument(users("site"), spans.append)
    mounts = {path: instrument(users(path), spans.append).wsgi_app for path in ("/v1", "/v2")}
    site.wsgi_app = DispatcherMiddleware(site.wsgi_app, mounts)
    client = site.test_client()
    for prefix in ("", "/v1", "/v2"):
        client.get(f"{prefix}/users/7")
    route = "/users/<int:number>"
    assert [span.endpoint for span in spans] == [route, "/v1" + route, "/v2" + route]


def test_an_app_mounted_in_an_instrumented_one_makes_no_second_span(spans):
    site = users("site")
    inner = instrument(users("inner"), spans.append)
    site.wsgi_app = DispatcherMiddleware(site.wsgi_app, {"/v1": inner.wsgi_app})
    client = instrument(site, spans.append).test_client()
    assert client.get("/v1/users/7").headers["X-Trace-Id"] == spans[0].trace_id
    assert [span.endpoint for span in spans] == ["/v1/users/<int:number>"]


def test_a_mounted_service_of_another_name_is_called_by_the_outer_one(spans):
    inner = instrument(users("inner"), spans.append, "inner")
    site = users("site")
    site.wsgi_app = DispatcherMiddleware(site.wsgi_app, {"/v1": inner.wsgi_app})
    instrument(site, spans.append, "outer").test_client().get("/v1/users/7")
    below, above = spans
    assert (below.service, above.service) == ("inner", "outer")
    assert (below.trace_id, below.parent_id) == (above.trace_id, above.span_id)


def test_what_is_mounted_without_being_instrumented_is_named_by_its_folded_path(spans):
    site = users("site")
    mounts = {"/v1": users("inner").wsgi_app, "/plain": plain}
    site.wsgi_app = DispatcherMiddleware(site.wsgi_app, mounts)
    client = instrument(site, spans.append).test_client()
    for path in ("/v1/users/7", "/plain/a/17", "/users/7"):
        client.get(path)
    assert [span.endpoint for span in spans] == [
        "/v1/users/<id>",
        "/plain/a/<id>",
        "/users/<int:number>",
    ]


def test_a_prefix_that_a_proxy_names_belongs_to_the_route(spans):
    app = users()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)
    client = instrument(app, spans.append).test_client()
    for prefix in ("/shop", "/shop/", "/tenants/1234"):
        client.get("/users/7", headers={"X-Forwarded-Prefix": prefix})
    assert [span.endpoint for span in spans] == [
        "/shop/users/<int:number>",
        "/shop/users/<int:number>",
        "/tenants/<id>/users/<int:number>",
    ]


def test_a_plain_app_is_named_with_its_mount(spans):
    outer = DispatcherMiddleware(plain, {"/v1": instrument(plain, spans.append)})
    Client(outer).get("/v1/users/17")
    assert spans[0].endpoint == "/v1/users/<id>"


def test_blueprints_inside_of_blueprints_are_named_with_their_prefixes(spans):
    app = flask.Flask(__name__)
    outer = flask.Blueprint("outer", __name__, url_prefix="/api")
    inner = flask.Blueprint("inner", __name__, url_prefix="/v1")
    inner.add_url_rule("/users", "users", lambda: "ok")
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    instrument(app, spans.append).test_client().get("/api/v1/users")
    assert spans[0].endpoint == "/api/v1/users"


def test_one_path_of_two_hosts_is_two_endpoints(spans):
    app = flask.Flask(__name__, subdomain_matching=True)
    app.config["SERVER_NAME"] = "shop.example"
    app.add_url_rule("/users", "site", lambda: "site")
    app.add_url_rule("/users", "api", lambda: "api", subdomain="api")
    client = instrument(app, spans.append).test_client()
    for host in ("shop.example", "api.shop.example"):
        client.get("/users", base_url=f"http://{host}")
    assert [span.endpoint for span in spans] == ["/users", "//api/users"]


@pytest.mark.parametrize("hosts", [("a.example", "b.example")])
def test_one_view_of_two_hosts_is_two_endpoints(spans, hosts):
    app = flask.Flask(__name__, host_matching=True, static_folder=None)

    def view() -> str:
        return "ok"

    for host in hosts:
        app.add_url_rule("/users", "users", view, host=host)
    client = instrument(app, spans.append).test_client()
    for host in hosts:
        client.get("/users", base_url=f"http://{host}")
    assert [span.endpoint for span in spans] == [f"//{host}/users" for host in hosts]


def test_a_method_in_small_letters_is_named_as_it_is_routed(spans):
    app = instrument(users(), spans.append)
    environ = create_environ("/users/7") | {"REQUEST_METHOD": "get"}
    assert run_wsgi_app(app.wsgi_app, environ)[1] == "200 OK"
    assert named(spans) == [("GET", "/users/<int:number>")]


# Requests that end before Flask has routed them.


def refusing(environ, start_response):
    start_response("401 Unauthorized", [])
    return [b""]


def failing(environ, start_response):
    raise OSError("no quota")


class NoSession(SessionInterface):
    def open_session(self, app, request):
        raise OSError("no quota")


@pytest.mark.parametrize(
    ("middleware", "session", "result"),
    [
        (refusing, None, (401, None)),
        (failing, None, (500, "OSError: no quota")),
        (None, NoSession(), (500, "OSError: no quota")),
    ],
)
def test_what_ends_before_the_routing_is_named_by_its_route_all_the_same(
    spans, middleware, session, result
):
    app = users()
    app.wsgi_app = middleware or app.wsgi_app
    app.session_interface = session or app.session_interface
    client = instrument(app, spans.append).test_client()
    with contextlib.suppress(OSError):
        client.get("/users/7")
    assert named(spans) == [("GET", "/users/<int:number>")]
    assert (spans[0].status, spans[0].error) == result


def test_a_path_that_only_a_middleware_knows_is_named_by_itself(spans):
    app = users()
    app.wsgi_app = plain
    instrument(app, spans.append).test_client().get("/ready")
    assert named(spans) == [("GET", "/ready")]


@pytest.mark.parametrize("exclude", [["/users/<int:number>"], lambda route: "users" in route])
def test_an_excluded_route_is_left_out_where_a_middleware_answers(spans, exclude):
    app = users()
    app.wsgi_app = refusing
    instrument(app, spans.append, exclude=exclude).test_client().get("/users/7")
    assert spans == []


# Paths.


@pytest.mark.parametrize(
    ("path", "folded"),
    [
        ("/v1/charges/ch_00f2a1/refunds", "/v1/charges/<id>/refunds"),
        ("/users/17", "/users/<id>"),
        ("/orders/order-17", "/orders/<id>"),
        ("/x/0d4a8c9e-1b2f-4c3d-8e9f-aabbccddeeff", "/x/<id>"),
        ("/x/0D4A8C9E1B2F4C3D8E9FAABBCCDDEEFF", "/x/<id>"),
        ("/commits/deadbee1", "/commits/<id>"),
        ("/customers/cus_NffrFeUfNV2Hib", "/customers/<id>"),
        ("/t/MTczNDU2Nzg5MGFiY2Q=", "/t/<id>"),
        ("/reports/2024-05-01", "/reports/<id>"),
        ("/users/ada@example.com/posts", "/users/<id>/posts"),
        ("/users/ada%40example.com", "/users/<id>"),
        ("/@ada", "/<id>"),
        ("/Orders(17)/Items", "/Orders(<id>)/Items"),
        ("/operations/17:cancel", "/operations/<id>:cancel"),
        ("/login;jsessionid=1A2B", "/login"),
        ("/" + "x" * 10_000, "/<id>"),
        ("/a" * 40, "/a" * 15 + "/<path:rest>"),
    ],
)
def test_ids_are_folded(path, folded):
    assert fold(path) == folded


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/a//b/", "/oauth2/token", "/v1/users", "/v1beta1/projects", "/v1.2.3/x"),
        *("/base64/decode", "/s3/buckets", "/ipv4", "/feedface/x", "/getUserAccountSettings"),
        *("/repos/octocat/hello-world", "/favicon.ico", "/index.html", "/sha256"),
    ],
)
def test_names_are_not_folded(path):
    assert fold(path) == path


def test_folding_twice_changes_nothing():
    for path in ("/users/17", "/Orders(17)", "/operations/17:cancel", "/a" * 40):
        assert fold(fold(path)) == fold(path)


def test_a_scan_of_a_plain_app_cannot_grow_the_tables(spans):
    app = instrument(plain, spans.append)
    client = Client(app)
    for n in range(MAX_ENDPOINTS + 7):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(n))
        client.get(f"/{word}")
    assert len({span.endpoint for span in spans}) == MAX_ENDPOINTS + 1
    assert spans[-1].endpoint == "(other)"
    assert app.recorder.names.overflowed == 7


def test_what_was_known_before_the_limit_keeps_its_name():
    names = EndpointNames()
    for n in range(MAX_ENDPOINTS + 1):
        names.limit("pay", f"/{n}")
    assert names.limit("pay", "/0") == "/0"
    assert names.limit("stock", "/0") == "/0"
    assert names.overflowed == 1


def test_called_services_are_limited_too():
    names = EndpointNames()
    for n in range(MAX_SERVICES):
        names.limit(names.limit_service(f"host{n}"), "/")
    assert names.limit_service("one more") == "(other)"
    assert names.limit_service("host0") == "host0"
