"""What lesson 07 works with: outages are split as they ended, requests are as they were drawn."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.explain.ledger import Ledger
from shop.course import outages
from shop.course.cases import SILENT, ticked

DATA = Path(__file__).parents[2] / "data"
HANG = DATA / "cause_hang.csv.gz"


@pytest.fixture(scope="module")
def hang() -> tuple[pd.DataFrame, pd.DataFrame]:
    return outages.recorded(HANG, Sensitivity(window_s=5))


def test_what_still_hangs_belongs_to_the_incident(hang: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    usual, now = hang
    assert usual["duration_ms"].notna().all()
    assert now["duration_ms"].isna().any()
    assert set(usual["trace_id"]).isdisjoint(now["trace_id"])


def test_the_truth_lies_beside_a_recording() -> None:
    assert outages.true_cause(HANG) == "/payment"


def test_a_request_drawn_by_hand_has_the_times_that_were_drawn() -> None:
    rows = [
        (1, None, "server", "a", "/a", None, 0.0, 9.0),
        (2, 1, "client", "a", "/b", "b", 1.0, 8.5),
    ]
    frame = outages.drawn_trace(rows, trace=7)
    assert frame["duration_ms"].tolist() == [9, 7.5]
    assert frame["parent_id"].isna().tolist() == [True, False]
    assert set(frame["trace_id"]) == {f"{7:032x}"}


def test_payments_are_later_by_what_was_added() -> None:
    usual, slower = (
        outages.payment_requests(50, 0, seed=1),
        outages.payment_requests(50, 20, seed=1),
    )
    gap_ms = slower["duration_ms"] - usual["duration_ms"]
    assert usual["trace_id"].nunique() == 50
    assert gap_ms.between(19.99, 20.01).all()


def test_only_payments_are_later_where_there_are_two_endpoints() -> None:
    usual, slower = (outages.payment_and_inventory(50, ms, seed=1) for ms in (0, 20))
    gap_ms = slower["duration_ms"] - usual["duration_ms"]
    means = gap_ms.groupby(usual["endpoint"]).mean().round(3)
    assert means.to_dict() == {"/inventory": 0, "/payment": 20}
    assert usual["trace_id"].nunique() == 100


def test_every_caller_of_the_impatient_shop_gives_up_in_time() -> None:
    calls = [call for endpoint in outages.impatient(1.5).endpoints for call in endpoint.calls]
    assert {call.timeout_s for call in calls} == {1.5}  # type: ignore[union-attr]


def test_silence_is_neither_right_nor_wrong() -> None:
    named = {"case": {"first": "/a", "last": "/b", "none": SILENT}}
    table = ticked(named, {"case": "/a"}, count=False)
    assert table["case"].tolist() == ["/a ✓", "/b ✗", "silent"]


def test_a_ledger_that_loses_a_millisecond_is_found_out(
    hang: tuple[pd.DataFrame, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outages.is_conserved(*hang)

    def loses(*given: pd.DataFrame) -> Ledger:
        found = made(*given)
        return found._replace(rows=found.rows.assign(excess=found.rows["excess"] + 1))

    made = outages.excess_ledger
    monkeypatch.setattr(outages, "excess_ledger", loses)
    assert not outages.is_conserved(*hang)
