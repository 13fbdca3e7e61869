"""Golden verdicts: what the analysis says of some runs is what it said before.

The rest of the runs takes a minute: ``python -m tests.support.golden``.
"""

from __future__ import annotations

from copy import deepcopy

import pytest

from tests.support import golden
from tests.support.golden import Case, few_cases


@pytest.mark.parametrize("case", few_cases(), ids=lambda case: f"{case.suite}/{case.name}")
def test_a_verdict_is_as_it_was(case: Case) -> None:
    count, differences = golden.compared(case)
    assert count > 20
    assert not differences, "\n".join(map(str, differences[:20]))


def test_every_case_has_a_verdict_and_every_verdict_a_case() -> None:
    every = golden.cases()
    assert all(case.name in golden.stored(case.suite) for case in every)
    assert list(golden.unexpected(every)) == []


def test_a_small_change_of_a_score_is_seen() -> None:
    name, told = next(iter(golden.stored("worlds").items()))
    changed = deepcopy(told)
    changed["ranked"][0]["suspects"][0]["score"] *= 1 + 1e-8
    (difference,) = golden.compared(Case("worlds", name, lambda: changed))[1]
    assert difference.path == "ranked[0].suspects[0].score"
    assert difference.names == told["ranked"][0]["suspects"][0]["name"]


def test_a_difference_names_the_row_of_the_ledger() -> None:
    name, told = next(iter(golden.stored("worlds").items()))
    changed = deepcopy(told)
    ledger = changed["ranked"][0]["ledger"]
    ledger["excess"][2] += 1.0
    (difference,) = golden.compared(Case("worlds", name, lambda: changed))[1]
    row = [f"{column} {ledger[column][2]}" for column in ("entry", "account", "unit", "masked")]
    assert str(difference).startswith(
        f"worlds/{name}: ranked[0].ledger.excess[2] ({', '.join(row)})"
    )


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        (1.0, 1.0 + 5e-10, True),
        (1.0, 1.0 + 5e-9, False),
        (1e6, 1e6 + 5e-4, True),
        (0.0, 5e-10, True),
        (float("nan"), float("nan"), True),
        (float("nan"), 0.0, False),
        (3, 3.0, True),
        (True, 1, False),
        ("/payment", "/payment", True),
        (None, golden.MISSING, False),
    ],
)
def test_numbers_are_compared_to_the_tolerance(expected: object, got: object, same: bool) -> None:
    assert golden.same(expected, got) is same


def test_what_only_one_side_has_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "stored", lambda suite: {"x": {"ids": ["a", "b"], "old": 1}})
    count, differences = golden.compared(Case("worlds", "x", lambda: {"ids": ["a"], "new": {}}))
    told = {(d.path, repr(d.expected), repr(d.got)) for d in differences}
    assert told == {
        ("ids.length", "2", "1"),
        ("ids[1]", "'b'", "nothing"),
        ("old", "1", "nothing"),
        ("new.length", "nothing", "0"),
    }
    assert count == 6
