"""A `Session` does what a `requests.Session` does, and records it to the last byte."""

from __future__ import annotations

import copy
import gc
import pickle
import shutil
import socket
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import flask
import pytest
import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3.util import Retry

from aiops_lab import Session, Span, instrument
from aiops_lab.endpoints import MAX_ENDPOINTS, OVERFLOW
from aiops_lab.record import calls
from aiops_lab.record.recorder import Recorder
from tests.support.serving import serving, wait_for

SPANS: list[Span] = []


def keep(span: Span) -> None:
    SPANS.append(span)


@pytest.fixture(autouse=True)
def spans():
    SPANS.clear()
    return SPANS


@pytest.fixture
def session():
    with Session(keep, "caller") as session:
        yield session


def peer() -> flask.Flask:
    app = flask.Flask(__name__)
    app.add_url_rule("/ok", "ok", lambda: "ok" * 5000, methods=["GET", "POST", "HEAD"])
    app.add_url_rule("/none", "none", lambda: ("", 204))
    app.add_url_rule("/chunks", "chunks", lambda: flask.Response(c for c in ["a" * 9000, "b"]))
    app.add_url_rule("/busy", "busy", lambda: ("busy", 503))
    return app


@pytest.fixture(scope="module")
def url():
    with serving(peer()) as url:
        yield url


