"""What is expected, beside what the tables reach: held from the number on, missed below it."""

from __future__ import annotations

import pytest

from benchmarks import _expected
from benchmarks._tables import Asked, Estimate, Grid, Row, Table, share


def series(title: str, *values: float, others: tuple[str, ...] = ()) -> Table:
    rows = [Row(str(v), "this package", Estimate(v, v, v), None, "", others) for v in values]
    return Table(title, "cases", "%", rows)


def faults(title: str, right: dict[str, list[bool]], systems: list[str]) -> Table:
    row = Row("aiops_lab", "this package", share(1, 1), None, "", ("95.0 (90.0–99.0)",))
    asked = [Asked(system, "") for system in systems]
    return Table(title, "cases", "%", [row], ("silent, %",), asked=asked, right=right)


def shown(table: Table) -> dict[str, list[str]]:
    grid = _expected.expected([table])
    assert isinstance(grid, Grid)
    return {str(what): cells for _, what, *cells in grid.frame.to_numpy().tolist()}


@pytest.mark.parametrize(("f1", "held"), [(58.0, "held"), (57.9, "**missed**")])
def test_a_number_is_held_from_itself_on(f1: float, held: str) -> None:
    assert shown(series("WSD: series", f1)) == {"F1 of events": ["58.0", f"{f1}", held]}


def test_each_profile_of_nab_and_the_named_method_of_ucr_are_held_to_their_numbers() -> None:
    nab = shown(series("NAB: single series", 66.0, others=("60.9", "70.0")))
    assert [cells[-1] for cells in nab.values()] == ["held", "**missed**", "held"]
    assert shown(series("UCR's archive", 10.0, 45.0)).popitem()[1][1:] == ["45.0", "held"]


def test_on_each_system_the_best_rival_is_expected_and_faults_of_hosts_are_told_apart() -> None:
    right = {
        "aiops_lab": [True, True, False, True, False],
        "z": [True, False, True, True, True],
        "always the same": [True] * 5,
    }
    table = faults("Cloud-OpsBench: m", right, ["a", "a", "b", "b", "node"])
    assert shown(table) == {
        "a: as z, the best rival": ["50.0", "100.0", "held"],
        "b: as z, the best rival": ["100.0", "50.0", "**missed**"],
        "all faults of services": ["88.0", "75.0", "**missed**"],
        "with those of hosts": ["88.0", "60.0", "**missed**"],
    }


def test_right_answers_are_counted_by_system_and_silence_is_read_from_its_column() -> None:
    table = faults("Nezha: traces alone", {"aiops_lab": [True, False]}, ["TrainTicket", "other"])
    assert shown(table) == {_expected.ALONE: ["88.2", "100.0", "held"]}
    petshop = shown(faults("PetShop: m", {"aiops_lab": [True] * 2}, ["a", "b"]))
    assert petshop["silent on normal windows"] == ["95.0", "95.0", "held"]


def test_what_a_replay_finds_of_delag_is_read_from_its_columns() -> None:
    found, before = "91.0 (80.0–95.0)", "99.0 (90.0–99.9)"
    row = Row("aiops_lab", "this package", share(1, 1), None, "", (found, before))
    columns = ("found by replay, %", "none before, %")
    right = {"aiops_lab": [True]}
    table = Table("DeLag: d", "cases", "%", [row], columns, asked=[Asked("a", "")], right=right)
    assert shown(table) == {
        "top-1": ["100.0", "100.0", "held"],
        "slowdowns found by replay": ["90.0", "91.0", "held"],
        "no incident before them": ["100.0", "99.0", "**missed**"],
    }


def test_the_picture_has_a_bar_and_a_line_a_row() -> None:
    grid = _expected.expected([series("WSD: series", 50.0), series("AIOPS: series", 50.0)])
    assert isinstance(grid, Grid)
    (axes,) = _expected.picture(grid).axes
    assert [bar.get_width() for bar in axes.patches] == [50.0, 50.0]
    assert axes.lines[0].get_xdata().tolist() == [45.0, 58.0]
    assert [bar.get_hatch() for bar in axes.patches] == ["", "//"]


def test_what_nothing_is_expected_of_has_no_table() -> None:
    assert _expected.expected([series("mine", 1.0)]) is None
