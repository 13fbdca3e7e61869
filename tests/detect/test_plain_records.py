"""Plain Python reads records as dictionaries, and what it says is the same."""

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect import scoring
from aiops_lab.detect.plain_records import TakesDicts, as_dicts
from tests.support.made import Shop, fault


def two_by_two():
    return np.zeros((2, 2), [("mean", "f8"), ("var", "f8")])


def test_what_is_changed_in_dictionaries_is_changed_in_the_records():
    records = two_by_two()
    records["mean"][0, 1] = 3.0
    with as_dicts(records) as dicts:
        dicts[0, 1]["var"] = dicts[0, 1]["mean"] + 0.5
        dicts[:, 0][1]["mean"] = 2.0
    assert records.tolist() == [[(0, 0), (3, 3.5)], [(2, 0), (0, 0)]]


def test_records_are_set_to_what_a_dictionary_holds_then():
    records = two_by_two()
    now = {"mean": 1.0, "var": 2.0}
    TakesDicts(records)[1, 0] = now
    now["mean"] = 5.0
    assert records.tolist() == [[(0, 0), (0, 0)], [(1, 2), (0, 0)]]


@pytest.mark.parametrize("how", [{"added_ms": 300}, {"added_ms": 30_000}])
def test_a_walk_over_dictionaries_is_that_over_records_to_the_bit(how, monkeypatch):
    frame = Shop(5, fault("/payment", 60, 90, **how)).run(110)
    found = []
    for walk in (scoring._walk_plainly, scoring._walk.__wrapped__):
        monkeypatch.setattr(scoring, "_walk", walk)
        found.append(lab.replay(frame, causes=False).windows)
    assert found[0]["state"].eq("anomalous").any()
    pd.testing.assert_frame_equal(*found, check_exact=True)
