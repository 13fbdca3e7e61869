"""What does recording cost? This project and OpenTelemetry side by side: ``python -m
benchmarks.recording``.

CPU time of all threads (``process_time``), direct WSGI calls, so that neither a socket nor a second
process is in the figures. Every span of ours is durable when the clock stops.

The variants take turns in short rounds, so that a busy machine is busy for all three of a round.
The ratio is the median over the rounds of (ours - bare) / (peer - bare), each within one round. The
least cost of each variant would compare moments that were minutes apart, and the mean would follow
a few disturbed rounds; the median of paired ratios does neither, and half of the rounds may be
disturbed.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import requests
from requests.adapters import BaseAdapter
from werkzeug.test import create_environ

from aiops_lab import Session, SpanStore, instrument

ROUNDS, REQUESTS, CALLS = 40, 1000, 1000
GOAL_IN, GOAL_OUT, GOAL_IMPORT = 0.08, 0.15, 1.3
INSTALL = "the peers are missing: pip install -e '.[bench]'"
Variant = tuple[Callable[[], None], Callable[[], None]]  # one request, wait until all is written


def main() -> None:
    """Print the tables; exit with 1 where a goal is missed."""
    try:
        import opentelemetry.instrumentation.flask
        import opentelemetry.instrumentation.requests  # noqa: F401
    except ImportError:
        sys.exit(INSTALL)
    with tempfile.TemporaryDirectory() as folder:
        inbound = measure_inbound(Path(folder))
        outbound = measure_outbound(Path(folder))
    missed = [
        show("inbound: one Flask request with a traceparent", inbound, GOAL_IN),
        show("outbound: one call of a requests.Session", outbound, GOAL_OUT),
        show_imports(),
    ]
    sys.exit(1 if any(missed) else 0)


def measure_inbound(folder: Path) -> dict[str, list[float]]:
    """Return microseconds of CPU time a request, one figure a round: bare, with ours, with
    OpenTelemetry.
    """
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    provider, exported = _provider()
    observed = _app()
    FlaskInstrumentor().instrument_app(observed, tracer_provider=provider)
    with SpanStore(folder / "inbound.sqlite", capacity=1_000_000) as store:
        variants: dict[str, Variant] = {
            "bare": (_request(_app()), _nothing),
            "aiops_lab": (_request(instrument(_app(), store)), store.flush),
            "opentelemetry": (_request(observed), provider.force_flush),
        }
        figures = _take_turns(variants, REQUESTS)
        _check_all(store, exported, (ROUNDS + 1) * REQUESTS)
    provider.shutdown()
    return figures


def measure_outbound(folder: Path) -> dict[str, list[float]]:
    """Return microseconds of CPU time a call, over an adapter that answers without a network."""
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    provider, exported = _provider()
    instrumentor = RequestsInstrumentor()
    with SpanStore(folder / "outbound.sqlite", capacity=1_000_000) as store:
        variants: dict[str, Variant] = {
            "bare": (_call(requests.Session()), _nothing),
            "aiops_lab": (_call(Session(store)), store.flush),
            # It patches the class, so it is switched on for its own turn only.
            "opentelemetry": (_call(requests.Session()), provider.force_flush),
        }
        figures = _take_turns(
            variants,
            CALLS,
            before={"opentelemetry": lambda: instrumentor.instrument(tracer_provider=provider)},
            after={"opentelemetry": instrumentor.uninstrument},
        )
        _check_all(store, exported, (ROUNDS + 1) * CALLS)
    provider.shutdown()
    return figures


def show(title: str, rounds: dict[str, list[float]], goal: float) -> bool:
    """Print one table of medians and return whether the goal is missed."""
    bare = rounds["bare"]
    added = {
        name: [cost - base for cost, base in zip(costs, bare, strict=True)]
        for name, costs in rounds.items()
    }
    peer = added["opentelemetry"]
    print(
        f"\n{title}, medians of {len(bare)} "
        f"rounds\n{'':16}{'µs':>8}{'added':>8}{'÷ opentelemetry':>18}"
    )
    for name, costs in rounds.items():
        ratios = [ours / theirs for ours, theirs in zip(added[name], peer, strict=True)]
        middle = map(statistics.median, (costs, added[name], ratios))
        print("{:16}{:8.1f}{:8.1f}{:18.3f}".format(name, *middle))
    return _judge(
        statistics.median(
            ours / theirs for ours, theirs in zip(added["aiops_lab"], peer, strict=True)
        ),
        goal,
    )


def show_imports() -> bool:
    """Print what an import costs in a fresh interpreter, and return whether the goal is missed."""
    lines = [
        "import flask",
        "import aiops_lab",
        "from aiops_lab import instrument, Session, SpanStore",
    ]
    costs: dict[str, list[float]] = {line: [] for line in ["pass", *lines]}
    for _ in range(7):
        for line, seconds in costs.items():
            seconds.append(_children_cpu(line))
    empty, *rest = (statistics.median(seconds) for seconds in costs.values())
    print(f"\nimports in a fresh interpreter\n{'':54}{'ms':>8}{'÷ flask':>10}")
    ratios = [(cost - empty) / (rest[0] - empty) for cost in rest]
    for line, cost, ratio in zip(lines, rest, ratios, strict=True):
        print(f"{line:54}{(cost - empty) * 1e3:8.0f}{ratio:10.2f}")
    return _judge(max(ratios[1:]), GOAL_IMPORT)


def _judge(ratio: float, goal: float) -> bool:
    missed = ratio > goal
    print(f"{ratio:.3f}, goal at most {goal}: {'MISSED' if missed else 'reached'}")
    return missed


def _take_turns(
    variants: dict[str, Variant],
    times: int,
    before: dict[str, Callable[[], Any]] | None = None,
    after: dict[str, Callable[[], Any]] | None = None,
) -> dict[str, list[float]]:
    """Return the cost of each variant in µs, round by round; the first round warms up and does not
    count.
    """
    costs: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(ROUNDS + 1):
        for name, (act, wait) in variants.items():
            (before or {}).get(name, _nothing)()
            gc.collect()
            start = time.process_time()
            for _ in range(times):
                act()
            wait()
            cost = time.process_time() - start
            (after or {}).get(name, _nothing)()
            if turn > 0:
                costs[name].append(cost / times * 1e6)
    return costs


def _check_all(store: SpanStore, exported: list[int], expected: int) -> None:
    kept = len(store.spans())
    print(f"spans: {expected} expected, {kept} in the store, {sum(exported)} exported by the peer")
    if kept != expected or store.dropped:
        sys.exit(f"{expected - kept} spans were lost")


def _app() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get("/item/<int:number>")
    def item(number: int) -> str:
        return "ok"

    return app


def _request(app: flask.Flask) -> Callable[[], None]:
    header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    environ = create_environ("/item/7", headers={"traceparent": header})

    def act() -> None:
        body = app(dict(environ), _start_response)
        for _ in body:
            pass
        body.close()  # type: ignore[attr-defined]

    return act


def _start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
    if status != "200 OK":
        sys.exit(f"the application answered {status}")


class _Answer(BaseAdapter):
    """Answers at once, so that only the work of the session is measured."""

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        answer = requests.Response()
        answer.status_code = 200
        answer._content = b"ok"
        answer.request = request
        answer.url = request.url or ""
        return answer

    def close(self) -> None:
        pass


def _call(session: requests.Session) -> Callable[[], None]:
    session.mount("http://", _Answer())
    session.trust_env = False
    return lambda: None if session.get("http://127.0.0.1:5000/item/7") else None


def _provider() -> tuple[Any, list[int]]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    exported: list[int] = []

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            exported.append(len(spans))
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return provider, exported


def _children_cpu(line: str) -> float:
    """Return the CPU seconds that a fresh interpreter needs for `line`, by its own clock."""
    code = f"{line}\nimport time; print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _nothing() -> None:
    pass


if __name__ == "__main__":
    main()
