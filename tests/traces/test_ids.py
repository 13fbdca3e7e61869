"""One id, two meanings: a span that is told twice, and two spans that share an id."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.traces import encode
from aiops_lab.traces import ids as ids_module
from aiops_lab.traces.ids import copies_of, parse_ids
from tests.support.columnar import columnar
from tests.support.lines import Drawing, first_suspect
from tests.support.made import MS, Shop, fault
from tests.support.traces import span

IDS = ["trace_id", "span_id", "parent_id"]
CALLS = {("gateway", "content"): 200, ("content", "db"): 200}


def halves(
    seed: int,
    *,
    n: int = 200,
    shared: bool = True,
    content_ms: float = 0,
    behind_ms: float = 0,
    own_parent: bool = False,
    has_top: bool = True,
    kinds: tuple[str, str] = ("client", "server"),
) -> pd.DataFrame:
    """Return requests of gateway to content to db, both halves of a call with one id or without."""
    drawing = Drawing(seed)
    for _ in range(n):
        trace, t = drawing.request()
        top, ask, content, query, db = drawing.ids(5)
        if shared:
            content, db = ask, query
        reads = drawing.about(8)
        serves = reads + drawing.about(6) + int(content_ms * MS)
        above = top if has_top else None
        below = (ask if own_parent else above) if shared else ask
        if has_top:
            drawing.add((trace, top, None), ("gateway", "get", "server", None), t, serves + 8 * MS)
        call = ("gateway", "get /content", kinds[0], "content")
        drawing.add((trace, ask, above), call, t + 2 * MS, serves + 3 * MS)
        at = t + 3 * MS - int(behind_ms * MS)
        place = ("content", "get /content", kinds[1], None)
        drawing.add((trace, content, below), place, at, serves)
        read = ("content", "select", "client", "db")
        drawing.add((trace, query, content), read, at + 2 * MS, reads)
        above = content if shared else query
        drawing.add((trace, db, above), ("db", "select", "server", None), at + 3 * MS, reads - MS)
    return drawing.frame()


def calls(frame: pd.DataFrame) -> dict[tuple[str, str], int]:
    graph = lab.service_graph(frame, by="service")
    return {(row.caller, row.callee): row.calls for row in graph.itertuples()}


SHARED = {
    "by the specification": {},
    "the server half names itself": {"own_parent": True},
    "the clock of the server is behind": {"behind_ms": 5},
    "halves of a message": {"kinds": ("producer", "consumer")},
}


@pytest.mark.parametrize("how", SHARED.values(), ids=SHARED)
def test_halves_that_share_an_id_are_two_spans(how: dict) -> None:
    assert calls(halves(1, **how)) == calls(halves(1, **how | {"shared": False})) == CALLS


@pytest.mark.parametrize("how", SHARED.values(), ids=SHARED)
def test_a_slow_half_is_the_cause(how: dict) -> None:
    slow = halves(2, content_ms=60, **how)
    assert first_suspect(halves(1, **how), slow) == ("content", "get /content")


def test_the_self_times_of_halves_are_as_with_ids_of_their_own() -> None:
    one, two = (lab.self_time(halves(1, shared=shared)) for shared in (True, False))
    assert sorted(one) == pytest.approx(sorted(two))


def test_a_shared_root_is_the_callers_half() -> None:
    frame = halves(1, n=1, has_top=False)
    ids = parse_ids(frame)
    assert frame["kind"].tolist()[:2] == ["client", "server"]
    assert ids.parent.tolist()[:2] == [-1, 0]
    assert ids.has_parent.tolist()[:2] == [False, True]


def test_a_child_of_the_calling_service_hangs_below_the_calling_half() -> None:
    frame = lab.to_frame(
        [
            span(1, None, "/a", "client", 0, 50, service="a", peer="b"),
            span(1, None, "/a", "server", 1, 40, service="b"),
            span(2, 1, "retry", "internal", 2, 5, service="a"),
            span(3, 1, "parse", "internal", 3, 5, service="b"),
            span(4, 1, "/c", "server", 4, 5, service="c"),
        ]
    )
    assert parse_ids(frame).parent.tolist() == [-1, 0, 0, 1, 1]


def test_of_spans_with_one_id_that_are_no_halves_the_first_is_the_parent() -> None:
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 50),
            span(1, None, "/b", "server", 1, 50),
            span(2, 1, "/c", "client", 2, 5, peer="c"),
        ]
    )
    assert parse_ids(frame).parent.tolist() == [-1, -1, 0]
    assert encode.encode(frame).row.tolist() == [0, 1, 2]


def test_a_log_line_with_the_id_of_its_span_hangs_below_it() -> None:
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 50),
            span(1, 1, "paid", "log", 1, 0),
            span(2, 1, "/c", "client", 2, 5, peer="c"),
        ]
    )
    assert parse_ids(frame).parent.tolist() == [-1, 0, 0]


# ---- texts as numbers


def test_text_that_only_looks_hexadecimal_in_part_is_taken_as_text() -> None:
    frame = Shop(3).run(5)
    odd = frame.assign(span_id=frame["span_id"].replace(frame["span_id"][0], "no hex"))
    odd["parent_id"] = frame["parent_id"].replace(frame["span_id"][0], "no hex")
    assert parse_ids(odd).parent.tolist() == parse_ids(frame).parent.tolist()


@pytest.mark.parametrize("rename", [str, lambda i: f"span-{int(i, 16)}"], ids=["hex", "any text"])
@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_ids_may_be_any_text_of_any_text_type(
    rename: Callable[[str], str], dtype: type | str
) -> None:
    frame = Shop(3).run(5)
    expected = lab.self_time(frame)
    for column in ("trace_id", "span_id", "parent_id"):
        frame[column] = frame[column].map(rename, na_action="ignore").astype(dtype)
    pd.testing.assert_series_equal(lab.self_time(frame), expected)


def test_the_same_span_id_in_two_traces_is_two_spans() -> None:
    frame = lab.to_frame(
        [
            s
            for t in (1, 2)
            for s in [
                span(1, None, "/a", "server", t, 10, trace=t),
                span(2, 1, "/b", "server", t, 4, trace=t),
            ]
        ]
    )
    assert sorted(lab.self_time(frame)) == [4.0, 4.0, 6.0, 6.0]


def test_trace_ids_that_differ_in_their_first_half_only_are_two_traces() -> None:
    frame = lab.to_frame([span(1, None, "/a", "server", 0, 9), span(2, 1, "/b", "server", 1, 5)])
    other = frame.assign(trace_id="1" + frame["trace_id"].str[1:])
    ids = parse_ids(pd.concat([frame, other], ignore_index=True))
    assert ids.parent.tolist() == [-1, 0, -1, 2]
    assert ids.trace.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("size", [16, 32])
def test_ids_in_hexadecimal_are_compared_by_value(size: int) -> None:
    """Of 16 or of 32 digits, small or capital letters."""
    frame = Shop(3).run(5)
    expected = parse_ids(frame)
    for column in IDS:
        frame[column] = frame[column].str[-16:].str.zfill(size).str.replace("0", "b")
    frame["parent_id"] = frame["parent_id"].str.upper()
    assert parse_ids(frame).parent.tolist() == expected.parent.tolist()


@pytest.mark.parametrize("digit", [0, 15])
def test_traces_that_differ_in_one_bit_are_two(digit: int) -> None:
    """The first bit or the last one, with the same span ids in both."""
    frame = lab.to_frame([span(1, None, "/a", "server", 0, 9), span(2, 1, "/b", "server", 1, 5)])
    one = frame.assign(trace_id="0" * 16)
    other = frame.assign(trace_id="0" * digit + "8" + "0" * (15 - digit))
    ids = parse_ids(pd.concat([one, other], ignore_index=True))
    assert ids.parent.tolist() == [-1, 0, -1, 2]


def test_a_span_that_names_itself_has_no_parent() -> None:
    frame = lab.to_frame([span(1, 1, "/a", "server", 0, 9), span(2, 1, "/b", "server", 1, 5)])
    ids = parse_ids(frame)
    assert ids.parent.tolist() == [-1, 0]
    assert ids.has_parent.tolist() == [True, True]


# ---- one span, told twice


def twice(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with each span twice, as an exporter leaves it that sends again."""
    both = pd.concat([frame, frame])
    return both.sort_values(["start", "span_id"], kind="stable", ignore_index=True)


