"""A long history becomes a frame block by block; it is the frame that `to_frame` makes."""

from __future__ import annotations

import random

import pytest
from pandas.testing import assert_frame_equal

import aiops_lab as lab
from aiops_lab import columns
from aiops_lab.record import frames, reader

BEGIN_NS = 1_767_225_600_000_000_000


def some_spans(seed: int) -> list[lab.Span]:
    """Spans of which many began at one moment, some are told twice, and some are open."""
    rng = random.Random(seed)

    def digits(count: int) -> str:
        return f"{rng.getrandbits(4 * count):0{count}x}"

    spans = []
    for number in range(60):
        kind, peer = rng.choice([("server", None), ("client", "p"), ("internal", None)])
        ids = digits(32), digits(16), rng.choice([None, digits(16)])
        about = rng.choice(["a", "b"]), rng.choice(["/x", "/zé"]), kind, peer
        took = rng.choice([None, *range(9)])
        status = rng.choice([200, None if kind == "internal" else 500])
        more = rng.choice(["E: no", None]), "GET", None, rng.choice([None, 5])
        links = rng.choice([None, (digits(16), digits(16))])
        span = lab.Span(*ids, *about, BEGIN_NS + rng.randrange(30), took, status, *more, links)
        spans += [span] * (1 if number % 9 else 2)
    return spans


@pytest.mark.parametrize("many", [columns.MANY, 1], ids=["objects", "arrow"])
@pytest.mark.parametrize("odd", [False, True], ids=["usual ids", "an odd id"])
def test_blocks_of_rows_make_the_frame_that_all_rows_at_once_make(many, odd, monkeypatch, tmp_path):
    monkeypatch.setattr(columns, "MANY", many)
    spans = some_spans(1)
    if odd:
        spans.append(some_spans(2)[0]._replace(trace_id="x", duration_ns=1))
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        for span in spans:
            store.add(span)
        store.flush()
        whole = store.spans()
        for module in (frames, reader):
            monkeypatch.setattr(module, "BLOCK_ROWS", 7)
        again = store.spans()
    assert len(whole) > 50
    assert_frame_equal(again, whole)
    assert_frame_equal(whole, lab.to_frame(spans))
    if many > 1:
        kept = ["parent_id", "error", "links", "instance"]
        assert again[kept].map(type).equals(whole[kept].map(type))


def test_rows_of_some_blocks_become_values_when_others_may_read_again(monkeypatch, tmp_path):
    for module in (frames, reader):
        monkeypatch.setattr(module, "BLOCK_ROWS", 20)
    make = frames._block
    was_held = []
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        for span in some_spans(1):
            store.add(span)
        store.flush()

        def block(rows):
            was_held.append(store._read_lock.is_held_here())
            return make(rows)

        monkeypatch.setattr(frames, "_block", block)
        store.spans()
    assert was_held == [False] * 4
