"""Secrets in the texts of errors are not stored."""

from __future__ import annotations

import copy
import pickle

import pytest
import requests
from flask import Flask

import aiops_lab as lab
from aiops_lab.record.recorder import Recorder
from aiops_lab.record.redaction import redact_secrets

SECRET = "hunter2secret"

TEXTS = (
    f"https://ann:{SECRET}@pay.example/x",
    f"redis://:{SECRET}@cache:6379/0",
    f"Max retries exceeded with url: /pay?card={SECRET}&x=1 (Caused by ...)",
    f"https://pay.example/?key={SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"{{'Authorization': 'Basic {SECRET}=='}}",
    f"refused: Bearer {SECRET}",
    f"password={SECRET}, user=ann",
    f'connect(db_password = "{SECRET}")',
    f'{{"api_key": "{SECRET} and more {SECRET}"}}',
    f"X-Api-Key: {SECRET}",
    f"access_token={SECRET}",
    f"Set-Cookie: {SECRET}; Path=/",
)
HARMLESS = (
    "ValueError: half_life must be > 0, got -1",
    "ConnectionError: HTTPConnectionPool(host='127.0.0.1', port=80): Max retries: /pay",
    "KeyError: 'password'",
    "Is it there? a=1",
    "http://pay.example:8080/orders/7",
    'File "/app/tokens.py", line 3, in token',
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_hidden(text):
    assert SECRET not in redact_secrets(text)
    assert "***" in redact_secrets(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays(text):
    assert redact_secrets(text) == text


def failing_app() -> Flask:
    app = Flask(__name__)

    @app.get("/pay")
    def pay():
        try:
            raise ValueError(f"https://ann:{SECRET}@bank.example/")
        except ValueError as error:
            raise RuntimeError(f"token={SECRET}") from error

    return app


def test_neither_the_error_nor_the_stack_with_its_chain_holds_a_secret(tmp_path):
    path = tmp_path / "spans.sqlite"
    with lab.SpanStore(path) as store:
        app = lab.instrument(failing_app(), store)
        assert app.test_client().get("/pay").status_code == 500
        store.flush()
        (row,) = store.spans().itertuples()
        assert row.error == "RuntimeError: token=***"
        stack = store.stack_of(row.span_id)
        assert "ValueError: https://***@bank.example/" in stack
    assert all(SECRET.encode() not in each.read_bytes() for each in tmp_path.iterdir())


def test_a_call_that_fails_is_stored_without_its_query():
    spans: list[lab.Span] = []
    with lab.Session(spans.append) as session, pytest.raises(requests.ConnectionError):
        session.get(f"http://ann:{SECRET}@127.0.0.1:9/pay?card={SECRET}")
    (span,) = spans
    assert SECRET not in repr(span)
    assert span.error.startswith("ConnectionError: ")


def test_a_function_of_ones_own_decides():
    spans: list[lab.Span] = []
    app = lab.instrument(failing_app(), spans.append, redact=lambda text: text[:12])
    app.test_client().get("/pay")
    assert spans[0].error == "RuntimeError"


@pytest.mark.parametrize("redact", [lambda text: 1 / 0, lambda text: None])
def test_where_it_fails_nothing_of_the_text_is_stored(redact):
    spans: list[lab.Span] = []
    app = lab.instrument(failing_app(), spans.append, redact=redact)
    assert app.test_client().get("/pay").status_code == 500
    assert spans[0].error == "(not redacted)"


def test_a_request_that_succeeds_does_not_call_it():
    texts: list[str] = []
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: "fine")
    app = lab.instrument(app, lambda span: None, redact=texts.append)
    app.test_client().get("/")
    assert texts == []


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match="redact must be a function that takes a text, got 'x'"):
        lab.Session(print, redact="x")


@pytest.mark.parametrize("changes", [False, True])
def test_a_copy_redacts_and_stores_as_what_it_was_made_from(changes):
    recorder = Recorder(print, "shop", str.upper, changes_ended=changes)
    for copied in (pickle.loads(pickle.dumps(recorder)), copy.deepcopy(recorder)):
        assert copied.redacted("a") == "A"
        assert copied.changes_ended == changes
