"""A frame becomes integers once, whatever its columns are made of; slices stay consistent."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.endpoints import display_names
from aiops_lab.spans import TEXT_COLUMNS
from aiops_lab.traces import encode
from tests.support.columnar import columnar, plain
from tests.support.made import BEGIN, Shop
from tests.support.traces import span

IDS = ["trace_id", "span_id", "parent_id"]
NAMES = ["service", "endpoint", "kind", "peer"]
MS = 1_000_000


def arrow(frame):
    """Return the frame as a columnar store holds it: Arrow strings and categories."""
    text = pd.StringDtype("pyarrow")
    return frame.astype(dict.fromkeys(IDS, text) | dict.fromkeys(NAMES, "category"))


def plain_strings(frame):
    return frame.astype(dict.fromkeys(IDS + NAMES, pd.StringDtype("python")))


def all_categories(frame):
    return frame.astype(dict.fromkeys(IDS + NAMES, "category"))


def with_unused_categories(frame):
    """Return the frame as `columnar` makes it, with names that no span has."""
    made = columnar(frame)
    for name in (*NAMES, "error"):
        made[name] = made[name].cat.add_categories(["never seen", "a name of another recording"])
    return made


def objects(frame):
    """Return the frame as it was made before, its texts objects, None where one is missing."""
    texts = frame.columns.intersection([*TEXT_COLUMNS])
    return frame.assign(**dict(plain(frame)[texts].items()))


def objects_with_nan(frame):
    """Return the frame as pandas 2 makes it of a file."""
    return frame.astype(dict.fromkeys(IDS + NAMES + ["error"], object))


COLUMNAR = [
    pytest.param(objects, id="objects"),
    pytest.param(objects_with_nan, id="nan"),
    pytest.param(columnar, id="columnar"),
    pytest.param(with_unused_categories, id="unused"),
    pytest.param(plain_strings, id="strings"),
    pytest.param(all_categories, id="categories"),
    pytest.param(arrow, id="arrow"),
]


def needs(stored):
    if stored is arrow:
        pytest.importorskip("pyarrow")


def arrays(spans):
    every = {name: getattr(spans, name) for name in encode.ARRAYS} | spans.ids._asdict()
    return {name: array.tolist() for name, array in every.items()}


def call(n, parent, service, endpoint, kind, start_ms, ms=5, peer=None, status=200):
    parent_id = None if parent is None else f"{parent:016x}"
    times = BEGIN + start_ms * MS, None if ms is None else ms * MS
    ids = f"{1:032x}", f"{n:016x}", parent_id
    return lab.Span(*ids, service, endpoint, kind, peer, *times, status, None)


@pytest.mark.parametrize("stored", COLUMNAR)
def test_columns_of_any_text_type_are_encoded_alike(stored):
    needs(stored)
    frame = Shop(3).run(20)
    expected, got = encode.encode(frame), encode.encode(stored(frame))
    assert arrays(got) == arrays(expected)
    assert (got.keys, got.services) == (expected.keys, expected.services)


@pytest.mark.parametrize("stored", COLUMNAR)
def test_part_of_a_frame_is_encoded_as_if_it_stood_alone(stored):
    """Arrow strings keep their buffer when they are sliced; what lies before must not count."""
    needs(stored)
    frame = Shop(3).run(20)
    expected = encode.encode(frame.iloc[7:60].reset_index(drop=True))
    got = encode.encode(stored(frame).iloc[7:60].reset_index(drop=True))
    assert arrays(got) == arrays(expected)


def test_columns_hold_no_python_objects_where_pyarrow_is_installed():
    pytest.importorskip("pyarrow")
    frame = columnar(Shop(3).run(5))
    assert np.dtype(object) not in frame.dtypes.tolist()
    assert set(frame.columns[frame.dtypes == "category"]) == {*NAMES, "error", "method", "instance"}


def test_ids_that_arrow_cannot_hold_stay_as_they_are():
    objects = Shop(3).run(5).astype({"span_id": object})
    frame = objects.replace({"span_id": {f"{2:016x}": "\ud800"}})
    assert columnar(frame)["span_id"].tolist() == frame["span_id"].tolist()


def test_known_endpoints_keep_their_codes_and_served_ones_come_first():
    frame = lab.to_frame(
        [
            call(1, None, "a", "/a", "server", 0, 50),
            call(2, 1, "a", "/lost", "client", 1, peer="c"),
            call(3, 1, "b", "/b", "server", 2),
        ]
    )
    spans = encode.encode(frame, [("b", "/b")])
    assert spans.keys == [("b", "/b"), ("a", "/a"), ("c", "/lost")]
    assert spans.node.tolist() == [1, 2, 0]


def test_a_path_that_is_itself_known_is_not_folded():
    frame = lab.to_frame(
        [
            call(1, None, "a", "/a", "server", 0, 50),
            call(2, 1, "a", "/orders/new", "client", 1, peer="shop"),
            call(3, 1, "a", "/orders/17", "client", 2, peer="shop"),
        ]
    )
    known = [("shop", "/orders/<id>"), ("shop", "/orders/new")]
    spans = encode.encode(frame, known)
    assert [spans.keys[node] for node in spans.node[1:]] == [known[1], known[0]]


def test_a_client_span_without_a_peer_is_about_no_known_service():
    frame = lab.to_frame([call(1, None, "a", "/x", "client", 0)])
    spans = encode.encode(frame)
    assert spans.keys == [(encode.NO_PEER, "/x")]
    assert spans.has_peer.tolist() == [False]


def test_a_slice_has_the_parents_that_are_in_it():
    spans = encode.encode(Shop(3).run(5))
    mask = spans.server
    part = spans.select(mask)
    assert (part.ids.parent == -1).all()
    assert part.row.tolist() == np.flatnonzero(mask).tolist()
    every = spans.select(np.ones(mask.size, dtype=bool))
    assert arrays(every) == arrays(spans)
    tail = spans.select(np.arange(mask.size) >= 10)
    linked = np.flatnonzero(tail.ids.parent >= 0)
    assert linked.size > 5
    assert (tail.row[tail.ids.parent[linked]] == spans.ids.parent[tail.row[linked]]).all()


def test_a_slice_of_a_slice_still_finds_its_texts():
    frame = Shop(3).run(5)
    spans = encode.encode(frame)
    part = spans.select(spans.server).select(np.arange(int(spans.server.sum())) % 2 == 0)
    expected = frame.loc[frame["kind"] == "server", "span_id"].iloc[::2]
    assert part.texts("span_id", np.arange(3)).tolist() == expected.head(3).tolist()


def test_as_of_a_moment_nothing_later_is_known():
    frame = lab.to_frame(
        [
            call(1, None, "a", "/gone", "server", 0, 5),
            call(2, None, "a", "/over", "server", 0, 20),
            call(3, None, "a", "/running", "server", 10, 90, status=500),
            call(4, None, "a", "/later", "server", 40, 5),
        ]
    )
    spans = encode.encode(frame).as_of(BEGIN + 8 * MS, BEGIN + 30 * MS)
    assert spans.row.tolist() == [1, 2]
    assert spans.end.tolist() == [BEGIN + 20 * MS, encode.NEVER]
    assert spans.failed.tolist() == [False, False]
    assert spans.status.tolist() == [200, 0]
    rows = spans.to_rows()
    assert rows["endpoint"].tolist() == ["/over", "/running"]
    assert rows["duration_ms"].isna().tolist() == [False, True]
    assert rows["status"].tolist() == [200, 0]
    lab.check(rows)


def test_the_rows_of_untouched_spans_are_the_frame_itself():
    frame = Shop(3).run(2)
    assert encode.encode(frame).to_rows() is frame


def test_only_own_keys_leaves_out_what_no_span_is_about():
    spans = encode.encode(Shop(3).run(5), [("old", "/gone")])
    part = spans.select(spans.node == spans.node[0]).only_own_keys()
    assert part.keys == [spans.keys[spans.node[0]]]
    assert set(part.node.tolist()) == {0}


def test_every_array_of_the_encoding_is_sliced():
    names = [f.name for f in dataclasses.fields(encode.EncodedSpans)]
    assert set(names) - set(encode.ARRAYS) == {"source", "keys", "services", "methods", "addresses"}


def test_all_slices_of_an_encoding_share_one_parse(monkeypatch):
    parsed = []
    find_parents = encode.find_parents
    monkeypatch.setattr(
        encode, "find_parents", lambda frame: parsed.append(1) or find_parents(frame)
    )
    spans = encode.encode(Shop(3).run(5))
    assert parsed == []
    parts = (
        spans.select(spans.server),
        spans.select(spans.client).select(spans.end[spans.client] > 0),
    )
    assert all(part.ids.trace.size == part.row.size for part in parts)
    assert parsed == [1]


def test_subtrees_are_the_tops_with_all_that_hangs_below():
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 90),
            span(2, 4, "/d", "server", 40, 5),
            span(3, 1, "/b", "server", 1, 5),
            span(4, 5, "/c", "client", 30, 20, peer="shop"),
            span(5, 1, "/top", "server", 20, 50),
        ]
    )
    spans = encode.encode(frame)
    part, position = encode.subtrees_of(spans, np.arange(5) == 2)
    assert position.tolist() == [2, 3, 4]
    assert part.row.tolist() == [2, 3, 4]


def test_the_topmost_span_above_each_is_found():
    made = [span(n, n - 1 if n > 1 else None, "/a", "server", n, 50 - n) for n in range(1, 6)]
    spans = encode.encode(lab.to_frame([*made, span(9, 8, "/b", "server", 9, 5)]))
    assert spans.tops().tolist() == [0, 0, 0, 0, 0, 5]
    assert spans.select(np.arange(6) > 1).tops().tolist() == [0, 0, 0, 3]


def test_the_nearest_server_span_above_each_is_found():
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 90),
            span(2, 1, "work", "internal", 1, 80),
            span(3, 2, "/b", "client", 2, 70, peer="shop"),
            span(4, 3, "/b", "server", 3, 60),
            span(5, 4, "line", "log", 4, 0),
            span(6, None, "/a", "client", 5, 50, trace=2, peer="shop"),
            span(7, 6, "work", "internal", 6, 40, trace=2),
        ]
    )
    above = encode.encode(frame).server_above
    assert above.tolist() == [-1, 0, 0, 0, 3, -1, -1]


def test_what_sends_a_message_to_a_named_peer_calls_it():
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 90),
            span(2, 1, "mail", "producer", 1, 5, peer="queue"),
            span(3, 1, "mail", "producer", 2, 5),
        ]
    )
    spans = encode.encode(frame)
    assert spans.client.tolist() == [False, True, False]
    assert spans.queued.tolist() == [False, True, True]
    about = [spans.keys[node] for node in spans.node]
    assert about == [("shop", "/a"), ("queue", "mail"), ("shop", "mail")]


def test_a_call_to_an_address_is_about_the_service_that_served_it():
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 90, service="a"),
            span(2, 1, "/b", "client", 1, 50, service="a", peer="10.0.0.7:80"),
            span(3, 2, "/b", "server", 2, 40, service="b"),
        ]
    )
    spans = encode.encode(frame)
    assert spans.keys == [("a", "/a"), ("b", "/b")]
    assert spans.addresses == {("a", "10.0.0.7:80"): "b"}


def test_durations_and_the_end_of_a_recording_leave_out_what_is_open():
    frame = lab.to_frame(
        [span(1, None, "/a", "server", 0, 90), span(2, None, "/b", "server", 10, None)]
    )
    spans = encode.encode(frame)
    np.testing.assert_array_equal(spans.duration_ms, [90.0, np.nan])
    assert spans.last_ns == BEGIN + 90 * MS
    assert spans.select(~spans.server).last_ns == 0


def test_as_of_includes_its_first_moment_and_not_its_last():
    spans = encode.encode(
        lab.to_frame(
            [
                span(1, None, "/a", "server", 0, 10),
                span(2, None, "/b", "server", 5, 25),
                span(3, None, "/c", "server", 30, 9),
            ]
        )
    )
    then = spans.as_of(BEGIN + 10 * MS, BEGIN + 30 * MS)
    assert then.row.tolist() == [0, 1]
    assert then.end.tolist() == [BEGIN + 10 * MS, encode.NEVER]


def test_a_status_of_500_or_more_or_none_is_a_failure():
    made = [span(n, None, "/a", "server", n, 1, status=s) for n, s in enumerate((499, 500, 0, 1))]
    assert encode.is_failed(lab.to_frame(made)).tolist() == [False, True, True, False]


def test_names_are_short_where_no_two_services_share_a_route():
    keys = [("a", "/x"), ("b", "/x"), ("b", "/y"), ("b", "/y")]
    names = display_names(keys)
    assert names == {("a", "/x"): "a /x", ("b", "/x"): "b /x", ("b", "/y"): "/y"}


def test_what_has_no_status_has_a_number_that_is_none():
    """Neither 0, which is a lost answer, nor a failure."""
    made = [span(1, None, "/a", "server", 0, 9), span(2, 1, "work", "internal", 1, 5, status=None)]
    spans = encode.encode(lab.to_frame(made))
    assert spans.status.tolist() == [200, -1]
    assert not spans.failed.any()


# Methods and paths.


def request(n: int, method: str | None, endpoint: str = "/users", **fields: object) -> lab.Span:
    whole = {
        "trace_id": f"{n:032x}",
        "span_id": f"{n:016x}",
        "parent_id": None,
        "service": "accounts",
        "endpoint": endpoint,
        "kind": "server",
        "peer": None,
        "start_ns": 1_790_000_000 * 10**9 + n,
        "duration_ns": 10**6,
        "status": 200,
        "error": None,
        "method": method,
    }
    return lab.Span(**whole | fields)


def endpoints(spans: list[lab.Span], **before: object) -> list[str]:
    encoded = encode.encode(lab.to_frame(spans), **before)
    return [encoded.keys[node][1] for node in encoded.node]


def made_call(n: int, method: str | None, path: str) -> lab.Span:
    return request(n, method, path, kind="client", service="shop", peer="accounts")


@pytest.mark.parametrize("method", [None, "GET", "POST"])
def test_the_only_method_of_a_route_is_not_named(method):
    assert endpoints([request(n, method) for n in range(3)]) == ["/users"] * 3


def test_the_method_that_comes_second_is_named():
    spans = [request(n, method) for n, method in enumerate(["POST", "GET", "POST", "DELETE"])]
    assert endpoints(spans) == ["/users", "GET /users", "/users", "DELETE /users"]


def test_a_name_stays_when_a_second_method_appears_and_comes_first():
    before = encode.encode(lab.to_frame([request(0, "POST")]))
    later = [request(1, "GET"), request(2, "POST")]
    kept = {"keys": before.keys, "methods": before.methods}
    assert endpoints(later, **kept) == ["GET /users", "/users"]
    assert before.methods == {("accounts", "/users"): "POST"}


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_preflights_and_heads_are_never_the_route_itself(method):
    assert endpoints([request(0, method), request(1, "PUT")]) == [f"{method} /users", "/users"]


def test_what_leads_nowhere_is_one_endpoint_for_all_methods():
    spans = [request(n, method, "(unmatched)") for n, method in enumerate(["GET", "POST"])]
    assert endpoints(spans) == ["(unmatched)"] * 2


def test_a_call_is_about_the_method_that_it_used():
    served = [request(0, "GET", "/users/<int:n>"), request(1, "PUT", "/users/<int:n>")]
    calls = [
        made_call(2, "PUT", "/users/7"),
        made_call(3, "GET", "/users/8"),
        made_call(4, None, "/users/9"),
    ]
    names = ["/users/<int:n>", "PUT /users/<int:n>"]
    assert endpoints(served + calls) == [*names, names[1], names[0], names[0]]


def test_a_call_finds_a_route_whose_service_tells_no_method():
    served = request(0, None, "/users/<int:n>")
    calls = [made_call(1, "PUT", "/users/7"), made_call(2, "GET", "/users/8")]
    assert endpoints([served, *calls]) == ["/users/<int:n>"] * 3


@pytest.mark.parametrize(
    ("route", "path", "found"),
    [
        ("/users/{n}", "/users/ann", True),
        ("/users/{n:int}/cars", "/users/7/cars", True),
        ("/users/:n", "/users/<id>", True),
        ("/users/{n}", "/users/7/cars", False),
        ("/files/{name:path}", "/files/a/b", True),
        ("/users:n", "/users7", False),
        ("find users {n: ?}", "find users {a: ?}", False),
    ],
)
def test_a_call_finds_a_route_as_any_framework_writes_it(route, path, found):
    served, called = request(0, "GET", route), made_call(1, "GET", path)
    assert (endpoints([served, called])[1] == route) is found


def test_ids_in_paths_that_no_route_explains_are_folded():
    calls = [made_call(n, "GET", f"/charges/ch_{n:06x}") for n in range(5)]
    assert set(endpoints(calls)) == {"/charges/<id>"}


def test_names_of_other_tools_that_hold_a_method_stay():
    assert (
        endpoints([request(0, "GET", "GET /users"), request(1, None, "GET /users")])
        == ["GET /users"] * 2
    )


HOSTILE_ROUTES = ("/" + "x<path:a>" * 20 + "y", "/" + "x{id}" * 50 + "y", "<" * 100_000)


@pytest.mark.parametrize("name", HOSTILE_ROUTES, ids=["paths", "parameters", "brackets"])
def test_a_name_with_many_parameters_is_no_route(name):
    """Else a long path could be matched in more ways than can be tried."""
    start = 1_790_000_000 * 10**9
    rest = start, 10**6, 200, None
    served = lab.Span("a" * 32, "a" * 16, None, "back", name, "server", None, *rest)
    called = lab.Span("b" * 32, "b" * 16, None, "shop", "/" + "x" * 900, "client", "back", *rest)
    keys = encode.encode(lab.to_frame([served, called])).keys
    assert keys == [("back", name), ("back", "/<id>")]


def is_recognised(path: str, route: str) -> bool:
    """Return whether a call of a path is about a served route."""
    served, called = endpoints([request(0, "GET", route), made_call(1, "GET", path)])
    assert served == route
    return called == route


@pytest.mark.parametrize(("size", "recognised"), [(1000, True), (1001, False)])
def test_routes_and_paths_are_compared_up_to_a_thousand_characters(size, recognised):
    long = "/x/" + "y" * (size - len("/x//<id>"))
    assert is_recognised(f"{long}/7", f"{long}/<id>") is recognised
    assert is_recognised(("/x" * size)[-size:], "<path:all>") is recognised


@pytest.mark.parametrize(
    ("route", "path", "recognised"),
    [
        ("/<a>-<b>-<c>", "/u-v-w", True),
        ("/<a>-<b>-<c>-<d>", "/u-v-w-x", False),
        ("/<path:a>/x/<path:b>", "/u/x/w", True),
        ("/<path:a>/x/<path:b>/x/<path:c>", "/u/x/w/x/y", False),
        ("/<a>/<b>/<c>/<d>", "/u/v/w/x", True),
    ],
)
def test_at_most_two_parameters_of_a_route_may_match_in_several_ways(route, path, recognised):
    assert is_recognised(path, route) is recognised


def test_what_hangs_below_a_span_is_known_at_any_depth():
    size = 200_000
    parent = np.arange(size) - 1
    tops = np.arange(size) == 2
    assert np.flatnonzero(encode.hangs_below(tops, parent)).tolist() == list(range(3, size))


def test_in_a_cycle_of_parents_each_span_hangs_below_each():
    parent = np.array([2, 0, 1, -1, 3])
    tops = np.array([True, False, False, False, False])
    assert encode.hangs_below(tops, parent).tolist() == [True, True, True, False, False]


def test_a_statement_is_no_path_and_keeps_its_text():
    statement = (
        "SELECT address_line_1, year2024 FROM t WHERE nap(?) AND b @> ? ORDER BY a, b, c, d, e"
    )
    begin = 1_767_225_600 * 10**9
    spans = [
        lab.Span("t", "a", None, "shop", "/report", "server", None, begin, 9, 200, None),
        lab.Span("t", "b", "a", "shop", statement, "client", "sqlite", begin + 1, 5, 200, None),
    ]
    assert ("sqlite", statement) in encode.encode(lab.to_frame(spans)).keys
