"""W3C Trace Context, levels 1 and 2: each case of W3C's own harness, over real HTTP.

Like the harness (https://github.com/w3c/trace-context, test/test.py), a client asks a service to
call back and looks at the headers of the callback. Keys of tracestate follow level 2, as the
harness does since June 2026.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import flask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_lab import Session, instrument
from aiops_lab.record.trace_context import (
    KNOWN_FLAGS,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)
from tests.support.serving import serving

TRACE = "12345678901234567890123456789012"
PARENT = "1234567890123456"
VALID = f"00-{TRACE}-{PARENT}-01"
WIRE = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
VALUE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) not in ",=")


class _Callback(BaseHTTPRequestHandler):
    """Keeps the headers of every call as they came."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # noqa: N802
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(self.headers.items())
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


class Harness:
    def __init__(self, service: str, callback: ThreadingHTTPServer) -> None:
        self.address = urlsplit(service).netloc
        self.callback = callback

    def calls(
        self, *headers: tuple[str, str], count: int = 1
    ) -> list[tuple[str, str, int, list[str]]]:
        """Send `headers` and return (trace_id, span_id, flags, tracestate members) of each
        callback.
        """
        self.callback.seen.clear()
        url = f"http://127.0.0.1:{self.callback.server_port}/callback"
        body = json.dumps([{"url": url, "arguments": []}] * count).encode()
        connection = http.client.HTTPConnection(self.address, timeout=5)
        connection.putrequest("POST", "/test")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body)
        assert connection.getresponse().status == 200
        connection.close()
        assert len(self.callback.seen) == count
        return [_read(seen) for seen in self.callback.seen]

    def call(self, *headers: tuple[str, str]) -> tuple[str, str, int, list[str]]:
        return self.calls(*headers)[0]

    def state(self, *values: str) -> list[str]:
        """Return the tracestate members of the callback, which must be in the same trace."""
        trace_id, *_, members = self.call(
            ("traceparent", VALID), *(("tracestate", v) for v in values)
        )
        assert trace_id == TRACE
        return members


def _read(headers: list[tuple[str, str]]) -> tuple[str, str, int, list[str]]:
    parents = [value for name, value in headers if name.lower() == "traceparent"]
    assert len(parents) == 1
    trace_id, span_id, flags = WIRE.fullmatch(parents[0]).groups()
    assert trace_id != "0" * 32
    assert span_id != "0" * 16
    states = [value for name, value in headers if name.lower() == "tracestate"]
    return trace_id, span_id, int(flags, 16), [m for state in states for m in state.split(",")]


