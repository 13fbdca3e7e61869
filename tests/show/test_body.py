"""A body that is not sent holds nobody but its sender."""

import socket
import threading
import time
from functools import partial

import pytest
import requests
from cheroot import wsgi
from flask import Blueprint, Flask
from werkzeug.serving import make_server

from aiops_lab.show import body
from aiops_lab.show.access import Access, guard
from aiops_lab.show.api import json_errors
from aiops_lab.show.given import parameters


@pytest.fixture(params=["werkzeug", "cheroot"])
def port(request, monkeypatch):
    """The port of a server whose calls need their body within a tenth of a second."""
    monkeypatch.setattr(body, "BODY_S", 0.1)
    app = Flask(__name__)
    json_errors(app)
    for name, token in (("call", None), ("guarded", "word")):
        blueprint = Blueprint(name, __name__)
        guard(blueprint, Access(token=token))
        json_errors(blueprint)
        view = partial(parameters, ("a",))
        blueprint.add_url_rule(f"/{name}", "view", view, methods=["GET", "POST"])
        app.register_blueprint(blueprint)
    if request.param == "werkzeug":
        server = make_server("127.0.0.1", 0, app, threaded=True)
        serve, stop, port = server.serve_forever, server.shutdown, server.port
    else:
        server = wsgi.Server(("127.0.0.1", 0), app, numthreads=6)
        server.prepare()
        serve, stop, port = server.serve, server.stop, server.bind_addr[1]
    thread = threading.Thread(target=serve)
    thread.start()
    yield port
    stop()
    thread.join(60)


def begin_body(port, call="POST /call"):
    """A connection on which one byte of a hundred is sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"{call} HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 100", "", "{"
    connection.sendall("\r\n".join(head).encode())
    return connection


def status_of(connection):
    with connection:
        return int(connection.recv(100).split()[1])


def test_a_body_that_is_late_ends_and_the_next_is_read(port):
    assert status_of(begin_body(port)) == 408
    answer = requests.post(f"http://127.0.0.1:{port}/call", json={"a": "1"}, timeout=60)
    assert answer.json() == {"a": "1"}


def test_only_some_bodies_are_read_at_once(port, monkeypatch):
    monkeypatch.setattr(body, "PLACE_WAIT_S", 0.0)
    monkeypatch.setattr(body, "BODY_S", 60.0)
    held = [begin_body(port) for _ in range(body.AT_ONCE)]
    while body._places.acquire(blocking=False):  # until both are being read
        body._places.release()
        time.sleep(0.01)
    busy = requests.post(f"http://127.0.0.1:{port}/call", json={"a": "1"}, timeout=60)
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "1")
    assert busy.json()["error"].startswith("The server is busy reading other requests. Send ")
    for connection in held:
        connection.sendall(b" " * 98 + b"}")
    assert [status_of(connection) for connection in held] == [200, 200]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_bodies_without_the_token_take_no_place_of_those_with_it(port, monkeypatch, method):
    monkeypatch.setattr(body, "PLACE_WAIT_S", 0.0)
    monkeypatch.setattr(body, "REFUSED_S", 0.1)
    monkeypatch.setattr(body, "BODY_S", 5.0)
    held = [begin_body(port, f"{method} /guarded") for _ in range(2 * body.AT_ONCE)]
    address = f"http://127.0.0.1:{port}/guarded"
    answer = requests.post(address, json={"a": "1"}, auth=("ann", "word"), timeout=60)
    assert answer.json() == {"a": "1"}
    if method == "POST":
        assert [status_of(connection) for connection in held] == [401] * len(held)
    for connection in held:
        connection.close()
