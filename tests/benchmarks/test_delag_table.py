"""DeLag's delays in the tables: who is right, who is silent, what a replay finds."""

from __future__ import annotations

from pathlib import Path

from benchmarks import _delag, accuracy
from benchmarks._delag import Named
from tests.datasets.test_delag import made

HEAD = "Latency,Get,Find,anomaly\n"
USUAL = "".join(f"{100 + k % 7},{60 + k % 5},{10 + k % 3},0\n" for k in range(600))
SLOW = "".join(f"{140 + k % 7},{100 + k % 5},{40 + k % 3},1\n" for k in range(300))


def test_both_systems_of_delag_are_one_table(tmp_path: Path) -> None:
    for system in ("one", "two"):
        made(tmp_path / f"delag_{system}", HEAD + USUAL + SLOW)
    (table,), _ = accuracy.of_set("delag", tmp_path / "delag", progress=False)
    ours = table.rows[0]
    assert table.columns[:2] == ("one", "two")
    assert ours.others[:2] == ("1 of 1", "1 of 1")
    assert ours.others[2:] == ("100.0 (34.2–100.0)",) * 3
    assert table.cases == "2 delays, not seen while tuning"
    assert [asked.system for asked in table.asked] == ["one", "two"]
    told = {row.method: row.others[0] for row in table.rows}
    assert told["always the same"] == "1 of 1"
    assert told["random"] == "0 of 1"


def test_a_call_is_right_and_a_service_alone_where_one_of_its_calls_was_delayed(
    tmp_path: Path,
) -> None:
    made(tmp_path / "delag_one")
    (case,) = accuracy.cases_of(_delag.DelayCase, "delag", tmp_path / "delag_one")
    named = Named("items", "Find"), Named("items", "Other"), Named("items"), Named("web"), Named("")
    assert [_delag.is_right(each, case) for each in named] == [True, False, True, False, False]


def test_quick_leaves_out_what_takes_minutes() -> None:
    assert set(accuracy.names_of_all(quick=False)) - set(accuracy.names_of_all(quick=True)) == {
        "delag"
    }
