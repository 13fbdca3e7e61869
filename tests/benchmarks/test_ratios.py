"""The table of `benchmarks.ratios`: which goals hold, and what the guard finds worse."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from benchmarks.ratios import shown
from benchmarks.ratios.guard import limits, worse
from benchmarks.ratios.measured import Measured, load, paired, save

SPEED = Measured(1, "speed by a peer", 2.5, 3.0, at_least=True)
COST = Measured(3, "cost by a peer", 0.07, 0.08, note="quiet")
LOST = Measured(3, "lost", 1, 0, "spans")
TOLD = Measured(8, "a span", 2.0, None, "CPU us")


@pytest.mark.parametrize(
    ("row", "verdict", "by"),
    [(SPEED, "missed", 1.2), (COST, "holds", 0.875), (LOST, "missed", 2.0), (TOLD, "", None)],
)
def test_a_goal_holds_up_to_its_bound(row: Measured, verdict: str, by: float | None) -> None:
    assert row.verdict == verdict
    assert row.of_goal == (by if by is None else pytest.approx(by))


def test_a_count_of_none_holds() -> None:
    assert LOST._replace(value=0).verdict == "holds"


def test_the_table_says_how_many_goals_hold() -> None:
    lines = shown.table([SPEED, COST, LOST, TOLD]).splitlines()
    assert lines[2] == "| 1 | speed by a peer | 2.5 | >= 3 | **missed** |  |"
    assert lines[3] == "| 3 | cost by a peer | 0.07 | <= 0.08 | holds | quiet |"
    assert lines[-1] == "1 goals hold, 2 are missed."


def test_rows_are_kept_until_they_are_shown(tmp_path: Path) -> None:
    save([SPEED, COST], tmp_path / "rows")
    assert load(tmp_path / "rows") == [SPEED, COST]
    assert load(tmp_path / "none") == []


def test_the_guard_tells_what_is_beyond_its_limit_either_way() -> None:
    kept = {SPEED.what: 2.4, COST.what: 0.06}
    assert worse([SPEED, COST, LOST], kept) == ["cost by a peer: 0.07, limit 0.06"]
    assert worse([SPEED], {SPEED.what: 2.6}) == ["speed by a peer: 2.5, limit 2.6"]


def test_the_guard_guards_only_what_is_measured() -> None:
    shown_rows = shown.PAGE.read_text("utf-8")
    assert limits()
    assert [name for name in limits() if f"| {name} |" not in shown_rows] == []


def test_both_sides_of_a_ratio_take_turns() -> None:
    order: list[str] = []
    ratios = paired(lambda: partial(_busy, order, "a"), lambda: partial(_busy, order, "b"), 2)
    assert order == ["b", "a", "a", "b"]
    assert len(ratios) == 2


def _busy(order: list[str], name: str) -> None:
    order.append(name)
    sum(range(200_000))


def test_what_stands_between_the_marks_is_replaced() -> None:
    page = "head <!-- a -->old<!-- b --> tail"
    made = shown.between(page, ("<!-- a -->", "<!-- b -->"), "new")
    assert made == "head <!-- a -->\n\nnew\n\n<!-- b --> tail"
    with pytest.raises(ValueError, match="must have the marks"):
        shown.between("no marks", ("<!-- a -->", "<!-- b -->"), "new")


def test_the_page_has_the_marks_of_both_tables() -> None:
    page = shown.PAGE.read_text("utf-8")
    for marks in shown.MARKS.values():
        assert "new" in shown.between(page, marks, "new")
