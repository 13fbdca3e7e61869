"""Whatever a sender of traces sends, it is taken or refused with a reason: no 500, no hang."""

from __future__ import annotations

import gzip
import json

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from aiops_lab import SpanStore
from aiops_lab.show.otlp import otlp_receiver
from tests.formats.test_mutated import (
    changed,
    changes,
    documents,
    ended_in_time,
    swapped,
    swaps,
    written,
)
from tests.support.fuzzing import bounded

JSON, PROTOBUF = "application/json", "application/x-protobuf"
EXAMPLES = 60

pytest.importorskip("opentelemetry.proto")


def message():
    """The first message of a file, before which its length stands."""
    data = written("otlp-protobuf")
    return data[4 : 4 + int.from_bytes(data[:4], "big")]


@pytest.fixture(scope="module")
def send(tmp_path_factory):
    """A function that posts to a receiver, and checks that the answer is one of OTLP's."""
    app = Flask("receiver", static_folder=None)
    with SpanStore(tmp_path_factory.mktemp("otlp") / "s.sqlite") as store:
        app.register_blueprint(otlp_receiver(store))
        client = app.test_client()

        def post(body, kind, **headers):
            with ended_in_time():
                answer = client.post("/v1/traces", data=body, content_type=kind, headers=headers)
            assert answer.status_code in (200, 400, 413, 415)
            return answer

        yield post
        store.flush()
        assert store.dropped == 0


@bounded(EXAMPLES)
@given(some=st.lists(changes, max_size=4), packed=st.booleans(), cut=st.floats(0.5, 1))
def test_changed_bytes_of_protobuf_are_taken_or_refused(send, some, packed, cut):
    body = message()
    for change in some:
        body = changed(body, change)
    if not packed:
        send(body, PROTOBUF)
        return
    body = gzip.compress(body)
    send(body[: int(cut * len(body))], PROTOBUF, **{"Content-Encoding": "gzip"})


@bounded(EXAMPLES)
@given(some=st.lists(swaps, max_size=3), which=st.integers(0, 100))
def test_changed_values_of_json_are_taken_or_refused(send, some, which):
    values = documents("otlp")
    value = values[which % len(values)]
    for share, kind, odd in some:
        swapped(value, share, kind, odd)
    send(json.dumps(value).encode(), JSON)


@bounded(EXAMPLES)
@given(body=st.binary(max_size=200), kind=st.sampled_from([JSON, PROTOBUF]))
def test_any_bytes_are_taken_or_refused(send, body, kind):
    answer = send(body, kind)
    if answer.status_code == 400 and kind == JSON:
        assert answer.json["message"].startswith("body must be ")


def test_what_was_not_changed_is_taken(send):
    assert send(message(), PROTOBUF).status_code == 200
    for document in documents("otlp"):
        assert send(json.dumps(document).encode(), JSON).json == {}
