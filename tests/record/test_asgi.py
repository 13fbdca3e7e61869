"""Asynchronous applications behind a real server: each request is a span, and nothing changes."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import requests

from aiops_lab import Session, instrument
from aiops_lab.__main__ import main
from aiops_lab.spans import Span
from tests.support.serving import wait_for

uvicorn = pytest.importorskip("uvicorn")
fastapi = pytest.importorskip("fastapi")
starlette = pytest.importorskip("starlette")

from starlette.applications import Starlette  # noqa: E402
from starlette.background import BackgroundTask  # noqa: E402
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: E402
from starlette.requests import ClientDisconnect  # noqa: E402
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse  # noqa: E402
from starlette.routing import Mount, Route, WebSocketRoute  # noqa: E402
from starlette.staticfiles import StaticFiles  # noqa: E402

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@contextmanager
def serving(app, **options):
    """Yield the url of an application behind uvicorn."""
    config = uvicorn.Config(app, port=0, log_config=None, ws="none", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, 15)
    try:
        (listening,) = server.servers[0].sockets
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)


def ended(spans, count=1):
    wait_for(lambda: len(spans) >= count)
    return [Span(*span) for span in spans]


async def ok(request):
    return JSONResponse({"ok": True})


def test_a_request_is_one_span_with_route_method_and_status():
    spans = []
    app = instrument(Starlette(routes=[Route("/items/{id:int}", ok)]), spans.append, "items")
    with serving(app) as url:
        answer = requests.get(f"{url}/items/17", headers={"traceparent": TRACEPARENT}, timeout=5)
        (span,) = ended(spans)
    assert answer.json() == {"ok": True}
    assert (span.trace_id, span.parent_id) == (TRACE, PARENT)
    assert answer.headers["X-Trace-Id"] == TRACE
    assert (span.service, span.endpoint, span.kind) == ("items", "/items/{id:int}", "server")
    assert (span.method, span.status, span.error) == ("GET", 200, None)


@pytest.mark.parametrize("header", [{}, {"traceparent": "no"}])
def test_without_a_valid_header_a_trace_begins(header):
    spans = []
    with serving(instrument(Starlette(routes=[Route("/x", ok)]), spans.append)) as url:
        requests.get(f"{url}/x", headers=header, timeout=5)
        (span,) = ended(spans)
    assert span.parent_id is None


def test_an_app_is_wrapped_in_place_once_and_middleware_may_follow():
    spans = []
    app = Starlette(routes=[Route("/x", ok)])
    assert instrument(app, spans.append) is app
    assert instrument(app, spans.append) is app

    async def refuse(request, call_next):
        return PlainTextResponse("no", 401)

    app.add_middleware(BaseHTTPMiddleware, dispatch=refuse)
    with serving(app) as url:
        assert requests.get(f"{url}/x", timeout=5).status_code == 401
        (span) = ended(spans)[0]
    assert len(spans) == 1
    assert (span.endpoint, span.status) == ("/x", 401)
    with pytest.raises(ValueError, match="one sink and service"):
        instrument(app, spans.append, "other")


def make_fastapi():
    app = fastapi.FastAPI()
    router = fastapi.APIRouter(prefix="/users")
    inner = fastapi.FastAPI()

    @router.get("/{user}/cart")
    async def cart(user: str):
        return user

    @app.post("/orders")
    def order(number: int):
        return number

    @app.get("/missing")
    async def missing():
        raise fastapi.HTTPException(404)

    @app.get("/down")
    async def down():
        raise fastapi.HTTPException(503)

    @inner.get("/items/{item}")
    async def item(item: str):
        return item

    app.include_router(router, prefix="/v2")
    app.mount("/shops/{shop}", inner)
    return app


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "status"),
    [
        ("GET", "/v2/users/ada/cart", "/v2/users/{user}/cart", 200),
        ("POST", "/orders?number=7", "/orders", 200),
        ("POST", "/orders?number=x", "/orders", 422),
        ("GET", "/orders", "/orders", 405),
        ("GET", "/missing", "/missing", 404),
        ("GET", "/down", "/down", 503),
        ("GET", "/shops/17/items/5", "/shops/<id>/items/{item}", 200),
        ("GET", "/nowhere/5", "(unmatched)", 404),
        ("OPTIONS", "/orders", "/orders", 405),
        ("HEAD", "/v2/users/ada/cart", "/v2/users/{user}/cart", 405),
        ("BREW", "/orders", "/orders", 405),
    ],
)
def test_the_endpoints_of_fastapi(method, path, endpoint, status):
    spans = []
    with serving(instrument(make_fastapi(), spans.append)) as url:
        assert requests.request(method, url + path, timeout=5).status_code == status
        (span,) = ended(spans)
    assert (span.endpoint, span.status, span.error) == (endpoint, status, None)
    assert span.method == ("_OTHER" if method == "BREW" else method)


def test_a_prefix_of_the_server_belongs_to_the_route():
    spans = []
    app = instrument(Starlette(routes=[Route("/x", ok)]), spans.append)
    with serving(app, root_path="/api") as url:
        requests.get(f"{url}/x", timeout=5)
        (span,) = ended(spans)
    assert span.endpoint == "/api/x"


def test_an_exception_is_recorded_and_goes_on_unchanged():
    spans, stacks, seen = [], {}, []

    class Sink(list):
        def __call__(self, span):
            spans.append(span)

        def stack(self, span_id, text):
            stacks[span_id] = text

    failure = KeyError("price")

    async def fail(request):
        raise failure

    app = instrument(Starlette(routes=[Route("/x", fail)]), Sink())

    async def outer(scope, receive, send):
        try:
            await app(scope, receive, send)
        except KeyError as error:
            seen.append(error)
            raise

    with serving(outer, lifespan="off") as url:
        assert requests.get(f"{url}/x", timeout=5).status_code == 500
        (span,) = ended(spans)
    assert seen == [failure]
    assert (span.endpoint, span.status, span.error) == ("/x", 500, "KeyError: 'price'")
    assert "raise failure" in stacks[span.span_id]


def test_a_handled_exception_is_no_failure():
    spans = []

    async def fail(request):
        raise KeyError("price")

    async def handle(request, error):
        return PlainTextResponse("no such price", 404)

    routes = [Route("/x", fail)]
    app = instrument(Starlette(routes=routes, exception_handlers={KeyError: handle}), spans.append)
    with serving(app) as url:
        assert requests.get(f"{url}/x", timeout=5).status_code == 404
        (span,) = ended(spans)
    assert (span.endpoint, span.status, span.error) == ("/x", 404, None)


def test_an_exception_of_a_plain_application_is_a_500():
    spans = []

    async def app(scope, receive, send):
        raise OSError("disk full")

    with serving(instrument(app, spans.append), lifespan="off") as url:
        assert requests.get(f"{url}/carts/17", timeout=5).status_code == 500
        (span,) = ended(spans)
    assert (span.endpoint, span.status, span.error) == ("/carts/<id>", 500, "OSError: disk full")


def test_a_stream_lasts_to_its_last_byte_and_says_when_it_began():
    spans = []
    go = threading.Event()

    async def chunks():
        yield b"first"
        await asyncio.to_thread(go.wait, 10)
        yield b"last"

    async def stream(request):
        return StreamingResponse(chunks())

    with serving(instrument(Starlette(routes=[Route("/x", stream)]), spans.append)) as url:
        with requests.get(f"{url}/x", stream=True, timeout=5) as answer:
            parts = answer.iter_content(None)
            assert next(parts) == b"first"
            assert spans == []
            before = time.time_ns()
            go.set()
            assert b"".join(parts) == b"last"
        (span,) = ended(spans)
    assert span.start_ns + span.duration_ns >= before
    assert span.first_byte_ns < span.duration_ns


class Sink(list):
    """Spans, and the stacks by the id of their span."""

    def __init__(self):
        super().__init__()
        self.stacks = {}

    __call__ = list.append

    def stack(self, span_id, text):
        self.stacks[span_id] = text


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (None, None),
        (ClientDisconnect(), None),
        (asyncio.CancelledError(), None),
        (OSError("disk full"), "OSError: disk full"),
    ],
)
def test_a_client_that_goes_away_is_no_failure_but_an_exception_then_is_kept(failure, error):
    sink, waiting = Sink(), threading.Event()

    async def wait(request):
        waiting.set()
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        if failure is not None:
            raise failure
        return PlainTextResponse("nobody reads this")

    with serving(instrument(Starlette(routes=[Route("/x", wait)]), sink)) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert waiting.wait(5)
        (span,) = ended(sink)
    assert (span.endpoint, span.status, span.error) == ("/x", 499, error)
    stacks = [text for text in sink.stacks.values() if "raise failure" in text]
    assert len(stacks) == (error is not None)


def test_an_exception_after_the_last_byte_is_a_step_below_the_request():
    sink = Sink()

    async def later():
        raise OSError("mail server away")

    async def start(request):
        return PlainTextResponse("started", background=BackgroundTask(later))

    with serving(instrument(Starlette(routes=[Route("/x", start)]), sink)) as url:
        assert requests.get(f"{url}/x", timeout=5).text == "started"
        span, step = ended(sink, 2)
    assert (span.endpoint, span.status, span.error) == ("/x", 200, None)
    assert (step.endpoint, step.kind, step.status) == ("/x (after the answer)", "internal", None)
    assert (step.parent_id, step.error) == (span.span_id, "OSError: mail server away")
    assert span.start_ns + span.duration_ns <= step.start_ns + 1_000_000
    assert step.start_ns <= time.time_ns()
    assert "raise OSError" in sink.stacks[step.span_id]


def test_a_background_task_does_not_belong_to_the_length():
    spans, done = [], threading.Event()

    async def later():
        await asyncio.to_thread(done.wait, 10)

    async def start(request):
        return PlainTextResponse("started", background=BackgroundTask(later))

    with serving(instrument(Starlette(routes=[Route("/x", start)]), spans.append)) as url:
        assert requests.get(f"{url}/x", timeout=5).text == "started"
        assert len(ended(spans)) == 1
        done.set()


def test_calls_of_many_requests_at_once_stay_in_their_traces():
    spans = []

    async def leaf(request):
        return PlainTextResponse("leaf")

    with serving(instrument(Starlette(routes=[Route("/leaf", leaf)]), spans.append, "leaf")) as to:
        front = fastapi.FastAPI()

        @front.get("/call")
        def call():  # in a thread
            with Session(spans.append, "front") as session:
                return session.get(f"{to}/leaf", timeout=5).text

        @front.get("/acall")
        async def acall():
            await asyncio.sleep(0.01)
            return await asyncio.to_thread(call)

        with serving(instrument(front, spans.append, "front")) as url:
            paths = ["/call", "/acall"] * 10
            with ThreadPoolExecutor(10) as pool:
                texts = pool.map(lambda path: requests.get(url + path, timeout=10).text, paths)
                assert {*texts} == {'"leaf"'}
            found = {span.span_id: span for span in ended(spans, 60)}
    assert len(found) == 60
    for span in found.values():
        if span.service == "leaf":
            client = found[span.parent_id]
            assert (client.kind, client.trace_id) == ("client", span.trace_id)
            assert found[client.parent_id].trace_id == span.trace_id
    roots = [span for span in found.values() if span.parent_id is None]
    assert len({span.trace_id for span in roots}) == 20


def test_what_is_excluded_is_counted_and_its_calls_begin_traces():
    spans = []
    seen = []

    async def health(request):
        from aiops_lab.record.recorder import current_span

        seen.append(current_span.get())
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/health", health), Route("/x", ok)])
    wrapped = instrument(app, spans.append, exclude=["/health"])
    with serving(wrapped) as url:
        assert "X-Trace-Id" not in requests.get(f"{url}/health", timeout=5).headers
        requests.get(f"{url}/x", timeout=5)
        (span,) = ended(spans)
    assert span.endpoint == "/x"
    assert seen == [None]
    assert app.middleware_stack.recorder.left_out == {"/health": 1}


def test_static_files_are_left_out(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    spans = []
    app = Starlette(routes=[Mount("/static", StaticFiles(directory=tmp_path)), Route("/x", ok)])
    with serving(instrument(app, spans.append)) as url:
        assert requests.get(f"{url}/static/a.txt", timeout=5).text == "a"
        requests.get(f"{url}/x", timeout=5)
        (span,) = ended(spans)
    assert span.endpoint == "/x"
    assert app.middleware_stack.recorder.left_out == {"/static/{path}": 1}


def test_the_lifespan_passes_through():
    spans, life = [], []

    @asynccontextmanager
    async def lifespan(app):
        life.append("up")
        yield
        life.append("down")

    with serving(instrument(Starlette(lifespan=lifespan), spans.append), lifespan="on"):
        assert life == ["up"]
    assert life == ["up", "down"]
    assert spans == []


def test_websockets_pass_through_and_are_counted():
    spans, sent = [], []
    incoming = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "hello"},
    ]

    async def echo(websocket):
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    async def receive():
        return incoming.pop(0)

    async def send(message):
        sent.append(message)

    app = instrument(Starlette(routes=[WebSocketRoute("/ws", echo)]), spans.append)
    asyncio.run(app({"type": "websocket", "path": "/ws", "headers": []}, receive, send))
    types = ["websocket.accept", "websocket.send", "websocket.close"]
    assert [message["type"] for message in sent] == types
    assert spans == []
    assert app.middleware_stack.recorder.left_out == {"(websocket)": 1}


def test_a_hanging_request_is_open_under_its_route():
    go = threading.Event()

    class Sink(list):
        opened: dict = {}  # noqa: RUF012
        __call__ = list.append

    async def hang(request):
        await asyncio.to_thread(go.wait, 10)
        return PlainTextResponse("at last")

    sink = Sink()
    app = instrument(Starlette(routes=[Route("/hang/{id}", hang)]), sink)
    with serving(app) as url, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(requests.get, f"{url}/hang/5", timeout=10)
        wait_for(lambda: [s for s in [*sink.opened.values()] if Span(*s).endpoint == "/hang/{id}"])
        (opened,) = [Span(*span) for span in sink.opened.values()]
        assert opened.duration_ns is None
        go.set()
        assert answer.result().text == "at last"
        (span,) = ended(sink)
    assert span.span_id == opened.span_id
    assert sink.opened == {}


def test_an_instrumented_app_in_an_instrumented_app():
    spans = []
    inner = instrument(Starlette(routes=[Route("/x", ok)]), spans.append, "inner")
    outer = instrument(Starlette(routes=[Mount("/in", inner)]), spans.append, "outer")
    with serving(outer) as url:
        requests.get(f"{url}/in/x", timeout=5)
        below, above = ended(spans, 2)
    assert (above.service, below.service) == ("outer", "inner")
    assert below.parent_id == above.span_id
    assert above.endpoint == below.endpoint == "/in/x"


def test_the_page_on_fastapi_runs_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "fastapi.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    orders = {}
    exec(code, orders)
    with serving(orders["app"]) as url:
        assert requests.get(f"{url}/orders/7", timeout=5).json() == {"order": 7}
        assert requests.get(f"{url}/incidents", timeout=5).json() == []
    with orders["store"] as store:
        assert store.spans()["endpoint"].tolist() == ["/orders/{number}"]
    assert main(["explain", "orders.sqlite"]) == 1
    assert "orders.sqlite: 1 span, 1 trace, 1 service" in capsys.readouterr().out