@pytest.fixture
def stalling():
    """Yield the address of a server that answers with headers, half of a body and silence."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                over.wait(5)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        over.set()
        thread.join()


# To the last byte.


@pytest.mark.parametrize("path", ["/ok", "/chunks", "/none", "/busy"])
def test_a_plain_call_is_one_span_with_its_body(session, spans, url, path):
    session.get(url + path, timeout=5)
    (span,) = spans
    assert (span.endpoint, span.method, span.first_byte_ns) == (path, "GET", None)


READERS = {
    "content": lambda answer: answer.content,
    "iter_content": lambda answer: list(answer.iter_content(1000)),
    "iter_lines": lambda answer: list(answer.iter_lines()),
    "raw.read": lambda answer: answer.raw.read(),
    "raw.stream": lambda answer: list(answer.raw.stream(100)),
    "raw in pieces": lambda answer: list(iter(lambda: answer.raw.read(777), b"")),
    "copyfileobj": lambda answer: shutil.copyfileobj(answer.raw, BytesIO()),
    "close": lambda answer: answer.close(),
}


@pytest.mark.parametrize("path", ["/ok", "/chunks"])
@pytest.mark.parametrize("how", READERS)
def test_a_streamed_answer_ends_when_it_is_read_or_closed(session, spans, url, path, how):
    answer = session.get(url + path, stream=True, timeout=5)
    assert spans == []
    READERS[how](answer)
    (span,) = spans
    assert 0 < span.first_byte_ns < span.duration_ns
    answer.close()
    assert len(spans) == 1


def test_a_streamed_answer_that_is_dropped_ends(session, spans, url):
    answer = session.get(f"{url}/ok", stream=True, timeout=5)
    del answer
    gc.collect()
    assert len(spans) == 1


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/ok"), ("GET", "/none")])
def test_an_answer_without_a_body_ends_at_once(session, spans, url, method, path):
    session.request(method, url + path, stream=True, timeout=5)
    assert [(span.method, span.endpoint) for span in spans] == [(method, path)]


def test_the_body_is_still_what_urllib3_makes(session, url):
    answer = session.get(f"{url}/ok", stream=True, timeout=5)
    assert isinstance(answer.raw, requests.packages.urllib3.HTTPResponse)
    assert len(answer.content) == 10_000
    assert pickle.loads(pickle.dumps(answer)).content == answer.content


def test_the_connection_is_used_again(session, url):
    session.get(f"{url}/ok", timeout=5)
    session.get(f"{url}/chunks", timeout=5)
    pools = session.get_adapter(url).poolmanager.pools
    assert [pools[key].num_connections for key in pools.keys()] == [1]  # noqa: SIM118


# Timeouts, by their class.


@pytest.mark.parametrize(("stream", "status"), [(False, 0), (True, 200)])
def test_a_timeout_inside_of_the_body_is_named_as_one(session, spans, stalling, stream, status):
    with pytest.raises(requests.ConnectionError):
        session.get(stalling, timeout=(5, 0.05), stream=stream).content  # noqa: B018
    (span,) = spans
    assert span.status == status
    assert span.error.startswith("ReadTimeoutError: ")


def test_a_timeout_behind_retries_is_named_as_one(session, spans):
    session.mount("http://", HTTPAdapter(max_retries=Retry(1, backoff_factor=0)))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(requests.ConnectionError):
            session.get(url, timeout=0.05)
    (span,) = spans
    assert (span.status, span.error.partition(":")[0]) == (0, "ReadTimeoutError")


def test_the_word_in_an_address_makes_no_timeout(session, spans):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(requests.ConnectionError):
        session.get(f"http://127.0.0.1:{port}/sessionTimeout", timeout=5)
    assert spans[0].error.startswith("ConnectionError: ")


def test_a_broken_body_is_recorded_with_its_exception(session, spans):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            session.get(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=5)
        thread.join()
    (span,) = spans
    assert span.error.startswith("ProtocolError: ")


# Copies.


COPIES = {
    "pickle": lambda session: pickle.loads(pickle.dumps(session)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "deepcopy inside": lambda session: copy.deepcopy({"client": session})["client"],
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_calls_and_records_as_the_session_does(session, spans, url, how):
    session.peers = {url: "peer"}
    session.headers["X-Own"] = "1"
    again = COPIES[how](session)
    assert again.get(f"{url}/ok", timeout=5).status_code == 200
    (span,) = spans
    assert (span.service, span.peer) == ("caller", "peer")
    assert again.headers["X-Own"] == "1"


def test_a_deep_copy_keeps_a_sink_that_cannot_be_copied(url):
    class Sink:
        def __init__(self) -> None:
            self.spans: list[Span] = []
            self.lock = threading.Lock()

        def take(self, span: Span) -> None:
            self.spans.append(span)

    sink = Sink()
    copy.deepcopy(Session(sink.take)).get(f"{url}/ok", timeout=5)
    assert len(sink.spans) == 1


# Adapters, hooks, authentication.


def test_a_request_without_headers_is_sent_as_requests_would(session, spans, url):
    bare = requests.PreparedRequest()
    bare.prepare_method("GET")
    bare.prepare_url(f"{url}/ok", None)
    assert session.send(bare).status_code == 200
    assert spans[0].status == 200


def test_a_mounted_adapter_is_the_one_that_is_found(session):
    mine = HTTPAdapter()
    session.mount("http://peer/", mine)
    assert session.get_adapter("http://peer/x") is mine


def test_an_adapter_mounted_between_two_calls_makes_the_second(session, spans):
    for body in (b"first", b"second"):
        session.mount("http://", Memory(status_code=200, raw=BytesIO(body)))
        assert session.get("http://peer/").content == body


def test_a_session_that_is_dropped_is_gone_at_once():
    session = Session(keep)
    session.mount("http://", Memory(status_code=200))
    session.get("http://peer/")
    gone = weakref.ref(session)
    del session
    assert gone() is None


def test_a_peer_that_gets_a_name_between_two_calls_has_it_in_the_second(spans):
    with Session(keep) as session:
        session.mount("http://", Memory(status_code=200))
        session.get("http://peer/")
        session.peers["http://peer"] = "payment"  # type: ignore[index]
        session.get("http://peer/")
        session.peers = {"http://peer": "bank"}
        session.get("http://peer/")
    assert [span.peer for span in spans] == ["peer:80", "payment", "bank"]


def test_a_recorder_that_is_replaced_between_two_calls_records_the_second(spans):
    own: list[Span] = []
    with Session(keep, "caller") as session:
        session.mount("http://", Memory(status_code=200))
        session.get("http://peer/")
        session.recorder = Recorder(own.append, "other")
        session.get("http://peer/")
    assert [span.service for span in spans] == ["caller"]
    assert [span.service for span in own] == ["other"]


SECRET_URLS = (
    "http://me:s3cret@peer/a/b",
    "http://peer/a/b?key=s3cret",
    "http://peer/a/b#s3cret",
    "HTTP://me:a@s3cret@peer/a/b?at=me@s3cret#s3cret",
)


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("peers", [{}, {"http://peer": "payment"}])
def test_what_is_private_in_a_url_is_not_remembered(monkeypatch, spans, url, peers):
    asked: list[str] = []
    split = calls._split_place
    monkeypatch.setattr(calls, "_split_place", lambda url: asked.append(url) or split(url))
    with Session(keep, peers=peers) as session:
        session.mount("http://", Memory(status_code=200))
        session.get(url)
        kept = [*session.recorder.places, *asked]
    assert kept
    assert {address.lower() for address in kept} == {"http://peer/a/b"}
    assert spans[0].endpoint == "/a/b"


def test_an_at_sign_in_a_path_stays(spans):
    with Session(keep) as session:
        session.mount("http://", Memory(status_code=200))
        session.get("http://peer/x//a@b/list")
    assert (spans[0].peer, spans[0].endpoint) == ("peer:80", "/x//<id>/list")


def test_calls_beyond_the_most_of_endpoints_are_counted_each_time(spans):
    with Session(keep) as session:
        session.mount("http://", Memory(status_code=200))
        names = session.recorder.names
        for letters in range(MAX_ENDPOINTS):
            names.limit("peer:80", f"/{letters}")
        session.get("http://peer/new")
        session.get("http://peer/new")
    assert [span.endpoint for span in spans] == [OVERFLOW, OVERFLOW]
    assert names.overflowed == 2


def test_an_adapter_without_a_body_of_urllib3_ends_at_once(session, spans):
    class Local(requests.adapters.BaseAdapter):
        def send(self, request, **options):
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = 200, request.url, request
            answer.raw = BytesIO(b"local")
            return answer

        def close(self):
            pass

    session.mount("local://", Local())
    assert session.get("local://here/x").content == b"local"
    assert len(spans) == 1


def test_an_address_without_an_adapter_is_no_call(session, spans):
    with pytest.raises(requests.exceptions.InvalidSchema):
        session.get("nothing://here/x")
    assert spans == []


def test_retries_of_an_adapter_are_one_span(session, spans, url):
    retries = Retry(2, status_forcelist=[503], backoff_factor=0, raise_on_status=False)
    session.mount("http://", HTTPAdapter(max_retries=retries))
    assert session.get(f"{url}/busy", timeout=5).status_code == 503
    assert [span.status for span in spans] == [503]


def test_the_answer_to_a_challenge_is_a_span_of_the_same_trace(session, spans):
    app = flask.Flask(__name__)

    def locked() -> tuple[str, int, dict[str, str]] | str:
        if "Authorization" in flask.request.headers:
            return "in"
        return "", 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}

    app.add_url_rule("/locked", "locked", locked)
    with serving(app) as url:
        answer = session.get(f"{url}/locked", auth=HTTPDigestAuth("ada", "x"), timeout=5)
    assert answer.text == "in"
    assert [span.status for span in spans] == [401, 200]
    assert len({span.trace_id for span in spans}) == 1


def test_a_hook_is_not_part_of_the_call(session, spans, url):
    seen: list[int] = []

    def look(answer: requests.Response, **_: object) -> None:
        seen.append(answer.status_code)
        answer.content  # noqa: B018
        assert len(spans) == 1

    session.hooks["response"].append(look)
    session.get(f"{url}/ok", timeout=(5, 5))
    assert seen == [200]


def test_what_a_redirect_leads_to_is_recorded_without_following_it_by_itself(session, spans):
    app = peer()
    app.add_url_rule("/old", "old", lambda: flask.redirect("/ok"))
    with serving(app) as url:
        answer = session.get(f"{url}/old", allow_redirects=False, timeout=5)
        assert session.send(answer.next, timeout=5).status_code == 200
    assert [span.endpoint for span in spans] == ["/old", "/ok"]


def test_ids_in_called_paths_are_one_endpoint(session, spans, url):
    for number in range(5):
        session.get(f"{url}/charges/ch_{number:06x}", timeout=5)
    assert {span.endpoint for span in spans} == {"/charges/<id>"}


def test_a_status_that_http_does_not_have_is_a_server_error(session, spans):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        got = session.get(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=5)
        thread.join()
    assert got.status_code == 999
    assert spans[0].status == 500


def test_threads_share_a_session(session, spans, url):
    def work() -> None:
        for _ in range(20):
            session.get(f"{url}/chunks", timeout=5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: len(spans) == 80)
    assert len({span.trace_id for span in spans}) == 80


# Names of peers, and adapters of a user's own.


class Memory(BaseAdapter):
    """An adapter that answers without a network, as tests and files do."""

    def __init__(self, **answer: object) -> None:
        super().__init__()
        self.answer = answer

    def send(self, request, **kwargs):
        response = requests.Response()
        response.request = request
        response.__dict__ |= {"raw": BytesIO(b"ok")} | self.answer
        return response

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "base", ["http://PAY.example", "HTTP://pay.example:80/", "http://u@pay.example"]
)
@pytest.mark.parametrize("url", ["http://pay.example/x", "http://me:secret@Pay.Example:80/x"])
def test_a_peer_is_known_however_its_address_is_written(session, spans, base, url):
    session.mount("http://", Memory(status_code=200))
    session.peers = {base: "pay"}
    session.get(url)
    assert spans[0].peer == "pay"


@pytest.mark.parametrize(
    ("url", "peer"), [("http://[::1]:8080/x", "[::1]:8080"), ("mem://files:all/x", "files:0")]
)
def test_a_peer_without_a_name_is_host_and_port(session, spans, url, peer):
    for scheme in ("http://", "mem://"):
        session.mount(scheme, Memory(status_code=200))
    session.get(url)
    assert spans[0].peer == peer


@pytest.mark.parametrize("status", [None, "200"])
def test_an_adapter_that_tells_no_status_answers_as_before(session, spans, status):
    session.mount("mem://", Memory(status_code=status))
    assert session.get("mem://files/x").text == "ok"
    assert spans[0].status == 0


# Threads.


def test_a_thread_that_flask_gave_the_request_stays_in_the_trace(session, spans, url):
    app = flask.Flask(__name__)

    @app.get("/fan")
    def fan() -> str:
        call = flask.copy_current_request_context(lambda: session.get(f"{url}/ok").status_code)
        with ThreadPoolExecutor(1) as threads:
            return str(threads.submit(call).result())

    assert instrument(app, keep, "web").test_client().get("/fan").text == "200"
    called, served = spans
    assert (called.trace_id, called.parent_id) == (served.trace_id, served.span_id)


def test_a_thread_of_an_excluded_request_starts_a_trace(session, spans, url):
    app = flask.Flask(__name__)

    @app.get("/fan")
    def fan() -> str:
        call = flask.copy_current_request_context(lambda: session.get(f"{url}/ok").status_code)
        with ThreadPoolExecutor(1) as threads:
            return str(threads.submit(call).result())

    instrument(app, keep, "web", exclude=["/fan"]).test_client().get("/fan")
    assert [(span.kind, span.parent_id) for span in spans] == [("client", None)]
