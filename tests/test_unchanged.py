"""What is kept of a frame is forgotten as soon as the frame is written to, or gone."""

import gc

import numpy as np
import pandas as pd
import pytest

from aiops_lab import unchanged
from aiops_lab.unchanged import while_unchanged
from tests.support.columnar import columnar, plain
from tests.support.made import Shop


@pytest.fixture
def frame(monkeypatch):
    monkeypatch.setattr(unchanged, "LARGE_FRAME", 1)
    monkeypatch.setattr(unchanged, "_known", {})
    return Shop(3).run(5)


def counted():
    calls = []

    def last_id(frame):
        calls.append(1)
        return frame["span_id"].iloc[-1]

    return last_id, calls


@pytest.mark.parametrize("stored", [plain, columnar, lambda frame: frame])
def test_of_one_frame_a_function_is_called_once(frame, stored):
    frame = stored(frame)
    last_id, calls = counted()
    said = [while_unchanged(last_id, frame) for _ in range(3)]
    assert said == [frame["span_id"].iloc[-1]] * 3
    assert len(calls) == 1
    assert while_unchanged(len, frame) == len(frame)
    assert while_unchanged(last_id, frame.copy()) == said[0]
    assert len(calls) == 2


@pytest.mark.parametrize("stored", [plain, columnar, lambda frame: frame])
@pytest.mark.parametrize(
    "column", ["trace_id", "span_id", "parent_id", "service", "endpoint", "kind"]
)
def test_a_frame_that_was_written_to_is_looked_at_again(frame, stored, column):
    frame.loc[0, "service"] = "another"
    frame = stored(frame)
    last_id, calls = counted()
    while_unchanged(last_id, frame)
    others = frame.loc[frame[column] != frame[column].iloc[-1], column].dropna()
    frame.loc[frame.index[-1], column] = others.iloc[0]
    assert while_unchanged(last_id, frame) == frame["span_id"].iloc[-1]
    assert len(calls) == 2


def test_a_column_of_another_type_is_another_column(frame):
    last_id, calls = counted()
    for made in (frame["span_id"].astype(object), columnar(frame)["span_id"]) * 2:
        frame["span_id"] = made
        while_unchanged(last_id, frame)
    assert len(calls) == 4


def test_what_cannot_be_told_from_a_changed_column_is_not_kept(frame):
    frame["kind"] = frame["kind"].astype(pd.StringDtype("python"))
    last_id, calls = counted()
    for _ in range(2):
        while_unchanged(last_id, frame)
    assert len(calls) == 2
    assert unchanged._known == {}


def test_what_is_kept_goes_with_the_frame(frame):
    other = frame.copy()
    while_unchanged(len, other)
    assert len(unchanged._known) == 1
    del other
    gc.collect()
    assert unchanged._known == {}


def test_of_a_small_frame_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(unchanged, "_known", {})
    small = Shop(3).run(5)
    while_unchanged(len, small)
    assert unchanged._known == {}


def test_equal_texts_that_are_other_objects_count_as_changed(frame):
    last_id, calls = counted()
    while_unchanged(last_id, frame)
    texts = ["".join(list(text)) for text in frame["span_id"]]
    frame["span_id"] = pd.Series(np.array(texts, dtype=object), index=frame.index, dtype=object)
    while_unchanged(last_id, frame)
    assert len(calls) == 2
