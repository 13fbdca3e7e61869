"""What a store holds, and what is left after old spans are deleted."""

from __future__ import annotations

import pytest

from aiops_lab import Span, SpanStore
from aiops_lab.record import store as module
from aiops_lab.record import upkeep
from aiops_lab.record.upkeep import ServiceInfo, prune_store, store_info

S = 1_000_000_000
BEGIN = 1_767_225_600 * S


def span(number, service="shop", **fields):
    place = service, f"/{number % 3}", "server", None
    times = BEGIN + number * S, 0
    made = Span(f"{number:032x}", f"{number:016x}", None, *place, *times, 200, None)
    return made._replace(**fields)


def ids(store):
    return sorted(int(text, 16) for text in store.spans()["span_id"])


def put(store, spans):
    for each in spans:
        store.add(each)
    store.flush()


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A store of two services, in several sorted runs."""
    monkeypatch.setattr(module, "SEAL", 10)
    path = tmp_path / "s.sqlite"
    with SpanStore(path) as store:
        for first in range(0, 50, 10):
            put(store, (span(n, ("shop", "bank")[n % 2]) for n in range(first, first + 10)))
        put(store, [span(50), span(51, duration_ns=None)])
        store.stack("0" * 15 + "4", "no error")
        store.save("incident", {"INC-1-1": {}})
    return path


def test_counts_sizes_and_times_are_told(path):
    info = store_info(path)
    assert (info.version, info.spans, info.open_spans) == (3, 51, 1)
    assert (info.stacks, info.incidents) == (1, 1)
    assert info.services == [
        ServiceInfo("bank", 25, BEGIN + S, BEGIN + 49 * S),
        ServiceInfo("shop", 26, BEGIN, BEGIN + 50 * S),
    ]
    assert (info.first_ns, info.last_ns) == (BEGIN, BEGIN + 50 * S)
    assert info.size_bytes == path.stat().st_size


def test_an_empty_store_has_no_times(tmp_path):
    SpanStore(tmp_path / "s.sqlite").close()
    info = store_info(tmp_path / "s.sqlite")
    assert (info.spans, info.first_ns, info.last_ns, info.services) == (0, None, None, [])


@pytest.mark.parametrize("in_use", [False, True])
@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"before_ns": BEGIN + 20 * S}, range(20, 52)),
        ({"service": "bank"}, [*range(0, 52, 2), 51]),
        ({"before_ns": BEGIN + 20 * S, "service": "bank"}, [*range(0, 20, 2), *range(20, 52)]),
        ({"before_ns": BEGIN + 100 * S}, []),
        ({"before_ns": BEGIN}, range(52)),
    ],
)
def test_what_is_old_or_of_a_service_goes_and_new_spans_come(path, in_use, limits, left):
    other = SpanStore(path) if in_use else None
    pruned = prune_store(path, **limits)
    left = [*left]
    assert (pruned.spans, pruned.is_in_use) == (52 - len(left), in_use)
    if other is not None:
        assert ids(other) == left
        other.close()
    with SpanStore(path) as store:
        for first in (100, 110, 120):
            put(store, map(span, range(first, first + 10)))
        assert ids(store) == [*left, *range(100, 130)]
        assert ids(store) == sorted({*ids(store)})
        assert [*store.load("incident")] == ["INC-1-1"]
    assert store_info(path).spans == len([*left]) + 30 - (51 in left)


def in_pauses(monkeypatch, do):
    """Let a transaction delete at most three rows, and do something after each."""
    monkeypatch.setattr(upkeep, "_STEP_ROWS", 3)
    monkeypatch.setattr(upkeep, "_SLICE_S", 0)
    monkeypatch.setattr(upkeep, "sleep", lambda _: do())


@pytest.mark.parametrize(
    ("limits", "left"),
    [({"service": "bank"}, [*range(0, 52, 2), 51]), ({"before_ns": BEGIN + 100 * S}, [])],
)
def test_a_writer_gets_in_while_spans_are_deleted(path, monkeypatch, limits, left):
    came = []
    with SpanStore(path) as store:

        def write():
            came.extend(range(100 + len(came), 104 + len(came)))
            put(store, map(span, came[-4:]))

        in_pauses(monkeypatch, write)
        assert prune_store(path, **limits).spans == 52 - len(left)
        assert len(came) > 20
        assert ids(store) == [*left, *came]
        of_endpoint = store.spans(endpoint="/1")
        assert len(of_endpoint) == sum(number % 3 == 1 for number in (*left, *came))


def test_the_log_is_emptied_after_each_transaction(path, monkeypatch):
    """Else a writer's commit moves its pages into the file, once there are a thousand."""
    seen = []

    def look():
        put(store, [span(100 + len(seen))])
        with open(f"{path}-wal", "rb") as log:
            seen.append(log.read(16)[12:])  # how often the log began anew

    with SpanStore(path) as store:
        in_pauses(monkeypatch, look)
        prune_store(path, before_ns=BEGIN + 20 * S)
    assert len(seen) > 5
    assert seen == sorted({*seen})


def test_what_is_interrupted_is_whole_and_goes_on(path, monkeypatch):
    def interrupt():
        pauses.append(1)
        if len(pauses) == 9:
            raise KeyboardInterrupt

    pauses = []
    in_pauses(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        prune_store(path, before_ns=BEGIN + 40 * S)
    with SpanStore(path) as store:
        there = ids(store)
    assert {*range(40, 52)} < {*there}
    assert len(there) == store_info(path).spans + 1 < 52
    assert prune_store(path, before_ns=BEGIN + 40 * S).spans == len(there) - 12
    with SpanStore(path) as store:
        assert ids(store) == [*range(40, 52)]


def test_the_file_becomes_smaller_where_nobody_has_it_open(tmp_path):
    path = tmp_path / "s.sqlite"
    with SpanStore(path) as store:
        put(store, map(span, range(20_000)))
    before = path.stat().st_size
    with SpanStore(path):
        assert prune_store(path, before_ns=BEGIN + 19_000 * S).is_in_use
    assert path.stat().st_size >= before * 0.9
    pruned = prune_store(path, before_ns=BEGIN + 19_001 * S)
    assert (pruned.spans, pruned.is_in_use) == (1, False)
    assert path.stat().st_size < before / 5
    assert pruned.freed_bytes > before / 2


def test_stack_traces_go_with_their_spans(path):
    with SpanStore(path) as store:
        put(store, [span(n, error="ValueError: x", trace_id="odd") for n in (60, 61)])
        for number in (60, 61):
            store.stack(f"{number:016x}", "Traceback")
    prune_store(path, before_ns=BEGIN + 61 * S)
    with SpanStore(path) as store:
        assert store.stack_of(f"{60:016x}") is None
        assert store.stack_of(f"{61:016x}") == "Traceback"


def test_what_makes_no_sense_is_refused(path, tmp_path):
    with pytest.raises(ValueError, match="^prune must be told an age or a service"):
        prune_store(path)
    with pytest.raises(ValueError, match="^service must be one of bank, shop, got 'x'"):
        prune_store(path, service="x")
    with pytest.raises(OSError, match="path must be the file of a span store"):
        store_info(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


def test_a_service_is_known_while_spans_of_it_are_there(path):
    with SpanStore(path) as store:
        put(store, [span(60, "new")])
        assert prune_store(path, service="new").spans == 1
    with pytest.raises(ValueError, match="^service must be one of bank, shop, got 'new'"):
        prune_store(path, service="new")
