"""The tables of docs/results.md: where they stand, what they count."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import _data, _groups, _saved, accuracy, results
from benchmarks._overview import overview
from benchmarks._tables import Asked, Grid, Row, Table, share
from shop.virtual_time.scenario import Scenario

MARKS = f"a\n{results.BEGIN}\nold\n{results.END}\nz\n"


def test_what_stands_between_the_marks_is_replaced_and_nothing_else() -> None:
    made = results.between(MARKS, "new\n")
    assert made == f"a\n{results.BEGIN}\n\nnew\n\n{results.END}\nz\n"
    assert results.between(made, "new\n") == made
    assert results.BEGIN in results.PAGE.read_text("utf-8")
    for page in ("no marks", MARKS.replace(results.END, "")):
        with pytest.raises(ValueError, match="the page must have the marks"):
            results.between(page, "new")


def runs() -> pd.DataFrame:
    rows = [
        ("faults", "delay", 5, "ledger", 1, 1, False),
        ("faults", "delay", 5, "BARO", 1, 2, False),
        ("no fault", "calm", 5, "ledger", 0, 0, True),
        ("no fault", "calm", 5, "BARO", 0, 0, False),
        ("by size", "weak", 5, "ledger", 1, 0, True),
        ("by size", "weak", 5, "BARO", 1, 1, False),
        ("faults", "delay", 5, "my own", 1, 1, False),
    ]
    return pd.DataFrame(
        rows, columns=["group", "scenario", "seed", "rule", "causes", "rank", "silent"]
    )


def test_rules_are_counted_by_group_without_those_by_size() -> None:
    grid = results.rules(runs())
    assert list(grid.frame.columns) == ["cases", "ledger", "BARO"]
    assert grid.frame.loc["all"].tolist() == ["2", "2 of 2", "0 of 2"]
    assert grid.frame.loc["**no fault**", "ledger"] == "1 of 1"
    assert "weak" not in " ".join(grid.frame.index)
    assert grid.notes[0].startswith("1 seeds from 5 on")


def table(title: str, **right: list[bool]) -> Table:
    asked = [Asked("s", "")] * 2
    rows = [Row("ours", "this package", share(1, 2), None, "")]
    named = {name.replace("_", " "): found for name, found in right.items()}
    return Table(title, "two", "top-1, %", rows, asked=asked, right=named)


def test_all_sets_are_one_grid_where_each_has_a_z_and_baro() -> None:
    one = table("A: x", ours=[True, False], BARO=[True, True], total_z=[False, False])
    two = table("B: y", ours=[True, True], BARO=[False, True], mean_z_over_metrics=[True, True])
    logs = table("B: z", ours=[False, False])
    together = _groups.overall([one, two, logs])
    assert together is not None
    assert list(together.frame.columns) == ["cases", "ours", "BARO", _groups.Z_OF_EACH_SET]
    assert together.notes[0] == _groups.ALIKE_NOTE
    assert together.frame.loc["all", "cases"] == "4"
    assert {"**A, s**", "**B, s**"} <= set(together.frame.index)
    assert _groups.overall([one, logs]) is None


def test_each_set_is_drawn_with_this_package_and_its_three_best_rivals(tmp_path: Path) -> None:
    reached = {"poor": 1, "good": 9, "best": 10, "fair": 5}
    mine = [Row("ours", "this package", share(8, 10), None, "")]
    rivals = [Row(name, "classic rule", share(k, 10), None, "") for name, k in reached.items()]
    told = Row("always the same", "baseline", share(10, 10), None, "")
    drawn = Table("A: x", "ten", "top-1, %", [*mine, *rivals, told])
    panel, _, _ = overview([drawn]).axes
    assert [text.get_text() for text in panel.get_yticklabels()] == ["ours", "best", "good", "fair"]
    results.draw([drawn], tmp_path / "images")
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["public_data.png"]


def test_without_data_there_is_nothing_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AIOPS_LAB_DATA", raising=False)
    monkeypatch.setattr(_data, "BESIDE", tmp_path / "none")
    page = tmp_path / "page.md"
    page.write_text(MARKS, "utf-8")
    assert results.main(["--page", str(page)]) == 2
    assert page.read_text("utf-8") == MARKS
    assert "--data DIR" in capsys.readouterr().err


def save_board(folder: Path) -> None:
    runs().to_csv(folder / "runs.csv", index=False)
    columns = ["group", "scenario", "seed", "detector", "faults", "found"]
    empty = [*columns, "detect_s", "delay_min", "false_incidents", "hours"]
    pd.DataFrame(columns=empty).to_csv(folder / "detection.csv", index=False)


def test_the_command_writes_what_was_saved_into_the_page(tmp_path: Path) -> None:
    save_board(tmp_path)
    found = [("hard", "delay", 1, 1, 0, 1, 1.0), ("hard", "delay", 1, 0, 1, None, None)]
    names = ["group", "scenario", "causes", "incidents", "false_incidents", "rank", "change"]
    pd.DataFrame(found, columns=names).to_csv(tmp_path / "pipeline.csv", index=False)
    page = tmp_path / "page.md"
    page.write_text(MARKS, "utf-8")
    folders = ["--data", str(tmp_path), "--board", str(tmp_path), "--hard", str(tmp_path)]
    assert results.main([*folders, "--page", str(page)]) == 0
    text = page.read_text("utf-8")
    assert "| delay | 1 of 2 | 1 of 2 | 1 of 2 | 1 of 1 |" in text
    assert "### The virtual shop, windows given, by group and scenario" in text
    assert "old" not in text


def test_saved_comparisons_are_read_as_they_were(tmp_path: Path) -> None:
    beside = Grid("by system", pd.DataFrame({"a": ["1"]}, index=["row"]), ["a note"])
    tables = [table("A: x", ours=[True, False]), table("B: y", ours=[True, True])]
    tables[1].beside = beside
    path = tmp_path / "accuracy.json"
    _saved.write(tables, "today", list(accuracy.SETS), path)
    (first, second), made, sets = _saved.read(path)
    assert (made, sets) == ("today", list(accuracy.SETS))
    assert first == tables[0]
    assert second.beside is not None
    pd.testing.assert_frame_equal(second.beside.frame, beside.frame)
    found, told = results._compared(None, [tmp_path, tmp_path])
    assert ([each.title for each in found], told) == (["A: x", "B: y"] * 2, "today")
    # of a part, the page says what it lacks
    _saved.write(tables, "today", [name for name in accuracy.SETS if name != "delag"], path)
    assert results._compared(None, [tmp_path])[1] == "today; not compared: delag"


def test_what_was_not_saved_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_board(tmp_path)
    steady = Scenario("steady", seconds=60, rate=2)
    monkeypatch.setattr(results, "HARD_SCENARIOS", {"steady": steady})
    shown = [each.title for each in results.virtual_tables(tmp_path, None, 1)]
    assert results.CATALOGUE_TITLE in shown
    assert shown[-2:] == [results.HARD_TITLE, "Harder scenarios and changes, through detection"]
