"""Hidden incidents, and the reader beside the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop.catalogue import SCENARIOS
from shop.course import contest, drawing
from shop.course.cases import LessonCase, played
from shop.course.prompts import predict
from shop.course.rivals import shorter


@pytest.fixture(scope="module")
def cases() -> dict[str, LessonCase]:
    return {name: played(shorter(name)) for name in ("delay", "calm")}


def test_a_cipher_hides_the_names() -> None:
    assert contest.deciphered({"A": "fhetr"}) == {"A": SCENARIOS["surge"]}


def test_the_table_by_endpoint_has_own_time_failures_and_calls() -> None:
    rows: list[drawing.DrawnSpan] = [("a", None, "server", "/a", 0, 50)]
    rows += [("b", "a", "client", "/b", 10, 40), ("c", "b", "server", "/b", 12, 38)]
    rows += [("d", None, "server", "/b", 1000, 1010)]
    table = contest.by_endpoint(drawing.drawn_spans(rows)).droplevel("service")
    assert table.loc["/a"].to_dict() == {
        "per_s": 1,
        "ms": 50,
        "own_ms": 20,
        "failed": 0,
        "calls": 1,
    }
    assert table.loc["/b", ["per_s", "ms", "calls"]].tolist() == [2, 18, 0]


def test_usual_stands_beside_now(cases: dict[str, LessonCase]) -> None:
    table = contest.usual_and_now(cases["delay"])
    assert table.loc["/payment", ("own_ms", "now")] > 8 * table.loc["/payment", ("own_ms", "usual")]


def test_rules_are_marked_by_all_true_causes_and_by_the_first(cases: dict[str, LessonCase]) -> None:
    hidden = {name: SCENARIOS[name] for name in cases}
    table = contest.marks(cases, hidden, ("walk down", "self-time z", "ledger"))
    assert table.loc["ledger"].to_dict() == {"delay": "all", "calm": "all"}
    assert table.loc["self-time z", "delay"] == "first"
    assert table.loc["walk down", "calm"] == "wrong"


def test_the_reader_is_marked_by_the_stored_guesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOPS_LAB_GUESSES", str(tmp_path / "guesses.json"))
    predict("14.2", ["none"])
    predict("14.3", ["/checkout"])
    marked = contest.my_marks({"A": "14.1", "B": "14.2", "C": "14.3"})
    assert marked.to_dict() == {"A": "?", "B": "all", "C": "wrong"}
    assert predict("14.1", {"/transfer", "/shelf"}).right
