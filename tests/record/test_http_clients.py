"""Calls with httpx and aiohttp are recorded, and their traces go on, as with a `Session`."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import asynccontextmanager, suppress

import flask
import pytest

from aiops_lab import instrument
from tests.support.serving import serving, wait_for

httpx = pytest.importorskip("httpx", reason="httpx is in the extra dev")
from aiops_lab.record.httpx_client import AsyncTracedTransport, TracedTransport  # noqa: E402


@pytest.fixture
def spans():
    return []


@pytest.fixture
def url(spans):
    """The url of an instrumented service, whose spans are among the rest."""
    app = flask.Flask("prices")
    app.add_url_rule("/prices/<int:n>", "price", lambda n: "x" * 100_000)
    app.add_url_rule("/busy", "busy", lambda: ("busy", 503))
    app.add_url_rule("/moved", "moved", lambda: flask.redirect("/busy"))
    with serving(instrument(app, spans.append, "prices")) as url:
        yield url


@pytest.fixture
def closed():
    """The url of a port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def silent():
    """The url of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def with_httpx(sink, peers, *urls):
    with httpx.Client(transport=TracedTransport(sink, "orders", peers), timeout=0.5) as client:
        for url in urls:
            client.get(url, follow_redirects=True)


def with_async_httpx(sink, peers, *urls):
    async def call():
        transport = AsyncTracedTransport(sink, "orders", peers)
        async with httpx.AsyncClient(transport=transport, timeout=0.5) as client:
            for url in urls:
                await client.get(url, follow_redirects=True)

    asyncio.run(call())


def with_aiohttp(sink, peers, *urls):
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is in the extra dev")
    from aiops_lab.record.aiohttp_client import trace_config

    async def call():
        timeout = aiohttp.ClientTimeout(total=0.5)
        configs = [trace_config(sink, "orders", peers)]
        async with aiohttp.ClientSession(trace_configs=configs, timeout=timeout) as session:
            for url in urls:
                async with session.get(url) as response:
                    await response.read()

    asyncio.run(call())


CLIENTS = pytest.mark.parametrize("get", [with_httpx, with_async_httpx, with_aiohttp])


@CLIENTS
def test_the_served_request_lies_below_the_call(get, spans, url):
    get(spans.append, {url: "prices"}, f"{url}/prices/7")
    wait_for(lambda: len(spans) == 2)
    call, served = sorted(spans, key=lambda span: span.kind)
    assert (call.service, call.peer, call.endpoint) == ("orders", "prices", "/prices/<id>")
    assert (call.kind, call.method, call.status, call.error) == ("client", "GET", 200, None)
    assert (served.trace_id, served.parent_id) == (call.trace_id, call.span_id)
    assert call.parent_id is None
    assert call.duration_ns > 0


@CLIENTS
def test_a_peer_without_a_name_is_an_address(get, spans, url):
    get(spans.append, None, f"{url}/busy")
    (call,) = [span for span in spans if span.kind == "client"]
    assert (call.peer, call.status) == (url.removeprefix("http://"), 503)


@CLIENTS
def test_a_call_that_nobody_answers_has_status_0_and_an_error(get, spans, closed, silent):
    for address, error in ((closed, "Connect"), (silent, "Timeout")):
        with suppress(Exception):
            get(spans.append, None, address)
        call = spans.pop()
        assert (call.status, spans) == (0, [])
        assert error in call.error.partition(":")[0]


@CLIENTS
def test_each_answer_of_a_redirect_is_told(get, spans, url):
    get(spans.append, None, f"{url}/moved")
    statuses = [span.status for span in spans if span.kind == "client"]
    assert statuses in ([302, 503], [503])  # aiohttp tells the last one


@CLIENTS
def test_a_sink_that_fails_harms_no_call(get, spans, url):
    def fail(span):
        raise RuntimeError("full")

    get(fail, None, f"{url}/busy", f"{url}/busy")
    assert len(spans) == 2


def test_a_stream_of_httpx_ends_with_its_body(spans, url):
    with httpx.Client(transport=TracedTransport(spans.append, "orders")) as client:
        with client.stream("GET", f"{url}/prices/7") as response:
            next(response.iter_bytes(10))
            assert not [span for span in spans if span.kind == "client"]
        assert [span.kind for span in spans].count("client") == 1


def test_a_body_of_httpx_that_is_dropped_ends_the_span(spans, url):
    transport = TracedTransport(spans.append, "orders")
    request = httpx.Request("GET", f"{url}/prices/7")
    response = transport.handle_request(request)
    assert response.status_code == 200
    del response
    gc.collect()
    transport.close()
    assert [span.kind for span in spans].count("client") == 1


def test_a_body_of_httpx_that_breaks_off_is_an_error(spans):
    class Broken(httpx.BaseTransport):
        def handle_request(self, request):
            return httpx.Response(200, stream=Body())

    class Body(httpx.SyncByteStream):
        def __iter__(self):
            yield b"a"
            raise httpx.ReadError("cut off")

    transport = TracedTransport(spans.append, "orders", transport=Broken())
    with httpx.Client(transport=transport) as client, pytest.raises(httpx.ReadError):
        client.get("http://prices/")
    (call,) = spans
    assert (call.status, call.error, call.peer) == (200, "ReadError: cut off", "prices:80")


def test_an_instrumented_service_calls_below_its_own_requests(spans, url):
    """Requests at the same time in one event loop keep their traces apart."""
    fastapi = pytest.importorskip("fastapi", reason="fastapi is in the extra dev")
    transport = AsyncTracedTransport(spans.append, "orders")

    @asynccontextmanager
    async def life(app):
        async with httpx.AsyncClient(transport=transport) as app.state.client:
            yield

    app = fastapi.FastAPI(lifespan=life)

    @app.get("/orders/{number}")
    async def order(number: int):
        await asyncio.sleep(0.01 * (3 - number))
        await app.state.client.get(f"{url}/prices/{number}")

    instrument(app, spans.append, "orders")

    async def ask():
        asgi = httpx.ASGITransport(app)
        async with life(app), httpx.AsyncClient(transport=asgi, base_url="http://o") as client:
            await asyncio.gather(*(client.get(f"/orders/{number}") for number in range(4)))

    asyncio.run(ask())
    wait_for(lambda: len(spans) == 12)
    by_id = {span.span_id: span for span in spans}
    served = [span for span in spans if span.service == "prices"]
    above = [by_id[by_id[span.parent_id].parent_id] for span in served]
    assert {span.endpoint for span in above} == {"/orders/{number}"}
    assert len({span.trace_id for span in above}) == 4
