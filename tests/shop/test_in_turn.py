"""Without threads, as in a browser, the shop answers each request before the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import flask
import pytest
import requests
from requests.adapters import HTTPAdapter

import aiops_lab as lab
import shop
from aiops_lab.spans import Span
from shop.live import in_turn
from tests.support.blocked import no_start


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(HTTPAdapter, "send", HTTPAdapter.send)
    monkeypatch.setattr(threading.Thread, "start", no_start)
    in_turn._lead_to_apps.cache_clear()
    yield
    in_turn._lead_to_apps.cache_clear()


def test_customers_and_services_are_answered_and_traces_are_whole() -> None:
    assert not in_turn.can_start_threads()
    with shop.running("many") as s:
        answers = shop.drive(s, seconds=0.3, rate=20, mix={"/checkout": 1})
        s.store.flush()
        spans = s.store.spans()
    assert set(answers["status"]) == {200}
    assert set(answers["trace_id"]) == set(spans["trace_id"])
    assert spans["trace_id"].value_counts().unique() == [5]
    assert in_turn._APPS == {}


def test_faults_strike_and_paths_and_bodies_arrive() -> None:
    with shop.running() as s:
        broken = requests.post(s.url + "/simulate/error?endpoint=/payment&rate=1")
        failed = requests.post(s.url + "/checkout", json={"item": "mug"})
        refused = requests.post(s.url + "/checkout", json={"item": "boat"})
    assert broken.ok
    assert (failed.status_code, failed.reason) == (502, "BAD GATEWAY")
    assert "/payment answered" in failed.json()["error"]
    assert refused.status_code == 400


def test_a_store_without_its_thread_writes_each_full_batch() -> None:
    start_ns = 1_767_225_600_000_000_000
    with lab.SpanStore(":memory:", batch=4, flush_s=3600) as store:
        for n in range(6):
            ids = (f"{n:032x}", f"{n + 1:016x}", None)
            store.add(Span(*ids, "a", "/a", "server", None, start_ns, 1_000_000, 200, None))
        assert len(store.spans()) == 4
        store.flush()
        assert len(store.spans()) == 6


def test_cookies_are_kept_and_a_body_can_be_read_in_parts() -> None:
    app = flask.Flask("till")
    app.add_url_rule("/", "greet", lambda: ("a" * 10, {"Set-Cookie": "seen=1; Path=/"}))
    app.add_url_rule("/again", "again", lambda: flask.request.cookies.get("seen", "no cookie"))
    server = in_turn.ServerInTurn()
    url = server.open()
    server.answer_with(app)
    with requests.Session() as session:
        greeted = session.get(url, stream=True)
        assert (greeted.cookies["seen"], greeted.raw.read(4), greeted.raw.read()) == (
            "1",
            b"aaaa",
            b"aaaaaa",
        )
        assert session.get(f"{url}/again").text == "1"
        assert session.head(f"{url}/again").headers["Content-Length"] == "1"
    server.close()
