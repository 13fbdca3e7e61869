"""A replay says the same whatever the columns of its frame are made of."""

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab import read_spans, write_spans
from aiops_lab.traces import encode
from tests.support.columnar import columnar
from tests.support.made import Shop, fault
from tests.traces.test_encode import COLUMNAR, arrays, needs, objects, with_unused_categories


def incident():
    return Shop(5, fault("/payment", 300, 400, added_ms=300, status=500, rate=0.5)).run(420)


@pytest.mark.parametrize("stored", COLUMNAR)
def test_a_replay_of_any_text_type_says_the_same(stored):
    needs(stored)
    frame = incident()
    expected, got = lab.replay(frame), lab.replay(stored(frame))
    assert len(expected.incidents) == 1
    pd.testing.assert_frame_equal(got.windows, expected.windows)
    assert [i.to_dict() for i in got.incidents] == [i.to_dict() for i in expected.incidents]
    assert [i.traces for i in got.incidents] == [i.traces for i in expected.incidents]
    pd.testing.assert_frame_equal(lab.service_graph(stored(frame)), lab.service_graph(frame))
    pd.testing.assert_series_equal(lab.self_time(stored(frame)), lab.self_time(frame))


@pytest.mark.parametrize("before", [columnar, with_unused_categories, objects, lambda frame: frame])
def test_frames_with_different_categories_are_compared_as_plain_ones_are(before):
    usual, now = Shop(3).run(60), incident().tail(900).reset_index(drop=True)
    expected = lab.rank_root_causes(usual, now)
    assert expected
    assert lab.rank_root_causes(before(usual), columnar(now)) == expected
    parts = pd.concat([before(usual), columnar(now)], ignore_index=True)
    lab.check(parts)
    assert arrays(encode.encode(parts)) == arrays(encode.encode(pd.concat([usual, now])))


def test_a_columnar_frame_is_written_and_read_like_a_plain_one(tmp_path):
    frame = incident()
    for name, made in (("plain.csv", frame), ("columnar.csv", columnar(frame))):
        write_spans(made, tmp_path / name)
    assert (tmp_path / "plain.csv").read_bytes() == (tmp_path / "columnar.csv").read_bytes()
    again = columnar(read_spans(tmp_path / "plain.csv"))
    pd.testing.assert_frame_equal(again, columnar(frame))


def test_a_calm_replay_parses_no_ids(monkeypatch):
    def refuse(frame):
        raise AssertionError("ids were parsed")

    monkeypatch.setattr(encode, "find_parents", refuse)
    assert lab.replay(Shop(3).run(60)).incidents == []
