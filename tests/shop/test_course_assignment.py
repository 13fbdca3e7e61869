"""An incident for each student: drawn from text, clear by its twin, marked without a judge."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import shop
from shop.__main__ import main
from shop.course.assignment import (
    SEEN_KINDS,
    AssignedTruth,
    assigned_truth,
    clear_incident,
    reasons_to_doubt,
)
from shop.course.grading import ANSWERED, grade, grade_file, grade_folder
from shop.virtual_time.scenario import Scenario
from shop.virtual_time.twins import twin

SEEDS = ("ann", "Böll, Heinrich")


@pytest.fixture(scope="module")
def truth() -> AssignedTruth:
    return assigned_truth(SEEDS[0])


def right(truth: AssignedTruth, seed: str = SEEDS[0]) -> dict[str, Any]:
    return {
        "seed": seed,
        "cause": " ".join(truth.cause),
        "kind": truth.kind,
        "began": str(truth.began),
        "affected": [" ".join(place) for place in truth.affected],
    }


def test_the_same_text_gives_the_same_incident_and_another_text_another(
    truth: AssignedTruth,
) -> None:
    mine = shop.assignment(SEEDS[0])
    clear_incident.cache_clear()
    again = shop.assignment(f" {SEEDS[0]} ")
    pd.testing.assert_frame_equal(mine.spans, again.spans)
    assert truth.kind in SEEN_KINDS
    assert truth.cause in truth.affected
    other = assigned_truth(SEEDS[0], secret="word")
    assert (other.cause, other.began) != (truth.cause, truth.began)


@pytest.mark.parametrize("seed", ["", "  ", 7])
def test_a_seed_is_text(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be text, got"):
        shop.assignment(seed)


def test_what_can_be_mistaken_is_not_given_to_anybody() -> None:
    delay = replace(shop.SCENARIOS["delay"], rate=8.0)
    assert reasons_to_doubt(delay, twin(delay, 1)) == []
    doubted: dict[str, Scenario] = {
        "the cause is hardly slower": with_fault(delay, duration_ms=20.0),
        "too few requests reach the cause": with_fault(delay, end_s=121.5),
        "requests fail as well": with_fault(delay, duration_ms=6000.0),
    }
    for doubt, scenario in doubted.items():
        assert doubt in reasons_to_doubt(scenario, twin(scenario, 1)), doubt
    scenario = with_fault(replace(shop.SCENARIOS["flaky"], rate=8.0), rate=0.1)
    assert "too few requests fail at the cause" in reasons_to_doubt(scenario, twin(scenario, 1))


def with_fault(scenario: Scenario, **numbers: float) -> Scenario:
    return replace(scenario, faults=(replace(scenario.faults[0], **numbers),))


def test_a_right_answer_gets_ten_points(truth: AssignedTruth) -> None:
    assert grade(right(truth), truth)[1:] == (SEEDS[0], 10.0, 4.0, 1.0, 2.0, 3.0, "")


WRONGS: dict[str, tuple[Callable[[AssignedTruth], dict[str, Any]], float]] = {
    "another service": (lambda t: {"cause": " ".join(elsewhere(t))}, 6.0),
    "another kind": (lambda t: {"kind": next(k for k in SEEN_KINDS if k != t.kind)}, 9.0),
    "ten seconds off": (lambda t: {"began": str(t.began + pd.Timedelta(10, "s"))}, 10.0),
    "twenty seconds off": (lambda t: {"began": str(t.began - pd.Timedelta(20, "s"))}, 9.0),
    "a minute off": (lambda t: {"began": str(t.began + pd.Timedelta(60, "s"))}, 8.0),
    "none affected": (lambda t: {"affected": []}, 7.0),
}


def elsewhere(truth: AssignedTruth) -> tuple[str, str]:
    return next(place for place in truth.places if place[0] != truth.cause[0])


@pytest.mark.parametrize("what", WRONGS)
def test_each_part_costs_its_points(what: str, truth: AssignedTruth) -> None:
    change, points = WRONGS[what]
    assert grade(right(truth) | change(truth), truth).points == points


def test_all_endpoints_named_get_their_share(truth: AssignedTruth) -> None:
    every = {"affected": [" ".join(place) for place in truth.places]}
    share = len(truth.affected) / len(truth.places)
    assert np.isclose(grade(right(truth) | every, truth).affected, 3 * share, atol=0.01)


def test_a_time_without_a_zone_is_utc(truth: AssignedTruth) -> None:
    naive = {"began": str(truth.began.tz_localize(None))}
    assert grade(right(truth) | naive, truth).began == 2.0


ERRORS: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "file must be JSON"),
    "no object": ("[1]", "file must hold one object with names and values"),
    "no seed": ('{"cause": "a b"}', "seed must be given"),
    "a number": (
        '{"seed": 7, "cause": "a", "kind": "slow", "began": "now", "affected": []}',
        "seed must be text, got 7",
    ),
}


@pytest.mark.parametrize("what", ERRORS)
def test_what_is_wrong_with_a_file_is_told_in_one_line(what: str, tmp_path: Path) -> None:
    text, message = ERRORS[what]
    path = tmp_path / "bob.json"
    path.write_text(text)
    row = grade_file(path)
    assert row.error.startswith(message)
    assert "\n" not in row.error
    assert (row.file, row.points) == ("bob.json", 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cause": "bank /nowhere"}, "cause must be one of .*, got 'bank /nowhere'"),
        ({"affected": "all"}, "affected must be a list of endpoints, got 'all'"),
        ({"affected": ["x"]}, "affected must be one of .*, got 'x'"),
        ({"kind": "odd"}, "kind must be one of slow, errors, hangs, got 'odd'"),
        ({"began": "soon"}, "began must be a time such as 2026-01-01T00:02:30Z, got 'soon'"),
    ],
)
def test_a_field_that_breaks_its_rule_is_named(
    change: dict[str, Any], message: str, truth: AssignedTruth
) -> None:
    with pytest.raises(ValueError, match=message):
        grade(right(truth) | change, truth)


def test_a_folder_becomes_a_table(
    tmp_path: Path, truth: AssignedTruth, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = shop.assignment(SEEDS[0])
    answer = right(truth)
    answers = tmp_path / "answers"
    answers.mkdir()
    path = mine.submit(*(answer[k] for k in ("cause", "kind", "began", "affected")), folder=answers)
    assert path.name == "ann.json"
    (answers / "bob.json").write_text(json.dumps(answer))
    (answers / "cat.json").write_text("{")
    out = tmp_path / "marks.csv"
    assert main(["grade", str(answers), "--out", str(out), "--jobs", "1"]) == 1
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["points"] for row in rows] == ["10.0", "10.0", "0.0"]
    assert [row["error"][:34] for row in rows] == [
        "",
        "seed must be handed in once, got i",
        "file must be JSON (Expecting prope",
    ]
    assert "3 answers in" in capsys.readouterr().out


def test_a_name_with_any_signs_makes_a_file(tmp_path: Path) -> None:
    mine = shop.course.assignment.Assignment(SEEDS[1], pd.DataFrame())
    path = mine.submit("a b", "slow", "now", [], folder=tmp_path)
    assert path.name == "Böll__Heinrich.json"


def test_an_empty_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="folder must hold submissions"):
        grade_folder(tmp_path, tmp_path / "marks.csv")
    assert main(["grade", str(tmp_path)]) == 2
    assert "shop grade: FOLDER must hold submissions" in capsys.readouterr().err


def test_no_file_keeps_the_others_from_their_marks(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    half = dict.fromkeys(ANSWERED, "\ud800")
    (tmp_path / "half.json").write_text(json.dumps(half))
    (tmp_path / "M\udcfcller.json").write_text("{}")
    grade_folder(tmp_path, tmp_path / "marks.csv", jobs=1, progress=False)
    assert len((tmp_path / "marks.csv").read_text("utf-8").splitlines()) == 4


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_cell_of_the_table_is_a_formula(start: str, tmp_path: Path) -> None:
    formula = f"{start}cmd|' /C calc'!A0"
    answer = dict.fromkeys(ANSWERED, formula)
    (tmp_path / "=1+1.json").write_text(json.dumps(answer))
    out = tmp_path / "marks.csv"
    (row,) = grade_folder(tmp_path, out, jobs=1, progress=False)
    assert row.seed == formula.strip()
    with out.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))[0]
    assert cells["file"] == "'=1+1.json"
    assert cells["seed"].lstrip("'") == formula.strip()
    assert not [cell for cell in cells.values() if cell.startswith(tuple("=+-@\t\r"))]


def test_a_text_is_one_affected_endpoint(tmp_path: Path) -> None:
    mine = shop.course.assignment.Assignment("ann", pd.DataFrame())
    path = mine.submit("a /b", "slow", "now", "a /b", folder=tmp_path)
    assert json.loads(path.read_text())["affected"] == ["a /b"]


@pytest.mark.parametrize("wrong", [None, 7, [("a", "/b")], ["a /b", 7]])
def test_affected_endpoints_are_given_as_texts(wrong: Any, tmp_path: Path) -> None:
    mine = shop.course.assignment.Assignment("ann", pd.DataFrame())
    with pytest.raises(ValueError, match="affected must be a list of texts, got"):
        mine.submit("a /b", "slow", "now", wrong, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