def incident() -> pd.DataFrame:
    return Shop(5, fault("/payment", 200, 300, added_ms=300)).run(300)


def test_a_recording_that_is_told_twice_says_the_same() -> None:
    once, again = lab.replay(incident()), lab.replay(twice(incident()))
    pd.testing.assert_frame_equal(once.windows, again.windows)
    assert [i.to_dict() for i in once.incidents] == [i.to_dict() for i in again.incidents]
    assert len(once.incidents) == 1
    assert calls(twice(halves(1))) == CALLS


def test_copies_have_no_self_time() -> None:
    frame = halves(1)
    own = lab.self_time(twice(frame))
    assert own.notna().sum() == len(frame)
    assert own.sum() == pytest.approx(lab.self_time(frame).sum())


def test_copies_need_not_stand_side_by_side() -> None:
    frame = halves(1, n=3)
    apart = pd.concat([frame, frame.iloc[::-1]], ignore_index=True)
    assert encode.encode(apart).row.tolist() == list(range(len(frame)))


@pytest.mark.parametrize("open_first", [True, False])
def test_a_span_that_is_told_while_open_and_when_ended_is_the_ended_one(open_first: bool) -> None:
    frame = halves(1, n=3)
    still_open = frame.assign(duration_ms=np.nan, status=0)
    parts = [still_open, frame] if open_first else [frame, still_open]
    both = pd.concat(parts).sort_values("start", kind="stable", ignore_index=True)
    spans = encode.encode(both)
    assert both["duration_ms"].iloc[spans.row].notna().all()
    assert spans.ids.parent.tolist() == encode.encode(frame).ids.parent.tolist()
    assert calls(both) == calls(frame)


