"""Part 3: what recording adds to a request, by what OpenTelemetry adds; and whether all is kept."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import flask

from aiops_lab import SpanStore, instrument
from benchmarks.ratios.measured import Measured
from benchmarks.recording import GOAL_IN, GOAL_OUT, measure_inbound, measure_outbound

REQUESTS, THREADS = 2000, 8
ROUTES = ("/plain", "/stream", "/fails", "/abandoned")


def titles(large: bool) -> tuple[str, str, str]:
    """Return the titles of what is added to a request and to a call, and of the loss."""
    return (
        "CPU time that recording adds to a request, store included, by OpenTelemetry's",
        "CPU time that recording adds to a call of Session, store included, by OpenTelemetry's",
        f"spans lost of {REQUESTS:,} requests on {THREADS} threads: plain, streams, exceptions",
    )


def measure(large: bool) -> Iterator[Measured]:
    """Yield two ratios of added CPU time, both sides with every span handed over, and the loss."""
    request, call, loss = titles(large)
    with tempfile.TemporaryDirectory() as folder:
        sides = (
            (request, measure_inbound(Path(folder)), GOAL_IN),
            (call, measure_outbound(Path(folder)), GOAL_OUT),
        )
        for title, rounds, goal in sides:
            ratios = _ratios(rounds)
            quarter, _, three = statistics.quantiles(ratios, n=4)
            note = f"quartiles of the rounds {quarter:.3f} to {three:.3f}"
            yield Measured(3, title, statistics.median(ratios), goal, note=note)
        lost = _lost(Path(folder) / "kept.sqlite")
    yield Measured(3, loss, lost, 0, "spans")


def _ratios(rounds: dict[str, list[float]]) -> list[float]:
    return [
        (ours - bare) / (theirs - bare)
        for bare, ours, theirs in zip(
            rounds["bare"], rounds["aiops_lab"], rounds["opentelemetry"], strict=True
        )
    ]


def _lost(path: Path) -> int:
    """Return how many spans are missing after requests of Flask's test client by many threads."""
    with SpanStore(path, capacity=1_000_000) as store:
        app = instrument(_app(), store)

        def ask(number: int) -> None:
            with suppress(RuntimeError), app.test_client() as client:
                answer = client.get(ROUTES[number % len(ROUTES)], buffered=number % 3 == 0)
                if number % len(ROUTES) != 3:
                    answer.get_data()

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(ask, range(REQUESTS)))
        store.flush()
        kept = store.spans()
    ended = kept["duration_ms"].notna() & (kept["kind"] == "server")
    return REQUESTS - int(kept.loc[ended, "span_id"].nunique()) + store.dropped


def _app() -> flask.Flask:
    app = flask.Flask(__name__)
    app.logger.disabled = True  # of exceptions that are meant
    app.add_url_rule("/plain", "plain", lambda: "ok")
    app.add_url_rule("/stream", "stream", lambda: flask.Response(iter(["a", "b", "c"])))
    app.add_url_rule("/abandoned", "abandoned", lambda: flask.Response(iter(["a", "b"])))

    @app.get("/fails")
    def fails() -> str:
        raise RuntimeError("as planned")

    return app
