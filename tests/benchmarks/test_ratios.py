"""The table of `benchmarks.ratios`: which goals hold, and what the guard finds worse."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from aiops_lab import SpanStore
from benchmarks.ratios import __main__ as ratios
from benchmarks.ratios import shown
from benchmarks.ratios.guard import limits, missing, worse
from benchmarks.ratios.measured import Measured, load, paired, save
from benchmarks.ratios.storing import GOAL_BLOCKED_MS, waits_beside

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


def test_the_guard_tells_what_is_missing_or_no_number() -> None:
    kept = {SPEED.what: 2.4, COST.what: 0.06}
    assert missing([SPEED], kept) == ["cost by a peer: not measured, limit 0.06"]
    assert worse([SPEED._replace(value=float("nan"))], kept) == ["speed by a peer: nan, limit 2.4"]


@pytest.mark.parametrize("large", [False, True])
def test_every_limit_is_that_of_a_figure_that_is_measured(large: bool) -> None:
    pytest.importorskip("resource")
    jobs = [job for job in ratios.JOBS.values() if job.large or not large]
    titles = set().union(*(ratios.titles_of(job, large) for job in jobs))
    assert limits(large)
    assert limits(large).keys() - titles == set()


def test_a_measurement_that_fails_is_named_and_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ratios, "FILES", tmp_path)
    monkeypatch.setitem(ratios.JOBS, "broken", ratios.Job("no_such_module"))
    assert ratios.main(["--only", "broken"]) == 1
    assert "failed, so without figures or without all of them: broken" in capfd.readouterr().out


def test_only_a_whole_run_is_written_into_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    for choice in (["--last"], ["--only", "first"]):
        with pytest.raises(SystemExit, match="2"):
            ratios.main(["--keep", *choice])
        assert "--keep writes one whole run" in capsys.readouterr().err


def test_the_heading_tells_the_run_its_load_and_what_failed() -> None:
    begin = shown.now()
    end = begin._replace(cpu_s=begin.cpu_s + 400, load=7.5)
    told = shown.heading(begin, end, ["polars"])
    assert f"One run, on {begin.at:%Y-%m-%d} from" in told
    assert "400 s of CPU" in told
    assert "7.5 at its end" in told
    assert "failed: polars" in told


def test_the_wait_of_a_writer_is_seen_while_the_file_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "spans.sqlite"
    SpanStore(path).close()

    def lock() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            time.sleep(0.2)

    assert waits_beside(path, lock).flush_ms > GOAL_BLOCKED_MS


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