@pytest.fixture(scope="module")
def harness():
    app = flask.Flask(__name__)
    session = Session(lambda span: None)

    @app.post("/test")
    def test() -> str:
        for call in flask.request.get_json():
            session.post(call["url"], json=call["arguments"], timeout=5)
        return "ok"

    callback = ThreadingHTTPServer(("127.0.0.1", 0), _Callback)
    callback.seen = []
    thread = threading.Thread(target=callback.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with serving(instrument(app, lambda span: None)) as url:
        yield Harness(url, callback)
    session.close()
    callback.shutdown()
    callback.server_close()
    thread.join()


def test_without_headers_a_trace_starts(harness):
    trace_id, _, flags, members = harness.call()
    assert trace_id != TRACE
    assert flags == KNOWN_FLAGS  # sampled, and its id is random
    assert members == []


def test_a_traceparent_alone_is_continued(harness):
    trace_id, span_id, _, members = harness.call(("traceparent", VALID))
    assert trace_id == TRACE
    assert span_id != PARENT
    assert members == []


@pytest.mark.parametrize("name", ["traceparent", "TraceParent", "TrAcEpArEnT", "TRACEPARENT"])
def test_the_case_of_the_header_name_does_not_matter(harness, name):
    assert harness.call((name, VALID))[0] == TRACE


@pytest.mark.parametrize("name", ["trace-parent", "trace.parent"])
def test_another_header_name_is_not_traceparent(harness, name):
    assert harness.call((name, VALID))[0] != TRACE


def test_two_traceparents_start_a_new_trace(harness):
    other = f"00-{TRACE[:-1]}1-{PARENT}-01"
    assert harness.call(("traceparent", other), ("traceparent", VALID))[0] not in (
        TRACE,
        other[3:35],
    )


@pytest.mark.parametrize("before", ["", " ", "\t", "\t "])
@pytest.mark.parametrize("after", ["", " ", "\t", " \t"])
def test_blanks_around_a_traceparent_are_trimmed(harness, before, after):
    assert harness.call(("traceparent", before + VALID + after))[0] == TRACE


@pytest.mark.parametrize("tail", ["", "-", "-what-the-future-will-be-like", "-a.b"])
def test_a_future_version_may_go_on_after_a_dash(harness, tail):
    trace_id, *_ = harness.call(("traceparent", f"cc-{TRACE}-{PARENT}-01{tail}"))
    assert trace_id == TRACE


INVALID = {
    "version 00 with a dot": f"{VALID}.",
    "version 00 with a tail": f"{VALID}-what-the-future-will-be-like",
    "future version without a dash": f"cc-{TRACE}-{PARENT}-01.what-the-future-will-be-like",
    "version ff": f"ff-{TRACE}-{PARENT}-01",
    "version ff with a tail": f"ff-{TRACE}-{PARENT}-01-x",
    "illegal version, first": f".0-{TRACE}-{PARENT}-01",
    "illegal version, second": f"0.-{TRACE}-{PARENT}-01",
    "version of 3": f"000-{TRACE}-{PARENT}-01",
    "version of 4": f"0000-{TRACE}-{PARENT}-01",
    "version of 1": f"0-{TRACE}-{PARENT}-01",
    "trace id of zeros": f"00-{'0' * 32}-{PARENT}-01",
    "illegal trace id, first": f"00-.{TRACE[1:]}-{PARENT}-01",
    "illegal trace id, last": f"00-{TRACE[:-1]}.-{PARENT}-01",
    "upper-case trace id": f"00-{'ABCDEF' + TRACE[6:]}-{PARENT}-01",
    "trace id of 33": f"00-{TRACE}3-{PARENT}-01",
    "trace id of 31": f"00-{TRACE[1:]}-{PARENT}-01",
    "parent id of zeros": f"00-{TRACE}-{'0' * 16}-01",
    "illegal parent id, first": f"00-{TRACE}-.{PARENT[1:]}-01",
    "illegal parent id, last": f"00-{TRACE}-{PARENT[:-1]}.-01",
    "upper-case parent id": f"00-{TRACE}-ABCDEF{PARENT[6:]}-01",
    "parent id of 17": f"00-{TRACE}-{PARENT}7-01",
    "parent id of 15": f"00-{TRACE}-{PARENT[1:]}-01",
    "illegal flags, first": f"00-{TRACE}-{PARENT}-.0",
    "illegal flags, second": f"00-{TRACE}-{PARENT}-0.",
    "upper-case flags": f"00-{TRACE}-{PARENT}-0F",
    "flags of 3": f"00-{TRACE}-{PARENT}-001",
    "flags of 1": f"00-{TRACE}-{PARENT}-1",
    "digits that are not ASCII": f"00-{TRACE}-{PARENT}-0\u00b2",
    "empty": "",
}


@pytest.mark.parametrize("header", INVALID.values(), ids=INVALID)
def test_an_invalid_traceparent_starts_a_new_trace(harness, header):
    trace_id, _, flags, members = harness.call(("traceparent", header), ("tracestate", "foo=1"))
    assert trace_id not in header
    assert trace_id != TRACE
    assert flags == KNOWN_FLAGS
    assert members == []  # it belonged to the trace that was not understood


@pytest.mark.parametrize(
    ("came", "sent"), [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("ff", 3), ("fc", 0), ("09", 1)]
)
def test_the_known_flags_are_carried_on_and_others_are_cleared(harness, came, sent):
    trace_id, _, flags, _ = harness.call(("traceparent", f"00-{TRACE}-{PARENT}-{came}"))
    assert (trace_id, flags) == (TRACE, sent)


def test_tracestate_without_traceparent_is_discarded(harness):
    assert harness.call(("tracestate", "foo=1"))[3] == []
    assert harness.call(("tracestate", "foo=1,bar=2"))[3] == []


@pytest.mark.parametrize("name", ["tracestate", "TraceState", "TrAcEsTaTe", "TRACESTATE"])
def test_tracestate_is_inherited_whatever_the_case_of_its_name(harness, name):
    assert harness.call(("traceparent", VALID), (name, "foo=1,bar=2"))[3] == ["foo=1", "bar=2"]


@pytest.mark.parametrize("name", ["trace-state", "trace.state"])
def test_another_header_name_is_not_tracestate(harness, name):
    assert harness.call(("traceparent", VALID), (name, "foo=1"))[3] == []


@pytest.mark.parametrize(
    ("values", "members"),
    [
        ([""], []),
        ([",", " , "], []),
        (["foo=1", ""], ["foo=1"]),
        (["", "foo=1"], ["foo=1"]),
        (["foo=1,,bar=2"], ["foo=1", "bar=2"]),
    ],
)
def test_empty_members_are_dropped(harness, values, members):
    assert harness.state(*values) == members


def test_several_tracestate_headers_are_joined_in_order(harness):
    members = harness.state("foo=1,bar=2", "rojo=1,congo=2", "baz=3")
    assert members == ["foo=1", "bar=2", "rojo=1", "congo=2", "baz=3"]


@pytest.mark.parametrize(
    "values", [["foo=1,foo=1"], ["foo=1,foo=2"], ["foo=1", "foo=1"], ["foo=1", "foo=2"]]
)
def test_of_a_repeated_key_the_first_is_kept(harness, values):
    assert harness.state(*values) == ["foo=1"]


@pytest.mark.parametrize(
    "key", [LETTERS, f"{LETTERS}@a-z0-9_-*/", "0a", "foo@", "foo@@bar", "foo@bar@baz"]
)
def test_every_legal_character_is_inherited(harness, key):
    assert harness.state(f"{key}={VALUE},bar=2") == [f"{key}={VALUE}", "bar=2"]


@pytest.mark.parametrize(
    "value",
    [
        "foo=1 \t , \t bar=2, \t baz=3",
        "foo=1\t \t,\t \tbar=2,\t \tbaz=3",
        "\t foo=1,bar=2,baz=3 \t",
    ],
)
def test_blanks_around_members_are_trimmed(harness, value):
    assert harness.state(value) == ["foo=1", "bar=2", "baz=3"]


@pytest.mark.parametrize(
    "member",
    [
        "foo =1",
        "FOO=1",
        "foo.bar=1",
        "@foo=1",
        "-foo=1",
        "=1",
        "foo",
        "foo=",
        "foo=bar=baz",
        "foo=\u00e9",
        "z" * 257 + "=1",
        "foo=" + "z" * 257,
    ],
)
def test_one_illegal_member_discards_the_whole_tracestate(harness, member):
    assert harness.state(f"good=1,{member},bar=2") == []


@pytest.mark.parametrize(
    "key", ["z" * 256, "t" * 241 + "@" + "v" * 14, "t" * 242 + "@v", "t@" + "v" * 15]
)
def test_a_key_may_have_256_characters(harness, key):
    assert harness.state("foo=1", f"{key}=1") == ["foo=1", f"{key}=1"]


def test_a_value_may_have_256_characters(harness):
    assert harness.state("foo=" + "z" * 256) == ["foo=" + "z" * 256]


def test_32_members_are_inherited_and_33_are_not(harness):
    members = [f"bar{n:02}={n:02}" for n in range(1, 34)]
    parts = [",".join(members[i : i + 10]) for i in range(0, 32, 10)]
    assert harness.state(*parts[:3], "bar31=31,bar32=32") == members[:32]
    assert harness.state(*parts) == []


def test_calls_of_one_request_share_its_trace_and_not_their_ids(harness):
    calls = harness.calls(("traceparent", VALID), count=3)
    assert {trace_id for trace_id, *_ in calls} == {TRACE}
    assert len({span_id for _, span_id, *_ in calls}) == 3


@pytest.mark.parametrize("headers", [[], [("traceparent", f"00-{'0' * 32}-{PARENT}-01")]])
def test_calls_of_a_request_without_a_trace_share_a_new_one(harness, headers):
    calls = harness.calls(*headers, count=3)
    (trace_id,) = {trace_id for trace_id, *_ in calls}
    assert trace_id != "0" * 32
    assert len({span_id for _, span_id, *_ in calls}) == 3


# The same, without a network.

ids = st.tuples(
    st.integers(1, 2**128 - 1).map(lambda n: f"{n:032x}"),
    st.integers(1, 2**64 - 1).map(lambda n: f"{n:016x}"),
    st.integers(0, 3),
)


@given(ids)
def test_what_is_written_is_read_again(context):
    assert parse_traceparent(format_traceparent(*context)) == context


@given(ids, st.integers(0, 255), st.text("0123456789abcdef-.xyz ", max_size=6))
def test_a_known_prefix_decides_by_version_and_tail(context, version, tail):
    read = parse_traceparent(f"{version:02x}-" + format_traceparent(*context)[3:] + tail)
    blank = tail.strip(" ") == ""
    fine = blank if version == 0 else blank or tail.startswith("-")
    assert read == (context if fine and version != 255 else None)


@given(st.one_of(st.text(), st.text("0123456789abcdefABCDEF-, \t\n", max_size=70)))
def test_whatever_is_accepted_can_be_sent_on(text):
    read = parse_traceparent(text)
    assert read is None or WIRE.fullmatch(format_traceparent(*read))


@given(st.text("ab=@,; \t\u00e9", max_size=40))
def test_a_kept_tracestate_is_stable(text):
    kept = parse_tracestate(text)
    assert parse_tracestate(kept) == kept
    assert len(kept) <= len(text)


def test_new_ids_make_a_valid_header():
    trace_id, span_id = new_trace_id(), new_span_id()
    assert parse_traceparent(format_traceparent(trace_id, span_id)) == (
        trace_id,
        span_id,
        KNOWN_FLAGS,
    )


@given(parent=st.binary(max_size=80), state=st.binary(max_size=80), path=st.binary(max_size=20))
def test_no_header_bytes_fail_a_request(parent, state, path):
    spans = []
    app = instrument(lambda environ, start: (start("200 OK", []), [b"ok"])[1], spans.append)
    environ = {
        "HTTP_TRACEPARENT": parent.decode("latin-1"),
        "HTTP_TRACESTATE": state.decode("latin-1"),
        "PATH_INFO": "/" + path.decode("latin-1"),
    }
    assert app(environ, lambda status, headers: None) == [b"ok"]
    assert spans[0].status == 200
    spans[0].endpoint.encode()  # can be stored


@given(state=st.binary(max_size=80))
def test_no_tracestate_bytes_fail_a_request_that_continues_a_trace(state):
    app = instrument(lambda environ, start: (start("200 OK", []), [b"ok"])[1], lambda span: None)
    environ = {"HTTP_TRACEPARENT": VALID, "HTTP_TRACESTATE": state.decode("latin-1")}
    assert app(environ, lambda status, headers: None) == [b"ok"]