def test_spans_that_differ_in_anything_are_no_copies() -> None:
    frame = lab.to_frame([span(1, None, "/a", "server", 0, 50)])
    for column, value in {
        "duration_ms": 51.0,
        "status": 201,
        "error": "E: no",
        "service": "b",
    }.items():
        both = pd.concat([frame, frame.assign(**{column: value})], ignore_index=True)
        assert encode.encode(both).row.tolist() == [0, 1], column


def test_requests_of_one_moment_and_place_are_no_copies() -> None:
    frame = lab.to_frame([span(k, None, "/a", "server", 0, 50, trace=k) for k in (1, 2, 3)])
    start = frame["start"].to_numpy("datetime64[ns]").astype(np.int64)
    assert copies_of(frame, start).tolist() == [False, False, False]


def test_many_ids_are_looked_up_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """With copies of ids, with parents that are not there, and in two formats."""
    plain = Shop(3).run(20)
    shared = pd.concat([plain, plain.head(40).assign(service="other")], ignore_index=True)
    lost = plain.drop(index=plain.index[::7]).reset_index(drop=True)
    frames = [plain, shared, lost, plain.replace({"span_id": {f"{1:016x}": "no hex"}})]
    expected = [parse_ids(frame) for frame in frames]
    monkeypatch.setattr(ids_module, "LARGE", 1)
    for frame, few in zip(frames, expected, strict=True):
        many = parse_ids(frame)
        assert many.parent.tolist() == few.parent.tolist()
        assert many.has_parent.tolist() == few.has_parent.tolist()


@pytest.mark.parametrize("block", [1, 7, 1 << 14])
def test_ids_are_parsed_in_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Shop(3).run(5)
    expected = parse_ids(frame)
    monkeypatch.setattr(ids_module, "_BLOCK", block)
    assert parse_ids(frame).parent.tolist() == expected.parent.tolist()
    assert parse_ids(frame).trace.tolist() == expected.trace.tolist()
    unlike = frame.assign(span_id=[*frame["span_id"][:-1], "0" * 31 + "1"])
    assert parse_ids(unlike).parent.tolist() == expected.parent.tolist()


def test_what_arrow_holds_where_an_id_is_missing_is_no_id() -> None:
    pa = pytest.importorskip("pyarrow")
    frame = columnar(Shop(3).run(5))
    parent = frame["parent_id"]
    digits = "".join(parent.fillna("f" * 16))
    ends = 16 * np.arange(len(frame) + 1)
    known = np.packbits(parent.notna(), bitorder="little")
    buffers = [pa.py_buffer(part) for part in (ends, digits.encode(), known)]
    array = pa.LargeStringArray.from_buffers(len(frame), *buffers)
    filled = pd.Series(parent.dtype.__from_arrow__(array))
    assert filled.isna().tolist() == parent.isna().tolist()
    numbers, length = ids_module._parse(filled)
    assert length == 16
    assert numbers.tolist() == ids_module._parse(parent)[0].tolist()


@pytest.mark.parametrize("odd", ["0" * 15 + " ", "0" * 15, "0" * 7 + "\n" + "0" * 8, "0" * 33])
def test_ids_that_lack_digits_are_not_taken_by_value(odd: str) -> None:
    usual = ["f" * 16] * 2
    for texts in ([odd, *usual], [*usual, odd], [odd, odd]):
        with pytest.raises(ValueError, match="hexadecimal|ids must"):
            ids_module._parse(pd.Series(texts, dtype=object))
