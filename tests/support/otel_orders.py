"""A service that knows only OpenTelemetry: ``python otel_orders.py SLOW``.

It is an ordinary Flask app with a database, its traces sent where OTEL_EXPORTER_OTLP_ENDPOINT says.
Prints its port. One of its two statements is slow while the file SLOW exists.
"""

import sqlite3
import sys
import time
from pathlib import Path

from cheroot import wsgi
from flask import Flask
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def orders(slow: Path) -> Flask:
    app = Flask("orders")

    def lock_wait() -> int:
        time.sleep(0.08 if slow.exists() else 0.002)
        return 1

    def connected() -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:")
        connection.create_function("lock_wait", 0, lock_wait)
        connection.execute("CREATE TABLE items (id INTEGER, price REAL)")
        return connection

    @app.get("/orders/<int:number>")
    def order(number: int) -> dict[str, int]:
        cursor = connected().cursor()
        cursor.execute("SELECT name FROM sqlite_master WHERE name = 'items'").fetchall()
        cursor.execute("SELECT lock_wait() + ?", (number,)).fetchall()
        return {"order": number}

    @app.get("/health")
    def health() -> str:
        return "ok"

    return app


def main() -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=200))
    trace.set_tracer_provider(provider)
    SQLite3Instrumentor().instrument()
    app = orders(Path(sys.argv[1]))
    FlaskInstrumentor().instrument_app(app)
    server = wsgi.Server(("127.0.0.1", 0), app, numthreads=4)
    server.prepare()
    print(server.bind_addr[1], flush=True)
    server.serve()


if __name__ == "__main__":
    main()
