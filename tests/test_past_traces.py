"""Of many spans in a store, a step of a monitor reads those that its incidents touch."""

import pytest

import aiops_lab as lab
from aiops_lab import past_traces
from aiops_lab.past_traces import PastTraces
from aiops_lab.pipeline import Pipeline
from aiops_lab.watched_spans import WatchedSpans
from tests.support.played import at
from tests.support.traces import span

PAY, REFUND, SHIP = ("bank", "/pay"), ("bank", "POST /refund"), ("post", "/ship")


@pytest.fixture
def past(tmp_path, monkeypatch):
    """The traces of three endpoints; /ship is called by /pay."""
    monkeypatch.setattr(past_traces, "FEW_SPANS", -1)
    pipeline = Pipeline(lab.Sensitivity(), [])
    pipeline.keys.update({PAY: 0, REFUND: 1, SHIP: 2})
    pipeline.methods["bank", "/refund"] = "GET"
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        store.add(span(1, None, "/pay", "server", 1_000, 50, trace=1, service="bank"))
        store.add(span(2, 1, "/ship", "server", 1_010, 30, trace=1, service="post"))
        store.add(span(3, None, "/ship", "server", 2_000, 50, trace=3, service="post"))
        refund = span(4, None, "/refund", "server", 3_000, 50, trace=4, service="bank")
        store.add(refund._replace(method="POST"))
        store.flush()
        yield PastTraces(WatchedSpans(store, {}), pipeline)


def read(past, *keys):
    spans = past(at(0).value, at(10).value, frozenset(keys))
    assert set(spans.keys) == {PAY, REFUND, SHIP}
    return [int(each, 16) for each in spans.source.frame["span_id"]]


def test_traces_of_other_endpoints_are_not_read(past):
    assert read(past, SHIP) == [1, 2, 3]


def test_what_one_service_may_have_done_is_read_at_once(past):
    assert read(past, PAY) == [1, 2, 4]
    assert read(past, PAY, REFUND) == read(past, REFUND) == [1, 2, 4]
    assert past.reads == 1
    assert read(past, PAY, SHIP) == [1, 2, 3, 4]
    assert read(past, REFUND, SHIP) == [1, 2, 3, 4]
    assert past.reads == 2


def test_after_some_reads_of_a_step_all_are_read(past, monkeypatch):
    monkeypatch.setattr(past_traces, "MOST_READS", 1)
    read(past, PAY)
    past(at(0).value, at(9).value, frozenset([PAY]))
    assert read(past, SHIP) == [1, 2, 3, 4]
    assert past.reads == 3


def test_of_few_spans_all_are_read(past, monkeypatch):
    monkeypatch.setattr(past_traces, "FEW_SPANS", 0)  # none has been sorted yet
    assert read(past, SHIP) == [1, 2, 3, 4]
    assert read(past, PAY, REFUND) == [1, 2, 3, 4]
    assert past.reads == 1


def test_another_time_is_another_reading(past):
    read(past, PAY)
    spans = past(at(2).value, at(10).value, frozenset([PAY]))
    assert len(spans.source.frame) == 1
    assert past.reads == 2
